//! Starts a program as PID 1 of a fresh pid namespace, and takes the time right before its exec.
//!
//! `unshare` and a second fork would leave a process of ours between harness and supervisor;
//! one `clone3` does not, and hands back a pidfd besides.

use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, setsid};

use crate::wire::now_ns;

/// What is started: its command line, its whole environment and its three streams.
pub(crate) struct Command<'a> {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<OsString>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
}

/// A pid namespace by its PID 1. Dropping it kills everything inside.
pub(crate) struct Namespace {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    page: Page,
    /// True means that it was waited for, so that its pid may be somebody else's.
    ended: bool,
}

impl Namespace {
    /// Starts the command; that it was executed at all shows in [`Namespace::exec_ns`] later.
    pub(crate) fn start(command: Command<'_>) -> Result<Self, Errno> {
        let argv = c_strings(command.argv)?;
        let env = c_strings(command.env)?;
        let (argv, env) = (Pointers::to(&argv), Pointers::to(&env));
        let streams = [command.stdin, command.stdout, command.stderr].map(|fd| fd.as_raw_fd());
        let page = Page::new()?;
        let mut pidfd: RawFd = -1;
        // SAFETY: all zero is the documented "not used" of every field.
        let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
        let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_PIDFD;
        clone.flags = u64::from(flags.cast_unsigned());
        clone.pidfd = (&raw mut pidfd).addr() as u64;
        clone.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        // SAFETY: without CLONE_VM this is a fork; the harness has one thread, so no lock is held
        // in the child, which only makes system calls until it executes or exits.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut clone, size_of_val(&clone)) };
        match pid {
            -1 => Err(Errno::last()),
            0 => become_init(&argv, &env, streams, &page),
            pid => Ok(Self {
                pid: Pid::from_raw(libc::pid_t::try_from(pid).map_err(|_| Errno::EOVERFLOW)?),
                // SAFETY: clone3 succeeded with CLONE_PIDFD, so this is a new descriptor of ours.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
                page,
                ended: false,
            }),
        }
    }

    /// When the program was executed, or why it could not be; valid once the namespace gave a sign.
    pub(crate) fn exec_ns(&self) -> Result<u64, Errno> {
        match self.page.word(1).load(Ordering::Acquire) {
            0 => Ok(self.page.word(0).load(Ordering::Acquire)),
            errno => Err(Errno::from_raw(i32::try_from(errno).unwrap_or(0))),
        }
    }

    /// Sends a signal to PID 1.
    pub(crate) fn signal(&self, which: Signal) {
        if !self.ended {
            let _ = kill(self.pid, which);
        }
    }

    /// Kills everything inside and waits for it.
    pub(crate) fn end(&mut self) {
        if self.ended {
            return;
        }
        self.signal(Signal::SIGKILL);
        // The kernel ends the whole namespace before its PID 1 can be waited for.
        let _ = waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED);
        self.ended = true;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end();
    }
}

fn become_init(argv: &Pointers, env: &Pointers, streams: [RawFd; 3], page: &Page) -> ! {
    let errno = match prepare(streams) {
        Ok(()) => {
            page.word(0).store(now_ns(), Ordering::Release);
            // SAFETY: both arrays end with null and point to C strings that live until the exec.
            unsafe { libc::execve(argv.0[0], argv.0.as_ptr(), env.0.as_ptr()) };
            Errno::last()
        }
        Err(errno) => errno,
    };
    let errno = u64::from((errno as i32).cast_unsigned());
    page.word(1).store(errno, Ordering::Release);
    // SAFETY: `_exit` runs no handler and does not return.
    unsafe { libc::_exit(127) }
}

/// What a container runtime does before the entrypoint.
fn prepare(streams: [RawFd; 3]) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    setsid()?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    for (fd, target) in streams.into_iter().zip(0..) {
        // SAFETY: plain descriptor numbers; the streams are above 2, so none overwrites another.
        Errno::result(unsafe { libc::dup2(fd, target) })?;
    }
    // Rust ignores SIGPIPE, and an ignored signal survives exec.
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn c_strings(words: Vec<OsString>) -> Result<Vec<CString>, Errno> {
    words
        .into_iter()
        .map(|word| CString::new(word.into_vec()).map_err(|_| Errno::EINVAL))
        .collect()
}

/// A null-terminated array, as exec wants it; valid while the strings it was made from live.
struct Pointers(Vec<*const libc::c_char>);

impl Pointers {
    fn to(words: &[CString]) -> Self {
        let pointers = words.iter().map(|word| word.as_ptr());
        Self(pointers.chain([ptr::null()]).collect())
    }
}

/// Memory that a forked process and we both see.
pub(crate) struct Page(*mut libc::c_void);

impl Page {
    /// Bytes of the page, in words of eight.
    const BYTES: usize = 4096;

    fn new() -> Result<Self, Errno> {
        // SAFETY: a new anonymous mapping overlaps nothing.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self(at))
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::BYTES / size_of::<AtomicU64>());
        // SAFETY: in bounds, aligned to a page, zeroed by the kernel, and shared as atomics only.
        unsafe { &*self.0.cast::<AtomicU64>().add(index) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and no reference outlives `self`.
        let _ = unsafe { libc::munmap(self.0, Self::BYTES) };
    }
}
