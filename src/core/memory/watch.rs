//! When to look, and what was seen.

use super::sample::{Kib, Sample};
use super::series::Series;
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// Between two looks while there is room and nothing grows.
const AT_REST: Millis = Millis::from_secs(12);
/// Between two looks while memory is short and the gateway keeps its size.
const SHORT_AND_STEADY: Millis = Millis::from_secs(5);
const CLOSEST: Millis = Millis(250);
/// A rise is looked at so many times before it can have used up what is left.
const LOOKS_BEFORE_THE_END: u64 = 16;
/// Short is less than this part of the limit.
const SHORT_PERCENT: u32 = 15;
/// Between two looks for processes that came or went.
const COUNT_AT_REST: Millis = Millis::from_secs(60);
const COUNT_WHEN_SHORT: Millis = Millis::from_secs(10);

/// What is known of the present gateway's memory, or of the last one's while none runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    series: Series,
    /// When to look next; `None` while an answer is outstanding or no gateway runs.
    look_at: Option<Mono>,
    counted: Option<Mono>,
}

impl Watch {
    /// A gateway was started.
    pub(in crate::core) fn begin(&mut self, now: Mono) {
        *self = Self {
            look_at: Some(now.plus(Millis::from_secs(1))),
            ..Self::default()
        };
    }

    /// No gateway runs any more; its series stays for whoever wants to know how it died.
    pub(in crate::core) const fn end(&mut self) {
        self.look_at = None;
    }

    /// The samples.
    #[must_use]
    pub const fn series(&self) -> &Series {
        &self.series
    }

    /// When the next look is due.
    pub(in crate::core) const fn look_at(&self) -> Option<Mono> {
        self.look_at
    }

    /// Whether a look is due, and if so whether processes are to be looked for as well. The answer comes in [`Watch::take`].
    pub(in crate::core) fn look(&mut self, now: Mono) -> Option<bool> {
        self.look_at.take_if(|at| now >= *at)?;
        let often = match self.series.last() {
            Some(last) if is_short(last) => COUNT_WHEN_SHORT,
            Some(_) | None => COUNT_AT_REST,
        };
        let counts = self.counted.is_none_or(|at| now.since(at) >= often);
        if counts {
            self.counted = Some(now);
        }
        Some(counts)
    }

    /// Takes in the answer to a look.
    pub(in crate::core) fn take(&mut self, now: Mono, sample: Sample) {
        let wait = next_look(self.series.last(), &sample);
        self.look_at = Some(now.plus(wait));
        // A process that is ending has no memory any more; that says nothing of its life.
        if sample.main > Kib(0) {
            self.series.push(sample);
        }
    }
}

fn is_short(sample: &Sample) -> bool {
    sample.available < sample.limit.percent(SHORT_PERCENT)
}

/// Soon enough to see several samples of whatever may come: it goes by how long what is left lasts at the present pace.
fn next_look(last: Option<&Sample>, sample: &Sample) -> Millis {
    let steady = if is_short(sample) {
        SHORT_AND_STEADY
    } else {
        AT_REST
    };
    let Some(last) = last else { return steady };
    let lost = u64::from(last.available.less(sample.available).0);
    let elapsed = sample.at.since(last.at).0;
    if lost == 0 || elapsed == 0 {
        return steady;
    }
    let left = u64::from(sample.available.0) * elapsed / lost;
    Millis(left / LOOKS_BEFORE_THE_END).clamp(CLOSEST, steady)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::LimitFrom;

    fn sample(at: u64, available_mb: u32) -> Sample {
        Sample {
            at: Mono(at),
            main: Kib::of_mb(900),
            tree: Kib::of_mb(1000),
            processes: 3,
            available: Kib::of_mb(available_mb),
            limit: Kib::of_mb(2048),
            limit_from: LimitFrom::CgroupV2,
            usage: Kib::of_mb(2048 - available_mb),
            stalled: None,
        }
    }

    #[test]
    fn at_rest_it_looks_five_times_a_minute_and_a_fast_rise_is_looked_at_closely() {
        let at_rest = sample(0, 1_000);
        assert_eq!(next_look(None, &at_rest), AT_REST);
        assert_eq!(next_look(Some(&at_rest), &sample(12_000, 1_000)), AT_REST);
        assert_eq!(next_look(Some(&at_rest), &sample(12_000, 1_050)), AT_REST);
        // 50 MB a second with 400 MB left: eight seconds.
        assert_eq!(next_look(Some(&at_rest), &sample(12_000, 400)), Millis(500));
        assert_eq!(next_look(Some(&at_rest), &sample(1_000, 10)), CLOSEST);
        assert_eq!(
            next_look(Some(&sample(0, 100)), &sample(5_000, 100)),
            SHORT_AND_STEADY
        );
    }

    #[test]
    fn one_look_is_out_at_a_time_and_processes_are_counted_once_a_minute() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(Mono(0)), None, "no gateway runs");
        watch.begin(Mono(0));
        assert_eq!(watch.look(Mono(999)), None);
        assert_eq!(watch.look(Mono(1_000)), Some(true));
        assert_eq!(watch.look(Mono(90_000)), None, "one is out");
        let mut counted = 0;
        for minute in 0..10 {
            for look in 0..5 {
                let now = Mono(100_000 + minute * 60_000 + look * 12_000);
                watch.take(now, sample(now.0, 1_000));
                counted += u32::from(watch.look(now.plus(AT_REST)) == Some(true));
            }
        }
        assert_eq!(counted, 10);
        watch.end();
        assert_eq!(watch.look(Mono(u64::MAX)), None);
        assert!(watch.series().last().is_some());
    }

    #[test]
    fn a_process_that_is_ending_is_no_sample() {
        let mut watch = Watch::default();
        watch.begin(Mono(0));
        let gone = Sample {
            main: Kib(0),
            ..sample(1_000, 1_000)
        };
        watch.take(Mono(1_000), gone);
        assert_eq!(watch.series().last(), None);
        assert!(watch.look_at().is_some());
    }
}
