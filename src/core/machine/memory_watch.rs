//! What the machine does about memory: looks when it is time, warns, and drains a gateway before the kernel kills it.

use super::super::action::{Action, Report};
use super::super::exit_class::StopCause;
use super::super::memory::{Outlook, Sample, Shortage, Verdict, Watch};
use super::super::time::Mono;
use super::{Core, Phase};

impl Core {
    pub(super) fn look_at_memory(&mut self, now: Mono, out: &mut Vec<Action>) {
        if let Some(counts_processes) = self.memory.look(now) {
            out.push(Action::SampleMemory {
                attempt: self.attempt,
                counts_processes,
            });
        }
    }

    pub(super) fn on_memory(&mut self, now: Mono, sample: Sample, out: &mut Vec<Action>) {
        // Once it has ended an answer that was on its way says nothing.
        if !matches!(
            self.phase,
            Phase::Starting | Phase::Running | Phase::Stopping { .. }
        ) {
            return;
        }
        let steady = self.steady_since();
        match self.memory.take(now, sample, steady, &self.policy.memory) {
            Verdict::Calm => {}
            Verdict::Warn(outlook) => {
                let how_to_grow = self.how_to_give_more(&outlook);
                let most = self.policy.memory.restarts_per_hour;
                let done = self.memory.restarts_within_an_hour(now);
                out.push(Action::Report(Report::MemoryShort {
                    outlook,
                    may_restart: most.is_some_and(|most| done < most),
                    how_to_grow,
                }));
            }
            Verdict::Eased(sample) => out.push(Action::Report(Report::MemoryEased(sample))),
            Verdict::Restart(outlook) => {
                out.push(Action::Report(Report::MemoryRestart(outlook)));
                self.stop_gateway(now, StopCause::Memory, None, out);
            }
            Verdict::Spent { outlook, restarts } => {
                let how_to_grow = self.how_to_give_more(&outlook);
                out.push(Action::Report(Report::MemoryRestartsSpent {
                    outlook,
                    restarts,
                    how_to_grow,
                }));
            }
        }
    }

    /// More of what will be full first: memory, or a heap that is smaller than it could be.
    fn how_to_give_more(&self, outlook: &Outlook) -> String {
        let heap = self.policy.memory.heap;
        let is_of_heap = outlook.rise.is_some() && outlook.heap_left.is_some();
        if is_of_heap && heap.may_be_raised(heap.size) {
            self.policy.how_to_fit_heap.clone()
        } else {
            self.policy.how_to_grow.clone()
        }
    }

    /// Whether want of memory is why the gateway is slow.
    pub(super) fn shortage(&self) -> Option<Box<Shortage>> {
        let (boot, sample) = (self.boot.as_ref()?, self.memory.series().last()?);
        Shortage::of(sample, boot.faults, &self.policy.how_to_grow).map(Box::new)
    }

    /// Since when the gateway's memory says something of a leak; `None` while it starts or stops.
    pub(super) fn steady_since(&self) -> Option<Mono> {
        let boot = self
            .boot
            .as_ref()
            .filter(|_| self.phase == Phase::Running)?;
        Some(Watch::settled_at(boot.started, boot.ready?))
    }
}
