//! Numbered lines of 100 bytes, written by the child and checked by the harness.

use std::io::Write;
use std::os::fd::AsFd;

/// The length of a line, its newline included.
pub(crate) const LINE_BYTES: usize = 100;
const DIGITS: usize = 12;

/// A line and its number, which counts up in place: formatting would cost more than writing.
pub(crate) struct Line {
    bytes: [u8; LINE_BYTES],
}

impl Line {
    /// The line numbered 0.
    pub(crate) fn first() -> Self {
        let mut bytes = [b'.'; LINE_BYTES];
        bytes[..DIGITS].fill(b'0');
        bytes[DIGITS] = b' ';
        bytes[LINE_BYTES - 1] = b'\n';
        Self { bytes }
    }

    fn advance(&mut self) {
        for digit in self.bytes[..DIGITS].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }

    fn jump_to(&mut self, number: u64) {
        let text = format!("{number:0DIGITS$}");
        self.bytes[..DIGITS].copy_from_slice(&text.as_bytes()[..DIGITS]);
    }
}

/// Writes `count` lines to stdout in large writes, and says how many went out whole.
pub(crate) fn write(count: u64) -> u64 {
    const BATCH: usize = 655;
    let mut line = Line::first();
    let mut batch = vec![0; BATCH * LINE_BYTES];
    // Not `std::io::stdout`, which would look for newlines in every batch.
    let Ok(fd) = std::io::stdout().as_fd().try_clone_to_owned() else {
        return 0;
    };
    let mut stdout = std::fs::File::from(fd);
    let mut written = 0;
    while written < count {
        let lines = BATCH.min(usize::try_from(count - written).unwrap_or(BATCH));
        for slot in batch[..lines * LINE_BYTES].chunks_exact_mut(LINE_BYTES) {
            slot.copy_from_slice(&line.bytes);
            line.advance();
        }
        if stdout.write_all(&batch[..lines * LINE_BYTES]).is_err() {
            break;
        }
        written += lines as u64;
    }
    written
}

/// Counts the lines that arrive whole and in order; anything else on the stream is passed over.
pub(crate) struct Checker {
    expected: Line,
    next_number: u64,
    /// What came after the last newline of the chunk before.
    carry: Vec<u8>,
    /// Lines that arrived whole and in order.
    pub(crate) good: u64,
    /// Bytes received, whatever they were.
    pub(crate) bytes: u64,
}

impl Checker {
    /// Expects the line numbered 0.
    pub(crate) fn new() -> Self {
        Self {
            expected: Line::first(),
            next_number: 0,
            carry: Vec::with_capacity(LINE_BYTES),
            good: 0,
            bytes: 0,
        }
    }

    /// Checks the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if !self.carry.is_empty() {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.carry.extend_from_slice(bytes);
                return;
            };
            let mut line = std::mem::take(&mut self.carry);
            line.extend_from_slice(&bytes[..=end]);
            self.check(&line);
            line.clear();
            self.carry = line;
            bytes = &bytes[end + 1..];
        }
        loop {
            while bytes.len() >= LINE_BYTES && bytes[..LINE_BYTES] == self.expected.bytes {
                self.accept();
                bytes = &bytes[LINE_BYTES..];
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            self.check(&bytes[..=end]);
            bytes = &bytes[end + 1..];
        }
        self.carry.extend_from_slice(bytes);
    }

    fn check(&mut self, line: &[u8]) {
        if line == self.expected.bytes {
            self.accept();
            return;
        }
        let number = line
            .get(..DIGITS)
            .filter(|_| line.len() == LINE_BYTES)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok());
        // A number further on means that the ones between are lost; an earlier one is a repeat.
        if let Some(number) = number.filter(|number| *number > self.next_number) {
            self.expected.jump_to(number);
            self.next_number = number;
            if line == self.expected.bytes {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        self.good += 1;
        self.next_number += 1;
        self.expected.advance();
    }
}
