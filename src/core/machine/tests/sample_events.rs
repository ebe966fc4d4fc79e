//! Every kind of event, good and bad, for trying a phase.

use super::facts::attempt_of;
use super::world::memory_sample;
use super::world::{Config, FakeLock, FakeProcess, LockOwner, PORT, Process, Volume};
use crate::core::control::{Op, Peer};
use crate::core::event::{Attempt, Event, Instance, Request, SpawnFailure, SpawnFault};
use crate::core::exit_class::{ExitStatus, Marker, Refusal};
use crate::core::locks::LockKind;
use crate::core::memory::Kib;
use crate::core::oom::{OomCount, OomEvidence};
use crate::core::readiness::{HealthBody, Listener, ProbeOutcome, ProbeTarget, Progress};
use crate::core::reload::{Sign, Validation};
use crate::core::time::{Millis, Mono};

/// One event, or a few that belong together, each this long after the one before.
pub(super) struct SampleEvent {
    pub(super) label: &'static str,
    pub(super) events: Vec<(Millis, Event)>,
}

/// The answers carry this attempt.
pub(super) fn sample_events(attempt: Attempt) -> Vec<SampleEvent> {
    let mut all: Vec<SampleEvent> = vec![];
    let single = asked(attempt)
        .into_iter()
        .chain(of_the_gateway(attempt))
        .chain(unasked());
    for event in single {
        all.push(SampleEvent {
            label: label(&event),
            events: vec![(Millis(1), event)],
        });
    }
    let in_time = |secs| (Millis::from_secs(secs), Event::DeadlinePassed);
    let silent = |delay| (delay, probe(attempt, ProbeOutcome::TimedOut));
    all.push(SampleEvent {
        label: "ProbeFinished (silence for the liveness timeout)",
        events: vec![
            silent(Millis(1)),
            in_time(20),
            silent(Millis::from_secs(10)),
            in_time(10),
            silent(Millis::from_secs(10)),
            in_time(5),
            silent(Millis::from_secs(5)),
        ],
    });
    // As the shell comes back, a little late each time.
    all.push(SampleEvent {
        label: "DeadlinePassed",
        events: vec![in_time(20); 6],
    });
    // Nobody ran for an hour.
    let an_hour_on = (Millis::from_secs(3_600), Event::DeadlinePassed);
    all.push(SampleEvent {
        label: "DeadlinePassed",
        events: vec![an_hour_on.clone()],
    });
    let seen = |config: Config| Event::ConfigSeen {
        attempt,
        look: config.look(),
        mended: None,
    };
    let off = Event::ReloadSaid {
        attempt,
        sign: Sign::Off,
    };
    all.push(SampleEvent {
        label: "ReloadSaid (its reload is off)",
        events: vec![
            (Millis(1), seen(Config::Good)),
            (Millis(1), seen(Config::Edited)),
            (Millis(1), off),
        ],
    });
    let tripped = Event::LineSeen {
        attempt,
        marker: Marker::BreakerTripped,
    };
    let result = Err("EPIPE".to_owned());
    let left_off = Event::ChannelsStarted { attempt, result };
    all.push(SampleEvent {
        label: "DeadlinePassed (channels could not be started)",
        events: vec![
            (Millis(1), tripped),
            an_hour_on.clone(),
            (Millis(1), left_off),
            an_hour_on,
        ],
    });
    let evidence = Event::EvidenceCollected {
        attempt,
        oom: OomEvidence::default(),
    };
    for survivors in [vec![], vec![7_000]] {
        let tree = Event::TreeEnded {
            attempt,
            ended: 0,
            survivors,
        };
        all.push(SampleEvent {
            label: "EvidenceCollected and TreeEnded",
            events: vec![(Millis(1), tree), (Millis(1), evidence.clone())],
        });
    }
    for sample in &all {
        let of = |event| attempt_of(event).is_none_or(|it| it == attempt);
        assert!(sample.events.iter().all(|(_, event)| of(event)));
    }
    all
}

/// Answers to the questions of the preflight.
fn asked(attempt: Attempt) -> Vec<Event> {
    let mut events = vec![];
    for volume in [
        Volume::Good,
        Volume::ReadOnly,
        Volume::Hung,
        Volume::NoInstanceLock,
        Volume::Theirs,
    ] {
        let (instance, facts) = volume.look();
        assert!(volume != Volume::Good || instance == Instance::Ours);
        events.push(Event::VolumeChecked {
            attempt,
            instance,
            facts,
            mended: None,
        });
    }
    let process = |what| FakeProcess {
        what,
        from: 0,
        until: u64::MAX,
    };
    for found in [
        vec![],
        vec![Process::Orphan],
        vec![Process::LiveGateway, Process::Orphan],
        vec![Process::Stranger],
    ] {
        events.push(Event::LeftoversFound {
            attempt,
            port: PORT,
            port_busy: found.contains(&Process::Stranger),
            processes: found.into_iter().map(|it| process(it).facts(0)).collect(),
        });
    }
    for survivors in [vec![], vec![9_000]] {
        events.push(Event::ProcessesEnded { attempt, survivors });
    }
    let lock = |owner| FakeLock {
        kind: LockKind::Gateway,
        owner,
        is_removable: true,
    };
    for found in [
        vec![],
        vec![LockOwner::Dead],
        vec![LockOwner::Dead, LockOwner::AliveUntil(u64::MAX)],
        vec![LockOwner::Special],
    ] {
        let locks = found.into_iter().map(|it| lock(it).facts(0, Mono(0)));
        events.push(Event::LocksFound {
            attempt,
            locks: locks.collect(),
        });
    }
    for failed in [vec![], vec![("/data/a.lock".into(), "EPERM".to_owned())]] {
        events.push(Event::LocksCleared { attempt, failed });
    }
    for config in [Config::Good, Config::Missing, Config::Broken] {
        events.push(Event::ConfigRead {
            attempt,
            facts: config.facts(),
        });
    }
    for result in [Ok("a first config".to_owned()), Err("ENOSPC".to_owned())] {
        events.push(Event::ConfigSeeded { attempt, result });
    }
    events.push(Event::Spawned { attempt, pid: 100 });
    for fault in [SpawnFault::Command, SpawnFault::Resources] {
        let error = "ENOENT".to_owned();
        let failure = SpawnFailure { fault, error };
        events.push(Event::SpawnFailed { attempt, failure });
    }
    events
}

/// What a gateway and its death give rise to.
fn of_the_gateway(attempt: Attempt) -> Vec<Event> {
    let mut events = vec![];
    for marker in [
        Marker::Ready,
        Marker::Listening,
        Marker::HeapOom,
        Marker::BreakerTripped,
        Marker::BreakerRecovered,
        Marker::ChangedWhileStarting,
        Marker::Refusal(Refusal::PermissionDenied),
    ] {
        events.push(Event::LineSeen { attempt, marker });
    }
    let ready = HealthBody {
        ok: Some(true),
        ready: Some(true),
        ..HealthBody::default()
    };
    for outcome in [
        ProbeOutcome::Refused,
        ProbeOutcome::TimedOut,
        ProbeOutcome::Answered {
            status: 200,
            body: None,
        },
        ProbeOutcome::Answered {
            status: 200,
            body: Some(ready),
        },
    ] {
        events.push(probe(attempt, outcome));
    }
    events.push(Event::ListenersFound {
        attempt,
        listeners: vec![Listener {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: PORT,
        }],
    });
    for status in [
        ExitStatus::Code(0),
        ExitStatus::Code(78),
        ExitStatus::Signal(9),
    ] {
        events.push(Event::ChildExited { attempt, status });
    }
    let counted = OomEvidence {
        count: Some(OomCount {
            source: "/sys/fs/cgroup/memory.events".into(),
            kills: 1,
            is_ours: true,
        }),
        ..OomEvidence::default()
    };
    for oom in [OomEvidence::default(), counted.clone()] {
        events.push(Event::EvidenceCollected { attempt, oom });
    }
    events.push(Event::OomSeen {
        attempt,
        oom: counted,
    });
    for survivors in [vec![], vec![7_000]] {
        events.push(Event::TreeEnded {
            attempt,
            ended: 2,
            survivors,
        });
    }
    events.push(Event::MemorySampled {
        attempt,
        sample: memory_sample(Mono(0), Kib::of_mb(1_000)),
    });
    for config in [
        Config::Good,
        Config::Edited,
        Config::Missing,
        Config::Broken,
    ] {
        events.push(Event::ConfigSeen {
            attempt,
            look: config.look(),
            mended: None,
        });
    }
    for sign in [Sign::Noticed, Sign::Restarting, Sign::Refused, Sign::Failed] {
        events.push(Event::ReloadSaid { attempt, sign });
    }
    for validation in [
        Validation::Valid,
        Validation::Invalid(vec![]),
        Validation::Skipped(String::new()),
    ] {
        events.push(Event::ConfigValidated {
            attempt,
            generation: 1,
            validation,
        });
    }
    for result in [
        Ok("/data/openclaw.json.broken".into()),
        Err("none".to_owned()),
    ] {
        events.push(Event::ConfigRolledBack { attempt, result });
    }
    for result in [Ok(vec!["telegram".to_owned()]), Err("EPIPE".to_owned())] {
        events.push(Event::ChannelsStarted { attempt, result });
    }
    events
}

fn unasked() -> Vec<Event> {
    let signal = |signal, name: &str| Event::SignalReceived {
        signal,
        name: name.into(),
        sender: Some(1),
    };
    vec![
        Event::Begun,
        Event::DeadlinePassed,
        signal(Request::Stop, "SIGTERM"),
        signal(Request::Look, "SIGHUP"),
        Event::CauseChanged,
        request(Op::Restart),
        request(Op::Pause { limit: None }),
        request(Op::Resume),
    ]
}

fn request(op: Op) -> Event {
    let peer = Peer { pid: 40, uid: 0 };
    Event::Requested { id: 1, op, peer }
}

fn probe(attempt: Attempt, outcome: ProbeOutcome) -> Event {
    Event::ProbeFinished {
        attempt,
        target: ProbeTarget::Startupz,
        outcome,
        progress: Progress {
            output_bytes: 10,
            cpu_ms: 10,
            major_faults: 3,
        },
    }
}

/// The event's name; exhaustive, so that a new one is remembered here.
const fn label(event: &Event) -> &'static str {
    match event {
        Event::Begun => "Begun",
        Event::DeadlinePassed => "DeadlinePassed",
        Event::SignalReceived {
            signal: Request::Stop,
            ..
        } => "SignalReceived (stop)",
        Event::SignalReceived {
            signal: Request::Look,
            ..
        } => "SignalReceived (look)",
        Event::VolumeChecked { .. } => "VolumeChecked",
        Event::LeftoversFound { .. } => "LeftoversFound",
        Event::ProcessesEnded { .. } => "ProcessesEnded",
        Event::LocksFound { .. } => "LocksFound",
        Event::LocksCleared { .. } => "LocksCleared",
        Event::ConfigRead { .. } => "ConfigRead",
        Event::ConfigSeeded { .. } => "ConfigSeeded",
        Event::Spawned { .. } => "Spawned",
        Event::SpawnFailed { .. } => "SpawnFailed",
        Event::LineSeen { .. } => "LineSeen",
        Event::ProbeFinished { .. } => "ProbeFinished",
        Event::ListenersFound { .. } => "ListenersFound",
        Event::ChildExited { .. } => "ChildExited",
        Event::EvidenceCollected { .. } => "EvidenceCollected",
        Event::OomSeen { .. } => "OomSeen",
        Event::TreeEnded { .. } => "TreeEnded",
        Event::ChannelsStarted { .. } => "ChannelsStarted",
        Event::MemorySampled { .. } => "MemorySampled",
        Event::CauseChanged => "CauseChanged",
        Event::ConfigSeen { .. } => "ConfigSeen",
        Event::ReloadSaid { .. } => "ReloadSaid",
        Event::ConfigValidated { .. } => "ConfigValidated",
        Event::ConfigRolledBack { .. } => "ConfigRolledBack",
        Event::Requested { op, .. } => match op {
            Op::Restart => "Requested (restart)",
            Op::Pause { .. } => "Requested (pause)",
            Op::Resume => "Requested (resume)",
        },
    }
}
