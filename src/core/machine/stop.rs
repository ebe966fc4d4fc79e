//! Stopping, classifying an exit, and what follows it.

use super::super::action::{Action, Ending, HoldWhy, Report, Stage, TreeScope};
use super::super::exit_class::{ExitClass, ExitStatus, Refusal, StopCause};
use super::super::oom::OomEvidence;
use super::super::restart;
use super::super::time::{Millis, Mono};
use super::boot::DEAF_GRACE;
use super::{CLOSING_DEADLINE, Core, Phase, TreeResult, Wanted};

/// A stop often comes twice at once, to the process and to its group: that is one.
const SAME_SIGNAL: Millis = Millis(500);

/// A second signal leaves this much; a third nothing.
const SHORTENED: Millis = Millis::from_secs(3);

/// Time for the dead gateway's last output and its remaining processes.
const CLASSIFY_DEADLINE: Millis = Millis::from_secs(15);

/// A successful write this recent need not be repeated before a relaunch.
const VOLUME_PROOF_LASTS: Millis = Millis::from_secs(600);

impl Core {
    pub(super) fn on_stop(
        &mut self,
        now: Mono,
        name: String,
        sender: Option<i32>,
        out: &mut Vec<Action>,
    ) {
        let is_first = !matches!(self.wanted, Wanted::End(_));
        if is_first {
            self.wanted = Wanted::End(Ending::Stopped);
        }
        match &mut self.phase {
            Phase::Starting | Phase::Running => {
                self.stop_gateway(now, StopCause::Shutdown, Some((name, sender)), out);
            }
            Phase::Stopping {
                cause,
                kill_at,
                signals,
                asked_at,
                ..
            } => {
                if *cause < StopCause::Shutdown {
                    *cause = StopCause::Shutdown;
                    (*signals, *asked_at) = (1, now);
                    let timeout = kill_at.since(now).min(self.policy.stop_timeout);
                    *kill_at = now.plus(timeout);
                    let signal = Some((name, sender));
                    out.push(Action::Report(Report::Stopping {
                        cause: *cause,
                        signal,
                        timeout,
                        short: None,
                    }));
                } else if now.since(*asked_at) >= SAME_SIGNAL {
                    (*signals, *asked_at) = (*signals + 1, now);
                    let left = if *signals == 2 { SHORTENED } else { Millis(0) };
                    let timeout = kill_at.since(now).min(left);
                    *kill_at = now.plus(timeout);
                    out.push(Action::Report(Report::StopShortened { timeout }));
                }
            }
            // A spawn answers at once; its answer leads to the stop.
            Phase::Preflight {
                stage: Stage::Spawn,
                ..
            } => self.asked_by = Some((name, sender)),
            Phase::Classifying { .. } if is_first => say_stopping(name, sender, out),
            Phase::Classifying { .. } => {}
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. } => {
                say_stopping(name, sender, out);
                self.close(now, out);
            }
            Phase::Closing { .. } | Phase::Exited => {}
        }
        // After the SIGTERM, which waits for nothing.
        if is_first {
            out.push(Action::Unwatch);
        }
    }

    /// Asks the gateway to drain and end; a stronger cause replaces a weaker one.
    pub(super) fn stop_gateway(
        &mut self,
        now: Mono,
        cause: StopCause,
        signal: Option<(String, Option<i32>)>,
        out: &mut Vec<Action>,
    ) {
        let timeout = match cause {
            StopCause::ChannelsOff
            | StopCause::Reload
            | StopCause::Memory
            | StopCause::Restart
            | StopCause::Pause
            | StopCause::Shutdown => self.policy.stop_timeout,
            StopCause::Hung | StopCause::StartTimeout => self.policy.stop_timeout.min(DEAF_GRACE),
        };
        let signals = u32::from(cause == StopCause::Shutdown);
        let short = if cause.is_of_slowness() {
            self.shortage()
        } else {
            None
        };
        self.phase = Phase::Stopping {
            cause,
            kill_at: now.plus(timeout),
            killed: false,
            signals,
            asked_at: now,
        };
        out.push(Action::Terminate);
        out.push(Action::Report(Report::Stopping {
            cause,
            signal,
            timeout,
            short,
        }));
    }

    pub(super) fn on_exit(&mut self, now: Mono, status: ExitStatus, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Starting | Phase::Running => {}
            Phase::Stopping { cause, killed, .. } => {
                if let (StopCause::Shutdown, true) = (cause, killed) {
                    self.wanted = Wanted::End(Ending::StopForced);
                }
                if let Some(boot) = &mut self.boot {
                    boot.asked = Some(cause);
                    boot.we_killed = killed;
                }
            }
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Classifying { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => return,
        }
        self.memory.end();
        let scope = match self.wanted {
            Wanted::Gateway | Wanted::Pause { .. } => TreeScope::Gateway,
            Wanted::End(_) => TreeScope::Everything,
        };
        let deadline = now.plus(CLASSIFY_DEADLINE);
        // A gateway that ended in order when it was asked to needs no evidence, and a stop does not wait for any.
        let was_asked = self.boot.as_ref().is_some_and(|boot| boot.asked.is_some());
        let needs_none = was_asked && status == ExitStatus::Code(0);
        self.phase = Phase::Classifying {
            status,
            ended: now,
            class: None,
            tree: None,
            scope,
            deadline,
        };
        let attempt = self.attempt;
        if needs_none {
            self.classify(OomEvidence::default(), out);
        } else {
            out.push(Action::CollectEvidence { attempt });
        }
        out.push(Action::EndTree { attempt, scope });
    }

    pub(super) fn on_tree_ended(
        &mut self,
        now: Mono,
        ended: u32,
        survivors: Vec<i32>,
        out: &mut Vec<Action>,
    ) {
        match &mut self.phase {
            Phase::Classifying { tree, .. } => {
                *tree = Some(TreeResult { ended, survivors });
                self.try_go_on(now, out);
            }
            Phase::Closing { .. } => self.end(out),
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Starting
            | Phase::Running
            | Phase::Stopping { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. }
            | Phase::Exited => {}
        }
    }

    /// Goes on once the class is known and nothing of the tree is left.
    pub(super) fn try_go_on(&mut self, now: Mono, out: &mut Vec<Action>) {
        let Phase::Classifying {
            status,
            ended,
            class: Some(class),
            tree: Some(tree),
            scope,
            ..
        } = &self.phase
        else {
            return;
        };
        let (status, ended, class, tree) = (*status, *ended, class.clone(), tree.clone());
        let ended_everything = *scope == TreeScope::Everything;
        let Some(boot) = self.boot.take() else { return };
        let TreeResult {
            ended: count,
            survivors,
        } = tree;
        if count > 0 || !survivors.is_empty() {
            out.push(Action::Report(Report::TreeEnded {
                ended: count,
                survivors: survivors.clone(),
            }));
        }
        let draw = self.draw();
        let ended = restart::Boot {
            started: boot.started,
            ready: boot.ready,
            ended,
            status,
        };
        let delay = self.history.delay(&class, ended, &self.policy.pace, draw);
        let restart_asked = std::mem::take(&mut self.restart_asked);
        if let Wanted::End(_) = self.wanted {
            if ended_everything {
                self.end(out);
            } else {
                self.close(now, out);
            }
        } else if let Wanted::Pause { .. } = self.wanted {
            self.rest(now, out);
        } else if !survivors.is_empty() {
            self.hold(now, HoldWhy::LeftoversSurvive(survivors), out);
        } else if let ExitClass::Refused(refusal) = class {
            self.after_refusal(now, refusal, out);
        } else if delay.0 > 0 && !restart_asked {
            self.phase = Phase::Backoff {
                until: now.plus(delay),
            };
            out.push(Action::Report(Report::BackingOff {
                delay,
                crashes: self.history.crashes(),
            }));
        } else {
            let proved = self
                .volume_proved
                .is_some_and(|at| now.since(at) < VOLUME_PROOF_LASTS);
            self.begin_look(now, if proved { Stage::Locks } else { Stage::Volume }, out);
        }
    }

    fn after_refusal(&mut self, now: Mono, refusal: Refusal, out: &mut Vec<Action>) {
        self.volume_proved = None;
        if refusal == Refusal::PermissionDenied && !self.mended {
            self.mended = true;
            self.mend_next = true;
            self.begin_look(now, Stage::Volume, out);
        } else if self.rolls_back_after(refusal) {
            self.begin_look(now, Stage::Volume, out);
        } else {
            if refusal.is_of_the_config() {
                // Our rules passed it; the gateway knows more keys than they do.
                self.chronicle.note_config(false);
            }
            self.hold(now, HoldWhy::Refused(refusal), out);
        }
    }

    pub(super) fn close(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.phase = Phase::Closing {
            deadline: now.plus(CLOSING_DEADLINE),
        };
        out.push(Action::EndTree {
            attempt: self.attempt,
            scope: TreeScope::Everything,
        });
    }

    /// The last step: says how it ends and ends.
    pub(super) fn end(&mut self, out: &mut Vec<Action>) {
        let ending = match self.wanted {
            Wanted::Gateway | Wanted::Pause { .. } => Ending::Stopped,
            Wanted::End(ending) => ending,
        };
        self.phase = Phase::Exited;
        out.push(Action::Report(Report::Ending(ending)));
        out.push(Action::Exit(ending));
    }
}

/// A stop while no gateway runs: there is nothing to drain.
fn say_stopping(name: String, sender: Option<i32>, out: &mut Vec<Action>) {
    out.push(Action::Report(Report::Stopping {
        cause: StopCause::Shutdown,
        signal: Some((name, sender)),
        timeout: Millis(0),
        short: None,
    }));
}
