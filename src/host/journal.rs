//! The journal: the last events as NDJSON, so that an incident can be replayed.
//!
//! Two files of at most [`SEGMENT_EVENTS`] events each, every one beginning with a snapshot of the core:
//! `journal.ndjson` is being written, `journal.1.ndjson` is the one before.
//! The records' thread writes them. A line is appended in one write, so that a kill at any instruction leaves whole lines and at most one cut one, which a replay passes over.

use super::folder::{FileError, Folder, errno_of};
use super::records::{Record, Records};
use crate::core::event::Event;
use crate::core::machine::Core;
use crate::core::memory::Sample;
use crate::core::readiness::is_alive;
use crate::core::time::{Mono, WallMs};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

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

/// Where events go.
#[derive(Debug)]
pub struct Journal {
    records: Arc<Records>,
    written: usize,
    /// A probe's tick, held back until it is known whether the probe said anything new.
    quiet_tick: Option<(Mono, Event)>,
    /// The last memory sample in the file.
    sampled: Option<Sample>,
}

impl Journal {
    /// A journal that begins with the machine as it stands.
    #[must_use]
    pub fn begin(records: Arc<Records>, core: &Core, at: Mono, wall: WallMs) -> Self {
        let mut journal = Self {
            records,
            written: 0,
            quiet_tick: None,
            sampled: None,
        };
        journal.snapshot(core, at, wall);
        journal
    }

    /// Notes an event that the core has taken in; `after` is the machine as it stands now.
    ///
    /// It comes after the deed, because a stop must not wait for it.
    /// A liveness probe that was answered changes nothing that a replay would show, and neither does the tick
    /// that led to it: both are left out, so that a gateway at rest costs no write.
    /// So is a sample of memory that is hardly another than the last one noted.
    pub fn record(&mut self, was_quiet: bool, after: &Core, at: Mono, wall: WallMs, event: Event) {
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
        if bytes.len() > LINE_MAX_BYTES || !self.records.send(Record::Journal(bytes)) {
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

/// The file of a journal that is being written.
#[derive(Debug, Default)]
pub(super) struct Segments {
    open: Option<File>,
}

impl Segments {
    /// Appends a line; a snapshot begins a new file. After one that failed nothing is written before the next snapshot:
    /// what follows a gap replays as something else.
    pub(super) fn write(
        &mut self,
        private: impl FnOnce() -> Result<Folder, FileError>,
        line: &[u8],
    ) -> Result<(), FileError> {
        let failed = |error: std::io::Error| FileError {
            operation: "write",
            path: CURRENT.into(),
            errno: errno_of(&error),
        };
        if line.starts_with(b"{\"snapshot\"") {
            self.open = None;
            let folder = private()?;
            let mut file = begin_segment(&folder)?;
            if let Err(error) = file.write_all(line) {
                // The next try must not push out the file before.
                let _ = folder.remove(OsStr::new(CURRENT));
                return Err(failed(error));
            }
            self.open = Some(file);
        } else if let Some(mut file) = self.open.take() {
            file.write_all(line).map_err(failed)?;
            self.open = Some(file);
        }
        Ok(())
    }
}

fn begin_segment(private: &Folder) -> Result<File, FileError> {
    let (current, previous) = (OsStr::new(CURRENT), OsStr::new(PREVIOUS));
    // There may be none yet.
    let _ = private.move_to(current, private, previous);
    private.create_new(current, 0o600)
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
