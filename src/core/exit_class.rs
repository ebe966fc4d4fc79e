//! Why did the gateway end? Exactly one class for each exit, each with its evidence.

use super::oom::{OomEvidence, OomProof};
use serde::{Deserialize, Serialize};

/// How the kernel says the gateway's main process ended (waitid(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// True when SIGKILL ended it, or what a shell around it reports as that.
    #[must_use]
    pub const fn is_by_sigkill(self) -> bool {
        matches!(self, Self::Signal(SIGKILL) | Self::Code(137))
    }
}

/// Why clawkeeper asked the gateway to stop. Ordered: a stronger cause replaces a weaker one, never the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// Channels were switched off by the gateway's crash breaker, whose window has passed.
    ChannelsOff,
    /// An edit of the config needs a restart that the gateway does not make itself.
    Reload,
    /// It answered nothing for the liveness timeout.
    Hung,
    /// It leaks, and little memory is left.
    Memory,
    /// It made no progress towards ready, or too little in several times the startup timeout.
    StartTimeout,
    /// A person asked for a restart.
    Restart,
    /// A person asked for a pause.
    Pause,
    /// clawkeeper itself was told to stop.
    Shutdown,
}

impl StopCause {
    /// True when the gateway was too slow to be let run.
    #[must_use]
    pub const fn is_of_slowness(self) -> bool {
        matches!(self, Self::Hung | Self::StartTimeout)
    }
}

/// Something a gateway said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marker {
    /// `[gateway] ready` (4.29 and later).
    Ready,
    /// `[gateway] listening on ws://…` (to 3.13, the last line of a start), or
    /// `[gateway] http server listening (…)` (4.29 and later, channels still to come).
    Listening,
    /// `FATAL ERROR: … JavaScript heap out of memory`: V8 ran out of heap, and SIGABRT follows.
    HeapOom,
    /// `restart-loop breaker tripped: …` (7.1 and later): it will be ready with every channel off.
    BreakerTripped,
    /// `gateway restart-loop breaker recovered; …` (7.1 only at a later boot, 9.6 also while running):
    /// the channels are on again.
    BreakerRecovered,
    /// `OpenClaw migration inputs changed during startup; … Restart OpenClaw …` or
    /// `… the selected config changed during startup …` (9.6): an edit came while it started, and it wants to be
    /// started again. It ends with 78 all the same.
    ChangedWhileStarting,
    /// It will not start, and says why. Only a gateway that then ended was refused.
    Refusal(Refusal),
}

/// Why a gateway refuses to start. A person or a change is needed, whatever its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// `Missing config. Run …`: there is no file.
    MissingConfig,
    /// `existing config is missing gateway.mode` (7.1 and later), or
    /// `Gateway start blocked: set gateway.mode=local (current: …)`. The gateway says so of an empty or
    /// broken file too.
    MissingMode,
    /// `Unrecognized key: "…"` (9.6; 7.1 says `<root>: Invalid input`), below `Invalid config at …`.
    UnknownKey,
    /// `Invalid config at …`, and below it what is wrong, such as `JSON5 parse failed: …`; or
    /// `the selected config changed during startup (config validity changed)` (9.6, also where nothing
    /// changed: a key that only the schema of a plugin refuses).
    InvalidConfig,
    /// `Invalid --port. …`, `Invalid --bind. …` and the like: the command line is wrong.
    InvalidFlag,
    /// `Refusing to bind gateway to … without auth.`, or
    /// `Gateway auth is set to password, but no password is configured.`
    NoAuthForBind,
    /// `non-loopback Control UI requires gateway.controlUi.allowedOrigins` (3.13).
    NoAllowedOrigins,
    /// `Another gateway (pid N) already owns this state directory` (9.6: also a stale lock with our
    /// own pid and start tick) or `another OpenClaw process owns gateway-lifecycle`.
    AnotherOwner,
    /// `Another Gateway owner lease is still active for this state directory` (9.6): a gateway that was
    /// killed had another host name, or our own pid and start tick. A lease ends after five minutes.
    OwnerLease,
    /// `gateway already running (pid N); lock timeout after 5000ms`.
    AlreadyRunning,
    /// `another gateway instance is already listening on … | EADDRINUSE`; 7.1 then ends with code 0.
    PortInUse,
    /// `restore this file from a verified backup`, `shared state database is unreadable` or SQLite's
    /// `database disk image is malformed` and `file is not a database`.
    CorruptDatabase,
    /// `EACCES`, or `Config file is not readable by the current process`: most often files that a root
    /// shell wrote. Behind it 7.1 and 9.6 also claim that `gateway.mode` is missing.
    PermissionDenied,
    /// `ENOSPC`, or SQLite's `database or disk is full`.
    DiskFull,
    /// `EROFS`, or SQLite's `attempt to write a readonly database`.
    ReadOnly,
    /// `startup migrations did not complete cleanly` (8.2 and later): also printed over an empty lock
    /// younger than 30 s, a lock that is a folder and a corrupt `.lock.sqlite`; or
    /// `startup migrations are already running` (7.1, for five minutes after it was killed in them); or
    /// `[gateway] requires state migration` (9.6: also over a corrupt database and over `EACCES`).
    StartupMigrations,
    /// `OpenClaw plugin verification failed` (8.2): the plugin of a channel could not be had from npm.
    /// 7.1 says the same as [`Refusal::StartupMigrations`]; 9.6 starts without the channel.
    PluginVerification,
    /// The exit code says so, no known line does.
    Unexplained,
}

impl Refusal {
    /// Whether another config could end it.
    #[must_use]
    pub const fn is_of_the_config(self) -> bool {
        match self {
            Self::MissingMode
            | Self::UnknownKey
            | Self::InvalidConfig
            | Self::NoAuthForBind
            | Self::NoAllowedOrigins => true,
            Self::MissingConfig
            | Self::InvalidFlag
            | Self::AnotherOwner
            | Self::OwnerLease
            | Self::AlreadyRunning
            | Self::PortInUse
            | Self::CorruptDatabase
            | Self::PermissionDenied
            | Self::DiskFull
            | Self::ReadOnly
            | Self::StartupMigrations
            | Self::PluginVerification
            | Self::Unexplained => false,
        }
    }

    /// Whether the gateway also prints this when the cause is another one, which it prints beside it.
    #[must_use]
    pub const fn is_often_a_symptom(self) -> bool {
        match self {
            Self::MissingMode | Self::StartupMigrations | Self::InvalidConfig => true,
            Self::MissingConfig
            | Self::UnknownKey
            | Self::InvalidFlag
            | Self::NoAuthForBind
            | Self::NoAllowedOrigins
            | Self::AnotherOwner
            | Self::OwnerLease
            | Self::AlreadyRunning
            | Self::PortInUse
            | Self::CorruptDatabase
            | Self::PermissionDenied
            | Self::DiskFull
            | Self::ReadOnly
            | Self::PluginVerification
            | Self::Unexplained => false,
        }
    }
}

/// What is known at the time of an exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitFacts {
    /// How it ended.
    pub status: ExitStatus,
    /// What we had asked for.
    pub asked: Option<StopCause>,
    /// What its output gave away in this attempt.
    pub markers: Vec<Marker>,
    /// What the kernel said of out-of-memory kills since the start of this attempt.
    pub oom: OomEvidence,
    /// Its process id.
    pub pid: i32,
    /// True when we sent it a SIGKILL.
    pub we_killed: bool,
}

/// The class of an exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitClass {
    /// We asked for it.
    Requested(StopCause),
    /// Exit 0 unasked: the gateway wants to be started again.
    Relaunch,
    /// It will not start until something changes.
    Refused(Refusal),
    /// It returned an error.
    Crash {
        /// The code.
        code: i32,
    },
    /// A signal that we did not send ended it.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The kernel killed it for memory; never claimed without the kernel's own counter or log.
    OomKernel(OomProof),
    /// V8 aborted for want of heap.
    OomHeap,
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// Exit code of a refusal from 2026.6.11 on: "a person or a change is needed".
/// Older versions return 1 for the same, and only their last lines tell.
const REFUSED: i32 = 78;

/// Names the class. Memory outranks what we asked for: a gateway killed by the kernel while it drained was still killed by the kernel.
#[must_use]
pub fn classify(facts: &ExitFacts) -> ExitClass {
    if facts.status.is_by_sigkill()
        && let Some(proof) = facts.oom.proof(facts.pid, facts.we_killed)
    {
        return ExitClass::OomKernel(proof);
    }
    let aborted = matches!(
        facts.status,
        ExitStatus::Signal(SIGABRT) | ExitStatus::Code(134)
    );
    if aborted && facts.markers.contains(&Marker::HeapOom) {
        return ExitClass::OomHeap;
    }
    if let Some(cause) = facts.asked {
        return ExitClass::Requested(cause);
    }
    // A gateway that was once ready does not refuse to start, whatever it printed on its way down.
    let starts_again = facts.markers.contains(&Marker::ChangedWhileStarting);
    if starts_again && matches!(facts.status, ExitStatus::Code(_)) {
        return ExitClass::Relaunch;
    }
    let refused = first_cause(&facts.markers).filter(|_| !facts.markers.contains(&Marker::Ready));
    match facts.status {
        ExitStatus::Code(REFUSED) => {
            ExitClass::Refused(first_cause(&facts.markers).unwrap_or(Refusal::Unexplained))
        }
        // Old versions return 1, and 2026.7.1 returns 0 when its port is taken.
        ExitStatus::Code(code) => match refused {
            Some(refusal) => ExitClass::Refused(refusal),
            None if code == 0 => ExitClass::Relaunch,
            None => ExitClass::Crash { code },
        },
        ExitStatus::Signal(signal) => ExitClass::Signal { signal },
    }
}

/// The refusal that explains the others: the first that is no mere symptom, else the first.
#[must_use]
pub fn first_cause(markers: &[Marker]) -> Option<Refusal> {
    let refusals = || {
        markers.iter().filter_map(|marker| match marker {
            Marker::Refusal(refusal) => Some(*refusal),
            Marker::Ready
            | Marker::Listening
            | Marker::HeapOom
            | Marker::BreakerTripped
            | Marker::BreakerRecovered
            | Marker::ChangedWhileStarting => None,
        })
    };
    refusals()
        .find(|refusal| !refusal.is_often_a_symptom())
        .or_else(|| refusals().next())
}

impl ExitClass {
    /// The one word for logs, metrics and the journal.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Requested(_) => "requested",
            Self::Relaunch => "relaunch",
            Self::Refused(_) => "refused",
            Self::Crash { .. } => "crash",
            Self::Signal { .. } => "signal",
            Self::OomKernel(_) => "oom-kernel",
            Self::OomHeap => "oom-heap",
        }
    }

    /// True when the gateway's own crash breaker will count this boot as unclean (2026.7.1 and later).
    #[must_use]
    pub const fn is_unclean(&self, status: ExitStatus) -> bool {
        match self {
            Self::Relaunch => false,
            // Refusals that come after its `starting...` leave a failed boot behind, earlier ones nothing.
            Self::Refused(refusal) => matches!(
                refusal,
                Refusal::UnknownKey
                    | Refusal::InvalidConfig
                    | Refusal::PortInUse
                    | Refusal::PluginVerification
            ),
            Self::Requested(_) => !matches!(status, ExitStatus::Code(0)),
            Self::Crash { .. } | Self::Signal { .. } | Self::OomKernel(_) | Self::OomHeap => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::oom::OomCount;
    use super::*;

    fn exit(status: ExitStatus) -> ExitFacts {
        ExitFacts {
            status,
            asked: None,
            markers: vec![],
            oom: OomEvidence::default(),
            pid: 7,
            we_killed: false,
        }
    }

    fn counted(kills: u64, is_ours: bool) -> OomEvidence {
        OomEvidence {
            count: Some(OomCount {
                source: "/sys/fs/cgroup/memory.events".into(),
                kills,
                is_ours,
            }),
            ..OomEvidence::default()
        }
    }

    #[test]
    fn a_kill_is_the_kernels_only_with_its_own_counter() {
        let mut facts = exit(ExitStatus::Signal(SIGKILL));
        assert_eq!(classify(&facts), ExitClass::Signal { signal: SIGKILL });
        facts.oom = counted(0, true);
        assert_eq!(classify(&facts), ExitClass::Signal { signal: SIGKILL });
        facts.oom = counted(1, false);
        assert_eq!(
            classify(&facts),
            ExitClass::Signal { signal: SIGKILL },
            "a host's counter proves nothing"
        );
        facts.oom = counted(1, true);
        for status in [ExitStatus::Signal(SIGKILL), ExitStatus::Code(137)] {
            facts.status = status;
            let ExitClass::OomKernel(proof) = classify(&facts) else {
                panic!("{status:?}: it was counted")
            };
            assert_eq!(proof.count, facts.oom.count);
        }
    }

    #[test]
    fn a_death_of_another_kind_is_no_kill_whatever_was_counted_meanwhile() {
        for status in [ExitStatus::Code(1), ExitStatus::Signal(SIGABRT)] {
            let mut facts = exit(status);
            facts.oom = counted(1, true);
            assert!(!matches!(classify(&facts), ExitClass::OomKernel(_)));
        }
        let mut ours = exit(ExitStatus::Signal(SIGKILL));
        ours.oom = counted(1, true);
        ours.asked = Some(StopCause::Hung);
        ours.we_killed = true;
        assert_eq!(classify(&ours), ExitClass::Requested(StopCause::Hung));
    }

    #[test]
    fn a_heap_oom_needs_both_the_marker_and_the_abort() {
        for status in [ExitStatus::Signal(SIGABRT), ExitStatus::Code(134)] {
            let mut facts = exit(status);
            assert_ne!(classify(&facts), ExitClass::OomHeap);
            facts.markers = vec![Marker::Ready, Marker::HeapOom];
            assert_eq!(classify(&facts), ExitClass::OomHeap);
        }
        let mut lied = exit(ExitStatus::Code(1));
        lied.markers = vec![Marker::HeapOom];
        assert_eq!(classify(&lied), ExitClass::Crash { code: 1 });
    }

    #[test]
    fn exit_zero_unasked_is_a_relaunch_and_asked_is_what_we_asked() {
        let mut facts = exit(ExitStatus::Code(0));
        assert_eq!(classify(&facts), ExitClass::Relaunch);
        facts.asked = Some(StopCause::Shutdown);
        assert_eq!(classify(&facts), ExitClass::Requested(StopCause::Shutdown));
    }

    #[test]
    fn a_taken_port_is_a_refusal_even_when_7_1_returns_zero_for_it() {
        let mut facts = exit(ExitStatus::Code(0));
        facts.markers = vec![Marker::Refusal(Refusal::PortInUse)];
        assert_eq!(classify(&facts), ExitClass::Refused(Refusal::PortInUse));
    }

    #[test]
    fn older_versions_refuse_with_one_and_only_their_lines_tell() {
        let mut facts = exit(ExitStatus::Code(1));
        assert_eq!(classify(&facts), ExitClass::Crash { code: 1 });
        facts.markers = vec![
            Marker::Refusal(Refusal::AlreadyRunning),
            Marker::Refusal(Refusal::Unexplained),
        ];
        assert_eq!(
            classify(&facts),
            ExitClass::Refused(Refusal::AlreadyRunning)
        );
        facts.markers.insert(0, Marker::Ready);
        assert_eq!(
            classify(&facts),
            ExitClass::Crash { code: 1 },
            "it was ready: not a refusal"
        );
    }

    #[test]
    fn seventy_eight_is_always_a_refusal() {
        let mut facts = exit(ExitStatus::Code(REFUSED));
        assert_eq!(classify(&facts), ExitClass::Refused(Refusal::Unexplained));
        facts.markers = vec![Marker::Refusal(Refusal::CorruptDatabase)];
        assert_eq!(
            classify(&facts),
            ExitClass::Refused(Refusal::CorruptDatabase)
        );
    }

    #[test]
    fn an_edit_during_the_start_is_a_request_to_start_again() {
        let facts = |status| ExitFacts {
            markers: vec![
                Marker::Refusal(Refusal::StartupMigrations),
                Marker::ChangedWhileStarting,
            ],
            ..exit(status)
        };
        assert_eq!(classify(&facts(ExitStatus::Code(78))), ExitClass::Relaunch);
        assert_eq!(
            classify(&facts(ExitStatus::Signal(11))),
            ExitClass::Signal { signal: 11 }
        );
    }

    #[test]
    fn stop_causes_are_ordered_by_strength() {
        assert!(StopCause::Shutdown > StopCause::StartTimeout);
        assert!(StopCause::StartTimeout > StopCause::Memory);
        assert!(StopCause::Memory > StopCause::Hung);
        assert!(StopCause::Hung > StopCause::ChannelsOff);
    }
}
