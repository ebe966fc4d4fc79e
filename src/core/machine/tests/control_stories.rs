//! Stories of what a person asks for.

use super::fake_host::FakeHost;
use super::telling::{FOREVER, KILLED, classes, tell, with_lives};
use super::world::{Config, Life, OnTerm, Timeline, World};
use crate::core::action::{Ending, Report};
use crate::core::control::{self, Answer, Op, Progress, RefusedWhy, Seen};
use crate::core::event::Request;
use crate::core::exit_class::{ExitClass, StopCause};
use crate::core::status::RestartClass;
use crate::core::time::Millis;

const FOR_GOOD: Op = Op::Pause { limit: None };

fn ask(host: &mut FakeHost, op: Op) -> Answer {
    let (now, before) = (host.now.0, host.replies.len());
    host.request(now, op);
    host.run_until(now + 1);
    assert_eq!(host.replies.len(), before + 1, "one answer");
    host.replies[before]
}

fn starts(answer: Answer) -> u64 {
    match answer {
        Answer::Accepted { starts } => starts,
        Answer::Refused(why) => panic!("refused: {why:?}"),
    }
}

fn progress(op: Op, starts: u64, host: &FakeHost) -> Progress {
    let status = host.core.status(host.now);
    let seen = Seen {
        phase: status.phase,
        is_ready: status.is_ready(),
        is_paused: status.pause.is_some(),
        starts: status.starts,
    };
    control::progress(op, starts, seen)
}

fn running() -> FakeHost {
    let mut host = tell(World::default());
    host.run_until_phase("running");
    host
}

fn broken_until(mended: u64) -> FakeHost {
    let mut host = tell(World {
        config: Timeline::of(Config::Broken).then(mended, Config::Good),
        ..World::default()
    });
    host.run_until_phase("held");
    host
}

#[test]
fn a_restart_drains_and_starts_once_more() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let before = starts(ask(&mut host, Op::Restart));
    let how_far = |host: &FakeHost| progress(Op::Restart, before, host);
    assert_eq!(host.core.phase_word(), "stopping");
    assert_eq!(how_far(&host), Progress::Going);
    host.run_until_phase("starting");
    assert_eq!(how_far(&host), Progress::Going);
    host.run_until_phase("running");
    assert_eq!(how_far(&host), Progress::Done);
    assert_eq!(
        classes(&host),
        [ExitClass::Requested(StopCause::Restart)],
        "drained, not killed"
    );
    assert_eq!(host.spawns.len(), 2);
    let counted = RestartClass::Requested(StopCause::Restart).position();
    let restarts = host.core.status(host.now).restarts;
    assert_eq!(counted.map(|at| restarts[at]), Some(1));
}

#[test]
fn a_restart_of_what_waits_tries_at_once() {
    let mut host = with_lives(vec![Life::ending(100, KILLED); 9]);
    host.run_until_phase("backoff");
    let before = starts(ask(&mut host, Op::Restart));
    host.run_until_phase("starting");
    assert_eq!(host.core.status(host.now).starts, before + 1);

    let mut host = broken_until(FOREVER);
    let before = starts(ask(&mut host, Op::Restart));
    host.run_until_phase("held");
    assert_eq!(progress(Op::Restart, before, &host), Progress::Held);
}

#[test]
fn a_restart_asked_for_while_a_hung_gateway_ends_does_not_wait_for_the_pause_after_it() {
    let hung = Life {
        deaf: Some((20_000, FOREVER)),
        ..Life::HEALTHY
    };
    let mut host = with_lives(vec![hung; 4]);
    host.run_until_phase("backoff");
    let ends = classes(&host).len();
    host.run_until_phase("stopping");
    let before = starts(ask(&mut host, Op::Restart));
    while host.core.status(host.now).starts == before {
        assert_ne!(host.core.phase_word(), "backoff");
        host.run_until(host.now.0 + 1);
    }
    let how = vec![ExitClass::Requested(StopCause::Hung); ends + 1];
    assert_eq!(classes(&host), how, "it was hung all the same");
    host.run_until_phase("backoff");
}

#[test]
fn a_pause_drains_and_starts_nothing_until_it_is_resumed() {
    let mut host = running();
    let before = starts(ask(&mut host, FOR_GOOD));
    host.run_until_phase("paused");
    host.run_until(host.now.0 + 86_400_000);
    assert_eq!((host.core.phase_word(), host.alive()), ("paused", 0));
    let status = host.core.status(host.now);
    assert_eq!(progress(FOR_GOOD, before, &host), Progress::Done);
    assert_eq!(status.pause.and_then(|it| it.resumes_in), None);
    assert!(host.core.next_deadline().is_none(), "it costs nothing");

    let refused = ask(&mut host, Op::Restart);
    assert_eq!(refused, Answer::Refused(RefusedWhy::Paused));
    let before = starts(ask(&mut host, Op::Resume));
    host.run_until_phase("running");
    let status = host.core.status(host.now);
    assert_eq!(progress(Op::Resume, before, &host), Progress::Done);
    assert_eq!(status.pause, None);
    assert_eq!(host.spawns.len(), 2);
}

#[test]
fn a_pause_with_a_limit_ends_by_itself_and_can_be_given_another() {
    let mut host = running();
    let limit = |minutes: u64| Op::Pause {
        limit: Some(Millis::from_secs(minutes * 60)),
    };
    ask(&mut host, limit(60));
    host.run_until_phase("paused");
    let paused = host.now;
    host.run_until(paused.0 + 1_800_000);
    ask(&mut host, limit(10));
    let status = host.core.status(host.now);
    let left = status.pause.and_then(|it| it.resumes_in);
    assert!(left.is_some_and(|left| left > Millis(590_000)), "{left:?}");
    host.run_until_phase("running");
    assert_eq!(host.now.since(paused).0 / 60_000, 40);
    let by_itself = |report: &Report| matches!(report, Report::Resumed { by_limit: true, .. });
    assert_eq!(host.said(by_itself), 1);
}

#[test]
fn a_hold_that_is_paused_is_told_anew_once_it_is_resumed() {
    let mut host = broken_until(FOREVER);
    ask(&mut host, FOR_GOOD);
    assert_eq!(host.core.phase_word(), "paused");
    assert_eq!(host.core.status(host.now).hold, None);
    ask(&mut host, Op::Resume);
    host.run_until_phase("held");
    assert_eq!(host.said(|it| matches!(it, Report::Held(_))), 2);
}

#[test]
fn a_pause_that_is_resumed_while_it_drains_is_a_restart() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let before = starts(ask(&mut host, FOR_GOOD));
    ask(&mut host, Op::Resume);
    assert_eq!(progress(FOR_GOOD, before, &host), Progress::Resumed);
    host.run_until_phase("starting");
    assert_eq!(host.said(|it| matches!(it, Report::Paused { .. })), 0);
}

#[test]
fn a_pause_outlives_the_restart_that_was_under_way() {
    let mut host = with_lives(vec![Life {
        on_term: OnTerm::Drains(20_000),
        ..Life::HEALTHY
    }]);
    host.run_until_phase("running");
    let before = starts(ask(&mut host, Op::Restart));
    ask(&mut host, FOR_GOOD);
    assert_eq!(progress(Op::Restart, before, &host), Progress::Paused);
    host.run_until_phase("paused");
    assert_eq!(host.spawns.len(), 1);
}

#[test]
fn a_crash_while_a_pause_is_asked_for_leads_to_the_pause() {
    let mut host = with_lives(vec![Life {
        helpers: 1,
        ..Life::ending(5_000, KILLED)
    }]);
    host.run_until_phase("classifying");
    starts(ask(&mut host, FOR_GOOD));
    host.run_until_phase("paused");
    assert_eq!(host.spawns.len(), 1);
}

#[test]
fn what_is_being_spawned_when_a_pause_is_asked_for_is_stopped() {
    let mut host = tell(World {
        spawn_takes: 5_000,
        ..World::default()
    });
    host.run_until(1_000);
    starts(ask(&mut host, FOR_GOOD));
    host.run_until_phase("paused");
    assert_eq!((host.spawns.len(), host.alive()), (1, 0));
}

#[test]
fn a_stop_ends_a_pause_and_whoever_asks_then_is_told() {
    let mut host = running();
    ask(&mut host, FOR_GOOD);
    host.run_until_phase("paused");
    host.signal(host.now.0, Request::Stop);
    host.request(host.now.0 + 1, Op::Resume);
    host.run_until(host.now.0 + 60_000);
    assert_eq!(host.ending.map(|(_, ending)| ending), Some(Ending::Stopped));
    let refused = Answer::Refused(RefusedWhy::Ending);
    assert_eq!(host.replies.last(), Some(&refused));
}

#[test]
fn a_resume_without_a_pause_changes_nothing() {
    let mut host = running();
    let refused = ask(&mut host, Op::Resume);
    assert_eq!(refused, Answer::Refused(RefusedWhy::NotPaused));
    assert_eq!(host.core.phase_word(), "running");
}
