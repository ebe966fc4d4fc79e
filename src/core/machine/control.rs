//! What a person asks for: a restart, a pause, the end of one.

use super::super::action::{Action, Report, Stage};
use super::super::control::{Answer, Op, Peer, RefusedWhy};
use super::super::exit_class::StopCause;
use super::super::status::Pause;
use super::super::time::{Millis, Mono};
use super::{Core, Phase, Wanted};

impl Core {
    pub(super) fn on_request(
        &mut self,
        now: Mono,
        id: u64,
        op: Op,
        peer: Peer,
        out: &mut Vec<Action>,
    ) {
        let answer = match self.refusal(op) {
            Some(why) => Answer::Refused(why),
            None => {
                let starts = self.starts();
                out.push(Action::Report(Report::Requested { op, peer }));
                match op {
                    Op::Restart => self.restart(now, out),
                    Op::Pause { limit } => self.pause(now, limit, out),
                    Op::Resume => self.resume(now, false, out),
                }
                Answer::Accepted { starts }
            }
        };
        out.push(Action::Reply { id, answer });
    }

    fn refusal(&self, op: Op) -> Option<RefusedWhy> {
        let is_over = matches!(self.phase, Phase::Closing { .. } | Phase::Exited);
        match (self.wanted, op) {
            (Wanted::End(_), _) => Some(RefusedWhy::Ending),
            _ if is_over => Some(RefusedWhy::Ending),
            (Wanted::Pause { .. }, Op::Restart) => Some(RefusedWhy::Paused),
            (Wanted::Gateway, Op::Resume) => Some(RefusedWhy::NotPaused),
            (Wanted::Pause { .. } | Wanted::Gateway, _) => None,
        }
    }

    fn restart(&mut self, now: Mono, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Starting | Phase::Running => {
                self.stop_gateway(now, StopCause::Restart, None, out);
            }
            Phase::Backoff { .. } | Phase::Held { .. } => self.begin_look(now, Stage::Volume, out),
            Phase::Stopping { .. } | Phase::Classifying { .. } => self.restart_asked = true,
            // A start is under way.
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => {}
        }
    }

    fn pause(&mut self, now: Mono, limit: Option<Millis>, out: &mut Vec<Action>) {
        let since = self.pause_since().unwrap_or(now);
        self.wanted = Wanted::Pause { since, limit };
        match &mut self.phase {
            Phase::Starting | Phase::Running => {
                self.stop_gateway(now, StopCause::Pause, None, out);
            }
            Phase::Stopping { cause, .. } => *cause = (*cause).max(StopCause::Pause),
            // What is being spawned is stopped as soon as it is there.
            Phase::Preflight {
                stage: Stage::Spawn,
                ..
            }
            | Phase::Classifying { .. } => {}
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. } => self.rest(now, out),
            Phase::Closing { .. } | Phase::Exited => {}
        }
    }

    /// No gateway is left: the pause as it was asked for begins, and with it the time until it ends by itself.
    pub(super) fn rest(&mut self, now: Mono, out: &mut Vec<Action>) {
        let Wanted::Pause { limit, .. } = self.wanted else {
            return;
        };
        self.phase = Phase::Paused {
            until: limit.map(|limit| now.plus(limit)),
        };
        self.forget_refused_config();
        // Answers that are on their way to a look that was broken off come too late.
        self.attempt.0 += 1;
        self.held_since = None;
        self.said.held = None;
        self.chronicle.forget_hold();
        out.push(Action::Report(Report::Paused { limit }));
    }

    pub(super) fn resume(&mut self, now: Mono, by_limit: bool, out: &mut Vec<Action>) {
        let Some(since) = self.pause_since() else {
            return;
        };
        self.wanted = Wanted::Gateway;
        let after = now.since(since);
        out.push(Action::Report(Report::Resumed { after, by_limit }));
        // Where a gateway is still being stopped, the start follows its end.
        if matches!(self.phase, Phase::Paused { .. }) {
            self.begin_look(now, Stage::Volume, out);
        }
    }

    const fn pause_since(&self) -> Option<Mono> {
        match self.wanted {
            Wanted::Pause { since, .. } => Some(since),
            Wanted::Gateway | Wanted::End(_) => None,
        }
    }

    pub(super) fn pause_status(&self, now: Mono) -> Option<Pause> {
        let until = if let Phase::Paused { until } = self.phase {
            until
        } else {
            None
        };
        self.pause_since().map(|since| Pause {
            paused_for: now.since(since),
            resumes_in: until.map(|until| until.since(now)),
        })
    }
}
