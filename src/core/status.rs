//! What is going on, for those who ask: a plain view of the machine, made by [`Core::status`](super::machine::Core::status).
//! Holds no value of the config or the environment.

use super::action::{HoldWhy, Stage};
use super::event::Attempt;
use super::exit_class::{ExitClass, ExitStatus, StopCause};
use super::memory::{Kib, Sample};
use super::oom::OomEvidence;
use super::time::Millis;
use super::volume::Space;
use serde::{Deserialize, Serialize};

/// The machine as it stands at one moment. Times are ages at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The phase in one word, one of [`PHASES`].
    pub phase: &'static str,
    /// Since it was entered.
    pub phase_for: Millis,
    /// The step of a preflight.
    pub stage: Option<Stage>,
    /// Since clawkeeper began.
    pub uptime: Millis,
    /// Counts looks at the world that may lead to a start.
    pub attempt: Attempt,
    /// Gateways started so far.
    pub starts: u64,
    /// Starts that followed an exit, by the class of that exit, in the order of [`RestartClass::ALL`].
    pub restarts: [u64; RestartClass::ALL.len()],
    /// The same, of the last hour.
    pub restarts_hour: [u64; RestartClass::ALL.len()],
    /// The same, of the last day.
    pub restarts_day: [u64; RestartClass::ALL.len()],
    /// Why no gateway is started, until one is.
    pub hold: Option<Hold>,
    /// That no gateway is wanted, from the request on.
    pub pause: Option<Pause>,
    /// Until the next start is tried, in a back-off or hold.
    pub next_look_in: Option<Millis>,
    /// Why the gateway is being stopped, while it is.
    pub stopping: Option<StopCause>,
    /// The gateway that runs.
    pub gateway: Option<GatewayStatus>,
    /// How the gateway before it ended.
    pub last_exit: Option<LastExit>,
    /// Crashes in a row, by which the next delay is chosen.
    pub crashes: u32,
    /// The last look at the memory of the gateway that runs, or of the last one.
    pub memory: Option<Sample>,
    /// The last samples of its tree, by age, oldest first; at most 40.
    pub memory_course: Vec<(Millis, Kib)>,
    /// How fast it leaks in an hour, if it seems to.
    pub leak: Option<Kib>,
    /// What became of locks.
    pub locks: Locks,
    /// What the last look at the config found; `None` before the first.
    pub config_usable: Option<bool>,
    /// Counts the contents the config was seen to have while a gateway ran.
    pub config_generation: u64,
    /// What became of the last edit: `accepted`, `refused`, or `pending` until the gateway has answered for it.
    pub config_verdict: &'static str,
    /// What the last look at the volume found; `None` before the first.
    pub volume: Option<VolumeSeen>,
}

/// Every word that [`Status::phase`] may be.
pub const PHASES: [&str; 11] = [
    "new",
    "preflight",
    "starting",
    "running",
    "stopping",
    "classifying",
    "backoff",
    "held",
    "paused",
    "closing",
    "exited",
];

/// Why no gateway is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// The reason; `render` has the words.
    pub why: HoldWhy,
    /// Since it began to hold.
    pub held_for: Millis,
}

/// What became of the locks that were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Locks {
    /// Proven leftovers moved away since clawkeeper began.
    pub cleared: u64,
    /// Those that stayed where they are at the last look.
    pub left: usize,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Since it was asked for.
    pub paused_for: Millis,
    /// Until it ends by itself.
    pub resumes_in: Option<Millis>,
}

/// The gateway's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayStatus {
    /// Its pid, as clawkeeper sees it.
    pub pid: i32,
    /// Since it was started.
    pub up_for: Millis,
    /// Since it was judged ready.
    pub ready_for: Option<Millis>,
    /// What its start waits for, in its own word.
    pub waits_for: Option<String>,
    /// Since the first probe in a row that it left unanswered, once it was ready.
    pub silent_for: Option<Millis>,
    /// How long its last answer to a probe took.
    pub probe_took: Option<Millis>,
    /// True while its crash breaker keeps every channel off.
    pub channels_suppressed: bool,
}

/// How a gateway ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastExit {
    /// Why.
    pub class: ExitClass,
    /// How.
    pub status: ExitStatus,
    /// What the kernel had said of out-of-memory kills by then.
    pub oom: OomEvidence,
    /// How long it had run.
    pub after: Millis,
    /// Since then.
    pub ago: Millis,
}

/// The last look at the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSeen {
    /// Room on it; `None` when statvfs(3) failed.
    pub space: Option<Space>,
    /// How long a write and its fsync took; `None` when they failed.
    pub write_took: Option<Millis>,
}

impl Status {
    /// True when the gateway serves: it was judged ready, runs, and answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == "running"
            && self
                .gateway
                .as_ref()
                .is_some_and(|it| it.ready_for.is_some() && it.silent_for.is_none())
    }
}

/// What an exit is counted as: its class, and the cause where clawkeeper had asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartClass {
    /// clawkeeper asked for it.
    Requested(StopCause),
    /// Exit 0 unasked.
    Relaunch,
    /// It would not start.
    Refused,
    /// It returned an error.
    Crash,
    /// A signal of somebody else ended it.
    Signal,
    /// The kernel killed it for memory.
    OomKernel,
    /// V8 ran out of heap.
    OomHeap,
}

impl RestartClass {
    /// All that a start can follow; nothing follows a shutdown.
    pub const ALL: [Self; 13] = [
        Self::Requested(StopCause::ChannelsOff),
        Self::Requested(StopCause::Reload),
        Self::Requested(StopCause::Hung),
        Self::Requested(StopCause::Memory),
        Self::Requested(StopCause::StartTimeout),
        Self::Requested(StopCause::Restart),
        Self::Requested(StopCause::Pause),
        Self::Relaunch,
        Self::Refused,
        Self::Crash,
        Self::Signal,
        Self::OomKernel,
        Self::OomHeap,
    ];

    /// What an exit is counted as; `None` for a shutdown.
    #[must_use]
    pub const fn of(class: &ExitClass) -> Option<Self> {
        Some(match class {
            ExitClass::Requested(StopCause::Shutdown) => return None,
            ExitClass::Requested(cause) => Self::Requested(*cause),
            ExitClass::Relaunch => Self::Relaunch,
            ExitClass::Refused(_) => Self::Refused,
            ExitClass::Crash { .. } => Self::Crash,
            ExitClass::Signal { .. } => Self::Signal,
            ExitClass::OomKernel(_) => Self::OomKernel,
            ExitClass::OomHeap => Self::OomHeap,
        })
    }

    /// The word of the class, as in [`ExitClass::word`].
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Requested(_) => "requested",
            Self::Relaunch => "relaunch",
            Self::Refused => "refused",
            Self::Crash => "crash",
            Self::Signal => "signal",
            Self::OomKernel => "oom-kernel",
            Self::OomHeap => "oom-heap",
        }
    }

    /// What clawkeeper had asked for.
    #[must_use]
    pub const fn cause(self) -> Option<StopCause> {
        match self {
            Self::Requested(cause) => Some(cause),
            Self::Relaunch
            | Self::Refused
            | Self::Crash
            | Self::Signal
            | Self::OomKernel
            | Self::OomHeap => None,
        }
    }

    /// Its place in [`RestartClass::ALL`]; a new cause of a stop must be given one.
    #[must_use]
    pub const fn position(self) -> Option<usize> {
        Some(match self {
            Self::Requested(StopCause::ChannelsOff) => 0,
            Self::Requested(StopCause::Reload) => 1,
            Self::Requested(StopCause::Hung) => 2,
            Self::Requested(StopCause::Memory) => 3,
            Self::Requested(StopCause::StartTimeout) => 4,
            Self::Requested(StopCause::Shutdown) => return None,
            Self::Requested(StopCause::Restart) => 5,
            Self::Requested(StopCause::Pause) => 6,
            Self::Relaunch => 7,
            Self::Refused => 8,
            Self::Crash => 9,
            Self::Signal => 10,
            Self::OomKernel => 11,
            Self::OomHeap => 12,
        })
    }
}

#[cfg(test)]
impl Status {
    /// Of a machine that has been in this phase for 5 of its 60 seconds and has nothing to tell.
    pub(crate) fn bare(phase: &'static str) -> Self {
        Self {
            phase,
            phase_for: Millis(5_000),
            stage: None,
            uptime: Millis(60_000),
            attempt: Attempt(2),
            starts: 1,
            restarts: Default::default(),
            restarts_hour: Default::default(),
            restarts_day: Default::default(),
            hold: None,
            pause: None,
            next_look_in: None,
            stopping: None,
            gateway: None,
            last_exit: None,
            crashes: 0,
            memory: None,
            memory_course: Vec::new(),
            leak: None,
            locks: Locks::default(),
            config_usable: None,
            config_generation: 0,
            config_verdict: "accepted",
            volume: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_restart_class_has_the_place_that_it_names() {
        for (index, class) in RestartClass::ALL.into_iter().enumerate() {
            assert_eq!(class.position(), Some(index), "{class:?}");
        }
    }

    #[test]
    fn a_restart_is_counted_under_the_word_of_the_exit() {
        for class in [
            ExitClass::Requested(StopCause::Hung),
            ExitClass::Relaunch,
            ExitClass::Refused(super::super::exit_class::Refusal::Unexplained),
            ExitClass::Crash { code: 1 },
            ExitClass::Signal { signal: 11 },
            ExitClass::OomHeap,
        ] {
            let counted = RestartClass::of(&class).expect("a start can follow it");
            assert_eq!(counted.word(), class.word());
        }
    }
}
