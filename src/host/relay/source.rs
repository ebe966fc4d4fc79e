//! The reading end of one pipe of the gateway, and the mirror through which we see what passes.
//!
//! The mirror is a second pipe that `tee(2)` fills with references to the same pages, so seeing
//! costs nothing until it is read. It is read at most once per [`LOOK_EVERY_US`], and then no more
//! than the last [`LOOK_MAX_BYTES`]: a flood is passed on without being looked at whole, and its
//! end, which may tell why the gateway died, is always seen.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};

use super::handle::{LineEvent, OnLine, PIPE_BYTES, Shared, Stream};
use crate::core::output::{LineCutter, LineEnd};

/// How much of a batch is looked at.
pub(super) const LOOK_MAX_BYTES: usize = 64 * 1024;
/// How often the mirror is read at most.
pub(super) const LOOK_EVERY_US: u64 = 5_000;
/// Batches up to this size are read and written: two calls, and they merge into full pages of the
/// sink's pipe, where a splice would take a slot for each line.
pub(super) const SMALL_BYTES: usize = 8 * 1024;
/// Under flood a pipe of the full size is left alone this long, so that one batch is worth its
/// system calls; a writer of 2 GB/s fills less than half of the pipe meanwhile.
const GATHER_US: u64 = 200;
/// As long when small pieces follow one another: each would cost a wake-up.
const GATHER_SMALL_US: u64 = 1000;

nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);

/// Takes what was seen: the tail, the counts, and the callback.
pub(super) struct Capture {
    pub(super) shared: std::sync::Arc<Shared>,
    pub(super) on_line: OnLine,
    pub(super) null: Option<OwnedFd>,
}

/// One pipe of the gateway. Positions count the bytes of this pipe from its start:
/// `seen <= mirrored` and `passed <= mirrored`, and the mirror holds `seen..mirrored`.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: u64,
    pub(super) attempt: u64,
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    pub(super) capacity: usize,
    mirror: Option<Mirror>,
    /// Taken out of the pipe, by splice or read.
    pub(super) passed: u64,
    mirrored: u64,
    seen: u64,
    lines: LineCutter,
    /// True when the last byte seen ended a line.
    ended_line: bool,
    looked_us: u64,
    /// When a batch was passed on last.
    served_us: Option<u64>,
    /// Under flood the pipe is left alone until then, so that batches are large.
    pub(super) not_before_us: u64,
    pub(super) ready: bool,
    pub(super) at_end: bool,
}

#[derive(Debug)]
struct Mirror {
    read: OwnedFd,
    write: OwnedFd,
}

impl Source {
    pub(super) fn new(id: u64, attempt: u64, stream: Stream, fd: OwnedFd) -> Self {
        let capacity = pipe_bytes(&fd);
        Self {
            id,
            attempt,
            stream,
            fd,
            capacity,
            mirror: None,
            passed: 0,
            mirrored: 0,
            seen: 0,
            lines: LineCutter::default(),
            ended_line: true,
            looked_us: 0,
            served_us: None,
            not_before_us: 0,
            ready: true,
            at_end: false,
        }
    }

    /// Bytes that wait in the pipe.
    pub(super) fn waiting(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `self` lives, and FIONREAD writes one int.
        let asked = unsafe { fionread(self.fd.as_raw_fd(), &mut count) };
        asked.map_or(0, |_| usize::try_from(count).unwrap_or(0))
    }

    /// Decides how long the pipe is left alone after a batch of this size. A line that comes alone
    /// delays nothing.
    pub(super) fn gather(&mut self, batch_bytes: usize, now_us: u64) {
        let follows = self
            .served_us
            .replace(now_us)
            .is_some_and(|served_us| now_us < served_us + 2 * GATHER_SMALL_US);
        let full_size_us = match batch_bytes {
            0..=SMALL_BYTES if follows => GATHER_SMALL_US,
            0..=SMALL_BYTES => 0,
            _ if batch_bytes < self.capacity / 2 => GATHER_US,
            _ => 0,
        };
        // A smaller pipe is full sooner.
        self.not_before_us = now_us + full_size_us * self.capacity as u64 / PIPE_BYTES as u64;
    }

    /// True when no one holds the other end any more and the pipe is empty.
    pub(super) fn is_at_end(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let hung_up = polled.is_ok() && fds[0].any() == Some(true);
        // In this order: once the writers are gone nothing can come any more.
        hung_up && self.waiting() == 0
    }

    /// Bytes at the head of the pipe that the mirror holds, or held, as well.
    pub(super) fn batch(&self) -> usize {
        (self.mirrored - self.passed) as usize
    }

    /// Bytes passed or passing that have not been looked at.
    pub(super) fn unseen(&self) -> usize {
        (self.mirrored - self.seen) as usize
    }

    /// True when the next bytes can be read and looked at in one go.
    pub(super) fn is_caught_up(&self) -> bool {
        self.passed == self.mirrored && self.seen == self.mirrored
    }

    /// Whether everything passed ended a line; `None` when it is not known.
    pub(super) fn passed_ended_line(&self) -> Option<bool> {
        (self.passed == self.seen).then_some(self.ended_line)
    }

    /// The time of the next look that is due.
    pub(super) fn look_due_us(&self) -> Option<u64> {
        (self.unseen() > 0).then_some(self.looked_us + LOOK_EVERY_US)
    }

    /// Mirrors what waits in the pipe, if the last batch is through, and returns the batch's size.
    pub(super) fn mirror_batch(&mut self, buf: &mut [u8], capture: &mut Capture) -> usize {
        if self.batch() > 0 {
            return self.batch();
        }
        if self.unseen() > LOOK_MAX_BYTES {
            self.skip(self.unseen() - LOOK_MAX_BYTES, buf, capture);
        }
        let copied = match self.tee() {
            // The mirror has no slot left: many small pieces.
            0 => {
                self.look(buf, capture, 0);
                self.tee()
            }
            copied => copied,
        };
        if copied == 0 {
            // No mirror is to be had (no descriptors left). Passing on goes before seeing.
            let waiting = self.waiting().min(self.capacity) as u64;
            self.mirrored += waiting;
            self.seen = self.mirrored;
            self.missed(waiting, capture);
            return waiting as usize;
        }
        self.mirrored += copied as u64;
        copied
    }

    /// Looks at the end of what the mirror holds.
    pub(super) fn look(&mut self, buf: &mut [u8], capture: &mut Capture, now_us: u64) {
        self.looked_us = self.looked_us.max(now_us);
        if self.unseen() > LOOK_MAX_BYTES {
            self.skip(self.unseen() - LOOK_MAX_BYTES, buf, capture);
        }
        while self.unseen() > 0 {
            let want = self.unseen().min(buf.len());
            let Some(mirror) = &self.mirror else { break };
            match read(&mirror.read, &mut buf[..want]) {
                Ok(count) if count > 0 => {
                    self.seen += count as u64;
                    self.feed(&buf[..count], capture);
                }
                Err(Errno::EINTR) => {}
                // Cannot be: the mirror holds `unseen` bytes and only we read it.
                Ok(_) | Err(_) => self.forget_unseen(capture),
            }
        }
    }

    /// Looks at everything in the pipe, passed on or not, and hands out the line begun.
    pub(super) fn look_ahead(&mut self, buf: &mut [u8], capture: &mut Capture, now_us: u64) {
        self.look(buf, capture, now_us);
        let known = self.batch();
        if self.waiting() > known {
            // tee starts at the head of the pipe: what is known already comes once more.
            let copied = self.tee();
            let again = copied.min(known);
            self.discard_mirrored(again, buf, capture);
            self.mirrored += (copied - again) as u64;
            self.look(buf, capture, now_us);
        }
        let (attempt, stream) = (self.attempt, self.stream);
        self.lines.finish(|line, end| {
            capture.hand_out(LineEvent {
                attempt,
                stream,
                line,
                end,
            });
        });
    }

    /// Takes bytes out of the pipe. Those not mirrored are looked at here.
    pub(super) fn read(
        &mut self,
        max: usize,
        buf: &mut [u8],
        capture: &mut Capture,
    ) -> Result<usize, Errno> {
        let batch = self.batch();
        let want = max
            .min(buf.len())
            .min(if batch > 0 { batch } else { usize::MAX });
        let count = read(&self.fd, &mut buf[..want])?;
        self.passed += count as u64;
        if batch == 0 && count > 0 {
            debug_assert!(self.seen == self.mirrored);
            self.mirrored = self.passed;
            self.seen = self.passed;
            self.feed(&buf[..count], capture);
        }
        Ok(count)
    }

    fn feed(&mut self, bytes: &[u8], capture: &mut Capture) {
        self.ended_line = bytes.last() == Some(&b'\n');
        let (attempt, stream) = (self.attempt, self.stream);
        self.lines.feed(bytes, |line, end| {
            capture.hand_out(LineEvent {
                attempt,
                stream,
                line,
                end,
            });
        });
    }

    fn tee(&mut self) -> usize {
        if self.mirror.is_none() {
            self.mirror = Mirror::new(self.capacity);
        }
        let Some(mirror) = &self.mirror else { return 0 };
        tee(
            &self.fd,
            &mirror.write,
            PIPE_BYTES,
            SpliceFFlags::SPLICE_F_NONBLOCK,
        )
        .unwrap_or(0)
    }

    fn skip(&mut self, count: usize, buf: &mut [u8], capture: &mut Capture) {
        let skipped = self.discard_mirrored(count, buf, capture);
        self.seen += skipped as u64;
        self.missed(skipped as u64, capture);
    }

    fn forget_unseen(&mut self, capture: &mut Capture) {
        let count = self.mirrored - self.seen;
        self.seen = self.mirrored;
        self.missed(count, capture);
    }

    fn missed(&mut self, count: u64, capture: &mut Capture) {
        self.lines.gap();
        self.ended_line = false;
        let mut state = capture.shared.state();
        state.tail.gap();
        state.stats.unseen_bytes += count;
        drop(state);
        (capture.on_line)(LineEvent {
            attempt: self.attempt,
            stream: self.stream,
            line: &[],
            end: LineEnd::Gap,
        });
    }

    fn discard_mirrored(&self, count: usize, buf: &mut [u8], capture: &Capture) -> usize {
        let Some(mirror) = &self.mirror else { return 0 };
        let mut left = count;
        while left > 0 {
            let gone = match &capture.null {
                Some(null) => splice(&mirror.read, None, null, None, left, SpliceFFlags::empty()),
                None => {
                    let room = left.min(buf.len());
                    read(&mirror.read, &mut buf[..room])
                }
            };
            match gone {
                Ok(0) => break,
                Ok(gone) => left -= gone,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        count - left
    }
}

impl Mirror {
    fn new(bytes: usize) -> Option<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // Smaller than the source it still works: batches are smaller then.
        let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(bytes as i32));
        Some(Self { read, write })
    }
}

impl Capture {
    fn hand_out(&mut self, event: LineEvent<'_>) {
        self.shared.state().tail.push(event.line);
        (self.on_line)(event);
    }
}

/// The size of a pipe; the default one for what does not say.
pub(super) fn pipe_bytes(fd: &OwnedFd) -> usize {
    fcntl(fd, FcntlArg::F_GETPIPE_SZ)
        .ok()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(64 * 1024)
}
