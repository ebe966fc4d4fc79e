//! What the processes of a supervisor cost, from /proc.

use std::fs;
use std::path::Path;

use nix::libc;
use nix::unistd::Pid;

use crate::wire;

/// The processes of a namespace that run anything but `child`: the supervisor and its helpers.
pub(crate) fn supervisors(init: Pid, child: &Path) -> Vec<Pid> {
    let exe = |pid: &Pid| fs::read_link(format!("/proc/{pid}/exe"));
    members(init)
        .filter(|pid| exe(pid).is_ok_and(|exe| exe != child))
        .collect()
}

/// How many processes of a namespace are dead and not reaped.
pub(crate) fn zombies(init: Pid) -> usize {
    let state = |pid: &Pid| read(&format!("/proc/{pid}/status"));
    members(init)
        .filter(|pid| state(pid).contains("\nState:\tZ"))
        .count()
}

fn members(init: Pid) -> impl Iterator<Item = Pid> {
    let space = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = space(init);
    numbered("/proc")
        .map(Pid::from_raw)
        .filter(move |pid| wanted.is_some() && space(*pid) == wanted)
}

/// What processes have used since their start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) switches: u64,
}

impl Usage {
    /// Sums over processes and their threads; only the switches of threads that have ended are not in it.
    pub(crate) fn of(pids: &[Pid]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            sum.cpu_ns += cpu_ns(*pid);
            let tasks = format!("/proc/{pid}/task");
            for task in numbered(&tasks) {
                let status = read(&format!("{tasks}/{task}/status"));
                sum.switches += field(&status, "voluntary_ctxt_switches:")
                    + field(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        sum
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }
}

/// The process's own CPU clock: /proc/PID/stat counts in steps of 10 ms, and schedstat forgets threads.
fn cpu_ns(pid: Pid) -> u64 {
    let mut clock = 0;
    // SAFETY: `clock` is a live clockid that the call may write.
    let found = unsafe { libc::clock_getcpuclockid(pid.as_raw(), &raw mut clock) };
    if found == 0 { wire::clock_ns(clock) } else { 0 }
}

/// The memory of processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) pss_kb: u64,
    pub(crate) private_dirty_kb: u64,
}

impl Memory {
    /// Sums over processes.
    pub(crate) fn of(pids: &[Pid]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
            sum.pss_kb += field(&rollup, "Pss:");
            sum.private_dirty_kb += field(&rollup, "Private_Dirty:");
        }
        sum
    }
}

/// The number after a name at the start of a line; 0 if there is none.
pub(crate) fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// A file of /proc as text; empty if its process is gone.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn numbered(folder: &str) -> impl Iterator<Item = i32> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
