//! The thread that writes what is worth keeping: the journal, the timeline, the history's minutes, the gateway's output.
//!
//! A slow disk must not slow the supervisor: whoever hands something over never waits, and learns when it was refused.
//! Nothing is written before the state folder is known to be ours.
#![allow(clippy::disallowed_methods, reason = "output is gathered for a time")]

use super::folder::{FileError, Folder};
use super::history;
use super::journal::Segments;
use super::launch::Launch;
use super::output::{Output, OutputError};
use super::ring::Ring;
use super::state;
use crate::core::history::Minute;
use crate::core::pending::Pending;
use crate::core::time::WallMs;
use std::iter::once;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records waiting for the disk; more are refused.
const QUEUE: usize = 64;
/// Masks are made of the config on this thread, and its parser takes some.
const STACK_BYTES: usize = 512 * 1024;
/// How long a line of output waits for others at most.
const GATHER: Duration = Duration::from_secs(1);
/// So much of it does not wait that long.
const MANY_BYTES: usize = 16 * 1024;
/// From one write of output to the next, whatever comes: what does not fit meanwhile is counted.
const BREATH: Duration = Duration::from_millis(100);

/// Something to be written.
#[derive(Debug)]
pub enum Record {
    /// A line of the journal; a snapshot begins a new file of it.
    Journal(Vec<u8>),
    /// A minute of the history. It is not held back for a folder that is not ours yet.
    Minute(Minute),
    /// Whole lines for a ring of files, with their newlines.
    Lines(&'static Ring, Vec<u8>),
    /// From here on output is kept.
    KeepOutput(Box<Output>),
    /// Output waits, or much of it.
    OutputWaits,
}

/// The way to that thread.
#[derive(Debug)]
pub struct Records {
    inlet: Mutex<Inlet>,
    output: Arc<Mutex<Waiting>>,
    /// True when a line of the journal could not be written and whoever writes it does not know yet.
    journal_has_gap: Arc<AtomicBool>,
    done: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Inlet {
    /// `None` once nothing more is taken.
    queue: Option<SyncSender<Record>>,
    /// Records from before the state folder was known to be ours.
    held: Option<Vec<Record>>,
}

/// Output that waits for the thread.
#[derive(Debug, Default)]
struct Waiting {
    pending: Pending,
    is_kept: bool,
    /// The thread was told that there is some.
    told: bool,
    /// The thread was told that there is much.
    told_many: bool,
}

impl Records {
    /// Starts the thread. Nothing is written before [`Records::begin`].
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let (queue, records) = sync_channel(QUEUE);
        let (finished, done) = sync_channel(1);
        let output = Arc::<Mutex<Waiting>>::default();
        let journal_has_gap = Arc::<AtomicBool>::default();
        let mut writer = Writer {
            state_dir: state_dir.to_owned(),
            journal: Segments::default(),
            output: None,
            waiting: Arc::clone(&output),
            journal_has_gap: Arc::clone(&journal_has_gap),
        };
        let thread = std::thread::Builder::new()
            .name("records".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                writer.run(&records);
                let _ = finished.send(());
            });
        Self {
            inlet: Mutex::new(Inlet {
                queue: thread.is_ok().then_some(queue),
                held: Some(Vec::new()),
            }),
            output,
            journal_has_gap,
            done: Mutex::new(done),
        }
    }

    /// Keeps the gateway's output from now on, in files that together hold this much.
    pub fn keep_output(&self, launch: Arc<Launch>, max_bytes: u64) {
        let output = Box::new(Output::new(launch, max_bytes));
        lock(&self.output).is_kept = self.send(Record::KeepOutput(output));
    }

    /// Takes a line of output. It waits for nothing: this is called where the gateway's output passes.
    pub fn output(&self, at: WallMs, line: &[u8]) {
        let mut waiting = lock(&self.output);
        if !waiting.is_kept {
            return;
        }
        waiting.pending.push(at, line);
        let is_many = waiting.pending.len_bytes() >= MANY_BYTES;
        if !waiting.told || (is_many && !waiting.told_many) {
            // Refused while the disk hangs: then the next line tries again.
            let told = self.send(Record::OutputWaits);
            waiting.told |= told;
            waiting.told_many |= told && is_many;
        }
    }

    /// The state folder is ours and can be written: what was held goes out.
    pub fn begin(&self) {
        let mut inlet = self.inlet();
        for record in inlet.held.take().unwrap_or_default() {
            inlet.send(record);
        }
    }

    /// Hands something over; false when it will not be written, or when a line of the journal before it was not.
    pub fn send(&self, record: Record) -> bool {
        let is_journal = matches!(record, Record::Journal(_));
        if is_journal && self.journal_has_gap.swap(false, Ordering::AcqRel) {
            return false;
        }
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
        let done = lock(&self.done);
        // Late: the disk hangs, and a record is not worth waiting for it.
        let _ = done.recv_timeout(limit);
    }

    fn inlet(&self) -> MutexGuard<'_, Inlet> {
        lock(&self.inlet)
    }
}

impl Inlet {
    fn send(&self, record: Record) -> bool {
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.try_send(record).is_ok())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Writer {
    state_dir: PathBuf,
    journal: Segments,
    output: Option<Box<Output>>,
    waiting: Arc<Mutex<Waiting>>,
    journal_has_gap: Arc<AtomicBool>,
}

impl Writer {
    /// Runs until nothing more is taken and all of it is written.
    fn run(&mut self, records: &Receiver<Record>) {
        let mut due: Option<Instant> = None;
        let mut rested = Instant::now();
        loop {
            let next = match due {
                Some(at) => records.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => records.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(first) => {
                    // What comes together is written together: a stop waits for it.
                    let burst: Vec<_> = once(first).chain(records.try_iter().take(QUEUE)).collect();
                    if burst.iter().any(|it| matches!(it, Record::OutputWaits)) {
                        let is_many = lock(&self.waiting).pending.len_bytes() >= MANY_BYTES;
                        let latest = if is_many {
                            rested
                        } else {
                            Instant::now() + GATHER
                        };
                        due = Some(due.map_or(latest, |due| due.min(latest)));
                    }
                    joined(burst).into_iter().for_each(|it| self.write(it));
                }
                Err(RecvTimeoutError::Timeout) => {
                    due = None;
                    self.write_output();
                    rested = Instant::now() + BREATH;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.write_output();
    }

    fn write(&mut self, record: Record) {
        // A volume that cannot be written is reported by the volume's own probe.
        let _ = match record {
            Record::Journal(line) => {
                let folder = || folder(&self.state_dir);
                let written = self.journal.write(folder, &line);
                if written.is_err() {
                    self.journal_has_gap.store(true, Ordering::Release);
                }
                written
            }
            Record::Minute(minute) => {
                folder(&self.state_dir).and_then(|folder| history::write(&folder, minute))
            }
            Record::Lines(ring, lines) => {
                folder(&self.state_dir).and_then(|folder| ring.append(&folder, &lines))
            }
            Record::KeepOutput(output) => {
                self.output = Some(output);
                Ok(())
            }
            Record::OutputWaits => Ok(()),
        };
    }

    fn write_output(&mut self) {
        let batch = {
            let mut waiting = lock(&self.waiting);
            (waiting.told, waiting.told_many) = (false, false);
            waiting.pending.take()
        };
        let Some(output) = &mut self.output else {
            return;
        };
        if batch.is_nothing() {
            return;
        }
        let written = folder(&self.state_dir)
            .map_err(OutputError::from)
            .and_then(|folder| output.write(&folder, &batch));
        if written.is_err() {
            lock(&self.waiting).pending.lose(&batch);
        }
    }
}

/// All lines for one ring become one record; within a file nothing changes its order.
fn joined(burst: Vec<Record>) -> Vec<Record> {
    let mut joined: Vec<Record> = Vec::with_capacity(burst.len());
    for record in burst {
        let lines_before = joined.iter_mut().find_map(|it| match (it, &record) {
            (Record::Lines(before, lines), Record::Lines(ring, _)) if before == ring => Some(lines),
            _ => None,
        });
        match (lines_before, record) {
            (Some(before), Record::Lines(_, mut lines)) => before.append(&mut lines),
            (_, record) => joined.push(record),
        }
    }
    joined
}

fn folder(state_dir: &Path) -> Result<Folder, FileError> {
    state::open_private(&Folder::open(state_dir)?)
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
    fn lines_for_one_ring_are_written_at_once_and_in_order() {
        let burst = vec![
            line(1),
            Record::Journal(b"a".to_vec()),
            line(2),
            Record::Journal(b"b".to_vec()),
            line(3),
        ];
        let told: Vec<_> = joined(burst)
            .into_iter()
            .map(|record| match record {
                Record::Journal(line) | Record::Lines(_, line) => line,
                Record::Minute(_) | Record::KeepOutput(_) | Record::OutputWaits => vec![],
            })
            .collect();
        assert_eq!(told, [&b"1\n2\n3\n"[..], b"a", b"b"]);
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
