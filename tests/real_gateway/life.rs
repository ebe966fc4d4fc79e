//! From the first start to the last stop.

use crate::support::read_lossy;
use crate::support::real::{
    BEFORE_8_2, NEWEST, READY, SOON, Site, for_each_version, is_alive, kill,
};
use nix::libc;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A stop of an idle gateway, which needs less than one second of these.
const STOP: Duration = Duration::from_secs(10);

#[test]
fn seeds_a_config_becomes_ready_and_stops_without_a_trace() {
    for_each_version(|version| {
        let site = Site::new(version);
        let key = "sk-ant-secret-of-the-test";
        let mut keeper = site.keep_with(&[], |command| command.env("ANTHROPIC_API_KEY", key));
        site.wait_until_ready(&keeper);

        let first = keeper.own_log()[0].clone();
        let pid = keeper.pid();
        for field in [
            concat!("version=", env!("CARGO_PKG_VERSION")).to_owned(),
            format!("pid={pid} "),
            "is_pid_1=false".to_owned(),
            "memory_limit=".to_owned(),
            "memory_limit_from=".to_owned(),
            format!("state_folder={}", site.file("state").display()),
            format!("gateway_version={version}"),
        ] {
            assert!(first.contains(&field), "{field} is not in {first}");
        }
        let config = read_lossy(&site.config());
        assert!(config.contains("mode"), "{config}");
        let mode = fs::metadata(site.config())
            .expect("it was seeded")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        for (name, text) in [("config", config), ("log", keeper.log().join("\n"))] {
            assert!(!text.contains(key), "a secret in the {name}");
            assert!(!text.contains("test-token"), "the token in the {name}");
        }

        let (code, took) = keeper.stop();
        assert_eq!(code, Some(0));
        assert!(took < STOP, "{took:?}");
        site.wait_until_empty(&keeper);
        assert_eq!(site.starts().len(), 1);
        assert_eq!(site.locks(), [] as [std::path::PathBuf; 0]);
        let state = fs::File::open(site.file("state")).expect("it is there");
        state.try_lock().expect("nobody holds the state folder");
    });
}

#[test]
fn a_killed_gateway_is_started_again_and_its_helpers_are_gone() {
    for_each_version(|version| {
        let site = Site::new(version);
        let mut keeper = site.keep(&[]);
        site.wait_until_ready(&keeper);
        let first = site.wait_for_start(1, &keeper);
        let helpers = site.processes();
        if version == NEWEST {
            assert!(helpers.len() > 1, "it has helpers: {helpers:?}");
        }

        kill(first, libc::SIGKILL);
        let second = site.wait_for_start(2, &keeper);
        assert_ne!(second, first);
        let left: Vec<_> = helpers.iter().filter(|(pid, _)| is_alive(*pid)).collect();
        assert!(left.is_empty(), "beside the second gateway: {left:?}");
        site.wait_until_ready(&keeper);
        assert_eq!(keeper.count("class=signal"), 1);
        assert_eq!(site.starts(), [first, second]);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn exit_0_unasked_is_a_relaunch() {
    let site = Site::new(NEWEST);
    let mut keeper = site.keep(&["--backoff-min", "60s"]);
    site.wait_until_ready(&keeper);
    let first = site.wait_for_start(1, &keeper);
    // The gateway's own way to restart itself: under a supervisor it ends with 0.
    kill(first, libc::SIGUSR2);
    let second = site.wait_for_start(2, &keeper);
    assert_ne!(second, first);
    site.wait_until_ready(&keeper);
    assert_eq!(keeper.count("class=relaunch"), 1);
    assert_eq!(keeper.stop().0, Some(0));
    assert_eq!(site.starts().len(), 2);
}

#[test]
fn a_restart_of_its_own_keeps_an_older_gateway_in_its_process() {
    let site = Site::new(BEFORE_8_2);
    let mut keeper = site.keep(&[]);
    site.wait_until_ready(&keeper);
    let pid = site.wait_for_start(1, &keeper);
    // Before 2026.8.2 this is the signal; without OPENCLAW_NO_RESPAWN it would leave an orphan on the port.
    kill(pid, libc::SIGUSR1);
    keeper.poll(READY, "the restart", || {
        let ready = keeper
            .log()
            .iter()
            .filter(|line| line.ends_with("[gateway] ready"))
            .count();
        if ready == 2 { Ok(()) } else { Err(ready) }
    });
    site.wait_until_ready(&keeper);
    assert!(is_alive(pid));
    assert_eq!(keeper.stop().0, Some(0));
    assert_eq!(site.starts(), [pid]);
    site.wait_until_empty(&keeper);
}

#[test]
fn a_hung_gateway_is_restarted() {
    let site = Site::new(NEWEST);
    let mut keeper = site.keep(&["--liveness-timeout", "6s"]);
    // clawkeeper must have seen it ready too: until then a silent gateway is one that starts.
    keeper.wait_for_line(READY, "took=");
    let first = site.wait_for_start(1, &keeper);
    kill(first, libc::SIGSTOP);
    site.wait_for_start(2, &keeper);
    assert!(!is_alive(first));
    site.wait_until_ready(&keeper);
    assert_eq!(keeper.count("cause=hung"), 1);
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn term_in_each_phase_ends_with_0_and_leaves_nothing() {
    let site = Site::new(NEWEST);
    let stop = |mut keeper: crate::support::real::Running, phase: &str| {
        let (code, took) = keeper.stop();
        assert_eq!(code, Some(0), "in {phase}: {:?}", keeper.log());
        assert!(took < STOP, "in {phase}: {took:?}");
        site.wait_until_empty(&keeper);
    };

    let keeper = site.keep(&[]);
    keeper.wait_for_line(SOON, "state_folder=");
    stop(keeper, "preflight");

    // A slow machine may have come as far in the phase before.
    let starts = site.starts().len();
    let keeper = site.keep(&[]);
    site.wait_for_start(starts + 1, &keeper);
    stop(keeper, "the first instant of the gateway");

    let keeper = site.keep(&[]);
    keeper.poll(READY, "the gateway's locks", || {
        if site.locks().is_empty() {
            Err(())
        } else {
            Ok(())
        }
    });
    assert!(!site.is_ready());
    stop(keeper, "starting");

    site.hook("kill -9 $$");
    let keeper = site.keep(&["--backoff-min", "60s"]);
    keeper.wait_for_line(SOON, "crashes_in_a_row=2");
    stop(keeper, "backoff");

    site.write_config("{");
    let starts = site.starts().len();
    let keeper = site.keep(&[]);
    keeper.wait_for_line(SOON, "openclaw.json:1:");
    stop(keeper, "hold");
    assert_eq!(
        site.starts().len(),
        starts,
        "nothing is started with a broken config"
    );
}

#[test]
fn the_gateway_dies_with_a_killed_supervisor_and_the_next_start_is_clean() {
    let site = Site::new(NEWEST);
    let mut keeper = site.keep(&[]);
    site.wait_until_ready(&keeper);
    let processes = site.processes();
    keeper.signal(libc::SIGKILL);
    keeper.end();
    let gateway = site.starts()[0];
    keeper.poll(SOON, "the gateway's death", || {
        if is_alive(gateway) {
            Err(site.processes())
        } else {
            Ok(())
        }
    });

    let mut next = site.keep(&[]);
    site.wait_for_start(2, &next);
    let left: Vec<_> = processes.iter().filter(|(pid, _)| is_alive(*pid)).collect();
    assert!(left.is_empty(), "beside the second gateway: {left:?}");
    site.wait_until_ready(&next);
    assert_eq!(next.stop().0, Some(0));
    site.wait_until_empty(&next);
}
