//! The steps before a start, and holding when one of them forbids it.

use super::super::action::{Action, ConfigProblem, Ending, HoldWhy, Report, Stage};
use super::super::config::{self, ConfigFacts, ConfigState, ConfigVerdict};
use super::super::event::{Attempt, Event, Instance, Mended, SpawnFailure, SpawnFault};
use super::super::exit_class::Refusal;
use super::super::time::{Millis, Mono};
use super::super::volume::{self, VolumeFacts, VolumeVerdict};
use super::{Core, Phase, Rounds, Wanted};

/// No answer for this long means that the disk or the kernel hangs. The volume's own deadline is shorter.
const STAGE_DEADLINE: Millis = Millis::from_secs(20);

/// A hold whose cause may end by itself, such as a process, is looked at this often.
const SHORT_RETRY: Millis = Millis::from_secs(5);

/// The gateway gives the writer of an empty lock 30 s (measured on 2026.9.6); then it can be judged.
const YOUNG_LOCK: Millis = Millis::from_secs(30);

impl Core {
    /// Begins a look at the world at the given step; what was proved lately may be skipped.
    pub(super) fn begin_look(&mut self, now: Mono, first: Stage, out: &mut Vec<Action>) {
        self.attempt = Attempt(self.attempt.0 + 1);
        self.boot = None;
        self.rounds = Rounds::default();
        self.enter(now, first, out);
    }

    pub(super) fn enter(&mut self, now: Mono, stage: Stage, out: &mut Vec<Action>) {
        let attempt = self.attempt;
        let deadline = now.plus(STAGE_DEADLINE);
        let action = match stage {
            Stage::Volume => Action::CheckVolume {
                attempt,
                mend_all: std::mem::take(&mut self.mend_next),
            },
            Stage::Leftovers => Action::FindLeftovers { attempt },
            Stage::Locks => Action::FindLocks { attempt },
            Stage::Config => Action::ReadConfig { attempt },
            Stage::Seeding => Action::SeedConfig { attempt },
            Stage::RollingBack => Action::RollBackConfig { attempt },
            Stage::Spawn => Action::Spawn { attempt },
            // Entered with their targets by the handlers below.
            Stage::EndingLeftovers | Stage::ClearingLocks => {
                self.phase = Phase::Preflight { stage, deadline };
                return;
            }
        };
        self.phase = Phase::Preflight { stage, deadline };
        out.push(action);
    }

    /// True when this answer is the one being waited for.
    pub(super) fn awaits(&self, attempt: Attempt, stage: Stage) -> bool {
        attempt == self.attempt
            && matches!(self.phase, Phase::Preflight { stage: current, .. } if current == stage)
    }

    pub(super) fn on_answer(&mut self, now: Mono, answer: Event, out: &mut Vec<Action>) {
        match answer {
            Event::VolumeChecked {
                attempt,
                instance,
                facts,
                mended,
            } if self.awaits(attempt, Stage::Volume) => {
                if let Some(Mended { paths, count, uid }) = mended {
                    out.push(Action::Report(Report::OwnersMended { paths, count, uid }));
                }
                self.on_volume(now, instance, &facts, out);
            }
            Event::LeftoversFound {
                attempt,
                processes,
                port,
                port_busy,
            } if self.awaits(attempt, Stage::Leftovers) => {
                self.on_leftovers(now, &processes, port, port_busy, out);
            }
            Event::ProcessesEnded { attempt, survivors }
                if self.awaits(attempt, Stage::EndingLeftovers) =>
            {
                if survivors.is_empty() {
                    // The port may have been theirs: look again.
                    self.enter(now, Stage::Leftovers, out);
                } else {
                    self.hold(now, HoldWhy::LeftoversSurvive(survivors), out);
                }
            }
            Event::LocksFound { attempt, locks } if self.awaits(attempt, Stage::Locks) => {
                self.on_locks(now, locks, out);
            }
            Event::LocksCleared { attempt, failed }
                if self.awaits(attempt, Stage::ClearingLocks) =>
            {
                self.on_locks_cleared(now, failed, out);
            }
            Event::ConfigRead { attempt, facts } if self.awaits(attempt, Stage::Config) => {
                self.on_config(now, facts, out);
            }
            Event::ConfigRead { attempt, facts } if attempt == self.attempt => {
                self.on_config_looked_at(facts, out)
            }
            Event::ConfigSeeded { attempt, result } if self.awaits(attempt, Stage::Seeding) => {
                match result {
                    Ok(from) => {
                        let path = self.config_path.clone();
                        out.push(Action::Report(Report::ConfigSeeded { path, from }));
                        // What was written is examined like any other file.
                        self.enter(now, Stage::Config, out);
                    }
                    Err(error) => {
                        let problem = ConfigProblem::SeedFailed(error);
                        let path = self.config_path.clone();
                        self.hold(now, HoldWhy::Config { path, problem }, out);
                    }
                }
            }
            Event::Begun
            | Event::DeadlinePassed
            | Event::SignalReceived { .. }
            | Event::VolumeChecked { .. }
            | Event::LeftoversFound { .. }
            | Event::ProcessesEnded { .. }
            | Event::LocksFound { .. }
            | Event::LocksCleared { .. }
            | Event::ConfigRead { .. }
            | Event::ConfigSeeded { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::LineSeen { .. }
            | Event::ProbeFinished { .. }
            | Event::ListenersFound { .. }
            | Event::ChildExited { .. }
            | Event::EvidenceCollected { .. }
            | Event::OomSeen { .. }
            | Event::TreeEnded { .. }
            | Event::ChannelsStarted { .. }
            | Event::MemorySampled { .. }
            | Event::ConfigSeen { .. }
            | Event::ReloadSaid { .. }
            | Event::ConfigValidated { .. }
            | Event::ConfigRolledBack { .. }
            | Event::Requested { .. }
            | Event::CauseChanged => {}
        }
    }

    fn on_volume(
        &mut self,
        now: Mono,
        instance: Instance,
        facts: &VolumeFacts,
        out: &mut Vec<Action>,
    ) {
        if let Instance::Theirs { holder } = instance {
            out.push(Action::Report(Report::AlreadyRunning { holder }));
            self.wanted = Wanted::End(Ending::AlreadyRunning);
            self.end(out);
            return;
        }
        self.volume_proved = None;
        self.chronicle.note_volume(facts);
        match volume::judge(facts, self.policy.no_mount) {
            VolumeVerdict::Refuse(problem) => self.hold(now, HoldWhy::Volume(problem), out),
            VolumeVerdict::Usable(warnings) => {
                if let Instance::Unavailable { error } = instance {
                    self.hold(now, HoldWhy::InstanceLock(error), out);
                    return;
                }
                self.volume_proved = Some(now);
                for warning in &warnings {
                    let said = self.said.volume.iter().any(|known| {
                        std::mem::discriminant(known) == std::mem::discriminant(warning)
                    });
                    if !said {
                        out.push(Action::Report(Report::Volume(warning.clone())));
                    }
                }
                self.said.volume = warnings;
                self.enter(now, Stage::Leftovers, out);
            }
        }
    }

    fn on_config(&mut self, now: Mono, facts: ConfigFacts, out: &mut Vec<Action>) {
        let verdict = config::judge(
            &facts.state,
            self.policy.may_seed,
            self.policy.allow_unconfigured,
        );
        self.chronicle.note_config(verdict != ConfigVerdict::Hold);
        match verdict {
            ConfigVerdict::Seed if self.rounds.seeds > 0 => {
                let gone = "what was written is gone again".to_owned();
                let problem = ConfigProblem::SeedFailed(gone);
                let path = facts.path;
                self.hold(now, HoldWhy::Config { path, problem }, out);
            }
            ConfigVerdict::Seed => {
                self.rounds.seeds += 1;
                self.config_path.clone_from(&facts.path);
                self.enter(now, Stage::Seeding, out);
            }
            ConfigVerdict::Hold => {
                let rolls_back = self.may_roll_back(&facts.state);
                let why = HoldWhy::Config {
                    path: facts.path.clone(),
                    problem: ConfigProblem::of(facts.state.clone()),
                };
                if rolls_back {
                    self.roll_back(now, &facts, why, out);
                } else {
                    self.hold(now, why, out);
                }
            }
            ConfigVerdict::Use => {
                if let Some(refusal) = self.roll_back_next.take()
                    && self.may_roll_back(&facts.state)
                {
                    self.roll_back(now, &facts, HoldWhy::Refused(refusal), out);
                    return;
                }
                if facts.state == ConfigState::Missing && !self.said.unconfigured {
                    self.said.unconfigured = true;
                    out.push(Action::Report(Report::Unconfigured));
                }
                if let Some(broken) = facts.rolled_back.filter(|_| self.rounds.rollbacks == 0) {
                    let path = facts.path.clone();
                    out.push(Action::Report(Report::StillRolledBack { path, broken }));
                }
                self.tell_findings(&facts.state, out);
                self.enter(now, Stage::Spawn, out);
            }
        }
    }

    /// SIGHUP while the gateway runs: only said, because the gateway reloads its config itself.
    fn on_config_looked_at(&mut self, facts: ConfigFacts, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Starting | Phase::Running) {
            return;
        }
        let verdict = config::judge(&facts.state, false, self.policy.allow_unconfigured);
        self.chronicle.note_config(verdict != ConfigVerdict::Hold);
        out.push(Action::Report(match verdict {
            ConfigVerdict::Use | ConfigVerdict::Seed => Report::ConfigFine,
            ConfigVerdict::Hold => Report::ConfigNotFine(ConfigProblem::of(facts.state)),
        }));
    }

    /// Stops trying until something changes; says why once.
    pub(super) fn hold(&mut self, now: Mono, why: HoldWhy, out: &mut Vec<Action>) {
        self.forget_refused_config();
        let retry_at = now.plus(self.retry_after(&why));
        self.held_since.get_or_insert(now);
        self.chronicle.note_hold(now, &why);
        self.phase = Phase::Held { retry_at };
        out.push(Action::Watch);
        if self.said.held.as_ref() != Some(&why) {
            out.push(Action::Report(Report::Held(why.clone())));
            self.said.held = Some(why);
        }
    }

    /// A stop or a pause that waited for the answer to a spawn ends or rests instead of holding.
    pub(super) fn hold_or_close(&mut self, now: Mono, why: HoldWhy, out: &mut Vec<Action>) {
        match self.wanted {
            Wanted::Gateway => self.hold(now, why, out),
            Wanted::Pause { .. } => self.rest(now, out),
            Wanted::End(_) => self.close(now, out),
        }
    }

    fn retry_after(&self, why: &HoldWhy) -> Millis {
        let short = SHORT_RETRY.min(self.policy.hold_retry);
        match why {
            HoldWhy::Volume(_)
            | HoldWhy::LiveGateway { .. }
            | HoldWhy::PortTaken { .. }
            | HoldWhy::LeftoversSurvive(_)
            | HoldWhy::Lock { .. }
            | HoldWhy::StageStuck(_)
            | HoldWhy::InstanceLock(_)
            | HoldWhy::CannotStart(SpawnFailure {
                fault: SpawnFault::Resources,
                ..
            })
            | HoldWhy::Refused(Refusal::PortInUse) => short,
            HoldWhy::Refused(
                Refusal::AnotherOwner
                | Refusal::OwnerLease
                | Refusal::AlreadyRunning
                | Refusal::StartupMigrations
                | Refusal::PluginVerification,
            ) => YOUNG_LOCK.min(self.policy.hold_retry),
            // Each look ends them again, as somebody starts them.
            HoldWhy::LeftoversReturn { .. } => YOUNG_LOCK.min(self.policy.hold_retry),
            // The watch tells of a change; the poll is for file systems that send no events.
            HoldWhy::Config { .. } => YOUNG_LOCK.min(self.policy.hold_retry),
            HoldWhy::CannotStart(_)
            | HoldWhy::Refused(
                Refusal::MissingConfig
                | Refusal::MissingMode
                | Refusal::UnknownKey
                | Refusal::InvalidConfig
                | Refusal::InvalidFlag
                | Refusal::NoAuthForBind
                | Refusal::NoAllowedOrigins
                | Refusal::CorruptDatabase
                | Refusal::PermissionDenied
                | Refusal::DiskFull
                | Refusal::ReadOnly
                | Refusal::Unexplained,
            ) => self.policy.hold_retry,
        }
    }
}
