//! Does what the core decided. Each action is answered by the event its doc names.

use super::super::clock;
use super::super::config_file;
use super::super::defect;
use super::super::dumps;
use super::super::folder::Folder;
use super::super::leftovers;
use super::super::lock_files;
use super::super::log;
use super::super::memory::Sampler;
use super::super::oom::OomWatch;
use super::super::output::OWN;
use super::super::probe;
use super::super::proc::Stat;
use super::super::reap::{self, Leftovers};
use super::super::relay::Drain;
use super::super::rollback;
use super::super::state::{self, ChildRecord};
use super::super::timeline;
use super::super::volume;
use super::child::Child;
use super::{Supervisor, Tree};
use crate::core::action::{Action, Report, TreeScope};
use crate::core::event::{Attempt, Event, Instance, SpawnFailure, SpawnFault};
use crate::core::readiness::{ProbeOutcome, ProbeTarget, Progress};
use crate::core::time::Millis;
use crate::core::timeline::kind_of;
use crate::render::{self, LogLine};
use crate::settings::Settings;
use nix::unistd::Pid;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// How long the last lines of a dead gateway are waited for; the relay thread needs less than a millisecond.
const EVIDENCE: Duration = Duration::from_millis(250);
/// A probe's own timeout comes first.
const PROBE_SLACK: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL for what a gateway left behind.
const TREE_GRACE: Duration = Duration::from_secs(2);

impl Supervisor {
    pub(super) fn act(&mut self, action: Action) {
        tracing::debug!("action {action:?}");
        match action {
            Action::CheckVolume { attempt, mend_all } => self.check_volume(attempt, mend_all),
            Action::FindLeftovers { attempt } => self.find_leftovers(attempt),
            Action::EndProcesses { attempt, targets } => {
                let proc = self.proc.clone();
                self.job(move || Event::ProcessesEnded {
                    attempt,
                    survivors: leftovers::end(&proc, &targets),
                });
            }
            Action::FindLocks { attempt } => {
                let (launch, proc) = (Arc::clone(&self.launch), self.proc.clone());
                self.job(move || Event::LocksFound {
                    attempt,
                    locks: lock_files::find(&launch, &proc),
                });
            }
            Action::ClearLocks { attempt, locks } => {
                let launch = Arc::clone(&self.launch);
                self.job(move || {
                    let failed = lock_files::clear(&launch.state_dir, &locks);
                    Event::LocksCleared { attempt, failed }
                });
            }
            Action::ReadConfig { attempt } => {
                let (launch, settings) = (Arc::clone(&self.launch), Arc::clone(&self.settings));
                let (dumps, files) = (Arc::clone(&self.dumps), Arc::clone(&self.config));
                files.rearm();
                self.job(move || {
                    // The last step before a start; the folder of dumps is on the same disk.
                    let prepared = dumps::prepare(&launch, settings.heap_dump);
                    *dumps.lock().unwrap_or_else(PoisonError::into_inner) = prepared;
                    files.note_judged(&launch.config_path);
                    let facts = config_file::read(&launch, settings.internal_port).0;
                    if facts.rolled_back.is_none() {
                        rollback::forget(&launch);
                    }
                    Event::ConfigRead { attempt, facts }
                });
            }
            Action::SeedConfig { attempt } => {
                let (launch, settings) = (Arc::clone(&self.launch), Arc::clone(&self.settings));
                self.job(move || {
                    let result = config_file::write_seed(&launch, &settings.config_seed);
                    Event::ConfigSeeded { attempt, result }
                });
            }
            Action::Spawn { attempt } => self.spawn(attempt),
            Action::Terminate => self.child.into_iter().for_each(Child::terminate),
            Action::Kill => self.child.into_iter().for_each(Child::kill),
            Action::CollectEvidence { attempt } => self.collect_evidence(attempt),
            Action::EndTree { attempt, scope } => self.end_tree(attempt, scope),
            Action::Probe {
                attempt,
                target,
                timeout,
            } => self.probe(attempt, target, timeout),
            Action::FindListeners { attempt } => self.find_listeners(attempt),
            Action::StartChannels { attempt } => self.start_channels(attempt),
            Action::SampleMemory {
                attempt,
                counts_processes,
            } => self.sample_memory(attempt, counts_processes),
            Action::KeepIncident(incident) => self.keep_incident(*incident),
            Action::Watch => self.watch_config(),
            Action::Unwatch => self.unwatch_config(),
            Action::LookAtConfig { attempt } => self.look_at_config(attempt, false),
            Action::NudgeConfig { attempt } => self.look_at_config(attempt, true),
            Action::ValidateConfig {
                attempt,
                generation,
            } => self.validate_config(attempt, generation),
            Action::KeepConfig { bytes } => self.keep_config(bytes),
            Action::RollBackConfig { attempt } => self.roll_back_config(attempt),
            Action::Reply { id, answer } => {
                if let Some((_, reply)) = self.asked.take_if(|(asked, _)| *asked == id) {
                    let _ = reply.send(answer);
                }
            }
            Action::Report(report) => self.tell(&report),
            Action::Exit(ending) => self.ending = Some(ending),
        }
    }

    /// Says it, and keeps it where it is a transition.
    fn tell(&mut self, report: &Report) {
        let line = render::report(report);
        log::emit(&line);
        if let Some(kind) = kind_of(report) {
            let entry = timeline::entry(clock::wall(), kind, &line);
            // Refused only by a disk that hangs; the log has it.
            self.records.send(timeline::record(&entry));
            // Between the gateway's own lines it tells where one life of it ends.
            let line = format!("{OWN}{}", entry.text);
            self.records.output(entry.at, line.as_bytes());
        }
        if let Some(alerting) = &mut self.alerting {
            alerting.see(report);
        }
    }

    /// Runs what may hang with the disk on a thread of its own.
    pub(super) fn job(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let sender = self.sender.clone();
        tokio::task::spawn_blocking(move || {
            // The loop is gone only when clawkeeper is ending.
            let _ = sender.blocking_send(work());
        });
    }

    fn check_volume(&self, attempt: Attempt, mend_all: bool) {
        // What changes from here on may be what ends the next hold.
        self.config.rearm();
        let hung = move || Event::VolumeChecked {
            attempt,
            instance: Instance::Unavailable {
                error: "the disk gives no answer".to_owned(),
            },
            facts: volume::hung(),
            mended: None,
        };
        let sender = self.sender.clone();
        if self.volume_is_busy.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                let _ = sender.send(hung()).await;
            });
            return;
        }
        let (launch, instance) = (Arc::clone(&self.launch), Arc::clone(&self.instance));
        let is_busy = Arc::clone(&self.volume_is_busy);
        let work = tokio::task::spawn_blocking(move || {
            let mut lock = instance.lock().unwrap_or_else(PoisonError::into_inner);
            let (instance, facts, mended) = volume::check(&launch, &mut lock, mend_all);
            is_busy.store(false, Ordering::Release);
            Event::VolumeChecked {
                attempt,
                instance,
                facts,
                mended,
            }
        });
        tokio::spawn(async move {
            let answer = tokio::time::timeout(volume::DEADLINE.to_duration(), work).await;
            let event = answer.ok().and_then(Result::ok).unwrap_or_else(hung);
            let _ = sender.send(event).await;
        });
    }

    fn find_leftovers(&self, attempt: Attempt) {
        let (launch, proc) = (Arc::clone(&self.launch), self.proc.clone());
        let health = self.health.clone();
        self.job(move || {
            let config = config_file::read_for_address(&launch);
            let address = launch.listen_address(config.as_ref().map(|parsed| &parsed.value));
            let port = address.port();
            if let Some(health) = health {
                health.give_way(port);
            }
            let private = Folder::open(&launch.state_dir)
                .and_then(|state| state::open_private(&state))
                .ok();
            if let Some(private) = &private {
                state::write_holder(private);
            }
            let record = private.as_ref().and_then(state::read_child);
            if let Some(record) = &record {
                leftovers::pass_over(&proc, record.pid);
            }
            let (processes, port_busy) = leftovers::find(&launch, &proc, address, record.as_ref());
            Event::LeftoversFound {
                attempt,
                processes,
                port,
                port_busy,
            }
        });
    }

    fn spawn(&mut self, attempt: Attempt) {
        self.oom = Some(OomWatch::begin(
            Path::new("/"),
            !self.launch.in_container || self.launch.is_on_fly(),
        ));
        let started = self
            .relay
            .attach(attempt.0)
            .map_err(|error| SpawnFailure {
                fault: SpawnFault::Resources,
                error: config_file::chain(&error),
            })
            .and_then(|output| {
                let child = Child::start(&self.launch, attempt, output, self.dump_options());
                child.map_err(|error| SpawnFailure {
                    fault: error.fault(),
                    error: config_file::chain(&error),
                })
            });
        let event = match started {
            Ok(child) => {
                let timeout = self.settings.stop_timeout;
                let timeout = timeout.unwrap_or(Settings::GATEWAY_STOP_TIMEOUT);
                defect::keep(child.pid, timeout.to_duration());
                self.child = Some(child);
                self.sampler = Some(Sampler::new(Path::new("/"), child.pid.as_raw()));
                self.record_child(child);
                Event::Spawned {
                    attempt,
                    pid: child.pid.as_raw(),
                }
            }
            Err(failure) => Event::SpawnFailed { attempt, failure },
        };
        self.queue.push_back(event);
    }

    /// What node is told to leave behind when it runs out of heap. What is not done is said when that changes.
    fn dump_options(&self) -> Vec<OsString> {
        let mut prepared = self.dumps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = prepared.refused.take() {
            log::emit(
                &LogLine::warn("what --heap-dump asks for is not done in full").field("why", why),
            );
        }
        std::mem::take(&mut prepared.options)
    }

    /// Notes the child for the next clawkeeper, should this one be killed and the child not.
    fn record_child(&self, child: Child) {
        let (launch, proc) = (Arc::clone(&self.launch), self.proc.clone());
        tokio::task::spawn_blocking(move || {
            let pid = child.pid.as_raw();
            let (Some(stat), Some(boot_id)) = (proc.stat(pid), proc.boot_id()) else {
                return;
            };
            let record = ChildRecord {
                pid,
                start_ticks: stat.start_ticks,
                boot_id,
            };
            let private =
                Folder::open(&launch.state_dir).and_then(|state| state::open_private(&state));
            if let Err(error) = private.and_then(|private| state::write_child(&private, &record)) {
                tracing::debug!("child not recorded: {error}");
            }
        });
    }

    fn collect_evidence(&mut self, attempt: Attempt) {
        let _ = self.relay.drained(attempt.0, Drain::Seen, EVIDENCE);
        // What the last lines gave away must reach the core before the evidence does.
        while let Ok(event) = self.receiver.try_recv() {
            self.queue.push_back(event);
        }
        let oom = self.oom.take().map(|mut watch| watch.look());
        self.queue.push_back(Event::EvidenceCollected {
            attempt,
            oom: oom.unwrap_or_default(),
        });
    }

    /// Asks the kernel whether it killed something beside the gateway.
    pub(super) fn look_for_oom(&mut self, attempt: Attempt) {
        let Some(watch) = &mut self.oom else { return };
        let oom = watch.look();
        if !oom.is_empty() {
            self.queue.push_back(Event::OomSeen { attempt, oom });
        }
    }

    fn end_tree(&mut self, attempt: Attempt, scope: TreeScope) {
        let spare: Option<reap::Spare> = match scope {
            TreeScope::Everything => None,
            TreeScope::Gateway => {
                let (belonging, alert) = (self.belonging.clone(), self.alert_group.clone());
                Some(Box::new(move |pid: Pid| {
                    alert.has(pid) || !belonging.is_of_gateway(pid)
                }))
            }
        };
        let now = Instant::now();
        self.tree = Some(Tree {
            attempt,
            leftovers: Leftovers::new(now, TREE_GRACE, spare),
            look_at: now,
        });
        self.step_tree();
    }

    fn probe(&self, attempt: Attempt, target: ProbeTarget, timeout: Millis) {
        let Some(child) = self.child else { return };
        let (launch, relay, proc) = (
            Arc::clone(&self.launch),
            Arc::clone(&self.relay),
            self.proc.clone(),
        );
        let sender = self.sender.clone();
        let pid = child.pid.as_raw();
        tokio::spawn(async move {
            // The config may say where to ask, and reading it may hang with the disk.
            let question = async {
                let (address, port) = self::address(&launch).await;
                probe::ask(address, port, target, timeout).await
            };
            let limit = timeout.to_duration() + PROBE_SLACK;
            let outcome = tokio::time::timeout(limit, question).await;
            let outcome = outcome.unwrap_or(ProbeOutcome::TimedOut);
            let stat = proc.stat(pid);
            let progress = Progress {
                output_bytes: relay.stats().read_bytes,
                cpu_ms: stat.as_ref().map_or(0, Stat::cpu_ms),
                major_faults: stat.map_or(0, |stat| stat.major_faults),
            };
            let _ = sender
                .send(Event::ProbeFinished {
                    attempt,
                    target,
                    outcome,
                    progress,
                })
                .await;
        });
    }

    fn sample_memory(&mut self, attempt: Attempt, counts_processes: bool) {
        let Some(sampler) = &mut self.sampler else {
            return;
        };
        if counts_processes {
            let us = i32::try_from(std::process::id()).unwrap_or(0);
            let (belonging, alert) = (&self.belonging, &self.alert_group);
            sampler.count(us, |pid| {
                let pid = Pid::from_raw(pid);
                !alert.has(pid) && belonging.is_of_gateway(pid)
            });
        }
        let sample = sampler.sample(self.clock.now());
        self.queue
            .push_back(Event::MemorySampled { attempt, sample });
        self.look_for_oom(attempt);
    }

    fn find_listeners(&self, attempt: Attempt) {
        let sockets = self.proc.listening();
        let own = self
            .child
            .and_then(|child| self.proc.socket_inodes(child.pid.as_raw()));
        let uid = self.launch.account.uid;
        let listeners = sockets
            .into_iter()
            // Without CAP_SYS_PTRACE root may not see another user's descriptors; the socket's user tells as well.
            .filter(|socket| {
                own.as_ref()
                    .map_or(socket.uid == uid, |own| own.contains(&socket.inode))
            })
            .map(|socket| socket.listener)
            .collect();
        let event = Event::ListenersFound { attempt, listeners };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _ = sender.send(event).await;
        });
    }
}

/// Where the gateway can be asked; a port or an address from the config may have changed since the last start.
pub(super) async fn address(launch: &Arc<super::super::launch::Launch>) -> (std::net::IpAddr, u16) {
    let launch = Arc::clone(launch);
    let config = if launch.needs_config_for_address() {
        let launch = Arc::clone(&launch);
        let read = tokio::task::spawn_blocking(move || config_file::read_for_address(&launch));
        read.await.ok().flatten()
    } else {
        None
    };
    let value = config.as_ref().map(|parsed| &parsed.value);
    (launch.probe_address(value), launch.port(value))
}
