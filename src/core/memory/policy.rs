//! What may be done about memory, and how little of it is little.

use super::sample::{Kib, Sample};
use crate::core::time::Millis;
use serde::{Deserialize, Serialize};

/// A heap that is not larger by this much would be full as soon.
const LARGER_PERCENT: u32 = 125;

/// What settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// At most so many memory restarts an hour; `None` never restarts for memory.
    pub restarts_per_hour: Option<u32>,
    /// The longest a drain may take.
    pub drain: Millis,
    /// The gateway's heap, which ends it as surely as the kernel does when it is full.
    #[serde(default)]
    pub heap: HeapBounds,
}

/// V8's heap, and what there is room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapBounds {
    /// The size of its old generation as it was set, where it was.
    pub size: Option<Kib>,
    /// The size that it may be given instead, as far as memory has room for it beside everything else.
    pub fits: Option<Kib>,
    /// The least that the main process has beside it.
    pub beside: Kib,
    /// The most that there is room for beside it, what V8 adds to it included.
    #[serde(default)]
    pub beside_at_most: Kib,
}

impl HeapBounds {
    /// True when a main process that grows may fill it before memory is full.
    #[must_use]
    pub fn is_full_first(&self, sample: &Sample) -> bool {
        self.left(sample)
            .is_some_and(|left| left < sample.available)
    }

    /// True when there is room for one that is larger than `was` by enough to last longer.
    #[must_use]
    pub fn may_be_raised(&self, was: Option<Kib>) -> bool {
        let is_larger = |fits: Kib| was.is_none_or(|was| fits > was.percent(LARGER_PERCENT));
        self.fits.is_some_and(is_larger)
    }

    /// A main process of this size may have filled it.
    #[must_use]
    pub fn full(&self) -> Option<Kib> {
        self.filled(self.beside)
    }

    fn filled(&self, beside: Kib) -> Option<Kib> {
        self.size.map(|size| Kib(size.0.saturating_add(beside.0)))
    }

    /// What a main process can grow until its heap may be full.
    fn left(&self, sample: &Sample) -> Option<Kib> {
        self.full().map(|full| full.less(sample.main))
    }

    /// What it can grow until its heap is full, whatever it has beside it.
    fn left_at_most(&self, sample: &Sample) -> Option<Kib> {
        let full = self.filled(self.beside.max(self.beside_at_most));
        full.map(|full| full.less(sample.main))
    }
}

impl MemoryPolicy {
    /// What a leak has before it: until memory is full, or the heap may be.
    #[must_use]
    pub fn left(&self, sample: &Sample) -> Kib {
        let heap = self.heap.left(sample).unwrap_or(sample.available);
        heap.min(sample.available)
    }

    /// The most that growth may take before it ends the gateway: until memory is full, or the heap for certain. How full
    /// the heap is nobody sees from outside.
    #[must_use]
    pub fn room(&self, sample: &Sample) -> Kib {
        let heap = self.heap.left_at_most(sample).unwrap_or(sample.available);
        heap.min(sample.available)
    }
}

/// How little is little, for one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Less than this is worth a warning.
    pub short: Kib,
    /// With less than this a leak is no longer waited for.
    pub tight: Kib,
    /// With less than this the next piece of work may end in the kernel's kill.
    pub critical: Kib,
}

impl Marks {
    /// Parts of the limit: 15, 10 and 3 percent, within bounds.
    ///
    /// On 2048 MB: 307, 204 and 61 MB.
    #[must_use]
    pub fn of(limit: Kib) -> Self {
        let part = |percent, least, most| {
            limit
                .percent(percent)
                .clamp(Kib::of_mb(least), Kib::of_mb(most))
        };
        Self {
            short: part(15, 64, 768),
            tight: part(10, 40, 512),
            critical: part(3, 16, 128),
        }
    }
}
