//! The only place that waits for children, and what ends those that are left over.
//!
//! There is one waiter per process: a second one takes exits that belong to the first.
//! Only children of ours are signalled, never a process found by name or number: as long as we
//! have not reaped a child, its pid cannot be given to a stranger.

#![allow(
    clippy::disallowed_methods,
    reason = "this module reads /proc and the clock"
)]

use super::early::SignalSet;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long killed processes may take to vanish; one in an uninterruptible wait never does.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// More than anybody waits for, and little enough to be added to any time.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often leftovers are looked for when SIGCHLD goes to a handler instead of to our wait.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A change of state of a child, and with an exit its last: the pid is free afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The child, ours by birth or by adoption.
    pub pid: Pid,
    /// How it ended (or stopped, where stops were asked for), real-time signals included.
    pub status: ExitStatus,
}

/// Which changes of a child [`reap`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Ends only.
    Ends,
    /// Ends, and stops by a signal, as job control needs them.
    EndsAndStops,
}

/// Takes every child that has ended so far, without waiting.
///
/// SIGCHLD is coalesced, so one wake can mean any number of ends. A caller with other work bounds
/// the sequence with `take` and comes back. A status that nix cannot name (a real-time signal) is
/// no error here.
pub fn reap(report: Report) -> impl Iterator<Item = Waited> {
    let flags = match report {
        Report::Ends => libc::WNOHANG,
        Report::EndsAndStops => libc::WNOHANG | libc::WUNTRACED,
    };
    std::iter::from_fn(move || {
        let mut status = 0;
        // SAFETY: status is valid for the call. EINTR cannot happen: WNOHANG does not wait.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
        // Zero says that none has ended, ECHILD that none exists: both end the sequence.
        (pid > 0).then(|| Waited {
            pid: Pid::from_raw(pid),
            status: ExitStatus::from_raw(status),
        })
    })
}

/// Takes every child that has ended so far, without waiting; stops are not reported.
pub fn reap_all() -> impl Iterator<Item = Waited> {
    reap(Report::Ends)
}

/// True while a child exists, running or not yet reaped. All other descendants hang below one.
#[must_use]
pub fn has_children() -> bool {
    // SAFETY: siginfo_t is plain data; WNOWAIT leaves the child as it is.
    let answer = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(
            libc::P_ALL,
            0,
            &raw mut info,
            libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    // With WNOHANG the one failure left is ECHILD.
    answer == 0
}

/// Makes orphans below us our children when we are not PID 1, so that we can reap and end them.
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Ends every child: SIGTERM, and SIGKILL when its grace is over; then those adopted from them.
///
/// Children first, and their children once we have adopted them: a daemon that is asked to stop
/// stops its workers itself, in its own order.
/// Whoever drives it reaps at every SIGCHLD and calls [`Leftovers::step`] afterwards.
pub struct Leftovers {
    spare: Option<Spare>,
    told: HashSet<Pid>,
    kill_at: Instant,
    give_up_at: Instant,
}

/// Says which children are none of our business.
pub type Spare = Box<dyn Fn(Pid) -> bool>;

/// What [`Leftovers`] needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// No child is left but the spared ones.
    Done,
    /// Step again after the next SIGCHLD has been reaped, and at this time at the latest.
    WaitUntil(Instant),
    /// This many children do not even end by SIGKILL; they hang in the kernel.
    GivenUp(usize),
}

impl Leftovers {
    /// Starts the grace; nothing is signalled before the first step. Children that `spare` says yes to are left alone.
    #[must_use]
    pub fn new(now: Instant, grace: Duration, spare: Option<Spare>) -> Self {
        let kill_at = now + grace.min(LONGEST_GRACE);
        Self {
            spare,
            told: HashSet::new(),
            kill_at,
            give_up_at: kill_at + KILL_WAIT,
        }
    }

    /// The children that are not spared, or `None` when /proc cannot be used.
    #[must_use]
    pub fn remaining(&self) -> Option<Vec<Pid>> {
        let is_spared = |pid: &Pid| self.spare.as_ref().is_some_and(|spare| spare(*pid));
        Some(
            children()?
                .into_iter()
                .filter(|pid| !is_spared(pid))
                .collect(),
        )
    }

    /// How many processes have been signalled so far.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told.len()
    }

    /// Ends the grace now.
    pub fn hurry(&mut self, now: Instant) {
        self.kill_at = self.kill_at.min(now);
        self.give_up_at = self.give_up_at.min(now + KILL_WAIT);
    }

    /// Signals the children that are due for it and says what comes next.
    pub fn step(&mut self, now: Instant) -> Next {
        if !has_children() {
            return Next::Done;
        }
        let Some(due) = self.remaining() else {
            return self.step_blind(now);
        };
        if due.is_empty() && self.spare.is_some() {
            return Next::Done;
        }
        if now >= self.give_up_at {
            // At least one is there, even if /proc hides it from us.
            return Next::GivenUp(due.len().max(1));
        }
        for child in &due {
            if now >= self.kill_at {
                send(*child, Signal::SIGKILL);
            } else if self.told.insert(*child) {
                send(*child, Signal::SIGTERM);
                // A stopped process acts on SIGTERM only once it is continued.
                send(*child, Signal::SIGCONT);
            }
        }
        Next::WaitUntil(self.next_look(now))
    }

    /// Without a usable /proc, PID 1 can still reach all of its namespace; others can reach none.
    fn step_blind(&mut self, now: Instant) -> Next {
        let everyone = Pid::from_raw(-1);
        if now >= self.give_up_at || !is_pid_1() || self.spare.is_some() {
            return Next::GivenUp(1);
        }
        if now >= self.kill_at {
            send(everyone, Signal::SIGKILL);
        } else if self.told.insert(everyone) {
            send(everyone, Signal::SIGTERM);
            send(everyone, Signal::SIGCONT);
        }
        Next::WaitUntil(self.next_look(now))
    }

    fn next_look(&self, now: Instant) -> Instant {
        if now < self.kill_at {
            self.kill_at
        } else {
            self.give_up_at.min(now + LOOK_AGAIN)
        }
    }
}

/// Ends and reaps every child, and returns how many could not be ended.
///
/// Returns at once when there is none. A signal of `hurry` (blocked by the caller) ends the grace.
pub fn end_leftovers(grace: Duration, hurry: SignalSet) -> usize {
    let wake = hurry.with(libc::SIGCHLD);
    let mask = wake.block();
    let mut leftovers = Leftovers::new(Instant::now(), grace, None);
    let remaining = loop {
        reap_all().for_each(drop);
        let now = Instant::now();
        match leftovers.step(now) {
            Next::Done => break 0,
            Next::GivenUp(count) => break count,
            Next::WaitUntil(until) => {
                let limit = until.saturating_duration_since(now).min(LOOK_AGAIN);
                if wake
                    .wait(Some(limit))
                    .is_some_and(|signal| signal != libc::SIGCHLD)
                {
                    leftovers.hurry(Instant::now());
                }
            }
        }
    };
    mask.set_as_mask();
    remaining
}

/// True when we are the first process of a PID namespace.
#[must_use]
pub fn is_pid_1() -> bool {
    std::process::id() == 1
}

/// ESRCH says that it is gone already, EPERM that it gave itself another uid: neither is ours to
/// mend.
fn send(pid: Pid, signal: Signal) {
    let _ = nix::sys::signal::kill(pid, signal);
}

/// Our children, or `None` when /proc is absent or of another namespace.
///
/// Zombies are among them: one whose other threads still run has to be signalled too.
fn children() -> Option<Vec<Pid>> {
    let us = std::process::id().to_string();
    if fs::read_link("/proc/self").ok()?.to_str() != Some(&us) {
        return None;
    }
    let children = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| is_child_of(&us, *pid))
        .map(Pid::from_raw)
        .collect();
    Some(children)
}

/// A process that vanishes while it is looked at is no child.
fn is_child_of(us: &str, pid: i32) -> bool {
    let mut stat = [0u8; 128];
    let Ok(length) =
        fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut stat))
    else {
        return false;
    };
    parse_parent(&stat[..length]) == Some(us)
}

/// The parent's pid. The name before it may hold anything, so the last parenthesis counts.
fn parse_parent(stat: &[u8]) -> Option<&str> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[name_end + 1..])
        .ok()?
        .split_ascii_whitespace()
        .nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_pass_for_its_parent() {
        assert_eq!(parse_parent(b"7 (a) R 1 (\xff) S 42 7 7 0"), Some("42"));
        assert_eq!(parse_parent(b"7 (cut off"), None);
        assert_eq!(parse_parent(b"7 (x) Z"), None);
    }
}
