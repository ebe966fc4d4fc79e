//! A memory cgroup (v1) for one test, and what the kernel's log says of it.

use super::{PATIENCE, poll_until};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

static MADE: AtomicUsize = AtomicUsize::new(0);

/// Removed when it is dropped; whatever runs in it must have ended by then.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` where none can be made: without root, or on a machine without cgroup v1.
    pub(crate) fn new(limit_bytes: u64) -> Option<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = format!(
            "/sys/fs/cgroup/memory/clawkeeper-{}-{number}",
            std::process::id()
        );
        fs::create_dir(&path).ok()?;
        let group = Self(path.into());
        fs::write(
            group.0.join("memory.limit_in_bytes"),
            limit_bytes.to_string(),
        )
        .ok()?;
        Some(group)
    }

    /// Changes its limit.
    pub(crate) fn set_limit(&self, bytes: u64) {
        fs::write(self.0.join("memory.limit_in_bytes"), bytes.to_string()).expect("its limit");
    }

    /// A line of shell that moves the shell into it.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }

    /// The file that counts its kills.
    pub(crate) fn counter(&self) -> PathBuf {
        self.0.join("memory.oom_control")
    }

    /// Has the kernel kill a process in it that is none of the gateway's, by taking memory without end.
    pub(crate) fn kill_a_stranger(&self) {
        let eat = format!(
            "{}; exec {} gateway --end eat --port 0",
            self.enter(),
            super::example("fake-gateway").display()
        );
        let status = Command::new("/bin/sh").args(["-c", &eat]).status();
        let status = status.expect("a shell");
        assert_eq!(super::describe(status), "signal 9", "the kernel ends it");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy until the kernel has let its last process go.
        poll_until(PATIENCE, "the cgroup's end", || fs::remove_dir(&self.0));
    }
}

/// The time of the kernel's own record of this kill, in microseconds after boot; `None` where the log cannot be read.
pub(crate) fn killed_at_us(pid: i32) -> Option<u64> {
    let log = Command::new("dmesg").arg("--raw").output().ok()?;
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let wanted = format!("Killed process {pid} (");
    let line = log.lines().rev().find(|line| line.contains(&wanted))?;
    let (_, rest) = line.split_once('[')?;
    let (time, _) = rest.split_once(']')?;
    let (seconds, micros) = time.trim().split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}
