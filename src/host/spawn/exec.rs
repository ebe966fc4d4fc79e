//! Sees a child execute its program, and is held up by nobody meanwhile.
//!
//! Between its change of uid and its exec a child belongs to the gateway's user and runs our code: every process of that
//! user may stop it. Whoever waits for it as vfork(2) does, without an end, then hangs until somebody continues it.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// An exec takes a millisecond, and some more from a cold disk; one that takes this long hangs with it.
const LIMIT: Duration = Duration::from_secs(10);
/// From one SIGCONT to the next.
const LOOK_AGAIN_MS: u8 = 10;

/// A pipe that nobody writes to: when its other end closes in the child, the child has executed or ended.
pub(super) struct Seen {
    ours: OwnedFd,
    childs: OwnedFd,
}

impl Seen {
    /// To be made right before the child, and by the only thread that makes any: whoever else inherits it keeps it open.
    pub(super) fn new() -> Result<Self, Errno> {
        let (ours, childs) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self { ours, childs })
    }

    /// Waits until the child has executed its program, or ended. One that does neither in time is killed: `ETIMEDOUT`.
    pub(super) fn wait(self, child: Pid) -> Result<(), Errno> {
        let Self { ours, childs } = self;
        drop(childs);
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let mut fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(LOOK_AGAIN_MS)).is_ok_and(|closed| closed > 0) {
                return Ok(());
            }
            // It was perhaps stopped. One that was not does not notice.
            let _ = kill(child, Signal::SIGCONT);
        }
        let _ = kill(child, Signal::SIGKILL);
        super::collect(child);
        Err(Errno::ETIMEDOUT)
    }
}
