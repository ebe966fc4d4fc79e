//! Stories of stopping.

use super::fake_host::{FakeHost, POLICY};
use super::telling::{FOREVER, KILLED, with_lives};
use super::world::{Answer, Config, Life, OnTerm, Timeline, World};
use crate::core::action::{Ending, Report};
use crate::core::event::{Request, SpawnFault};
use crate::core::exit_class::{ExitClass, StopCause};

fn stubborn() -> Life {
    Life {
        on_term: OnTerm::Ignores,
        ..Life::HEALTHY
    }
}

/// The stop at the present moment, and how it ended: how long it took, and with what.
fn stop(host: &mut FakeHost) -> (u64, Ending) {
    let asked = host.now;
    host.signal(asked.0, Request::Stop);
    host.run_until(asked.0 + 3_600_000);
    let (at, ending) = host.ending.expect("it ends");
    (at.since(asked).0, ending)
}

#[test]
fn term_while_running_drains_and_ends() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let (took, ending) = stop(&mut host);
    assert_eq!(ending, Ending::Stopped);
    assert!((20_000..20_100).contains(&took), "{took}");
}

#[test]
fn a_stop_lets_go_of_the_watch_while_the_gateway_drains() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    assert!(host.is_watching);
    let asked = host.now.0;
    host.signal(asked, Request::Stop);
    host.run_until(asked + 1);
    assert!(host.ending.is_none() && !host.is_watching);
    stop(&mut host);
    assert!(!host.is_watching);
}

#[test]
fn a_gateway_that_ignores_term_is_killed_after_the_stop_timeout() {
    let mut host = with_lives(vec![stubborn()]);
    host.run_until_phase("running");
    let (took, ending) = stop(&mut host);
    assert_eq!(ending, Ending::StopForced);
    assert!((30_000..30_100).contains(&took), "{took}");
    assert_eq!(host.said(|it| *it == Report::Killing), 1);
}

#[test]
fn term_in_any_phase_without_a_gateway_ends_at_once_and_spawns_nothing() {
    let broken = World {
        config: Timeline::of(Config::Broken),
        ..World::default()
    };
    let slow = World {
        answers: vec![Answer::After(1_000)],
        ..World::default()
    };
    let crashing = World {
        lives: vec![Life::ending(100, KILLED); 9],
        ..World::default()
    };
    for (phase, world) in [
        ("new", World::default()),
        ("preflight", slow),
        ("held", broken),
        ("backoff", crashing),
    ] {
        let mut host = FakeHost::new(POLICY, world);
        host.run_until_phase(phase);
        let spawned = host.spawns.len();
        let (took, ending) = stop(&mut host);
        assert_eq!(ending, Ending::Stopped, "{phase}");
        assert!(took <= 1_000, "{took} in {phase}");
        assert_eq!(host.spawns.len(), spawned, "{phase}");
    }
}

#[test]
fn term_during_backoff_exits_without_spawning() {
    let mut host = with_lives(vec![Life::ending(100, KILLED); 9]);
    host.run_until_phase("backoff");
    let spawned = host.spawns.len();
    assert_eq!(stop(&mut host).1, Ending::Stopped);
    assert_eq!(host.spawns.len(), spawned);
}

#[test]
fn term_while_an_exit_is_being_classified_ends_and_still_reports_the_exit() {
    let mut host = with_lives(vec![Life::ending(5_000, KILLED)]);
    host.run_until_phase("classifying");
    let (took, ending) = stop(&mut host);
    assert_eq!((ending, host.spawns.len()), (Ending::Stopped, 1));
    assert!(took < 100, "{took}");
    assert_eq!(host.said(|it| matches!(it, Report::Exited { .. })), 1);
}

#[test]
fn term_during_a_spawn_waits_for_its_answer_and_then_stops() {
    for fault in [None, Some(SpawnFault::Command)] {
        let life = Life {
            fault,
            ..Life::HEALTHY
        };
        let world = World {
            lives: vec![life],
            spawn_takes: 1_000,
            ..World::default()
        };
        let mut host = FakeHost::new(POLICY, world);
        host.run_until(500);
        let (took, ending) = stop(&mut host);
        assert_eq!((ending, host.spawns.len()), (Ending::Stopped, 1));
        assert!(took < 1_000, "{took}, {fault:?}");
    }
}

#[test]
fn second_signal_shortens_third_kills() {
    for (signals, expected) in [(1, 30_000), (2, 4_000), (3, 2_000)] {
        let mut host = with_lives(vec![stubborn()]);
        host.run_until_phase("running");
        for again in 1..signals {
            host.signal(host.now.0 + again * 1_000, Request::Stop);
        }
        let (took, ending) = stop(&mut host);
        assert_eq!(ending, Ending::StopForced);
        assert!(
            (expected..expected + 100).contains(&took),
            "{signals}: {took}"
        );
    }
}

#[test]
fn a_signal_twice_within_half_a_second_is_one() {
    let mut host = with_lives(vec![stubborn()]);
    host.run_until_phase("running");
    for delay in [0, 100, 499] {
        host.signal(host.now.0 + delay, Request::Stop);
    }
    let (took, _) = stop(&mut host);
    assert!((30_000..30_100).contains(&took), "{took}");
    assert_eq!(
        host.said(|it| matches!(it, Report::StopShortened { .. })),
        0
    );
}

#[test]
fn term_during_a_restart_takes_it_over_and_nothing_starts_again() {
    let mut host = with_lives(vec![Life {
        deaf: Some((10_000, FOREVER)),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("stopping");
    let (took, ending) = stop(&mut host);
    assert_eq!((ending, host.spawns.len()), (Ending::StopForced, 1));
    assert!(took < 10_100, "the short grace stays: {took}");
    let is_shutdown = |it: &Report| matches!(it, Report::Exited { class: ExitClass::Requested(cause), .. } if *cause == StopCause::Shutdown);
    assert_eq!(host.said(is_shutdown), 1);
}

#[test]
fn a_gateway_that_not_even_sigkill_ends_is_asked_again_and_never_doubled() {
    let mut host = with_lives(vec![Life {
        deaf: Some((10_000, FOREVER)),
        dies_of_kill_in: None,
        ..Life::HEALTHY
    }]);
    host.run_until(7_200_000);
    assert_eq!(host.core.phase_word(), "stopping");
    assert_eq!((host.spawns.len(), host.alive()), (1, 1));
    assert_eq!(host.said(|it| *it == Report::Killing), 1, "said once");
}

#[test]
fn a_tree_that_never_answers_does_not_keep_clawkeeper() {
    let mut host = FakeHost::new(
        POLICY,
        World {
            answers: [vec![Answer::After(2); 4], vec![Answer::Never; 99]].concat(),
            ..World::default()
        },
    );
    host.run_until_phase("running");
    let (took, ending) = stop(&mut host);
    assert_eq!(ending, Ending::Stopped);
    assert!(took < 15_200, "{took}");
}
