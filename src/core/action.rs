//! What the core wants done. Imperative; each is answered by exactly one [`Event`](super::event::Event), or by none where its doc says so.

use super::config::{ConfigState, Finding, Severity};
use super::control::{Answer, Op, Peer};
use super::event::{Attempt, SpawnFailure};
use super::exit_class::{ExitClass, ExitStatus, StopCause};
use super::incident::{Incident, MemoryStory};
use super::leftovers::{LeftoverWhy, ProcessFacts};
use super::locks::{LockFacts, LockVerdict, StaleWhy};
use super::memory::{Outlook, Sample, Shortage};
use super::readiness::{ListenVerdict, ProbeTarget};
use super::reload::{Digest, Told};
use super::time::Millis;
use super::volume::{VolumeProblem, VolumeWarning};
use crate::core::exit_class::Refusal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take the instance lock, prove the volume. Answered by `VolumeChecked`.
    CheckVolume {
        /// For the answer.
        attempt: Attempt,
        /// True when every file that root owns in the state folder is to be given to the gateway's uid,
        /// not only the folder and the config: the gateway was just refused for want of permission.
        mend_all: bool,
    },
    /// Look for what an earlier gateway left running. Answered by `LeftoversFound`.
    FindLeftovers {
        /// For the answer.
        attempt: Attempt,
    },
    /// SIGTERM, a short grace, SIGKILL. Answered by `ProcessesEnded`.
    EndProcesses {
        /// For the answer.
        attempt: Attempt,
        /// Pid and start tick of each, so that a reused pid is never hit.
        targets: Vec<(i32, u64)>,
    },
    /// Look at every place where a version may have left a lock. Answered by `LocksFound`.
    FindLocks {
        /// For the answer.
        attempt: Attempt,
    },
    /// Move proven leftovers into quarantine. Answered by `LocksCleared`.
    ClearLocks {
        /// For the answer.
        attempt: Attempt,
        /// The locks with the proof of each.
        locks: Vec<(LockFacts, StaleWhy)>,
    },
    /// Read and examine the config. Answered by `ConfigRead`.
    ReadConfig {
        /// For the answer.
        attempt: Attempt,
    },
    /// Write a first config. Answered by `ConfigSeeded`.
    SeedConfig {
        /// For the answer.
        attempt: Attempt,
    },
    /// Start the gateway. Answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// For the answer.
        attempt: Attempt,
    },
    /// SIGTERM to the gateway's main process, which drains. No answer.
    Terminate,
    /// SIGKILL to the gateway's process group. No answer.
    Kill,
    /// Wait until all of the dead gateway's output has been read, and ask the kernel. Answered by `EvidenceCollected`.
    CollectEvidence {
        /// For the answer.
        attempt: Attempt,
    },
    /// End what is left of a tree of processes. Answered by `TreeEnded`.
    EndTree {
        /// For the answer.
        attempt: Attempt,
        /// How much of it.
        scope: TreeScope,
    },
    /// Ask the gateway over HTTP. Answered by `ProbeFinished`.
    Probe {
        /// For the answer.
        attempt: Attempt,
        /// The path.
        target: ProbeTarget,
        /// How long it may take.
        timeout: Millis,
    },
    /// List the sockets the gateway listens on. Answered by `ListenersFound`.
    FindListeners {
        /// For the answer.
        attempt: Attempt,
    },
    /// Ask the gateway to start the channels its crash breaker left off. Answered by `ChannelsStarted`.
    StartChannels {
        /// For the answer.
        attempt: Attempt,
    },
    /// Look at the memory of the gateway's tree and at what is left. Answered by `MemorySampled`.
    SampleMemory {
        /// For the answer.
        attempt: Attempt,
        /// Whether to look for processes that came or went; otherwise those known are measured.
        counts_processes: bool,
    },
    /// Watch the config, what it includes, and the state folder, from now on.
    /// Answered by any number of `CauseChanged`.
    Watch,
    /// Watch no more: clawkeeper is ending, and the kernel takes its time to forget what is watched. No answer.
    Unwatch,
    /// Keep what is known of a death, for later. No answer: it must not hold up the next start.
    KeepIncident(Box<Incident>),
    /// Look at the config and all it includes, and give it to the gateway's uid where only root can read it.
    /// Answered by `ConfigSeen`.
    LookAtConfig {
        /// For the answer.
        attempt: Attempt,
    },
    /// The same, but first set the config's times to now, so that a gateway that missed a change looks again.
    /// Answered by `ConfigSeen`.
    NudgeConfig {
        /// For the answer.
        attempt: Attempt,
    },
    /// Ask the gateway's own validator about the config. Answered by `ConfigValidated`.
    ValidateConfig {
        /// For the answer.
        attempt: Attempt,
        /// For the answer.
        generation: u64,
    },
    /// Mark the config as the last good one, if it still has these bytes. No answer.
    KeepConfig {
        /// Of all its files.
        bytes: Digest,
    },
    /// Put the last good config in the place of a broken one, which is kept beside it.
    /// Answered by `ConfigRolledBack`.
    RollBackConfig {
        /// For the answer.
        attempt: Attempt,
    },
    /// Answer a request. No answer.
    Reply {
        /// Of the request.
        id: u64,
        /// What to say.
        answer: Answer,
    },
    /// Say something. No answer.
    Report(Report),
    /// End clawkeeper. Nothing follows.
    Exit(Ending),
}

/// Which descendants to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeScope {
    /// Those that carry the gateway's mark: a console or a cron job beside it lives on.
    Gateway,
    /// All of them: clawkeeper is about to end.
    Everything,
}

/// How clawkeeper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Asked to stop, and the gateway ended in time (or none ran).
    Stopped,
    /// Asked to stop, and the gateway had to be killed.
    StopForced,
    /// Another clawkeeper keeps this state folder.
    AlreadyRunning,
}

/// Why no gateway is being started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldWhy {
    /// The volume cannot carry one.
    Volume(VolumeProblem),
    /// The single-instance lock cannot be had.
    InstanceLock(String),
    /// Somebody runs a gateway on this state folder.
    LiveGateway {
        /// Its pid.
        pid: i32,
        /// Its parent.
        ppid: i32,
        /// Its parent's name.
        parent_name: String,
    },
    /// Something else listens on the port.
    PortTaken {
        /// The port.
        port: u16,
        /// Pid and name of the holder, where they can be seen.
        holder: Option<(i32, String)>,
    },
    /// Leftovers that not even SIGKILL ended (a process in uninterruptible sleep).
    LeftoversSurvive(Vec<i32>),
    /// Leftovers that were ended, several times over, and are there again.
    LeftoversReturn {
        /// The first one's name. Its pid is another each time.
        name: String,
    },
    /// A lock belongs to somebody alive, or may.
    Lock {
        /// Where.
        path: PathBuf,
        /// What is known.
        verdict: LockVerdict,
    },
    /// The config cannot be used.
    Config {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        problem: ConfigProblem,
    },
    /// The gateway refused to start.
    Refused(Refusal),
    /// The gateway's process could not be started.
    CannotStart(SpawnFailure),
    /// A step of the preflight gave no answer in time: most likely the disk hangs.
    StageStuck(Stage),
}

/// What is wrong with the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigProblem {
    /// There is none, and seeding is switched off.
    Missing,
    /// No first config could be written.
    SeedFailed(String),
    /// Not a regular file.
    NotAFile(String),
    /// Not readable.
    Unreadable {
        /// The errno.
        errno: i32,
    },
    /// It does not parse: position, line and caret.
    Broken(String),
    /// The gateway would refuse it.
    Findings(Vec<Finding>),
}

impl ConfigProblem {
    /// What is wrong with a config that no gateway could start with.
    #[must_use]
    pub fn of(state: ConfigState) -> Self {
        match state {
            ConfigState::Missing => Self::Missing,
            ConfigState::NotAFile { what } => Self::NotAFile(what),
            ConfigState::Unreadable { errno } => Self::Unreadable { errno },
            ConfigState::Broken { error } => Self::Broken(error),
            ConfigState::Parsed { findings } => Self::Findings(
                findings
                    .into_iter()
                    .filter(|finding| finding.severity == Severity::Hold)
                    .collect(),
            ),
        }
    }
}

/// The steps of the preflight, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Instance lock, mount, write and fsync.
    Volume,
    /// Looking for processes.
    Leftovers,
    /// Ending them.
    EndingLeftovers,
    /// Looking for locks.
    Locks,
    /// Moving them away.
    ClearingLocks,
    /// Reading the config.
    Config,
    /// Writing a first one.
    Seeding,
    /// Putting the last good one back.
    RollingBack,
    /// Fork and exec.
    Spawn,
}

/// What the core finds worth saying. Typed, so that the wording lives in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Another clawkeeper keeps this folder; this one ends.
    AlreadyRunning {
        /// Who.
        holder: String,
    },
    /// Something about the volume.
    Volume(VolumeWarning),
    /// Files of root were given to the gateway's uid.
    OwnersMended {
        /// Some of them.
        paths: Vec<PathBuf>,
        /// How many in all.
        count: u32,
        /// The uid they belong to now.
        uid: u32,
    },
    /// A leftover is being ended.
    LeftoverFound {
        /// The process.
        process: ProcessFacts,
        /// The proof.
        why: LeftoverWhy,
    },
    /// A lock was moved away.
    LockCleared {
        /// Where it lay.
        path: PathBuf,
        /// The pid it named.
        pid: Option<i32>,
        /// The proof.
        why: StaleWhy,
    },
    /// A lock could not be moved away.
    LockNotCleared {
        /// Where it lies.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// A lock stays because nothing can be proven; the gateway will judge it itself.
    LockLeft {
        /// Where it lies.
        path: PathBuf,
        /// What is known.
        verdict: LockVerdict,
    },
    /// Something about the config.
    Config(Finding),
    /// A first config was written.
    ConfigSeeded {
        /// Where.
        path: PathBuf,
        /// What it was made from.
        from: String,
    },
    /// No config, and none is to be seeded: the gateway starts unconfigured.
    Unconfigured,
    /// The gateway was started.
    Started {
        /// The attempt.
        attempt: Attempt,
        /// Its pid.
        pid: i32,
    },
    /// A start takes long and goes on.
    StillStarting {
        /// Since the start.
        elapsed: Millis,
        /// What it waits for, in its own words.
        pending: Option<String>,
        /// Set where memory is why.
        short: Option<Box<Shortage>>,
    },
    /// The gateway serves.
    Ready {
        /// The attempt.
        attempt: Attempt,
        /// Since the start.
        took: Millis,
    },
    /// The platform cannot reach it.
    Unreachable {
        /// Where the platform knocks.
        expected_port: u16,
        /// Where the gateway listens.
        verdict: ListenVerdict,
    },
    /// The gateway's crash breaker switched the channels off.
    ChannelsOff {
        /// Time until they are asked to start; `None` when that was done lately and led to a crash.
        start_in: Option<Millis>,
    },
    /// Channels that the breaker had left off were started.
    ChannelsStarted {
        /// Their names; none if the gateway had brought them back itself.
        names: Vec<String>,
    },
    /// The channels stay off for now.
    ChannelsStayOff {
        /// Why they could not be started.
        why: String,
        /// Time until the drained restart that brings them back; `None` when the gateway does so itself.
        restart_in: Option<Millis>,
    },
    /// It does not answer.
    NotAnswering {
        /// Since when.
        since: Millis,
        /// Set where memory is why.
        short: Option<Box<Shortage>>,
    },
    /// It answers again.
    AnsweringAgain {
        /// Length of the silence.
        after: Millis,
    },
    /// Memory has become short.
    MemoryShort {
        /// What is left.
        outlook: Outlook,
        /// True when a leak is answered by a drained restart, as the setting and its budget stand.
        may_restart: bool,
        /// How this place is given more.
        how_to_grow: String,
    },
    /// It is no longer short.
    MemoryEased(Sample),
    /// The gateway leaks and is drained and started anew while there is still memory for that.
    MemoryRestart(Outlook),
    /// It would be, but that was done as often as it may be within an hour.
    MemoryRestartsSpent {
        /// What is left.
        outlook: Outlook,
        /// How often it was done within the last hour.
        restarts: u32,
        /// How this place is given more.
        how_to_grow: String,
    },
    /// The gateway is being stopped.
    Stopping {
        /// Why.
        cause: StopCause,
        /// The signal and its sender, if one asked for it.
        signal: Option<(String, Option<i32>)>,
        /// Time until SIGKILL.
        timeout: Millis,
        /// Set where it was too slow, and memory is why.
        short: Option<Box<Shortage>>,
    },
    /// A further signal shortened the stop.
    StopShortened {
        /// Time until SIGKILL.
        timeout: Millis,
    },
    /// The stop timeout passed.
    Killing,
    /// The gateway ended.
    Exited {
        /// The attempt.
        attempt: Attempt,
        /// Its pid.
        pid: i32,
        /// How.
        status: ExitStatus,
        /// Why.
        class: ExitClass,
        /// Since its start.
        uptime: Millis,
        /// What memory had to do with it.
        memory: Box<MemoryStory>,
    },
    /// The kernel killed other processes of ours for want of memory.
    KilledBeside {
        /// How many.
        kills: u64,
        /// What is known of memory.
        memory: Box<MemoryStory>,
    },
    /// Processes it left behind were ended.
    TreeEnded {
        /// How many.
        ended: u32,
        /// Those that could not be.
        survivors: Vec<i32>,
    },
    /// The next start comes later.
    BackingOff {
        /// In this long.
        delay: Millis,
        /// Crashes in a row.
        crashes: u32,
    },
    /// No gateway is started until something changes.
    Held(HoldWhy),
    /// What held has changed, or its time has come.
    HoldOver {
        /// How long it held.
        after: Millis,
    },
    /// SIGHUP, or the like: the config was looked at and can be used.
    ConfigFine,
    /// SIGHUP while running: the config could not be used at the next start.
    ConfigNotFine(ConfigProblem),
    /// What became of an edit while the gateway runs.
    Edit {
        /// The config.
        path: PathBuf,
        /// What is to be said.
        told: Told,
    },
    /// The config cannot be used, and the last good one was put in its place.
    RolledBack {
        /// The config.
        path: PathBuf,
        /// Where the broken one is kept.
        broken: PathBuf,
    },
    /// The config cannot be used, and there is no rolling back either.
    NotRolledBack {
        /// Why.
        why: String,
    },
    /// The gateway starts with a config that was rolled back and not been repaired since.
    StillRolledBack {
        /// The config.
        path: PathBuf,
        /// Where the broken one is kept.
        broken: PathBuf,
    },
    /// Somebody asked for something, and it is being done.
    Requested {
        /// What.
        op: Op,
        /// Who.
        peer: Peer,
    },
    /// No gateway runs, and none is started until the pause ends.
    Paused {
        /// It ends by itself after this long.
        limit: Option<Millis>,
    },
    /// The pause is over.
    Resumed {
        /// How long no gateway was started.
        after: Millis,
        /// True when its time was up, false when somebody asked for it.
        by_limit: bool,
    },
    /// The last line.
    Ending(Ending),
}
