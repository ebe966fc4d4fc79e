//! The child between clone and exec. Everything here is async-signal-safe: it may run in our memory,
//! beside threads that hold locks, so it makes system calls and nothing else.

use super::shared::Outcome;
use super::{Failure, Stage};
use crate::host::early::{LAST_SIGNAL, SignalSet, set_disposition};
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

/// All that the child needs, laid out before it exists.
pub(super) struct Plan<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) candidates: *const *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) shell_argv: *mut *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) cwd: *const c_char,
    pub(super) streams: [Option<RawFd>; 3],
    pub(super) process_group: bool,
    pub(super) foreground: Option<RawFd>,
    pub(super) ids: Option<(libc::uid_t, libc::gid_t)>,
    pub(super) groups: Vec<libc::gid_t>,
    pub(super) parent_death_signal: Option<c_int>,
    pub(super) parent: u32,
    pub(super) no_new_privs: bool,
    pub(super) oom_score_adj: Option<Vec<u8>>,
    pub(super) mask: SignalSet,
    pub(super) ignored: SignalSet,
}

/// The child, from clone to exec.
pub(super) extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: clone_and_run passes a Plan that nobody else touches while we run.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let (stage, errno) = match set_up(plan) {
        Ok(()) => (Stage::Exec, execute(plan)),
        Err(failure) => failure,
    };
    plan.outcome.errno.store(errno as i32, Ordering::Relaxed);
    plan.outcome
        .stage
        .store(stage as i32 + 1, Ordering::Relaxed);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// The order matters: the OOM score while we may still write it, descriptors before the ids could
/// forbid them, the death signal after the ids (which clear it), the signal mask last of all and
/// after every handler. From the ids on others may stop us, so what can come before does.
fn set_up(plan: &Plan<'_>) -> Result<(), Failure> {
    // SAFETY: system calls on numbers and on pointers that the Plan keeps valid.
    unsafe {
        if plan.process_group {
            check(Stage::ProcessGroup, libc::setpgid(0, 0))?;
        }
        if let Some(terminal) = plan.foreground {
            // SIGTTOU is blocked, so this works from the background. A terminal that refuses
            // leaves the command in the background, which is better than not running it.
            libc::tcsetpgrp(terminal, libc::getpgid(0));
        }
        if let Some(score) = &plan.oom_score_adj {
            // That it was not set is no reason not to run.
            let _ = write_oom_score_adj(score);
        }
        for (target, stream) in (0..).zip(plan.streams) {
            if let Some(stream) = stream {
                check(Stage::Stdio, libc::dup2(stream, target))?;
            }
        }
        for signal in 1..=LAST_SIGNAL {
            let is_ignored = plan.ignored.contains(signal);
            let disposition = if is_ignored {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            };
            set_disposition(signal, disposition);
        }
        if let Some((uid, gid)) = plan.ids {
            let groups = &plan.groups;
            call(
                Stage::Groups,
                libc::SYS_setgroups,
                [groups.len(), groups.as_ptr() as usize, 0],
            )?;
            call(Stage::Gid, libc::SYS_setresgid, [gid as usize; 3])?;
            call(Stage::Uid, libc::SYS_setresuid, [uid as usize; 3])?;
        }
        if plan.no_new_privs {
            check(
                Stage::NoNewPrivs,
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            )?;
        }
        if let Some(signal) = plan.parent_death_signal {
            check(
                Stage::ParentDeathSignal,
                libc::prctl(libc::PR_SET_PDEATHSIG, signal),
            )?;
            // A parent that died before this line sends nothing any more.
            if libc::getppid().cast_unsigned() != plan.parent {
                libc::_exit(127);
            }
        }
        if !plan.cwd.is_null() {
            check(Stage::WorkingFolder, libc::chdir(plan.cwd))?;
        }
    }
    plan.mask.set_as_mask();
    Ok(())
}

/// As execvp(3): a denied candidate is remembered while others are tried, and a file in no known
/// format is given to the shell. Returns only when nothing could be executed.
fn execute(plan: &Plan<'_>) -> Errno {
    let mut denied = false;
    let mut candidate = plan.candidates;
    // SAFETY: candidates, argv, shell_argv and envp end with NULL, and shell_argv has its slot for
    // the script at 1; all of them live in the Plan's owner.
    unsafe {
        let is_search = !(*candidate.add(1)).is_null();
        while !(*candidate).is_null() {
            libc::execve(*candidate, plan.argv, plan.envp);
            let mut errno = Errno::last();
            if errno == Errno::ENOEXEC {
                *plan.shell_argv.add(1) = *candidate;
                libc::execve(c"/bin/sh".as_ptr(), plan.shell_argv, plan.envp);
                // A missing shell must not pass for a missing command.
                errno = Errno::ENOEXEC;
            }
            match errno {
                Errno::EACCES => denied = true,
                Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::ENODEV
                | Errno::ESTALE
                | Errno::ETIMEDOUT
                | Errno::ENAMETOOLONG
                    if is_search => {}
                errno => return errno,
            }
            candidate = candidate.add(1);
        }
    }
    if denied { Errno::EACCES } else { Errno::ENOENT }
}

fn write_oom_score_adj(score: &[u8]) -> Result<(), Errno> {
    // SAFETY: a constant path, and a buffer of the length given.
    unsafe {
        let file = Errno::result(libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        ))?;
        let written = Errno::result(libc::write(file, score.as_ptr().cast(), score.len()));
        libc::close(file);
        written.map(drop)
    }
}

fn check(stage: Stage, answer: c_int) -> Result<(), Failure> {
    if answer == -1 {
        Err((stage, Errno::last()))
    } else {
        Ok(())
    }
}

/// # Safety
/// The arguments fit the system call.
unsafe fn call(stage: Stage, number: libc::c_long, args: [usize; 3]) -> Result<(), Failure> {
    // SAFETY: passed on to our caller.
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    if answer == -1 {
        Err((stage, Errno::last()))
    } else {
        Ok(())
    }
}
