//! Stories of time that passes while nobody runs, neither clawkeeper nor the gateway.

use super::fake_host::FakeHost;
use super::telling::{classes, with_lives};
use super::world::{Life, OnTerm};
use crate::core::action::Action;
use crate::core::event::{Event, Request};
use crate::core::exit_class::ExitClass;
use crate::core::time::Mono;

const HOUR: u64 = 3_600_000;

/// Nothing happens for an hour, to nobody: what was to come comes then.
fn freeze(host: &mut FakeHost) {
    host.now = Mono(host.now.0 + HOUR);
}

#[test]
fn a_gateway_that_answered_nothing_before_the_freeze_has_the_rest_of_its_time_after_it() {
    let mut host = with_lives(vec![Life {
        deaf: Some((17_000, HOUR + 40_000)),
        ..Life::HEALTHY
    }]);
    host.run_until(25_000);
    assert!(host.is_probe_out);
    freeze(&mut host);
    host.run_until(host.now.0 + 600_000);
    assert_eq!(classes(&host), []);
    assert!(host.core.is_at_rest());
}

#[test]
fn a_start_that_was_frozen_is_not_given_up_for_that() {
    for frozen_at in [1_000, 60_000, 119_000] {
        let mut host = with_lives(vec![Life {
            ready_after: Some(HOUR + 200_000),
            works_until: HOUR + 200_000,
            ..Life::HEALTHY
        }]);
        host.run_until(frozen_at);
        freeze(&mut host);
        host.run_until_phase("running");
        assert_eq!(classes(&host), [] as [ExitClass; 0], "at {frozen_at}");
    }
}

#[test]
fn a_drain_that_was_frozen_has_the_rest_of_its_time_after_it() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Ignores,
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    host.signal(10_000, Request::Stop);
    host.run_until(20_000);
    freeze(&mut host);
    let woken = host.core.step(host.now, Event::DeadlinePassed);
    assert!(!woken.contains(&Action::Kill), "{woken:?}");
    let kill_at = host.core.next_deadline().expect("a deadline");
    assert!(kill_at <= Mono(host.now.0 + 21_000), "{kill_at:?}");
}
