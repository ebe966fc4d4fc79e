//! Power cuts: whatever was being written, the next boot comes up ready with nobody's help.

use super::moments::{Moment, WRITING, assert_came_up_at_once, cuts, moment};
use super::site::{BOOT, Machine, REAL_BOOT, Site, field};
use super::support::poll_until;
use std::time::{Duration, Instant};

/// Nothing of this boot needed a person.
fn assert_unaided(log: &str, cuts: usize) {
    for word in ["holding", "could not be cleared", "ERROR clawkeeper: "] {
        assert!(!log.contains(word), "after {cuts} power cuts: {log}");
    }
}

/// Lets it run for a while that differs each time: the moment of the cut is what is tested.
fn let_run(cut: usize) {
    // ext4 commits every 5 s: these fall after, before and between commits.
    let milliseconds = [5_600, 0, 1_700, 300, 3_100, 900];
    std::thread::sleep(Duration::from_millis(
        milliseconds[cut % milliseconds.len()],
    ));
}

/// The journal can be read to its end.
fn assert_journal_is_whole(machine: &Machine) {
    let line = "clawkeeper replay /data/clawkeeper/journal.ndjson >/dev/null";
    let (printed, code) = machine.run(line);
    assert_eq!(code, 0, "{line}: {printed}");
}

/// The journal, and what a person would look at first: the config.
fn assert_state_is_whole(machine: &Machine) {
    assert_journal_is_whole(machine);
    // Not with the gateway's own validator, which is a start of Node and takes a minute to be emulated.
    let (printed, code) = machine.run("clawkeeper config get gateway.mode");
    assert_eq!((printed.trim().trim_matches('"'), code), ("local", 0));
}

#[test]
fn power_cuts_in_a_row_and_each_boot_is_ready_unaided() {
    // It writes locks as 2026.9.6 does and refuses a start over one with its own pid and start tick: a machine
    // boots alike every time, so both come up again and again.
    let Some(site) = Site::with_fake_gateway(&["--locks", "--ready", "500"]) else {
        return;
    };
    let cuts = cuts("CLAWKEEPER_MACHINE_CUTS", 3);
    let mut locks_cleared = 0;
    for cut in 0..cuts {
        let began = Instant::now();
        let mut machine = site.boot();
        let log = machine.wait_until_ready(BOOT, 1);
        println!(
            "boot after {cut} power cuts: ready in {:?}",
            began.elapsed()
        );
        assert_unaided(&log, cut);
        locks_cleared += log.matches("stale lock cleared").count();
        assert!(log.contains("is_pid_1=false"), "{log}");
        assert!(log.contains("memory_limit_from=machine"), "{log}");
        let_run(cut);
        machine.cut();
    }
    let mut machine = site.boot();
    let log = machine.wait_until_ready(BOOT, 1);
    assert_unaided(&log, cuts);
    locks_cleared += log.matches("stale lock cleared").count();
    assert_ne!(locks_cleared, 0, "a cut leaves locks behind");
    assert_state_is_whole(&machine);
    assert_eq!(machine.get(machine.health, "/readyz", "").0, 200);
}

#[test]
fn a_cut_during_the_start_is_mended_by_the_next_boot() {
    let Some(site) = Site::with_fake_gateway(&["--locks", "--ready", "500"]) else {
        return;
    };
    // Each falls a little later into the boot: volume, locks, config, spawn.
    for moment in [
        "clawkeeper starts",
        "a first one was written",
        "gateway started",
    ] {
        let mut machine = site.boot();
        machine.wait_for(BOOT, moment, |log| {
            log.contains(moment) || log.contains("gateway started")
        });
        machine.cut();
    }
    let mut machine = site.boot();
    let log = machine.wait_until_ready(BOOT, 1);
    assert_unaided(&log, 3);
    assert_state_is_whole(&machine);
}

#[test]
#[ignore = "an emulated processor takes the real gateway to ready in minutes: cargo test --test machine -- --ignored"]
fn the_real_gateway_is_ready_after_power_cuts_in_a_row_unaided() {
    let Some(site) = Site::with_real_gateway() else {
        return;
    };
    let cuts = cuts("CLAWKEEPER_MACHINE_REAL_CUTS", 2);
    let began = Instant::now();
    for cut in 0..cuts {
        let mut machine = site.boot();
        let how = match moment(cut) {
            Moment::Starting(word) => {
                machine.wait_for(REAL_BOOT, word, |log| log.contains(word));
                word
            }
            Moment::Running => {
                assert_ready(&mut machine, cut);
                let_run(cut);
                "running"
            }
            Moment::Writing => {
                assert_ready(&mut machine, cut);
                machine.run(WRITING);
                let_run(cut);
                "writing the config"
            }
        };
        machine.cut();
        let seconds = began.elapsed().as_secs();
        println!("power cut {} of {cuts}: {how} ({seconds} s)", cut + 1);
    }
    let mut machine = site.boot();
    assert_ready(&mut machine, cuts);
    // As Fly checks it.
    for (port, path) in [(machine.health, "/readyz"), (machine.port, "/healthz")] {
        poll_until(BOOT, path, || match machine.get(port, path, "") {
            (200, _) => Ok(()),
            other => Err(other),
        });
    }
    assert_state_is_whole(&machine);
}

/// The real gateway is ready, at its first start in this boot; a config that was half written is put right meanwhile.
fn assert_ready(machine: &mut Machine, cuts: usize) {
    let log = machine.wait_until_ready(REAL_BOOT, 1);
    assert_came_up_at_once(&log, cuts);
    let took = field(&log, "gateway ready", "took").unwrap_or_default();
    println!("ready after {cuts} power cuts; the gateway took {took} by its own clock");
}
