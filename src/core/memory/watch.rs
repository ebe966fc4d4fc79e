//! When to look, what was seen, and what is to be done about it.

use super::policy::{Marks, MemoryPolicy};
use super::sample::{Kib, Sample};
use super::series::Series;
use super::trend::{self, Rise};
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// Between two looks while there is room and nothing grows.
const AT_REST: Millis = Millis::from_secs(12);
/// Between two looks while memory is short and the gateway keeps its size.
const SHORT_AND_STEADY: Millis = Millis::from_secs(5);
const CLOSEST: Millis = Millis(250);
/// A loss is looked at so many times before it can have used up what is left: enough that a leak of minutes is seen
/// as one while there is time to drain.
const LOOKS_BEFORE_THE_END: u64 = 40;
/// The first look at a gateway that was just started.
const FIRST_LOOK: Millis = Millis::from_secs(1);
/// Between two looks for processes that came or went.
const COUNT_AT_REST: Millis = Millis::from_secs(60);
const COUNT_WHEN_SHORT: Millis = Millis::from_secs(10);

/// Samples in a row that it takes to act on a rise; a warning without one takes [`WARN_AFTER`] besides.
const IN_A_ROW: u32 = 4;
const WARN_AFTER: Millis = Millis::from_secs(30);
/// A rise that will last longer than this is no reason to warn of its end.
const WARN_AHEAD: Millis = Millis::from_secs(3_600);
/// Memory is no longer short once a quarter more than that has been available for this long.
const EASED_AFTER: Millis = Millis::from_secs(60);
/// The same warning is not given more often.
const WARN_EVERY: Millis = Millis::from_secs(3_600);
const HOUR: Millis = Millis::from_secs(3_600);
/// What is left lasts at least this much longer than the longest drain when a restart begins.
const LEAST_HORIZON: Millis = Millis::from_secs(60);
/// Waiting for memory this much of the time is the kernel's own word that it is too little, in hundredths of a percent.
pub(super) const STALLED: u16 = 3_000;

/// After it is ready a gateway goes on growing for a while: three times as long as its start took, within bounds.
const SETTLING: [Millis; 2] = [Millis::from_secs(15), Millis::from_secs(300)];

/// What there is to say of memory at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// The newest sample.
    pub sample: Sample,
    /// What the main process can grow until V8's heap may be full, where that is less than what is available.
    #[serde(default)]
    pub heap_left: Option<Kib>,
    /// The leak, if it is one.
    pub rise: Option<Rise>,
    /// How long what is left lasts at its pace.
    pub lasts: Option<Millis>,
}

/// What a sample leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Calm,
    /// Memory has become short.
    Warn(Outlook),
    /// It is no longer short.
    Eased(Sample),
    /// The gateway leaks, and little is left: it is to be drained and started anew.
    Restart(Outlook),
    /// The same, but that was done as often as it may be within an hour.
    Spent {
        /// As for a restart.
        outlook: Outlook,
        /// How often it was done.
        restarts: u32,
    },
}

/// What is known of the present gateway's memory, or of the last one's while none runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    series: Series,
    /// When to look next; `None` while an answer is outstanding or no gateway runs.
    look_at: Option<Mono>,
    counted: Option<Mono>,
    /// Memory is short, whatever for.
    short: Streak,
    /// A leak would have little before it.
    narrow: Streak,
    /// A leak has next to nothing before it.
    ending: Streak,
    eased: Streak,
    /// The last leak that was seen while little was left, and when.
    leak: Option<(Mono, Rise)>,
    /// A warning was given that has not been taken back.
    warned: bool,
    last_warning: Option<Mono>,
    /// When the gateway was restarted for memory, within the last hour.
    restarts: Vec<Mono>,
    /// When it was said that no restart is left.
    said_spent: Option<Mono>,
}

/// Samples in a row of which something is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Streak {
    since: Option<Mono>,
    samples: u32,
}

impl Streak {
    const fn note(&mut self, is_true: bool, at: Mono) {
        if !is_true {
            *self = Self {
                since: None,
                samples: 0,
            };
            return;
        }
        if self.since.is_none() {
            self.since = Some(at);
        }
        self.samples = self.samples.saturating_add(1);
    }

    fn has_lasted(&self, at: Mono, length: Millis) -> bool {
        self.samples >= IN_A_ROW && self.since.is_some_and(|since| at.since(since) >= length)
    }
}

impl Watch {
    /// A gateway was started.
    pub(in crate::core) fn begin(&mut self, now: Mono) {
        *self = Self {
            look_at: Some(now.plus(FIRST_LOOK)),
            warned: self.warned,
            last_warning: self.last_warning,
            restarts: std::mem::take(&mut self.restarts),
            said_spent: self.said_spent,
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

    /// The newest sample with what it says of the time to come; `None` before the first.
    ///
    /// `steady_since` is when the gateway had settled, which is when its memory begins to say something of a leak.
    #[must_use]
    pub fn outlook(&self, steady_since: Option<Mono>, policy: &MemoryPolicy) -> Option<Outlook> {
        let sample = *self.series.last()?;
        let left = policy.left(&sample);
        // Close to its limit V8 collects garbage in a hurry, and for moments the floor does not rise.
        let before = self
            .leak
            .filter(|(seen, leak)| sample.at.since(*seen) < leak.over)
            .map(|(_, leak)| leak);
        let room = policy.room(&sample);
        let rise = steady_since.and_then(|since| trend::rise(&self.series, since, room, before));
        Some(Outlook {
            sample,
            heap_left: Some(left).filter(|_| policy.heap.is_full_first(&sample)),
            rise,
            lasts: rise.map(|rise| rise.lasts(left)),
        })
    }

    /// The leak that goes on, or that has filled what there was: V8 spends minutes in a full heap before it gives up,
    /// and memory does not grow meanwhile.
    #[must_use]
    pub fn leak(&self, steady_since: Mono, policy: &MemoryPolicy) -> Option<Rise> {
        let outlook = self.outlook(Some(steady_since), policy)?;
        outlook.rise.or(self.leak.map(|(_, leak)| leak))
    }

    /// When a gateway that was started and became ready at these times has settled.
    #[must_use]
    pub fn settled_at(started: Mono, ready: Mono) -> Mono {
        let [least, most] = SETTLING;
        ready.plus(Millis(ready.since(started).0.saturating_mul(3)).clamp(least, most))
    }

    /// How often the gateway was restarted for memory within the last hour.
    #[must_use]
    pub fn restarts_within_an_hour(&self, now: Mono) -> u32 {
        let recent = self.restarts.iter().filter(|at| now.since(**at) < HOUR);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
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

    /// Takes in the answer to a look. `steady_since` is `None` while the gateway starts or stops: then nothing is done.
    pub(in crate::core) fn take(
        &mut self,
        now: Mono,
        sample: Sample,
        steady_since: Option<Mono>,
        policy: &MemoryPolicy,
    ) -> Verdict {
        let wait = next_look(self.series.last(), &sample, policy.left(&sample));
        self.look_at = Some(now.plus(wait));
        // A process that is ending has no memory any more; that says nothing of its life.
        if sample.main == Kib(0) {
            return Verdict::Calm;
        }
        self.series.push(sample);
        let marks = Marks::of(sample.limit);
        let steady_since = steady_since.filter(|since| now >= *since);
        let is_steady = steady_since.is_some();
        let enough = marks.short.percent(125);
        self.short
            .note(is_steady && sample.available < marks.short, now);
        let left = policy.left(&sample);
        self.narrow.note(is_steady && left < marks.short, now);
        self.eased.note(is_steady && left >= enough, now);
        self.judge(now, sample, steady_since, marks, policy)
    }

    fn judge(
        &mut self,
        now: Mono,
        sample: Sample,
        steady_since: Option<Mono>,
        marks: Marks,
        policy: &MemoryPolicy,
    ) -> Verdict {
        if self.eased.has_lasted(now, EASED_AFTER) {
            self.leak = None;
            if std::mem::take(&mut self.warned) {
                return Verdict::Eased(sample);
            }
        }
        let outlook = steady_since
            .filter(|_| self.narrow.samples > 0)
            .and_then(|since| Some((since, self.outlook(Some(since), policy)?)));
        let Some((since, outlook)) = outlook else {
            self.ending.note(false, now);
            return Verdict::Calm;
        };
        // One that is only remembered does not become newer by that.
        if let Some(rise) = outlook.rise
            && self.leak.is_none_or(|(_, leak)| leak != rise)
        {
            self.leak = Some((now, rise));
        }
        let is_ending = self.is_near_its_end(&outlook, since, marks, policy);
        self.ending.note(is_ending, now);
        if let Some(most) = policy.restarts_per_hour
            && self.ending.samples >= IN_A_ROW
        {
            return self.restart(now, outlook, most);
        }
        let is_leak = outlook.lasts.is_some_and(|lasts| lasts < WARN_AHEAD);
        let may_say = !self.warned
            && self
                .last_warning
                .is_none_or(|at| now.since(at) >= WARN_EVERY);
        let is_short =
            is_leak && self.narrow.samples >= IN_A_ROW || self.short.has_lasted(now, WARN_AFTER);
        if may_say && is_short {
            self.warned = true;
            self.last_warning = Some(now);
            return Verdict::Warn(outlook);
        }
        Verdict::Calm
    }

    /// True when a leak will have used up all room before a drain is sure to be over, or when the next piece of work may
    /// use up what is left.
    fn is_near_its_end(
        &self,
        outlook: &Outlook,
        since: Mono,
        marks: Marks,
        policy: &MemoryPolicy,
    ) -> bool {
        let sample = &outlook.sample;
        let (left, room) = (policy.left(sample), policy.room(sample));
        let Some(rise) = outlook.rise.filter(|_| left < marks.tight) else {
            return false;
        };
        let horizon = LEAST_HORIZON.max(Millis(policy.drain.0.saturating_mul(2)));
        let needed = trend::usual_swing(&self.series, since).max(marks.critical);
        // Whether the heap is full is not sure: growth that may yet slow down is waited for.
        let left = if rise.has_shown(sample.at.since(since)) {
            left
        } else {
            room
        };
        let is_stalled = sample.stalled.is_some_and(|share| share >= STALLED);
        rise.lasts(room) < horizon || left < needed || is_stalled
    }

    fn restart(&mut self, now: Mono, outlook: Outlook, most: u32) -> Verdict {
        self.restarts.retain(|at| now.since(*at) < HOUR);
        let restarts = self.restarts_within_an_hour(now);
        if restarts < most {
            self.restarts.push(now);
            self.warned = false;
            self.last_warning = None;
            return Verdict::Restart(outlook);
        }
        if self.said_spent.is_some_and(|at| now.since(at) < HOUR) {
            return Verdict::Calm;
        }
        self.said_spent = Some(now);
        Verdict::Spent { outlook, restarts }
    }
}

fn is_short(sample: &Sample) -> bool {
    sample.available < Marks::of(sample.limit).short
}

/// Soon enough to see several samples of whatever may come: it goes by how long what is left lasts at the present pace.
fn next_look(last: Option<&Sample>, sample: &Sample, left: Kib) -> Millis {
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
    let lasts = u64::from(left.0).saturating_mul(elapsed) / lost;
    Millis(lasts / LOOKS_BEFORE_THE_END).clamp(CLOSEST, steady)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
