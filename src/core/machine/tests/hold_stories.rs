//! Stories of what forbids a start, and how that ends.

use super::telling::{FOREVER, KILLED, holds, refused, tell, with_lives};
use super::world::{
    Answer, Config, FakeLock, FakeProcess, Life, LockOwner, Process, Seeding, Timeline, Volume,
    World,
};
use crate::core::action::{ConfigProblem, Ending, HoldWhy, Report, Stage};
use crate::core::exit_class::Refusal;
use crate::core::locks::{LockKind, LockVerdict, UnknownWhy};
use crate::core::time::Millis;
use crate::core::volume::VolumeProblem;

fn lock(owner: LockOwner) -> FakeLock {
    FakeLock {
        kind: LockKind::Gateway,
        owner,
        is_removable: true,
    }
}

fn process(what: Process, until: u64) -> FakeProcess {
    FakeProcess {
        what,
        from: 0,
        until,
    }
}

#[test]
fn stage_that_never_answers_holds_and_is_tried_again() {
    // Everything the first look asks, in its order.
    let stages = [
        Stage::Volume,
        Stage::Leftovers,
        Stage::EndingLeftovers,
        Stage::Leftovers,
        Stage::Locks,
        Stage::ClearingLocks,
        Stage::Config,
        Stage::Seeding,
        Stage::Config,
    ];
    for (index, stage) in stages.into_iter().enumerate() {
        let answers = [vec![Answer::After(2); index], vec![Answer::Never; 99]];
        let mut host = tell(World {
            answers: answers.concat(),
            answers_heal_at: 60_000,
            config: Timeline::of(Config::Missing),
            locks: vec![lock(LockOwner::Dead)],
            processes: vec![process(Process::Orphan, FOREVER)],
            ..World::default()
        });
        host.run_until_phase("held");
        assert_eq!(holds(&host), [HoldWhy::StageStuck(stage)]);
        assert!((20_000..20_100).contains(&host.now.0), "{stage:?}");
        host.run_until_phase("running");
        assert_eq!(host.spawns.len(), 1);
    }
}

#[test]
fn late_answers_are_dropped() {
    let answers = [vec![Answer::After(30_000)], vec![Answer::After(2); 99]];
    let mut host = tell(World {
        answers: answers.concat(),
        ..World::default()
    });
    host.run_until(60_000);
    assert_eq!(holds(&host), [HoldWhy::StageStuck(Stage::Volume)]);
    assert_eq!(host.spawns.len(), 1);
    let spawned = host.spawns[0].0;
    assert!(spawned < 26_000, "by the second look, not the late answer");
}

#[test]
fn young_lock_waits_and_then_starts() {
    let mut host = tell(World {
        locks: vec![lock(LockOwner::Nobody { written: 0 })],
        ..World::default()
    });
    host.run_until_phase("running");
    let verdict = LockVerdict::Unknown(UnknownWhy::Young);
    let path = "/data/gateway.0.lock".into();
    assert_eq!(holds(&host), [HoldWhy::Lock { path, verdict }]);
    let started = host.spawns[0].0;
    assert!((30_000..36_000).contains(&started), "{started}");
    assert_eq!(host.world.locks[0].owner, LockOwner::Gone);
}

#[test]
fn a_lock_whose_owner_lives_is_left_alone_until_it_ends() {
    let mut host = tell(World {
        locks: vec![lock(LockOwner::AliveUntil(60_000))],
        ..World::default()
    });
    host.run_until(59_000);
    assert_eq!((host.spawns.len(), holds(&host).len()), (0, 1));
    host.run_until_phase("running");
    assert!(host.spawns[0].0 < 66_000);
}

#[test]
fn live_gateway_is_left_alone_and_awaited() {
    let mut host = tell(World {
        processes: vec![process(Process::LiveGateway, 60_000)],
        ..World::default()
    });
    host.run_until(59_000);
    assert!(matches!(
        holds(&host)[..],
        [HoldWhy::LiveGateway { pid: 9_000, .. }]
    ));
    assert_eq!(host.spawns.len(), 0);
    host.run_until_phase("running");
    assert!(host.spawns[0].0 < 66_000);
}

#[test]
fn a_stranger_on_the_port_is_awaited() {
    let mut host = tell(World {
        processes: vec![process(Process::Stranger, 60_000)],
        ..World::default()
    });
    host.run_until_phase("running");
    assert!(matches!(holds(&host)[..], [HoldWhy::PortTaken { .. }]));
    assert!((60_000..66_000).contains(&host.spawns[0].0));
}

#[test]
fn an_orphan_is_ended_before_anything_starts() {
    let mut host = tell(World {
        processes: vec![process(Process::Orphan, FOREVER)],
        ..World::default()
    });
    host.run_until_phase("running");
    assert_eq!(holds(&host), []);
    assert!(host.world.processes[0].until < host.spawns[0].0);
}

#[test]
fn a_leftover_that_survives_or_comes_back_holds_and_which_of_the_two_is_said() {
    let survives = HoldWhy::LeftoversSurvive(vec![9_000]);
    let returns = HoldWhy::LeftoversReturn {
        name: "node".to_owned(),
    };
    for (what, why) in [(Process::Unkillable, survives), (Process::Undying, returns)] {
        let mut host = tell(World {
            processes: vec![process(what, 60_000)],
            ..World::default()
        });
        host.run_until(59_000);
        assert_eq!(holds(&host), [why], "{what:?}");
        host.run_until_phase("running");
    }
}

#[test]
fn helpers_that_survive_hold_the_next_start() {
    let mut host = with_lives(vec![Life {
        helpers: 3,
        helpers_survive: true,
        ..Life::ending(10_000, KILLED)
    }]);
    host.run_until_phase("held");
    assert_eq!(holds(&host), [HoldWhy::LeftoversSurvive(vec![7_000])]);
    let three_ended = |it: &Report| matches!(it, Report::TreeEnded { ended: 3, .. });
    assert_eq!(host.said(three_ended), 1);
    host.run_until_phase("running");
}

#[test]
fn each_fault_of_the_volume_holds_with_its_own_word_and_ends_with_it() {
    let after = Millis(5_000);
    for (state, why) in [
        (Volume::ReadOnly, HoldWhy::Volume(VolumeProblem::ReadOnly)),
        (Volume::Hung, HoldWhy::Volume(VolumeProblem::Hung { after })),
        (
            Volume::NoInstanceLock,
            HoldWhy::InstanceLock("EROFS".into()),
        ),
    ] {
        let mut host = tell(World {
            volume: Timeline::of(state).then(60_000, Volume::Good),
            ..World::default()
        });
        host.run_until_phase("running");
        assert_eq!(holds(&host), [why]);
        assert!((60_000..60_300).contains(&host.spawns[0].0), "{state:?}");
    }
}

#[test]
fn beside_another_clawkeeper_this_one_ends_and_touches_nothing() {
    let mut host = tell(World {
        volume: Timeline::of(Volume::Theirs),
        processes: vec![process(Process::Orphan, FOREVER)],
        locks: vec![lock(LockOwner::Dead)],
        ..World::default()
    });
    host.run_until(60_000);
    assert_eq!(host.ending.map(|it| it.1), Some(Ending::AlreadyRunning));
    assert_eq!(host.spawns.len(), 0);
    assert_eq!(host.world.locks[0].owner, LockOwner::Dead);
    assert_eq!(host.world.processes[0].until, FOREVER);
}

#[test]
fn a_broken_config_holds_and_its_repair_starts_the_gateway() {
    let mut host = tell(World {
        config: Timeline::of(Config::Broken).then(60_000, Config::Good),
        ..World::default()
    });
    host.run_until_phase("running");
    assert_eq!(holds(&host).len(), 1);
    assert!((60_000..60_300).contains(&host.spawns[0].0));
}

#[test]
fn a_missing_config_is_seeded_and_holds_when_that_is_of_no_use() {
    for (seeding, starts) in [
        (Seeding::Works, 1),
        (Seeding::Fails, 0),
        (Seeding::Vanishes, 0),
    ] {
        let mut host = tell(World {
            config: Timeline::of(Config::Missing),
            seeding,
            ..World::default()
        });
        host.run_until(10_000);
        assert_eq!(host.spawns.len(), starts, "{seeding:?}");
        let is_held = holds(&host).iter().any(|why| {
            matches!(
                why,
                HoldWhy::Config {
                    path,
                    problem: ConfigProblem::SeedFailed(_),
                } if path.is_absolute()
            )
        });
        assert_eq!(is_held, starts == 0, "{seeding:?}");
    }
}

#[test]
fn what_stays_as_it_is_is_not_said_at_each_retry() {
    let stuck = FakeLock {
        is_removable: false,
        ..lock(LockOwner::Dead)
    };
    let mut host = tell(World {
        lives: vec![refused(Refusal::AlreadyRunning); 100],
        locks: vec![lock(LockOwner::Special), stuck],
        ..World::default()
    });
    host.run_until(3_600_000);
    assert!(host.spawns.len() > 50);
    assert_eq!(host.said(|it| matches!(it, Report::LockLeft { .. })), 1);
    assert_eq!(host.said(|it| matches!(it, Report::LockCleared { .. })), 0);
    let not_cleared = |it: &Report| matches!(it, Report::LockNotCleared { .. });
    assert_eq!(host.said(not_cleared), 1);

    let mut host = tell(World {
        processes: vec![process(Process::Unkillable, FOREVER)],
        ..World::default()
    });
    host.run_until(3_600_000);
    let found = |it: &Report| matches!(it, Report::LeftoverFound { .. });
    assert_eq!(host.said(found), 1);
}
