//! Asks the kernel which out-of-memory kills there were: its counters, and its log. Reads only, and never waits.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads /proc, /sys and /dev/kmsg"
)]

use super::memory::Groups;
use crate::core::oom::{self, KILLS_MAX, OomCount, OomEvidence};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek, read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The kernel's first PID namespace has this inode on every machine (`PID_NS_INIT_INO` in linux/nsfs.h).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// One look takes in at most this many records; a kill with its list of tasks takes a few hundred.
const RECORDS_MAX: usize = 8192;

/// The kernel gives one record a read, of at most 8 KB (`CONSOLE_EXT_LOG_MAX`, later `PRINTK_MESSAGE_MAX`).
const RECORD_MAX_BYTES: usize = 8192;

/// What the kernel has counted and logged so far. A look tells what has come since the look before.
#[derive(Debug)]
pub struct OomWatch {
    counters: Vec<Counter>,
    log: Option<KernelLog>,
}

#[derive(Debug)]
struct Counter {
    path: PathBuf,
    kills: u64,
    is_ours: bool,
}

/// The kernel's log from a place on.
#[derive(Debug)]
struct KernelLog {
    fd: OwnedFd,
}

impl OomWatch {
    /// Begins to watch the counters of our cgroups or, where there is none, the machine's; and the log.
    ///
    /// A cgroup's counter covers kills for want of memory on the whole machine too.
    /// `machine_is_ours` is false in a container, where `/proc/vmstat` counts the whole host.
    #[must_use]
    pub fn begin(root: &Path, machine_is_ours: bool) -> Self {
        let groups = Groups::of_ourselves(root);
        let counter = |path: PathBuf, is_ours| {
            Some(Counter {
                kills: kills(&path)?,
                path,
                is_ours,
            })
        };
        let v2 = groups
            .v2
            .and_then(|group| counter(group.join("memory.events"), true));
        let v1 = groups
            .v1
            .and_then(|group| counter(group.join("memory.oom_control"), true));
        let mut counters: Vec<_> = v2.into_iter().chain(v1).collect();
        if counters.is_empty() {
            counters.extend(counter(root.join("proc/vmstat"), machine_is_ours));
        }
        Self {
            counters,
            log: KernelLog::open(root),
        }
    }

    /// What has come since the last look.
    #[must_use]
    pub fn look(&mut self) -> OomEvidence {
        let is_watched = self.log.is_some() || self.counters.iter().any(|it| it.is_ours);
        let rises = self.counters.iter_mut().filter_map(Counter::rise);
        // Every counter moves on; the first is told, ours before the host's.
        let count = rises.collect::<Vec<_>>().into_iter().next();
        let mut evidence = OomEvidence {
            count,
            kills: Vec::new(),
            log_is_complete: false,
            is_watched,
        };
        if let Some(log) = &self.log {
            log.read(&mut evidence);
        }
        evidence
    }
}

impl Counter {
    fn rise(&mut self) -> Option<OomCount> {
        let now = kills(&self.path)?;
        let before = std::mem::replace(&mut self.kills, now);
        Some(OomCount {
            source: self.path.display().to_string(),
            kills: now.checked_sub(before).filter(|kills| *kills > 0)?,
            is_ours: self.is_ours,
        })
    }
}

impl KernelLog {
    /// From its present end on. `None` where it may not be read, or where its pids are not ours: in a PID
    /// namespace of its own the same number is another process.
    fn open(root: &Path) -> Option<Self> {
        let namespace = std::fs::read_link(root.join("proc/self/ns/pid")).ok()?;
        if namespace.as_os_str() != FIRST_PID_NAMESPACE {
            return None;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = open(&root.join("dev/kmsg"), flags, Mode::empty()).ok()?;
        lseek(&fd, 0, Whence::SeekEnd).ok()?;
        Some(Self { fd })
    }

    fn read(&self, evidence: &mut OomEvidence) {
        let mut record = [0; RECORD_MAX_BYTES];
        let mut has_gap = false;
        for _ in 0..RECORDS_MAX {
            match read(&self.fd, &mut record) {
                Ok(0) | Err(Errno::EAGAIN) => {
                    evidence.log_is_complete = !has_gap;
                    return;
                }
                Ok(length) => {
                    if let Some(kill) = oom::parse_record(&record[..length]) {
                        if evidence.kills.len() < KILLS_MAX {
                            evidence.kills.push(kill);
                        } else {
                            has_gap = true;
                        }
                    }
                }
                // Overwritten before we came: the next read goes on at the oldest record there is.
                Err(Errno::EPIPE) => has_gap = true,
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// All three files have a line `oom_kill N`.
fn kills(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::tree;
    use super::*;
    use nix::unistd::{pipe2, write};

    #[test]
    fn a_rise_is_seen_once_in_a_cgroup_or_else_in_the_machine() {
        let machine = ("proc/vmstat", "nr_free_pages 1\noom_kill 7\n");
        let group = (
            "sys/fs/cgroup/memory.events",
            "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
        );
        let dir = tree(&[("proc/self/cgroup", "0::/\n"), group, machine]);
        let mut watch = OomWatch::begin(dir.path(), false);
        std::fs::write(dir.path().join(machine.0), "oom_kill 9\n").expect("written");
        assert!(watch.look().is_empty(), "the host's kills are not ours");
        std::fs::write(dir.path().join(group.0), "oom_kill 3\n").expect("written");
        let ours = watch.look();
        let count = ours.count.expect("ours rose");
        assert!(count.is_ours && count.kills == 1 && count.source.ends_with("memory.events"));
        assert!(ours.is_watched && !ours.log_is_complete);
        assert!(watch.look().is_empty(), "it was told");
        let dir = tree(&[("proc/self/cgroup", "0::/\n"), machine]);
        let mut watch = OomWatch::begin(dir.path(), false);
        std::fs::write(dir.path().join(machine.0), "oom_kill 9\n").expect("written");
        let hosts = watch.look();
        assert!(!hosts.is_watched && !hosts.count.expect("the host's rose").is_ours);
    }

    #[test]
    fn the_log_of_another_pid_namespace_is_not_read() {
        let dir = tree(&[("dev/kmsg", "x")]);
        let folder = dir.path().join("proc/self/ns");
        std::fs::create_dir_all(&folder).expect("a folder");
        let link = folder.join("pid");
        for (namespace, is_read) in [("pid:[4026532571]", false), (FIRST_PID_NAMESPACE, true)] {
            std::os::unix::fs::symlink(namespace, &link).expect("a link");
            assert_eq!(
                KernelLog::open(dir.path()).is_some(),
                is_read,
                "{namespace}"
            );
            std::fs::remove_file(&link).expect("removed");
        }
        assert!(KernelLog::open(&dir.path().join("none")).is_none());
    }

    /// A pipe in packet mode gives one record a read, as the kernel's log does.
    fn log_of(records: &[&str]) -> KernelLog {
        let (fd, end) = pipe2(OFlag::O_DIRECT | OFlag::O_NONBLOCK).expect("a pipe");
        for record in records {
            write(&end, record.as_bytes()).expect("room for a record");
        }
        KernelLog { fd }
    }

    #[test]
    fn kills_are_found_between_other_records_and_bounded() {
        let kill = "3,9,1,-;Out of memory: Killed process 7 (node) total-vm:1kB, anon-rss:4kB\n";
        let mut evidence = OomEvidence::default();
        log_of(&["6,7,1,-;eth0: link up\n", kill, "6,8,1,-;x\n"]).read(&mut evidence);
        assert_eq!(evidence.kills.len(), 1);
        assert!(evidence.log_is_complete);
        let mut evidence = OomEvidence::default();
        log_of(&[kill; KILLS_MAX + 3]).read(&mut evidence);
        assert_eq!(evidence.kills.len(), KILLS_MAX);
        assert!(!evidence.log_is_complete, "some were passed over");
    }
}
