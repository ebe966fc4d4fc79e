//! The journal: the last events as NDJSON, so that an incident can be replayed.
//!
//! Two files of at most [`SEGMENT_EVENTS`] events each, every one beginning with a snapshot of the core:
//! `journal.ndjson` is being written, `journal.1.ndjson` is the one before.
//! A thread of its own writes them: a slow disk must not slow the supervisor. A line is appended in one write,
//! so that a kill at any instruction leaves whole lines and at most one cut one, which a replay passes over.
//! It writes the history's minutes as well.

use super::folder::Folder;
use super::history;
use super::state;
use crate::core::event::Event;
use crate::core::history::Minute;
use crate::core::machine::Core;
use crate::core::memory::Sample;
use crate::core::readiness::is_alive;
use crate::core::time::{Mono, WallMs};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The file being written.
pub const CURRENT: &str = "journal.ndjson";
/// The file before it.
pub const PREVIOUS: &str = "journal.1.ndjson";
/// Events in one file; two files make the last 1,000.
pub const SEGMENT_EVENTS: usize = 500;
/// A file larger than this is not a journal of ours.
pub const MAX_BYTES: usize = 16 << 20;
/// An event with thousands of locks or processes is dropped from the journal rather than fill the volume.
const LINE_MAX_BYTES: usize = 64 * 1024;
/// Lines waiting for the disk; more are dropped, and the gap is visible as a new snapshot.
const QUEUE: usize = 64;
const STACK_BYTES: usize = 128 * 1024;

/// One line of a journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line: the machine as it stood.
    Snapshot {
        /// clawkeeper's version.
        version: String,
        /// When, for people.
        wall: WallMs,
        /// When, for the machine.
        at: Mono,
        /// The machine.
        core: Box<Core>,
    },
    /// Something that happened.
    Event {
        /// When.
        at: Mono,
        /// What.
        event: Event,
    },
}

/// What the thread is to write.
enum Writing {
    Line(Vec<u8>),
    Minute(Minute),
}

/// Where events go.
#[derive(Debug)]
pub struct Journal {
    lines: Option<SyncSender<Writing>>,
    /// Lines from before the state folder was known to be ours; written once it is.
    held: Option<Vec<Vec<u8>>>,
    written: usize,
    /// A probe's tick, held back until it is known whether the probe said anything new.
    quiet_tick: Option<(Mono, Event)>,
    /// The last memory sample in the file.
    sampled: Option<Sample>,
    done: Option<Receiver<()>>,
}

impl Journal {
    /// Starts the writing thread. Nothing is written before [`Journal::begin`].
    #[must_use]
    pub fn open(state_dir: &Path, core: &Core, at: Mono, wall: WallMs) -> Self {
        let (lines, queue) = sync_channel(QUEUE);
        let (finished, done) = sync_channel(1);
        let state_dir = state_dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                write(&state_dir, &queue);
                let _ = finished.send(());
            });
        let mut journal = Self {
            lines: thread.is_ok().then_some(lines),
            held: Some(Vec::new()),
            written: 0,
            quiet_tick: None,
            sampled: None,
            done: Some(done),
        };
        journal.snapshot(core, at, wall);
        journal
    }

    /// The state folder is ours and can be written: what was held goes out.
    pub fn begin(&mut self) {
        for line in self.held.take().unwrap_or_default() {
            self.send(line);
        }
    }

    /// Notes an event that the core has taken in; `after` is the machine as it stands now.
    ///
    /// It comes after the deed, because a stop must not wait for it.
    /// A liveness probe that was answered changes nothing that a replay would show, and neither does the tick
    /// that led to it: both are left out, so that a gateway at rest costs no write.
    /// So is a sample of memory that is hardly another than the last one noted.
    pub fn record(&mut self, was_quiet: bool, after: &Core, at: Mono, wall: WallMs, event: Event) {
        if self.lines.is_none() {
            return;
        }
        if was_quiet && (is_answer(&event) || self.is_known(&event)) {
            self.quiet_tick = None;
            return;
        }
        if let Event::MemorySampled { sample, .. } = &event {
            self.sampled = Some(*sample);
        }
        if let Some((at, tick)) = self.quiet_tick.take() {
            self.append(at, tick);
        }
        if was_quiet && event == Event::DeadlinePassed {
            self.quiet_tick = Some((at, event));
            return;
        }
        if self.written >= SEGMENT_EVENTS {
            // What this event led to is in the snapshot.
            self.snapshot(after, at, wall);
        } else {
            self.append(at, event);
        }
    }

    /// True for a sample that a chart would draw on the same spot.
    fn is_known(&self, event: &Event) -> bool {
        let (Some(last), Event::MemorySampled { sample, .. }) = (&self.sampled, event) else {
            return false;
        };
        let margin = sample.limit.percent(1).0;
        sample.limit == last.limit
            && sample.tree.0.abs_diff(last.tree.0) < margin
            && sample.available.0.abs_diff(last.available.0) < margin
    }

    /// Writes a minute of the history, unless the state folder is not known to be ours.
    pub fn minute(&self, minute: Minute) {
        if let (Some(queue), None) = (&self.lines, &self.held) {
            // A disk that hangs costs minutes of a chart.
            let _ = queue.try_send(Writing::Minute(minute));
        }
    }

    /// Takes no more events; the thread writes what is waiting and ends.
    pub fn end(&mut self) {
        self.lines = None;
    }

    /// Waits until all of it is written, for at most this long.
    pub fn close(mut self, limit: Duration) {
        self.end();
        if let Some(done) = self.done.take() {
            // Late: the disk hangs, and a journal is not worth waiting for it.
            let _ = done.recv_timeout(limit);
        }
    }

    fn append(&mut self, at: Mono, event: Event) {
        self.written += 1;
        self.push(&Line::Event { at, event });
    }

    fn snapshot(&mut self, core: &Core, at: Mono, wall: WallMs) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.written = 0;
        self.push(&Line::Snapshot {
            version,
            wall,
            at,
            core: Box::new(core.clone()),
        });
    }

    fn push(&mut self, line: &Line) {
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return;
        };
        bytes.push(b'\n');
        if bytes.len() > LINE_MAX_BYTES {
            self.start_anew();
            return;
        }
        match &mut self.held {
            Some(held) if held.len() < QUEUE => held.push(bytes),
            Some(_) => self.start_anew(),
            None => self.send(bytes),
        }
    }

    fn send(&mut self, line: Vec<u8>) {
        if self
            .lines
            .as_ref()
            .is_some_and(|lines| lines.try_send(Writing::Line(line)).is_err())
        {
            self.start_anew();
        }
    }

    /// After a gap the next event is followed by a snapshot, so that each file replays by itself.
    const fn start_anew(&mut self) {
        self.written = SEGMENT_EVENTS;
    }
}

fn is_answer(event: &Event) -> bool {
    matches!(event, Event::ProbeFinished { outcome, .. } if is_alive(outcome))
}

/// Runs until the journal is closed.
fn write(state_dir: &Path, queue: &Receiver<Writing>) {
    let mut open: Option<File> = None;
    // A volume that cannot be written is reported by the volume's own probe.
    for writing in queue {
        match writing {
            Writing::Line(line) => {
                if line.starts_with(b"{\"snapshot\"") {
                    open = begin_segment(state_dir);
                }
                if let Some(file) = &mut open {
                    let _ = file.write_all(&line);
                }
            }
            Writing::Minute(minute) => {
                let _ = private(state_dir).map(|folder| history::write(&folder, minute));
            }
        }
    }
}

fn private(state_dir: &Path) -> Option<Folder> {
    state::open_private(&Folder::open(state_dir).ok()?).ok()
}

fn begin_segment(state_dir: &Path) -> Option<File> {
    let private = private(state_dir)?;
    let (current, previous) = (OsStr::new(CURRENT), OsStr::new(PREVIOUS));
    // There may be none yet.
    let _ = private.move_to(current, &private, previous);
    private.create_new(current, 0o600).ok()
}

/// A journal file's lines, with the number of those that are cut or not ours.
#[must_use]
pub fn parse(bytes: &[u8]) -> (Vec<Line>, usize) {
    let mut bad = 0;
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice(line).inspect_err(|_| bad += 1).ok())
        .collect();
    (lines, bad)
}
