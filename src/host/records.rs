//! The thread that writes what is worth keeping: the journal, the timeline, and the history's minutes.
//!
//! A slow disk must not slow the supervisor: whoever hands something over never waits, and learns when it was refused.
//! Nothing is written before the state folder is known to be ours.

use super::folder::Folder;
use super::history;
use super::journal::Segments;
use super::ring::Ring;
use super::state;
use crate::core::history::Minute;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Records waiting for the disk; more are refused.
const QUEUE: usize = 64;
const STACK_BYTES: usize = 128 * 1024;

/// Something to be written.
#[derive(Debug)]
pub enum Record {
    /// A line of the journal; a snapshot begins a new file of it.
    Journal(Vec<u8>),
    /// A minute of the history. It is not held back for a folder that is not ours yet.
    Minute(Minute),
    /// Whole lines for a ring of files, with their newlines.
    Lines(&'static Ring, Vec<u8>),
}

/// The way to that thread.
#[derive(Debug)]
pub struct Records {
    inlet: Mutex<Inlet>,
    done: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Inlet {
    /// `None` once nothing more is taken.
    queue: Option<SyncSender<Record>>,
    /// Records from before the state folder was known to be ours.
    held: Option<Vec<Record>>,
}

impl Records {
    /// Starts the thread. Nothing is written before [`Records::begin`].
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let (queue, records) = sync_channel(QUEUE);
        let (finished, done) = sync_channel(1);
        let state_dir = state_dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("records".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                write(&state_dir, &records);
                let _ = finished.send(());
            });
        Self {
            inlet: Mutex::new(Inlet {
                queue: thread.is_ok().then_some(queue),
                held: Some(Vec::new()),
            }),
            done: Mutex::new(done),
        }
    }

    /// The state folder is ours and can be written: what was held goes out.
    pub fn begin(&self) {
        let mut inlet = self.inlet();
        for record in inlet.held.take().unwrap_or_default() {
            inlet.send(record);
        }
    }

    /// Hands something over; false when it will not be written.
    pub fn send(&self, record: Record) -> bool {
        let mut inlet = self.inlet();
        match &mut inlet.held {
            Some(held) if held.len() < QUEUE && !matches!(record, Record::Minute(_)) => {
                held.push(record);
                true
            }
            Some(_) => false,
            None => inlet.send(record),
        }
    }

    /// Takes no more, and waits until all of it is written, for at most this long.
    pub fn close(&self, limit: Duration) {
        self.inlet().queue = None;
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Late: the disk hangs, and a record is not worth waiting for it.
        let _ = done.recv_timeout(limit);
    }

    fn inlet(&self) -> MutexGuard<'_, Inlet> {
        self.inlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet {
    fn send(&self, record: Record) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.try_send(record).is_ok())
    }
}

/// Runs until nothing more is taken and all of it is written.
fn write(state_dir: &Path, records: &Receiver<Record>) {
    let mut journal = Segments::default();
    let folder = || state::open_private(&Folder::open(state_dir)?);
    for record in records {
        // A volume that cannot be written is reported by the volume's own probe.
        let _ = match record {
            Record::Journal(line) => journal.write(folder, &line),
            Record::Minute(minute) => folder().and_then(|folder| history::write(&folder, minute)),
            Record::Lines(ring, lines) => folder().and_then(|folder| ring.append(&folder, &lines)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: Ring = Ring {
        current: "ring",
        previous: "ring.1",
        max_bytes: 1000,
    };
    const LIMIT: Duration = Duration::from_secs(20);

    fn line(number: usize) -> Record {
        Record::Lines(&RING, format!("{number}\n").into_bytes())
    }

    fn written(state_dir: &Path) -> usize {
        let private = state::existing_private(&Folder::open(state_dir).expect("it opens"));
        private.map_or(0, |private| {
            let last = RING.last(&private, usize::MAX, |_| true);
            last.expect("it can be read").len()
        })
    }

    #[test]
    fn nothing_is_written_before_the_folder_is_ours_and_then_all_of_it_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let theirs = Records::open(dir.path());
        assert!(theirs.send(line(1)));
        theirs.close(LIMIT);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);

        let ours = Records::open(dir.path());
        assert!(ours.send(line(1)));
        ours.begin();
        assert!(ours.send(line(2)));
        ours.close(LIMIT);
        assert_eq!(written(dir.path()), 2);
        assert!(!ours.send(line(3)), "it is closed");
    }

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let ours = Records::open(dir.path());
        let taken = (0..QUEUE * 2).filter(|number| ours.send(line(*number)));
        assert_eq!(taken.count(), QUEUE);
        ours.begin();
        ours.close(LIMIT);
        assert_eq!(written(dir.path()), QUEUE);
    }
}
