//! What a simulated world contains: a volume, a config, locks, processes and the lives its gateways will lead.
//! Times are milliseconds since the start of the story. It never decides anything.

use crate::core::config::{ConfigFacts, ConfigState};
use crate::core::event::{Instance, SpawnFault};
use crate::core::exit_class::{ExitStatus, Marker};
use crate::core::leftovers::{ProcessFacts, SameFolder};
use crate::core::locks::{Claim, KernelLock, LockContent, LockFacts, LockKind, OwnerFacts, Seen};
use crate::core::memory::{Kib, LimitFrom, Sample};
use crate::core::reload::{Digest, Look, Sign, Validation};
use crate::core::time::{Millis, Mono};
use crate::core::volume::{VolumeFacts, WriteProbe};

pub(super) const PORT: u16 = 3000;

/// Everything a story is told with.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) volume: Timeline<Volume>,
    pub(super) config: Timeline<Config>,
    pub(super) seeding: Seeding,
    pub(super) validation: Validation,
    pub(super) locks: Vec<FakeLock>,
    pub(super) processes: Vec<FakeProcess>,
    /// One for each spawn; further ones are [`Life::HEALTHY`].
    pub(super) lives: Vec<Life>,
    /// One for each question, over and over.
    pub(super) answers: Vec<Answer>,
    /// From then on every question is answered at once.
    pub(super) answers_heal_at: u64,
    /// How late the shell comes back at a deadline.
    pub(super) wake_late: u64,
    /// From `Spawn` to its answer.
    pub(super) spawn_takes: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            volume: Timeline::of(Volume::Good),
            config: Timeline::of(Config::Good),
            seeding: Seeding::Works,
            validation: Validation::Valid,
            locks: vec![],
            processes: vec![],
            lives: vec![],
            answers: vec![Answer::After(2)],
            answers_heal_at: 0,
            wake_late: 1,
            spawn_takes: 0,
        }
    }
}

/// What holds from when on; the first entry holds from the beginning.
#[derive(Debug, Clone)]
pub(super) struct Timeline<T>(pub(super) Vec<(u64, T)>);

impl<T: Clone> Timeline<T> {
    pub(super) fn of(state: T) -> Self {
        Self(vec![(0, state)])
    }

    pub(super) fn then(mut self, at: u64, state: T) -> Self {
        self.0.push((at, state));
        self
    }

    pub(super) fn at(&self, now: Mono) -> T {
        let (_, state) = self
            .0
            .iter()
            .rfind(|(from, _)| *from <= now.0)
            .unwrap_or(&self.0[0]);
        state.clone()
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = Mono> {
        self.0.iter().skip(1).map(|(at, _)| Mono(*at))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    Good,
    ReadOnly,
    Hung,
    NoInstanceLock,
    /// Another clawkeeper keeps it.
    Theirs,
}

impl Volume {
    pub(super) fn look(self) -> (Instance, VolumeFacts) {
        let failed = |errno| WriteProbe::Failed {
            operation: "open".into(),
            errno,
        };
        let write = match self {
            Self::Good | Self::NoInstanceLock | Self::Theirs => {
                WriteProbe::Written { took: Millis(1) }
            }
            Self::ReadOnly => failed(30),
            Self::Hung => WriteProbe::TimedOut {
                after: Millis(5_000),
            },
        };
        let instance = match self {
            Self::Good => Instance::Ours,
            Self::ReadOnly | Self::Hung | Self::NoInstanceLock => Instance::Unavailable {
                error: "EROFS".into(),
            },
            Self::Theirs => Instance::Theirs {
                holder: "pid 1".into(),
            },
        };
        let facts = VolumeFacts {
            mount: None,
            root_is_ephemeral: true,
            write,
            space: None,
            owner: None,
        };
        (instance, facts)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Config {
    Good,
    /// As good, and it means something else.
    Edited,
    /// The same, and the gateway wrote it itself.
    Rewritten,
    Missing,
    Broken,
}

impl Config {
    /// What a look finds while a gateway runs.
    pub(super) fn look(self) -> Look {
        let facts = self.facts();
        Look {
            path: facts.path,
            state: facts.state,
            bytes: Digest(self as u64),
            meaning: Digest(self as u64),
            reload_is_off: false,
            log_is_quiet: false,
            changed: vec!["agents".into()],
            is_gateways_own: self == Self::Rewritten,
            is_taken: false,
        }
    }

    pub(super) fn facts(self) -> ConfigFacts {
        let state = match self {
            Self::Good | Self::Edited | Self::Rewritten => ConfigState::Parsed { findings: vec![] },
            Self::Missing => ConfigState::Missing,
            Self::Broken => ConfigState::Broken {
                error: "3:1: expected a key".into(),
            },
        };
        ConfigFacts {
            path: "/data/openclaw.json".into(),
            state,
            rolled_back: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seeding {
    Works,
    Fails,
    /// It says it wrote a file, and there is none.
    Vanishes,
}

/// A lock on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FakeLock {
    pub(super) kind: LockKind,
    pub(super) owner: LockOwner,
    /// False when nobody can move it away.
    pub(super) is_removable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockOwner {
    Dead,
    /// A gateway that ends at this time.
    AliveUntil(u64),
    /// Names nobody and was written at this time.
    Nobody {
        written: u64,
    },
    /// A pipe.
    Special,
    /// It was moved away.
    Gone,
}

impl FakeLock {
    pub(super) fn facts(self, index: usize, now: Mono) -> LockFacts {
        let named = |alive: bool| OwnerFacts {
            alive,
            start_ticks: alive.then_some(77),
            started: None,
            is_gateway: alive,
            is_us: false,
            name: "node".into(),
        };
        let claim = LockContent::Claim(Claim {
            pid: 4_000,
            start_ticks: Some(77),
            created: None,
        });
        let (content, owner, written) = match self.owner {
            LockOwner::Dead => (claim, Some(named(false)), 0),
            LockOwner::AliveUntil(until) => (claim, Some(named(now.0 < until)), 0),
            LockOwner::Nobody { written } => (LockContent::Empty, None, written),
            LockOwner::Special | LockOwner::Gone => (LockContent::Special, None, 0),
        };
        LockFacts {
            path: format!("/data/gateway.{index}.lock").into(),
            seen: Seen {
                device: 1,
                inode: index as u64,
                mtime_ns: 0,
                size: 0,
            },
            kind: self.kind,
            content,
            owner,
            age: now.0.checked_sub(written).map(Millis),
            before_this_boot: false,
            kernel_lock: KernelLock::Absent,
        }
    }
}

/// A process that is not clawkeeper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FakeProcess {
    pub(super) what: Process,
    pub(super) from: u64,
    pub(super) until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    /// A leftover that ends when told to.
    Orphan,
    /// A leftover that nothing ends.
    Unkillable,
    /// A leftover that somebody starts again as often as it is ended.
    Undying,
    /// A gateway that somebody runs on purpose.
    LiveGateway,
    /// It has the port, and no right to it.
    Stranger,
}

impl FakeProcess {
    pub(super) fn is_about(self, now: Mono) -> bool {
        (self.from..self.until).contains(&now.0)
    }

    pub(super) fn facts(self, index: usize) -> ProcessFacts {
        let is_leftover = matches!(
            self.what,
            Process::Orphan | Process::Unkillable | Process::Undying
        );
        let is_gateway = self.what != Process::Stranger;
        ProcessFacts {
            pid: 9_000 + i32::try_from(index).unwrap_or(0),
            ppid: 1,
            parent_name: "bash".into(),
            start_ticks: 5,
            name: "node".into(),
            is_gateway,
            state_folder: if is_gateway {
                SameFolder::Yes
            } else {
                SameFolder::No
            },
            is_marked: false,
            is_recorded_child: false,
            is_orphan: is_leftover,
            may_be_service: false,
            holds_port: !is_gateway,
        }
    }
}

/// What one gateway does. Times count from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// What keeps it from being started.
    pub(super) fault: Option<SpawnFault>,
    pub(super) ready_after: Option<u64>,
    /// It writes output until then.
    pub(super) works_until: u64,
    pub(super) ends: Option<(u64, ExitStatus)>,
    pub(super) says: Vec<(u64, Marker)>,
    /// Answers nothing, and heeds no SIGTERM, from the one to the other.
    pub(super) deaf: Option<(u64, u64)>,
    pub(super) on_term: OnTerm,
    /// How long SIGKILL takes; `None` for ever, as in an uninterruptible sleep.
    pub(super) dies_of_kill_in: Option<u64>,
    pub(super) helpers: u32,
    pub(super) helpers_survive: bool,
    pub(super) answers_to: Newest,
    pub(super) on_edit: OnEdit,
    pub(super) memory: Memory,
}

/// What it uses, of 2 GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Always so many MB.
    Flat(u32),
    /// So many MB more each second, until the kernel kills it.
    Leaks(u32),
    /// All but 100 MB, and so many pages of it a second are read from the disk.
    Thrashes(u64),
}

pub(super) const MEMORY: Kib = Kib::of_mb(2_048);

impl Memory {
    pub(super) fn at(self, age: u64) -> Kib {
        match self {
            Self::Flat(mb) => Kib::of_mb(mb),
            Self::Thrashes(_) => MEMORY.less(Kib::of_mb(100)),
            Self::Leaks(pace) => {
                let more = age.saturating_mul(pace.into()) * 1_024 / 1_000;
                Kib(u32::try_from(more + (700 << 10)).unwrap_or(u32::MAX)).min(MEMORY)
            }
        }
    }

    /// Major faults so far.
    pub(super) const fn faults(self, age: u64) -> u64 {
        match self {
            Self::Flat(_) | Self::Leaks(_) => 0,
            Self::Thrashes(per_s) => age.saturating_mul(per_s) / 1_000,
        }
    }

    /// When nothing is left.
    pub(super) fn ends_after(self) -> Option<u64> {
        match self {
            Self::Flat(_) | Self::Thrashes(_) => None,
            Self::Leaks(pace) => Some(u64::from(MEMORY.mb() - 700) * 1_000 / u64::from(pace)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTerm {
    /// Ends with 0 after this long.
    Drains(u64),
    Ignores,
}

/// What a gateway does about an edit of its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnEdit {
    Applies,
    /// Ends with 0, to be started again.
    RestartsItself,
    /// The same, and its end is seen before its last lines are.
    RestartsUnheard,
    RestartsInPlace,
    /// Its reload is off.
    LeavesIt,
    Refuses,
    Fails,
    Misses,
    /// Misses it until the file is touched.
    NeedsNudge,
}

impl OnEdit {
    /// What it says.
    pub(super) fn signs(self) -> &'static [Sign] {
        match self {
            Self::Applies | Self::NeedsNudge => &[Sign::Noticed, Sign::Applied],
            Self::RestartsItself | Self::RestartsUnheard | Self::RestartsInPlace => {
                &[Sign::Noticed, Sign::Restarting]
            }
            Self::LeavesIt => &[Sign::Noticed, Sign::Off],
            Self::Refuses => &[Sign::Refused],
            Self::Fails => &[Sign::Noticed, Sign::Failed],
            Self::Misses => &[],
        }
    }
}

/// The newest path a version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    Startupz,
    Readyz,
    Healthz,
}

impl Life {
    pub(super) const HEALTHY: Self = Self {
        fault: None,
        ready_after: Some(3_000),
        works_until: 3_000,
        ends: None,
        says: vec![],
        deaf: None,
        on_term: OnTerm::Drains(50),
        dies_of_kill_in: Some(1),
        helpers: 0,
        helpers_survive: false,
        answers_to: Newest::Startupz,
        on_edit: OnEdit::Applies,
        memory: Memory::Flat(1_000),
    };

    pub(super) fn ending(after: u64, status: ExitStatus) -> Self {
        Self {
            ends: Some((after, status)),
            ..Self::HEALTHY
        }
    }

    pub(super) fn is_deaf(&self, age: u64) -> bool {
        self.deaf
            .is_some_and(|(from, to)| (from..to).contains(&age))
    }
}

/// When a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    After(u64),
    Never,
}

/// What a look finds where the gateway is all that uses memory.
pub(super) fn memory_sample(at: Mono, tree: Kib) -> Sample {
    Sample {
        at,
        main: tree,
        tree,
        processes: 1,
        available: MEMORY.less(tree),
        limit: MEMORY,
        limit_from: LimitFrom::Machine,
        usage: tree,
        stalled: None,
    }
}
