//! One life of the gateway: from its process to ready, and while it runs.

use super::super::action::{Action, Report};
use super::super::event::Attempt;
use super::super::exit_class::{Marker, StopCause};
use super::super::memory::Faults;
use super::super::oom::OomEvidence;
use super::super::readiness::{
    self, ListenVerdict, Listener, ProbeOutcome, ProbeTarget, Progress, StartVerdict,
};
use super::super::status::GatewayStatus;
use super::super::time::{Millis, Mono};
use super::{Core, Phase, Wanted};
use serde::{Deserialize, Serialize};

/// The gateway's present life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Boot {
    pub(super) pid: i32,
    pub(super) started: Mono,
    pub(super) ready: Option<Mono>,
    /// Each at most once, in the order seen.
    pub(super) markers: Vec<Marker>,
    /// What we had asked for when it ended.
    pub(super) asked: Option<StopCause>,
    /// True when we sent it a SIGKILL before it ended.
    pub(super) we_killed: bool,
    /// Kills the kernel spoke of that no death of the gateway has explained yet.
    pub(super) oom: OomEvidence,
    /// When they are said to have hit another process.
    pub(super) oom_said_at: Option<Mono>,
    /// What to ask next; falls back as the version turns out older.
    probe: ProbeTarget,
    /// When to ask next; `None` while an answer is outstanding.
    pub(super) probe_at: Option<Mono>,
    /// When the last question was sent.
    pub(super) probe_sent: Mono,
    /// How long the last answer took.
    #[serde(default)]
    probe_took: Option<Millis>,
    /// Ask once more as soon as the outstanding answer has come.
    pub(super) probe_again: bool,
    answering_since: Option<Mono>,
    progress: Progress,
    progress_at: Mono,
    /// Time in which nobody ran, for which a start is not blamed.
    #[serde(default)]
    lost: Millis,
    #[serde(default)]
    pub(super) faults: Faults,
    pending: Option<String>,
    say_starting_at: Mono,
    /// When the first probe in a row was sent that was not answered, once ready.
    silent_since: Option<Mono>,
    silence_said: bool,
    channels: Channels,
    /// True from the breaker's own line until something brings the channels back.
    #[serde(default)]
    channels_suppressed: bool,
}

/// What is to be done about channels that the gateway's crash breaker left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Channels {
    /// They are on, or the gateway brings them back itself.
    On,
    /// Off; they are started once the gateway has been ready for [`SETTLE`].
    StartOnceSettled,
    /// The gateway is being asked to start them.
    Starting,
    /// Off; a drained restart brings them back at this time.
    RestartAt(Mono),
}

/// A start is asked often while it is young: it usually takes seconds.
const START_PROBE: Millis = Millis(400);
const LATE_START_PROBE: Millis = Millis::from_secs(2);
const YOUNG_START: Millis = Millis::from_secs(30);
const START_PROBE_TIMEOUT: Millis = Millis::from_secs(2);
/// A loaded event loop may answer late; longer is as good as never.
const LIVENESS_PROBE_TIMEOUT: Millis = Millis::from_secs(10);
/// Once an answer is missing, ask more often.
const SILENT_PROBE: Millis = Millis::from_secs(2);
const SAY_STARTING: Millis = Millis::from_secs(60);
/// Progress may stretch a start to this many times its timeout, not for ever.
const STARTUP_STRETCH: u64 = 4;
/// A gateway that stays up this long does not crash by itself, so its channels may be tried again.
const SETTLE: Millis = Millis::from_secs(20);
/// A gateway that answers nothing rarely heeds SIGTERM either (a stopped one never does).
pub(super) const DEAF_GRACE: Millis = Millis::from_secs(10);

impl Core {
    /// True while a gateway that was ready leaves probes unanswered.
    pub(super) fn is_silent(&self) -> bool {
        self.boot
            .as_ref()
            .is_some_and(|boot| boot.silent_since.is_some())
    }

    pub(super) fn on_spawned(&mut self, now: Mono, pid: i32, out: &mut Vec<Action>) {
        self.boot = Some(Boot {
            pid,
            started: now,
            ready: None,
            markers: Vec::new(),
            asked: None,
            we_killed: false,
            oom: OomEvidence::default(),
            oom_said_at: None,
            probe: self.policy.start_probe,
            probe_at: Some(now.plus(START_PROBE)),
            probe_sent: now,
            probe_took: None,
            probe_again: false,
            answering_since: None,
            progress: Progress::default(),
            progress_at: now,
            lost: Millis(0),
            faults: Faults::default(),
            pending: None,
            say_starting_at: now.plus(SAY_STARTING),
            silent_since: None,
            silence_said: false,
            channels: Channels::On,
            channels_suppressed: false,
        });
        self.memory.begin(now);
        self.phase = Phase::Starting;
        self.chronicle.note_start(now);
        out.push(Action::Report(Report::Started {
            attempt: self.attempt,
            pid,
        }));
        match self.wanted {
            Wanted::Gateway => {
                out.push(Action::Watch);
                self.follow_config(now, out);
            }
            Wanted::Pause { .. } => self.stop_gateway(now, StopCause::Pause, None, out),
            Wanted::End(_) => {
                let signal = self.asked_by.take();
                self.stop_gateway(now, StopCause::Shutdown, signal, out);
            }
        }
    }

    pub(super) fn boot_deadline(&self) -> Option<Mono> {
        let boot = self.boot.as_ref()?;
        let own = match self.phase {
            Phase::Starting => Some(self.start_deadline(boot).min(boot.say_starting_at)),
            Phase::Running => channels_at(boot),
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Stopping { .. }
            | Phase::Classifying { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => None,
        };
        [
            own,
            boot.probe_at,
            boot.oom_said_at,
            self.memory.look_at(),
            self.reload.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn start_deadline(&self, boot: &Boot) -> Mono {
        let timeout = self.policy.startup_timeout;
        let stretched = Millis(timeout.0.saturating_mul(STARTUP_STRETCH));
        boot.progress_at
            .plus(timeout)
            .min(boot.started.plus(boot.lost).plus(stretched))
    }

    pub(super) fn on_boot_deadline(&mut self, now: Mono, out: &mut Vec<Action>) {
        let starting = self.phase == Phase::Starting;
        let Some(boot) = self.boot.as_ref() else {
            return;
        };
        if boot.oom_said_at.is_some_and(|at| now >= at) {
            self.say_killed_beside(now, out);
        }
        let Some(boot) = self.boot.as_ref() else {
            return;
        };
        if starting && now >= self.start_deadline(boot) {
            self.stop_gateway(now, StopCause::StartTimeout, None, out);
            return;
        }
        self.follow_deadline(now, out);
        if matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
        let attempt = self.attempt;
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if starting && now >= boot.say_starting_at {
            boot.say_starting_at = now.plus(SAY_STARTING);
            let elapsed = now.since(boot.started);
            let pending = boot.pending.clone();
            let short = self.shortage();
            out.push(Action::Report(Report::StillStarting {
                elapsed,
                pending,
                short,
            }));
        }
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if boot.probe_at.is_some_and(|at| now >= at) {
            boot.probe_at = None;
            boot.probe_again = false;
            boot.probe_sent = now;
            let (target, timeout) = if starting {
                (boot.probe, START_PROBE_TIMEOUT)
            } else {
                let patience = self.policy.liveness_timeout;
                let timeout =
                    LIVENESS_PROBE_TIMEOUT.min(patience.unwrap_or(LIVENESS_PROBE_TIMEOUT));
                (ProbeTarget::Healthz, timeout)
            };
            out.push(Action::Probe {
                attempt,
                target,
                timeout,
            });
        }
        if starting || channels_at(boot).is_none_or(|at| now < at) {
            return;
        }
        match boot.channels {
            Channels::On | Channels::Starting => {}
            Channels::StartOnceSettled => {
                boot.channels = Channels::Starting;
                self.history.note_channels_started(now);
                out.push(Action::StartChannels { attempt });
            }
            Channels::RestartAt(_) => {
                boot.channels = Channels::On;
                self.stop_gateway(now, StopCause::ChannelsOff, None, out);
            }
        }
    }

    pub(super) fn on_line(
        &mut self,
        now: Mono,
        attempt: Attempt,
        marker: Marker,
        out: &mut Vec<Action>,
    ) {
        if attempt != self.attempt {
            return;
        }
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if boot.markers.contains(&marker) {
            return;
        }
        boot.markers.push(marker);
        match marker {
            Marker::BreakerTripped => boot.channels_suppressed = true,
            Marker::BreakerRecovered => boot.channels_suppressed = false,
            Marker::Ready
            | Marker::Listening
            | Marker::HeapOom
            | Marker::ChangedWhileStarting
            | Marker::Refusal(_) => {}
        }
        if !matches!(self.phase, Phase::Starting | Phase::Running) {
            return;
        }
        match marker {
            Marker::BreakerRecovered => boot.channels = Channels::On,
            Marker::BreakerTripped if self.history.may_start_channels(now) => {
                boot.channels = Channels::StartOnceSettled;
                let start_in = Some(SETTLE);
                out.push(Action::Report(Report::ChannelsOff { start_in }));
            }
            Marker::BreakerTripped => {
                out.push(Action::Report(Report::ChannelsOff { start_in: None }));
                let why = "starting them lately was followed by a crash".to_owned();
                self.leave_channels_off(now, why, out);
            }
            Marker::Ready
            | Marker::Listening
            | Marker::HeapOom
            | Marker::ChangedWhileStarting
            | Marker::Refusal(_) => {}
        }
    }

    pub(super) fn on_channels_started(
        &mut self,
        now: Mono,
        result: Result<Vec<String>, String>,
        out: &mut Vec<Action>,
    ) {
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if boot.channels != Channels::Starting {
            return;
        }
        match result {
            Ok(names) => {
                boot.channels = Channels::On;
                boot.channels_suppressed = false;
                out.push(Action::Report(Report::ChannelsStarted { names }));
            }
            Err(why) => self.leave_channels_off(now, why, out),
        }
    }

    /// The way back that is left: the gateway's own, or a drained restart once the breaker's window has room.
    fn leave_channels_off(&mut self, now: Mono, why: String, out: &mut Vec<Action>) {
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        let restart_in = if self.policy.recovers_channels {
            boot.channels = Channels::On;
            None
        } else {
            let at = self
                .history
                .channels_back_at(boot.started)
                .max(now.plus(SETTLE));
            boot.channels = Channels::RestartAt(at);
            Some(at.since(now))
        };
        out.push(Action::Report(Report::ChannelsStayOff { why, restart_in }));
    }

    pub(super) fn on_probe(
        &mut self,
        now: Mono,
        target: ProbeTarget,
        outcome: &ProbeOutcome,
        progress: Progress,
        out: &mut Vec<Action>,
    ) {
        self.give_back(now);
        if let Some(boot) = &mut self.boot {
            boot.faults.note(now, progress.major_faults);
            if readiness::is_alive(outcome) {
                boot.probe_took = Some(now.since(boot.probe_sent));
            }
        }
        match self.phase {
            Phase::Starting => self.on_start_probe(now, target, outcome, progress, out),
            Phase::Running => self.on_liveness_probe(now, outcome, out),
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Stopping { .. }
            | Phase::Classifying { .. }
            | Phase::Backoff { .. }
            | Phase::Held { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => {}
        }
    }

    fn on_start_probe(
        &mut self,
        now: Mono,
        target: ProbeTarget,
        outcome: &ProbeOutcome,
        progress: Progress,
        out: &mut Vec<Action>,
    ) {
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if progress.is_beyond(&boot.progress) {
            boot.progress_at = now;
        }
        boot.progress = progress;
        if !readiness::is_alive(outcome) && boot.markers.contains(&Marker::Ready) {
            // It said that it is ready and then fell silent before any question reached it.
            let since = *boot.silent_since.get_or_insert(boot.probe_sent);
            if self
                .policy
                .liveness_timeout
                .is_some_and(|timeout| now.since(since) >= timeout)
            {
                self.stop_gateway(now, StopCause::Hung, None, out);
                return;
            }
        } else {
            boot.silent_since = None;
        }
        if let ProbeOutcome::Answered { body, .. } = outcome {
            boot.answering_since.get_or_insert(now);
            boot.pending = body.as_ref().and_then(|body| {
                let word = body.pending_reason.as_ref().or(body.failing.first());
                word.map(|word| word.chars().take(WORD_MAX).collect())
            });
        }
        let young = now.since(boot.started) < YOUNG_START;
        let again = now.plus(if young { START_PROBE } else { LATE_START_PROBE });
        match readiness::judge_start(target, outcome, &boot.markers, boot.answering_since, now) {
            StartVerdict::NotYet => boot.probe_at = Some(again),
            StartVerdict::AskInstead(other) => {
                boot.probe = other;
                boot.probe_at = Some(now);
            }
            StartVerdict::Ready => {
                boot.ready = Some(now);
                boot.probe_at = self
                    .policy
                    .liveness_timeout
                    .map(|_| now.plus(self.policy.liveness_interval));
                let took = now.since(boot.started);
                self.phase = Phase::Running;
                self.said.held = None;
                self.mended = false;
                self.refused_config = false;
                if let Some(since) = self.held_since.take() {
                    out.push(Action::Report(Report::HoldOver {
                        after: now.since(since),
                    }));
                }
                out.push(Action::Report(Report::Ready {
                    attempt: self.attempt,
                    took,
                }));
                if self.policy.expected.is_some() {
                    out.push(Action::FindListeners {
                        attempt: self.attempt,
                    });
                }
                self.follow_ready(now, out);
            }
        }
    }

    fn on_liveness_probe(&mut self, now: Mono, outcome: &ProbeOutcome, out: &mut Vec<Action>) {
        if readiness::is_alive(outcome) {
            self.follow_answer(now, out);
        }
        let Some(timeout) = self.policy.liveness_timeout else {
            return;
        };
        let interval = self.policy.liveness_interval;
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        if readiness::is_alive(outcome) {
            let again = std::mem::take(&mut boot.probe_again);
            boot.probe_at = Some(if again { now } else { now.plus(interval) });
            let silence = boot.silent_since.take();
            if let Some(since) = silence.filter(|_| std::mem::take(&mut boot.silence_said)) {
                out.push(Action::Report(Report::AnsweringAgain {
                    after: now.since(since),
                }));
            }
            return;
        }
        let since = *boot.silent_since.get_or_insert(boot.probe_sent);
        let silence = now.since(since);
        if silence >= timeout {
            self.stop_gateway(now, StopCause::Hung, None, out);
            return;
        }
        if !boot.silence_said && silence.0 * 2 >= timeout.0 {
            boot.silence_said = true;
            let short = self.shortage();
            out.push(Action::Report(Report::NotAnswering {
                since: silence,
                short,
            }));
        }
        if let Some(boot) = &mut self.boot {
            boot.probe_at = Some(now.plus(SILENT_PROBE.min(interval)));
        }
    }

    pub(super) fn on_listeners(&self, listeners: &[Listener], out: &mut Vec<Action>) {
        let Some(expected) = self.policy.expected else {
            return;
        };
        if self.phase != Phase::Running {
            return;
        }
        match readiness::judge_listeners(listeners, expected) {
            ListenVerdict::Reachable => {}
            verdict @ (ListenVerdict::LoopbackOnly { .. } | ListenVerdict::WrongPort { .. }) => {
                out.push(Action::Report(Report::Unreachable {
                    expected_port: expected.port,
                    verdict,
                }));
            }
        }
    }
}

/// A word of the gateway's own is passed on only as far as a word goes.
const WORD_MAX: usize = 64;

impl Boot {
    /// True while its crash breaker keeps every channel off.
    pub(super) const fn has_no_channels(&self) -> bool {
        self.channels_suppressed
    }

    /// So much time has passed in which neither clawkeeper nor the gateway ran.
    pub(super) fn give_back(&mut self, now: Mono, lost: Millis) {
        let later = |at: Mono| at.plus(lost).min(now);
        self.lost = Millis(self.lost.0.saturating_add(lost.0));
        self.progress_at = later(self.progress_at);
        self.probe_sent = later(self.probe_sent);
        self.silent_since = self.silent_since.map(later);
    }

    pub(super) fn status(&self, now: Mono) -> GatewayStatus {
        let waits_for = self.pending.clone().filter(|_| self.ready.is_none());
        GatewayStatus {
            pid: self.pid,
            up_for: now.since(self.started),
            ready_for: self.ready.map(|at| now.since(at)),
            waits_for,
            silent_for: self.silent_since.map(|at| now.since(at)),
            probe_took: self.probe_took,
            channels_suppressed: self.channels_suppressed,
        }
    }
}

/// When something is to be done about channels that are off.
fn channels_at(boot: &Boot) -> Option<Mono> {
    match boot.channels {
        Channels::On | Channels::Starting => None,
        Channels::StartOnceSettled => boot.ready.map(|ready| ready.plus(SETTLE)),
        Channels::RestartAt(at) => Some(at),
    }
}
