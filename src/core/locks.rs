//! Is a lock file a leftover or somebody's claim? Proof of staleness first; what cannot be judged stays.

use super::time::{Millis, WallMs};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One lock-like file as it was found, with what is known of the owner it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFacts {
    /// Where it lies.
    pub path: PathBuf,
    /// Device, inode, size and time of the file that was judged: only this very file may be removed.
    pub seen: Seen,
    /// What kind of lock.
    pub kind: LockKind,
    /// What it says.
    pub content: LockContent,
    /// The process it names, as it stands now; `None` when it names none.
    pub owner: Option<OwnerFacts>,
    /// Time since the file was last written; `None` when its time lies in the future.
    pub age: Option<Millis>,
    /// True when the file was last written before this machine booted, or before this container's
    /// pid namespace began: whoever wrote it is gone with its whole process table.
    pub before_this_boot: bool,
    /// A kernel lock on the SQLite file beside the lock (2026.8.2 and later keep it while they live).
    /// It is the one proof of life that reaches across containers.
    pub kernel_lock: KernelLock,
}

/// Identity of a file at the time it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_mtime` in nanoseconds.
    pub mtime_ns: i64,
    /// `st_size`.
    pub size: u64,
}

/// What a file is that can stop a gateway from starting or working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    /// `gateway.<hash>.lock`, named after the config path, and `gateway.state.lock`.
    Gateway,
    /// `<state>/gateway.*.lock`: the place the Fly.io guide names. No measured release wrote it, but
    /// volumes and scripts have it.
    LegacyOnVolume,
    /// `agents/*/sessions/*.jsonl.lock` (1.29 to 7.1).
    Session,
    /// A *folder* `.openclaw-runtime-{deps,mirror}.lock` holding an `owner.json` (4.x); a stale one
    /// makes a start hang for 5 to 13 minutes.
    RuntimeDeps,
    /// Chromium's `SingletonLock`, `SingletonSocket` and `SingletonCookie`: symbolic links.
    ChromiumSingleton,
    /// `<lock>.sqlite` beside a gateway's lock (8.2 and later). The kernel frees its lock by itself, so
    /// it is only ever in the way when it is corrupt.
    Coordinator,
}

impl LockKind {
    /// The file that names the owner, when the lock is a folder (seen on 4.x: `{pid, startedAt}`).
    #[must_use]
    pub const fn owner_file(self) -> Option<&'static str> {
        match self {
            Self::RuntimeDeps => Some("owner.json"),
            Self::Gateway
            | Self::LegacyOnVolume
            | Self::Session
            | Self::ChromiumSingleton
            | Self::Coordinator => None,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::LegacyOnVolume => "legacy",
            Self::Session => "session",
            Self::RuntimeDeps => "runtime-deps",
            Self::ChromiumSingleton => "chromium",
            Self::Coordinator => "coordinator",
        }
    }
}

/// What the lock says of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockContent {
    /// It names a process.
    Claim(Claim),
    /// Nothing in it: its writer died between creating and writing.
    Empty,
    /// Bytes that name nobody.
    Corrupt,
    /// A folder where a file should be.
    Directory,
    /// A link, a device, a pipe: never followed, never removed.
    Special,
    /// It could not be read.
    Unreadable {
        /// The errno of the attempt.
        errno: i32,
    },
}

/// The owner as the lock names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Process id, in the namespace of whoever wrote it.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks (10 ms) after boot at which the owner started.
    pub start_ticks: Option<u64>,
    /// When the lock says it was made.
    pub created: Option<WallMs>,
}

/// The process that now has the pid a lock names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerFacts {
    /// False when there is no such process (a zombie counts as none).
    pub alive: bool,
    /// Its start tick; `None` when it is not alive or /proc hides it.
    pub start_ticks: Option<u64>,
    /// When it started, by the wall clock.
    pub started: Option<WallMs>,
    /// True when its command line or title is a gateway's.
    pub is_gateway: bool,
    /// True for clawkeeper itself and its ancestors, which are no gateways whatever a lock says.
    pub is_us: bool,
    /// Its name, for the log line.
    pub name: String,
}

/// Whether the kernel says that some process still holds the lock's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelLock {
    /// There is no such file: older versions.
    Absent,
    /// Nobody holds it.
    Free,
    /// Somebody holds it, perhaps in another container.
    Held,
    /// It could not be asked.
    Unknown,
}

/// What to do with a lock, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockVerdict {
    /// Proven leftover: it may be moved away.
    Stale(StaleWhy),
    /// Its owner lives: it stays, and no gateway may be started beside it.
    Live {
        /// The owner.
        pid: i32,
    },
    /// Not to be judged: it stays.
    Unknown(UnknownWhy),
}

/// The proof that a lock is a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaleWhy {
    /// No process has the pid.
    OwnerDead,
    /// The pid belongs to a process that started at another time.
    PidReused,
    /// The pid belongs to a process that is no gateway.
    OwnerIsNoGateway,
    /// The pid is clawkeeper's own or an ancestor's.
    OwnerIsUs,
    /// It names nobody and was last written before this boot.
    BeforeThisBoot,
    /// It names nobody, is older than any writer needs, and no gateway runs here.
    NamesNobody,
    /// It names nobody, and nobody holds the kernel's lock that its writer takes first.
    WriterGone,
}

/// Why a lock cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownWhy {
    /// It names nobody and is so young that its writer may still be writing.
    Young,
    /// It names a live process of which too little can be seen.
    OwnerHidden,
    /// The kernel says that somebody holds its database, though not who.
    KernelLockHeld,
    /// It is a link, a device or a pipe.
    SpecialFile,
    /// It is a database in order, whose lock the kernel keeps: never in the way.
    HealthyDatabase,
}

/// The gateway itself gives the writer of an empty lock 30 s before it reclaims it (measured on 2026.9.6).
const WRITER_GRACE: Millis = Millis::from_secs(30);

/// How far `/proc/PID/stat` and a wall clock may disagree about one start.
const CLOCK_SLACK_MS: u64 = 2_000;

/// Judges one lock. `gateway_alive` is true when any gateway process was found on this state folder.
#[must_use]
pub fn judge(facts: &LockFacts, gateway_alive: bool) -> LockVerdict {
    if facts.content == LockContent::Special && facts.kind != LockKind::ChromiumSingleton {
        return LockVerdict::Unknown(UnknownWhy::SpecialFile);
    }
    if facts.kind == LockKind::Coordinator && facts.content != LockContent::Corrupt {
        return LockVerdict::Unknown(UnknownWhy::HealthyDatabase);
    }
    match facts.kernel_lock {
        KernelLock::Held => {
            return match (&facts.content, &facts.owner) {
                (LockContent::Claim(claim), Some(owner)) if owner.alive && owner.is_gateway => {
                    LockVerdict::Live { pid: claim.pid }
                }
                _ => LockVerdict::Unknown(UnknownWhy::KernelLockHeld),
            };
        }
        KernelLock::Absent | KernelLock::Free | KernelLock::Unknown => {}
    }
    match (&facts.content, &facts.owner) {
        (LockContent::Claim(claim), Some(owner)) => judge_claim(facts, *claim, owner),
        _ => judge_nameless(facts, gateway_alive),
    }
}

fn judge_claim(facts: &LockFacts, claim: Claim, owner: &OwnerFacts) -> LockVerdict {
    if !owner.alive {
        return LockVerdict::Stale(StaleWhy::OwnerDead);
    }
    if owner.is_us {
        return LockVerdict::Stale(StaleWhy::OwnerIsUs);
    }
    if let (Some(claimed), Some(actual)) = (claim.start_ticks, owner.start_ticks)
        && claimed != actual
    {
        return LockVerdict::Stale(StaleWhy::PidReused);
    }
    let same_tick = claim.start_ticks.is_some() && claim.start_ticks == owner.start_ticks;
    if owner.is_gateway && (same_tick || !started_after(owner, claim)) {
        return LockVerdict::Live { pid: claim.pid };
    }
    if started_after(owner, claim) {
        return LockVerdict::Stale(StaleWhy::PidReused);
    }
    if owner.is_gateway || facts.kind == LockKind::ChromiumSingleton {
        return LockVerdict::Live { pid: claim.pid };
    }
    // A session or dependency lock may be held by any helper of a gateway, so its name proves nothing.
    let gateway_lock = matches!(facts.kind, LockKind::Gateway | LockKind::LegacyOnVolume);
    if facts.before_this_boot || (gateway_lock && !owner.name.is_empty()) {
        return LockVerdict::Stale(StaleWhy::OwnerIsNoGateway);
    }
    LockVerdict::Unknown(UnknownWhy::OwnerHidden)
}

/// True when the process that has the pid began after the lock was made, so it cannot have made it.
fn started_after(owner: &OwnerFacts, claim: Claim) -> bool {
    matches!((owner.started, claim.created),
        (Some(WallMs(started)), Some(WallMs(created))) if started > created.saturating_add(CLOCK_SLACK_MS))
}

fn judge_nameless(facts: &LockFacts, gateway_alive: bool) -> LockVerdict {
    if facts.before_this_boot {
        return LockVerdict::Stale(StaleWhy::BeforeThisBoot);
    }
    if gateway_alive {
        return LockVerdict::Unknown(UnknownWhy::OwnerHidden);
    }
    match facts.age {
        Some(age) if age >= WRITER_GRACE => LockVerdict::Stale(StaleWhy::NamesNobody),
        Some(_) | None if died_while_writing(facts) => LockVerdict::Stale(StaleWhy::WriterGone),
        Some(_) | None => LockVerdict::Unknown(UnknownWhy::Young),
    }
}

/// 2026.8.2 and 2026.9.6 take the kernel's lock before they create the file and keep it until they end
/// (seen with strace), so a half-written file beside a free one has lost its writer, however young it is.
fn died_while_writing(facts: &LockFacts) -> bool {
    facts.kind == LockKind::Gateway
        && facts.kernel_lock == KernelLock::Free
        && matches!(facts.content, LockContent::Empty | LockContent::Corrupt)
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
