//! Starts a program as the first process of a new PID namespace, or beside it in the present one,
//! in a signal and descriptor state chosen exactly, and tells how it ended.
//!
//! `unshare(1)` returns 1 when its child dies by a signal; this says `signal 9`.
//! It forwards nothing: tests signal the program itself, by the pid in the pid file.
//! With `child NAME` it is one of the programs that tests run below an init.

#![allow(
    clippy::disallowed_methods,
    reason = "a test tool that starts processes"
)]

use clawkeeper::host::early::{LAST_SIGNAL, SignalSet, set_disposition};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::unistd::{ForkResult, Pid, fork};
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args
        .next()
        .and_then(|arg| arg.into_string().ok())
        .as_deref()
    {
        Some("run") => launch(Options::parse(args)),
        Some("child") => child(args.filter_map(|arg| arg.into_string().ok()).collect()),
        _ => {
            panic!(
                "usage: pid1 run [OPTIONS] -- PROGRAM… | pid1 child signals|orphans N|kill-self N"
            )
        }
    }
}

#[derive(Default)]
struct Options {
    /// Stay in the present namespace: the program is not PID 1.
    same_namespace: bool,
    /// Map root in a user namespace first, so that no privilege is needed.
    user: bool,
    pid_file: Option<OsString>,
    status_file: Option<OsString>,
    /// The path of a terminal that becomes descriptors 0 to 2 and the session's own.
    terminal: Option<OsString>,
    ignore: Vec<i32>,
    block: Vec<i32>,
    close: Vec<i32>,
    /// Send this signal to the program once it blocks it, after `delay`.
    signal_once_blocked: Option<i32>,
    /// Send this signal to the program once its exec has happened, after `delay`.
    signal_after_exec: Option<i32>,
    delay: Duration,
    command: Vec<CString>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Self {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            let mut value = || args.next().expect("each of these options takes a value");
            let number = |value: OsString| -> i32 {
                value
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .expect("a number")
            };
            match arg.to_str() {
                Some("--same-namespace") => options.same_namespace = true,
                Some("--user") => options.user = true,
                Some("--pid-file") => options.pid_file = Some(value()),
                Some("--status-file") => options.status_file = Some(value()),
                Some("--terminal") => options.terminal = Some(value()),
                Some("--ignore") => options.ignore.push(number(value())),
                Some("--block") => options.block.push(number(value())),
                Some("--close") => options.close.push(number(value())),
                Some("--signal-after-exec") => options.signal_after_exec = Some(number(value())),
                Some("--signal-once-blocked") => {
                    options.signal_once_blocked = Some(number(value()));
                }
                Some("--delay-us") => {
                    let micros = u64::try_from(number(value())).expect("no negative delay");
                    options.delay = Duration::from_micros(micros);
                }
                Some("--") => break,
                _ => panic!("unknown option {}", arg.display()),
            }
        }
        options.command = args
            .map(|arg| CString::new(arg.into_vec()).expect("arguments hold no NUL"))
            .collect();
        options
    }
}

fn launch(options: Options) -> ExitCode {
    die_with_parent();
    if !options.same_namespace {
        enter_namespaces(options.user);
    }
    let (exec_happened, hold) = std::io::pipe().expect("a pipe");
    let launcher = std::process::id();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop(exec_happened);
            become_program(&options, launcher)
        }
        ForkResult::Parent { child } => {
            drop(hold);
            watch(&options, child, exec_happened)
        }
    }
}

fn die_with_parent() {
    // SAFETY: this prctl takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

fn enter_namespaces(user: bool) {
    let mut flags = libc::CLONE_NEWPID;
    if user {
        flags |= libc::CLONE_NEWUSER;
    }
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    // SAFETY: takes a number.
    nix::errno::Errno::result(unsafe { libc::unshare(flags) }).expect("new namespaces");
    if user {
        fs::write("/proc/self/setgroups", "deny").expect("deny setgroups");
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).expect("map root");
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).expect("map root's group");
    }
}

fn become_program(options: &Options, launcher: u32) -> ! {
    die_with_parent();
    if options.same_namespace {
        assert_eq!(
            std::os::unix::process::parent_id(),
            launcher,
            "the launcher died meanwhile"
        );
    } else {
        // Only here: our own /proc is to go on naming processes as the tests do.
        // SAFETY: takes a number.
        let answer = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        nix::errno::Errno::result(answer).expect("mounts of its own");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        mount(
            Some("proc"),
            "/proc",
            Some("proc"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("a /proc of the new namespace");
    }
    if let Some(terminal) = &options.terminal {
        nix::unistd::setsid().expect("a session");
        let terminal = fs::File::options()
            .read(true)
            .write(true)
            .open(terminal)
            .expect("terminal");
        nix::unistd::dup2_stdin(&terminal).expect("stdin");
        nix::unistd::dup2_stdout(&terminal).expect("stdout");
        nix::unistd::dup2_stderr(&terminal).expect("stderr");
    }
    // Whoever started the tests may ignore what it likes, and Rust's runtime ignores SIGPIPE.
    for number in 1..=LAST_SIGNAL {
        let ignored = options.ignore.contains(&number);
        set_disposition(
            number,
            if ignored {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            },
        );
    }
    SignalSet::of(&options.block).set_as_mask();
    for descriptor in &options.close {
        // SAFETY: nothing here uses the descriptor again; the exec follows.
        unsafe {
            libc::close(*descriptor);
        }
    }
    let error = nix::unistd::execv(&options.command[0], &options.command).unwrap_err();
    panic!("cannot execute {:?}: {error}", options.command[0]);
}

/// Reports the pid, the exec and the end, and ends in the same way as far as a code can say it.
fn watch(options: &Options, program: Pid, mut exec_happened: std::io::PipeReader) -> ExitCode {
    if let Some(path) = &options.pid_file {
        fs::write(path, format!("{program}\n")).expect("pid file");
    }
    // The pipe is close-on-exec: its end is the exec.
    exec_happened
        .read_to_end(&mut Vec::new())
        .expect("the pipe");
    if let Some(number) = options.signal_once_blocked {
        // The mask is empty at exec, so this is the program's own doing, and it is before main.
        while !blocks(program, number) {
            std::hint::spin_loop();
        }
        spin(options.delay);
        send(program, number);
    }
    if let Some(number) = options.signal_after_exec {
        spin(options.delay);
        send(program, number);
    }
    let status = loop {
        let mut status = 0;
        // SAFETY: status is valid for the call.
        if unsafe { libc::waitpid(program.as_raw(), &raw mut status, 0) } == program.as_raw() {
            break ExitStatus::from_raw(status);
        }
    };
    let (word, number) = match status.code() {
        Some(code) => ("exit", code),
        None => (
            "signal",
            status.signal().expect("ended, so by a code or a signal"),
        ),
    };
    if let Some(path) = &options.status_file {
        fs::write(path, format!("{word} {number}\n")).expect("status file");
    }
    let code = if word == "exit" { number } else { 128 + number };
    ExitCode::from(u8::try_from(code).expect("a code, or 128 and at most 64"))
}

/// True from the mask on. A wait for signals takes them out of the mask that /proc shows, but by then
/// Rust's runtime has set its handlers.
fn blocks(program: Pid, number: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{program}/status")).expect("it runs");
    let set = |name: &str| {
        let text = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a signal set");
        u64::from_str_radix(text.trim(), 16).expect("hexadecimal")
    };
    set("SigBlk:") & (1 << (number - 1)) != 0 || set("SigCgt:") != 0
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn send(program: Pid, number: i32) {
    // SAFETY: takes two numbers.
    unsafe {
        libc::kill(program.as_raw(), number);
    }
}

fn child(args: Vec<String>) -> ExitCode {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["signals"] => say_signals(),
        ["orphans", count] => orphans(count.parse().expect("a count")),
        ["kill-self", number] => {
            // SAFETY: takes two numbers.
            unsafe {
                libc::kill(libc::getpid(), number.parse().expect("a signal"));
            }
            ExitCode::FAILURE
        }
        _ => panic!("unknown child {args:?}"),
    }
}

/// Prints `ready`, then the number of every signal that arrives; SIGTERM ends it with 42.
fn say_signals() -> ExitCode {
    SignalSet::ALL.block();
    let mut out = std::io::stdout();
    writeln!(out, "ready").expect("stdout");
    loop {
        if let Some(number) = SignalSet::ALL.wait(None) {
            writeln!(out, "{number}").expect("stdout");
            if number == libc::SIGTERM {
                return ExitCode::from(42);
            }
        }
    }
}

/// Leaves `count` processes to init, lets them all end at once, and waits until none is left to
/// reap. Prints the milliseconds from the one to the other.
fn orphans(count: usize) -> ExitCode {
    let (hold_reader, hold) = std::io::pipe().expect("a pipe");
    let (mut pids, pids_writer) = std::io::pipe().expect("a pipe");
    // SAFETY: this process has one thread.
    if let ForkResult::Child = unsafe { fork() }.expect("fork") {
        drop(hold);
        make_orphans(count, hold_reader, pids_writer);
    }
    drop((hold_reader, pids_writer));
    let mut text = String::new();
    pids.read_to_string(&mut text).expect("pids");
    let orphans: Vec<i32> = text
        .lines()
        .map(|line| line.parse().expect("a pid per line"))
        .collect();
    assert_eq!(orphans.len(), count, "every orphan came to be");
    nix::sys::wait::wait().expect("their parent ended, so they are init's");
    let start = Instant::now();
    drop(hold);
    for orphan in orphans {
        // SAFETY: takes two numbers; signal 0 only asks. A zombie still answers.
        while unsafe { libc::kill(orphan, 0) } == 0 {
            std::thread::yield_now();
        }
    }
    println!("{}", start.elapsed().as_millis());
    ExitCode::SUCCESS
}

fn make_orphans(count: usize, mut hold: std::io::PipeReader, mut pids: std::io::PipeWriter) -> ! {
    for _ in 0..count {
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                drop(pids);
                let _ = hold.read(&mut [0]);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => writeln!(pids, "{child}").expect("pids"),
        }
    }
    // SAFETY: ends this process at once; the orphans are init's from here on.
    unsafe { libc::_exit(0) }
}
