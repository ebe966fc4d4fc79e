//! Does a gateway's memory grow, and is it a leak? A leak is what never comes back: the floor of the curve rises, and
//! rises evenly, until nothing is left. Spikes leave the floor where it is, a step raises it once, a plateau not at
//! all, and what only approaches its plateau rises less and less.

use super::sample::Kib;
use super::series::{Point, Series};
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// A window is looked at in this many parts, of this many points each.
const PARTS: usize = 6;
const POINTS_A_PART: [usize; 3] = [2, 3, 6];
/// What slows down shows it in a window of up to so many times the length of one in which it seems even.
const SHOWN_WITHIN: u64 = 4;

/// Below this part of the limit a rise is no rise.
const LEAST_RISE_PERCENT: u32 = 5;
/// Nor below what V8's garbage comes and goes by within minutes, however small the heap (2026.9.6 in 1 GB: 45 to 60 MB).
const LEAST_RISE: Kib = Kib::of_mb(64);
const HOUR_MS: u64 = 3_600_000;

/// A rise that goes on until nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rise {
    /// How fast, of late.
    pub per_hour: Kib,
    /// By how much within the window.
    pub by: Kib,
    /// The window.
    pub over: Millis,
    /// What it has before it if it goes on slowing down as it does; `None` when it does not slow down.
    pub to_come: Option<Kib>,
}

impl Rise {
    /// How long this much lasts at this pace.
    #[must_use]
    pub fn lasts(&self, left: Kib) -> Millis {
        let pace = u64::from(self.per_hour.0).max(1);
        Millis(u64::from(left.0).saturating_mul(HOUR_MS) / pace)
    }

    /// True when it would be seen by now to slow down, after so long a time.
    pub(super) fn has_shown(&self, after: Millis) -> bool {
        after.0 >= self.over.0.saturating_mul(SHOWN_WITHIN)
    }

    /// True when it stands still before this much is used up, as far as can be seen: a rise that slows down is
    /// projected from small differences, so that half as much again is allowed for.
    fn ends_within(&self, room: Kib) -> bool {
        self.to_come.is_some_and(|rest| rest < room.percent(200))
    }
}

/// The leak that will be over first, of what was seen from `since` on; what slows down and ends within `room` is none.
/// `before` is one that was seen a moment ago: it is one still, unless it slows down.
///
/// The shortest window is of one minute: what fills memory faster than that no drain could outrun.
#[must_use]
pub(super) fn rise(series: &Series, since: Mono, room: Kib, before: Option<Rise>) -> Option<Rise> {
    let rises = rises(series, since)?;
    let slows_down = |rise: &Rise| {
        rises.iter().any(|(_, longer)| {
            longer.over >= rise.over
                && longer.over.0 <= rise.over.0 * SHOWN_WITHIN
                && longer.ends_within(room)
        })
    };
    let go_on = rises.iter().filter(|(shape, _)| *shape == Shape::GoesOn);
    let go_on = go_on
        .map(|(_, rise)| *rise)
        .filter(|rise| !slows_down(rise));
    let still = before.filter(|rise| !slows_down(rise));
    go_on.max_by_key(|rise| rise.per_hour).or(still)
}

/// How a rise does within its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    GoesOn,
    /// At its end it has less than half of its pace.
    DiesDown,
}

/// Every window in which the floor rises evenly.
fn rises(series: &Series, since: Mono) -> Option<Vec<(Shape, Rise)>> {
    let last = series.last()?;
    // What comes and goes all the time hides a rise smaller than itself; a longer window will show that one.
    let least = LEAST_RISE
        .max(last.limit.percent(LEAST_RISE_PERCENT))
        .max(usual_swing(series, since));
    let mut found = Vec::new();
    for (_, points) in series.levels() {
        let mut newest_first = points
            .iter()
            .rev()
            .take_while(|point| point.at >= since)
            .copied();
        // The newest stretch is not over: its least may still come.
        let Some(present) = newest_first.next() else {
            continue;
        };
        let over: Vec<Point> = newest_first.collect();
        for length in POINTS_A_PART {
            let Some(window) = over.get(..PARTS * length) else {
                break;
            };
            // It may have come back since.
            let has_come_back = window[..length]
                .iter()
                .any(|point| last.tree < point.tree_low);
            if !has_come_back {
                found.extend(rise_in(window, length, least, present.tree_low));
            }
        }
    }
    Some(found)
}

/// `window` holds the newest point first; `present` is the floor since.
fn rise_in(window: &[Point], length: usize, least: Kib, present: Kib) -> Option<(Shape, Rise)> {
    let floor = |part: &[Point]| part.iter().map(|it| it.tree_low).min().unwrap_or_default();
    let floors: Vec<Kib> = window.rchunks(length).map(floor).collect();
    let by = floors.last()?.less(*floors.first()?);
    if by < least {
        return None;
    }
    for pair in floors.windows(2) {
        let step = pair[1].less(pair[0]);
        if step.0 < by.0 / 20 || step.0 > by.0 / 2 {
            return None;
        }
    }
    // Looks come at any pace, so that only what a stretch rose in its time can be compared.
    let begins = |part: usize| window[window.len() - 1 - part * length].at;
    let pace = |from: usize, to: usize| {
        let elapsed = begins(to).since(begins(from)).0.max(1);
        u64::from(floors[to].less(floors[from]).0) * HOUR_MS / elapsed
    };
    let (early, late) = (pace(0, 2), pace(3, 5));
    let shape = if late < early / 2 {
        Shape::DiesDown
    } else {
        Shape::GoesOn
    };
    // Samples fall on either side of the edge of a stretch: less than that part of a pace is no slowing down.
    let edge = early / (2 * length as u64);
    let since_then = present.max(floors[5]).less(floors[4]);
    let to_come = (early.saturating_sub(late) > edge)
        .then(|| still_to_come(early, late, begins(4).since(begins(1))).less(since_then));
    let rise = Rise {
        per_hour: kib(late),
        by,
        over: window[0].at.since(begins(0)),
        to_come,
    };
    Some((shape, rise))
}

/// What a rise that slows down like this, from one pace to another in so much time, has before it until it stands
/// still, as what approaches a plateau does.
fn still_to_come(early: u64, late: u64, between: Millis) -> Kib {
    // The pace falls as e^(-t/τ): τ = between / ln(early/late), and ln x is close to 2(x-1)/(x+1); what comes is late·τ.
    let slowing = early.saturating_sub(late).max(1);
    let time = between.0.saturating_mul(early + late) / (2 * slowing);
    kib(late.saturating_mul(time) / HOUR_MS)
}

fn kib(value: u64) -> Kib {
    Kib(u32::try_from(value).unwrap_or(u32::MAX))
}

/// How much the gateway's work usually comes and goes: what it let go of from one stretch to the next, the third
/// most often seen. Once is a spike and twice is chance.
#[must_use]
pub(super) fn usual_swing(series: &Series, since: Mono) -> Kib {
    let of_level = series.levels().map(|(_, points)| {
        let points = points.iter().filter(|point| point.at >= since);
        let next = points.clone().skip(1);
        let mut drops: Vec<Kib> = points
            .zip(next)
            .map(|(earlier, later)| earlier.tree_high.less(later.tree_low))
            .collect();
        drops.sort_unstable();
        drops.iter().rev().nth(2).copied().unwrap_or_default()
    });
    of_level.max().unwrap_or_default()
}
