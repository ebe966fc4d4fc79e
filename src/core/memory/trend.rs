//! Does a gateway's memory grow, and is it a leak? A leak is what never comes back: the floor of the curve rises, and
//! rises evenly. Spikes leave the floor where it is, a step raises it once, a plateau not at all, and what only
//! approaches its plateau rises less and less.

use super::sample::Kib;
use super::series::{Point, Series};
use crate::core::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// A window is looked at in this many parts, of this many points each.
const PARTS: usize = 6;
const POINTS_A_PART: [usize; 3] = [2, 3, 6];

/// Below this part of the limit a rise is no rise.
const LEAST_RISE_PERCENT: u32 = 5;
const LEAST_RISE: Kib = Kib::of_mb(24);
const HOUR_MS: u64 = 3_600_000;

/// A rise that goes on.
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
    /// How long this much lasts at this pace; `None` when the rise will have ended before.
    #[must_use]
    pub fn lasts(&self, available: Kib) -> Option<Millis> {
        if self.to_come.is_some_and(|rest| rest < available) {
            return None;
        }
        let pace = u64::from(self.per_hour.0).max(1);
        Some(Millis(
            u64::from(available.0).saturating_mul(HOUR_MS) / pace,
        ))
    }
}

/// The fastest leak that any window shows of what was seen from `since` on.
///
/// The shortest window is of one minute: what fills memory faster than that no drain could outrun.
#[must_use]
pub fn rise(series: &Series, since: Mono) -> Option<Rise> {
    let last = series.last()?;
    // What comes and goes all the time hides a rise smaller than itself; a longer window will show that one.
    let least = LEAST_RISE
        .max(last.limit.percent(LEAST_RISE_PERCENT))
        .max(usual_swing(series, since));
    let mut fastest: Option<Rise> = None;
    for (_, points) in series.levels() {
        // The newest stretch is not over: its least may still come.
        let over: Vec<Point> = points.iter().rev().skip(1).copied().collect();
        let over: Vec<Point> = over
            .into_iter()
            .take_while(|point| point.at >= since)
            .collect();
        for length in POINTS_A_PART {
            let Some(window) = over.get(..PARTS * length) else {
                break;
            };
            let found = rise_in(window, length, least).filter(|_| {
                // It may have come back since.
                window[..length]
                    .iter()
                    .all(|point| last.tree >= point.tree_low)
            });
            fastest = fastest
                .into_iter()
                .chain(found)
                .max_by_key(|it| it.per_hour);
        }
    }
    fastest
}

/// `window` holds the newest point first.
fn rise_in(window: &[Point], length: usize, least: Kib) -> Option<Rise> {
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
    if late < early / 2 {
        return None;
    }
    Some(Rise {
        per_hour: kib(late),
        by,
        over: window[0].at.since(begins(0)),
        to_come: still_to_come(early, late, begins(4).since(begins(1))),
    })
}

/// What a rise that slows down like this, from one pace to another in so much time, has before it until it stands
/// still, as what approaches a plateau does. `None` when it does not slow down.
fn still_to_come(early: u64, late: u64, between: Millis) -> Option<Kib> {
    // Samples fall on either side of the edge of a stretch: a quarter less is no slowing down.
    let slowing = early.saturating_sub(late);
    if slowing <= early / 4 {
        return None;
    }
    // The pace falls as e^(-t/τ): τ = between / ln(early/late), and ln x is close to 2(x-1)/(x+1); what comes is late·τ.
    let time = between.0.saturating_mul(early + late) / (2 * slowing);
    Some(kib(late.saturating_mul(time) / HOUR_MS))
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
