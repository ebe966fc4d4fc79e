//! Stories of a gateway that uses more and more memory.

use super::fake_host::{FakeHost, POLICY};
use super::telling::{classes, gaps, with_lives};
use super::world::{Life, Memory, OnTerm, World};
use crate::core::action::{Ending, Report};
use crate::core::event::Request;
use crate::core::exit_class::{ExitClass, StopCause};
use crate::core::machine::Policy;
use crate::core::memory::{HeapBounds, Kib, MemoryPolicy};

const HOUR: u64 = 3_600_000;

fn leaking(pace: u32) -> Life {
    Life {
        memory: Memory::Leaks(pace),
        ..Life::HEALTHY
    }
}

fn memory_restarts(host: &FakeHost) -> usize {
    host.said(|it| matches!(it, Report::MemoryRestart(_)))
}

#[test]
fn a_leak_ends_in_a_drained_restart_that_is_no_crash() {
    let mut host = with_lives(vec![leaking(4)]);
    host.run_until(HOUR);
    assert_eq!(classes(&host), [ExitClass::Requested(StopCause::Memory)]);
    assert_eq!(host.spawns.len(), 2);
    assert_eq!(host.said(|it| matches!(it, Report::BackingOff { .. })), 0);
    assert_eq!(host.said(|it| matches!(it, Report::MemoryShort { .. })), 1);
    let healthy_at = 700 + 4 * gaps(&host)[0] / 1_000;
    assert!((1_840..2_000).contains(&healthy_at), "{healthy_at} MB");
}

#[test]
fn when_the_restarts_of_an_hour_are_used_up_it_says_so_once_and_the_kernel_decides() {
    let mut host = with_lives(vec![leaking(4); 40]);
    host.run_until(HOUR);
    assert_eq!(memory_restarts(&host), 2);
    assert_eq!(
        host.said(|it| matches!(it, Report::MemoryRestartsSpent { restarts: 2, .. })),
        1
    );
    let killed = classes(&host)
        .into_iter()
        .filter(|it| *it == ExitClass::Signal { signal: 9 });
    assert!(killed.count() >= 2);
    host.run_until(2 * HOUR);
    assert_eq!(memory_restarts(&host), 4, "another hour, another budget");
}

#[test]
fn told_not_to_restart_for_memory_it_only_warns() {
    let memory = MemoryPolicy {
        restarts_per_hour: None,
        ..POLICY.memory
    };
    let world = World {
        lives: vec![leaking(4)],
        ..World::default()
    };
    let mut host = FakeHost::new(Policy { memory, ..POLICY }, world);
    host.run_until(HOUR);
    assert_eq!(memory_restarts(&host), 0);
    let promises = |promised| {
        host.said(
            |it| matches!(it, Report::MemoryShort { may_restart, .. } if *may_restart == promised),
        )
    };
    assert_eq!((promises(false), promises(true)), (1, 0));
    assert_eq!(classes(&host), [ExitClass::Signal { signal: 9 }]);
}

#[test]
fn a_leak_that_a_small_heap_is_filled_by_is_given_the_heap_that_fits_and_not_a_larger_machine() {
    let heap = HeapBounds {
        size: Some(Kib::of_mb(800)),
        fits: Some(Kib::of_mb(1_337)),
        beside: Kib::of_mb(300),
        beside_at_most: Kib::of_mb(546),
    };
    let advised = |heap| {
        let memory = MemoryPolicy {
            restarts_per_hour: None,
            heap,
            ..POLICY.memory
        };
        let policy = Policy {
            memory,
            how_to_grow: "grow".into(),
            how_to_fit_heap: "fit".into(),
            ..POLICY
        };
        let world = World {
            lives: vec![leaking(1)],
            ..World::default()
        };
        let mut host = FakeHost::new(policy, world);
        host.run_until(HOUR);
        let told = host.reports.iter().find_map(|(_, it)| {
            if let Report::MemoryShort { how_to_grow, .. } = it {
                Some(how_to_grow.clone())
            } else {
                None
            }
        });
        told.expect("it is warned of")
    };
    assert_eq!(advised(heap), "fit");
    assert_eq!(advised(HeapBounds::default()), "grow");
}

#[test]
fn a_stop_during_the_drain_of_a_memory_restart_takes_it_over() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..leaking(4)
    }]);
    host.run_until_phase("stopping");
    assert_eq!(memory_restarts(&host), 1);
    host.signal(host.now.0 + 1_000, Request::Stop);
    host.run_until(HOUR);
    assert_eq!(host.ending.map(|(_, ending)| ending), Some(Ending::Stopped));
    assert_eq!(classes(&host), [ExitClass::Requested(StopCause::Shutdown)]);
    assert_eq!(host.spawns.len(), 1);
}

#[test]
fn a_gateway_that_hangs_while_it_is_drained_for_memory_is_killed_after_the_stop_timeout() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Ignores,
        // Slow enough that the kernel does not end it first.
        ..leaking(1)
    }]);
    host.run_until_phase("stopping");
    let asked = host.now.0;
    host.run_until_phase("running");
    assert_eq!(host.said(|it| *it == Report::Killing), 1);
    assert!(host.spawns[1].0 >= asked + POLICY.stop_timeout.0);
    assert_eq!(classes(&host), [ExitClass::Requested(StopCause::Memory)]);
}

#[test]
fn memory_is_looked_at_during_a_start_and_a_drain_and_nothing_is_done_about_it() {
    let mut host = with_lives(vec![Life {
        ready_after: Some(100_000),
        works_until: 100_000,
        ..leaking(13)
    }]);
    host.run_until(103_000);
    assert_eq!(memory_restarts(&host), 0);
    let last = host.core.memory().series().last().expect("it looked");
    assert!(last.available.mb() < 60, "{last:?}");
}
