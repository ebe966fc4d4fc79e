//! The gateway's output as it is kept on the volume, and the command that shows it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read what they wrote"
)]

mod support;

use nix::libc;
use std::process::{Command, Output};
use support::keeper::{Kept, Plan};
use support::{PATIENCE, Place, clawkeeper, poll_until, skip};

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What the command shows of a volume that only clawkeeper has mounted.
fn logs_of(kept: &Kept, plan: &Plan) -> String {
    let mut command = Command::new(clawkeeper());
    let command = plan.surround(command.args(["logs", "-n", "9999"]));
    let state = kept.inside(&plan.state());
    text(
        &command
            .env("OPENCLAW_STATE_DIR", state)
            .output()
            .expect("clawkeeper"),
    )
}

fn wait_for_logs(what: &str, logs: impl Fn() -> String, is_there: impl Fn(&str) -> bool) -> String {
    poll_until(PATIENCE, what, || {
        let logs = logs();
        if is_there(&logs) { Ok(logs) } else { Err(logs) }
    })
}

#[test]
fn output_of_two_lives_is_kept_without_secrets_and_with_what_clawkeeper_said() {
    const SECRET: &str = "not-for-anybody-else";
    let plan = Plan::new(Place::Subreaper)
        .env("DISCORD_BOT_TOKEN", SECRET)
        .gateway(["--say", "DISCORD_BOT_TOKEN"]);
    for _ in 0..2 {
        let life = plan.start();
        life.wait_until_ready();
        let ended = life.stop();
        assert!(ended.text.contains(SECRET), "the log itself is not touched");
    }
    let logs = text(&plan.ask(["logs"]));
    // A gateway may speak before clawkeeper has said that it started it.
    assert_eq!(
        logs.matches("Z clawkeeper: gateway started ").count(),
        2,
        "{logs}"
    );
    let marks = [
        "Z 2026-11-20T04:14:16.284+00:00 [gateway] ready",
        "Z it is ",
        "Z clawkeeper: gateway exited class=requested ",
    ];
    let mut rest = logs.as_str();
    for mark in marks.iter().chain(&marks) {
        let at = rest
            .find(mark)
            .unwrap_or_else(|| panic!("{mark} in {logs}"));
        rest = &rest[at + mark.len()..];
    }
    assert!(!logs.contains(SECRET), "{logs}");
    for name in ["output.log", "timeline.ndjson", "journal.ndjson"] {
        let file = plan.state().join("clawkeeper").join(name);
        assert!(!support::read_lossy(&file).contains(SECRET), "{name}");
    }
    let last = text(&plan.ask(["logs", "-n", "1"]));
    assert!(logs.ends_with(&last) && last.lines().count() == 1, "{last}");
    let recent = text(&plan.ask(["logs", "--since", "1h"]));
    assert_eq!(recent, logs);
}

#[test]
fn output_is_there_while_the_gateway_runs_and_before_it_says_more() {
    let plan = Plan::new(Place::Subreaper);
    let life = plan.start();
    life.wait_until_ready();
    let logs = || text(&plan.ask(["logs"]));
    wait_for_logs("its word", logs, |logs| logs.contains("[gateway] ready\n"));
    life.stop();
}

#[test]
fn nothing_is_kept_where_that_is_not_wanted() {
    let plan = Plan::new(Place::Subreaper).options(["--keep-output", "off"]);
    let life = plan.start();
    life.wait_until_ready();
    life.stop();
    assert!(!plan.state().join("clawkeeper/output.log").exists());
    let nothing = plan.ask(["logs"]);
    assert_eq!(text(&nothing), "");
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("no output yet"), "{said}");
    let wrong = plan.clone().options(["--keep-output", "0"]).start().end();
    assert_eq!(wrong.status, "exit 64", "{}", wrong.text);
}

/// Restarts the gateway while its volume takes nothing, and again when it does.
fn a_broken_volume(break_it: &str, mend_it: &str) {
    if !nix::unistd::getuid().is_root() {
        return skip("nothing can be mounted");
    }
    let plan = Plan::new(Place::Subreaper)
        .options(["--backoff-min", "1ms"])
        .mounted("-t tmpfs -o size=64m tmpfs");
    let state = plan.state().display().to_string();
    let kept = plan.start();
    let logs = || logs_of(&kept, &plan);
    let die_and_start = |boot| {
        // SAFETY: takes two numbers.
        assert_eq!(unsafe { libc::kill(kept.gateway_pid(), libc::SIGKILL) }, 0);
        kept.wait_for_nth("gateway ready", boot);
    };
    kept.wait_for_nth("gateway ready", 1);
    wait_for_logs("the first", logs, |logs| logs.contains("[gateway] ready\n"));
    kept.enter(&break_it.replace("STATE", &state));
    let before = logs();
    die_and_start(2);
    kept.enter(&mend_it.replace("STATE", &state));
    die_and_start(3);
    let after = wait_for_logs("the third", logs, |logs| {
        logs.matches("[gateway] ready\n").count() >= 2
    });
    assert!(after.starts_with(&before), "{before}\n---\n{after}");
    let passed = kept.text();
    assert_eq!(passed.matches("[gateway] ready\n").count(), 3, "{passed}");
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_full_volume_costs_kept_output_and_nothing_else() {
    a_broken_volume(
        "{ cat /dev/zero > 'STATE/fill'; } 2>/dev/null; true",
        "rm 'STATE/fill'",
    );
}

#[test]
fn a_read_only_volume_costs_kept_output_and_nothing_else() {
    a_broken_volume(
        // On top of it: a file that is open for writing would forbid it for the mount itself.
        "mount --bind 'STATE' 'STATE' && mount -o remount,bind,ro 'STATE'",
        "umount --lazy 'STATE'",
    );
}
