//! What of the reports is kept for people: the transitions, each of one kind, over many lives of clawkeeper.
//!
//! A kind is for whoever filters, counts or draws; what happened is told by the words of the log line.

use super::action::{Ending, Report};
use super::config::Severity;
use super::exit_class::ExitClass;
use super::reload::Told;
use super::time::WallMs;

/// One transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, by the wall clock, which may have been set back since the entry before.
    pub at: WallMs,
    /// What it was.
    pub kind: Kind,
    /// How much it matters.
    pub weight: Weight,
    /// The log line without its time and level: the same words everywhere.
    pub text: String,
}

/// How much an entry matters: the level of its log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A transition.
    Info,
    /// Something is degraded.
    Warn,
    /// A person must act.
    Error,
}

impl Weight {
    /// The one word for files and answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The weight that has this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|weight| weight.word() == word)
    }
}

/// A kind, the word that stands for it in files and answers, and what it says.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $word:literal,)+) => {
        /// What an entry is about. The words are a closed list that scripts may rely on; see `docs/events.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The one word for files and answers.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// clawkeeper began.
    Begun = "begun",
    /// A gateway was started.
    Started = "started",
    /// It serves.
    Ready = "ready",
    /// The platform cannot reach it where it listens.
    Unreachable = "unreachable",
    /// It does not answer.
    NotAnswering = "not-answering",
    /// It answers again.
    AnsweringAgain = "answering-again",
    /// Its crash breaker left every channel off.
    ChannelsOff = "channels-off",
    /// They are on again.
    ChannelsOn = "channels-on",
    /// They could not be started.
    ChannelsStayOff = "channels-stay-off",
    /// Memory has become short.
    MemoryShort = "memory-short",
    /// It is no longer short.
    MemoryEased = "memory-eased",
    /// The gateway leaks and is restarted in time.
    MemoryRestart = "memory-restart",
    /// It would be, but was as often as it may be within an hour.
    MemoryRestartsSpent = "memory-restarts-spent",
    /// The gateway is being stopped.
    Stopping = "stopping",
    /// It did not stop in time.
    Killing = "killing",
    /// It ended as it was told to.
    ExitedRequested = "exited-requested",
    /// It ended because it wants to be started again.
    ExitedRelaunch = "exited-relaunch",
    /// It refused to start.
    ExitedRefused = "exited-refused",
    /// It crashed.
    ExitedCrash = "exited-crash",
    /// Somebody's signal ended it.
    ExitedSignal = "exited-signal",
    /// The kernel killed it for want of memory.
    ExitedOomKernel = "exited-oom-kernel",
    /// V8 ran out of heap.
    ExitedOomHeap = "exited-oom-heap",
    /// The kernel killed processes beside it for want of memory.
    OomBeside = "oom-beside",
    /// The next start comes later.
    BackingOff = "backing-off",
    /// No gateway is started until something changes.
    Held = "held",
    /// That is over.
    HoldOver = "hold-over",
    /// The volume is degraded.
    VolumeTrouble = "volume-trouble",
    /// Files of root were given to the gateway's user.
    OwnersMended = "owners-mended",
    /// A leftover process of an earlier gateway is ended.
    LeftoverFound = "leftover-found",
    /// A stale lock was moved away.
    LockCleared = "lock-cleared",
    /// It could not be.
    LockNotCleared = "lock-not-cleared",
    /// A first config was written.
    ConfigSeeded = "config-seeded",
    /// There is something about the config that a person should know.
    ConfigFinding = "config-finding",
    /// The gateway starts without a config.
    Unconfigured = "unconfigured",
    /// An edit is found sound, or what was refused can be used again.
    ConfigAccepted = "config-accepted",
    /// An edit, or the config that a signal asked to look at, cannot be used.
    ConfigRefused = "config-refused",
    /// The gateway changed its config itself.
    ConfigRewritten = "config-rewritten",
    /// The gateway has taken an edit and answers.
    ConfigApplied = "config-applied",
    /// An edit makes the gateway restart, or be restarted.
    ConfigRestart = "config-restart",
    /// An edit waits for the next start.
    ConfigNotApplied = "config-not-applied",
    /// The last good config was put in the place of a broken one.
    RolledBack = "rolled-back",
    /// It could not be.
    NotRolledBack = "not-rolled-back",
    /// The gateway starts with the last good config, and the broken one is not repaired.
    StillRolledBack = "still-rolled-back",
    /// Somebody asked for a restart, a pause or the end of one.
    Requested = "requested",
    /// No gateway runs until somebody resumes it.
    Paused = "paused",
    /// That is over.
    Resumed = "resumed",
    /// clawkeeper ends.
    Ended = "ended",
}

impl Kind {
    /// The kind that has this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}

/// What a report is kept as; `None` for one that is no transition, or not ours to write down.
#[must_use]
pub fn kind_of(report: &Report) -> Option<Kind> {
    Some(match report {
        // The folder is another's.
        Report::AlreadyRunning { .. } | Report::Ending(Ending::AlreadyRunning) => return None,
        // Each comes beside an entry that says what it led to.
        Report::StillStarting { .. }
        | Report::StopShortened { .. }
        | Report::TreeEnded { .. }
        | Report::LockLeft { .. } => return None,
        Report::Volume(_) => Kind::VolumeTrouble,
        Report::OwnersMended { .. } => Kind::OwnersMended,
        Report::LeftoverFound { .. } => Kind::LeftoverFound,
        Report::LockCleared { .. } => Kind::LockCleared,
        Report::LockNotCleared { .. } => Kind::LockNotCleared,
        Report::Config(finding) => match finding.severity {
            Severity::Info => return None,
            Severity::Warn | Severity::Hold => Kind::ConfigFinding,
        },
        Report::ConfigSeeded { .. } => Kind::ConfigSeeded,
        Report::Unconfigured => Kind::Unconfigured,
        Report::Started { .. } => Kind::Started,
        Report::Ready { .. } => Kind::Ready,
        Report::Unreachable { .. } => Kind::Unreachable,
        Report::ChannelsOff { .. } => Kind::ChannelsOff,
        Report::ChannelsStarted { .. } => Kind::ChannelsOn,
        Report::ChannelsStayOff { .. } => Kind::ChannelsStayOff,
        Report::NotAnswering { .. } => Kind::NotAnswering,
        Report::AnsweringAgain { .. } => Kind::AnsweringAgain,
        Report::MemoryShort { .. } => Kind::MemoryShort,
        Report::MemoryEased(_) => Kind::MemoryEased,
        Report::MemoryRestart(_) => Kind::MemoryRestart,
        Report::MemoryRestartsSpent { .. } => Kind::MemoryRestartsSpent,
        Report::Stopping { .. } => Kind::Stopping,
        Report::Killing => Kind::Killing,
        Report::Exited { class, .. } => kind_of_exit(class),
        Report::KilledBeside { .. } => Kind::OomBeside,
        Report::BackingOff { .. } => Kind::BackingOff,
        Report::Held(_) => Kind::Held,
        Report::HoldOver { .. } => Kind::HoldOver,
        Report::ConfigFine => Kind::ConfigAccepted,
        Report::ConfigNotFine(_) => Kind::ConfigRefused,
        Report::Edit { told, .. } => kind_of_edit(told),
        Report::RolledBack { .. } => Kind::RolledBack,
        Report::NotRolledBack { .. } => Kind::NotRolledBack,
        Report::StillRolledBack { .. } => Kind::StillRolledBack,
        Report::Requested { .. } => Kind::Requested,
        Report::Paused { .. } => Kind::Paused,
        Report::Resumed { .. } => Kind::Resumed,
        Report::Ending(Ending::Stopped | Ending::StopForced) => Kind::Ended,
    })
}

const fn kind_of_exit(class: &ExitClass) -> Kind {
    match class {
        ExitClass::Requested(_) => Kind::ExitedRequested,
        ExitClass::Relaunch => Kind::ExitedRelaunch,
        ExitClass::Refused(_) => Kind::ExitedRefused,
        ExitClass::Crash { .. } => Kind::ExitedCrash,
        ExitClass::Signal { .. } => Kind::ExitedSignal,
        ExitClass::OomKernel(_) => Kind::ExitedOomKernel,
        ExitClass::OomHeap => Kind::ExitedOomHeap,
    }
}

const fn kind_of_edit(told: &Told) -> Kind {
    match told {
        Told::Accepted { .. } | Told::Restored | Told::Unverified { .. } => Kind::ConfigAccepted,
        Told::Refused { .. } | Told::RefusedByGateway { .. } => Kind::ConfigRefused,
        Told::Rewritten { .. } => Kind::ConfigRewritten,
        Told::Applied { .. } => Kind::ConfigApplied,
        Told::GatewayRestarts { .. } | Told::Restarts { .. } => Kind::ConfigRestart,
        Told::NotApplied { .. } => Kind::ConfigNotApplied,
    }
}

#[cfg(test)]
mod tests {
    use super::super::exit_class::StopCause;
    use super::super::oom::OomProof;
    use super::*;
    use crate::core::action::Ending;

    #[test]
    fn each_kind_has_a_word_of_its_own_that_leads_back_to_it() {
        for kind in Kind::ALL {
            let word = kind.word();
            assert_eq!(Kind::from_word(word), Some(*kind), "{word}");
            assert!(
                word.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{word}"
            );
        }
        assert_eq!(Kind::from_word("of-a-later-version"), None);
    }

    #[test]
    fn an_exit_is_kept_under_the_word_of_its_class() {
        let classes = [
            ExitClass::Requested(StopCause::Hung),
            ExitClass::Relaunch,
            ExitClass::Refused(crate::core::exit_class::Refusal::Unexplained),
            ExitClass::Crash { code: 1 },
            ExitClass::Signal { signal: 9 },
            ExitClass::OomKernel(OomProof {
                count: None,
                kill: None,
            }),
            ExitClass::OomHeap,
        ];
        for class in classes {
            let word = kind_of_exit(&class).word();
            assert_eq!(word.strip_prefix("exited-"), Some(class.word()));
        }
    }

    #[test]
    fn one_who_finds_the_folder_taken_leaves_nothing_in_it() {
        let holder = "somebody".to_owned();
        assert_eq!(kind_of(&Report::AlreadyRunning { holder }), None);
        assert_eq!(kind_of(&Report::Ending(Ending::AlreadyRunning)), None);
        assert_eq!(
            kind_of(&Report::Ending(Ending::StopForced)),
            Some(Kind::Ended)
        );
    }
}
