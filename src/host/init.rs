//! Init mode: runs one command as a plain init does, with nothing of the gateway's care.
//!
//! One thread, no runtime, and every signal blocked: it takes signals one at a time from the
//! kernel's queue, so none is lost, and nothing runs in a handler.
//! The command gets environment, working folder, umask, descriptors and signal state as we got
//! them; another user, where one is named, gets a HOME of its own. It is the leader of a process group of its own, so that a Ctrl-C reaches it once, from
//! the terminal, and not again from us.
//!
//! It never restarts anything, and never ends a process that is not below the command.

#![allow(
    clippy::disallowed_methods,
    reason = "this module reads the clock and our own environment"
)]

use super::defect;
use super::early::{self, SignalSet};
use super::launch::Account;
use super::reap::{self, Report, Waited};
use super::spawn::{SignalSetup, SpawnError, Spec, spawn};
use crate::exit::Exit;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Reaping makes a pause for signals after this many ends.
const REAP_AT_ONCE: usize = 1024;

/// What asks a program to stop; the stop timeout runs from the first of them.
const STOPS: SignalSet = SignalSet::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGQUIT]);

/// How init mode differs from the plainest init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// Who gets the signals that we get.
    pub forward_to: ForwardTo,
    /// How long after a forwarded stop the command is killed; `None` for never.
    pub stop_timeout: Option<Duration>,
    /// How long processes that the command left behind have between SIGTERM and SIGKILL.
    pub leftover_grace: Duration,
    /// Whom the command runs as; `None` for who we are.
    pub account: Option<Account>,
}

impl Default for InitOptions {
    /// The grace leaves room within the 5 seconds that Fly gives a machine to stop.
    fn default() -> Self {
        Self {
            forward_to: ForwardTo::Command,
            stop_timeout: None,
            leftover_grace: Duration::from_secs(2),
            account: None,
        }
    }
}

/// Who gets the signals that we get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardTo {
    /// The command alone.
    Command,
    /// The command's process group.
    Group,
}

/// Runs `command` until it ends and returns its exit code, `128 + signal` if a signal ended it.
///
/// Says in one line on standard error why a command cannot be run, and returns 127 or 126 as a
/// shell does. An empty command is a wrong command line.
pub fn run(command: &[OsString], options: &InitOptions) -> u8 {
    let Some((program, args)) = command.split_first() else {
        complain("no command to run");
        return Exit::Usage.code();
    };
    early::inherited();
    SignalSet::ALL.block();
    if !reap::is_pid_1()
        && let Err(errno) = reap::become_subreaper()
    {
        complain(&format!("cannot adopt orphans: {}", errno.desc()));
    }
    let terminal = Terminal::find();
    let foreground = terminal
        .filter(|terminal| terminal.is_ours())
        .map(|terminal| terminal.0);
    match start(program, args, options.account.as_ref(), foreground) {
        Err(error) => {
            if let Some(terminal) = terminal {
                terminal.take_back(None);
            }
            complain(&why_not(&error));
            error.exit().code()
        }
        Ok(pid) => {
            defect::keep(pid, options.stop_timeout.unwrap_or(Duration::MAX));
            let status = Init {
                main: pid,
                terminal,
                options,
            }
            .attend();
            defect::release();
            if let Some(terminal) = terminal {
                terminal.take_back(Some(pid));
            }
            reap::end_leftovers(options.leftover_grace, STOPS);
            exit_code(status)
        }
    }
}

fn start(
    program: &OsStr,
    args: &[OsString],
    account: Option<&Account>,
    foreground: Option<RawFd>,
) -> Result<Pid, SpawnError> {
    let other = account.filter(|account| account.is_switch);
    let env = other.map(|account| {
        let mut environment = std::env::vars_os().collect();
        account.adjust(&mut environment);
        environment
    });
    spawn(Spec {
        program: program.to_owned(),
        args: args.to_vec(),
        env,
        cwd: None,
        stdin: None,
        stdout: None,
        stderr: None,
        process_group: true,
        foreground,
        credentials: other.and_then(Account::credentials),
        // A command may outlive a killed init on purpose (nohup); the gateway may not.
        parent_death_signal: None,
        no_new_privs: false,
        oom_score_adj: None,
        signals: SignalSetup::AsInherited,
    })
}

struct Init<'a> {
    main: Pid,
    terminal: Option<Terminal>,
    options: &'a InitOptions,
}

impl Init<'_> {
    /// Forwards and reaps until the command has ended.
    fn attend(&self) -> ExitStatus {
        let mut kill_at = None;
        let mut more_to_reap = false;
        loop {
            let limit = if more_to_reap {
                Some(Duration::ZERO)
            } else {
                remaining(kill_at)
            };
            match SignalSet::ALL.wait(limit) {
                None | Some(libc::SIGCHLD) => {}
                Some(signal) => {
                    self.forward(signal);
                    if let Some(timeout) = self.options.stop_timeout
                        && STOPS.contains(signal)
                        && kill_at.is_none()
                    {
                        kill_at = Instant::now().checked_add(timeout);
                    }
                    if !more_to_reap {
                        continue;
                    }
                }
            }
            let mut count = 0;
            for waited in reap::reap(self.report()).take(REAP_AT_ONCE) {
                count += 1;
                if let Some(status) = self.look_at(waited) {
                    return status;
                }
            }
            more_to_reap = count == REAP_AT_ONCE;
            if kill_at.is_some_and(|kill_at| Instant::now() >= kill_at) {
                self.send(libc::SIGKILL);
                kill_at = None;
            }
        }
    }

    /// Stops matter only where a person at a terminal can make them and undo them.
    fn report(&self) -> Report {
        if self.terminal.is_some() {
            Report::EndsAndStops
        } else {
            Report::Ends
        }
    }

    fn look_at(&self, waited: Waited) -> Option<ExitStatus> {
        if waited.pid != self.main {
            return None;
        }
        let Some(stop) = waited.status.stopped_signal() else {
            return Some(waited.status);
        };
        if let Some(terminal) = self.terminal {
            self.follow_stop(stop, terminal);
        }
        None
    }

    fn forward(&self, signal: i32) {
        if signal == libc::SIGCONT
            && let Some(terminal) = self.terminal
        {
            // `fg` gave the terminal to us, and it is the command's group that was stopped.
            self.hand_over(terminal);
            kill(-self.main.as_raw(), signal);
            return;
        }
        self.send(signal);
    }

    fn send(&self, signal: i32) {
        match self.options.forward_to {
            ForwardTo::Command => kill(self.main.as_raw(), signal),
            ForwardTo::Group => kill(-self.main.as_raw(), signal),
        }
    }

    /// The command was stopped: let the shell that started us see a stopped job.
    ///
    /// Ctrl-Z stops the command's group and not ours, and the shell waits for us. We stop too, and
    /// the SIGCONT that wakes us is waiting in the queue to be forwarded.
    /// In a container nobody could continue us. There the kernel would throw the keyboard's stop
    /// away if we were not between it and the command, so we undo it.
    fn follow_stop(&self, stop: i32, terminal: Terminal) {
        if matches!(stop, libc::SIGTTIN | libc::SIGTTOU) && terminal.is_ours() {
            // `fg` after `&`: the terminal is ours by now, and so it is the command's to use.
            self.hand_over(terminal);
            kill(-self.main.as_raw(), libc::SIGCONT);
            return;
        }
        // The shell expects the whole job to stop, also what runs beside us in a pipeline.
        kill(0, libc::SIGTSTP);
        let without_stop = SignalSet::ALL.without(libc::SIGTSTP);
        // We stop inside this call; or the kernel finds our group orphaned, and we do not.
        without_stop.set_as_mask();
        SignalSet::ALL.set_as_mask();
        let continued = SignalSet::of(&[libc::SIGCONT]).is_pending();
        if stop == libc::SIGTSTP && !continued {
            kill(-self.main.as_raw(), libc::SIGCONT);
        }
    }

    fn hand_over(&self, terminal: Terminal) {
        if terminal.is_ours() {
            terminal.give_to(self.main);
        }
    }
}

/// Our controlling terminal, by the first of descriptors 0 to 2 that is open on it.
#[derive(Debug, Clone, Copy)]
struct Terminal(RawFd);

impl Terminal {
    fn find() -> Option<Self> {
        // The kernel names a foreground group only to processes whose own terminal it is.
        (0..=2)
            .map(Self)
            .find(|terminal| terminal.foreground().is_some())
    }

    /// True when our group is in the foreground, so that the terminal is ours to give away.
    fn is_ours(self) -> bool {
        self.foreground() == Some(getpgrp())
    }

    fn foreground(self) -> Option<Pid> {
        tcgetpgrp(self.descriptor()).ok()
    }

    /// SIGTTOU is blocked, so the kernel lets us do it from the background too.
    fn give_to(self, group: Pid) {
        // It fails when the group or the terminal is gone; then there is nothing to give.
        let _ = tcsetpgrp(self.descriptor(), group);
    }

    /// A script that started us goes on using the terminal, and takes nothing back by itself.
    ///
    /// Only a foreground that is `ended` or that nobody is left in: another job that the shell put
    /// there keeps it.
    fn take_back(self, ended: Option<Pid>) {
        let Some(group) = self.foreground() else {
            return;
        };
        if ended == Some(group) || nix::sys::signal::killpg(group, None) == Err(Errno::ESRCH) {
            self.give_to(getpgrp());
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: 0 to 2 are open from before main to the end.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

fn remaining(until: Option<Instant>) -> Option<Duration> {
    until.map(|until| until.saturating_duration_since(Instant::now()))
}

/// nix knows no real-time signals. ESRCH: the target has ended and its end is on the way to us;
/// EPERM: the command became another user, and the kernel's answer is final.
fn kill(target: libc::pid_t, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe {
        libc::kill(target, signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    // The kernel keeps 8 bits of a code, and 128 + 64 fits as well.
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(Exit::Internal.code())
}

/// One line: what, why, and what to look at where the kernel's own words mislead.
fn why_not(error: &SpawnError) -> String {
    let is_path = error.program.as_encoded_bytes().contains(&b'/');
    let hint = match (error.exit(), is_path) {
        (Exit::CommandNotFound, false) => " (not in PATH)",
        (Exit::CommandNotFound, true) if Path::new(&error.program).exists() => {
            " (the file exists: the interpreter or loader it names does not)"
        }
        (Exit::CannotExecute, true) if Path::new(&error.program).is_dir() => " (a folder)",
        _ => "",
    };
    format!("{error}: {}{hint}", error.errno.desc())
}

/// A closed standard error is no reason to fail.
fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "clawkeeper: {why}");
}
