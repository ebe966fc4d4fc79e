//! Decisions about the gateway's output: how long it may be held up, which bytes are given up,
//! and what is kept of it for reports.
//!
//! This module never reads a clock or a descriptor: times are arguments, in milliseconds.

use std::collections::VecDeque;
use std::fmt;

/// Stall credit at most, and at the start.
pub const STALL_CREDIT_MS: u64 = 1000;
/// Credit needed before output flows again after lines were given up, so that a reader that is
/// merely slow gets one notice a second and not one per line.
pub const RESUME_CREDIT_MS: u64 = 100;
/// What a reader takes in a millisecond of waiting for which nothing is charged. One that keeps
/// this pace of 8 MB/s reads, and may set the gateway's pace; a slower one costs credit.
pub const PACE_BYTES_PER_MS: u64 = 8192;
/// The longest line handed to the marker callback; what follows is cut off.
pub const LINE_MAX_BYTES: usize = 4096;
/// What is kept of the last lines.
pub const TAIL_MAX_BYTES: usize = 64 * 1024;
/// How many of the last lines are kept.
pub const TAIL_MAX_LINES: usize = 200;
/// The longest part of a line kept in memory while lines are given up.
pub const HELD_MAX_BYTES: usize = 64 * 1024;

/// How long the gateway may still be held up by a reader that does not read.
///
/// A descriptor that the gateway inherited would hold it up without end.
/// The credit is counted in tenths of a millisecond: a blocked millisecond takes ten, a free one
/// gives one back, which is 100 ms a second, and so does what the reader takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StallBudget {
    credit_tenths: u64,
    accounted_ms: u64,
}

impl StallBudget {
    /// A full credit.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self {
            credit_tenths: STALL_CREDIT_MS * 10,
            accounted_ms: now_ms,
        }
    }

    /// Books the time since the last call, all of it as blocked or all of it as free, and what the
    /// reader took since then.
    pub fn account(&mut self, now_ms: u64, blocked: bool, taken_bytes: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.accounted_ms);
        self.accounted_ms = self.accounted_ms.max(now_ms);
        let (spent, refilled) = if blocked {
            (elapsed_ms.saturating_mul(10), 0)
        } else {
            (0, elapsed_ms)
        };
        let earned = taken_bytes.saturating_mul(10) / PACE_BYTES_PER_MS;
        self.credit_tenths = self
            .credit_tenths
            .saturating_sub(spent)
            .saturating_add(refilled)
            .saturating_add(earned)
            .min(STALL_CREDIT_MS * 10);
    }

    /// The blocked time that is still allowed; 0 when lines have to be given up.
    #[must_use]
    pub const fn left_ms(&self) -> u64 {
        self.credit_tenths.div_ceil(10)
    }

    /// The free time it takes until output may flow again; 0 when it may now.
    #[must_use]
    pub const fn resume_in_ms(&self) -> u64 {
        (RESUME_CREDIT_MS * 10).saturating_sub(self.credit_tenths)
    }
}

/// What was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Lines of the gateway.
    pub lines: u64,
    /// Their bytes, newlines included.
    pub bytes: u64,
}

impl Dropped {
    /// True when nothing was given up.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.bytes == 0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.lines == 1 { "line" } else { "lines" };
        write!(
            out,
            "clawkeeper: {} {noun} ({} bytes) of gateway output were dropped: the log reader was too slow",
            self.lines, self.bytes
        )
    }
}

/// Gives up whole lines and never half a one.
///
/// It begins with the reader in the middle of a line or at the start of one, and can end at any
/// moment: the start of a line that is not complete yet is held, not given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    part: Part,
    held: Vec<u8>,
    dropped: Dropped,
}

/// Which part of a line the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The rest of a line that the reader has begun to read; it must still get it.
    Begun { kept_bytes: usize },
    /// A line of which nothing was passed on: `held` is its start.
    Fresh,
    /// A line whose start is given up, because it is too long to be held.
    Lost,
}

impl Discard {
    /// `mid_line` is true when the reader stands, or may stand, in the middle of a line.
    #[must_use]
    pub const fn new(mid_line: bool) -> Self {
        Self {
            part: if mid_line {
                Part::Begun { kept_bytes: 0 }
            } else {
                Part::Fresh
            },
            held: Vec::new(),
            dropped: Dropped { lines: 0, bytes: 0 },
        }
    }

    /// Takes the next bytes; what completes the line begun is appended to `owed`.
    pub fn take(&mut self, mut bytes: &[u8], owed: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Begun { kept_bytes } => self.finish_begun(bytes, kept_bytes, owed),
                Part::Fresh => self.give_up(bytes),
                Part::Lost => self.lose(bytes),
            };
        }
    }

    /// What was given up so far.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// True when output can flow again from here on without half a line being missing.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        self.part != Part::Lost
    }

    /// Ends it: the start of the line that goes on with the next byte.
    #[must_use]
    pub fn into_held(self) -> Vec<u8> {
        self.held
    }

    fn finish_begun<'a>(
        &mut self,
        bytes: &'a [u8],
        kept_bytes: usize,
        owed: &mut Vec<u8>,
    ) -> &'a [u8] {
        let (line, rest) = split_after_newline(bytes);
        let room = HELD_MAX_BYTES - kept_bytes;
        if line.len() > room {
            // One line without an end would otherwise be kept in memory without an end.
            owed.extend_from_slice(&line[..room]);
            owed.push(b'\n');
            self.part = Part::Lost;
            return &bytes[room..];
        }
        owed.extend_from_slice(line);
        self.part = if line.ends_with(b"\n") {
            Part::Fresh
        } else {
            Part::Begun {
                kept_bytes: kept_bytes + line.len(),
            }
        };
        rest
    }

    fn give_up<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let (lines, begun) = bytes.split_at(start);
        if !lines.is_empty() {
            self.dropped.lines += count_newlines(lines);
            self.dropped.bytes += (self.held.len() + lines.len()) as u64;
            self.held.clear();
        }
        if self.held.len() + begun.len() > HELD_MAX_BYTES {
            self.dropped.bytes += (self.held.len() + begun.len()) as u64;
            self.held.clear();
            self.part = Part::Lost;
        } else {
            self.held.extend_from_slice(begun);
        }
        &[]
    }

    fn lose<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (line, rest) = split_after_newline(bytes);
        self.dropped.bytes += line.len() as u64;
        if line.ends_with(b"\n") {
            self.dropped.lines += 1;
            self.part = Part::Fresh;
        }
        rest
    }
}

/// How a line that is handed out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// With a newline.
    Newline,
    /// It went on beyond [`LINE_MAX_BYTES`].
    Cut,
    /// The output ended, or its writer died, before the newline came.
    Unfinished,
    /// It is no line: here is a gap, of lines that passed too fast to be seen.
    Gap,
}

/// Cuts a stream of bytes into lines, each handed out once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineCutter {
    begun: Vec<u8>,
    /// True until the next newline, when the start of the line is unknown or was handed out.
    skipping: bool,
}

impl LineCutter {
    /// Hands every line that these bytes complete to `on_line`, without its newline.
    pub fn feed(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(&[u8], LineEnd)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let line = &bytes[..end];
            if self.skipping {
                self.skipping = false;
            } else if self.begun.is_empty() {
                hand_out(line, &mut on_line);
            } else {
                self.keep(line);
                hand_out(&self.begun, &mut on_line);
            }
            self.begun.clear();
            bytes = &bytes[end + 1..];
        }
        if !self.skipping {
            self.keep(bytes);
        }
    }

    /// Bytes are missing here: the line begun is forgotten, and so is the rest of the line that
    /// the next bytes are in the middle of.
    pub fn gap(&mut self) {
        self.begun.clear();
        self.skipping = true;
    }

    /// No more is expected: hands out the line begun. If it goes on all the same, its rest is not
    /// taken for a line.
    pub fn finish(&mut self, mut on_line: impl FnMut(&[u8], LineEnd)) {
        if self.begun.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.begun);
        let shown = &line[..line.len().min(LINE_MAX_BYTES)];
        on_line(shown, LineEnd::Unfinished);
        self.skipping = true;
    }

    fn keep(&mut self, bytes: &[u8]) {
        // One byte more than is shown: it tells a cut line from one that just fits.
        let room = LINE_MAX_BYTES + 1 - self.begun.len();
        self.begun
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// The last lines, in bounded memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    /// True when the last entry is the mark of a gap: the next gap needs none of its own.
    gap_marked: bool,
}

impl Tail {
    /// Adds one line, given without its newline.
    pub fn push(&mut self, line: &[u8]) {
        self.gap_marked = false;
        self.append(line);
    }

    /// Marks that lines are missing here.
    pub fn gap(&mut self) {
        if !self.gap_marked {
            self.append(b"[...]");
            self.gap_marked = true;
        }
    }

    /// The last lines, oldest first, each with its newline.
    #[must_use]
    pub fn last_lines(&self) -> Vec<u8> {
        let mut newlines = 0;
        let mut start = self.bytes.len();
        while start > 0 {
            if self.bytes[start - 1] == b'\n' {
                newlines += 1;
                if newlines > TAIL_MAX_LINES {
                    break;
                }
            }
            start -= 1;
        }
        self.bytes.range(start..).copied().collect()
    }

    fn append(&mut self, line: &[u8]) {
        let line = &line[..line.len().min(TAIL_MAX_BYTES - 1)];
        while self.bytes.len() + line.len() + 1 > TAIL_MAX_BYTES {
            let first = self.bytes.iter().position(|&b| b == b'\n');
            self.bytes.drain(..=first.unwrap_or(self.bytes.len() - 1));
        }
        self.bytes.extend(line);
        self.bytes.push_back(b'\n');
    }
}

fn hand_out(line: &[u8], on_line: &mut impl FnMut(&[u8], LineEnd)) {
    match line.get(..LINE_MAX_BYTES) {
        Some(shown) if line.len() > LINE_MAX_BYTES => on_line(shown, LineEnd::Cut),
        Some(_) | None => on_line(line, LineEnd::Newline),
    }
}

fn split_after_newline(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&b| b == b'\n');
    bytes.split_at(end.map_or(bytes.len(), |i| i + 1))
}

fn count_newlines(bytes: &[u8]) -> u64 {
    // Summed in bytes, 255 at a time, which the compiler turns into vector instructions.
    bytes
        .chunks(255)
        .map(|chunk| u64::from(chunk.iter().map(|&b| u8::from(b == b'\n')).sum::<u8>()))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_credit_is_one_second_and_comes_back_at_a_tenth() {
        let mut budget = StallBudget::new(0);
        budget.account(600, true, 0);
        assert_eq!(budget.left_ms(), 400);
        budget.account(1600, false, 0);
        assert_eq!(budget.left_ms(), 500);
        budget.account(60_000, false, 0);
        assert_eq!(budget.left_ms(), STALL_CREDIT_MS);
        budget.account(62_000, true, 0);
        assert_eq!((budget.left_ms(), budget.resume_in_ms()), (0, 1000));
        budget.account(63_000, false, 0);
        assert_eq!(budget.resume_in_ms(), 0);
    }

    #[test]
    fn a_reader_that_keeps_the_pace_never_runs_out_of_credit() {
        let mut budget = StallBudget::new(0);
        for now_ms in (0..100_000).step_by(20) {
            budget.account(now_ms, true, 20 * PACE_BYTES_PER_MS);
        }
        assert_eq!(budget.left_ms(), STALL_CREDIT_MS);
    }

    #[test]
    fn a_clock_that_steps_back_costs_nothing() {
        let mut budget = StallBudget::new(1000);
        budget.account(500, true, 0);
        budget.account(1000, true, 0);
        assert_eq!(budget.left_ms(), STALL_CREDIT_MS);
    }

    #[test]
    fn the_line_begun_is_finished_and_the_one_not_complete_is_held() {
        let mut discard = Discard::new(true);
        let mut owed = Vec::new();
        discard.take(b"gun\ngone\nal", &mut owed);
        discard.take(b"so gone\nhel", &mut owed);
        assert_eq!(owed, b"gun\n");
        assert_eq!(
            discard.dropped(),
            Dropped {
                lines: 2,
                bytes: 15
            }
        );
        assert!(discard.can_resume());
        assert_eq!(discard.into_held(), b"hel");
    }

    #[test]
    fn a_line_too_long_to_be_held_is_lost_whole() {
        let mut discard = Discard::new(false);
        let mut owed = Vec::new();
        discard.take(&[b'x'; HELD_MAX_BYTES + 1], &mut owed);
        assert!(!discard.can_resume());
        discard.take(b"end\n", &mut owed);
        assert!(discard.can_resume() && owed.is_empty());
        let bytes = HELD_MAX_BYTES as u64 + 5;
        assert_eq!(discard.dropped(), Dropped { lines: 1, bytes });
    }

    #[test]
    fn a_line_begun_that_never_ends_is_cut_and_ended() {
        let mut discard = Discard::new(true);
        let mut owed = Vec::new();
        discard.take(&[b'x'; HELD_MAX_BYTES + 10], &mut owed);
        discard.take(b"\n", &mut owed);
        assert_eq!(
            (owed.len(), owed.last()),
            (HELD_MAX_BYTES + 1, Some(&b'\n'))
        );
        assert!(discard.can_resume());
    }

    #[test]
    fn a_gap_takes_the_half_lines_on_both_sides_with_it() {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        cutter.feed(b"one\ntw", |line, _| lines.push(line.to_vec()));
        cutter.gap();
        cutter.feed(b"ree\nfour\n", |line, _| lines.push(line.to_vec()));
        assert_eq!(lines, [&b"one"[..], b"four"]);
    }

    #[test]
    fn a_long_line_is_handed_out_once_and_cut() {
        for pieces in [1, 7, 5000] {
            let mut cutter = LineCutter::default();
            let mut lines = Vec::new();
            let long = [&[b'x'; 5000][..], b"\nnext\n"].concat();
            for piece in long.chunks(pieces) {
                cutter.feed(piece, |line, end| lines.push((line.len(), end)));
            }
            assert_eq!(
                lines,
                [(LINE_MAX_BYTES, LineEnd::Cut), (4, LineEnd::Newline)]
            );
        }
    }

    #[test]
    fn a_line_handed_out_unfinished_does_not_come_again() {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        cutter.feed(b"half", |line, end| lines.push((line.to_vec(), end)));
        cutter.finish(|line, end| lines.push((line.to_vec(), end)));
        cutter.finish(|line, end| lines.push((line.to_vec(), end)));
        cutter.feed(b" more\nnext\n", |line, end| {
            lines.push((line.to_vec(), end))
        });
        assert_eq!(
            lines,
            [
                (b"half".to_vec(), LineEnd::Unfinished),
                (b"next".to_vec(), LineEnd::Newline)
            ]
        );
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_in_bytes() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(format!("line {number}").as_bytes());
        }
        tail.gap();
        tail.gap();
        let lines = String::from_utf8(tail.last_lines()).unwrap();
        assert_eq!(lines.lines().count(), TAIL_MAX_LINES);
        assert!(lines.starts_with("line 801\n") && lines.ends_with("line 999\n[...]\n"));
        for _ in 0..100 {
            tail.push(&[b'x'; LINE_MAX_BYTES]);
        }
        assert!(tail.last_lines().len() <= TAIL_MAX_BYTES);
    }

    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![1 => Just(b'\n'), 4 => Just(b'a')];
        prop::collection::vec(prop::collection::vec(byte, 0..20), 0..12)
    }

    proptest! {
        #[test]
        fn what_is_owed_given_up_and_held_is_the_stream_cut_at_line_ends(
            mid_line: bool,
            pieces in pieces(),
        ) {
            let mut discard = Discard::new(mid_line);
            let mut owed = Vec::new();
            for piece in &pieces {
                discard.take(piece, &mut owed);
            }
            let stream = pieces.concat();
            let dropped = discard.dropped();
            let held = discard.into_held();
            let first_end = stream.iter().position(|&b| b == b'\n').map_or(stream.len(), |i| i + 1);
            prop_assert_eq!(&owed, &stream[..if mid_line { first_end } else { 0 }]);
            let gone = &stream[owed.len()..stream.len() - held.len()];
            prop_assert_eq!(dropped.bytes, gone.len() as u64);
            prop_assert_eq!(dropped.lines, gone.iter().filter(|&&b| b == b'\n').count() as u64);
            prop_assert!(gone.is_empty() || gone.ends_with(b"\n"));
            prop_assert!(stream.ends_with(&held) && !held.contains(&b'\n'));
        }

        #[test]
        fn lines_do_not_depend_on_how_they_were_written(pieces in pieces()) {
            let mut cutter = LineCutter::default();
            let mut lines = Vec::new();
            for piece in &pieces {
                cutter.feed(piece, |line, _| lines.push(line.to_vec()));
            }
            cutter.finish(|line, _| lines.push(line.to_vec()));
            let stream = pieces.concat();
            let mut expected: Vec<_> = stream.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines, expected);
        }

        #[test]
        fn the_blocked_time_never_exceeds_credit_and_refill(
            steps in prop::collection::vec((0_u64..500, any::<bool>(), 0_u64..100_000), 0..100),
        ) {
            let mut budget = StallBudget::new(0);
            let (mut now_ms, mut blocked_ms, mut all_taken) = (0, 0, 0);
            for (step_ms, blocked, taken_bytes) in steps {
                let step_ms = if blocked { step_ms.min(budget.left_ms()) } else { step_ms };
                now_ms += step_ms;
                blocked_ms += if blocked { step_ms } else { 0 };
                all_taken += taken_bytes;
                budget.account(now_ms, blocked, taken_bytes);
                // A tenth of a millisecond counts as a whole one when it is the last.
                let earned_ms = now_ms / 10 + all_taken / PACE_BYTES_PER_MS;
                prop_assert!(blocked_ms <= STALL_CREDIT_MS + earned_ms + 2);
            }
        }
    }
}
