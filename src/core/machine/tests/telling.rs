//! What the stories are told with.

use super::fake_host::{FakeHost, POLICY};
use super::world::{Life, World};
use crate::core::action::{HoldWhy, Report};
use crate::core::exit_class::{ExitClass, ExitStatus, Marker, Refusal};

pub(super) const KILLED: ExitStatus = ExitStatus::Signal(9);
pub(super) const FOREVER: u64 = u64::MAX;

pub(super) fn tell(world: World) -> FakeHost {
    FakeHost::new(POLICY, world)
}

pub(super) fn with_lives(lives: Vec<Life>) -> FakeHost {
    tell(World {
        lives,
        ..World::default()
    })
}

pub(super) fn refused(refusal: Refusal) -> Life {
    Life {
        says: vec![(100, Marker::Refusal(refusal))],
        ready_after: None,
        ..Life::ending(500, ExitStatus::Code(78))
    }
}

pub(super) fn holds(host: &FakeHost) -> Vec<HoldWhy> {
    let held = host.reports.iter().filter_map(|(_, report)| {
        if let Report::Held(why) = report {
            Some(why.clone())
        } else {
            None
        }
    });
    held.collect()
}

pub(super) fn classes(host: &FakeHost) -> Vec<ExitClass> {
    let exits = host.reports.iter().filter_map(|(_, report)| {
        if let Report::Exited { class, .. } = report {
            Some(class.clone())
        } else {
            None
        }
    });
    exits.collect()
}

/// Times between the spawns, in milliseconds.
pub(super) fn gaps(host: &FakeHost) -> Vec<u64> {
    let pairs = host.spawns.windows(2);
    pairs.map(|pair| pair[1].since(pair[0]).0).collect()
}
