//! Past facts. The shell turns everything that happens into one of these; the core sees nothing else.

use super::config::ConfigFacts;
use super::control::{Op, Peer};
use super::exit_class::{ExitStatus, Marker};
use super::leftovers::ProcessFacts;
use super::locks::LockFacts;
use super::memory::Sample;
use super::oom::OomEvidence;
use super::readiness::{Listener, ProbeOutcome, ProbeTarget, Progress};
use super::reload::{Look, Sign, Validation};
use super::volume::VolumeFacts;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Counts looks at the world that may lead to a start. Each answer carries it, so that a late one is dropped.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Attempt(pub u64);

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// clawkeeper is up; the first event.
    Begun,
    /// The deadline that [`Core::next_deadline`](super::machine::Core::next_deadline) named has passed.
    DeadlinePassed,
    /// A signal was sent to clawkeeper.
    SignalReceived {
        /// What it asks for.
        signal: Request,
        /// Its name, e.g. `SIGTERM`.
        name: String,
        /// Who sent it; `None` when the kernel did or it is in another namespace.
        sender: Option<i32>,
    },
    /// Answers [`CheckVolume`](super::action::Action::CheckVolume).
    VolumeChecked {
        /// The look it belongs to.
        attempt: Attempt,
        /// Whether the state folder is ours alone.
        instance: Instance,
        /// The volume.
        facts: VolumeFacts,
        /// Files whose owner was changed so that the gateway can use them.
        mended: Option<Mended>,
    },
    /// Answers [`FindLeftovers`](super::action::Action::FindLeftovers).
    LeftoversFound {
        /// The look it belongs to.
        attempt: Attempt,
        /// Processes that matter.
        processes: Vec<ProcessFacts>,
        /// The port the gateway is to have.
        port: u16,
        /// True when something listens on it.
        port_busy: bool,
    },
    /// Answers [`EndProcesses`](super::action::Action::EndProcesses).
    ProcessesEnded {
        /// The look it belongs to.
        attempt: Attempt,
        /// Those that SIGKILL did not end either.
        survivors: Vec<i32>,
    },
    /// Answers [`FindLocks`](super::action::Action::FindLocks).
    LocksFound {
        /// The look it belongs to.
        attempt: Attempt,
        /// Every lock found.
        locks: Vec<LockFacts>,
    },
    /// Answers [`ClearLocks`](super::action::Action::ClearLocks).
    LocksCleared {
        /// The look it belongs to.
        attempt: Attempt,
        /// Locks that could not be moved away, with the reason.
        failed: Vec<(PathBuf, String)>,
    },
    /// Answers [`ReadConfig`](super::action::Action::ReadConfig).
    ConfigRead {
        /// The look it belongs to.
        attempt: Attempt,
        /// The config.
        facts: ConfigFacts,
    },
    /// Answers [`SeedConfig`](super::action::Action::SeedConfig).
    ConfigSeeded {
        /// The look it belongs to.
        attempt: Attempt,
        /// What it was made from, in words, or why nothing was written.
        result: Result<String, String>,
    },
    /// The gateway's process exists and has executed its program.
    Spawned {
        /// The attempt.
        attempt: Attempt,
        /// Its process id.
        pid: i32,
    },
    /// The program could not be started.
    SpawnFailed {
        /// The attempt.
        attempt: Attempt,
        /// What failed.
        failure: SpawnFailure,
    },
    /// A line of output gave something away.
    LineSeen {
        /// The attempt.
        attempt: Attempt,
        /// What.
        marker: Marker,
    },
    /// Answers [`Probe`](super::action::Action::Probe).
    ProbeFinished {
        /// The attempt.
        attempt: Attempt,
        /// What was asked.
        target: ProbeTarget,
        /// What came back.
        outcome: ProbeOutcome,
        /// How far the gateway had come by then.
        progress: Progress,
    },
    /// Answers [`FindListeners`](super::action::Action::FindListeners).
    ListenersFound {
        /// The attempt.
        attempt: Attempt,
        /// Listening sockets of the gateway's process tree.
        listeners: Vec<Listener>,
    },
    /// The gateway's main process ended.
    ChildExited {
        /// The attempt.
        attempt: Attempt,
        /// How.
        status: ExitStatus,
    },
    /// Answers [`CollectEvidence`](super::action::Action::CollectEvidence): all of its output has been read.
    EvidenceCollected {
        /// The attempt.
        attempt: Attempt,
        /// Out-of-memory kills since the last look, which was at the start of the attempt or at the last `OomSeen`.
        oom: OomEvidence,
    },
    /// The kernel killed something for want of memory while the gateway ran, or seemed to.
    OomSeen {
        /// The attempt.
        attempt: Attempt,
        /// What it says, since the last look.
        oom: OomEvidence,
    },
    /// Answers [`EndTree`](super::action::Action::EndTree).
    TreeEnded {
        /// The attempt.
        attempt: Attempt,
        /// How many processes were still there and have been ended.
        ended: u32,
        /// Those that SIGKILL did not end.
        survivors: Vec<i32>,
    },
    /// Answers [`StartChannels`](super::action::Action::StartChannels).
    ChannelsStarted {
        /// The attempt.
        attempt: Attempt,
        /// Their names (none if they were on again by themselves), or why they could not be started.
        result: Result<Vec<String>, String>,
    },
    /// Answers [`SampleMemory`](super::action::Action::SampleMemory).
    MemorySampled {
        /// The attempt.
        attempt: Attempt,
        /// What was found; its main process has no memory once it is ending.
        sample: Sample,
    },
    /// A file that could be the cause of a hold, or that the running gateway's config consists of, has changed.
    CauseChanged,
    /// Answers [`LookAtConfig`](super::action::Action::LookAtConfig) and [`NudgeConfig`](super::action::Action::NudgeConfig).
    ConfigSeen {
        /// The attempt.
        attempt: Attempt,
        /// The config and what it includes.
        look: Look,
        /// Files whose owner was changed so that the gateway can read them.
        mended: Option<Mended>,
    },
    /// The gateway's output says something of a reload.
    ReloadSaid {
        /// The attempt.
        attempt: Attempt,
        /// What.
        sign: Sign,
    },
    /// Answers [`ValidateConfig`](super::action::Action::ValidateConfig).
    ConfigValidated {
        /// The attempt.
        attempt: Attempt,
        /// Which content was asked about.
        generation: u64,
        /// What its validator says.
        validation: Validation,
    },
    /// Answers [`RollBackConfig`](super::action::Action::RollBackConfig).
    ConfigRolledBack {
        /// The look it belongs to.
        attempt: Attempt,
        /// Where the broken file is kept now, or why nothing was changed.
        result: Result<PathBuf, String>,
    },
    /// A person asks for something. Answered at once by [`Reply`](super::action::Action::Reply).
    Requested {
        /// For the answer.
        id: u64,
        /// What.
        op: Op,
        /// Who.
        peer: Peer,
    },
}

/// What a signal asks clawkeeper to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// SIGTERM, SIGINT, SIGQUIT: stop, and end when the gateway has.
    Stop,
    /// SIGHUP: look at the config again.
    Look,
}

/// Files of root that were given to the gateway's uid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// The first few.
    pub paths: Vec<PathBuf>,
    /// How many in all.
    pub count: u32,
    /// Their new owner.
    pub uid: u32,
}

/// Whether this clawkeeper is the only one on its state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instance {
    /// It holds the lock.
    Ours,
    /// Another one does; its own words on who it is.
    Theirs {
        /// E.g. `pid 1 on host 5683d in pid namespace 4026531836`.
        holder: String,
    },
    /// The lock cannot be had at all, e.g. on a read-only volume.
    Unavailable {
        /// Why.
        error: String,
    },
}

/// What kept a program from being started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    /// Whose fault it is.
    pub fault: SpawnFault,
    /// The step, and the errno in words.
    pub error: String,
}

/// Where the way out of a failed start lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpawnFault {
    /// The command: there is no such program, or it cannot be executed.
    Command,
    /// The system is out of processes, memory or open files, or slow: it may pass.
    Resources,
    /// We may not give the gateway its user.
    Privileges,
}
