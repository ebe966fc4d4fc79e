//! Defects of clawkeeper itself: what a panic does, on whichever thread it happens.
//!
//! A panic is made by failing a call that cannot fail: its library panics, in a test build and in a release alike.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and threads"
)]

mod support;

use clawkeeper::host::defect::{self, DISK_THREAD};
use nix::libc;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::keeper::{Kept, Plan};
use support::{Place, Process, poll_until, read_lossy, skip};

const STRACE: &str = "/usr/bin/strace";
const LOST: &str = "a defect in clawkeeper: a task is given up, the rest goes on";
const ENDS: &str = "a defect in clawkeeper: it ends in order, with exit code 70";

#[test]
fn a_panic_in_the_loop_stops_the_gateway_in_order_and_exits_70() {
    let Some(strace) = Tracer::find() else { return };
    for place in [Place::Pid1, Place::Subreaper] {
        // A helper in a session of its own is ended too.
        let plan = Plan::new(place).gateway(["--helper"]);
        let kept = plan.start();
        kept.wait_until_ready();
        let mut tracer = strace.fail_waits(kept.pid());
        let ended = kept.end();
        tracer.wait();
        assert_eq!(ended.status, "exit 70", "{}", ended.text);
        assert_eq!(plan.diary("drained").len(), 1, "{}", ended.text);
        assert_eq!(ended.line(ENDS)["thread"], "main", "{}", ended.text);
        assert!(!ended.text.contains("panicked"), "{}", ended.text);
    }
}

#[test]
fn a_gateway_that_does_not_drain_is_killed_after_the_stop_timeout_in_a_panic_too() {
    let Some(strace) = Tracer::find() else { return };
    let plan = Plan::new(Place::Subreaper)
        .options(["--stop-timeout", "1s"])
        .gateway(["--ignore-term"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let mut tracer = strace.fail_waits(kept.pid());
    let ended = kept.end();
    tracer.wait();
    assert_eq!(ended.status, "exit 70", "{}", ended.text);
    assert_eq!(plan.diary("term").len(), 1, "{}", ended.text);
}

#[test]
fn a_panic_on_another_thread_has_the_loop_stop_the_gateway_and_exits_70() {
    let Some(strace) = Tracer::find() else { return };
    let plan = Plan::new(Place::Subreaper);
    let kept = plan.start();
    kept.wait_until_ready();
    let watching = poll_until(support::PATIENCE, "the watch's thread", || {
        thread_called(&kept, "notify").ok_or_else(|| kept.text())
    });
    let mut tracer = strace.fail_waits(watching);
    // Whatever happens in the folder wakes it.
    fs::write(plan.file("something"), "").expect("written");
    let ended = kept.end();
    tracer.wait();
    assert_eq!(ended.status, "exit 70", "{}", ended.text);
    assert_eq!(plan.diary("drained").len(), 1, "{}", ended.text);
    ended.line("stopped");
    assert!(!ended.text.contains("panicked"), "{}", ended.text);
}

/// Runs itself again as a process that loses its threads.
#[test]
fn two_disk_threads_are_given_up_without_a_word_of_what_they_read_and_a_third_ends_it() {
    const ROLE: &str = "CLAWKEEPER_TEST_LOSES_THREADS";
    if std::env::var_os(ROLE).is_some() {
        return lose_threads();
    }
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--nocapture", "--exact"])
        .arg("two_disk_threads_are_given_up_without_a_word_of_what_they_read_and_a_third_ends_it")
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while said.lines().filter(|line| line.contains(LOST)).count() < 2 {
        let count = stderr.read_line(&mut said).expect("text");
        assert_ne!(count, 0, "it ended: {said}");
    }
    drop(child.stdin.take());
    stderr.read_to_string(&mut said).expect("text");
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}: {said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("tests/defect.rs:"), "it says where: {said}");
}

fn lose_threads() {
    defect::install();
    let lose = || {
        std::thread::Builder::new()
            .name(DISK_THREAD.to_owned())
            .spawn(|| {
                let read = "hunter2".to_owned();
                panic!("unexpected {read}")
            })
            .expect("a thread");
    };
    lose();
    lose();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    lose();
    loop {
        std::thread::park();
    }
}

struct Tracer;

impl Tracer {
    fn find() -> Option<Self> {
        if !Path::new(STRACE).exists() {
            skip("strace is not installed");
            return None;
        }
        Some(Self)
    }

    /// From here on a thread cannot wait for events: epoll says that its descriptor is none.
    fn fail_waits(&self, thread: i32) -> Process {
        Process::start(
            Command::new(STRACE)
                .args(["-qq", "-o", "/dev/null", "-p", &thread.to_string()])
                .args(["-e", "trace=/^epoll_p?wait$"])
                .args(["-e", "inject=/^epoll_p?wait$:error=EBADF"]),
        )
    }
}

fn thread_called(kept: &Kept, start: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", kept.pid())).ok()?;
    tasks
        .flatten()
        .find(|task| read_lossy(&task.path().join("comm")).starts_with(start))
        .and_then(|task| task.file_name().to_str()?.parse().ok())
}
