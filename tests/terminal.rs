//! What commands make of whoever sits before them: nobody, somebody who will not wait, or a terminal that others could act on.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and write files"
)]

mod support;

use nix::libc;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use support::keeper::Plan;
use support::{Place, Process, clawkeeper};

#[test]
fn a_command_that_nobody_reads_ends_with_the_code_that_it_has_anyway() {
    let plan = Plan::new(Place::Subreaper);
    let commands: [&[&str]; 18] = [
        &["check"],
        &["check", "--json"],
        &["locks"],
        &["locks", "--json"],
        &["events"],
        &["logs"],
        &["incidents"],
        &["incidents", "show"],
        &["status"],
        &["status", "--json"],
        &["restart"],
        &["health"],
        &["test-alert"],
        &["config", "get"],
        &["config", "history"],
        &["config", "validate"],
        &["replay", "/nowhere"],
        &["locks", "--nonsense"],
    ];
    for command in commands {
        let code = |stdout: Stdio, stderr: Stdio| {
            let mut asked = Command::new(clawkeeper());
            let asked = plan.surround(&mut asked).args(command);
            let status = asked.stdout(stdout).stderr(stderr).status();
            status.expect("clawkeeper").code()
        };
        let full = || {
            Stdio::from(
                fs::OpenOptions::new()
                    .write(true)
                    .open("/dev/full")
                    .expect("it"),
            )
        };
        let gone = || Stdio::from(std::io::pipe().expect("a pipe").1);
        let usual = code(Stdio::null(), Stdio::null());
        for (stdout, stderr) in [
            (full(), full()),
            (gone(), gone()),
            (gone(), Stdio::null()),
            (Stdio::null(), gone()),
        ] {
            assert_eq!(code(stdout, stderr), usual, "{command:?}");
        }
    }
}

#[test]
fn a_command_that_waits_ends_when_it_is_told_to() {
    let plan = Plan::new(Place::Subreaper);
    for command in [&["status", "--watch"][..], &["events", "--follow"]] {
        let mut asked = Command::new(clawkeeper());
        let asked = plan.surround(&mut asked).args(command);
        // Either says at once that there is nothing: then it waits.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let asked = asked
            .stdout(writer.try_clone().expect("a descriptor"))
            .stderr(writer);
        let mut process = Process::start(asked);
        let mut first = [0];
        (&reader).read_exact(&mut first).expect("a word");
        let pid = process.child().id().cast_signed();
        // SAFETY: takes two numbers.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        assert_eq!(process.wait().signal(), Some(libc::SIGTERM), "{command:?}");
    }
}

#[test]
fn a_lock_whose_path_is_no_text_is_listed_like_any_other() {
    let plan = Plan::new(Place::Subreaper);
    let folder = OsStr::from_bytes(b"plugin-runtime-deps/\xff");
    let folder = plan.state().join(folder);
    fs::create_dir_all(&folder).expect("folders");
    fs::write(
        folder.join(".openclaw-runtime-deps.lock"),
        r#"{"pid": 999999}"#,
    )
    .expect("a lock");
    for args in [&["locks", "--json"][..], &["locks"], &["check", "--json"]] {
        let output = plan.ask(args.iter().copied());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("plugin-runtime-deps/\u{fffd}"), "{output:?}");
    }
    let kept = plan.start();
    kept.wait_until_ready();
    kept.wait_for("stale lock cleared");
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_lock_cannot_act_on_the_terminal_of_whoever_lists_it() {
    let plan = Plan::new(Place::Subreaper);
    let name = "gateway.\u{1b}]0;owned\u{7}\r.lock";
    fs::write(plan.state().join(name), r#"{"pid": 999999}"#).expect("a lock");
    for output in [plan.ask(["locks"]), plan.ask(["check"])] {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("gateway.]0;owned.lock"), "{said:?}");
        let acts = |it: char| it.is_control() && it != '\n';
        assert!(!said.contains(acts), "{said:?}");
    }
}
