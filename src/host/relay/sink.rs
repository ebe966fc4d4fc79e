//! One descriptor that takes output: how each kind of it is written to without waiting, where it
//! stands between lines, and what happens when it takes nothing.
//!
//! | kind | how | what may still wait |
//! |---|---|---|
//! | pipe | splice with `SPLICE_F_NONBLOCK`; small pieces by write on a description of our own | nothing |
//! | file, /dev/null | splice; write where splice says EINVAL (`O_APPEND`, /dev/full) | a dead disk |
//! | terminal | write on a description of our own | nothing |
//! | socket | send with `MSG_DONTWAIT` | nothing |
//!
//! Where `/proc/self/fd/N` cannot be opened, which gives the description of our own, writes to
//! pipes and terminals are small and follow a `poll(2)`; they wait only if another process fills
//! the last page in between.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, open, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{isatty, write};

use super::handle::PIPE_BYTES;
use crate::core::output::{Discard, Dropped, HELD_MAX_BYTES, StallBudget};

/// A sink that failed is tried again with the first output after this time: disks get space back.
const RETRY_AFTER_MS: u64 = 1000;
/// What a pipe takes without waiting once it polls as writable.
const GUARDED_PIPE_BYTES: usize = 4096;
/// What a terminal takes without waiting once it polls as writable.
const GUARDED_TTY_BYTES: usize = 256;
/// While the reader does not read, the filling of the gateway's pipe is looked at this often at
/// first, and
const WATCH_FIRST_MS: u64 = 50;
/// this seldom at last.
const WATCH_LAST_MS: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    File,
    Tty,
    Socket,
}

/// Whether the reader gets everything or whole lines are given up.
#[derive(Debug)]
enum Flow {
    Passing,
    Discarding(Discard),
}

/// How much the gateway needs a sink that takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// Its pipes are empty.
    None,
    /// Something waits, and there is room for more.
    Some,
    /// It waits for room in a pipe, or may wait.
    Full,
}

/// One descriptor that takes output.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) fd: OwnedFd,
    kind: Kind,
    /// True when `fd` is an open file description of our own, with `O_NONBLOCK`.
    own_description: bool,
    splices: bool,
    /// Taken from the gateway, or said by us, and owed to the reader before anything else.
    pending: Vec<u8>,
    /// Lines of our own that wait for the end of the gateway's line.
    pub(super) said: Vec<u8>,
    /// True when the last byte written is known to have ended a line.
    pub(super) at_line_start: bool,
    /// The source of the last splice, whose last byte nobody has looked at yet.
    pub(super) spliced_from: Option<u64>,
    flow: Flow,
    /// True from a write that took nothing until poll says otherwise.
    pub(super) blocked: bool,
    failed_at_ms: Option<u64>,
    /// What was given up and has been told about,
    dropped_before: Dropped,
    /// in as many lines of our own.
    pub(super) notices: u64,
    budget: StallBudget,
    /// What the reader took since the time was last booked.
    taken_bytes: u64,
    /// As it was when the time was last booked.
    pressure: Pressure,
    watch_ms: u64,
}

impl Sink {
    pub(super) fn new(inherited: OwnedFd, now_ms: u64) -> Self {
        let kind = kind_of(&inherited);
        let own = match kind {
            Kind::Pipe | Kind::Tty => reopen(&inherited),
            // A file's offset belongs to the description: a new one would start at 0.
            Kind::File | Kind::Socket => None,
        };
        if kind == Kind::Pipe {
            // A larger pipe means fewer wake-ups, and lines that survive a pause of the reader.
            if super::source::pipe_bytes(&inherited) < PIPE_BYTES {
                let _ = fcntl(&inherited, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
            }
        }
        Self {
            kind,
            own_description: own.is_some(),
            fd: own.unwrap_or(inherited),
            splices: matches!(kind, Kind::Pipe | Kind::File),
            pending: Vec::new(),
            said: Vec::new(),
            at_line_start: true,
            spliced_from: None,
            flow: Flow::Passing,
            blocked: false,
            failed_at_ms: None,
            dropped_before: Dropped::default(),
            notices: 0,
            budget: StallBudget::new(now_ms),
            watch_ms: WATCH_FIRST_MS,
            taken_bytes: 0,
            pressure: Pressure::None,
        }
    }

    /// True when bytes of the gateway have to stay in its pipe for now.
    pub(super) fn holds_back(&self) -> bool {
        self.is_passing() && (self.blocked || !self.pending.is_empty())
    }

    pub(super) fn is_passing(&self) -> bool {
        matches!(self.flow, Flow::Passing)
    }

    /// True when the next batch may be spliced.
    pub(super) fn can_splice(&self) -> bool {
        self.splices && self.is_passing() && self.pending.is_empty() && self.said.is_empty()
    }

    /// True when poll has to tell when there is room again.
    pub(super) fn wants_room(&self) -> bool {
        self.blocked && self.failed_at_ms.is_none()
    }

    /// True when nothing is owed to the reader.
    pub(super) fn is_settled(&self) -> bool {
        self.failed_at_ms.is_some()
            || (self.is_passing() && self.pending.is_empty() && self.said.is_empty())
    }

    /// Whether the reader stands, or may stand, inside a line.
    pub(super) fn mid_line(&self) -> bool {
        match self.pending.last() {
            Some(&last) => last != b'\n',
            None => !self.at_line_start,
        }
    }

    /// Books the time since the last call. It comes before anything that changes `blocked`.
    pub(super) fn book(&mut self, now_ms: u64, pressure: Pressure) {
        let stalled = self.blocked && self.is_passing();
        let full = stalled && pressure == Pressure::Full;
        // Nobody watches an empty pipe: that time was free, whatever the pipe holds now.
        let was_watched = self.pressure != Pressure::None;
        let taken_bytes = std::mem::take(&mut self.taken_bytes);
        self.budget
            .account(now_ms, full && was_watched, taken_bytes);
        self.pressure = if stalled { pressure } else { Pressure::None };
        if !stalled {
            self.watch_ms = WATCH_FIRST_MS;
        } else if full && self.budget.left_ms() == 0 {
            self.start_discarding();
        }
    }

    /// Gives the whole credit back: at the end nobody is held up any longer, and what was given up is
    /// to be told while there is still time.
    pub(super) const fn forgive(&mut self, now_ms: u64) {
        self.budget = StallBudget::new(now_ms);
    }

    /// What was given up since the start.
    pub(super) fn dropped(&self) -> Dropped {
        match &self.flow {
            Flow::Passing => self.dropped_before,
            Flow::Discarding(discard) => self.dropped_before.and(discard.dropped()),
        }
    }

    /// Writes what is owed, and lets output flow again when it can.
    pub(super) fn tick(&mut self, now_ms: u64) {
        if self
            .failed_at_ms
            .is_some_and(|failed_ms| now_ms < failed_ms + RETRY_AFTER_MS)
        {
            return;
        }
        if !self.blocked || self.failed_at_ms.is_some() {
            self.write_pending(now_ms);
        }
        if !self.blocked && self.pending.is_empty() {
            self.resume(now_ms);
        }
    }

    /// When [`Self::tick`] has to be called again, for time alone.
    pub(super) fn due_in_ms(&mut self, pressure: Pressure) -> Option<u64> {
        if self.failed_at_ms.is_some() {
            return None;
        }
        if self.blocked && self.is_passing() {
            self.pressure = pressure;
        }
        match self.flow {
            Flow::Passing if self.blocked => match pressure {
                // Poll watches an empty pipe.
                Pressure::None => None,
                Pressure::Some => {
                    let watch_ms = self.watch_ms;
                    self.watch_ms = (watch_ms * 2).min(WATCH_LAST_MS);
                    Some(watch_ms)
                }
                Pressure::Full => Some(self.budget.left_ms()),
            },
            Flow::Discarding(_) if !self.blocked && self.pending.is_empty() => {
                Some(self.budget.resume_in_ms().max(1))
            }
            Flow::Passing | Flow::Discarding(_) => None,
        }
    }

    /// Splices up to `count` bytes and says how many went.
    pub(super) fn splice_from(
        &mut self,
        id: u64,
        source: &OwnedFd,
        count: usize,
        now_ms: u64,
    ) -> usize {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let spliced = match splice(source, None, &self.fd, None, count, flags) {
            Ok(spliced) => spliced,
            Err(Errno::EINTR) => return 0,
            Err(Errno::EAGAIN) => {
                self.blocked = true;
                return 0;
            }
            Err(Errno::EINVAL) => {
                self.splices = false;
                return 0;
            }
            Err(_) => {
                self.fail(now_ms);
                return 0;
            }
        };
        if spliced > 0 {
            self.at_line_start = false;
            self.spliced_from = Some(id);
            self.taken_bytes += spliced as u64;
        }
        // A full pipe took less than there was; the next splice would only say EAGAIN.
        self.blocked = spliced < count && self.kind == Kind::Pipe;
        spliced
    }

    /// Writes bytes of the gateway, keeps what finds no room, or gives up whole lines.
    pub(super) fn deliver(&mut self, bytes: &[u8], now_ms: u64) {
        if let Flow::Discarding(discard) = &mut self.flow {
            discard.take(bytes, &mut self.pending);
            if !self.blocked && self.failed_at_ms.is_none() {
                self.write_pending(now_ms);
            }
            return;
        }
        let boundary = (!self.said.is_empty())
            .then(|| bytes.iter().position(|&b| b == b'\n'))
            .flatten();
        if let Some(newline) = boundary {
            let (line, rest) = bytes.split_at(newline + 1);
            self.pending.extend_from_slice(line);
            self.pending.append(&mut self.said);
            self.pending.extend_from_slice(rest);
            self.write_pending(now_ms);
        } else if self.pending.is_empty() {
            let written = self.write_some(bytes, now_ms);
            self.pending.extend_from_slice(&bytes[written..]);
            if self.failed_at_ms.is_none() && !self.pending.is_empty() {
                self.blocked = true;
            }
        } else {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Writes our own lines now: no more of the gateway's line is in sight.
    pub(super) fn say_now(&mut self, now_ms: u64) {
        if self.said.is_empty() || !self.is_passing() || !self.pending.is_empty() {
            return;
        }
        if !self.at_line_start {
            self.pending.push(b'\n');
        }
        self.pending.append(&mut self.said);
        self.write_pending(now_ms);
    }

    /// Room for lines of our own.
    pub(super) fn said_room(&self) -> usize {
        HELD_MAX_BYTES.saturating_sub(self.said.len())
    }

    fn start_discarding(&mut self) {
        if self.is_passing() {
            self.flow = Flow::Discarding(Discard::new(self.mid_line()));
        }
    }

    fn fail(&mut self, now_ms: u64) {
        self.failed_at_ms = Some(now_ms);
        self.blocked = false;
        self.start_discarding();
    }

    /// Lets output flow again, after one line that says what is missing.
    fn resume(&mut self, now_ms: u64) {
        let Flow::Discarding(discard) = &self.flow else {
            return;
        };
        let retried = self.failed_at_ms.is_some();
        if !discard.can_resume() || (!retried && self.budget.resume_in_ms() > 0) {
            return;
        }
        let dropped = discard.dropped();
        if !dropped.is_nothing() {
            let notice = format!("{dropped}\n");
            // Nothing is settled until the sink takes a byte: until then lines are given up, and
            // the numbers of the notice grow.
            let written = self.write_some(notice.as_bytes(), now_ms);
            if written == 0 {
                return;
            }
            self.pending
                .extend_from_slice(&notice.as_bytes()[written..]);
            self.notices += 1;
            self.dropped_before = self.dropped_before.and(dropped);
        }
        self.failed_at_ms = None;
        self.pending.append(&mut self.said);
        if let Flow::Discarding(discard) = std::mem::replace(&mut self.flow, Flow::Passing) {
            self.pending.append(&mut discard.into_held());
        }
        self.write_pending(now_ms);
    }

    fn write_pending(&mut self, now_ms: u64) {
        let mut pending = std::mem::take(&mut self.pending);
        let written = self.write_some(&pending, now_ms);
        if written == pending.len() {
            // Memory for a rare event is given back.
            pending = Vec::new();
        } else {
            pending.drain(..written);
        }
        pending.append(&mut self.pending);
        self.pending = pending;
    }

    /// Writes until there is no room, or the sink fails, and says how much went.
    fn write_some(&mut self, bytes: &[u8], now_ms: u64) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_once(&bytes[written..]) {
                Ok(0) | Err(Errno::EAGAIN) => {
                    self.blocked = true;
                    break;
                }
                Ok(count) => {
                    written += count;
                    self.blocked = false;
                }
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.fail(now_ms);
                    break;
                }
            }
        }
        if written > 0 {
            self.taken_bytes += written as u64;
            self.at_line_start = bytes[written - 1] == b'\n';
            self.spliced_from = None;
        }
        written
    }

    fn write_once(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let guarded = |most: usize| {
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::ZERO)? == 0 {
                return Err(Errno::EAGAIN);
            }
            write(&self.fd, &bytes[..bytes.len().min(most)])
        };
        match self.kind {
            Kind::Pipe if !self.own_description => guarded(GUARDED_PIPE_BYTES),
            Kind::Tty if !self.own_description => guarded(GUARDED_TTY_BYTES),
            Kind::Pipe | Kind::Tty | Kind::File => write(&self.fd, bytes),
            Kind::Socket => send(
                self.fd.as_raw_fd(),
                bytes,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ),
        }
    }
}

fn kind_of(fd: &OwnedFd) -> Kind {
    let mode = fstat(fd).map_or(0, |stat| stat.st_mode);
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => Kind::Pipe,
        SFlag::S_IFSOCK => Kind::Socket,
        SFlag::S_IFCHR if isatty(fd).unwrap_or(false) => Kind::Tty,
        _ => Kind::File,
    }
}

/// An open file description of our own for the same object: `O_NONBLOCK` set on the inherited one
/// would reach every process that shares it.
fn reopen(fd: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    open(path.as_str(), flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use nix::unistd::{pipe, read};

    use super::*;

    /// As if `/proc/self/fd/N` could not be opened.
    fn without_own_description(fd: OwnedFd) -> Sink {
        let mut sink = Sink::new(fd.try_clone().expect("a descriptor is free"), 0);
        sink.fd = fd;
        sink.own_description = false;
        sink
    }

    #[test]
    fn a_full_pipe_that_cannot_be_reopened_does_not_hold_up() {
        let (reader, writer) = pipe().expect("a pipe");
        let mut sink = without_own_description(writer);
        let sent = vec![b'x'; 3 * PIPE_BYTES];
        sink.deliver(&sent, 0);
        assert!(sink.blocked && sink.holds_back());
        let mut got = 0;
        let mut buf = vec![0; 65_536];
        while got < sent.len() {
            got += read(&reader, &mut buf).expect("there is more");
            sink.blocked = false;
            sink.tick(0);
        }
        assert!(sink.is_settled() && sink.mid_line());
    }

    #[test]
    fn a_stopped_terminal_that_cannot_be_reopened_does_not_hold_up() {
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let mut sink = without_own_description(pty.slave);
        sink.deliver(&[b'x'; 200_000], 0);
        assert!(sink.blocked && sink.holds_back());
    }

    #[test]
    fn time_while_nothing_was_watched_is_not_charged() {
        let (_reader, writer) = pipe().expect("a pipe");
        let mut sink = Sink::new(writer, 0);
        sink.deliver(&vec![b'x'; 2 * PIPE_BYTES], 0);
        assert_eq!(sink.due_in_ms(Pressure::None), None);
        sink.book(3_600_000, Pressure::Full);
        assert!(sink.is_passing());
        assert_eq!(sink.due_in_ms(Pressure::Full), Some(1000));
        sink.book(3_600_999, Pressure::Full);
        assert!(sink.is_passing());
        sink.book(3_601_000, Pressure::Full);
        assert!(!sink.is_passing());
    }

    #[test]
    fn a_sink_that_fails_is_tried_again_and_tells_once() {
        let (reader, writer) = pipe().expect("a pipe");
        let keep = reader.try_clone().expect("a descriptor is free");
        let mut sink = Sink::new(writer, 0);
        sink.deliver(b"passed\nbeg", 0);
        sink.fail(0);
        sink.deliver(b"un\nlost\nlost too\nhe", 10);
        sink.tick(500);
        assert!(!sink.is_passing());
        sink.tick(RETRY_AFTER_MS);
        let dropped = sink.dropped();
        assert_eq!((dropped.lines, dropped.bytes, sink.notices), (2, 14, 1));
        sink.deliver(b"ld\n", 1001);
        drop(keep);
        let mut buf = [0; 1000];
        let count = read(&reader, &mut buf).expect("something was written");
        let expected = format!("passed\nbegun\n{dropped}\nheld\n");
        assert_eq!(String::from_utf8_lossy(&buf[..count]), expected);
    }
}
