//! What must happen before `main`: every signal is blocked, and what we inherited is noted.
//!
//! As PID 1 the kernel throws a signal away when its disposition is the default and it is not
//! blocked: a stop that comes half a millisecond after exec is lost unless the mask comes first.
//! Rust's runtime then changes SIGPIPE and opens `/dev/null` over closed descriptors 0 to 2,
//! so their inherited state can only be seen here.
//!
//! The system calls are made directly: glibc's wrappers leave out signals 32 and 33, which the
//! kernel delivers like any other. Nothing here forwards or handles a signal.

use nix::libc;
use std::sync::OnceLock;
use std::time::Duration;

/// The size of the kernel's signal set on every 64-bit Linux, in bytes.
const SET_BYTES: usize = 8;

/// The highest signal number, `SIGRTMAX` of the kernel.
pub const LAST_SIGNAL: i32 = 64;

/// The signal state this process was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inherited {
    /// The signals that were blocked.
    pub mask: SignalSet,
    /// The signals that were ignored, as `nohup` does it with SIGHUP.
    pub ignored: SignalSet,
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// What `main.rs` places in `.init_array`, so that it runs before Rust's runtime does.
///
/// It stays out of the library's own sections: a test harness linked with it would go deaf.
pub extern "C" fn before_main() {
    let mask = SignalSet::ALL.block();
    let ignored = ignored_signals();
    INHERITED.get_or_init(|| Inherited { mask, ignored });
    // Without children's ends being kept for us, waiting never returns a status (tini hangs here).
    if ignored.contains(libc::SIGCHLD) {
        set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    }
    hold_closed_descriptors();
}

/// The signal state this process was started with; the present one in a program without
/// [`before_main`].
pub fn inherited() -> &'static Inherited {
    INHERITED.get_or_init(|| Inherited {
        mask: SignalSet::EMPTY.block(),
        ignored: ignored_signals(),
    })
}

/// Ends the silence of [`before_main`]: every signal is delivered to its handler from here on.
///
/// To be called once the handlers stand, on the thread that starts all others.
pub fn accept_signals() {
    SignalSet::EMPTY.set_as_mask();
}

/// Ends the silence of [`before_main`] for these signals alone, where any other would end us: one that
/// nobody handles stays blocked, as the kernel keeps it from a PID 1.
///
/// To be called once the handlers stand, on the thread that starts all others.
pub fn accept_only(handled: &[i32]) {
    (1..=LAST_SIGNAL)
        .filter(|signal| !handled.contains(signal) && !NEVER_BLOCKED.contains(*signal))
        .fold(SignalSet::EMPTY, SignalSet::with)
        .set_as_mask();
}

/// Faults of our own, which end a process whether blocked or not, and job control.
const NEVER_BLOCKED: SignalSet = SignalSet::of(&[
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGCONT,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
]);

/// A set of signals as the kernel has it: signal `n` is bit `n - 1`, real-time signals included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal; the kernel leaves out SIGKILL and SIGSTOP wherever they cannot be.
    pub const ALL: Self = Self(u64::MAX);

    /// The set of exactly these signals; a number that is no signal is left out.
    #[must_use]
    pub const fn of(signals: &[i32]) -> Self {
        let mut set = Self::EMPTY;
        let mut rest = signals;
        while let [signal, tail @ ..] = rest {
            set = set.with(*signal);
            rest = tail;
        }
        set
    }

    /// This set and `signal`.
    #[must_use]
    pub const fn with(self, signal: i32) -> Self {
        Self(self.0 | Self::bit(signal))
    }

    /// This set less `signal`.
    #[must_use]
    pub const fn without(self, signal: i32) -> Self {
        Self(self.0 & !Self::bit(signal))
    }

    /// True when `signal` is in the set.
    #[must_use]
    pub const fn contains(self, signal: i32) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    /// Blocks these signals besides those blocked already, and returns the mask as it was.
    pub fn block(self) -> Self {
        self.change_mask(libc::SIG_BLOCK)
    }

    /// Makes these signals, and no others, the blocked ones; returns the mask as it was.
    pub fn set_as_mask(self) -> Self {
        self.change_mask(libc::SIG_SETMASK)
    }

    /// Takes one pending signal of this set, waiting for it up to `limit`, or without an end.
    ///
    /// The signals have to be blocked. `None` says that the limit passed, or that a stop and a
    /// continue interrupted the wait: the caller looks at its clock and comes back.
    pub fn wait(self, limit: Option<Duration>) -> Option<i32> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit: *const libc::timespec = limit.as_ref().map_or(std::ptr::null(), |limit| limit);
        // SAFETY: the set and the limit outlive the call; the kernel writes no siginfo to null.
        let taken = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const self.0,
                std::ptr::null_mut::<libc::siginfo_t>(),
                limit,
                SET_BYTES,
            )
        };
        i32::try_from(taken).ok().filter(|signal| *signal > 0)
    }

    /// True when a signal of this set is blocked and waits to be taken.
    #[must_use]
    pub fn is_pending(self) -> bool {
        let mut pending = 0u64;
        // SAFETY: the set is SET_BYTES long and outlives the call, which cannot fail.
        unsafe {
            libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SET_BYTES);
        }
        pending & self.0 != 0
    }

    const fn bit(signal: i32) -> u64 {
        if signal >= 1 && signal <= LAST_SIGNAL {
            1 << (signal - 1)
        } else {
            0
        }
    }

    /// Async-signal-safe, and never fails: the pointers are valid and `how` is one of the three.
    fn change_mask(self, how: i32) -> Self {
        let mut before = 0u64;
        // SAFETY: both sets are SET_BYTES long and outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                how,
                &raw const self.0,
                &raw mut before,
                SET_BYTES,
            );
        }
        Self(before)
    }
}

/// The kernel's `struct sigaction` of x86_64 and aarch64; the first word is all we use.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Sets `signal` to `SIG_DFL` or `SIG_IGN`. Async-signal-safe; a signal that refuses keeps its own.
pub fn set_disposition(signal: i32, handler: libc::sighandler_t) {
    debug_assert!(
        handler == libc::SIG_DFL || handler == libc::SIG_IGN,
        "no restorer is given"
    );
    let action = KernelAction {
        handler,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: the action outlives the call, and no handler of ours runs through it.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const action,
            std::ptr::null_mut::<KernelAction>(),
            SET_BYTES,
        );
    }
}

fn ignored_signals() -> SignalSet {
    let is_ignored = |signal: &i32| {
        let mut action = KernelAction {
            handler: libc::SIG_DFL,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        // SAFETY: the kernel writes at most one KernelAction; on failure it writes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                *signal,
                std::ptr::null::<KernelAction>(),
                &raw mut action,
                SET_BYTES,
            );
        }
        action.handler == libc::SIG_IGN
    };
    (1..=LAST_SIGNAL)
        .filter(is_ignored)
        .fold(SignalSet::EMPTY, SignalSet::with)
}

/// Fills a closed descriptor 0, 1 or 2 with a `/dev/null` that closes itself at exec.
///
/// Left alone, Rust's runtime fills it with one that the child would inherit, and a file of ours
/// opened later could land there. This way the child finds closed what we found closed.
fn hold_closed_descriptors() {
    for descriptor in 0..=2 {
        // SAFETY: F_GETFD only reads; open gets a NUL-terminated path. The lowest free number is
        // the one asked about, since all lower ones are open by now.
        unsafe {
            if libc::fcntl(descriptor, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_real_time_signals_and_no_number_that_is_no_signal() {
        let set = SignalSet::of(&[1, 34, 64, 0, -1, 65]);
        let held: Vec<i32> = (-1..=66).filter(|signal| set.contains(*signal)).collect();
        assert_eq!(held, [1, 34, 64]);
    }

    #[test]
    fn a_wait_without_a_signal_ends_at_its_limit() {
        let set = SignalSet::of(&[libc::SIGUSR2]);
        let before = set.block();
        assert_eq!(set.wait(Some(Duration::from_millis(1))), None);
        before.set_as_mask();
    }
}
