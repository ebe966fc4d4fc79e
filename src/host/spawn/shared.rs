//! The memory that both sides of a clone see: the child's stack and what it has to say.

use super::{Failure, Stage};
use nix::errno::Errno;
use nix::libc::{self, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// What the child says, in memory that both see even when the child has a copy of the rest.
pub(super) struct Outcome {
    /// 1 + the stage that failed, or 0.
    pub(super) stage: AtomicI32,
    pub(super) errno: AtomicI32,
}

impl Outcome {
    pub(super) fn failure(&self) -> Option<Failure> {
        let index = usize::try_from(self.stage.load(Ordering::Relaxed))
            .ok()?
            .checked_sub(1)?;
        Some((
            *Stage::IN_ORDER.get(index)?,
            Errno::from_raw(self.errno.load(Ordering::Relaxed)),
        ))
    }
}

/// One shared mapping: the outcome at its lowest address, the child's stack growing down to it.
pub(super) struct Shared {
    start: *mut c_void,
}

impl Shared {
    /// The child's frames need about 2 KiB; pages that are not touched do not exist.
    const SIZE: usize = 64 * 1024;

    pub(super) fn new() -> Result<Self, Errno> {
        // SAFETY: a new anonymous mapping; its zeroes are a valid Outcome.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            Err(Errno::last())
        } else {
            Ok(Self { start })
        }
    }

    pub(super) fn outcome(&self) -> &Outcome {
        // SAFETY: the mapping is aligned, zeroed, large enough, and lives as long as `self`; the
        // fields are atomics because the child writes them.
        unsafe { &*self.start.cast::<Outcome>() }
    }

    pub(super) fn stack_top(&self) -> *mut c_void {
        // SAFETY: the end of the mapping, which is page-aligned.
        unsafe { self.start.byte_add(Self::SIZE) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: ours since `new`; the child has executed or ended.
        unsafe {
            libc::munmap(self.start, Self::SIZE);
        }
    }
}
