//! Root keeps a gateway that is somebody else: what the gateway gets, and what it gets by no link that it plants.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use support::keeper::{CONFIG, Plan, snapshot};
use support::{Place, skip};

/// So that a repair is seen soon.
const SOON: [&str; 2] = ["--hold-retry", "100ms"];

#[test]
fn a_root_owned_state_folder_is_given_to_the_gateways_user() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(AS_1000);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(owner(&plan.state()), 1000);
    assert_eq!(owner(&plan.config()), 1000);
    let gateway = fs::metadata(format!("/proc/{}", kept.gateway_pid())).expect("it runs");
    assert_eq!((gateway.uid(), gateway.gid()), (1000, 1000));
    let ended = kept.stop();
    ended.line("files of root were given to the gateway's user");
}

#[test]
fn a_gateway_of_another_user_opens_its_output_by_name() {
    let Some(plan) = for_user_1000() else { return };
    let wrapper = plan.file("openclaw");
    let program = plan.file("fake-gateway").display().to_string();
    let script = format!(
        "#!/bin/sh\necho out >/dev/stdout; echo err >/dev/stderr; exec '{program}' \"$@\"\n"
    );
    fs::write(&wrapper, script).expect("a script");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("its mode");
    let plan = plan
        .options(AS_1000)
        .program(&wrapper.display().to_string());
    let kept = plan.start();
    kept.wait_until_ready();
    let text = kept.stop().text;
    let said: Vec<&str> = text.lines().filter(|it| it.len() == 3).collect();
    assert_eq!(said, ["out", "err"], "{text}");
}

#[test]
fn a_clawkeeper_that_is_not_root_holds_on_roots_state_folder_until_it_is_given_away() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(SOON).under([
        "/usr/bin/setpriv",
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        // A change of user forgets the one it had, and a failed test would leave clawkeeper behind.
        "--pdeathsig=KILL",
    ]);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("may not write"), "{why}");
    chown(plan.state(), Some(1000), Some(1000)).expect("given away");
    let line = kept.wait_for_nth(
        "holding: the gateway is not started until this is mended",
        2,
    );
    assert!(
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("cannot be read")),
        "{line}"
    );
    chown(plan.config(), Some(1000), Some(1000)).expect("given away");
    kept.heals(|_| {});
}

#[test]
fn what_a_console_of_roots_left_in_the_gateways_folders_is_given_away_at_the_next_start() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(AS_1000);
    let login = plan.state().join("credentials/whatsapp/default/creds.json");
    let token = plan.state().join("agents/main/agent/auth-profiles.json");
    let backup = plan.state().join("openclaw.json.bak");
    let outside = plan.file("outside");
    for file in [&login, &token, &backup, &outside] {
        fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
        fs::write(file, "{}").expect("a file");
    }
    symlink(&outside, plan.state().join("credentials/symlink")).expect("a link");
    fs::hard_link(&outside, plan.state().join("credentials/hardlink")).expect("a link");
    let kept = plan.start();
    kept.wait_until_ready();
    for path in [&login, &token, &backup] {
        assert_eq!(owner(path), 1000, "{}", path.display());
    }
    assert_eq!(owner(login.parent().expect("a folder")), 1000);
    assert_eq!(owner(token.parent().expect("a folder")), 1000);
    assert_eq!(owner(&outside), 0);
    let private = plan.state().join("clawkeeper");
    assert_eq!(owner(&private), 0, "ours stays ours");
    kept.stop();
}

#[test]
fn a_refusal_for_want_of_permission_gives_away_what_root_left_and_nothing_outside() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(AS_1000);
    let plan = plan.gateway(["--end", "refuse:eacces", "--only-first", "1"]);
    let outside = plan.file("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("secret"), "root's").expect("a file");
    fs::write(outside.join("linked"), "root's").expect("a file");
    let sessions = plan.state().join("agents/main");
    fs::create_dir_all(&sessions).expect("folders");
    fs::write(sessions.join("sessions.json"), "{}").expect("a file");
    symlink(outside.join("secret"), sessions.join("symlink")).expect("a link");
    symlink(&outside, sessions.join("folder")).expect("a link");
    fs::hard_link(outside.join("linked"), sessions.join("hardlink")).expect("a link");
    let before = snapshot(&outside);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(owner(&sessions.join("sessions.json")), 1000);
    assert_eq!(owner(&sessions), 1000);
    assert_eq!(snapshot(&outside), before);
    assert_eq!(kept.stop().classes(), ["refused", "requested"]);
}

#[test]
fn a_link_that_the_gateway_put_in_the_state_folders_place_gets_it_nothing_of_roots() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(AS_1000).options(SOON);
    let (roots, theirs) = (plan.file("roots"), plan.file("theirs"));
    fs::rename(plan.state(), &theirs).expect("moved away");
    give_to_1000(&theirs);
    give_to_1000(&theirs.join("openclaw.json"));
    fs::create_dir(&roots).expect("a folder");
    fs::write(roots.join("shadow"), "root's").expect("a file");
    symlink(&roots, plan.state()).expect("a link");
    lchown(plan.state(), Some(1000), Some(1000)).expect("theirs");
    let before = (owner(&roots), snapshot(&roots));
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("symbolic link"), "{why}");
    assert_eq!((owner(&roots), snapshot(&roots)), before, "{}", kept.text());
    // A link to what is theirs gives them nothing that they do not have.
    fs::remove_file(plan.state()).expect("removed");
    symlink(&theirs, plan.state()).expect("a link");
    lchown(plan.state(), Some(1000), Some(1000)).expect("theirs");
    kept.wait_until_ready();
    assert_eq!((owner(&roots), snapshot(&roots)), before);
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_state_folder_that_is_made_with_its_parents_is_the_gateways_to_reach() {
    let Some(plan) = for_user_1000() else { return };
    let plan = plan.options(AS_1000);
    let deep = plan.state().join("below/state");
    fs::remove_dir_all(plan.state()).expect("it was there");
    let plan = plan.env("OPENCLAW_STATE_DIR", &deep.display().to_string());
    let kept = plan.start();
    kept.wait_until_ready();
    for made in [plan.state(), plan.state().join("below"), deep] {
        assert_eq!(owner(&made), 1000, "{}", made.display());
    }
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn planted_links_and_pipes_lead_nothing_outside_of_the_state_folder() {
    for (name, plant) in PLANTS {
        let Some(plan) = for_user_1000() else { return };
        let plan = plan.options(AS_1000);
        let outside = plan.file("outside");
        fs::create_dir_all(outside.join("folder")).expect("a folder");
        fs::write(outside.join("config"), CONFIG).expect("a file");
        fs::write(outside.join("lock"), r#"{"pid": 999999, "startTime": 1}"#).expect("a file");
        fs::write(
            outside.join("folder/gateway.1a2b3c4d.lock"),
            r#"{"pid": 999999}"#,
        )
        .expect("a file");
        plant(&plan.state(), &outside);
        let before = snapshot(&outside);
        let kept = plan.start();
        // Ready or held, but never stuck.
        kept.wait_for_line(name, 1, |line| {
            line["message"] == "gateway ready"
                || line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("holding"))
        });
        assert_eq!(snapshot(&outside), before, "{name}: {}", kept.text());
        assert_eq!(kept.stop().status, "exit 0", "{name}");
        assert_eq!(snapshot(&outside), before, "{name}");
    }
}

type Plant = fn(&Path, &Path);

/// What the gateway's user, who owns the state folder, could put there.
const PLANTS: &[(&str, Plant)] = &[
    ("config is a link", |state, outside| {
        replace(&state.join("openclaw.json"), |path| {
            symlink(outside.join("config"), path)
        });
    }),
    ("config is a hard link", |state, outside| {
        replace(&state.join("openclaw.json"), |path| {
            fs::hard_link(outside.join("config"), path)
        });
    }),
    ("config is a pipe", |state, _| {
        replace(&state.join("openclaw.json"), pipe);
    }),
    ("config leads nowhere", |state, outside| {
        replace(&state.join("openclaw.json"), |path| {
            symlink(outside.join("new"), path)
        });
    }),
    ("our folder is a link", |state, outside| {
        replace(&state.join("clawkeeper"), |path| {
            symlink(outside.join("folder"), path)
        });
    }),
    ("our folder is a pipe", |state, _| {
        replace(&state.join("clawkeeper"), pipe);
    }),
    ("our folder is theirs, full of links", |state, outside| {
        let ours = state.join("clawkeeper");
        fs::create_dir(&ours).expect("a folder");
        chown(&ours, Some(1000), Some(1000)).expect("theirs");
        for name in [
            "journal.ndjson",
            "write-probe",
            "child.json",
            "child.json.tmp",
            "instance.json",
            "instance.json.tmp",
        ] {
            symlink(outside.join("config"), ours.join(name)).expect("a link");
        }
    }),
    ("locks are links and pipes", |state, outside| {
        let locks = state.join("tmp/openclaw-1000");
        fs::create_dir_all(&locks).expect("folders");
        symlink(outside.join("lock"), locks.join("gateway.state.lock")).expect("a link");
        symlink(outside.join("lock"), state.join("gateway.0f0f0f0f.lock")).expect("a link");
        pipe(&locks.join("gateway.1a2b3c4d.lock")).expect("a pipe");
    }),
    ("the folder of locks is a link", |state, outside| {
        fs::create_dir_all(state.join("tmp")).expect("folders");
        symlink(outside.join("folder"), state.join("tmp/openclaw-1000")).expect("a link");
    }),
    ("a lock is a hard link", |state, outside| {
        fs::hard_link(outside.join("lock"), state.join("gateway.0f0f0f0f.lock")).expect("a link");
    }),
    ("the quarantine is a link", |state, outside| {
        let ours = state.join("clawkeeper");
        fs::create_dir(&ours).expect("a folder");
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o700)).expect("ours");
        symlink(outside.join("folder"), ours.join("quarantine")).expect("a link");
        fs::write(state.join("gateway.0f0f0f0f.lock"), r#"{"pid": 999999}"#).expect("a lock");
    }),
];

fn give_to_1000(path: &Path) {
    chown(path, Some(1000), Some(1000)).expect("given away");
}

fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) {
    // There may be none.
    let _ = fs::remove_file(path);
    make(path).expect("planted");
}

fn pipe(path: &Path) -> std::io::Result<()> {
    Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?)
}

const AS_1000: [&str; 2] = ["--user", "1000:1000"];

/// A plan whose gateway can run as another user, on a state folder that root made.
fn for_user_1000() -> Option<Plan> {
    if !nix::unistd::getuid().is_root() {
        skip("only root can run the gateway as another user");
        return None;
    }
    let plan = Plan::new(Place::Subreaper).programs_for_everybody();
    let open = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    open(plan.file(""), 0o755);
    fs::write(plan.file("diary"), "").expect("a diary");
    open(plan.file("diary"), 0o666);
    open(plan.state(), 0o700);
    open(plan.config(), 0o600);
    Some(plan)
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").uid()
}
