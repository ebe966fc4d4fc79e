//! Every phase against every event: nothing panics, the invariants hold, and docs/phases.md says what happens.

use super::fake_host::{FakeHost, POLICY};
use super::invariants::{
    Moment, invariant_a_deadline_never_lies_behind_what_it_led_to,
    invariant_a_stop_cause_only_grows, invariant_answers_of_earlier_attempts_change_nothing,
    invariant_each_request_is_answered_at_once_and_only_once, invariant_every_phase_ends_by_itself,
    invariant_only_proven_locks_are_cleared, invariant_questions_belong_to_the_present_attempt,
};
use super::sample_events::{SampleEvent, sample_events};
use super::world::{
    Answer, Config, FakeLock, FakeProcess, Life, LockOwner, Process, Timeline, World,
};
use crate::core::action::Action;
use crate::core::control::Op;
use crate::core::event::{Attempt, Event, Request};
use crate::core::exit_class::{ExitStatus, Marker, Refusal};
use crate::core::locks::LockKind;
use crate::core::machine::{Core, Phase};
use crate::core::time::{Millis, Mono};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Each phase and each step of the preflight, some more than once with another past.
fn samples() -> Vec<FakeHost> {
    let stuck_after = |answered| World {
        answers: [vec![Answer::After(2); answered], vec![Answer::Never; 99]].concat(),
        config: Timeline::of(Config::Missing),
        locks: vec![FakeLock {
            kind: LockKind::Gateway,
            owner: LockOwner::Dead,
            is_removable: true,
        }],
        processes: vec![FakeProcess {
            what: Process::Orphan,
            from: 0,
            until: u64::MAX,
        }],
        ..World::default()
    };
    let mut samples = vec![FakeHost::new(POLICY, World::default())];
    for answered in [0, 1, 2, 4, 5, 6, 7] {
        samples.push(reached("preflight", stuck_after(answered), 1_000));
    }
    let spawning = World {
        spawn_takes: 5_000,
        ..World::default()
    };
    samples.push(reached("preflight", spawning, 1_000));
    samples.push(reached("starting", World::default(), 0));
    samples.push(reached("running", World::default(), 0));
    let mut stopping = reached("running", World::default(), 0);
    stopping.signal(stopping.now.0, Request::Stop);
    stopping.run_until_phase("stopping");
    samples.push(stopping);
    let crash = || Life::ending(5_000, ExitStatus::Code(1));
    let refused = Life {
        says: vec![(1, Marker::Refusal(Refusal::InvalidFlag))],
        ready_after: None,
        ..Life::ending(5_000, ExitStatus::Code(78))
    };
    for lives in [vec![crash()], vec![refused]] {
        samples.push(reached("classifying", with_lives(lives), 0));
    }
    let mut second = reached("classifying", with_lives(vec![crash(), crash()]), 0);
    second.run_until_phase("starting");
    second.run_until_phase("classifying");
    samples.push(second);
    let mut told_to_stop = reached("classifying", with_lives(vec![crash()]), 0);
    told_to_stop.signal(told_to_stop.now.0, Request::Stop);
    told_to_stop.run_until(told_to_stop.now.0 + 1);
    samples.push(told_to_stop);
    samples.push(reached("backoff", with_lives(vec![crash(), crash()]), 0));
    let broken = World {
        config: Timeline::of(Config::Broken),
        ..World::default()
    };
    samples.push(reached("held", broken, 0));
    let limit = Some(Millis::from_secs(600));
    for limit in [limit, None] {
        let mut paused = reached("running", World::default(), 0);
        paused.request(paused.now.0, Op::Pause { limit });
        paused.run_until_phase("paused");
        samples.push(paused);
    }
    for (phase, wait) in [("closing", 100), ("exited", 60_000)] {
        let mut host = reached("preflight", stuck_after(0), 1_000);
        host.signal(1_000, Request::Stop);
        host.run_until(1_000 + wait);
        assert_eq!(host.core.phase_word(), phase);
        samples.push(host);
    }
    samples
}

fn with_lives(lives: Vec<Life>) -> World {
    World {
        lives,
        ..World::default()
    }
}

fn reached(phase: &str, world: World, wait: u64) -> FakeHost {
    let mut host = FakeHost::new(POLICY, world);
    host.run_until_phase(phase);
    host.run_until(host.now.0 + wait);
    assert_eq!(host.core.phase_word(), phase);
    host
}

#[test]
fn every_event_in_every_phase_keeps_the_invariants_and_leaves_a_way_to_stop() {
    for sample in samples() {
        let attempt = sample.core.attempt;
        for of in [
            attempt,
            Attempt(attempt.0.wrapping_sub(1)),
            Attempt(attempt.0 + 1),
        ] {
            for events in sample_events(of) {
                let (mut core, mut now) = (sample.core.clone(), sample.now);
                for (delay, event) in events.events {
                    now = now.plus(delay);
                    checked_step(&mut core, now, &event);
                }
                can_be_stopped(core, now);
            }
        }
    }
}

fn checked_step(core: &mut Core, now: Mono, event: &Event) -> Vec<Action> {
    let before = core.clone();
    let actions = core.step(now, event.clone());
    let moment = Moment {
        now,
        event,
        actions: &actions,
        before: &before,
        after: core,
        alive: 0,
        // No simulated gateway answers here.
        is_probe_out: true,
        is_unkillable: false,
    };
    invariant_answers_of_earlier_attempts_change_nothing(&moment);
    invariant_only_proven_locks_are_cleared(&moment);
    invariant_every_phase_ends_by_itself(&moment, &POLICY);
    invariant_a_deadline_never_lies_behind_what_it_led_to(&moment);
    invariant_questions_belong_to_the_present_attempt(&moment);
    invariant_a_stop_cause_only_grows(&moment);
    invariant_each_request_is_answered_at_once_and_only_once(&moment);
    actions
}

/// From here on nothing is answered, and only SIGKILL ends the gateway.
fn can_be_stopped(mut core: Core, mut now: Mono) {
    let mut event = Event::SignalReceived {
        signal: Request::Stop,
        name: "SIGTERM".into(),
        sender: None,
    };
    for _ in 0..20 {
        let actions = checked_step(&mut core, now, &event);
        let spawns = |action: &Action| matches!(action, Action::Spawn { .. });
        assert!(!actions.iter().any(spawns), "spawned after a stop");
        if core.is_over() {
            return;
        }
        event = Event::DeadlinePassed;
        if actions.contains(&Action::Kill) {
            event = Event::ChildExited {
                attempt: core.attempt,
                status: ExitStatus::Signal(9),
            };
        } else {
            now = now.max(core.next_deadline().expect("a way on"));
        }
    }
    panic!("{} does not end", core.phase_word());
}

fn name(phase: &Phase) -> String {
    match phase {
        Phase::Preflight { stage, .. } => format!("Preflight ({stage:?})"),
        Phase::New => "New".into(),
        Phase::Starting => "Starting".into(),
        Phase::Running => "Running".into(),
        Phase::Stopping { .. } => "Stopping".into(),
        Phase::Classifying { .. } => "Classifying".into(),
        Phase::Backoff { .. } => "Backoff".into(),
        Phase::Held { .. } => "Held".into(),
        Phase::Paused { .. } => "Paused".into(),
        Phase::Closing { .. } => "Closing".into(),
        Phase::Exited => "Exited".into(),
    }
}

const fn deadline(phase: &Phase) -> &'static str {
    match phase {
        Phase::New | Phase::Exited => "none",
        Phase::Preflight { .. } => "for the answer",
        Phase::Starting => {
            "the next probe, at the latest the start timeout since the last progress"
        }
        Phase::Running => {
            "the next probe, at the latest the liveness timeout since the first silence"
        }
        Phase::Stopping { .. } => "the stop timeout (10 s for what hangs), then every 10 s",
        Phase::Classifying { .. } => "for the last output and the remaining processes",
        Phase::Backoff { .. } => "the delay of the row of crashes",
        Phase::Held { .. } => "the next look, by its reason",
        Phase::Paused { .. } => "the limit of the pause, if it was given one",
        Phase::Closing { .. } => "for the remaining processes",
    }
}

/// Where each phase can lead, by what: found by trying, so the table cannot say what the machine does not do.
fn table() -> String {
    let mut text = String::from(
        "# Phases\n\n\
        Generated from the machine by the test `the_table_of_phases_is_up_to_date`; \
        rewrite it with `UPDATE=1 cargo test --lib phases`.\n\
        An event that is not named leaves the phase as it is.\n\n\
        | phase | deadline | what ends it |\n|---|---|---|\n",
    );
    let mut rows: Vec<(String, String, BTreeSet<String>)> = vec![];
    for sample in samples() {
        let phase = name(&sample.core.phase);
        let entered = sample.journal.last().map_or(Mono(0), |(at, _)| *at);
        let length = sample.core.next_deadline().map(|at| at.since(entered));
        let is_fixed = matches!(
            sample.core.phase,
            Phase::Preflight { .. } | Phase::Classifying { .. } | Phase::Closing { .. }
        );
        let length = length.filter(|_| is_fixed).map(|it| format!("{it} "));
        let row_deadline = length.unwrap_or_default() + deadline(&sample.core.phase);
        let mut ends = BTreeSet::new();
        for SampleEvent { label, events } in sample_events(sample.core.attempt) {
            let (mut core, mut now) = (sample.core.clone(), sample.now);
            let mut is_still_there = true;
            for (delay, event) in events {
                is_still_there = name(&core.phase) == phase;
                now = now.plus(delay);
                core.step(now, event);
            }
            let after = name(&core.phase);
            if is_still_there && after != phase {
                ends.insert(format!("{label} → {after}"));
            }
        }
        match rows.iter_mut().find(|(known, ..)| *known == phase) {
            Some((.., known)) => known.extend(ends),
            None => rows.push((phase, row_deadline, ends)),
        }
    }
    for (phase, deadline, ends) in rows {
        let ends: Vec<_> = ends.into_iter().collect();
        let ends = if ends.is_empty() {
            "nothing".to_owned()
        } else {
            ends.join("<br>")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {phase} | {deadline} | {ends} |");
    }
    text
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the test compares a committed file, and rewrites it when asked to"
)]
fn the_table_of_phases_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/phases.md");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &table).expect("docs/phases.md can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == table,
        "docs/phases.md is old; run `UPDATE=1 cargo test --lib phases`\n{table}"
    );
}

#[test]
fn every_event_survives_the_journal() {
    for SampleEvent { events, .. } in sample_events(Attempt(7)) {
        for (_, event) in events {
            let line = serde_json::to_string(&event).expect("an event is JSON");
            assert!(!line.contains('\n'), "one line each");
            let read: Event = serde_json::from_str(&line).expect("and reads back");
            assert_eq!(read, event);
        }
    }
}
