//! A chart of memory over time, in plain characters.

use std::fmt::Write as _;

/// One stretch of time, by its distance from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// How long before the end it begins, in milliseconds.
    pub before_ms: u64,
    /// The least, in KiB.
    pub low_kib: u32,
    /// The most, in KiB.
    pub high_kib: u32,
}

/// With the axis and its numbers a line has 79 characters at most.
const COLUMNS: usize = 66;
const ROWS: u64 = 10;

/// Lines of at most 79 characters: `#` up to the least of each stretch, `:` from there to the most.
///
/// `bars` come oldest first. Nothing is drawn of fewer than two: that is no course of anything.
#[must_use]
pub fn chart(bars: &[Bar], limit_kib: Option<u32>) -> Vec<String> {
    let (Some(oldest), true) = (bars.first(), bars.len() > 1) else {
        return Vec::new();
    };
    let highest = bars.iter().map(|bar| bar.high_kib).max().unwrap_or(0);
    let top = top(highest, limit_kib);
    let columns = columns(bars, oldest.before_ms);
    let mut lines = Vec::new();
    for row in (1..=ROWS).rev() {
        // A column reaches a row when it fills at least half of it.
        let needed = (top * (2 * row - 1)) / (2 * ROWS);
        let reaches = |kib: u32| u64::from(kib) >= needed;
        let mut line = format!("{:>7} MB |", (top * row / ROWS) >> 10);
        for (low, high) in &columns {
            line.push(match (reaches(*low), reaches(*high)) {
                (true, _) => '#',
                (false, true) => ':',
                (false, false) => ' ',
            });
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.push(format!("{:>7} MB +{}", 0, "-".repeat(columns.len())));
    let begins = format!("{} before", length(oldest.before_ms));
    let mut axis = " ".repeat(12);
    let room = columns.len().saturating_sub(begins.len());
    // Writing to a String cannot fail.
    let _ = write!(axis, "{begins}{:>room$}", "then");
    lines.push(axis);
    lines
}

/// The limit, unless it lies so far above that nothing would be seen of the course; then half as much again as the most.
fn top(highest_kib: u32, limit_kib: Option<u32>) -> u64 {
    let highest = u64::from(highest_kib).max(1);
    let limit = u64::from(limit_kib.unwrap_or(0)).max(highest);
    if limit <= highest * 3 {
        limit
    } else {
        highest * 3 / 2
    }
}

/// The least and the most of each column; one in which nothing was seen goes on as the one before.
fn columns(bars: &[Bar], span_ms: u64) -> Vec<(u32, u32)> {
    let width_ms = span_ms.div_ceil(COLUMNS as u64).max(1);
    let mut columns: Vec<Option<(u32, u32)>> = vec![None; COLUMNS];
    for bar in bars {
        let place = (span_ms - bar.before_ms.min(span_ms)) / width_ms;
        let place = usize::try_from(place).unwrap_or(0).min(COLUMNS - 1);
        let (low, high) = columns[place].unwrap_or((bar.low_kib, bar.high_kib));
        columns[place] = Some((low.min(bar.low_kib), high.max(bar.high_kib)));
    }
    let mut last = (0, 0);
    columns
        .into_iter()
        .map(|column| {
            last = column.unwrap_or((last.0, last.0));
            last
        })
        .collect()
}

fn length(ms: u64) -> String {
    crate::core::time::Millis(ms).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(before_ms: u64, low_mb: u32, high_mb: u32) -> Bar {
        Bar {
            before_ms,
            low_kib: low_mb << 10,
            high_kib: high_mb << 10,
        }
    }

    #[test]
    fn a_leak_climbs_to_the_limit() {
        let leak: Vec<Bar> = (0..=60)
            .map(|minute| {
                bar(
                    (60 - minute) * 60_000,
                    200 + 13 * minute as u32,
                    215 + 13 * minute as u32,
                )
            })
            .collect();
        let lines = chart(&leak, Some(1000 << 10));
        assert_eq!(lines.len(), 12);
        assert!(lines.iter().all(|line| line.chars().count() < 80));
        assert!(lines[0].starts_with("   1000 MB |"), "{}", lines[0]);
        assert!(
            lines[0].contains([':', '#']),
            "it reached the limit: {lines:#?}"
        );
        let filled = |line: &str| line.matches(['#', ':']).count();
        let counts: Vec<_> = lines[..10].iter().map(|line| filled(line)).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        assert_eq!(counts[9], COLUMNS, "the lowest row is full");
        assert!(
            lines[11].trim_start().starts_with("1h00m before"),
            "{}",
            lines[11]
        );
        assert!(lines[11].ends_with("then"));
    }

    #[test]
    fn a_spike_shows_above_what_stayed() {
        let lines = chart(
            &[
                bar(60_000, 100, 100),
                bar(30_000, 100, 900),
                bar(0, 100, 100),
            ],
            Some(1000 << 10),
        );
        assert_eq!(lines[1].matches(':').count(), 1, "{lines:#?}");
        assert_eq!(lines[9].matches('#').count(), COLUMNS, "{lines:#?}");
    }

    #[test]
    fn a_limit_far_above_does_not_flatten_the_course() {
        let lines = chart(
            &[bar(60_000, 100, 100), bar(0, 200, 200)],
            Some(24_000 << 10),
        );
        assert!(lines[0].trim_start().starts_with("300 MB"), "{lines:#?}");
        assert!(lines[4].contains('#'), "{lines:#?}");
    }

    #[test]
    fn odd_series_make_no_nonsense() {
        assert!(chart(&[], None).is_empty());
        assert!(chart(&[bar(0, 1, 1)], None).is_empty());
        for bars in [
            [bar(0, 0, 0), bar(0, 0, 0)],
            [bar(5, 9, 9), bar(u64::MAX, 9, 9)],
            [bar(u64::MAX, 4_000_000, 4_000_000), bar(0, 1, 1)],
        ] {
            let lines = chart(&bars, None);
            assert!(
                lines.iter().all(|line| line.chars().count() < 80),
                "{lines:#?}"
            );
        }
    }
}
