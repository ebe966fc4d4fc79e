//! Stories of starting, crashing and hanging.

use super::fake_host::{FakeHost, POLICY};
use super::telling::{FOREVER, KILLED, classes, gaps, holds, refused, with_lives};
use super::world::{Config, Life, Memory, Newest, OnEdit, Timeline, World};
use crate::core::action::{HoldWhy, Report};
use crate::core::event::{Event, SpawnFault};
use crate::core::exit_class::{ExitClass, ExitStatus, Marker, Refusal, StopCause};
use crate::core::reload::Told;

#[test]
fn a_good_world_is_served_and_little_is_said() {
    let mut host = with_lives(vec![]);
    host.run_until(3_600_000);
    assert!(host.core.is_at_rest());
    assert_eq!(
        host.reports.len(),
        2,
        "started and ready, then an hour of nothing"
    );
}

#[test]
fn a_start_of_four_minutes_with_progress_becomes_ready() {
    let mut host = with_lives(vec![Life {
        ready_after: Some(240_000),
        works_until: 240_000,
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    assert!((240_000..245_000).contains(&host.now.0), "{}", host.now.0);
    assert_eq!(host.spawns.len(), 1);
    let told = host.said(|it| matches!(it, Report::StillStarting { .. }));
    assert!(told >= 3, "once a minute, not {told} times");
}

#[test]
fn a_start_without_progress_is_restarted_after_the_timeout() {
    let mut host = with_lives(vec![Life {
        ready_after: None,
        works_until: 20_000,
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    assert_eq!(
        classes(&host),
        [ExitClass::Requested(StopCause::StartTimeout)]
    );
    let gap = gaps(&host)[0];
    assert!((140_000..143_000).contains(&gap), "{gap}");
}

#[test]
fn a_start_that_only_ever_makes_progress_is_given_up_after_four_timeouts() {
    let mut host = with_lives(vec![Life {
        ready_after: None,
        works_until: FOREVER,
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let gap = gaps(&host)[0];
    assert!((480_000..483_000).contains(&gap), "{gap}");
}

#[test]
fn a_start_that_only_reads_its_program_over_and_over_says_so_at_each_step_and_when_it_is_given_up()
{
    let mut host = with_lives(vec![Life {
        ready_after: None,
        works_until: FOREVER,
        memory: Memory::Thrashes(40),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let short = |report: &Report| {
        if let Report::StillStarting { short, .. } | Report::Stopping { short, .. } = report {
            Some(short.as_ref().map_or(0, |it| it.faults_per_s))
        } else {
            None
        }
    };
    let told: Vec<u64> = host.reports.iter().filter_map(|it| short(&it.1)).collect();
    assert_eq!(told.len(), 8, "seven minutes, and the end: {told:?}");
    assert!(told.iter().all(|it| (39..=40).contains(it)), "{told:?}");
    let grows = |report: &Report| matches!(report, Report::Exited { memory, .. } if memory.advice.is_some());
    assert_eq!(host.said(grows), 1);
}

#[test]
fn a_slow_start_with_memory_to_spare_is_not_blamed_on_memory() {
    let mut host = with_lives(vec![Life {
        ready_after: Some(240_000),
        works_until: 240_000,
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let blamed = |report: &Report| matches!(report, Report::StillStarting { short: Some(_), .. });
    assert_eq!(host.said(blamed), 0);
}

#[test]
fn a_gateway_that_hangs_for_want_of_memory_is_told_with_that_reason() {
    let mut host = with_lives(vec![Life {
        deaf: Some((20_000, FOREVER)),
        memory: Memory::Thrashes(200),
        ..Life::HEALTHY
    }]);
    host.run_until(200_000);
    let hung = StopCause::Hung;
    for (count, what) in [
        (
            host.said(|it| matches!(it, Report::NotAnswering { short: Some(_), .. })),
            "silent",
        ),
        (
            host.said(
                |it| matches!(it, Report::Stopping { cause, short: Some(_), .. } if *cause == hung),
            ),
            "stopped",
        ),
        (
            host.said(|it| matches!(it, Report::Exited { memory, .. } if memory.advice.is_some())),
            "ended",
        ),
    ] {
        assert_eq!(count, 1, "{what}: {:?}", host.reports);
    }
}

#[test]
fn every_generation_of_gateways_becomes_ready() {
    for (answers_to, latest) in [
        (Newest::Startupz, 5_000),
        (Newest::Readyz, 5_000),
        (Newest::Healthz, 40_000),
    ] {
        let mut host = with_lives(vec![Life {
            answers_to,
            ..Life::HEALTHY
        }]);
        host.run_until_phase("running");
        assert!((3_000..latest).contains(&host.now.0), "{answers_to:?}");
    }
}

#[test]
fn five_crashes_in_a_minute_back_off_and_recover() {
    let mut host = with_lives(vec![Life::ending(1_000, KILLED); 5]);
    host.run_until_phase("running");
    let gaps = gaps(&host);
    assert!(gaps[0] < 1_100, "the first crash is followed at once");
    for (gap, step) in gaps[1..].iter().zip([1_000, 2_000, 4_000, 8_000]) {
        let delays = 1_000 + step - step / 4..1_100 + step;
        assert!(delays.contains(gap), "{gap} for {step}");
    }
    assert_eq!(classes(&host), vec![ExitClass::Signal { signal: 9 }; 5]);
}

#[test]
fn exit_zero_is_relaunched_at_once() {
    let mut host = with_lives(vec![Life::ending(60_000, ExitStatus::Code(0))]);
    host.run_until(90_000);
    assert!(gaps(&host)[0] < 60_100);
    assert_eq!(classes(&host), [ExitClass::Relaunch]);
    assert_eq!(host.said(|it| matches!(it, Report::BackingOff { .. })), 0);
}

#[test]
fn a_storm_of_exits_with_zero_is_paced() {
    let mut host = with_lives(vec![Life::ending(0, ExitStatus::Code(0)); 500]);
    host.run_until(60_000);
    assert!(host.spawns.len() < 20, "{} starts", host.spawns.len());
}

#[test]
fn hung_gateway_is_stopped_with_the_short_grace() {
    let mut host = with_lives(vec![Life {
        deaf: Some((100_000, FOREVER)),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("stopping");
    let asked = host.now;
    host.run_until_phase("classifying");
    assert!((10_000..10_100).contains(&host.now.since(asked).0));
    host.run_until_phase("running");
    assert_eq!(classes(&host), [ExitClass::Requested(StopCause::Hung)]);
}

#[test]
fn a_silence_shorter_than_the_timeout_is_told_and_forgiven() {
    let mut host = with_lives(vec![Life {
        deaf: Some((100_000, 165_000)),
        ..Life::HEALTHY
    }]);
    host.run_until(600_000);
    assert!(host.core.is_at_rest());
    assert_eq!(host.spawns.len(), 1);
    assert_eq!(host.said(|it| matches!(it, Report::NotAnswering { .. })), 1);
    assert_eq!(
        host.said(|it| matches!(it, Report::AnsweringAgain { .. })),
        1
    );
}

#[test]
fn channels_that_the_breaker_left_off_are_started_once_the_gateway_has_settled() {
    let mut host = with_lives(vec![Life {
        says: vec![(1_000, Marker::BreakerTripped)],
        ..Life::HEALTHY
    }]);
    host.run_until(60_000);
    let when = |matches: fn(&Report) -> bool| {
        let found = host.reports.iter().find(|(_, report)| matches(report));
        found.expect("it was said").0
    };
    let ready = when(|it| matches!(it, Report::Ready { .. }));
    let started = when(|it| matches!(it, Report::ChannelsStarted { .. }));
    assert!((20_000..20_100).contains(&started.since(ready).0));
}

#[test]
fn refusal_holds_once_and_retries_when_the_cause_changes() {
    let flag = Refusal::InvalidFlag;
    let mut host = with_lives(vec![refused(flag), refused(flag)]);
    host.run_until(400_000);
    assert_eq!(host.spawns.len(), 2, "the slow retry came once");
    assert_eq!(
        holds(&host),
        [HoldWhy::Refused(flag)],
        "and was not said again"
    );
    host.send(400_000, Event::CauseChanged);
    host.run_until(410_000);
    assert!(host.spawns[2].0 < 400_300, "at once, but for the debounce");
    assert_eq!(host.said(|it| matches!(it, Report::HoldOver { .. })), 1);
}

#[test]
fn permission_denied_mends_owners_once() {
    let denied = Refusal::PermissionDenied;
    let mut host = with_lives(vec![refused(denied), refused(denied)]);
    host.run_until_phase("held");
    assert_eq!((host.mends, host.spawns.len()), (1, 2));
    assert!(gaps(&host)[0] < 600, "mending does not wait");
    host.run_until_phase("running");
    assert_eq!(host.mends, 1);
    assert_eq!(holds(&host), [HoldWhy::Refused(denied)]);
}

#[test]
fn a_command_that_cannot_be_executed_holds_and_is_tried_again() {
    let mut host = with_lives(vec![Life {
        fault: Some(SpawnFault::Command),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("held");
    let [HoldWhy::CannotStart(failure)] = &holds(&host)[..] else {
        panic!("held for something else")
    };
    assert_eq!(failure.fault, SpawnFault::Command);
    host.run_until_phase("running");
    assert!((300_000..301_000).contains(&host.spawns[1].0));
}

#[test]
fn a_start_that_the_system_has_no_room_for_is_tried_again_soon() {
    let mut host = with_lives(vec![Life {
        fault: Some(SpawnFault::Resources),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    assert!((5_000..7_000).contains(&host.spawns[1].0));
}

#[test]
fn a_gateway_that_falls_silent_as_soon_as_it_says_it_is_ready_counts_as_hung() {
    let mut host = with_lives(vec![Life {
        ready_after: Some(2_000),
        works_until: 2_000,
        says: vec![(1_990, Marker::Ready)],
        deaf: Some((2_000, FOREVER)),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("stopping");
    assert!(
        host.now.0 < 70_000,
        "not the whole startup timeout: {}",
        host.now.0
    );
    host.run_until_phase("running");
    assert_eq!(classes(&host), [ExitClass::Requested(StopCause::Hung)]);
}

#[test]
fn a_gateway_that_restarts_itself_for_an_edit_is_heard_also_behind_its_end() {
    let life = Life {
        on_edit: OnEdit::RestartsUnheard,
        ..Life::HEALTHY
    };
    let world = World {
        config: Timeline::of(Config::Good).then(30_000, Config::Edited),
        lives: vec![life],
        ..World::default()
    };
    let mut host = FakeHost::new(POLICY, world);
    host.run_until(120_000);
    let heard = |it: &Report| {
        matches!(
            it,
            Report::Edit {
                told: Told::GatewayRestarts { .. },
                ..
            }
        )
    };
    assert_eq!((host.said(heard), host.spawns.len()), (1, 2));
    assert_eq!(classes(&host), [ExitClass::Relaunch]);
}
