//! What has happened so far, kept for those who ask; no decision looks at it.

use super::super::action::{HoldWhy, Stage};
use super::super::exit_class::{ExitClass, ExitStatus, StopCause};
use super::super::history::Glance;
use super::super::memory::Kib;
use super::super::oom::OomEvidence;
use super::super::status::{
    GatewayStatus, Hold, LastExit, Locks, RestartClass, Status, VolumeSeen,
};
use super::super::time::{Millis, Mono};
use super::super::volume::{VolumeFacts, WriteProbe};
use super::recent::Recent;
use super::{Core, Phase};
use serde::{Deserialize, Serialize};

/// Points of the course of memory that a status shows.
const COURSE: usize = 40;
const HOUR: Millis = Millis::from_secs(3_600);
const DAY: Millis = Millis::from_secs(86_400);

/// Bounded: counters, and the last of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Chronicle {
    phase_since: Option<Mono>,
    hold: Option<(Mono, HoldWhy)>,
    starts: u64,
    restarts: [u64; RestartClass::ALL.len()],
    recent: Recent,
    locks_cleared: u64,
    last_exit: Option<Ended>,
    config_usable: Option<bool>,
    volume: Option<VolumeSeen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    at: Mono,
    class: ExitClass,
    status: ExitStatus,
    #[serde(default)]
    oom: OomEvidence,
    after: Millis,
}

impl Chronicle {
    pub(super) const fn note_phase(&mut self, now: Mono) {
        self.phase_since = Some(now);
    }

    /// A hold lasts through its retries, whose reasons may differ, until a gateway is started.
    pub(super) fn note_hold(&mut self, now: Mono, why: &HoldWhy) {
        let since = self.hold.take().map_or(now, |(since, _)| since);
        self.hold = Some((since, why.clone()));
    }

    pub(super) fn forget_hold(&mut self) {
        self.hold = None;
    }

    pub(super) const fn note_locks_cleared(&mut self, count: u64) {
        self.locks_cleared = self.locks_cleared.saturating_add(count);
    }

    pub(super) fn note_start(&mut self, now: Mono) {
        self.hold = None;
        self.starts = self.starts.saturating_add(1);
        let class = self
            .last_exit
            .as_ref()
            .and_then(|it| RestartClass::of(&it.class));
        let Some(class) = class else { return };
        self.recent.note(now, class);
        if let Some(count) = class.position().and_then(|at| self.restarts.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn note_exit(
        &mut self,
        at: Mono,
        class: &ExitClass,
        status: ExitStatus,
        oom: &OomEvidence,
        after: Millis,
    ) {
        self.last_exit = Some(Ended {
            at,
            class: class.clone(),
            status,
            oom: oom.clone(),
            after,
        });
    }

    pub(super) const fn note_config(&mut self, usable: bool) {
        self.config_usable = Some(usable);
    }

    pub(super) fn note_volume(&mut self, facts: &VolumeFacts) {
        let write_took = match &facts.write {
            WriteProbe::Written { took } => Some(*took),
            WriteProbe::Failed { .. } | WriteProbe::TimedOut { .. } => None,
        };
        self.volume = Some(VolumeSeen {
            space: facts.space,
            write_took,
        });
    }
}

impl Core {
    /// The machine as it stands.
    #[must_use]
    pub fn status(&self, now: Mono) -> Status {
        let told = &self.chronicle;
        Status {
            phase: self.phase_word(),
            phase_for: told.phase_since.map_or(Millis(0), |at| now.since(at)),
            stage: self.stage(),
            uptime: now.since(Mono(0)),
            attempt: self.attempt,
            starts: told.starts,
            restarts: told.restarts,
            restarts_hour: told.recent.within(HOUR, now),
            restarts_day: told.recent.within(DAY, now),
            hold: told.hold.as_ref().map(|(since, why)| Hold {
                why: why.clone(),
                held_for: now.since(*since),
            }),
            pause: self.pause_status(now),
            next_look_in: self.next_look().map(|at| at.since(now)),
            stopping: self.stop_cause(),
            gateway: self.gateway_status(now),
            last_exit: told.last_exit.as_ref().map(|it| LastExit {
                class: it.class.clone(),
                status: it.status,
                oom: it.oom.clone(),
                after: it.after,
                ago: now.since(it.at),
            }),
            crashes: self.history.crashes(),
            memory: self.memory.series().last().copied(),
            memory_course: self.memory_course(now),
            leak: self.leak().map(|rise| rise.per_hour),
            locks: Locks {
                cleared: told.locks_cleared,
                left: self.said.locks_left.len() + self.said.locks_not_cleared.len(),
            },
            config_usable: told.config_usable,
            config_generation: self.reload.generation(),
            config_verdict: self.reload.verdict_word(),
            volume: told.volume,
        }
    }

    /// What the history of minutes wants to know.
    #[must_use]
    pub fn glance(&self) -> Glance {
        Glance {
            phase: self.phase_word(),
            is_ready: self.is_at_rest(),
            starts: self.chronicle.starts,
            memory: self.memory.series().last().copied(),
            heap_full: self.policy.memory.heap.full(),
        }
    }

    /// Gateways started so far.
    pub(super) const fn starts(&self) -> u64 {
        self.chronicle.starts
    }

    /// The last samples, thinned.
    fn memory_course(&self, now: Mono) -> Vec<(Millis, Kib)> {
        let recent = self.memory.series().recent();
        let every = recent.len().div_ceil(COURSE).max(1);
        let mut course: Vec<_> = recent
            .rev()
            .step_by(every)
            .map(|it| (now.since(it.at), it.tree))
            .collect();
        course.reverse();
        course
    }

    const fn stage(&self) -> Option<Stage> {
        if let Phase::Preflight { stage, .. } = &self.phase {
            Some(*stage)
        } else {
            None
        }
    }

    const fn stop_cause(&self) -> Option<StopCause> {
        if let Phase::Stopping { cause, .. } = &self.phase {
            Some(*cause)
        } else {
            None
        }
    }

    const fn next_look(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Held { retry_at } => Some(*retry_at),
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Starting
            | Phase::Running
            | Phase::Stopping { .. }
            | Phase::Classifying { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => None,
        }
    }

    /// A gateway that has ended has no status; how it ended is told once it is classified.
    fn gateway_status(&self, now: Mono) -> Option<GatewayStatus> {
        if !matches!(
            self.phase,
            Phase::Starting | Phase::Running | Phase::Stopping { .. }
        ) {
            return None;
        }
        self.boot.as_ref().map(|boot| boot.status(now))
    }
}
