//! State folders that fail, and state folders that somebody planted something in.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use nix::libc;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::health::Listener;
use support::keeper::{CONFIG, Ended, Kept, Plan, snapshot};
use support::{Place, poll_until, skip};

const PLACES: [Place; 2] = [Place::Pid1, Place::Subreaper];
/// So that a repair is seen soon.
const SOON: [&str; 2] = ["--hold-retry", "100ms"];

#[test]
fn a_missing_state_folder_is_made_with_a_first_config_in_it() {
    let plan = Plan::new(Place::Subreaper);
    fs::remove_dir_all(plan.state()).expect("it was there");
    let kept = plan.start();
    kept.wait_until_ready();
    let mode = fs::metadata(plan.state()).expect("a state folder").mode() & 0o777;
    assert_eq!(mode, 0o700);
    assert!(plan.config().is_file());
    let ended = kept.stop();
    ended.line("no config was there; a first one was written");
}

#[test]
fn a_state_folder_that_vanishes_under_a_gateway_is_made_anew_for_the_next() {
    let plan = Plan::new(Place::Subreaper).options(SOON).gateway([
        "--end",
        "signal:9",
        "--end-after",
        "600",
        "--only-first",
        "1",
    ]);
    let kept = plan.start();
    kept.wait_until_ready();
    fs::remove_dir_all(plan.state()).expect("it was there");
    kept.wait_for_nth("gateway ready", 2);
    assert!(plan.config().is_file());
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn without_a_mount_it_warns_or_holds_as_told_and_a_mount_ends_the_hold() {
    let plan = Plan::new(Place::Pid1)
        .env("FLY_APP_NAME", "app")
        .options(SOON);
    if !is_on_root(&plan.state()) {
        return skip("the folder for temporary files is itself a mount");
    }
    let kept = plan.start();
    kept.wait_until_ready();
    let warning = kept.wait_for("volume")["why"].to_string();
    assert!(warning.contains("STATE WILL BE LOST"), "{warning}");
    kept.stop();

    let plan = plan.options(["--no-mount", "hold"]);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("not on a volume"), "{why}");
    assert_eq!(plan.diary("boot").len(), 1, "only the one before");
    kept.enter(&format!(
        "mount -t tmpfs tmpfs '{}'",
        plan.state().display()
    ));
    kept.wait_until_ready();
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_read_only_volume_holds_and_the_gateway_starts_when_it_is_writable_again() {
    for place in PLACES {
        let plan = Plan::new(place).options(SOON).mounted("-t tmpfs tmpfs");
        let state = plan.state().display().to_string();
        let plan = plan.prepare(&format!("mount -o remount,ro '{state}'"));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("read-only"), "{why}");
        heals(&plan, kept, |kept| {
            kept.enter(&format!("mount -o remount,rw '{state}'"))
        });
    }
}

#[test]
fn a_full_volume_holds_and_room_starts_the_gateway() {
    for place in PLACES {
        let plan = Plan::new(place)
            .options(SOON)
            .mounted("-t tmpfs -o size=256k tmpfs");
        let fill = plan.state().join("fill");
        let plan = plan.prepare(&format!(
            "{{ cat /dev/zero > '{}' 2>&-; true; }}",
            fill.display()
        ));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("the volume is full"), "{why}");
        heals(&plan, kept, |kept| {
            fs::remove_file(kept.inside(&fill)).expect("removed")
        });
    }
}

#[test]
fn a_volume_out_of_inodes_holds_and_one_removed_file_starts_the_gateway() {
    let plan = Plan::new(Place::Pid1)
        .options(SOON)
        .mounted("-t tmpfs -o nr_inodes=16 tmpfs");
    let many = plan.state().join("many");
    let line = format!(
        "mkdir '{0}' && {{ for n in $(seq 20); do touch '{0}'/$n; done 2>&-; true; }}",
        many.display()
    );
    let plan = plan.prepare(&line);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("no inode left"), "{why}");
    heals(&plan, kept, |kept| {
        fs::remove_dir_all(kept.inside(&many)).expect("removed")
    });
}

#[test]
fn an_io_error_on_fsync_holds_although_every_write_succeeds() {
    if !Path::new("/usr/bin/strace").exists() {
        return skip("strace is not installed");
    }
    let plan = Plan::new(Place::Subreaper).options(SOON).under([
        "/usr/bin/strace",
        "-DD",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EIO:when=1",
    ]);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("fsync") && why.contains("I/O error"), "{why}");
    // The second fsync of a thread succeeds.
    kept.wait_until_ready();
    kept.wait_for("hold is over");
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_volume_that_hangs_holds_with_that_reason_and_heals() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    let kept = frozen.kept();
    kept.wait_for_line("the hold for the disk", 1, |line| {
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("no answer"))
    });
    frozen.thaw();
    fs::write(kept.inside(&frozen.plan.config()), CONFIG).expect("a config");
    kept.wait_until_ready();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn health_is_answered_while_the_volume_hangs() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    assert_eq!(frozen.listener.get("/livez").code, 200);
    let held = frozen
        .listener
        .wait_until("the hold for the disk", |answer| {
            answer.body.contains("gave no answer")
        });
    assert_eq!(held.code, 503);
    assert!(held.json()["fix"].is_string(), "{held:?}");
    // Its look at the room on the volume must not wait for the disk.
    let metrics = support::metrics::read(&frozen.listener.get("/metrics").body);
    assert_eq!(metrics["clawkeeper_gateway_ready"], 0.0);
    assert_eq!(frozen.listener.get("/livez").code, 200);
    frozen.thaw();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn a_death_while_the_disk_hangs_is_told_and_the_next_gateway_starts_without_its_incident() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    let kept = frozen.kept();
    frozen.thaw();
    fs::write(kept.inside(&frozen.plan.config()), CONFIG).expect("a config");
    kept.wait_until_ready();
    frozen.call(FREEZE);
    send(kept.gateway_pid(), libc::SIGKILL);
    kept.wait_for("gateway exited");
    kept.wait_for_nth("gateway started", 2);
    // Its output passes, though what is to be kept of it waits for the disk.
    poll_until(support::PATIENCE, "the output of the second", || {
        let text = kept.text();
        let count = text.matches("[gateway] starting...").count();
        if count == 2 { Ok(()) } else { Err(text) }
    });
    let line = kept.wait_for("incident not kept");
    assert!(
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("no answer")),
        "{line}"
    );
    frozen.thaw();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn sigterm_is_answered_while_the_volume_hangs() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    frozen.kept().signal(libc::SIGTERM);
    // The kernel keeps a process whose thread waits for the disk; what clawkeeper can do is done.
    frozen.kept().wait_for("stopped");
    frozen.thaw();
    let ended = frozen.end();
    assert_eq!(ended.status, "exit 0");
    assert_eq!(
        ended
            .lines("holding: the gateway is not started until this is mended")
            .len(),
        1,
        "it did not wait for the disk"
    );
}

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
    heals(&plan, kept, |_| {});
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

/// Repairs the volume and sees the gateway started by nothing else.
fn heals(plan: &Plan, kept: Kept, repair: impl FnOnce(&Kept)) {
    assert!(
        plan.diary("boot").is_empty(),
        "nothing starts on such a volume"
    );
    assert!(kept.is_alive());
    repair(&kept);
    kept.wait_until_ready();
    kept.wait_for("hold is over");
    assert_eq!(kept.stop().status, "exit 0");
}

/// True when nothing but `/` is mounted above a path.
fn is_on_root(path: &Path) -> bool {
    let output = Command::new("findmnt")
        .args(["-n", "-o", "TARGET", "-T"])
        .arg(path)
        .output()
        .expect("findmnt of util-linux");
    output.stdout == b"/\n"
}

/// clawkeeper looking at a volume that froze while it held for another reason.
struct Frozen {
    plan: Plan,
    listener: Listener,
    kept: Option<Kept>,
    /// Keeps the file system reachable, so that it is thawed whatever happens.
    root: fs::File,
}

const FREEZE: libc::Ioctl = 0xC004_5877u32 as libc::Ioctl;
const THAW: libc::Ioctl = 0xC004_5878u32 as libc::Ioctl;

impl Frozen {
    fn start() -> Option<Self> {
        if !Path::new("/dev/loop-control").exists() || !nix::unistd::getuid().is_root() {
            skip("no loop devices: a volume cannot be frozen");
            return None;
        }
        let listener = Listener::new();
        let plan = listener.on(Plan::new(Place::Subreaper).options(SOON));
        let image = plan.file("image");
        fs::File::create(&image)
            .and_then(|file| file.set_len(128 << 20))
            .expect("an image");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status();
        assert!(made.expect("mkfs.ext4").success());
        let plan = plan.mounted(&format!("-o loop '{}'", image.display()));
        let config = plan.config();
        let plan = plan.prepare(&format!("echo '{{' > '{}'", config.display()));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("openclaw.json"), "{why}");
        let root = fs::File::open(kept.inside(&plan.state())).expect("the volume");
        let frozen = Self {
            plan,
            listener,
            kept: Some(kept),
            root,
        };
        frozen.call(FREEZE);
        // Its next look at the volume is the one that hangs: a thread of its waits in the kernel.
        poll_until(
            support::PATIENCE,
            "a thread that waits for the disk",
            || {
                let states = frozen.kept().thread_states();
                if states.contains(&'D') {
                    Ok(())
                } else {
                    Err(states)
                }
            },
        );
        Some(frozen)
    }

    fn kept(&self) -> &Kept {
        self.kept.as_ref().expect("it has not ended")
    }

    fn call(&self, what: libc::Ioctl) {
        // SAFETY: both requests take a number that they ignore.
        let answer = unsafe { libc::ioctl(self.root.as_raw_fd(), what, 0) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    fn thaw(&self) {
        self.call(THAW);
    }

    fn stop(self) -> Ended {
        self.kept().signal(libc::SIGTERM);
        self.end()
    }

    fn end(mut self) -> Ended {
        self.kept.take().expect("it has not ended").end()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // EINVAL: it was thawed. SAFETY: as above.
        unsafe { libc::ioctl(self.root.as_raw_fd(), THAW, 0) };
    }
}

fn send(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
