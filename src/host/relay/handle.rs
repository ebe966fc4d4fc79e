//! What the supervisor holds of the relay. No call here waits for the reader of our output.
#![allow(clippy::disallowed_methods)] // Waiting for the thread needs the clock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::fstat;
use nix::unistd::pipe2;
use thiserror::Error;

use super::worker::{self, Worker};
use crate::core::output::{LineEnd, Tail};

/// Asked of every pipe; the kernel grants less to an unprivileged user who has many.
pub(super) const PIPE_BYTES: usize = 1024 * 1024;
/// The relay thread keeps its buffers on the heap; what it calls needs little.
const STACK_BYTES: usize = 128 * 1024;
/// Lines of our own that wait for the relay thread; more are refused.
const SAID_MAX_BYTES: usize = 64 * 1024;

/// The name of the thread that passes output on.
const THREAD: &str = "output";

/// True on the thread that passes output on. It cannot wait for itself.
pub(in crate::host) fn is_own_thread() -> bool {
    std::thread::current().name() == Some(THREAD)
}

/// Passes the gateway's output on, from a thread of its own.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    one_pipe: bool,
}

/// Where output goes.
#[derive(Debug)]
pub struct Sinks {
    /// What takes the gateway's stdout.
    pub stdout: OwnedFd,
    /// What takes the gateway's stderr, and clawkeeper's own lines.
    pub stderr: OwnedFd,
}

/// The descriptors for one start of the gateway, closed on exec until they are placed at 1 and 2.
#[derive(Debug)]
pub struct Attachment {
    /// To become the child's descriptor 1.
    pub stdout: OwnedFd,
    /// To become the child's descriptor 2.
    pub stderr: OwnedFd,
}

/// Which of the gateway's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1, or both when they share one pipe.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// A line that the gateway wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEvent<'a> {
    /// The start of the gateway it belongs to.
    pub attempt: u64,
    /// The stream it came from.
    pub stream: Stream,
    /// Its bytes without the newline, at most
    /// [`LINE_MAX_BYTES`](crate::core::output::LINE_MAX_BYTES).
    pub line: &'a [u8],
    /// How it ended.
    pub end: LineEnd,
}

/// Takes every line that is seen, on the relay thread.
pub type OnLine = Box<dyn FnMut(LineEvent<'_>) + Send>;

/// What [`Relay::drained`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// The marker callback has seen everything; independent of the reader of our output.
    Seen,
    /// The reader of our output has got everything, or it was given up.
    Passed,
}

/// What became of the output of a gateway that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All of it was seen by the callback and passed on.
    Passed,
    /// The callback saw all of it; the reader of our output has not taken it yet.
    Seen,
    /// The relay did not get to it in time.
    Late,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputStats {
    /// Bytes taken from the gateway.
    pub read_bytes: u64,
    /// Lines of the gateway that were given up.
    pub dropped_lines: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// How often the reader was told so, which is as often as it came back.
    pub notices: u64,
    /// Bytes passed on under flood without the callback and the tail having seen them.
    pub unseen_bytes: u64,
    /// Lines of our own that found no room.
    pub refused_lines: u64,
}

/// Why the relay could not be set up; each text completes "failed to".
#[derive(Debug, Error)]
pub enum RelayError {
    /// A pipe for the gateway's output.
    #[error("create an output pipe")]
    Pipe(#[source] Errno),
    /// The descriptor that wakes the relay thread.
    #[error("create the wake-up descriptor of the output thread")]
    Wake(#[source] Errno),
    /// One of our own output descriptors.
    #[error("use the descriptor of {stream:?}")]
    Sink {
        /// Which one.
        stream: Stream,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// The thread.
    #[error("start the output thread")]
    Thread(#[source] std::io::Error),
}

/// What both sides see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) wake: EventFd,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) mid_line: AtomicBool,
}

/// Orders for the thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) orders: Vec<Order>,
    pub(super) said: Vec<u8>,
}

/// One order for the thread.
#[derive(Debug)]
pub(super) enum Order {
    Attach {
        attempt: u64,
        stream: Stream,
        read: OwnedFd,
    },
    Drain {
        ticket: u64,
        attempt: u64,
    },
    Stop {
        deadline: Instant,
    },
}

/// What the thread tells.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tail: Tail,
    pub(super) stats: OutputStats,
    pub(super) tickets: Vec<(u64, Drained)>,
    pub(super) next_ticket: u64,
    pub(super) stopped: bool,
}

impl Relay {
    /// Starts the thread. `on_line` runs on it and must not wait for anything.
    pub fn start(sinks: Sinks, on_line: OnLine) -> Result<Self, RelayError> {
        let one_pipe = sinks.are_one_object()?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(RelayError::Wake)?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            wake,
            state: Mutex::default(),
            changed: Condvar::new(),
            mid_line: AtomicBool::new(false),
        });
        let worker = Worker::new(Arc::clone(&shared), sinks, one_pipe, on_line);
        std::thread::Builder::new()
            .name(THREAD.into())
            .stack_size(STACK_BYTES)
            .spawn(move || worker::run(worker))
            .map_err(RelayError::Thread)?;
        Ok(Self { shared, one_pipe })
    }

    /// New pipes for one start of the gateway.
    pub fn attach(&self, attempt: u64) -> Result<Attachment, RelayError> {
        let stdout = self.open_pipe(attempt, Stream::Stdout)?;
        let stderr = if self.one_pipe {
            stdout
                .try_clone()
                .map_err(|e| RelayError::Pipe(errno_of(&e)))?
        } else {
            self.open_pipe(attempt, Stream::Stderr)?
        };
        Ok(Attachment { stdout, stderr })
    }

    /// Waits until everything that the ended gateway wrote was seen, or passed on.
    ///
    /// "Everything" is what the pipes hold now: a descendant that still holds their other end can
    /// neither delay this nor make it hang. A line begun is handed to the callback unfinished.
    #[must_use]
    pub fn drained(&self, attempt: u64, until: Drain, timeout: Duration) -> Drained {
        let deadline = Instant::now() + timeout;
        let ticket = {
            let mut state = self.shared.state();
            state.next_ticket += 1;
            let ticket = state.next_ticket;
            state.tickets.push((ticket, Drained::Late));
            ticket
        };
        self.shared.order(Order::Drain { ticket, attempt });
        let mut state = self.shared.state();
        loop {
            let reached = state.ticket(ticket);
            let enough = match until {
                Drain::Seen => reached != Drained::Late,
                Drain::Passed => reached == Drained::Passed,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if enough || left.is_zero() || state.stopped {
                state.tickets.retain(|&(id, _)| id != ticket);
                return reached;
            }
            state = self.shared.wait_changed(state, left);
        }
    }

    /// Writes one line of our own, given with its newline, where the gateway's stderr goes: between
    /// two lines, never inside one. It is refused when the reader has not read for long.
    pub fn say(&self, line: &[u8]) -> bool {
        let mut inbox = self.shared.inbox();
        let fits = inbox.said.len() + line.len() <= SAID_MAX_BYTES;
        if fits {
            inbox.said.extend_from_slice(line);
            drop(inbox);
            self.shared.wake_up();
        } else {
            drop(inbox);
            self.shared.state().stats.refused_lines += 1;
        }
        fits
    }

    /// The last lines of the gateway, oldest first, each with its newline.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        self.shared.state().tail.last_lines()
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> OutputStats {
        self.shared.state().stats
    }

    /// True when the gateway's last byte on the sink of stderr was, or may have been, inside a line.
    #[must_use]
    pub fn mid_line(&self) -> bool {
        self.shared.mid_line.load(Ordering::Relaxed)
    }

    /// Passes on what the pipes hold, then ends the thread; true when all of it went out in time.
    /// A thread that hangs in a write to a dead disk is left behind.
    #[must_use]
    pub fn shutdown(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        self.shared.order(Order::Stop { deadline });
        // The thread gives up at the deadline by itself; the grace is for it to say so.
        let until = deadline + Duration::from_millis(20);
        let mut state = self.shared.state();
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait_changed(state, left);
        }
        Instant::now() < deadline
    }

    fn open_pipe(&self, attempt: u64, stream: Stream) -> Result<OwnedFd, RelayError> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(RelayError::Pipe)?;
        // Refused when the user's pipes hold too many pages: the default size works as well.
        let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
        // The two ends are two open file descriptions: the child's stays blocking.
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(RelayError::Pipe)?;
        self.shared.order(Order::Attach {
            attempt,
            stream,
            read,
        });
        Ok(write)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.order(Order::Stop {
            deadline: Instant::now(),
        });
    }
}

impl Sinks {
    /// Our own descriptors 1 and 2; /dev/null where one is closed.
    pub fn inherited() -> Result<Self, RelayError> {
        Ok(Self {
            stdout: duplicate(std::io::stdout().as_fd(), Stream::Stdout)?,
            stderr: duplicate(std::io::stderr().as_fd(), Stream::Stderr)?,
        })
    }

    fn are_one_object(&self) -> Result<bool, RelayError> {
        let stat = |fd: &OwnedFd, stream| {
            fstat(fd)
                .map(|stat| (stat.st_dev, stat.st_ino))
                .map_err(|errno| RelayError::Sink { stream, errno })
        };
        Ok(stat(&self.stdout, Stream::Stdout)? == stat(&self.stderr, Stream::Stderr)?)
    }
}

impl Shared {
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        self.inbox().orders.push(order);
        self.wake_up();
    }

    fn wake_up(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }

    fn wait_changed<'a>(
        &self,
        state: MutexGuard<'a, State>,
        left: Duration,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl State {
    fn ticket(&self, ticket: u64) -> Drained {
        let found = self.tickets.iter().find(|&&(id, _)| id == ticket);
        found.map_or(Drained::Late, |&(_, reached)| reached)
    }
}

fn duplicate(fd: BorrowedFd<'_>, stream: Stream) -> Result<OwnedFd, RelayError> {
    let copy = fd.try_clone_to_owned().or_else(|error| {
        if errno_of(&error) != Errno::EBADF {
            return Err(error);
        }
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        Ok(null.into())
    });
    copy.map_err(|error| RelayError::Sink {
        stream,
        errno: errno_of(&error),
    })
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
