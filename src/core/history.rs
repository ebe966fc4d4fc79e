//! What each minute was like, for the charts of the last hour, day and week. No decision looks at it.
//!
//! A minute becomes one [`Minute`] of 16 bytes; a week of them lies in a file, each at the place that its time gives
//! it, so that a gap is a gap: nobody was there to write. Five minutes and hours are folded when somebody asks.

use super::memory::{Kib, Sample};
use super::status::PHASES;
use super::time::WallMs;

/// Minutes that are kept: a week.
pub const MINUTES: u32 = 7 * 24 * 60;
/// Bytes of a minute in the file.
pub const MINUTE_BYTES: usize = 16;
const MINUTE_MS: u64 = 60_000;
/// A minute that nothing disturbs is closed this long after its end: the next look at memory at rest comes before.
const GRACE_MS: u64 = 15_000;

/// One minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Minute {
    /// Minutes since the Unix epoch.
    pub number: u32,
    /// The most memory that the gateway's tree had, in MB; 0 where it was not looked at.
    pub tree_mb: u16,
    /// The most that its main process had, in MB.
    pub main_mb: u16,
    /// The smallest limit, in MB.
    pub limit_mb: u16,
    /// The size of a main process whose heap is full, in MB; 0 where it is not known.
    pub heap_full_mb: u16,
    /// Seconds in which the gateway served.
    pub ready_secs: u8,
    /// Gateways started.
    pub starts: u8,
    /// The last phase other than `running` that it saw, or that one; see [`phase_of`].
    pub phase: u8,
}

impl Minute {
    /// As it lies in the file: numbers with the lowest byte first, and a sum by which a foreign or half-written
    /// record is told.
    #[must_use]
    pub fn to_bytes(self) -> [u8; MINUTE_BYTES] {
        let mut bytes = [0; MINUTE_BYTES];
        bytes[..4].copy_from_slice(&self.number.to_le_bytes());
        let amounts = [self.tree_mb, self.main_mb, self.limit_mb, self.heap_full_mb];
        for (place, amount) in bytes[4..12].chunks_exact_mut(2).zip(amounts) {
            place.copy_from_slice(&amount.to_le_bytes());
        }
        bytes[12..15].copy_from_slice(&[self.ready_secs, self.starts, self.phase]);
        bytes[15] = sum(&bytes);
        bytes
    }

    /// `None` for what is not one: a hole in the file, a record of a later version, or somebody else's bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; MINUTE_BYTES]) -> Option<Self> {
        let amount = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let minute = Self {
            number: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            tree_mb: amount(4),
            main_mb: amount(6),
            limit_mb: amount(8),
            heap_full_mb: amount(10),
            ready_secs: bytes[12],
            starts: bytes[13],
            phase: bytes[14],
        };
        let is_sound = bytes[15] == sum(bytes)
            && minute.number > 0
            && minute.ready_secs <= 60
            && phase_of(minute.phase).is_some();
        is_sound.then_some(minute)
    }

    /// With what another clawkeeper, which ended within this minute, had seen of it.
    #[must_use]
    pub fn joined(self, earlier: Self) -> Self {
        Self {
            tree_mb: self.tree_mb.max(earlier.tree_mb),
            main_mb: self.main_mb.max(earlier.main_mb),
            limit_mb: self.limit_mb.max(earlier.limit_mb),
            heap_full_mb: self.heap_full_mb.max(earlier.heap_full_mb),
            ready_secs: self.ready_secs.saturating_add(earlier.ready_secs).min(60),
            starts: self.starts.saturating_add(earlier.starts),
            ..self
        }
    }

    /// Its place in the file.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.number % MINUTES
    }
}

/// Of the first 15 bytes; never 0 for zeros, so that a hole in the file is no record.
fn sum(bytes: &[u8; MINUTE_BYTES]) -> u8 {
    bytes[..15].iter().fold(0x5a, |sum: u8, byte| {
        sum.rotate_left(3) ^ byte.wrapping_mul(0x9d)
    })
}

/// The letters that stand for the phases in the file; they never change, whatever order [`PHASES`] has.
const LETTERS: [(&str, u8); 11] = [
    ("new", b'n'),
    ("preflight", b'p'),
    ("starting", b's'),
    ("running", b'r'),
    ("stopping", b't'),
    ("classifying", b'c'),
    ("backoff", b'b'),
    ("held", b'h'),
    ("paused", b'z'),
    ("closing", b'e'),
    ("exited", b'x'),
];

const RUNNING: u8 = b'r';

/// The word of the phase that a letter stands for.
#[must_use]
pub fn phase_of(letter: u8) -> Option<&'static str> {
    let found = LETTERS.iter().find(|(_, it)| *it == letter);
    found.map(|(word, _)| *word)
}

fn letter_of(phase: &str) -> u8 {
    debug_assert!(PHASES.contains(&phase), "{phase}");
    let found = LETTERS.iter().find(|(word, _)| *word == phase);
    found.map_or(0, |(_, letter)| *letter)
}

/// The machine as it stands, as far as the history wants to know.
#[derive(Debug, Clone, Copy)]
pub struct Glance {
    /// One of [`PHASES`].
    pub phase: &'static str,
    /// Whether the gateway serves.
    pub is_ready: bool,
    /// Gateways started so far.
    pub starts: u64,
    /// The last look at memory.
    pub memory: Option<Sample>,
    /// A main process of this size may have filled V8's heap.
    pub heap_full: Option<Kib>,
}

/// Makes minutes of what is seen. Holds the present minute only.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    /// The minute that is not over yet.
    present: Option<Minute>,
    ready_ms: u64,
    /// What was seen last, and when.
    seen: Option<(WallMs, Glance)>,
}

impl Recorder {
    /// Takes in how the machine stands now, after whatever happened. Returns the minute that is over.
    ///
    /// A clock that is set back or far ahead, or a machine that was asleep, costs the minute that it happens in.
    pub fn note(&mut self, now: WallMs, glance: Glance) -> Option<Minute> {
        let number = number_of(now);
        let over = match self.present {
            Some(present) if present.number == number => {
                self.add_time(now);
                None
            }
            Some(present) if present.number + 1 == number => {
                self.add_time(begin_of(number));
                let over = self.close();
                self.begin(number, begin_of(number));
                self.add_time(now);
                over
            }
            Some(_) | None => {
                self.begin(number, now);
                None
            }
        };
        self.take(now, glance);
        over
    }

    /// When [`Recorder::note`] is to be called at the latest.
    #[must_use]
    pub fn due(&self) -> Option<WallMs> {
        let present = self.present?;
        Some(WallMs(begin_of(present.number + 1).0 + GRACE_MS))
    }

    /// The minute that clawkeeper ends in, as far as it went.
    pub fn finish(&mut self, now: WallMs) -> Option<Minute> {
        if self.present?.number == number_of(now) {
            self.add_time(now);
        }
        self.close()
    }

    fn begin(&mut self, number: u32, at: WallMs) {
        self.present = Some(Minute {
            number,
            ..Minute::default()
        });
        self.ready_ms = 0;
        if let Some((seen, glance)) = &mut self.seen {
            *seen = at;
            let glance = *glance;
            self.note_phase(glance.phase);
        }
    }

    /// What was true when it was last looked at has been true until then.
    fn add_time(&mut self, until: WallMs) {
        if let Some((since, glance)) = &mut self.seen {
            if glance.is_ready {
                self.ready_ms += until.0.saturating_sub(since.0);
            }
            *since = until;
        }
    }

    fn take(&mut self, now: WallMs, glance: Glance) {
        let before = self.seen.replace((now, glance)).map(|(_, before)| before);
        self.note_phase(glance.phase);
        let Some(present) = &mut self.present else {
            return;
        };
        let started = glance.starts - before.map_or(0, |it| it.starts.min(glance.starts));
        present.starts = present
            .starts
            .saturating_add(u8::try_from(started).unwrap_or(u8::MAX));
        let is_new = |sample: &Sample| {
            let last = before.and_then(|it| it.memory);
            last.is_none_or(|last| last.at != sample.at)
        };
        if let Some(sample) = glance.memory.filter(is_new) {
            present.tree_mb = present.tree_mb.max(mb(sample.tree));
            present.main_mb = present.main_mb.max(mb(sample.main));
            present.limit_mb = mb(sample.limit);
            present.heap_full_mb = glance.heap_full.map_or(0, mb);
        }
    }

    fn note_phase(&mut self, phase: &'static str) {
        if let Some(present) = &mut self.present {
            let letter = letter_of(phase);
            if present.phase == 0 || letter != RUNNING {
                present.phase = letter;
            }
        }
    }

    fn close(&mut self) -> Option<Minute> {
        let mut over = self.present.take()?;
        over.ready_secs = u8::try_from(self.ready_ms / 1000).unwrap_or(60).min(60);
        Some(over)
    }
}

fn number_of(at: WallMs) -> u32 {
    u32::try_from(at.0 / MINUTE_MS).unwrap_or(u32::MAX - 1)
}

fn begin_of(number: u32) -> WallMs {
    WallMs(u64::from(number) * MINUTE_MS)
}

fn mb(amount: Kib) -> u16 {
    u16::try_from(amount.mb()).unwrap_or(u16::MAX)
}

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// 60 stretches of a minute.
    Hour,
    /// 288 stretches of five minutes.
    Day,
    /// 168 stretches of an hour.
    Week,
}

impl Span {
    /// By its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Week]
            .into_iter()
            .find(|span| span.word() == word)
    }

    /// `hour`, `day`, `week`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// Minutes of one stretch.
    #[must_use]
    pub const fn width(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Day => 5,
            Self::Week => 60,
        }
    }

    /// How many stretches there are.
    #[must_use]
    pub const fn stretches(self) -> u32 {
        match self {
            Self::Hour => 60,
            Self::Day => 288,
            Self::Week => 168,
        }
    }

    /// The numbers of the minutes to look at; the last is the one before `now`'s, which is not over.
    #[must_use]
    pub fn minutes(self, now: WallMs) -> std::ops::Range<u32> {
        let width = self.width();
        // Stretches begin where the clock's do, so that a point does not change while it is looked at.
        let end = number_of(now).div_ceil(width) * width;
        end.saturating_sub(width * self.stretches())..end
    }
}

/// Some minutes in a row, as one point of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Number of its first minute.
    pub first: u32,
    /// Minutes that are known of it.
    pub known: u16,
    /// Seconds of them in which the gateway served.
    pub ready_secs: u16,
    /// Gateways started.
    pub starts: u16,
    /// The most memory of the gateway's tree, in MB; 0 where it was not looked at.
    pub tree_mb: u16,
    /// The most of its main process, in MB.
    pub main_mb: u16,
    /// The last limit, in MB.
    pub limit_mb: u16,
    /// The last [`Minute::heap_full_mb`].
    pub heap_full_mb: u16,
    /// The last [`Minute::phase`] of a minute in which the gateway did not serve throughout, or of any.
    pub phase: u8,
}

/// Puts minutes, in the order of time, together to stretches of a span. What is not known is left out.
#[derive(Debug)]
pub struct Fold {
    width: u32,
    stretches: Vec<Stretch>,
}

impl Fold {
    /// Nothing yet.
    #[must_use]
    pub const fn new(span: Span) -> Self {
        Self {
            width: span.width(),
            stretches: Vec::new(),
        }
    }

    /// Adds the next minute.
    pub fn add(&mut self, minute: Minute) {
        let first = minute.number - minute.number % self.width;
        if self.stretches.last().is_none_or(|last| last.first != first) {
            self.stretches.push(Stretch {
                first,
                known: 0,
                ready_secs: 0,
                starts: 0,
                tree_mb: 0,
                main_mb: 0,
                limit_mb: 0,
                heap_full_mb: 0,
                phase: 0,
            });
        }
        let Some(into) = self.stretches.last_mut() else {
            return;
        };
        into.known += 1;
        into.ready_secs += u16::from(minute.ready_secs);
        into.starts += u16::from(minute.starts);
        into.tree_mb = into.tree_mb.max(minute.tree_mb);
        into.main_mb = into.main_mb.max(minute.main_mb);
        if minute.limit_mb > 0 {
            into.limit_mb = minute.limit_mb;
            into.heap_full_mb = minute.heap_full_mb;
        }
        if into.phase == 0 || minute.phase != RUNNING {
            into.phase = minute.phase;
        }
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn stretches(self) -> Vec<Stretch> {
        self.stretches
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
