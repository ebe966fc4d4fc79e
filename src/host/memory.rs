//! The memory limit, the cgroups that set one, and samples of what is used. Reads only.
//!
//! cgroup v2, cgroup v1, and no cgroup at all (a Fly machine) are all normal.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads /proc and /sys"
)]

mod sample;

pub use sample::Sampler;

use crate::core::time::Mono;
use std::path::{Path, PathBuf};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// A memory limit and who sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// `machine`, `cgroup v1` or `cgroup v2`.
    pub source: &'static str,
}

/// cgroup v1 writes "no limit" as a number near 2^63.
const V1_UNLIMITED: u64 = 1 << 60;

/// The smallest of machine, cgroup v1 and cgroup v2.
#[must_use]
pub fn limit(root: &Path) -> MemoryLimit {
    // One system call, where the sysinfo crate reads files of /proc that take the kernel longer than all of our start.
    let machine = nix::sys::sysinfo::sysinfo().map_or(0, |it| it.ram_total());
    let groups = Groups::of_ourselves(root);
    let read = |path: PathBuf| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // A group above ours counts what we use as well.
    let least = |group: &Option<PathBuf>, file: &str| {
        let above = group.iter().flat_map(|group| group.ancestors());
        above
            .map_while(|folder| folder.join(file).exists().then(|| folder.join(file)))
            .filter_map(read)
            .min()
    };
    let v1 = least(&groups.v1, "memory.limit_in_bytes");
    let v2 = least(&groups.v2, "memory.max");
    let limits = [
        Some((machine, "machine")).filter(|(bytes, _)| *bytes > 0),
        v1.filter(|bytes| *bytes < V1_UNLIMITED)
            .map(|bytes| (bytes, "cgroup v1")),
        v2.map(|bytes| (bytes, "cgroup v2")),
    ];
    let (bytes, source) = limits
        .into_iter()
        .flatten()
        .min()
        .unwrap_or((machine, "machine"));
    MemoryLimit { bytes, source }
}

/// Memory in bytes that could be had without swapping: by the machine's own count, and by every cgroup above us, because
/// a small container on a large host has no more than its own.
#[must_use]
pub fn available() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let machine = System::new_with_specifics(memory).map_or(0, |it| it.available_memory());
    let us = nix::unistd::getpid().as_raw();
    let all = Sampler::new(Path::new("/"), us).sample(Mono(0));
    machine.min(all.available.bytes())
}

/// The cgroups this process is in, as folders; a container sees its own as the root of the tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    pub(super) v1: Option<PathBuf>,
    pub(super) v2: Option<PathBuf>,
}

impl Groups {
    pub(super) fn of_ourselves(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut groups = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                groups.v2 = folder_with(
                    "memory.events",
                    root,
                    &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
                    path,
                );
            } else if controllers.split(',').any(|name| name == "memory") {
                groups.v1 =
                    folder_with("memory.oom_control", root, &["sys/fs/cgroup/memory"], path);
            }
        }
        groups
    }
}

fn folder_with(file: &str, root: &Path, mounts: &[&str], path: &str) -> Option<PathBuf> {
    let mounts = mounts.iter().map(|mount| root.join(mount));
    mounts
        .flat_map(|mount| [mount.join(path), mount])
        .find(|folder| folder.join(file).exists())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        dir
    }

    #[test]
    fn the_smallest_limit_wins_and_says_who_it_is() {
        let v2 = tree(&[
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/app/memory.events", "oom_kill 0\n"),
            ("sys/fs/cgroup/app/memory.max", "268435456\n"),
        ]);
        assert_eq!(
            limit(v2.path()),
            MemoryLimit {
                bytes: 256 << 20,
                source: "cgroup v2"
            }
        );
        let v1 = tree(&[
            ("proc/self/cgroup", "4:memory:/docker/abc\n0::/\n"),
            (
                "sys/fs/cgroup/memory/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ]);
        assert_eq!(
            limit(v1.path()),
            MemoryLimit {
                bytes: 512 << 20,
                source: "cgroup v1"
            }
        );
        let none = tree(&[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(limit(none.path()).source, "machine");
    }
}
