//! The last samples: all of the last minutes, fewer of what lies behind. Bounded: 5 KB, whatever happens.

use super::sample::{Kib, Sample};
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Samples kept as they are.
const RECENT: usize = 40;
/// Points kept of each width: three minutes, eighteen minutes, three hours, a day, and the stretch that is not over.
const POINTS: usize = 37;
const WIDTHS: [Millis; 4] = [
    Millis::from_secs(5),
    Millis::from_secs(30),
    Millis::from_secs(300),
    Millis::from_secs(2_400),
];

/// What a gateway's memory did in one life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    recent: VecDeque<Sample>,
    /// One of each width, finest first.
    levels: [VecDeque<Point>; WIDTHS.len()],
}

/// The extremes within one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When the stretch begins.
    pub at: Mono,
    /// The least that the tree had: what is left when garbage has been collected and work is done.
    pub tree_low: Kib,
    /// The most that it had.
    pub tree_high: Kib,
    /// The least that was available.
    pub available_low: Kib,
}

impl Point {
    const fn of(sample: &Sample, at: Mono) -> Self {
        Self {
            at,
            tree_low: sample.tree,
            tree_high: sample.tree,
            available_low: sample.available,
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.tree_low = self.tree_low.min(sample.tree);
        self.tree_high = self.tree_high.max(sample.tree);
        self.available_low = self.available_low.min(sample.available);
    }
}

impl Default for Series {
    /// Empty.
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            levels: std::array::from_fn(|_| VecDeque::new()),
        }
    }
}

impl Series {
    /// Adds a sample; the oldest of what is full makes room.
    pub fn push(&mut self, sample: Sample) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
        for (points, Millis(width)) in self.levels.iter_mut().zip(WIDTHS) {
            let at = Mono(sample.at.0 - sample.at.0 % width);
            match points.back_mut() {
                Some(last) if last.at == at => last.take(&sample),
                Some(_) | None => {
                    if points.len() == POINTS {
                        points.pop_front();
                    }
                    points.push_back(Point::of(&sample, at));
                }
            }
        }
    }

    /// The newest sample.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.recent.back()
    }

    /// The last samples as they were, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Sample> + ExactSizeIterator {
        self.recent.iter()
    }

    /// The whole life, oldest first: coarse where it lies far behind, as fine as it is known where it does not.
    #[must_use]
    pub fn history(&self) -> Vec<Point> {
        let mut all: Vec<Point> = Vec::new();
        let exact = self.recent.iter().map(|it| Point::of(it, it.at)).collect();
        let finer = self.levels.iter().rev().cloned().chain([exact]);
        for points in finer {
            let begins = points.front().map_or(Mono(u64::MAX), |point| point.at);
            all.retain(|point| point.at < begins);
            all.extend(points);
        }
        all
    }

    /// The points of each width, finest first, with the width.
    pub fn levels(&self) -> impl Iterator<Item = (Millis, &VecDeque<Point>)> {
        WIDTHS.into_iter().zip(&self.levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::LimitFrom;

    fn sample(at: u64, tree_mb: u32) -> Sample {
        Sample {
            at: Mono(at),
            main: Kib::of_mb(tree_mb),
            tree: Kib::of_mb(tree_mb),
            processes: 3,
            available: Kib::of_mb(2048 - tree_mb),
            limit: Kib::of_mb(2048),
            limit_from: LimitFrom::Machine,
            usage: Kib::of_mb(tree_mb),
            stalled: None,
        }
    }

    #[test]
    fn a_month_of_samples_stays_within_its_bound() {
        let mut series = Series::default();
        for at in 0..260_000_u64 {
            series.push(sample(at * 10_000, 900));
        }
        assert_eq!(series.recent().len(), RECENT);
        assert!(series.levels().all(|(_, points)| points.len() == POINTS));
        let text = serde_json::to_string(&series).expect("a series is JSON");
        assert!(text.len() < 24_000, "{} bytes of JSON", text.len());
        assert_eq!(
            serde_json::from_str::<Series>(&text).expect("and reads back"),
            series
        );
    }

    #[test]
    fn a_point_keeps_the_extremes_of_its_stretch() {
        let mut series = Series::default();
        for (at, tree) in [(10_000, 900), (11_000, 1_500), (14_999, 800), (15_000, 850)] {
            series.push(sample(at, tree));
        }
        let (_, finest) = series.levels().next().expect("the finest");
        assert_eq!(finest.len(), 2);
        assert_eq!(
            finest[0],
            Point {
                at: Mono(10_000),
                tree_low: Kib::of_mb(800),
                tree_high: Kib::of_mb(1_500),
                available_low: Kib::of_mb(2048 - 1_500),
            }
        );
    }

    #[test]
    fn the_history_is_in_order_and_reaches_from_the_beginning_to_now() {
        let mut series = Series::default();
        for at in 0..5_000_u64 {
            series.push(sample(at * 12_000, 900));
        }
        let history = series.history();
        assert!(history.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(history[0].at, Mono(0));
        assert_eq!(history.last().map(|it| it.at), Some(Mono(4_999 * 12_000)));
    }
}
