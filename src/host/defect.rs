//! A defect in clawkeeper must not take the gateway down without warning.
//!
//! The release aborts on a panic instead of unwinding, so everything is done in the panic hook, on the thread that
//! panicked and before the abort, which is never reached:
//! - the main thread stops the gateway in order and ends with exit code 70;
//! - a disk thread, which reads what others wrote, is given up alone, [`SPARE`] times: what it was asked stays
//!   unanswered, which a deadline of the machine turns into a hold, and a gateway that runs is left alone;
//! - any other thread has the loop do what it does when it is told to stop, and ends clawkeeper itself should that hang.
//!
//! A panic's own text is shown only where it is a constant: `byte index 5 is not a boundary of "…"` quotes a config.
#![allow(
    clippy::disallowed_methods,
    reason = "this module ends processes and waits for them"
)]

use super::early::SignalSet;
use super::{log, reap};
use crate::exit::Exit;
use crate::render;
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, gettid};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The name of the threads that touch the disk.
pub const DISK_THREAD: &str = "disk";

/// Disk threads that may be lost; there are more than twice as many.
const SPARE: usize = 2;

const STOPS: SignalSet = SignalSet::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGQUIT]);
/// What a stop signal leaves of the gateway's time.
const SHORTENED: Duration = Duration::from_secs(3);
/// From SIGTERM to SIGKILL for what the gateway left behind.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How often the gateway is looked for when SIGCHLD went to a handler.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Time for the last output.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// What the loop gets beyond the stop timeout before it counts as hung.
const LOOP_SLACK: Duration = Duration::from_secs(30);
/// More than anybody waits for, and little enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The pid of what we keep running; 0 when nothing runs.
static KEPT: AtomicI32 = AtomicI32::new(0);
/// Its stop timeout.
static STOP_TIMEOUT_MS: AtomicU64 = AtomicU64::new(0);
/// Disk threads lost so far.
static LOST: AtomicUsize = AtomicUsize::new(0);
/// True when the loop was asked to stop because of a defect.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// What becomes of a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// This thread stops the gateway and ends clawkeeper.
    End,
    /// This thread is given up; nothing else changes.
    LoseThread,
    /// The loop is asked to stop.
    AskLoop,
}

/// From here on a panic ends clawkeeper in order, on whichever thread it happens.
pub fn install() {
    std::panic::set_hook(Box::new(|info| meet(info)));
}

/// Remembers the process to be stopped first, and how long it may take.
pub fn keep(pid: Pid, stop_timeout: Duration) {
    let ms = stop_timeout.min(LONGEST).as_millis();
    STOP_TIMEOUT_MS.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    KEPT.store(pid.as_raw(), Ordering::Relaxed);
}

/// The process has ended and was reaped.
pub fn release() {
    KEPT.store(0, Ordering::Relaxed);
}

/// True when clawkeeper stops because of a defect, not because somebody told it to.
#[must_use]
pub fn is_why_we_end() -> bool {
    IS_ENDING.load(Ordering::Relaxed)
}

/// What becomes of a panic on a thread; `lost` disk threads have gone before.
#[must_use]
pub fn fate(is_main: bool, thread: Option<&str>, lost: usize) -> Fate {
    match thread {
        _ if is_main => Fate::End,
        Some(DISK_THREAD) if lost < SPARE => Fate::LoseThread,
        Some(_) | None => Fate::AskLoop,
    }
}

fn meet(info: &PanicHookInfo<'_>) -> ! {
    let thread = thread::current();
    let is_disk = thread.name() == Some(DISK_THREAD);
    let lost = if is_disk {
        LOST.fetch_add(1, Ordering::Relaxed)
    } else {
        0
    };
    let fate = fate(getpid() == gettid(), thread.name(), lost);
    if fate == Fate::AskLoop {
        IS_ENDING.store(true, Ordering::Relaxed);
        let _ = kill(getpid(), Signal::SIGTERM);
    }
    let at = info.location().map(ToString::to_string);
    let constant = info.payload().downcast_ref::<&'static str>().copied();
    let ends = fate != Fate::LoseThread;
    log::last_words(&render::defect(
        at.as_deref(),
        thread.name(),
        constant,
        ends,
    ));
    match fate {
        Fate::End => stop_gateway(),
        Fate::LoseThread => loop {
            thread::park();
        },
        Fate::AskLoop => {
            thread::sleep(stop_timeout() + LOOP_SLACK);
            // It hangs, perhaps on what this thread held.
            kill_gateway();
        }
    }
    // SAFETY: it ends the process at once, and runs nothing of it.
    unsafe { libc::_exit(Exit::Internal.code().into()) }
}

fn stop_timeout() -> Duration {
    Duration::from_millis(STOP_TIMEOUT_MS.load(Ordering::Relaxed))
}

fn kept() -> Option<Pid> {
    Some(KEPT.load(Ordering::Relaxed))
        .filter(|pid| *pid > 0)
        .map(Pid::from_raw)
}

fn stop_gateway() {
    let wake = STOPS.with(libc::SIGCHLD);
    wake.block();
    if let Some(pid) = kept() {
        let _ = kill(pid, Signal::SIGTERM);
        let mut kill_at = Instant::now() + stop_timeout();
        while waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let now = Instant::now();
            if now >= kill_at {
                kill_gateway();
                break;
            }
            let limit = kill_at.saturating_duration_since(now).min(LOOK_AGAIN);
            let signal = wake.wait(Some(limit));
            if signal.is_some_and(|signal| signal != libc::SIGCHLD) {
                kill_at = kill_at.min(now + SHORTENED);
            }
        }
    }
    reap::end_leftovers(LEFTOVER_GRACE, STOPS);
    log::flush(LAST_OUTPUT);
}

fn kill_gateway() {
    if let Some(pid) = kept() {
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = kill(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_thread_ends_two_disk_threads_may_be_lost_and_others_ask_the_loop() {
        assert_eq!(fate(true, Some("main"), 0), Fate::End);
        assert_eq!(fate(true, Some(DISK_THREAD), 0), Fate::End);
        assert_eq!(fate(false, Some(DISK_THREAD), 0), Fate::LoseThread);
        assert_eq!(fate(false, Some(DISK_THREAD), 1), Fate::LoseThread);
        assert_eq!(fate(false, Some(DISK_THREAD), 2), Fate::AskLoop);
        assert_eq!(fate(false, Some("journal"), 0), Fate::AskLoop);
        assert_eq!(fate(false, None, 0), Fate::AskLoop);
    }
}
