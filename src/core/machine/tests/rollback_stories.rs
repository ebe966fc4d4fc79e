//! Stories of a config that the gateway refused, and of the last good one in its place.

use super::fake_host::{FakeHost, POLICY};
use super::telling::refused;
use super::world::{Config, Timeline, Volume, World};
use crate::core::action::Report;
use crate::core::control::Op;
use crate::core::exit_class::Refusal;
use crate::core::machine::Policy;

/// What happens between the gateway's refusal of its config and the next look at it.
fn refused_then(volume: Timeline<Volume>, config: Timeline<Config>) -> FakeHost {
    let policy = Policy {
        roll_back: true,
        ..POLICY
    };
    let world = World {
        lives: vec![refused(Refusal::InvalidConfig)],
        volume,
        config,
        ..World::default()
    };
    FakeHost::new(policy, world)
}

#[test]
fn a_config_that_the_gateway_refused_is_rolled_back_once() {
    let mut host = refused_then(Timeline::of(Volume::Good), Timeline::of(Config::Good));
    host.run_until_phase("running");
    assert_eq!(
        host.said(|it| matches!(it, Report::RolledBack { .. })),
        1,
        "{:?}",
        host.reports
    );
}

#[test]
fn a_config_that_was_mended_while_something_else_held_is_not_rolled_back() {
    let volume = Timeline::of(Volume::Good)
        .then(400, Volume::ReadOnly)
        .then(60_000, Volume::Good);
    let config = Timeline::of(Config::Good).then(30_000, Config::Edited);
    let mut host = refused_then(volume, config);
    host.run_until_phase("running");
    let rolled_back = |it: &Report| matches!(it, Report::RolledBack { .. });
    assert_eq!(host.said(rolled_back), 0, "{:?}", host.reports);
}

#[test]
fn a_config_that_was_mended_in_a_pause_is_not_rolled_back() {
    let config = Timeline::of(Config::Good).then(30_000, Config::Edited);
    let mut host = refused_then(Timeline::of(Volume::Good), config);
    host.run_until_phase("classifying");
    host.run_until_phase("preflight");
    host.request(host.now.0, Op::Pause { limit: None });
    host.request(60_000, Op::Resume);
    host.run_until_phase("running");
    let rolled_back = |it: &Report| matches!(it, Report::RolledBack { .. });
    assert_eq!(host.said(rolled_back), 0, "{:?}", host.reports);
}

#[test]
fn a_config_that_was_refused_before_a_hold_and_is_still_bad_is_rolled_back_after_it() {
    let volume = Timeline::of(Volume::Good)
        .then(400, Volume::ReadOnly)
        .then(60_000, Volume::Good);
    let mut host = refused_then(volume, Timeline::of(Config::Good));
    host.world.lives.push(refused(Refusal::InvalidConfig));
    host.run_until_phase("running");
    let rolled_back = |it: &Report| matches!(it, Report::RolledBack { .. });
    assert_eq!(host.said(rolled_back), 1, "{:?}", host.reports);
}
