//! Is want of memory why a gateway is slow? A machine that is a little too small does not kill it: the kernel gives up
//! pages of its program, which is read from the disk again at once, over and over, and the gateway hardly gets on.

use super::policy::Marks;
use super::sample::{LimitFrom, Sample};
use super::watch::STALLED;
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// With more than this part of the limit left, in percent, pages are not given up for want of memory.
const PLENTY_PERCENT: u32 = 25;
/// What a start reads for the first time takes more faults than this for some seconds only. Each reads 100 KB and
/// more, so that the slowest disk delivers as many: 250 a second were seen on a fast one, with 2026.6.11 in 300 MB.
const FAULTS_PER_S: u64 = 5;
/// Faults are counted over this long at least.
const FAULTS_OVER: Millis = Millis::from_secs(10);

/// Want of memory that slows a gateway down, by what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    /// The newest sample.
    pub sample: Sample,
    /// How often a second its main process waited for a page from the disk, of late.
    pub faults_per_s: u64,
    /// How this place is given more.
    pub how_to_grow: String,
}

impl Shortage {
    /// `None` where memory is not short, or where it is and nothing waits for it.
    #[must_use]
    pub fn of(sample: &Sample, faults: Faults, how_to_grow: &str) -> Option<Self> {
        let little = Marks::of(sample.limit)
            .short
            .max(sample.limit.percent(PLENTY_PERCENT));
        // A cgroup of v1 has no pressure of its own: what the machine says may be of others.
        let is_stalled = sample.limit_from != LimitFrom::CgroupV1
            && sample.stalled.is_some_and(|share| share >= STALLED);
        let waits = is_stalled || faults.per_s >= FAULTS_PER_S;
        (sample.available < little && waits).then(|| Self {
            sample: *sample,
            faults_per_s: faults.per_s,
            how_to_grow: how_to_grow.to_owned(),
        })
    }
}

/// The pace of a process's major faults, which are those that wait for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// When they were counted last, and how many there had been.
    counted: Option<(Mono, u64)>,
    per_s: u64,
}

impl Faults {
    /// Takes in how many there have been so far.
    pub(in crate::core) fn note(&mut self, now: Mono, count: u64) {
        if let Some((at, before)) = self.counted {
            let elapsed = now.since(at);
            // A process that has ended has none any more; that says nothing of its life.
            if elapsed < FAULTS_OVER || count < before {
                return;
            }
            self.per_s = (count - before).saturating_mul(1_000) / elapsed.0;
        }
        self.counted = Some((now, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::Kib;

    fn faults(per_s: u64) -> Faults {
        let mut faults = Faults::default();
        faults.note(Mono(0), 70);
        faults.note(Mono(20_000), 70 + per_s * 20);
        faults
    }

    fn sample(limit_mb: u32, available_mb: u32, limit_from: LimitFrom, stalled: u16) -> Sample {
        Sample {
            at: Mono(0),
            main: Kib::of_mb(limit_mb - available_mb),
            tree: Kib::of_mb(limit_mb - available_mb),
            processes: 1,
            available: Kib::of_mb(available_mb),
            limit: Kib::of_mb(limit_mb),
            limit_from,
            usage: Kib::of_mb(limit_mb),
            stalled: Some(stalled),
        }
    }

    #[test]
    fn it_takes_little_memory_and_something_that_waits_for_it() {
        use LimitFrom::{CgroupV1, CgroupV2, Machine};
        for (limit, available, from, stalled, per_s, is_short, why) in [
            (300, 36, CgroupV1, 4_730, 218, true, "2026.6.11 in 300 MB"),
            (
                300,
                36,
                CgroupV1,
                4_730,
                0,
                false,
                "the pressure is a neighbour's",
            ),
            (
                220,
                30,
                Machine,
                4_730,
                0,
                true,
                "the machine's own pressure",
            ),
            (220, 30, CgroupV2, 0, 5, true, "a slow disk"),
            (220, 30, Machine, 100, 4, false, "nothing waits"),
            (
                512,
                100,
                Machine,
                0,
                60,
                true,
                "its program is larger than what is left",
            ),
            (
                2_048,
                1_000,
                Machine,
                9_000,
                900,
                false,
                "there is plenty: the disk is slow",
            ),
        ] {
            let sample = sample(limit, available, from, stalled);
            let found = Shortage::of(&sample, faults(per_s), "more");
            assert_eq!(found.is_some(), is_short, "{why}");
            assert!(found.is_none_or(|it| it.faults_per_s == per_s), "{why}");
        }
    }

    #[test]
    fn faults_are_counted_over_ten_seconds_and_a_process_that_is_gone_changes_nothing() {
        let mut faults = Faults::default();
        for at in 0..=24 {
            faults.note(Mono(at * 400), at * 1_000);
        }
        assert_eq!(faults.per_s, 0, "not long enough");
        faults.note(Mono(10_000), 25_000);
        assert_eq!(faults.per_s, 2_500);
        faults.note(Mono(30_000), 0);
        assert_eq!(faults.per_s, 2_500);
        faults.note(Mono(40_000), 25_000);
        assert_eq!(faults.per_s, 0, "none since");
        faults.note(Mono(u64::MAX), u64::MAX);
        assert!(faults.per_s > 0);
    }
}
