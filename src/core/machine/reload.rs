//! The config of a gateway that runs, and putting the last good one back before a start.

use super::super::action::{Action, ConfigProblem, HoldWhy, Report, Stage};
use super::super::config::{ConfigFacts, ConfigState};
use super::super::event::{Event, Mended};
use super::super::exit_class::{Marker, Refusal, StopCause};
use super::super::reload::{Deed, Setting, Sign, Told};
use super::super::time::Mono;
use super::{Core, Phase};
use std::path::PathBuf;

impl Core {
    fn setting(&self) -> Setting {
        let speaks = self.boot.as_ref().is_some_and(|boot| {
            boot.markers.contains(&Marker::Ready) || boot.markers.contains(&Marker::Listening)
        });
        Setting {
            apply: self.policy.apply,
            speaks,
            good_after: self.policy.good_after,
        }
    }

    /// Whether a gateway runs that can take an edit.
    const fn takes_edits(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// Whether it is the last word of a gateway whose end was seen first.
    fn ends_for(&self, sign: Sign) -> bool {
        sign == Sign::Restarting && matches!(self.phase, Phase::Classifying { .. })
    }

    /// The gateway's process exists: what it reads now is what it runs with.
    pub(super) fn follow_config(&mut self, now: Mono, out: &mut Vec<Action>) {
        let deeds = self.reload.began();
        self.do_deeds(now, deeds, out);
    }

    pub(super) fn follow_ready(&mut self, now: Mono, out: &mut Vec<Action>) {
        let setting = self.setting();
        let deeds = self.reload.ready(now, setting);
        self.do_deeds(now, deeds, out);
    }

    pub(super) fn follow_answer(&mut self, now: Mono, out: &mut Vec<Action>) {
        let Some(probed) = self.boot.as_ref().map(|boot| boot.probe_sent) else {
            return;
        };
        let setting = self.setting();
        let deeds = self.reload.answered(now, probed, setting);
        self.do_deeds(now, deeds, out);
    }

    /// What is due; the gateway may be stopping afterwards.
    pub(super) fn follow_deadline(&mut self, now: Mono, out: &mut Vec<Action>) {
        let setting = self.setting();
        let deeds = self.reload.due(now, setting);
        self.do_deeds(now, deeds, out);
    }

    pub(super) fn on_reload_event(&mut self, now: Mono, event: Event, out: &mut Vec<Action>) {
        let setting = self.setting();
        let deeds = match event {
            Event::ConfigSeen {
                attempt,
                look,
                mended,
            } if attempt == self.attempt && self.takes_edits() => {
                if let Some(Mended { paths, count, uid }) = mended {
                    out.push(Action::Report(Report::OwnersMended { paths, count, uid }));
                }
                self.config_path.clone_from(&look.path);
                self.tell_findings(&look.state, out);
                self.reload.looked(now, look, setting)
            }
            Event::ReloadSaid { attempt, sign }
                if attempt == self.attempt && (self.takes_edits() || self.ends_for(sign)) =>
            {
                self.reload.heard(now, sign, setting)
            }
            Event::ConfigValidated {
                attempt,
                generation,
                validation,
            } if attempt == self.attempt && self.takes_edits() => {
                self.reload.validated(now, generation, validation, setting)
            }
            Event::ConfigRolledBack { attempt, result }
                if self.awaits(attempt, Stage::RollingBack) =>
            {
                self.on_rolled_back(now, result, out);
                return;
            }
            Event::ConfigSeen { .. }
            | Event::ReloadSaid { .. }
            | Event::ConfigValidated { .. }
            | Event::ConfigRolledBack { .. }
            | Event::Begun
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
            | Event::Requested { .. }
            | Event::CauseChanged => return,
        };
        self.do_deeds(now, deeds, out);
    }

    fn do_deeds(&mut self, now: Mono, deeds: Vec<Deed>, out: &mut Vec<Action>) {
        let attempt = self.attempt;
        for deed in deeds {
            match deed {
                Deed::Tell(told) => {
                    self.note_edit(&told);
                    let path = self.config_path.clone();
                    out.push(Action::Report(Report::Edit { path, told }));
                }
                Deed::Look => out.push(Action::LookAtConfig { attempt }),
                Deed::Nudge => out.push(Action::NudgeConfig { attempt }),
                Deed::Validate { generation } => out.push(Action::ValidateConfig {
                    attempt,
                    generation,
                }),
                Deed::Probe => {
                    let asks_by_itself = self.policy.liveness_timeout.is_some();
                    if let Some(boot) = &mut self.boot {
                        // One that is out was asked too early; the next one goes out when it has come back.
                        boot.probe_again = boot.probe_at.is_none() && asks_by_itself;
                        if !boot.probe_again {
                            boot.probe_at = Some(now);
                        }
                    }
                }
                Deed::Restart => {
                    self.stop_gateway(now, StopCause::Reload, None, out);
                }
                Deed::Keep(bytes) => out.push(Action::KeepConfig { bytes }),
            }
        }
    }

    fn note_edit(&mut self, told: &Told) {
        match told {
            Told::Refused { .. } | Told::RefusedByGateway { .. } => {
                self.chronicle.note_config(false);
            }
            Told::Accepted { .. } | Told::Restored | Told::Rewritten { .. } => {
                self.chronicle.note_config(true);
            }
            Told::Applied { .. }
            | Told::GatewayRestarts { .. }
            | Told::Restarts { .. }
            | Told::Unverified { .. }
            | Told::NotApplied { .. } => {}
        }
    }

    /// What is worth a word about a config that can be used, once.
    pub(super) fn tell_findings(&mut self, state: &ConfigState, out: &mut Vec<Action>) {
        let ConfigState::Parsed { findings } = state else {
            return;
        };
        for finding in findings
            .iter()
            .filter(|finding| !self.said.config.contains(finding))
        {
            out.push(Action::Report(Report::Config(finding.clone())));
        }
        self.said.config.clone_from(findings);
    }

    /// Whether the last good config is to be put in the place of this one.
    pub(super) fn may_roll_back(&self, state: &ConfigState) -> bool {
        let is_a_file = match state {
            ConfigState::Broken { .. } | ConfigState::Parsed { .. } => true,
            ConfigState::Missing
            | ConfigState::NotAFile { .. }
            | ConfigState::Unreadable { .. } => false,
        };
        self.policy.roll_back && is_a_file && self.rounds.rollbacks == 0
    }

    /// Rolls back before this look goes on; `why` is what it holds for if that cannot be.
    pub(super) fn roll_back(
        &mut self,
        now: Mono,
        facts: &ConfigFacts,
        why: HoldWhy,
        out: &mut Vec<Action>,
    ) {
        self.rounds.rollbacks += 1;
        self.config_path.clone_from(&facts.path);
        self.rolling_back = Some(why);
        self.enter(now, Stage::RollingBack, out);
    }

    fn on_rolled_back(
        &mut self,
        now: Mono,
        result: Result<PathBuf, String>,
        out: &mut Vec<Action>,
    ) {
        let why = self.rolling_back.take();
        match result {
            Ok(broken) => {
                self.said.not_rolled_back = None;
                let path = self.config_path.clone();
                out.push(Action::Report(Report::RolledBack { path, broken }));
                self.enter(now, Stage::Config, out);
            }
            Err(error) => {
                if self.said.not_rolled_back.as_ref() != Some(&error) {
                    self.said.not_rolled_back = Some(error.clone());
                    let why = error.clone();
                    out.push(Action::Report(Report::NotRolledBack { why }));
                }
                let path = self.config_path.clone();
                let problem = ConfigProblem::Broken(error);
                self.hold(now, why.unwrap_or(HoldWhy::Config { path, problem }), out);
            }
        }
    }

    /// True when the next look is to put the last good config back: the gateway refused the one that stands there.
    pub(super) fn rolls_back_after(&mut self, refusal: Refusal) -> bool {
        let rolls_back =
            self.policy.roll_back && refusal.is_of_the_config() && !self.refused_config;
        if rolls_back {
            self.refused_config = true;
            self.roll_back_next = Some(refusal);
        }
        rolls_back
    }

    /// The next look is not the one right after the refusal: by then somebody may have mended the config.
    /// Should the gateway refuse it once more, it is rolled back then.
    pub(super) fn forget_refused_config(&mut self) {
        if self.roll_back_next.take().is_some() {
            self.refused_config = false;
        }
    }
}
