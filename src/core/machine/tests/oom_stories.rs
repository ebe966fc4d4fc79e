//! Stories of memory running out.

use super::fake_host::FakeHost;
use super::telling::{KILLED, classes, tell, with_lives};
use super::world::{Answer, Life, World};
use crate::core::action::Report;
use crate::core::event::{Attempt, Event};
use crate::core::exit_class::{ExitClass, ExitStatus};
use crate::core::incident::BESIDE;
use crate::core::oom::{Exhausted, KernelKill, OomCount, OomEvidence};

const ONE: Attempt = Attempt(1);

fn counted(kills: u64) -> OomEvidence {
    OomEvidence {
        count: Some(OomCount {
            source: "/sys/fs/cgroup/memory.events".into(),
            kills,
            is_ours: true,
        }),
        is_watched: true,
        ..OomEvidence::default()
    }
}

fn beside(host: &FakeHost) -> usize {
    host.said(|it| matches!(it, Report::KilledBeside { .. }))
}

fn kept(host: &FakeHost) -> Vec<&str> {
    host.incidents.iter().map(|it| it.class.as_str()).collect()
}

#[test]
fn a_kill_that_is_seen_before_the_death_is_told_once_and_as_that_death() {
    let mut host = with_lives(vec![Life::ending(60_000, KILLED)]);
    let oom = counted(1);
    host.send(59_000, Event::OomSeen { attempt: ONE, oom });
    host.run_until(300_000);
    assert!(matches!(classes(&host)[..], [ExitClass::OomKernel(_)]));
    assert_eq!((beside(&host), kept(&host)), (0, vec!["oom-kernel"]));
    assert!(host.core.is_at_rest());
}

#[test]
fn a_helper_that_is_killed_is_told_and_excuses_no_later_kill() {
    let mut host = with_lives(vec![Life::ending(60_000, KILLED)]);
    let oom = counted(1);
    host.send(30_000, Event::OomSeen { attempt: ONE, oom });
    host.run_until(50_000);
    assert_eq!((beside(&host), kept(&host)), (1, vec![BESIDE]));
    assert!(host.core.is_at_rest(), "the gateway was left alone");
    host.run_until(300_000);
    assert_eq!(classes(&host), [ExitClass::Signal { signal: 9 }]);
    assert_eq!((beside(&host), kept(&host)), (1, vec![BESIDE, "signal"]));
}

#[test]
fn a_gateway_that_ends_over_a_killed_helper_crashed_and_both_are_told() {
    let mut host = with_lives(vec![Life::ending(60_000, ExitStatus::Code(1))]);
    host.oom = counted(1);
    host.run_until(300_000);
    assert_eq!(classes(&host), [ExitClass::Crash { code: 1 }]);
    assert_eq!((beside(&host), kept(&host)), (1, vec!["crash"]));
}

#[test]
fn both_killed_at_once_are_both_told() {
    let mut host = with_lives(vec![Life::ending(60_000, KILLED)]);
    host.oom = counted(2);
    host.run_until(300_000);
    assert!(matches!(classes(&host)[..], [ExitClass::OomKernel(_)]));
    assert_eq!(beside(&host), 1);
}

#[test]
fn the_log_of_the_kernel_proves_without_a_counter() {
    let mut host = with_lives(vec![Life::ending(60_000, KILLED)]);
    host.oom = OomEvidence {
        kills: vec![KernelKill {
            pid: 100,
            name: "MainThread".into(),
            exhausted: Exhausted::Machine,
            rss_bytes: Some(1 << 30),
        }],
        log_is_complete: true,
        is_watched: true,
        count: None,
    };
    host.run_until(300_000);
    let classes = classes(&host);
    let [ExitClass::OomKernel(proof)] = &classes[..] else {
        panic!("{classes:?}")
    };
    assert!(proof.count.is_none() && proof.kill.is_some());
}

#[test]
fn a_death_is_told_without_waiting_for_what_it_left_behind() {
    // The four questions of a start, then its evidence; ending its tree takes two seconds.
    let mut answers = vec![Answer::After(1); 10];
    answers[5] = Answer::After(2_000);
    let mut host = tell(World {
        lives: vec![Life::ending(60_000, KILLED)],
        answers,
        ..World::default()
    });
    host.oom = counted(1);
    host.run_until_phase("running");
    host.run_until_phase("classifying");
    let ended = host.now;
    host.run_until_phase("running");
    assert!(
        host.spawns[1].since(ended).0 >= 2_000,
        "the tree took its time"
    );
    let mut reports = host.reports.iter();
    let told = reports.find(|(_, it)| matches!(it, Report::Exited { .. }));
    assert!(told.is_some_and(|(at, _)| at.since(ended).0 <= 1));
}

#[test]
fn the_last_look_at_memory_is_told_and_kept() {
    let mut host = with_lives(vec![Life::ending(60_000, KILLED)]);
    host.oom = counted(1);
    host.run_until(300_000);
    let incident = &host.incidents[0];
    let memory = incident.memory.last.as_ref().expect("it was looked at");
    assert_eq!(memory.sample.tree.mb(), 1_000);
    assert!(memory.before.0 <= 12_000, "{}", memory.before);
    assert!(incident.history.len() >= 5 && incident.uptime.0 == 60_000);
    assert!(incident.was_ready);
}
