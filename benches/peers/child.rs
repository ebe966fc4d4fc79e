//! The child that every supervisor starts: it tells the time of its first instruction, then plays its role.
//!
//! It never returns to `main`, and it never outlives a SIGTERM.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{Pid, pause};

use crate::role::Role;
use crate::wire::{Kind, Record, now_ns};
use crate::{gateway, lines, orphans};

/// The pipe to the harness, for the signal handler.
static TO_HARNESS: AtomicI32 = AtomicI32::new(-1);

/// The child's way to the harness and back.
pub(crate) struct Line {
    to_harness: File,
    go: PathBuf,
}

impl Line {
    /// Tells the harness what happened, as of now.
    pub(crate) fn say(&self, kind: Kind, value: u64) {
        self.say_at(kind, now_ns(), value);
    }

    /// Tells the harness what happened at a time taken earlier.
    pub(crate) fn say_at(&self, kind: Kind, at_ns: u64, value: u64) {
        Record { kind, at_ns, value }.send(&self.to_harness);
    }

    /// Blocks until the harness gives the word.
    pub(crate) fn wait_for_go(&self) {
        if let Ok(mut go) = File::open(&self.go) {
            let _ = go.read(&mut [0]);
        }
    }
}

/// Plays the role named by the arguments that follow the hidden first one.
pub(crate) fn main(first_instruction_ns: u64, args: impl Iterator<Item = OsString>) -> ! {
    let args: Vec<OsString> = args.take(4).collect();
    let [to_harness, go, name, value] = args.as_slice() else {
        die(64);
    };
    let role = Role::parse(&name.to_string_lossy(), &value.to_string_lossy());
    let pipe = OpenOptions::new().write(true).open(to_harness);
    let (Some(role), Ok(to_harness)) = (role, pipe) else {
        die(64);
    };
    // Before the harness hears of us: whoever was seen to start can also be stopped.
    let handler_end = to_harness.try_clone().map_or(-1, IntoRawFd::into_raw_fd);
    TO_HARNESS.store(handler_end, Ordering::Relaxed);
    die_on_term();
    let line = Line {
        to_harness,
        go: go.into(),
    };
    line.say_at(Kind::Started, first_instruction_ns, 0);
    play(role, &line);
    loop {
        pause();
    }
}

fn play(role: Role, line: &Line) {
    match role {
        Role::Wait => {}
        Role::Crash => {
            line.say(Kind::Dying, 0);
            die(1);
        }
        Role::Done(after_ms) => {
            std::thread::sleep(Duration::from_millis(after_ms));
            line.say(Kind::Dying, 0);
            die(0);
        }
        Role::Killed(after_ms) => {
            std::thread::sleep(Duration::from_millis(after_ms));
            line.say(Kind::Dying, 0);
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
        Role::Eat(after_ms) => {
            std::thread::sleep(Duration::from_millis(after_ms));
            line.say(Kind::Dying, 0);
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
            }
        }
        Role::Gateway(port) => gateway::serve(port),
        Role::Orphans(count) => orphans::leave(count, line),
        Role::Lines(count) => {
            line.wait_for_go();
            let written = lines::write(count);
            line.say(Kind::Finished, written);
        }
    }
}

fn die_on_term() {
    let action = SigAction::new(
        SigHandler::Handler(on_term),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler calls only clock_gettime, write and _exit, which are async-signal-safe.
    let installed = unsafe { sigaction(Signal::SIGTERM, &action) };
    if installed.is_err() {
        die(71);
    }
}

extern "C" fn on_term(_signal: libc::c_int) {
    let record = Record {
        kind: Kind::Terminated,
        at_ns: now_ns(),
        value: 0,
    };
    let bytes = record.encode();
    // SAFETY: the buffer lives for the call, and its length is its own.
    unsafe {
        libc::write(
            TO_HARNESS.load(Ordering::Relaxed),
            bytes.as_ptr().cast(),
            bytes.len(),
        )
    };
    die(0);
}

/// Ends the child without a destructor in between, as a crash does.
pub(crate) fn die(code: i32) -> ! {
    // SAFETY: `_exit` takes any code, runs no handler and does not return.
    unsafe { libc::_exit(code) }
}
