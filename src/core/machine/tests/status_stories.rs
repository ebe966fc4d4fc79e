//! What is told of the machine is so, in every phase.

use super::fake_host::FakeHost;
use super::telling::{FOREVER, KILLED, refused, tell, with_lives};
use super::world::{Answer, Config, FakeProcess, Life, Process, Timeline, Volume, World};
use crate::core::action::{HoldWhy, Stage};
use crate::core::event::{Attempt, Request};
use crate::core::exit_class::{ExitClass, ExitStatus, Marker, Refusal, StopCause};
use crate::core::status::{PHASES, RestartClass, Status};
use crate::core::time::{Millis, Mono};
use crate::core::volume::VolumeProblem;

fn status(host: &FakeHost) -> Status {
    let status = host.core.status(host.now);
    assert!(PHASES.contains(&status.phase));
    assert_eq!(status.uptime, host.now.since(Mono(0)));
    assert_eq!(status.starts, host.spawns.len() as u64);
    assert_eq!(status.is_ready(), host.core.is_at_rest());
    status
}

fn restarts(status: &Status, class: RestartClass) -> u64 {
    status.restarts[class.position().expect("a start can follow it")]
}

#[test]
fn a_new_machine_knows_nothing_yet() {
    let host = tell(World::default());
    let told = status(&host);
    assert_eq!((told.phase, told.phase_for), ("new", Millis(0)));
    assert_eq!((told.gateway, told.last_exit), (None, None));
    assert_eq!((told.config_usable, told.volume), (None, None));
}

#[test]
fn a_preflight_names_its_step_and_since_when() {
    let mut host = tell(World {
        answers: vec![Answer::After(2), Answer::After(2), Answer::Never],
        ..World::default()
    });
    host.run_until(5_000);
    let told = status(&host);
    assert_eq!((told.phase, told.stage), ("preflight", Some(Stage::Locks)));
    assert_eq!(told.phase_for, Millis(5_000), "since the preflight began");
    assert_eq!(told.attempt, Attempt(1));
    assert_eq!(
        told.volume.and_then(|it| it.write_took),
        Some(Millis(1)),
        "proved before the locks were looked at"
    );
}

#[test]
fn a_hold_is_told_with_its_reason_through_its_retries_until_a_gateway_is_started() {
    let mut host = tell(World {
        volume: Timeline::of(Volume::ReadOnly).then(31_000, Volume::Good),
        ..World::default()
    });
    host.run_until_phase("held");
    let first = host.now;
    let why = HoldWhy::Volume(VolumeProblem::ReadOnly);
    host.run_until(30_000);
    let told = status(&host);
    let hold = told.hold.clone().expect("it holds");
    assert_eq!(
        (hold.why, hold.held_for),
        (why.clone(), host.now.since(first))
    );
    assert!(
        told.phase_for <= Millis(5_010),
        "the phase is the retry's own"
    );
    assert!(told.attempt > Attempt(5));
    assert!(told.next_look_in.is_some_and(|wait| wait <= Millis(5_000)));
    assert_eq!(told.volume.and_then(|it| it.write_took), None);
    assert!(!told.is_ready());
    host.run_until_phase("preflight");
    assert_eq!(status(&host).hold.map(|it| it.why), Some(why));
    host.run_until_phase("starting");
    assert_eq!(status(&host).hold, None);
}

#[test]
fn a_start_and_a_run_are_told_with_the_gateways_process() {
    let mut host = with_lives(vec![Life {
        says: vec![(500, Marker::Ready)],
        ..Life::HEALTHY
    }]);
    host.run_until_phase("starting");
    host.run_until(2_000);
    let told = status(&host);
    let gateway = told.gateway.expect("it runs");
    assert_eq!((gateway.pid, gateway.ready_for), (100, None));
    assert_eq!(gateway.up_for, host.now.since(host.spawns[0]));
    assert!(gateway.waits_for.is_some(), "in the gateway's own word");
    host.run_until_phase("running");
    let ready = host.now;
    host.run_until(60_000);
    let told = status(&host);
    let gateway = told.gateway.clone().expect("it runs");
    assert!(told.is_ready());
    assert_eq!(gateway.ready_for, Some(host.now.since(ready)));
    assert_eq!((gateway.waits_for, gateway.silent_for), (None, None));
    assert_eq!(gateway.probe_took, Some(Millis(1)));
    assert_eq!(told.config_usable, Some(true));
    assert!(told.memory.is_some());
}

#[test]
fn a_gateway_that_runs_and_answers_nothing_is_not_ready() {
    let mut host = with_lives(vec![Life {
        deaf: Some((20_000, 55_000)),
        ..Life::HEALTHY
    }]);
    host.run_until(45_000);
    let told = status(&host);
    assert_eq!(told.phase, "running");
    assert!(!told.is_ready());
    let silent = told.gateway.and_then(|it| it.silent_for);
    assert!(silent.is_some_and(|it| it > Millis(5_000)), "{silent:?}");
    host.run_until(75_000);
    assert!(status(&host).is_ready(), "it answers again");
}

#[test]
fn restarts_are_counted_by_the_class_of_the_exit_before_them_and_never_less() {
    let mut host = with_lives(vec![
        Life::ending(5_000, ExitStatus::Code(1)),
        Life::ending(5_000, KILLED),
        Life::ending(5_000, KILLED),
        Life {
            deaf: Some((20_000, FOREVER)),
            ..Life::HEALTHY
        },
    ]);
    let mut before = 0;
    for at in 0..200 {
        host.run_until(at * 1_000);
        let all = status(&host).restarts.iter().sum();
        assert!(all >= before && all + 1 >= status(&host).starts);
        before = all;
    }
    let told = status(&host);
    assert_eq!(restarts(&told, RestartClass::Crash), 1);
    assert_eq!(restarts(&told, RestartClass::Signal), 2);
    let hung = RestartClass::Requested(StopCause::Hung);
    assert_eq!(restarts(&told, hung), 1);
    let last = told.last_exit.expect("four have ended");
    assert_eq!(last.class, ExitClass::Requested(StopCause::Hung));
    assert_eq!(last.status, KILLED);
}

#[test]
fn a_back_off_tells_how_it_ended_and_when_the_next_start_is_due() {
    let crash = || Life::ending(5_000, ExitStatus::Code(7));
    let mut host = with_lives(vec![crash(), crash()]);
    host.run_until_phase("backoff");
    let told = status(&host);
    let last = told.last_exit.expect("it crashed");
    assert_eq!(last.class, ExitClass::Crash { code: 7 });
    assert_eq!(last.after, Millis(5_000));
    assert_eq!((told.gateway, told.crashes), (None, 2));
    let wait = told.next_look_in.expect("a next start");
    assert!((750..=1_000).contains(&wait.0), "{wait}");
}

#[test]
fn a_refusal_is_told_as_hold_and_as_exit() {
    let mut host = with_lives(vec![refused(Refusal::UnknownKey)]);
    host.run_until_phase("held");
    let told = status(&host);
    assert_eq!(told.config_usable, Some(false), "our rules know no keys");
    let hold = told.hold.map(|it| it.why);
    assert_eq!(hold, Some(HoldWhy::Refused(Refusal::UnknownKey)));
    let last = told.last_exit.map(|it| it.class);
    assert_eq!(last, Some(ExitClass::Refused(Refusal::UnknownKey)));
}

#[test]
fn a_broken_config_is_told_until_it_was_seen_mended() {
    let mut host = tell(World {
        config: Timeline::of(Config::Broken).then(100_000, Config::Good),
        ..World::default()
    });
    host.run_until_phase("held");
    assert_eq!(status(&host).config_usable, Some(false));
    host.run_until_phase("running");
    assert_eq!(status(&host).config_usable, Some(true));
}

#[test]
fn a_stop_is_told_with_its_cause_and_then_nothing_runs() {
    let mut host = with_lives(vec![]);
    host.run_until_phase("running");
    host.signal(host.now.0 + 1, Request::Stop);
    host.run_until_phase("stopping");
    let told = status(&host);
    assert_eq!(told.stopping, Some(StopCause::Shutdown));
    assert!(told.gateway.is_some() && !told.is_ready());
    host.run_until(host.now.0 + 10_000);
    let told = status(&host);
    assert_eq!((told.phase, told.gateway), ("exited", None));
    assert_eq!(told.restarts.iter().sum::<u64>(), 0);
}

#[test]
fn channels_that_the_crash_breaker_left_off_are_told_until_they_are_back() {
    let mut host = with_lives(vec![Life {
        says: vec![(1_000, Marker::BreakerTripped)],
        ..Life::HEALTHY
    }]);
    let suppressed = |host: &FakeHost| status(host).gateway.map(|it| it.channels_suppressed);
    host.run_until(500);
    assert_eq!(suppressed(&host), Some(false));
    host.run_until(15_000);
    assert_eq!(suppressed(&host), Some(true));
    assert!(
        status(&host).is_ready(),
        "it serves the Control UI all the same"
    );
    host.run_until(30_000);
    assert_eq!(suppressed(&host), Some(false), "they were started");
}

#[test]
fn a_strangers_gateway_is_told_as_what_it_is() {
    let mut host = tell(World {
        processes: vec![FakeProcess {
            what: Process::LiveGateway,
            from: 0,
            until: FOREVER,
        }],
        ..World::default()
    });
    host.run_until_phase("held");
    let hold = status(&host).hold.map(|it| it.why);
    assert!(matches!(
        hold,
        Some(HoldWhy::LiveGateway { pid: 9_000, .. })
    ));
}
