//! The gateway's output when it is far more than our reader takes.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and pace a reader"
)]

mod support;

use nix::libc;
use std::io::{PipeReader, Read as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::keeper::Plan;
use support::{PATIENCE, Place, poll_until};

/// 100 MB in lines of 100 bytes, at 50 MB/s.
const FLOOD: [&str; 4] = ["--lines", "1000000", "--bytes-per-second", "50000000"];
const LINES: u64 = 1_000_000;

#[test]
fn a_reader_that_reads_loses_no_line() {
    for place in [Place::Pid1, Place::Subreaper] {
        let plan = Plan::new(place).gateway(FLOOD);
        let (reader, kept) = Reader::of(&plan, FAST);
        kept.wait_for_printed();
        assert_eq!(kept.stop().status, "exit 0");
        let seen = reader.finish();
        assert_eq!(
            (seen.numbers.len() as u64, seen.notices.len()),
            (LINES, 0),
            "{place:?}"
        );
    }
}

#[test]
fn a_slow_reader_loses_whole_lines_that_are_counted_and_holds_nobody_up() {
    let plan = Plan::new(Place::Pid1).gateway(FLOOD);
    let (reader, kept) = Reader::of(&plan, SLOW);
    // The reader alone would take more than a minute.
    kept.wait_for_printed();
    kept.wait_until_ready();
    reader.pace(FAST);
    assert_eq!(kept.stop().status, "exit 0");
    let seen = reader.finish();
    assert!(!seen.notices.is_empty());
    assert_eq!(
        seen.numbers.len() as u64 + seen.dropped(),
        LINES + seen.other_dropped()
    );
}

#[test]
fn a_stopped_reader_gets_one_notice_with_the_count_when_it_reads_again() {
    let plan = Plan::new(Place::Subreaper).gateway(FLOOD);
    let (reader, kept) = Reader::of(&plan, STOPPED);
    kept.wait_for_printed();
    // Supervision goes on meanwhile.
    kept.wait_until_ready();
    reader.pace(FAST);
    reader.wait_for_notice();
    assert_eq!(kept.stop().status, "exit 0");
    let seen = reader.finish();
    assert_eq!(seen.notices.len(), 1, "{:?}", seen.notices);
    assert_eq!(
        seen.numbers.len() as u64 + seen.dropped(),
        LINES + seen.other_dropped()
    );
}

#[test]
fn a_reader_that_never_reads_keeps_nobody_from_stopping() {
    for place in [Place::Pid1, Place::Subreaper] {
        let plan = Plan::new(place).gateway(FLOOD);
        let (reader, kept) = Reader::of(&plan, STOPPED);
        kept.wait_for_printed();
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 0", "{place:?} {}", ended.text);
        reader.pace(FAST);
        reader.finish();
    }
}

#[test]
fn a_reader_that_is_gone_stops_nobody() {
    for place in [Place::Pid1, Place::Subreaper] {
        let plan = Plan::new(place).gateway(["--lines", "10000"]);
        let (reading, writing) = std::io::pipe().expect("a pipe");
        drop(reading);
        let kept = plan.start_printing_to(writing);
        kept.wait_for_printed();
        kept.wait_until_ready();
        assert_eq!(kept.stop().status, "exit 0", "{place:?}");
    }
}

#[test]
fn sigterm_in_the_middle_of_a_flood_with_a_stopped_reader_stops() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--stop-timeout", "1s"])
        .gateway(["--lines", "100000000"]);
    let (reader, kept) = Reader::of(&plan, STOPPED);
    kept.wait_for_note("ready", 1);
    kept.signal(libc::SIGTERM);
    // The fake does not listen to signals while it prints.
    assert_eq!(kept.end().status, "exit 124");
    reader.pace(FAST);
    reader.finish();
}

const STOPPED: u8 = 0;
const SLOW: u8 = 1;
const FAST: u8 = 2;

/// Reads clawkeeper's standard output at a pace of its own.
struct Reader {
    pace: Arc<AtomicU8>,
    text: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

/// What came through.
#[derive(Debug, Default)]
struct Seen {
    numbers: Vec<u64>,
    /// How many lines each notice says were dropped.
    notices: Vec<u64>,
    /// How many of the lines around the flood came through.
    others: u64,
}

/// What the fake prints beside the flood: three lines before it, `ready`, and one at SIGTERM.
const OTHERS: u64 = 5;

impl Reader {
    fn of(plan: &Plan, pace: u8) -> (Self, support::keeper::Kept) {
        let (reading, writing) = std::io::pipe().expect("a pipe");
        let pace = Arc::new(AtomicU8::new(pace));
        let text = Arc::default();
        let thread = std::thread::spawn({
            let (pace, text) = (Arc::clone(&pace), Arc::clone(&text));
            move || read(reading, &pace, &text)
        });
        (Self { pace, text, thread }, plan.start_printing_to(writing))
    }

    fn pace(&self, pace: u8) {
        self.pace.store(pace, Ordering::Relaxed);
    }

    fn wait_for_notice(&self) {
        poll_until(PATIENCE, "a notice", || {
            let seen = Seen::of(&self.text.lock().expect("the text"));
            if seen.notices.is_empty() {
                Err(seen.numbers.len())
            } else {
                Ok(())
            }
        });
    }

    fn finish(self) -> Seen {
        self.thread.join().expect("the reader");
        Seen::of(&self.text.lock().expect("the text"))
    }
}

fn read(mut from: PipeReader, pace: &AtomicU8, text: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 64 * 1024];
    loop {
        match pace.load(Ordering::Relaxed) {
            STOPPED => {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            SLOW => std::thread::sleep(Duration::from_millis(50)),
            _ => {}
        }
        match from.read(&mut buffer).expect("a pipe") {
            0 => return,
            count => text
                .lock()
                .expect("the text")
                .extend_from_slice(&buffer[..count]),
        }
    }
}

impl Seen {
    /// Takes the text apart; a line that is not whole fails, but for the last.
    fn of(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut seen = Self::default();
        for line in whole.lines() {
            if let Some(notice) = line.strip_prefix("clawkeeper: ") {
                let count = notice
                    .split(' ')
                    .next()
                    .and_then(|count| count.parse().ok());
                seen.notices.push(count.unwrap_or_else(|| panic!("{line}")));
            } else if line.contains("[gateway]") {
                assert!(line.starts_with("2026-"), "{line}");
                seen.others += 1;
            } else {
                let number = line
                    .strip_prefix("line ")
                    .filter(|number| number.len() == 94);
                let number = number.and_then(|number| number.parse().ok());
                seen.numbers
                    .push(number.unwrap_or_else(|| panic!("not whole: {line:?}")));
            }
        }
        assert!(
            seen.numbers.is_sorted_by(|one, next| one < next),
            "in order"
        );
        seen
    }

    fn dropped(&self) -> u64 {
        self.notices.iter().sum()
    }

    /// Lines that were dropped and are none of the flood.
    fn other_dropped(&self) -> u64 {
        OTHERS - self.others
    }
}
