//! What the lines of the gateway's output give away, on its way to the loop.

use super::super::clock;
use super::super::records::Records;
use super::super::relay::LineEvent;
use crate::core::event::{Attempt, Event};
use crate::core::exit_class::Marker;
use crate::core::output::LineEnd;
use crate::core::reload::Sign;
use crate::gateway;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What stands for lines that nobody saw.
const GAP: &[u8] = b"[...]";

/// Sends each marker of an attempt once, and words about a reload at a bounded rate: a gateway that repeats itself
/// can neither fill the channel nor drive everything else out of the journal.
pub(super) fn on_line(
    sender: mpsc::Sender<Event>,
    records: Arc<Records>,
) -> Box<dyn FnMut(LineEvent<'_>) + Send> {
    let mut current = 0;
    let mut seen: Vec<Marker> = Vec::new();
    let mut words = Words::default();
    Box::new(move |line| {
        if line.end == LineEnd::Gap {
            return records.output(clock::wall(), GAP);
        }
        records.output(clock::wall(), line.line);
        if line.attempt != current {
            current = line.attempt;
            seen.clear();
        }
        if let Some(sign) = gateway::recognise_reload(line.line)
            && words.may_pass(sign, Instant::now())
        {
            let _ = sender.try_send(Event::ReloadSaid {
                attempt: Attempt(line.attempt),
                sign,
            });
        }
        if let Some(marker) = gateway::recognise_line(line.line)
            && !seen.contains(&marker)
        {
            seen.push(marker);
            // Full only if the loop has stopped taking events in, and then nobody would read it.
            let _ = sender.try_send(Event::LineSeen {
                attempt: Attempt(line.attempt),
                marker,
            });
        }
    })
}

/// What the gateway said of its config lately.
#[derive(Debug, Default)]
struct Words {
    last: Option<(Sign, Instant)>,
    /// Since when words are counted, and how many passed since.
    counted: Option<(Instant, u32)>,
}

impl Words {
    /// A gateway that says the same over and over says it once in this time.
    const REPEATED: Duration = Duration::from_millis(200);
    /// Words that pass in a second, whichever they are. An edit has two or three.
    const A_SECOND: u32 = 20;

    fn may_pass(&mut self, sign: Sign, now: Instant) -> bool {
        let is_repeated = self.last.is_some_and(|(last, at)| {
            last == sign && now.saturating_duration_since(at) < Self::REPEATED
        });
        let (since, count) = self
            .counted
            .filter(|(since, _)| now.saturating_duration_since(*since) < Duration::from_secs(1))
            .unwrap_or((now, 0));
        if is_repeated || count == Self::A_SECOND {
            return false;
        }
        self.last = Some((sign, now));
        self.counted = Some((since, count + 1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_never_end_pass_at_a_bounded_rate_and_an_edits_own_pass_all() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut words = Words::default();
        assert!(words.may_pass(Sign::Noticed, at(0)));
        assert!(
            words.may_pass(Sign::Applied, at(0)),
            "the next word of one edit"
        );
        assert!(!words.may_pass(Sign::Applied, at(199)), "it repeats itself");
        assert!(words.may_pass(Sign::Applied, at(200)));
        let mut flood = Words::default();
        let signs = [Sign::Noticed, Sign::Applied];
        let passed = (0..10_000).filter(|n| flood.may_pass(signs[n % 2], at(*n as u64)));
        assert_eq!(passed.count(), 200, "of ten seconds");
    }
}
