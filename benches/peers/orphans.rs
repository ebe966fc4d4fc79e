//! Ten thousand orphans that exit at once, and how long until none of them is left.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, close, fork, geteuid, pipe, read, write};

use crate::bed::{Bed, Failure};
use crate::child::{Line, die};
use crate::proc;
use crate::role::Role;
use crate::series::{Metric, interleave};
use crate::subject::Subject;
use crate::wire::{Kind, ms_between, now_ns};

const WANTED: u64 = 10_000;

/// Time from the release of the orphans until all of them are reaped.
pub(crate) fn measure(bed: &Bed, subjects: &[Subject], samples: u32, quick: bool) -> Vec<Metric> {
    let heading = (
        "orphans.reaped",
        "orphans: all exit at once, until the last one is reaped",
        "ms",
    );
    let patience = Duration::from_secs(if quick { 10 } else { 40 });
    let (count, mut notes) = affordable();
    // Whoever cannot do it costs the patience once, not in every round.
    let mut given_up: Vec<Subject> = Vec::new();
    let mut metrics = interleave([heading], subjects, samples, |subject| {
        let at_least = patience.as_secs_f64() * 1e3;
        if given_up.contains(&subject) {
            return Ok([at_least]);
        }
        let run = bed.launch(subject, Role::Orphans(count))?;
        let made = run.wait_for(Kind::Prepared, Duration::from_secs(60))?.value;
        if made < count {
            notes.push(format!("{}: only {made} could be forked", subject.name()));
        }
        run.go();
        match run.wait_for(Kind::Finished, patience) {
            Ok(record) => Ok([ms_between(record.value, record.at_ns)]),
            Err(Failure::Late { .. }) => {
                let left = proc::zombies(run.namespace.pid);
                let seconds = patience.as_secs();
                notes.push(format!(
                    "{}: given up after {seconds} s with {left} of {made} not reaped",
                    subject.name(),
                ));
                given_up.push(subject);
                Ok([at_least])
            }
            Err(why) => Err(why),
        }
    });
    if let Some(metric) = metrics.first_mut() {
        metric.notes.splice(0..0, notes);
    }
    metrics
}

/// The child's part: makes the orphans, releases them on the word, and sees the last one go.
pub(crate) fn leave(count: u64, line: &Line) {
    let (Ok((wait_end, hold_end)), Ok((list_end, name_end))) = (pipe(), pipe()) else {
        die(71);
    };
    // SAFETY: this process has one thread.
    let Ok(fork) = (unsafe { fork() }) else {
        die(71);
    };
    let ForkResult::Parent { child: middle } = fork else {
        drop((hold_end, list_end));
        for _ in 0..count {
            // SAFETY: as above; the orphan makes two system calls.
            match unsafe { nix::unistd::fork() } {
                Ok(ForkResult::Child) => {
                    // The list ends when nobody holds its writing end any more.
                    let _ = close(name_end.as_raw_fd());
                    let _ = read(&wait_end, &mut [0]);
                    die(0);
                }
                Ok(ForkResult::Parent { child }) => {
                    let _ = write(&name_end, &child.as_raw().to_ne_bytes());
                }
                Err(_) => break,
            }
        }
        die(0);
    };
    drop((wait_end, name_end));
    let orphans = read_pids(&list_end);
    // The orphans have no parent but the supervisor from here on.
    let _ = waitpid(middle, None);
    line.say(Kind::Prepared, orphans.len() as u64);
    line.wait_for_go();
    let released_ns = now_ns();
    drop(hold_end);
    for orphan in orphans {
        // A zombie can be signalled; only a reaped process is not there.
        while kill(orphan, None).is_ok() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    line.say(Kind::Finished, released_ns);
}

fn read_pids(list_end: &OwnedFd) -> Vec<Pid> {
    let mut pids = Vec::new();
    let mut word = [0; size_of::<libc::pid_t>()];
    // Each pid was written at once, so none arrives in pieces.
    while read(list_end, &mut word) == Ok(word.len()) {
        pids.push(Pid::from_raw(libc::pid_t::from_ne_bytes(word)));
    }
    pids
}

/// How many processes this machine lets us have, and a note if that is less than wanted.
fn affordable() -> (u64, Vec<String>) {
    let number = |path: &str| proc::read(path).trim().parse::<u64>().ok();
    let mut limits = vec![
        ("pid_max", number("/proc/sys/kernel/pid_max")),
        ("threads-max", number("/proc/sys/kernel/threads-max")),
        ("the cgroup's pids.max", pids_max()),
    ];
    // Root is not held to its own limit.
    if !geteuid().is_root() {
        let limit = getrlimit(Resource::RLIMIT_NPROC).ok().map(|limit| limit.0);
        limits.push(("ulimit -u", limit));
    }
    let tightest = limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?)))
        .min_by_key(|(_, limit)| *limit);
    match tightest {
        // Half of it, because the rest of the machine lives under the same limit.
        Some((name, limit)) if limit / 2 < WANTED => {
            let count = limit / 2;
            let note = format!("{count} orphans instead of {WANTED}, for {name} is {limit}");
            (count, vec![note])
        }
        _ => (WANTED, vec![format!("{WANTED} orphans")]),
    }
}

/// The smallest `pids.max` from our own cgroup up to the root, in either layout.
fn pids_max() -> Option<u64> {
    let groups = proc::read("/proc/self/cgroup");
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        for folder in std::path::Path::new(path).ancestors() {
            let file = format!("{root}{}/pids.max", folder.display());
            let limit = fs::read_to_string(file).ok();
            let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
            smallest = smallest.into_iter().chain(limit).min();
        }
    }
    smallest
}
