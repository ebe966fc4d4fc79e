//! How often something happened lately, by class.

use super::super::status::RestartClass;
use super::super::time::{Millis, Mono};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const CLASSES: usize = RestartClass::ALL.len();
/// Counted together; so much is an hour or a day longer than its name at most.
const TOGETHER: Millis = Millis::from_secs(300);
const DAY: Millis = Millis::from_secs(86_400);

/// Counts of the last day. Quiet times take no room; at most 289 stretches are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recent(VecDeque<(u64, [u16; CLASSES])>);

impl Recent {
    pub(super) fn note(&mut self, now: Mono, class: RestartClass) {
        let Some(position) = class.position() else {
            return;
        };
        let stretch = now.0 / TOGETHER.0;
        if self.0.back().is_none_or(|(last, _)| *last != stretch) {
            self.0.push_back((stretch, [0; CLASSES]));
        }
        let oldest = stretch.saturating_sub(DAY.0 / TOGETHER.0);
        while self.0.front().is_some_and(|(first, _)| *first < oldest) {
            self.0.pop_front();
        }
        if let Some(count) = self
            .0
            .back_mut()
            .and_then(|(_, counts)| counts.get_mut(position))
        {
            *count = count.saturating_add(1);
        }
    }

    /// What happened within this time before now, in the order of [`RestartClass::ALL`].
    pub(super) fn within(&self, length: Millis, now: Mono) -> [u64; CLASSES] {
        let from = now.0.saturating_sub(length.0) / TOGETHER.0;
        let mut sum = [0; CLASSES];
        for (_, counts) in self.0.iter().filter(|(stretch, _)| *stretch >= from) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_and_a_day_forget_what_is_older_and_nothing_grows() {
        let mut recent = Recent::default();
        let crash = RestartClass::Crash;
        let at = |minutes: u64| Mono(minutes * 60_000);
        let hour = Millis::from_secs(3_600);
        for minute in 0..10_000 {
            recent.note(at(minute), crash);
        }
        let now = at(10_000);
        let of = |length| crash.position().map(|it| recent.within(length, now)[it]);
        assert!(of(hour).is_some_and(|count| (60..=65).contains(&count)));
        assert!(of(DAY).is_some_and(|count| (1_440..=1_445).contains(&count)));
        assert!(recent.0.len() <= 289, "{}", recent.0.len());
        let relaunch = RestartClass::Relaunch.position().expect("a place");
        assert_eq!(recent.within(DAY, now)[relaunch], 0);
        assert_eq!(recent.within(hour, at(20_000)), [0; CLASSES]);
    }
}
