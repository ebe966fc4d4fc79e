//! Ends: of clawkeeper in every phase, of the gateway's whole tree, and of clawkeeper by force.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use nix::libc;
use std::path::Path;
use support::keeper::{Kept, Plan};
use support::{PATIENCE, Place, poll_until};

const PLACES: [Place; 2] = [Place::Pid1, Place::Subreaper];

/// Where a stop finds clawkeeper: the flags that bring it there, and what shows that it is there.
const PHASES: &[(&str, &[&str], &str)] = &[
    ("starting", &["--ready", "never"], "gateway started"),
    ("running", &[], "gateway ready"),
    (
        "backoff",
        &["--end", "exit:1"],
        "waiting before the next start",
    ),
    (
        "held",
        &["--end", "refuse:no-mode"],
        "holding: the gateway is not started until this is mended",
    ),
];

#[test]
fn sigterm_in_each_phase_ends_with_0_and_starts_nothing_more() {
    for place in PLACES {
        for (phase, flags, shown) in PHASES {
            let plan = Plan::new(place)
                .options(["--backoff-min", "1h", "--backoff-max", "1h"])
                .gateway(flags.iter().copied());
            let kept = plan.start();
            kept.wait_for(shown);
            if *phase == "starting" {
                kept.wait_for_note("boot", 1);
            }
            let boots = plan.diary("boot").len();
            let ended = kept.stop();
            assert_eq!(ended.status, "exit 0", "{place:?} {phase} {}", ended.text);
            assert_eq!(plan.diary("boot").len(), boots, "{place:?} {phase}");
            ended.line("stopped");
        }
    }
}

#[test]
fn every_stop_signal_stops() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        let plan = Plan::new(Place::Pid1);
        let kept = plan.start();
        kept.wait_until_ready();
        kept.signal(signal);
        let ended = kept.end();
        assert_eq!(ended.status, "exit 0", "{signal}");
        assert_eq!(
            plan.diary("drained").len(),
            1,
            "{signal} reaches the gateway as SIGTERM"
        );
    }
}

#[test]
fn sigterm_at_any_moment_of_the_preflight_ends_with_0_and_leaves_nothing() {
    for delay_us in (0..40).map(|step| step * 700) {
        let place = PLACES[delay_us / 700 % 2];
        let plan = Plan::new(place).launcher([
            // Before that the kernel acts on it, and no program can help it.
            "--signal-once-blocked",
            "15",
            "--delay-us",
            &delay_us.to_string(),
        ]);
        let ended = plan.start().end();
        assert_eq!(
            ended.status, "exit 0",
            "{place:?} after {delay_us} us: {}",
            ended.text
        );
        let started = ended.lines("gateway started").len();
        assert!(started <= 1, "after {delay_us} us: {}", ended.text);
        assert_eq!(
            ended.classes(),
            vec!["requested"; started],
            "after {delay_us} us"
        );
    }
}

#[test]
fn sigterm_while_leftovers_of_a_crash_are_ended_starts_nothing_more() {
    let plan = Plan::new(Place::Subreaper).gateway([
        "--stubborn-helper",
        "--end",
        "exit:1",
        "--end-after",
        "300",
    ]);
    let kept = plan.start();
    kept.wait_for_note("helper", 1);
    kept.wait_for_note("end", 1);
    let ended = kept.stop();
    assert_eq!(ended.status, "exit 0", "{}", ended.text);
    assert_eq!(plan.diary("boot").len(), 1);
}

#[test]
fn a_gateway_that_ignores_sigterm_is_killed_after_the_timeout_and_the_code_says_so() {
    for place in PLACES {
        let plan = Plan::new(place)
            .options(["--stop-timeout", "400ms"])
            .gateway(["--ignore-term"]);
        let kept = plan.start();
        kept.wait_until_ready();
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 124", "{place:?} {}", ended.text);
        assert_eq!(plan.diary("term").len(), 1, "it was asked once");
        assert_eq!(ended.line("gateway exited")["signal"], "SIGKILL");
        assert_eq!(ended.classes(), ["requested"]);
    }
}

#[test]
fn a_slow_drain_within_the_timeout_is_waited_for() {
    let plan = Plan::new(Place::Pid1).gateway(["--drain", "1500"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let ended = kept.stop();
    assert_eq!(ended.status, "exit 0");
    assert_eq!(plan.diary("drained").len(), 1);
}

#[test]
fn a_second_signal_shortens_the_drain_and_a_third_ends_it() {
    for place in PLACES {
        let plan = Plan::new(place).gateway(["--drain", "600000"]);
        let kept = plan.start();
        kept.wait_until_ready();
        kept.signal(libc::SIGTERM);
        signal_until_shortened(&kept, 1);
        signal_until_shortened(&kept, 2);
        let ended = kept.end();
        assert_eq!(ended.status, "exit 124", "{place:?} {}", ended.text);
        let shortened = ended.lines("another signal shortens the stop");
        assert_eq!(shortened[0]["kill_in"], "3.0s", "{place:?}");
        assert_eq!(shortened[1]["kill_in"], "0ms", "{place:?}");
        assert_eq!(
            plan.diary("term").len(),
            1,
            "the gateway hears only the first"
        );
    }
}

#[test]
fn two_signals_at_once_are_one() {
    let plan = Plan::new(Place::Subreaper).gateway(["--drain", "1000"]);
    let kept = plan.start();
    kept.wait_until_ready();
    kept.signal(libc::SIGTERM);
    kept.signal(libc::SIGINT);
    let ended = kept.end();
    assert_eq!(ended.status, "exit 0");
    assert!(
        ended.lines("another signal shortens the stop").is_empty(),
        "{}",
        ended.text
    );
}

#[test]
fn a_helper_in_its_own_session_ends_with_the_stop() {
    for (flag, place) in [
        ("--helper", Place::Pid1),
        ("--helper", Place::Subreaper),
        ("--stubborn-helper", Place::Subreaper),
    ] {
        let plan = Plan::new(place).gateway([flag]);
        let kept = plan.start();
        kept.wait_until_ready();
        kept.wait_for_note("helper", 1);
        // `end` looks for whatever is left.
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 0", "{flag} {place:?} {}", ended.text);
        assert_eq!(
            ended.line("processes it left behind were ended")["count"],
            "1"
        );
    }
}

#[test]
fn a_relaunch_ends_the_gateways_own_orphans_and_no_others() {
    let plan = Plan::new(Place::Pid1).gateway(["--helper"]);
    let kept = plan.start();
    kept.wait_until_ready();
    kept.wait_for_note("helper", 1);
    // As a console does it: its shell ends and leaves a process behind.
    kept.enter("sleep 1000 >/dev/null 2>&1 &");
    let stranger = child_named(&kept, "sleep");
    let helper = grandchild_of(kept.gateway_pid());
    send(kept.gateway_pid(), libc::SIGKILL);
    kept.wait_until_boot_is_ready(2);
    assert!(!is_alive(helper), "the first gateway's helper");
    assert!(is_alive(stranger), "what a console left");
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["signal", "requested"]);
    assert!(!is_alive(stranger), "a stop ends all");
}

#[test]
fn ten_thousand_orphans_that_end_at_once_are_reaped_and_the_gateway_stays_supervised() {
    let pid_max: usize = std::fs::read_to_string("/proc/sys/kernel/pid_max")
        .expect("/proc")
        .trim()
        .parse()
        .expect("a number");
    let count = 10_000.min(pid_max / 3);
    if count < 10_000 {
        println!("only {count} orphans: pid_max is {pid_max}");
    }
    for place in PLACES {
        let plan = Plan::new(place).gateway(["--orphans", &count.to_string()]);
        let kept = plan.start();
        // The tool ends only when every orphan is reaped.
        kept.wait_for_note("orphans", 1);
        kept.wait_until_ready();
        assert_eq!(kept.children(), [kept.gateway_pid()], "{place:?}");
        send(kept.gateway_pid(), libc::SIGKILL);
        kept.wait_for_note("orphans", 2);
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 0", "{place:?}");
        assert_eq!(ended.classes(), ["signal", "requested"]);
    }
}

#[test]
fn a_gateway_dies_with_its_supervisor_and_the_next_start_ends_what_survived() {
    for flag in ["--helper", "--stubborn-helper"] {
        let plan = Plan::new(Place::Subreaper).gateway([flag, "--locks"]);
        let kept = plan.start();
        kept.wait_until_ready();
        let (helper, _) = kept.wait_for_note("helper", 1)[0];
        let gateway = kept.gateway_pid();
        kept.signal(libc::SIGKILL);
        assert_eq!(kept.end_with_survivors().status, "signal 9");
        poll_until(PATIENCE, "the gateway's end", || {
            if is_alive(gateway) {
                Err("alive")
            } else {
                Ok(())
            }
        });
        assert!(
            is_alive(helper),
            "{flag}: a session of its own outlives a supervisor that is killed"
        );
        let next = plan.clone().other_gateway(["--locks"]).start();
        next.wait_until_ready();
        assert!(!is_alive(helper), "{flag}");
        let ended = next.stop();
        ended.line("ending a leftover process of an earlier gateway");
        assert!(plan.diary("locked-out").is_empty(), "{}", ended.text);
        assert_eq!(ended.status, "exit 0");
    }
}

/// Repeats SIGTERM until the stop was shortened `times` times: signals close together are one.
fn signal_until_shortened(kept: &Kept, times: usize) {
    poll_until(PATIENCE, "a shortened stop", || {
        let log = kept.log();
        let seen = log
            .iter()
            .filter(|line| line["message"] == "another signal shortens the stop")
            .count();
        if seen >= times {
            return Ok(());
        }
        kept.signal(libc::SIGTERM);
        Err(kept.text())
    });
}

fn child_named(kept: &Kept, name: &str) -> i32 {
    poll_until(PATIENCE, "the orphan's adoption", || {
        let children = kept.children();
        let is_named = |pid: &&i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        };
        children.iter().find(is_named).copied().ok_or(children)
    })
}

fn grandchild_of(pid: i32) -> i32 {
    let children = support::read_lossy(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
    children.trim().parse().expect("one child")
}

/// True for a process that runs; a zombie has ended.
fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" Z"))
    })
}

fn send(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
