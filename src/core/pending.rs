//! Lines of output on their way to the disk: bounded, and the newest are worth the most.

use super::time::WallMs;

/// What waits at most. When it is full all of it gives way: what a gateway says last tells why it died.
pub const PENDING_MAX_BYTES: usize = 64 * 1024;

/// What a line costs besides its own bytes, here and on the disk: its entry, its time, its newline.
const LINE_BYTES: usize = 48;

/// Lines that wait, with the time of each, and how many gave way to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pending {
    bytes: Vec<u8>,
    /// When each was seen, and where it ends.
    lines: Vec<(WallMs, usize)>,
    lost: u64,
}

impl Pending {
    /// Adds a line, given without its newline.
    pub fn push(&mut self, at: WallMs, line: &[u8]) {
        if self.len_bytes() + LINE_BYTES + line.len() > PENDING_MAX_BYTES {
            self.lost += self.lines.len() as u64;
            self.bytes.clear();
            self.lines.clear();
        }
        self.bytes.extend_from_slice(line);
        self.lines.push((at, self.bytes.len()));
    }

    /// How much waits, an empty line included.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.bytes.len() + self.lines.len() * LINE_BYTES
    }

    /// True when there is nothing to be written, not even how much was lost.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }

    /// How many lines gave way, or could not be written. They came before all that are here.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Each line with its time, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = (WallMs, &[u8])> {
        let starts = std::iter::once(0).chain(self.lines.iter().map(|(_, end)| *end));
        let ends = self.lines.iter();
        ends.zip(starts)
            .map(|((at, end), start)| (*at, &self.bytes[start..*end]))
    }

    /// Everything that waits; nothing is left. Without memory of its own while nothing comes.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Counts what could not be written as lost.
    pub fn lose(&mut self, unwritten: &Self) {
        self.lost += unwritten.lost + unwritten.lines.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pending: &Pending) -> Vec<(u64, &str)> {
        let lines = pending.lines();
        lines
            .map(|(at, line)| (at.0, std::str::from_utf8(line).expect("text")))
            .collect()
    }

    #[test]
    fn lines_come_back_in_order_each_with_its_time_and_only_once() {
        let mut pending = Pending::default();
        for (at, line) in [(1, "one"), (2, ""), (2, "three")] {
            pending.push(WallMs(at), line.as_bytes());
        }
        let taken = pending.take();
        assert_eq!(shown(&taken), [(1, "one"), (2, ""), (2, "three")]);
        assert_eq!(shown(&pending), []);
        assert_eq!(taken.lost(), 0);
    }

    #[test]
    fn a_flood_loses_the_oldest_is_counted_and_takes_no_more_memory() {
        for line in [&b""[..], b"x", &[b'x'; 1000]] {
            let mut pending = Pending::default();
            for at in 0..5000 {
                pending.push(WallMs(at), line);
                let entries = size_of_val(pending.lines.as_slice());
                assert!(pending.bytes.len() + entries <= PENDING_MAX_BYTES);
            }
            let kept = pending.lines().count() as u64;
            assert_eq!(pending.lost() + kept, 5000);
            assert!(pending.lost() > 0);
            assert_eq!(pending.lines().last().map(|(at, _)| at), Some(WallMs(4999)));
        }
    }

    #[test]
    fn what_could_not_be_written_is_counted_before_what_comes_after_it() {
        let mut pending = Pending::default();
        pending.push(WallMs(1), b"a");
        pending.push(WallMs(2), b"b");
        let failed = pending.take();
        pending.push(WallMs(3), b"c");
        pending.lose(&failed);
        assert_eq!((pending.lost(), shown(&pending)), (2, vec![(3, "c")]));
    }
}
