//! The gateway's life under clawkeeper: starts, crashes, hangs, refusals, and what is said of each.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use nix::libc;
use std::fs;
use std::net::TcpListener;
use support::keeper::{A_WHILE, CONFIG, Plan, snapshot};
use support::{Place, poll_until, read_lossy};

const PLACES: [Place; 2] = [Place::Pid1, Place::Subreaper];

/// A wait that no test survives: where it is set, nothing may wait.
const FOR_EVER: [&str; 4] = ["--backoff-min", "1h", "--backoff-max", "1h"];

#[test]
fn a_gateway_is_started_judged_ready_and_stopped() {
    for place in Place::ALL {
        let plan = Plan::new(place).gateway(["--ready", "300"]);
        let kept = plan.start();
        kept.wait_until_ready();
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 0", "{place:?} {}", ended.text);
        assert_eq!(ended.classes(), ["requested"]);
        assert_eq!(plan.diary("boot").len(), 1);
        assert_eq!(plan.diary("drained").len(), 1, "it was asked, not killed");
    }
}

#[test]
fn an_old_gateway_that_answers_every_path_with_a_page_is_judged_by_its_line() {
    let plan = Plan::new(Place::Subreaper).gateway(["--old", "--listen", "300"]);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_slow_start_that_makes_progress_outlives_the_startup_timeout() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--startup-timeout", "1s"])
        .gateway(["--ready", "2500", "--progress-every", "100"]);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(plan.diary("boot").len(), 1);
    assert_eq!(kept.stop().classes(), ["requested"]);
}

#[test]
fn a_start_without_progress_is_given_up_and_tried_again() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--startup-timeout", "700ms"])
        .gateway(["--ready", "never"]);
    let kept = plan.start();
    let line = kept.wait_for("gateway exited");
    assert_eq!(
        (&line["class"], &line["cause"]),
        (&"requested".into(), &"start-timeout".into())
    );
    kept.wait_for_note("boot", 2);
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn progress_stretches_a_start_but_not_for_ever() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--startup-timeout", "1s"])
        .gateway(["--ready", "never", "--progress-every", "100"]);
    let kept = plan.start();
    let line = kept.wait_for("gateway exited");
    assert_eq!(line["cause"], "start-timeout");
    let uptime = line["uptime"].as_str().expect("an uptime").to_owned();
    assert!(uptime.starts_with("4."), "four times its timeout: {uptime}");
    kept.stop();
}

#[test]
fn a_gateway_that_hangs_is_restarted() {
    let plan =
        Plan::new(Place::Pid1).options(["--liveness-timeout", "1s", "--stop-timeout", "300ms"]);
    let trap = plan.file("hang");
    let plan = plan.gateway(["--hang-when", trap.to_str().expect("text")]);
    let kept = plan.start();
    kept.wait_until_ready();
    fs::write(&trap, "").expect("a trap");
    kept.wait_for_note("hang", 1);
    fs::remove_file(&trap).expect("no trap");
    kept.wait_for_nth("gateway ready", 2);
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["requested", "requested"]);
    assert_eq!(ended.lines("gateway exited")[0]["cause"], "hung");
    assert_eq!(ended.lines("gateway exited")[0]["signal"], "SIGKILL");
    assert_eq!(
        ended.status, "exit 0",
        "that an earlier gateway was killed is no forced stop"
    );
}

#[test]
fn a_stopped_process_counts_as_hung() {
    let plan = Plan::new(Place::Subreaper).options([
        "--liveness-timeout",
        "1s",
        "--stop-timeout",
        "300ms",
    ]);
    let kept = plan.start();
    kept.wait_until_ready();
    send(kept.gateway_pid(), libc::SIGSTOP);
    kept.wait_for_nth("gateway ready", 2);
    assert_eq!(kept.stop().lines("gateway exited")[0]["cause"], "hung");
}

#[test]
fn a_gateway_that_does_not_listen_yet_is_starting_and_never_hung() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--liveness-timeout", "200ms", "--startup-timeout", "20s"])
        .gateway(["--listen", "2000", "--ready", "2500"]);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(plan.diary("boot").len(), 1);
    assert_eq!(kept.stop().classes(), ["requested"]);
}

#[test]
fn crashes_in_a_row_wait_longer_each_time() {
    for place in PLACES {
        let plan = Plan::new(place)
            .options(["--backoff-min", "200ms", "--backoff-max", "10s"])
            .gateway(["--end", "exit:1", "--end-after", "20"]);
        let kept = plan.start();
        let boots = kept.wait_for_note("boot", 5);
        let gaps: Vec<u64> = boots.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        // The first restart is at once; a delay may be drawn a quarter shorter.
        for (gap, least) in gaps[1..].iter().zip([150, 300, 600]) {
            assert!(*gap >= least, "{place:?} {gaps:?}");
        }
        let ended = kept.stop();
        assert_eq!(ended.classes()[..4], ["crash"; 4], "{place:?}");
        assert_eq!(ended.status, "exit 0");
    }
}

#[test]
fn a_first_crash_is_followed_by_a_start_at_once() {
    let plan = Plan::new(Place::Subreaper).options(FOR_EVER).gateway([
        "--end",
        "exit:1",
        "--only-first",
        "1",
    ]);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(kept.stop().classes(), ["crash", "requested"]);
}

#[test]
fn an_exit_with_0_is_a_request_to_relaunch_at_once() {
    for place in PLACES {
        let plan = Plan::new(place).options(FOR_EVER).gateway([
            "--end",
            "exit:0",
            "--end-after",
            "50",
            "--only-first",
            "4",
        ]);
        let kept = plan.start();
        kept.wait_until_boot_is_ready(5);
        let ended = kept.stop();
        assert_eq!(
            ended.classes(),
            ["relaunch", "relaunch", "relaunch", "relaunch", "requested"]
        );
    }
}

#[test]
fn a_storm_of_relaunches_is_paced() {
    let plan = Plan::new(Place::Subreaper)
        .options(FOR_EVER)
        .gateway(["--end", "exit:0"]);
    let kept = plan.start();
    kept.wait_for("waiting before the next start");
    let boots = plan.diary("boot").len();
    assert!((6..=8).contains(&boots), "{boots}");
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_refusal_holds_and_is_tried_again_when_the_config_changes() {
    let refusals = [
        "no-config",
        "no-mode",
        "unknown-key",
        "old-no-mode",
        "no-auth",
        "unexplained",
    ];
    let held: Vec<_> = refusals
        .iter()
        .map(|name| {
            let end = format!("refuse:{name}");
            let plan = Plan::new(Place::Subreaper).gateway(["--end", &end, "--only-first", "1"]);
            let kept = plan.start();
            (plan, kept)
        })
        .collect();
    for (plan, kept) in &held {
        let why = kept.wait_until_held();
        assert!(why.starts_with("the gateway refuses to start"), "{why}");
        assert_eq!(
            plan.diary("boot").len(),
            1,
            "{why}: not tried again without a cause"
        );
        plan.write_config(&format!("{CONFIG}\n"));
    }
    for (_, kept) in held {
        kept.wait_until_ready();
        kept.wait_for("hold is over");
        assert_eq!(kept.stop().classes(), ["refused", "requested"]);
    }
}

#[test]
fn a_hold_is_said_once_however_often_it_is_retried() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--hold-retry", "50ms"])
        .gateway(["--end", "refuse:no-mode"]);
    let kept = plan.start();
    kept.wait_for_note("boot", 5);
    let ended = kept.stop();
    ended.line("holding: the gateway is not started until this is mended");
    assert_eq!(ended.status, "exit 0");
}

#[test]
fn sighup_tries_a_held_start_now() {
    let plan = Plan::new(Place::Pid1).gateway(["--end", "refuse:no-mode", "--only-first", "1"]);
    let kept = plan.start();
    kept.wait_until_held();
    kept.signal(libc::SIGHUP);
    kept.wait_until_ready();
    kept.stop();
}

#[test]
fn a_broken_config_holds_with_line_and_column_and_its_repair_starts_the_gateway() {
    let plan = Plan::new(Place::Pid1);
    plan.write_config("{\n  \"gateway\": {,}\n}");
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("openclaw.json:2:15"), "{why}");
    assert!(plan.diary("boot").is_empty());
    // As an editor does it: a new file in the place of the old.
    fs::write(plan.file("new"), CONFIG).expect("written");
    fs::rename(plan.file("new"), plan.config()).expect("renamed");
    kept.wait_until_ready();
    kept.stop();
}

#[test]
fn a_gateway_does_not_get_the_pid_of_the_one_before_it_though_its_container_boots_alike() {
    let plan = Plan::new(Place::Pid1);
    let mut before = None;
    for _ in 0..5 {
        let kept = plan.start();
        kept.wait_until_ready();
        let pid = plan.diary("boot").last().expect("it has booted").0;
        assert_ne!(Some(pid), before);
        before = Some(pid);
        let noted = format!("\"pid\":{pid},");
        poll_until(support::PATIENCE, "the record of it", || {
            let record = read_lossy(&plan.state().join("clawkeeper/child.json"));
            record.contains(&noted).then_some(()).ok_or(record)
        });
        kept.stop();
    }
}

#[test]
fn a_config_broken_while_the_gateway_runs_is_told_on_sighup_and_stops_nothing() {
    let plan = Plan::new(Place::Subreaper);
    let kept = plan.start();
    kept.wait_until_ready();
    plan.write_config("{");
    kept.signal(libc::SIGHUP);
    let line = kept.wait_for("config looked at: it would not be accepted at the next start");
    assert!(
        line["why"].as_str().is_some_and(|why| why.contains(":1:2")),
        "{line}"
    );
    plan.write_config(CONFIG);
    kept.signal(libc::SIGHUP);
    kept.wait_for("config looked at: it can be used");
    assert_eq!(kept.stop().classes(), ["requested"]);
    assert_eq!(plan.diary("boot").len(), 1);
}

#[test]
fn a_port_held_by_a_stranger_holds_until_it_is_free() {
    let plan = Plan::new(Place::Subreaper).options(["--hold-retry", "100ms"]);
    let elsewhere = Plan::new(Place::Subreaper).on_port(plan.port());
    let mut stranger = elsewhere.start_by_hand();
    wait_for_start(&elsewhere);
    let kept = plan.start();
    let why = kept.wait_until_held();
    let us = format!("fake-gateway (pid {})", stranger.child().id());
    assert!(
        why.starts_with(&format!("port {} is held by", plan.port())) && why.ends_with(&us),
        "{why}"
    );
    assert!(plan.diary("boot").is_empty());
    drop(stranger);
    kept.wait_until_ready();
    kept.stop();
}

#[test]
fn a_listener_on_another_address_is_in_nobodys_way() {
    let elsewhere = TcpListener::bind(("127.0.0.2", 0)).expect("a port");
    let port = elsewhere.local_addr().expect("an address").port();
    let plan = Plan::new(Place::Subreaper)
        .on_port(port)
        .gateway(["--bind", "loopback"]);
    let kept = plan.start();
    kept.wait_until_ready();
    kept.stop();
}

#[test]
fn a_signal_without_a_meaning_ends_neither_clawkeeper_nor_the_gateway() {
    for place in PLACES {
        let plan = Plan::new(place);
        let kept = plan.start();
        kept.wait_until_ready();
        for signal in [
            libc::SIGALRM,
            libc::SIGRTMIN(),
            libc::SIGUSR1,
            libc::SIGUSR2,
        ] {
            kept.signal(signal);
        }
        kept.wait_for_nth("nothing is done at this signal", 2);
        assert_eq!(kept.stop().status, "exit 0");
        assert_eq!(plan.diary("boot").len(), 1);
    }
}

#[test]
fn beside_a_gateway_that_somebody_runs_nothing_is_started_and_nothing_touched() {
    let plan = Plan::new(Place::Subreaper)
        .called_openclaw()
        .options(["--hold-retry", "100ms"])
        .gateway(["--locks"]);
    let mut other = plan.start_by_hand();
    poll_until(support::PATIENCE, "its start", || {
        match plan.diary("ready")[..] {
            [] => Err("it does not run"),
            _ => Ok(()),
        }
    });
    let locks = snapshot(&plan.state().join("tmp"));
    let kept = plan.start();
    let why = kept.wait_until_held();
    let pid = other.child().id();
    assert!(
        why.contains(&format!(
            "another gateway runs on this state folder: pid {pid},"
        )),
        "{why}"
    );
    assert_eq!(snapshot(&plan.state().join("tmp")), locks);
    assert_eq!(plan.diary("boot").len(), 1);
    // Whoever started it ends it, here without letting it take its locks away.
    drop(other);
    kept.wait_until_ready();
    kept.wait_for_nth("stale lock cleared", 2);
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_command_that_does_not_exist_holds_a_gateway_and_ends_an_init() {
    let plan = Plan::new(Place::Pid1).program("/no/such/openclaw");
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("/no/such/openclaw"), "{why}");
    assert!(kept.is_alive());
    assert_eq!(kept.stop().status, "exit 0");
    let init = plan.options(["--mode", "init"]).start().end();
    assert_eq!(init.status, "exit 127", "{}", init.text);
}

#[test]
fn a_gateway_that_the_platform_cannot_reach_is_told_with_the_fix() {
    let lines = |plan: &Plan| {
        let kept = plan.start();
        kept.wait_until_ready();
        let found = kept
            .wait_for("not listening on expected address: Fly's proxy cannot reach the gateway");
        kept.stop();
        found
    };
    let on_fly = Plan::new(Place::Subreaper).env("FLY_APP_NAME", "app");
    let line = lines(&on_fly);
    assert_eq!(line["listens_on"], format!("127.0.0.1:{}", on_fly.port()));
    assert!(
        line["fix"].as_str().expect("a fix").contains("--bind lan"),
        "{line}"
    );
    let elsewhere = Plan::new(Place::Subreaper)
        .env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken")
        .options(["--internal-port", "3000"])
        .gateway(["--bind", "lan"]);
    let line = lines(&elsewhere);
    assert_eq!(line["listens_on_port"], elsewhere.port().to_string());
    assert!(
        line["fix"].as_str().expect("a fix").contains("--port 3000"),
        "{line}"
    );
}

#[test]
fn a_gateway_that_the_platform_can_reach_is_not_complained_of() {
    let plan = Plan::new(Place::Subreaper)
        .env("FLY_APP_NAME", "app")
        .env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken")
        .gateway(["--bind", "lan"]);
    let kept = plan.start();
    kept.wait_until_ready();
    std::thread::sleep(A_WHILE);
    let ended = kept.stop();
    let errors = ended
        .log
        .iter()
        .filter(|line| line["level"] == "error")
        .count();
    assert_eq!(errors, 0, "{}", ended.text);
}

/// Waits for a gateway that nobody keeps.
fn wait_for_start(plan: &Plan) {
    poll_until(support::PATIENCE, "its start", || {
        match plan.diary("ready")[..] {
            [] => Err("it does not run"),
            _ => Ok(()),
        }
    });
}

fn send(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
