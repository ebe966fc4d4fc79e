//! From the kernel's out-of-memory kill of the child to what is said of it, and to the next child.
//!
//! Supervisor and child share a memory cgroup (v1), as they do in a container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::libc;

use crate::bed::{Bed, Failure, Run, preparing};
use crate::role::Role;
use crate::series::{Heading, Metric, interleave};
use crate::subject::Subject;
use crate::wire::{Kind, now_ns};

const HEADINGS: [Heading; 2] = [
    (
        "oom.report",
        "out of memory: the kernel's kill to the report of it",
        "ms",
    ),
    (
        "oom.respawn",
        "out of memory: the kernel's kill to the next child",
        "ms",
    ),
];
const LIMIT: Duration = Duration::from_secs(15);
const LIMIT_BYTES: u64 = 96 << 20;
/// The child's life before it takes memory.
const LIVED_MS: u64 = 1200;
const GROUPS: &str = "/sys/fs/cgroup/memory";

/// Has the kernel kill a child of every subject.
pub(crate) fn measure(bed: &Bed, subjects: &[Subject], samples: u32) -> Vec<Metric> {
    let mut metrics = interleave(HEADINGS, subjects, samples, |subject| sample(bed, subject));
    if let Some(metric) = metrics.first_mut() {
        metric.notes.push(
            "the kill by its time in the kernel's log, which is within 1 ms of the clock; the report by its own, in whole milliseconds"
                .to_owned(),
        );
    }
    metrics
}

fn sample(bed: &Bed, subject: Subject) -> Result<[f64; 2], Failure> {
    let group = Group::new().map_err(preparing("a memory cgroup (v1)"))?;
    let mut log = KernelLog::from_now().map_err(preparing("/dev/kmsg"))?;
    let run = group.launch(bed, subject)?;
    run.wait_for(Kind::Dying, LIMIT)?;
    let started = run.wait_for(Kind::Started, LIMIT)?;
    let killed_us = log.killed_in(&group.name);
    let killed_us = killed_us.map_err(preparing("the kernel's record of the kill"))?;
    let told_us = told_at(&run).map_err(preparing("the report"))?;
    let since = |at_us: u64| at_us.saturating_sub(killed_us) as f64 / 1e3;
    Ok([since(told_us), since(started.at_ns / 1_000)])
}

/// A memory cgroup; removed once it is empty.
struct Group {
    name: String,
    folder: PathBuf,
}

impl Group {
    fn new() -> io::Result<Self> {
        let name = format!("clawkeeper-bench-{}", std::process::id());
        let folder = PathBuf::from(GROUPS).join(&name);
        fs::create_dir(&folder)?;
        let group = Self { name, folder };
        let limit = group.folder.join("memory.limit_in_bytes");
        fs::write(limit, LIMIT_BYTES.to_string())?;
        Ok(group)
    }

    /// Starts the supervisor inside: it looks for its cgroup at once.
    fn launch(&self, bed: &Bed, subject: Subject) -> Result<Run, Failure> {
        let enter = |folder: PathBuf| fs::write(folder.join("cgroup.procs"), "0");
        let home = own_group().map_err(preparing("our own cgroup"))?;
        enter(self.folder.clone()).map_err(preparing("a memory cgroup (v1)"))?;
        let run = bed.launch(subject, Role::Eat(LIVED_MS));
        enter(home).map_err(preparing("our own cgroup"))?;
        run
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy until the kernel has let the last process go.
        let deadline = Instant::now() + LIMIT;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn own_group() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text
        .lines()
        .find_map(|line| line.split_once(":memory:"))
        .map(|(_, path)| path.trim_start_matches('/'));
    path.map(|path| PathBuf::from(GROUPS).join(path))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The kernel's log from some time on.
struct KernelLog(File);

impl KernelLog {
    fn from_now() -> io::Result<Self> {
        let mut log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// When the kernel killed a process for this cgroup, in microseconds of its clock.
    fn killed_in(&mut self, group: &str) -> io::Result<u64> {
        let (mut record, mut victim) = ([0; 8192], None);
        loop {
            // Each read is one record; the last is followed by EAGAIN.
            let length = self.0.read(&mut record)?;
            let text = String::from_utf8_lossy(&record[..length]);
            if text.contains(&format!("oom_memcg=/{group},")) {
                let pid = text
                    .split(",pid=")
                    .nth(1)
                    .and_then(|it| it.split(',').next());
                victim = pid.map(|pid| format!("Killed process {pid} ("));
            }
            if victim.as_ref().is_some_and(|words| text.contains(words)) {
                let at = text.split(',').nth(2).and_then(|at| at.parse().ok());
                return at.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// When clawkeeper said that the child had exited, in microseconds of `CLOCK_MONOTONIC`.
fn told_at(run: &Run) -> io::Result<u64> {
    let stderr = run.stderr();
    let line = stderr
        .lines()
        .find(|line| line.contains("gateway exited class=oom-kernel"));
    let line = line.ok_or_else(|| io::Error::other("no line names it"))?;
    let time = line.split(' ').next().unwrap_or_default();
    let told = humantime::parse_rfc3339(time).map_err(io::Error::other)?;
    let ago = SystemTime::now().duration_since(told);
    let ago_us = ago.map_or(0, |ago| u64::try_from(ago.as_micros()).unwrap_or(0));
    Ok((now_ns() / 1_000).saturating_sub(ago_us))
}
