//! One look at memory.

use crate::core::time::Mono;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of memory in KiB; 4 TiB at most, which saturates.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Kib(pub u32);

impl Kib {
    /// Whole bytes, rounded down.
    #[must_use]
    pub fn of_bytes(bytes: u64) -> Self {
        Self(u32::try_from(bytes >> 10).unwrap_or(u32::MAX))
    }

    /// Whole MB (of 1024 KiB).
    #[must_use]
    pub const fn of_mb(mb: u32) -> Self {
        Self(mb.saturating_mul(1024))
    }

    /// In MB (of 1024 KiB), rounded down.
    #[must_use]
    pub const fn mb(self) -> u32 {
        self.0 / 1024
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 10
    }

    /// The difference; nothing when `other` is more.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This part of it, in percent.
    #[must_use]
    pub const fn percent(self, percent: u32) -> Self {
        // Divided first, so that it cannot overflow; a KiB more or less decides nothing.
        Self((self.0 / 100).saturating_mul(percent))
    }
}

impl fmt::Display for Kib {
    /// `763MB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}MB", self.mb())
    }
}

/// Who sets the smallest limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitFrom {
    /// The machine has no more.
    Machine,
    /// `memory.limit_in_bytes`.
    CgroupV1,
    /// `memory.max`.
    CgroupV2,
}

impl LimitFrom {
    /// For people: `machine`, `cgroup v1`, `cgroup v2`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::CgroupV1 => "cgroup v1",
            Self::CgroupV2 => "cgroup v2",
        }
    }
}

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Mono,
    /// Memory of the gateway's main process, resident or swapped out.
    pub main: Kib,
    /// Memory of the gateway's whole tree: the anonymous memory of each process, swapped out or not, and the most that any of
    /// them has of files, because they run the same program. Close to the sum of their PSS, which the
    /// kernel would have to walk page tables for.
    pub tree: Kib,
    /// Processes in the tree.
    pub processes: u16,
    /// What can still be had before the kernel kills: the least of what the machine and every cgroup above
    /// us has free, could give back from files, and could swap out.
    pub available: Kib,
    /// The smallest limit there is.
    pub limit: Kib,
    /// Who sets it.
    pub limit_from: LimitFrom,
    /// What counts against that limit, file caches included.
    pub usage: Kib,
    /// Share of the last ten seconds in which some process waited for memory (`some avg10` of PSI), in
    /// hundredths of a percent; `None` where the kernel does not say.
    pub stalled: Option<u16>,
}
