//! What the child tells the harness: fixed-size records through a named pipe.
//!
//! A named pipe, because supervisord closes inherited descriptors.
//! A record is far below `PIPE_BUF`, so that writes from several children never mix.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The size of a record on the pipe.
pub(crate) const RECORD_BYTES: usize = 24;

/// What happened in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    /// Its first instruction ran.
    Started = 1,
    /// It is about to die.
    Dying,
    /// Its SIGTERM handler ran.
    Terminated,
    /// It stands ready for the harness's word; the value is how much it prepared.
    Prepared,
    /// Its work is done; the value is what is left over.
    Finished,
}

/// One thing that happened in the child, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// `CLOCK_MONOTONIC`, which all processes of a machine share.
    pub(crate) at_ns: u64,
    pub(crate) value: u64,
}

impl Record {
    /// The bytes on the pipe.
    pub(crate) fn encode(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&(self.kind as u64).to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.at_ns.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let kind = [
            Kind::Started,
            Kind::Dying,
            Kind::Terminated,
            Kind::Prepared,
            Kind::Finished,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == word(0))?;
        Some(Self {
            kind,
            at_ns: word(8),
            value: word(16),
        })
    }

    /// Sends the record; a harness that is gone is no reason to fail.
    pub(crate) fn send(self, mut pipe: &File) {
        let _ = pipe.write_all(&self.encode());
    }
}

/// Reads the next record that has arrived already.
pub(crate) fn next(mut pipe: &File) -> Option<Record> {
    let mut bytes = [0; RECORD_BYTES];
    pipe.read_exact(&mut bytes).ok()?;
    Record::decode(&bytes)
}

/// Nanoseconds of `CLOCK_MONOTONIC`; usable in a signal handler.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of any clock; 0 if there is no such clock.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a live timespec that the kernel may write; the call is async-signal-safe.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Milliseconds between two points of `CLOCK_MONOTONIC`.
pub(crate) fn ms_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}

/// Waits until one of the descriptors can be read or hangs up, and says which.
pub(crate) fn readable<const N: usize>(fds: [&dyn AsFd; N], deadline: Instant) -> [bool; N] {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = fds.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        // Rounded up: a timeout of 0 ms would spin through the last millisecond.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999));
        let found = poll(&mut polled, timeout.unwrap_or(PollTimeout::MAX));
        let ready = polled.map(|fd| fd.any().unwrap_or(false));
        // A signal that ends the wait early is no answer; only the deadline is.
        if found.is_ok_and(|count| count > 0) || left.is_zero() {
            return ready;
        }
    }
}
