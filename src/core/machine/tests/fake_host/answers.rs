//! What the simulated world answers to each question.

use super::super::world::memory_sample;
use super::{
    Action, Attempt, Config, Event, FakeHost, FakeProcess, Gateway, HealthBody, LockOwner, Marker,
    Newest, PORT, ProbeOutcome, ProbeTarget, Process, ProcessVerdict, Progress, Seeding, leftovers,
};
use crate::core::event::Mended;
use crate::core::memory::Kib;

impl FakeHost {
    /// `None` for what is not answered.
    pub(super) fn answer(&mut self, question: Action, asked: u64) -> Option<Event> {
        let now = self.now;
        Some(match question {
            Action::CheckVolume { attempt, mend_all } => {
                let (instance, facts) = self.world.volume.at(now).look();
                Event::VolumeChecked {
                    attempt,
                    instance,
                    facts,
                    mended: mend_all.then(|| Mended {
                        paths: vec!["/data/openclaw.json".into()],
                        count: 1,
                        uid: 1000,
                    }),
                }
            }
            Action::FindLeftovers { attempt } => self.processes(attempt),
            Action::EndProcesses { attempt, targets } => self.end_processes(attempt, &targets),
            Action::FindLocks { attempt } => {
                let locks = self.world.locks.iter().enumerate();
                let locks = locks.filter(|(_, lock)| lock.owner != LockOwner::Gone);
                Event::LocksFound {
                    attempt,
                    locks: locks.map(|(index, lock)| lock.facts(index, now)).collect(),
                }
            }
            Action::ClearLocks { attempt, locks } => {
                let mut failed = vec![];
                for (facts, _) in locks {
                    let world = self.world.locks.iter().copied().enumerate();
                    let found = world
                        .map(|(index, lock)| (index, lock, lock.facts(index, now).path))
                        .find(|(_, _, path)| *path == facts.path);
                    match found {
                        Some((index, lock, _)) if lock.is_removable => {
                            // Its place in the list is its name, so it keeps the place.
                            self.world.locks[index].owner = LockOwner::Gone;
                        }
                        Some(_) | None => failed.push((facts.path, "EPERM".to_owned())),
                    }
                }
                Event::LocksCleared { attempt, failed }
            }
            Action::ReadConfig { attempt } => {
                let seeded = self.is_seeded.then_some(Config::Good);
                let config = seeded.unwrap_or_else(|| self.world.config.at(now));
                Event::ConfigRead {
                    attempt,
                    facts: config.facts(),
                }
            }
            Action::SeedConfig { attempt } => {
                let result = match self.world.seeding {
                    Seeding::Works | Seeding::Vanishes => Ok("a first config".to_owned()),
                    Seeding::Fails => Err("ENOSPC".to_owned()),
                };
                self.is_seeded = self.world.seeding == Seeding::Works;
                Event::ConfigSeeded { attempt, result }
            }
            Action::LookAtConfig { attempt } | Action::NudgeConfig { attempt } => {
                let seeded = self.is_seeded.then_some(Config::Good);
                let config = seeded.unwrap_or_else(|| self.world.config.at(now));
                Event::ConfigSeen {
                    attempt,
                    look: config.look(),
                    mended: None,
                }
            }
            Action::ValidateConfig {
                attempt,
                generation,
            } => Event::ConfigValidated {
                attempt,
                generation,
                validation: self.world.validation.clone(),
            },
            Action::RollBackConfig { attempt } => {
                self.is_seeded = true;
                let result = Ok("/data/openclaw.json.broken".into());
                Event::ConfigRolledBack { attempt, result }
            }
            Action::CollectEvidence { attempt } => Event::EvidenceCollected {
                attempt,
                oom: self.oom.clone(),
            },
            Action::EndTree { attempt, .. } if asked == self.tree_asked => self.end_tree(attempt),
            Action::EndTree { .. } => return None,
            Action::Probe {
                attempt, target, ..
            } => self.probe(attempt, target),
            Action::FindListeners { attempt } => Event::ListenersFound {
                attempt,
                listeners: vec![],
            },
            Action::StartChannels { attempt } => Event::ChannelsStarted {
                attempt,
                result: Ok(vec!["telegram".to_owned()]),
            },
            Action::SampleMemory { attempt, .. } => self.memory(attempt),
            Action::Spawn { .. }
            | Action::Terminate
            | Action::Kill
            | Action::Watch
            | Action::Unwatch
            | Action::KeepIncident(_)
            | Action::KeepConfig { .. }
            | Action::Reply { .. }
            | Action::Report(_)
            | Action::Exit(_) => return None,
        })
    }

    fn memory(&self, attempt: Attempt) -> Event {
        let is_alive = |it: &&Gateway| it.attempt == attempt && it.is_alive;
        let gateway = self.gateways.iter().find(is_alive);
        let used = |it: &Gateway| it.life.memory.at(self.now.since(it.started).0);
        let tree = gateway.map_or(Kib(0), used);
        Event::MemorySampled {
            attempt,
            sample: memory_sample(self.now, tree),
        }
    }

    fn about(&self) -> impl Iterator<Item = (usize, FakeProcess)> {
        let now = self.now;
        let processes = self.world.processes.iter().copied().enumerate();
        processes.filter(move |(_, process)| process.is_about(now))
    }

    fn processes(&self, attempt: Attempt) -> Event {
        let is_stranger = |(_, it): (usize, FakeProcess)| it.what == Process::Stranger;
        Event::LeftoversFound {
            attempt,
            processes: self.about().map(|(index, it)| it.facts(index)).collect(),
            port: PORT,
            port_busy: self.about().any(is_stranger),
        }
    }

    fn end_processes(&mut self, attempt: Attempt, targets: &[(i32, u64)]) -> Event {
        let now = self.now;
        let mut survivors = vec![];
        let hit: Vec<_> = self
            .about()
            .map(|(index, it)| (index, it, it.facts(index)))
            .filter(|(_, _, facts)| targets.contains(&(facts.pid, facts.start_ticks)))
            .collect();
        for (index, process, facts) in hit {
            let verdict = leftovers::judge(&facts);
            assert!(
                matches!(verdict, ProcessVerdict::Leftover(_)),
                "{verdict:?} is being ended"
            );
            match process.what {
                Process::Unkillable => survivors.push(facts.pid),
                Process::Undying => {}
                Process::Orphan | Process::LiveGateway | Process::Stranger => {
                    self.world.processes[index].until = now.0;
                }
            }
        }
        Event::ProcessesEnded { attempt, survivors }
    }

    fn end_tree(&mut self, attempt: Attempt) -> Event {
        let mut gateways = self.gateways.iter_mut();
        let (mut ended, mut survivors) = (0, vec![]);
        if let Some(gateway) = gateways.find(|it| it.attempt == attempt) {
            if gateway.life.helpers_survive {
                survivors.push(7_000);
                gateway.life.helpers_survive = false;
            }
            ended = std::mem::take(&mut gateway.life.helpers);
        }
        Event::TreeEnded {
            attempt,
            ended,
            survivors,
        }
    }

    fn probe(&self, attempt: Attempt, target: ProbeTarget) -> Event {
        let gateway = self.gateways.iter().find(|it| it.attempt == attempt);
        let (outcome, progress) = match gateway.filter(|it| it.is_alive) {
            Some(gateway) => {
                let age = self.now.since(gateway.started).0;
                let progress = Progress {
                    output_bytes: age.min(gateway.life.works_until) / 100,
                    cpu_ms: 0,
                    major_faults: gateway.life.memory.faults(age),
                };
                let is_ready = gateway.life.ready_after.is_some_and(|at| age >= at);
                let says_ready = gateway.life.says.iter().any(|it| it.1 == Marker::Ready);
                let outcome = if gateway.life.is_deaf(age) {
                    ProbeOutcome::TimedOut
                } else if !is_ready && !says_ready {
                    ProbeOutcome::Refused
                } else {
                    answered(target, gateway.life.answers_to, is_ready)
                };
                (outcome, progress)
            }
            None => (ProbeOutcome::Refused, Progress::default()),
        };
        Event::ProbeFinished {
            attempt,
            target,
            outcome,
            progress,
        }
    }
}

/// A version that does not know a path answers it with a page of HTML.
fn answered(target: ProbeTarget, newest: Newest, is_ready: bool) -> ProbeOutcome {
    let body = match (target, newest) {
        (ProbeTarget::Startupz, Newest::Startupz) => Some(HealthBody {
            ok: Some(is_ready),
            pending_reason: (!is_ready).then(|| "startup-sidecars".to_owned()),
            ..HealthBody::default()
        }),
        (ProbeTarget::Readyz, Newest::Startupz | Newest::Readyz) => Some(HealthBody {
            ready: Some(is_ready),
            ..HealthBody::default()
        }),
        (ProbeTarget::Startupz, Newest::Readyz | Newest::Healthz)
        | (ProbeTarget::Readyz, Newest::Healthz)
        | (ProbeTarget::Healthz, Newest::Startupz | Newest::Readyz | Newest::Healthz) => None,
    };
    ProbeOutcome::Answered { status: 200, body }
}
