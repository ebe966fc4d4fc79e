//! What a death was: the class of the gateway's end, and kills that hit something beside it.

use super::super::action::{Action, Report};
use super::super::exit_class::{self, ExitClass, ExitFacts};
use super::super::incident::{self, Advice, Incident, MemoryStory, MemoryThen, Ways};
use super::super::memory::{Rise, Watch};
use super::super::oom::OomEvidence;
use super::super::time::{Millis, Mono};
use super::boot::Boot;
use super::{Core, Phase};

/// A kill is seen before the death that it led to: a large process takes its time to be torn down.
const DEATH_FOLLOWS: Millis = Millis::from_secs(5);

impl Core {
    /// Names the class, says it, and has it kept. Once for each exit.
    pub(super) fn classify(&mut self, oom: OomEvidence, out: &mut Vec<Action>) {
        let Phase::Classifying {
            status,
            ended,
            class: class @ None,
            ..
        } = &mut self.phase
        else {
            return;
        };
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        self.reload.ended();
        let oom = std::mem::take(&mut boot.oom).and(oom);
        boot.oom_said_at = None;
        let named = exit_class::classify(&ExitFacts {
            status: *status,
            asked: boot.asked,
            markers: boot.markers.clone(),
            oom: oom.clone(),
            pid: boot.pid,
            we_killed: boot.we_killed,
        });
        *class = Some(named.clone());
        let (status, ended, pid) = (*status, *ended, boot.pid);
        let uptime = ended.since(boot.started);
        self.chronicle
            .note_exit(ended, &named, status, &oom, uptime);
        let beside = oom.beside(proof_of(&named));
        let mut memory = self.memory_story(ended, oom);
        let ways = Ways {
            grow: &self.policy.how_to_grow,
            fit_heap: &self.policy.how_to_fit_heap,
        };
        memory.advice = incident::advise(&named, &memory, &self.policy.memory.heap, ways);
        if matches!(named, ExitClass::Requested(cause) if cause.is_of_slowness())
            && let Some(short) = self.shortage()
        {
            memory.advice = Some(Advice::Grow {
                how: short.how_to_grow,
            });
        }
        let report = Report::Exited {
            attempt: self.attempt,
            pid,
            status,
            class: named.clone(),
            uptime,
            memory: Box::new(memory.clone()),
        };
        out.push(Action::Report(report.clone()));
        if incident::is_worth_keeping(&named) {
            out.extend(self.incident(ended, named.word(), report, memory.clone()));
        }
        if beside > 0 {
            out.push(Action::Report(self.killed_beside(beside, memory)));
        }
    }

    pub(super) fn on_oom_seen(&mut self, now: Mono, oom: OomEvidence) {
        if !matches!(
            self.phase,
            Phase::Starting | Phase::Running | Phase::Stopping { .. }
        ) {
            return;
        }
        if let Some(boot) = self.boot.as_mut() {
            boot.oom = std::mem::take(&mut boot.oom).and(oom);
            boot.oom_said_at
                .get_or_insert_with(|| now.plus(DEATH_FOLLOWS));
        }
    }

    /// The gateway outlived the kill: it hit another process.
    pub(super) fn say_killed_beside(&mut self, now: Mono, out: &mut Vec<Action>) {
        let Some(boot) = self.boot.as_mut() else {
            return;
        };
        boot.oom_said_at = None;
        let oom = std::mem::take(&mut boot.oom);
        if oom.kills.iter().any(|kill| kill.pid == boot.pid) {
            // It is dying, and takes its time.
            boot.oom = oom;
            return;
        }
        let beside = oom.beside(None);
        if beside > 0 {
            let memory = self.memory_story(now, oom);
            let report = self.killed_beside(beside, memory.clone());
            out.push(Action::Report(report.clone()));
            out.extend(self.incident(now, incident::BESIDE, report, memory));
        }
    }

    fn memory_story(&self, at: Mono, oom: OomEvidence) -> MemoryStory {
        MemoryStory {
            oom,
            last: MemoryThen::of(self.memory.series(), at),
            heap: self.policy.memory.heap.size,
            leak: self.leak(),
            advice: None,
        }
    }

    /// What a start takes is no leak.
    pub(super) fn leak(&self) -> Option<Rise> {
        let boot = self.boot.as_ref()?;
        let settled = Watch::settled_at(boot.started, boot.ready?);
        self.memory.leak(settled, &self.policy.memory)
    }

    fn killed_beside(&self, kills: u64, mut memory: MemoryStory) -> Report {
        memory.advice = Some(Advice::Grow {
            how: self.policy.how_to_grow.clone(),
        });
        Report::KilledBeside {
            kills,
            memory: Box::new(memory),
        }
    }

    fn incident(
        &self,
        at: Mono,
        class: &str,
        report: Report,
        memory: MemoryStory,
    ) -> Option<Action> {
        let boot: &Boot = self.boot.as_ref()?;
        Some(Action::KeepIncident(Box::new(Incident {
            class: class.to_owned(),
            attempt: self.attempt,
            pid: boot.pid,
            at,
            uptime: at.since(boot.started),
            was_ready: boot.ready.is_some(),
            report,
            memory,
            history: self.memory.series().history(),
        })))
    }
}

const fn proof_of(class: &ExitClass) -> Option<&super::super::oom::OomProof> {
    match class {
        ExitClass::OomKernel(proof) => Some(proof),
        ExitClass::Requested(_)
        | ExitClass::Relaunch
        | ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. }
        | ExitClass::OomHeap => None,
    }
}
