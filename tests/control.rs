//! A person asks: how things stand, for a restart, a pause, and its end.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use support::health::Listener;
use support::keeper::{Kept, Plan};
use support::{PATIENCE, Place, clawkeeper, poll_until, skip};

const PAUSED: &str = "paused: no gateway runs until it is resumed";

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

fn say<'a>(plan: &Plan, words: impl IntoIterator<Item = &'a str>) -> Said {
    plan.ask(words).into()
}

/// As soon as the control socket answers.
fn status(plan: &Plan) -> Value {
    poll_until(PATIENCE, "a status", || {
        let said = say(plan, ["status", "--json"]);
        match serde_json::from_str::<Value>(&said.out) {
            Ok(value) if value.get("phase").is_some() => Ok(value),
            Ok(_) | Err(_) => Err(said.out + &said.err),
        }
    })
}

fn ready(place: Place) -> (Plan, Kept) {
    let plan = Plan::new(place);
    let kept = plan.start();
    kept.wait_until_ready();
    status(&plan);
    (plan, kept)
}

fn folder(plan: &Plan) -> PathBuf {
    plan.state().join("clawkeeper-control")
}

#[test]
fn a_status_is_told_to_people_and_to_programs() {
    let (plan, kept) = ready(Place::Subreaper);
    let told = status(&plan);
    assert_eq!((&told["v"], &told["phase"]), (&1.into(), &"running".into()));
    assert_eq!(told["ready"], true);
    assert_eq!(told["clawkeeper"]["pid"], kept.pid());
    assert_eq!(told["starts"], 1);
    let said = say(&plan, ["status"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(said.out.starts_with("● ready for "), "{}", said.out);
    for name in ["gateway", "restarts", "volume", "config", "clawkeeper"] {
        assert!(said.out.contains(&format!("\n  {name}")), "{}", said.out);
    }
    let width = said.out.lines().map(|line| line.chars().count()).max();
    assert!(width.is_some_and(|width| width <= 80), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "no colours in a pipe");
    kept.stop();
}

#[test]
fn a_restart_is_told_step_by_step_until_the_gateway_is_ready() {
    let plan = Plan::new(Place::Subreaper).gateway(["--ready", "600", "--drain", "600"]);
    let kept = plan.start();
    kept.wait_until_ready();
    status(&plan);
    let said = say(&plan, ["restart"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines[0], "restart: accepted");
    assert!(
        lines.contains(&"stopping: the gateway is being stopped: restart"),
        "{lines:?}"
    );
    assert_eq!(lines.last(), Some(&"the gateway is ready"));
    let told = status(&plan);
    assert_eq!(told["starts"], 2);
    assert_eq!(told["restarts_by_class"][0]["cause"], "restart");
    let asked = kept.wait_for("a restart was asked for");
    assert_eq!(asked["by_uid"], "0");
    assert_eq!(plan.diary("term").len(), 1, "asked to drain, once");
    kept.stop();
}

#[test]
fn in_a_pause_no_gateway_runs_and_the_container_lives() {
    for place in Place::ALL {
        let listener = Listener::new();
        let plan = listener.on(Plan::new(place));
        let kept = plan.start();
        kept.wait_until_ready();
        status(&plan);
        let said = say(&plan, ["pause"]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{place:?}");
        assert_eq!(said.out.lines().last(), Some(PAUSED));

        let told = status(&plan);
        assert_eq!(
            (&told["phase"], &told["why"]),
            (&"paused".into(), &PAUSED.into())
        );
        let said = say(&plan, ["status"]);
        assert_eq!(said.code, Some(1));
        assert!(said.out.contains("clawkeeper resume"), "{}", said.out);
        let readiness = listener.get("/readyz");
        assert_eq!(
            (readiness.code, &readiness.json()["why"]),
            (503, &PAUSED.into())
        );
        assert_eq!(listener.get("/livez").code, 200);
        assert_eq!(kept.wait_for(PAUSED)["fix"], "clawkeeper resume");

        let refused = say(&plan, ["restart"]);
        assert_eq!(refused.code, Some(2));
        assert!(refused.err.contains("clawkeeper resume"), "{}", refused.err);

        let said = say(&plan, ["resume"]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
        assert_eq!(status(&plan)["phase"], "running");
        kept.wait_for("the pause is over");
        let refused = say(&plan, ["resume"]);
        assert_eq!(refused.code, Some(2));
        assert!(refused.err.contains("not paused"), "{}", refused.err);
        kept.stop();
    }
}

#[test]
fn a_pause_with_a_limit_ends_by_itself() {
    let (plan, kept) = ready(Place::Subreaper);
    assert_eq!(say(&plan, ["pause", "--for", "1s"]).code, Some(0));
    let over = kept.wait_for("the pause is over");
    assert_eq!(over["why"], "its time is up");
    kept.wait_for_nth("gateway ready", 2);
    let nothing = say(&plan, ["pause", "--for", "0"]);
    assert_eq!(nothing.code, Some(64), "{}", nothing.err);
    let wrong = say(&plan, ["pause", "--for", "soon"]);
    assert_eq!(wrong.code, Some(64), "{}", wrong.err);
    kept.stop();
}

#[test]
fn a_stop_ends_a_pause_too() {
    let (plan, kept) = ready(Place::Pid1);
    assert_eq!(say(&plan, ["pause"]).code, Some(0));
    let ended = kept.stop();
    assert_eq!(ended.status, "exit 0", "{}", ended.text);
}

#[test]
fn whoever_asks_for_a_restart_of_what_is_held_is_told_why() {
    let plan = Plan::new(Place::Subreaper);
    plan.write_config("{ broken");
    let kept = plan.start();
    kept.wait_until_held();
    status(&plan);
    let said = say(&plan, ["restart"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(said.err.contains("restart: held: "), "{}", said.err);
    assert!(said.err.contains("openclaw.json:1:"), "{}", said.err);
    assert!(said.err.contains("; fix: correct it"), "{}", said.err);
    kept.stop();
}

#[test]
fn without_a_clawkeeper_the_state_folder_tells_what_was_last() {
    let plan = Plan::new(Place::Subreaper);
    let said = say(&plan, ["status"]);
    assert_eq!(said.code, Some(69), "{}", said.out);
    let kept = plan.start();
    kept.wait_until_ready();
    kept.stop();
    let said = say(&plan, ["status"]);
    assert_eq!(said.code, Some(69));
    assert!(said.out.starts_with("○ nobody answers\n"), "{}", said.out);
    assert!(said.out.contains("last event"), "{}", said.out);
    assert!(said.out.contains("stopped"), "{}", said.out);
    let told: Value =
        serde_json::from_str(&say(&plan, ["status", "--json"]).out).expect("one object");
    assert_eq!(told["answers"], false);
    for verb in ["restart", "pause", "resume"] {
        let said = say(&plan, [verb]);
        assert_eq!(said.code, Some(69), "{verb}: {}", said.err);
        assert!(said.err.contains("no clawkeeper answers"), "{}", said.err);
    }
}

#[test]
fn only_root_and_the_gateways_user_reach_the_socket() {
    assert!(geteuid().is_root(), "run the tests as root");
    let plan = Plan::new(Place::Subreaper)
        .programs_for_everybody()
        .options(["--user", "1000:1000"]);
    // The gateway keeps a diary beside its state folder.
    fs::set_permissions(plan.file(""), fs::Permissions::from_mode(0o777)).expect("a mode");
    fs::set_permissions(plan.state(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let kept = plan.start();
    kept.wait_until_ready();
    status(&plan);
    let metadata = fs::metadata(folder(&plan)).expect("a folder");
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        (0, 1000, 0o750)
    );
    let as_user = |uid: u32, gid: u32| -> Said {
        let mut command = Command::new(plan.file("clawkeeper"));
        plan.surround(&mut command);
        command.args(["restart", "--no-wait"]).uid(uid).gid(gid);
        command.output().expect("clawkeeper").into()
    };
    let accepted = as_user(1000, 1000);
    assert_eq!(accepted.code, Some(0), "{}", accepted.err);
    kept.wait_for_nth("gateway ready", 2);
    // In another group the folder is shut; in the same one the kernel says who it is.
    for gid in [4242, 1000] {
        let refused = as_user(4242, gid);
        assert_eq!(refused.code, Some(69), "{}{}", refused.out, refused.err);
    }
    assert_eq!(status(&plan)["starts"], 2);
    kept.stop();
}

#[test]
fn a_state_folder_that_was_given_away_with_all_in_it_gets_a_socket_again() {
    assert!(geteuid().is_root(), "run the tests as root");
    let plan = Plan::new(Place::Subreaper)
        .programs_for_everybody()
        .options(["--user", "1000:1000"]);
    fs::set_permissions(plan.file(""), fs::Permissions::from_mode(0o777)).expect("a mode");
    for _ in 0..2 {
        let kept = plan.start();
        kept.wait_until_ready();
        assert_eq!(status(&plan)["phase"], "running");
        let metadata = fs::metadata(folder(&plan)).expect("a folder");
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o750));
        kept.stop();
        // What clawkeeper advises where it is not root.
        let given = Command::new("chown")
            .args(["-R", "1000:1000"])
            .arg(plan.state())
            .status();
        assert!(given.expect("chown").success());
    }
}

#[test]
fn our_private_folder_in_the_sockets_place_is_opened_to_nobody() {
    let plan = Plan::new(Place::Subreaper);
    fs::create_dir(folder(&plan)).expect("a folder");
    fs::write(folder(&plan).join("output.log"), "private").expect("a file");
    fs::set_permissions(folder(&plan), fs::Permissions::from_mode(0o700)).expect("its mode");
    let kept = plan.start();
    kept.wait_for("no control socket: status, restart and pause cannot reach clawkeeper");
    let mode = fs::metadata(folder(&plan)).expect("there").mode() & 0o7777;
    assert_eq!(mode, 0o700);
    kept.stop();
}

#[test]
fn a_folder_that_somebody_else_put_there_is_not_trusted_and_nothing_else_suffers() {
    for planted in ["link", "folder", "file"] {
        let plan = Plan::new(Place::Subreaper);
        let elsewhere = plan.file("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        match planted {
            "link" => symlink(&elsewhere, folder(&plan)).expect("a link"),
            "file" => fs::write(folder(&plan), "x").expect("a file"),
            _ => {
                fs::create_dir(folder(&plan)).expect("a folder");
                std::os::unix::fs::chown(folder(&plan), Some(4242), None).expect("an owner");
            }
        }
        let kept = plan.start();
        kept.wait_until_ready();
        let warned =
            kept.wait_for("no control socket: status, restart and pause cannot reach clawkeeper");
        assert!(
            warned["why"]
                .as_str()
                .is_some_and(|why| why.contains("clawkeeper-control")),
            "{warned}"
        );
        assert_eq!(fs::read_dir(&elsewhere).expect("listed").count(), 0);
        kept.stop();
    }
}

#[test]
fn a_volume_that_is_mended_has_its_socket_without_a_restart() {
    if !geteuid().is_root() {
        return skip("only root can mount a volume");
    }
    let plan = Plan::new(Place::Subreaper)
        .options(["--hold-retry", "100ms"])
        .mounted("-t tmpfs tmpfs");
    let state = plan.state().display().to_string();
    let plan = plan.prepare(&format!("mount -o remount,ro '{state}'"));
    let kept = plan.start();
    kept.wait_until_held();
    let warning = "no control socket: status, restart and pause cannot reach clawkeeper";
    kept.wait_for(warning);
    kept.enter(&format!("mount -o remount,rw '{state}'"));
    kept.wait_until_ready();
    kept.wait_for("control socket is up");
    let socket = kept.inside(&folder(&plan).join("control.sock"));
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream
        .write_all(b"POST /v1/restart HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("asked");
    kept.wait_until_boot_is_ready(2);
    let ended = kept.stop();
    assert_eq!(ended.lines(warning).len(), 1, "{}", ended.text);
}

#[test]
fn clients_that_hang_or_talk_nonsense_keep_nobody_from_asking() {
    let (plan, kept) = ready(Place::Subreaper);
    let socket = folder(&plan).join("control.sock");
    let idle: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(&socket).expect("a connection"))
        .collect();
    let long = vec![b'x'; 100_000];
    for nonsense in [
        &b"\0\xff\r\n\r\n"[..],
        b"POST /v1/pause HTTP/9\r\n\r\n",
        b"POST /v1/pause?limit_ms=18446744073709551615 HTTP/1.1\r\nHost: a\r\n\r\n",
        &long,
    ] {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = stream.write_all(nonsense);
        let _ = stream.read(&mut [0; 64]);
    }
    let told = status(&plan);
    assert_eq!(
        (&told["phase"], &told["starts"]),
        (&"running".into(), &1.into())
    );
    drop(idle);
    kept.stop();
}

#[test]
fn a_status_is_watched_until_nobody_reads_it() {
    let (plan, kept) = ready(Place::Subreaper);
    let mut command = Command::new(clawkeeper());
    plan.surround(&mut command)
        .args(["status", "--watch", "--json"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().expect("clawkeeper");
    let mut lines = watch.stdout.take().expect("a pipe");
    let mut read = String::new();
    while read.lines().count() < 2 {
        let mut part = [0; 4_096];
        let count = lines.read(&mut part).expect("readable");
        assert!(count > 0, "{read}");
        read += &String::from_utf8_lossy(&part[..count]);
    }
    drop(lines);
    let code = watch.wait().expect("it ends").code();
    assert_eq!(code, Some(0), "and says what it saw last");
    kept.stop();
}

/// A state, what leads to it, and which event tells of it last.
struct State {
    phase: &'static str,
    gateway: &'static [&'static str],
    config: Option<&'static str>,
    then: &'static [&'static str],
    event: &'static str,
}

/// One that is there at once, with a good config.
const RUNNING: State = State {
    phase: "running",
    gateway: &[],
    config: None,
    then: &[],
    event: "ready",
};

const STATES: [State; 6] = [
    RUNNING,
    State {
        phase: "starting",
        gateway: &["--ready", "600000"],
        event: "started",
        ..RUNNING
    },
    State {
        phase: "backoff",
        gateway: &["--end", "exit:7"],
        event: "backing-off",
        ..RUNNING
    },
    State {
        phase: "held",
        config: Some("{ broken"),
        event: "held",
        ..RUNNING
    },
    State {
        phase: "stopping",
        gateway: &["--drain", "600000"],
        then: &["restart", "--no-wait"],
        event: "stopping",
        ..RUNNING
    },
    State {
        phase: "paused",
        then: &["pause"],
        event: "paused",
        ..RUNNING
    },
];

/// Without what counts while one looks, and in one line.
fn steady(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace(|it: char| it.is_ascii_digit(), "")
}

#[test]
fn each_state_is_told_in_the_same_words_by_status_health_and_events() {
    for state in STATES {
        let phase = state.phase;
        let listener = Listener::new();
        let plan = listener
            .on(Plan::new(Place::Subreaper))
            .gateway(state.gateway.iter().copied())
            .options([
                "--backoff-min",
                "1h",
                "--backoff-max",
                "1h",
                "--stop-timeout",
                "1s",
            ]);
        if let Some(config) = state.config {
            plan.write_config(config);
        }
        let kept = plan.start();
        if !state.then.is_empty() {
            kept.wait_until_ready();
            status(&plan);
            assert_eq!(say(&plan, state.then.iter().copied()).code, Some(0));
        }
        let readiness = listener.wait_for(phase).json();
        let of = |value: &Value, name: &str| steady(value[name].as_str().unwrap_or_default());
        let told = status(&plan);
        assert_eq!(told["phase"], phase);
        let (why, fix) = (of(&told, "why"), of(&told, "fix"));
        assert_eq!(
            (&of(&readiness, "why"), &of(&readiness, "fix")),
            (&why, &fix)
        );

        let is_ready = phase == "running";
        let word = if is_ready { "ready" } else { phase };
        for said in [say(&plan, ["status"]), say(&plan, ["health"])] {
            assert_eq!(
                said.code,
                Some(i32::from(!is_ready)),
                "{phase}: {}",
                said.out
            );
            let text = steady(&said.out);
            for words in [word, &why, &fix] {
                assert!(text.contains(words), "{phase}: {words:?} in {text}");
            }
        }
        let events = poll_until(PATIENCE, "the event", || {
            let said = say(&plan, ["events", "--json"]);
            let events: Vec<Value> = said
                .out
                .lines()
                .map(|line| serde_json::from_str(line).expect("an event"))
                .collect();
            match events.last() {
                Some(last) if last["kind"] == state.event => Ok(events),
                Some(_) | None => Err(said.out),
            }
        });
        let last = steady(events[events.len() - 1]["text"].as_str().expect("text"));
        match phase {
            "held" => assert!(last.contains(&why) && last.contains(&fix), "{last}"),
            "paused" => assert!(last.starts_with(&why) && last.contains(&fix), "{last}"),
            _ => {}
        }
        kept.stop();
    }
}
