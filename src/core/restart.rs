//! When does the next start happen? Pacing after each class of exit, and around the gateway's own crash breaker.

use super::exit_class::{ExitClass, ExitStatus, StopCause};
use super::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// The pacing that settings choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Delay before the second start in a row of crashes; the first follows at once. Doubles with each further crash.
    pub backoff_min: Millis,
    /// The longest delay between two starts.
    pub backoff_max: Millis,
    /// A gateway that was ready for this long starts a new row.
    pub reset_after: Millis,
}

/// The window of the gateway's crash breaker: with three unclean boots in it, the next boot leaves all channels off.
///
/// Measured on 2026.7.1 and 2026.9.6: a boot counts while its record lies within the window and nothing marked it as ended in order;
/// being ready for long does not mark it, and a clean stop of a later boot does not clear it.
/// 2026.7.1 never brings the channels back by itself; 2026.9.6 some six minutes after its own start.
pub const BREAKER_WINDOW: Millis = Millis::from_secs(300);

/// How many unclean boots trip the breaker.
pub const BREAKER_BOOTS: usize = 3;

/// Past the window's end, so that a clock a little off does not waste a restart.
const BREAKER_MARGIN: Millis = Millis::from_secs(2);

/// Whatever the settings say, more crashes in a row than this are not answered at once.
const CRASHES_WITHOUT_PAUSE: u32 = 5;
const LEAST_PAUSE: Millis = Millis(10);

/// Exits with 0 that may follow each other at once within [`RELAUNCH_WINDOW`]; further ones are paced as crashes.
const RELAUNCHES: usize = 5;
const RELAUNCH_WINDOW: Millis = Millis::from_secs(60);

/// What earlier exits say about the next start. Bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Crashes in a row.
    crashes: u32,
    /// Times of the last relaunches.
    relaunches: Vec<Mono>,
    /// When each of the last boots that ended uncleanly was noted by the gateway, oldest first, at most [`BREAKER_BOOTS`].
    unclean: Vec<Mono>,
    /// When channels were last started against the breaker's will.
    channels_started: Option<Mono>,
}

/// One boot that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// When it was started.
    pub started: Mono,
    /// When it became ready, if it did.
    pub ready: Option<Mono>,
    /// When it ended.
    pub ended: Mono,
    /// How it ended.
    pub status: ExitStatus,
}

impl History {
    /// Notes the end of a boot and says how long to wait before the next. `draw` is a uniform random number.
    pub fn delay(&mut self, class: &ExitClass, boot: Boot, pace: &Pace, draw: u32) -> Millis {
        if class.is_unclean(boot.status) {
            if self.unclean.len() == BREAKER_BOOTS {
                self.unclean.remove(0);
            }
            // The gateway notes a boot some seconds into it, at the latest when it is ready.
            self.unclean.push(boot.ready.unwrap_or(boot.ended));
        }
        if boot
            .ready
            .is_some_and(|ready| boot.ended.since(ready) >= pace.reset_after)
        {
            self.crashes = 0;
        }
        match class {
            ExitClass::Relaunch => {
                self.relaunches
                    .retain(|at| boot.ended.since(*at) < RELAUNCH_WINDOW);
                if self.relaunches.len() < RELAUNCHES {
                    self.relaunches.push(boot.ended);
                    return Millis(0);
                }
                self.backoff(pace, draw)
            }
            ExitClass::Requested(
                StopCause::ChannelsOff
                | StopCause::Reload
                | StopCause::Memory
                | StopCause::Restart
                | StopCause::Pause
                | StopCause::Shutdown,
            )
            // It is held until its cause is gone, and says nothing about the gateway's health.
            | ExitClass::Refused(_) => Millis(0),
            ExitClass::Requested(StopCause::Hung | StopCause::StartTimeout)
            | ExitClass::Crash { .. }
            | ExitClass::Signal { .. }
            | ExitClass::OomKernel(_)
            | ExitClass::OomHeap => self.backoff(pace, draw),
        }
    }

    fn backoff(&mut self, pace: &Pace, draw: u32) -> Millis {
        self.crashes = self.crashes.saturating_add(1);
        let Some(doublings) = self.crashes.checked_sub(2) else {
            return Millis(0);
        };
        // Without a delay of the user's own, a gateway that dies at once would be started without a pause for ever.
        let least = if self.crashes > CRASHES_WITHOUT_PAUSE {
            LEAST_PAUSE
        } else {
            Millis(0)
        };
        let doubled = pace
            .backoff_min
            .max(least)
            .0
            .saturating_mul(1u64.checked_shl(doublings.min(40)).unwrap_or(u64::MAX));
        let capped = doubled.min(pace.backoff_max.max(least).0);
        // Up to a quarter less, so that many machines that died together do not start together.
        let spread = u128::from(capped / 4) * u128::from(draw) / u128::from(u32::MAX);
        Millis(capped - u64::try_from(spread).unwrap_or(0))
    }

    /// Crashes in a row so far.
    #[must_use]
    pub const fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Whether channels may be started although the breaker tripped: not twice within its window,
    /// because the first time may have been what crashed it.
    #[must_use]
    pub fn may_start_channels(&self, now: Mono) -> bool {
        self.channels_started
            .is_none_or(|at| now.since(at) >= BREAKER_WINDOW)
    }

    /// Notes that channels are being started although the breaker tripped.
    pub const fn note_channels_started(&mut self, now: Mono) {
        self.channels_started = Some(now);
    }

    /// When a drained restart brings the channels back, for a boot that began at `booted` with the breaker tripped:
    /// as soon as the oldest of the three boots that tripped it leaves the window.
    /// Without a record of three (they belong to an earlier container), a whole window after this boot.
    #[must_use]
    pub fn channels_back_at(&self, booted: Mono) -> Mono {
        let oldest = match self.unclean.as_slice() {
            [oldest, _, _] => *oldest,
            _ => booted,
        };
        oldest.plus(BREAKER_WINDOW).plus(BREAKER_MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit_class::Refusal;
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace {
        backoff_min: Millis::from_secs(1),
        backoff_max: Millis::from_secs(300),
        reset_after: Millis::from_secs(600),
    };
    const KILLED: ExitClass = ExitClass::Signal { signal: 9 };

    fn boot(started: u64, ready: Option<u64>, ended: u64) -> Boot {
        Boot {
            started: Mono(started),
            ready: ready.map(Mono),
            ended: Mono(ended),
            status: ExitStatus::Signal(9),
        }
    }

    #[test]
    fn the_first_crash_restarts_at_once_and_each_further_one_waits_twice_as_long() {
        let mut history = History::default();
        let delays: Vec<u64> = (0..12)
            .map(|n| history.delay(&KILLED, boot(n, None, n), &PACE, 0).0 / 1000)
            .collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn without_any_delay_set_a_row_of_crashes_is_still_not_a_loop_without_a_pause() {
        let pace = Pace {
            backoff_min: Millis(0),
            backoff_max: Millis(0),
            ..PACE
        };
        let mut history = History::default();
        let delays: Vec<u64> = (0..8)
            .map(|n| history.delay(&KILLED, boot(n, None, n), &pace, 0).0)
            .collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 10, 10, 10]);
    }

    #[test]
    fn ten_ready_minutes_start_a_new_row() {
        let mut history = History::default();
        for n in 0..5 {
            history.delay(&KILLED, boot(n, None, n), &PACE, 0);
        }
        assert_eq!(
            history.delay(&KILLED, boot(10, Some(20), 20 + 600_000), &PACE, 0),
            Millis(0)
        );
        assert_eq!(history.crashes(), 1);
    }

    #[test]
    fn refusals_neither_begin_a_row_of_crashes_nor_end_one() {
        let mut history = History::default();
        let refused = ExitClass::Refused(Refusal::OwnerLease);
        for n in 0..10 {
            assert_eq!(
                history.delay(&refused, boot(n, None, n), &PACE, 0),
                Millis(0)
            );
        }
        assert_eq!(history.crashes(), 0);
        history.delay(&KILLED, boot(10, None, 11), &PACE, 0);
        history.delay(&refused, boot(12, None, 13), &PACE, 0);
        assert_eq!(history.crashes(), 1);
    }

    #[test]
    fn relaunches_are_immediate_until_they_become_a_storm() {
        let mut history = History::default();
        let at = |n: u64| Boot {
            status: ExitStatus::Code(0),
            ..boot(n, None, n)
        };
        for n in 0..5 {
            assert_eq!(
                history.delay(&ExitClass::Relaunch, at(n), &PACE, 0),
                Millis(0)
            );
        }
        history.delay(&ExitClass::Relaunch, at(6), &PACE, 0);
        assert!(history.delay(&ExitClass::Relaunch, at(7), &PACE, 0) >= Millis(1000));
        assert_eq!(
            history.delay(&ExitClass::Relaunch, at(90_000), &PACE, 0),
            Millis(0)
        );
    }

    #[test]
    fn channels_come_back_when_the_oldest_of_three_unclean_boots_leaves_the_window() {
        let mut history = History::default();
        for started in [1_000, 12_000, 25_000] {
            history.delay(&KILLED, boot(started, None, started + 9_000), &PACE, 0);
        }
        assert_eq!(
            history.channels_back_at(Mono(40_000)),
            Mono(10_000 + 302_000)
        );
        history.delay(&KILLED, boot(40_000, None, 41_000), &PACE, 0);
        assert_eq!(
            history.channels_back_at(Mono(50_000)),
            Mono(21_000 + 302_000)
        );
    }

    #[test]
    fn without_a_record_of_three_the_whole_window_is_waited_for() {
        assert_eq!(
            History::default().channels_back_at(Mono(7_000)),
            Mono(7_000 + 302_000)
        );
    }

    #[test]
    fn a_clean_stop_is_no_unclean_boot() {
        let mut history = History::default();
        for n in 0..3 {
            let clean = Boot {
                status: ExitStatus::Code(0),
                ..boot(n, None, n)
            };
            history.delay(
                &ExitClass::Requested(StopCause::ChannelsOff),
                clean,
                &PACE,
                0,
            );
        }
        assert_eq!(history, History::default());
    }

    proptest! {
        #[test]
        fn invariant_a_delay_lies_between_three_quarters_and_the_whole_of_its_step(
            crashes in 0u32..70, draw: u32, min in 0u64..10_000, max in 0u64..1_000_000
        ) {
            let pace = Pace { backoff_min: Millis(min), backoff_max: Millis(max), ..PACE };
            let mut history = History { crashes, ..History::default() };
            let Millis(delay) = history.delay(&KILLED, boot(0, None, 1), &pace, draw);
            let least = if crashes >= CRASHES_WITHOUT_PAUSE { LEAST_PAUSE.0 } else { 0 };
            prop_assert!(delay <= max.max(least));
            if crashes >= 1 {
                let step = min.max(least).saturating_mul(1u64 << (crashes - 1).min(40)).min(max.max(least));
                prop_assert!(delay <= step && delay >= step - step / 4);
            }
        }
    }
}
