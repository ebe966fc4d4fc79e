//! Time in which clawkeeper itself did not run: a container that was frozen (`docker pause`), a machine whose clock went
//! on while it slept, or one so short of memory that nobody got on. It says nothing of the gateway, which did not run
//! either, so that no time that was given to it is over by that.

use super::super::time::{Millis, Mono};
use super::{Core, Phase};

/// Nobody who runs comes back this late.
const ASLEEP: Millis = Millis::from_secs(30);

impl Core {
    /// Gives the gateway the time back that was lost since the deadline that has passed.
    pub(super) fn give_back(&mut self, now: Mono) {
        let late = self.next_deadline().map(|at| now.since(at));
        let Some(late) = late.filter(|late| *late >= ASLEEP) else {
            return;
        };
        if let Phase::Stopping {
            kill_at, asked_at, ..
        } = &mut self.phase
        {
            *kill_at = kill_at.plus(late);
            *asked_at = asked_at.plus(late);
        }
        if let (Phase::Starting | Phase::Running, Some(boot)) = (&self.phase, &mut self.boot) {
            boot.give_back(now, late);
        }
    }
}
