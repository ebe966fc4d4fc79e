//! Looks at the memory of a tree of processes and at what is left. Reads small files only, and none that takes
//! a lock of the process it tells of: a process that hangs in the kernel must not hang us.

use super::super::proc::Proc;
use super::Groups;
use crate::core::memory::{Kib, LimitFrom, Sample};
use crate::core::time::Mono;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Larger than any file read here; a longer one is cut, behind what is looked for.
const FILE_MAX_BYTES: u64 = 16 * 1024;

/// Reads samples of one gateway's tree. Keeps what need not be found anew each time.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    proc: Proc,
    /// Our cgroup and those above it.
    groups: Vec<Group>,
    pressure: Option<PathBuf>,
    page_kib: u64,
    text: String,
    main: i32,
    /// The rest of the tree.
    helpers: Vec<i32>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    from: LimitFrom,
}

/// What a cgroup or the machine allows and has left, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    limit: u64,
    from: LimitFrom,
    usage: u64,
    available: u64,
}

impl Sampler {
    /// For the tree of the process `main`.
    #[must_use]
    pub fn new(root: &Path, main: i32) -> Self {
        let own = Groups::of_ourselves(root);
        let of = |folder: Option<PathBuf>, from| {
            let mut above: Vec<Group> = Vec::new();
            for folder in folder.iter().flat_map(|folder| folder.ancestors()) {
                if !folder.join(files(from).usage).exists() {
                    break;
                }
                let folder = folder.to_owned();
                above.push(Group { folder, from });
            }
            above
        };
        let mut groups = of(own.v2, LimitFrom::CgroupV2);
        groups.extend(of(own.v1, LimitFrom::CgroupV1));
        let pressure = groups
            .iter()
            .filter(|group| group.from == LimitFrom::CgroupV2)
            .map(|group| group.folder.join("memory.pressure"))
            .chain([root.join("proc/pressure/memory")])
            .find(|path| path.exists());
        let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
        let page_bytes = page_bytes.ok().flatten().unwrap_or(4096);
        Self {
            root: root.to_owned(),
            proc: Proc::at(&root.join("proc")),
            groups,
            pressure,
            page_kib: u64::try_from(page_bytes).unwrap_or(4096) / 1024,
            text: String::new(),
            main,
            helpers: Vec::new(),
        }
    }

    /// Looks for the processes of the tree: descendants of the main process, and orphans that are children of
    /// `us` and that `is_ours` says belong to it, with theirs.
    pub fn count(&mut self, us: i32, is_ours: impl Fn(i32) -> bool) {
        let processes: Vec<(i32, i32)> = self
            .proc
            .pids()
            .filter_map(|pid| Some((pid, self.proc.stat(pid)?.ppid)))
            .collect();
        let mut tree = vec![self.main];
        tree.extend(
            processes
                .iter()
                .filter(|(pid, parent)| *parent == us && *pid != self.main && is_ours(*pid))
                .map(|(pid, _)| *pid),
        );
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            next += 1;
            let children = processes.iter().filter(|(_, of)| *of == parent);
            let new: Vec<i32> = children
                .map(|(pid, _)| *pid)
                .filter(|pid| !tree.contains(pid))
                .collect();
            tree.extend(new);
        }
        tree.retain(|pid| *pid != self.main);
        self.helpers = tree;
    }

    /// One look.
    pub fn sample(&mut self, at: Mono) -> Sample {
        let (machine, has_swapped) = self.machine();
        let main = self.memory_of(self.main, has_swapped);
        let mut processes = u16::from(main.is_some());
        let (mut private, mut shared) = main.unwrap_or_default();
        let main = private + shared;
        for index in 0..self.helpers.len() {
            let Some((own, files)) = self.memory_of(self.helpers[index], has_swapped) else {
                continue;
            };
            processes = processes.saturating_add(1);
            private += own;
            shared = shared.max(files);
        }
        let rooms = (0..self.groups.len()).filter_map(|index| self.group(index));
        let rooms: Vec<Room> = rooms.chain([machine]).collect();
        let tightest = rooms.iter().min_by_key(|room| room.limit);
        let tightest = tightest.copied().unwrap_or(machine);
        let available = rooms.iter().map(|room| room.available).min().unwrap_or(0);
        Sample {
            at,
            main: kib(main),
            tree: kib(private + shared),
            processes,
            available: kib(available),
            limit: kib(tightest.limit),
            limit_from: tightest.from,
            usage: kib(tightest.usage),
            stalled: self.stalled(),
        }
    }

    /// As [`Sampler::resident`], with what of it was swapped out among the anonymous.
    fn memory_of(&mut self, pid: i32, has_swapped: bool) -> Option<(u64, u64)> {
        let (own, files) = self.resident(pid)?;
        if !has_swapped {
            return Some((own, files));
        }
        // Counted by the kernel as it swaps: no page table is walked, and the lock of the address space is not taken.
        let text = self.read(&self.root.join(format!("proc/{pid}/status")));
        let swapped = number_after(text.unwrap_or_default(), "VmSwap:").unwrap_or(0);
        Some((own + swapped, files))
    }

    /// Resident anonymous and file pages of a process; `None` when it is gone. `statm` takes no lock (proc_pid_statm(5)).
    fn resident(&mut self, pid: i32) -> Option<(u64, u64)> {
        let page = self.page_kib;
        let mut fields = self
            .read(&self.root.join(format!("proc/{pid}/statm")))?
            .split(' ')
            .skip(1)
            .map(|field| field.parse::<u64>());
        let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
        // A zombie's are all zero.
        (resident > 0).then(|| (resident.saturating_sub(shared) * page, shared * page))
    }

    /// The machine, and whether any of its swap is in use.
    fn machine(&mut self) -> (Room, bool) {
        let text = self.read(&self.root.join("proc/meminfo"));
        let text = text.unwrap_or_default();
        let value = |name| number_after(text, name).unwrap_or(0);
        let (total, free) = (value("MemTotal:"), value("MemAvailable:"));
        let swap_free = value("SwapFree:");
        let room = Room {
            limit: total,
            from: LimitFrom::Machine,
            usage: total.saturating_sub(free),
            available: free.saturating_add(swap_free),
        };
        (room, value("SwapTotal:") > swap_free)
    }

    /// `None` for a cgroup without a limit.
    fn group(&mut self, index: usize) -> Option<Room> {
        let Group { folder, from } = &self.groups[index];
        let (folder, from) = (folder.clone(), *from);
        let names = files(from);
        // A limit may be changed while we run (`docker update`). "max" is no number.
        let limit = self.bytes(&folder.join(names.limit))?;
        if limit >= super::V1_UNLIMITED >> 10 {
            return None;
        }
        let usage = self.bytes(&folder.join(names.usage))?;
        let text = self.read(&folder.join("memory.stat")).unwrap_or_default();
        // Pages of files are given up before anybody is killed.
        let files = names.caches.map(|name| number_after(text, name));
        let files = files.into_iter().flatten().sum::<u64>() >> 10;
        let left = limit.saturating_sub(usage.saturating_sub(files));
        Some(Room {
            limit,
            from,
            usage,
            available: left.saturating_add(self.swap(&folder, from, limit, usage)),
        })
    }

    /// What a cgroup may still swap out.
    fn swap(&mut self, folder: &Path, from: LimitFrom, limit: u64, usage: u64) -> u64 {
        let text = self.read(&self.root.join("proc/meminfo"));
        let free = number_after(text.unwrap_or_default(), "SwapFree:").unwrap_or(0);
        if free == 0 {
            return 0;
        }
        let allowed = match from {
            LimitFrom::Machine => Some(free),
            LimitFrom::CgroupV2 => {
                let used = self.bytes(&folder.join("memory.swap.current")).unwrap_or(0);
                let most = self.bytes(&folder.join("memory.swap.max"));
                most.map(|most| most.saturating_sub(used))
            }
            // v1 counts memory and swap together.
            LimitFrom::CgroupV1 => {
                let both = |name: &str| folder.join(format!("memory.memsw.{name}"));
                let most = self.bytes(&both("limit_in_bytes"));
                let used = self.bytes(&both("usage_in_bytes")).unwrap_or(0);
                let swapped = used.saturating_sub(usage);
                most.map(|most| most.saturating_sub(limit).saturating_sub(swapped))
            }
        };
        allowed.unwrap_or(free).min(free)
    }

    /// `some avg10=1.23 …` in hundredths of a percent.
    fn stalled(&mut self) -> Option<u16> {
        let path = self.pressure.clone()?;
        let text = self.read(&path)?;
        let (whole, hundredths) = text
            .strip_prefix("some avg10=")?
            .split_whitespace()
            .next()?
            .split_once('.')?;
        Some(whole.parse::<u16>().ok()? * 100 + hundredths.parse::<u16>().ok()?)
    }

    /// A file that holds one number of bytes, in KiB.
    fn bytes(&mut self, path: &Path) -> Option<u64> {
        let bytes: u64 = self.read(path)?.trim().parse().ok()?;
        Some(bytes >> 10)
    }

    fn read(&mut self, path: &Path) -> Option<&str> {
        self.text.clear();
        let file = std::fs::File::open(path).ok()?;
        file.take(FILE_MAX_BYTES)
            .read_to_string(&mut self.text)
            .ok()?;
        Some(&self.text)
    }
}

struct Files {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: file pages of the group and of those below it.
    caches: [&'static str; 2],
}

const fn files(from: LimitFrom) -> Files {
    match from {
        LimitFrom::CgroupV1 => Files {
            limit: "memory.limit_in_bytes",
            usage: "memory.usage_in_bytes",
            caches: ["total_inactive_file", "total_active_file"],
        },
        LimitFrom::CgroupV2 | LimitFrom::Machine => Files {
            limit: "memory.max",
            usage: "memory.current",
            caches: ["inactive_file", "active_file"],
        },
    }
}

/// The number on the line that begins with this name.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix(name)
            .filter(|rest| rest.starts_with([' ', '\t']))
    })?;
    line.split_whitespace().next()?.parse().ok()
}

fn kib(value: u64) -> Kib {
    Kib(u32::try_from(value).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
