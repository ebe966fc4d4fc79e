//! The state machine: one event in, any number of actions out.
//!
//! ```text
//!             ┌───────────────────────────── cause changed, slow retry ──┐
//!             ▼                                                          │
//!  Begun → Preflight ──────────── cannot start ───────────────────────► Held
//!             │  ▲  ▲                                                    ▲
//!     spawned │  │  └── Backoff{until} ◄── crash ──┐           refused   │
//!             ▼  └────── exit 0, first crash ──────┤                     │
//!         Starting ── exited ──────────────► Classifying ────────────────┘
//!             │ ready                            ▲  │ told to stop
//!             ▼                                  │  ▼
//!          Running ── exited ────────────────────┤ Closing → Exited
//!             │ hung, channels off, told to stop │  ▲
//!             ▼                                  │  │ told to stop in Preflight, Backoff, Held
//!      Stopping{cause} ── exited ────────────────┘
//! ```
//!
//! A person may ask for a pause: from any phase to `Paused`, once no gateway is left, and from there to `Preflight`.
//!
//! Every phase but `Held`, `Paused` and `Exited` has a deadline; `Held` has a time for its next look.

mod asleep;
mod autopsy;
mod boot;
mod chronicle;
mod control;
mod memory_watch;
mod obstacles;
mod preflight;
mod recent;
mod reload;
mod stop;

use super::action::{Action, Ending, HoldWhy, Report, Stage, TreeScope};
use super::config::Finding;
use super::event::{Attempt, Event, Request};
use super::exit_class::{ExitClass, ExitStatus, Refusal, StopCause};
use super::locks::LockVerdict;
use super::locks::StaleWhy;
use super::memory;
use super::oom::OomEvidence;
use super::readiness::{Expected, ProbeTarget};
use super::reload::{Apply, Reload};
use super::restart::{History, Pace};
use super::time::{Millis, Mono};
use super::volume::{NoMountPolicy, VolumeWarning};
use boot::Boot;
use chronicle::Chronicle;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What settings and the gateway's version fix for the whole life of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Pacing of restarts.
    pub pace: Pace,
    /// From SIGTERM to SIGKILL when clawkeeper is told to stop or drains for a restart.
    pub stop_timeout: Millis,
    /// A start without any progress for this long is given up.
    pub startup_timeout: Millis,
    /// A gateway that was ready and answers nothing for this long is restarted; `None` never does.
    pub liveness_timeout: Option<Millis>,
    /// Time between two liveness probes while all is well.
    pub liveness_interval: Millis,
    /// Time between two looks while held, where nothing better is known.
    pub hold_retry: Millis,
    /// What to do without a mount.
    pub no_mount: NoMountPolicy,
    /// How this machine or container is given more memory, as an instruction for a person.
    pub how_to_grow: String,
    /// How the gateway is given the heap that fits, as an instruction too.
    #[serde(default)]
    pub how_to_fit_heap: String,
    /// Whether a missing config is seeded.
    pub may_seed: bool,
    /// How an edit of the config reaches a running gateway.
    pub apply: Apply,
    /// A config that the gateway served with for this long is kept as the last good one.
    pub good_after: Millis,
    /// Whether the last good config is put in the place of one that cannot be used.
    pub roll_back: bool,
    /// Whether this version brings channels back by itself that its crash breaker left off.
    pub recovers_channels: bool,
    /// Whether the command says `--allow-unconfigured`.
    pub allow_unconfigured: bool,
    /// The best probe this gateway's version is known to answer.
    pub start_probe: ProbeTarget,
    /// Where the platform will knock, if it will.
    pub expected: Option<Expected>,
    /// What may be done about memory.
    pub memory: memory::MemoryPolicy,
    /// Seed of the jitter.
    pub seed: u64,
}

/// The supervisor's mind. Serialisable, so that a journal can begin in the middle of a life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    policy: Policy,
    phase: Phase,
    attempt: Attempt,
    /// What is wanted, kept apart from what is.
    wanted: Wanted,
    history: History,
    /// The gateway that runs or is being classified.
    boot: Option<Boot>,
    /// Its memory, or that of the last one.
    memory: memory::Watch,
    random: u64,
    /// The last time a write and fsync succeeded.
    volume_proved: Option<Mono>,
    /// A refusal for want of permission is answered once by mending owners before the next start.
    mended: bool,
    mend_next: bool,
    /// A gateway process whose state folder could not be seen is about.
    unknown_gateway: bool,
    held_since: Option<Mono>,
    /// A person asked for a restart while a gateway was ending: the next start follows at once.
    #[serde(default)]
    restart_asked: bool,
    /// Where the gateway looks for its config, once that is known.
    config_path: PathBuf,
    /// The locks being moved away, with the pid each named and the proof.
    clearing: Vec<(PathBuf, Option<i32>, StaleWhy)>,
    /// The signal that asked for a stop while a spawn was outstanding, and its sender.
    asked_by: Option<(String, Option<i32>)>,
    /// The config while a gateway runs.
    reload: Reload,
    /// What to hold for if rolling back, which is outstanding, fails.
    rolling_back: Option<HoldWhy>,
    /// The gateway refused the config that stands there, and the last good one is to be put back.
    roll_back_next: Option<Refusal>,
    /// That was tried since a gateway was last ready.
    refused_config: bool,
    rounds: Rounds,
    said: Said,
    #[serde(default)]
    chronicle: Chronicle,
}

/// How often this look has gone back to an earlier step. Bounded, or a file or process that comes and goes
/// would keep it looking without a pause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rounds {
    leftovers: u32,
    seeds: u32,
    rollbacks: u32,
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Not begun.
    New,
    /// A step of the preflight is outstanding.
    Preflight { stage: Stage, deadline: Mono },
    /// The gateway runs and is not ready.
    Starting,
    /// It was ready.
    Running,
    /// SIGTERM was sent.
    Stopping {
        cause: StopCause,
        kill_at: Mono,
        killed: bool,
        signals: u32,
        asked_at: Mono,
    },
    /// It ended; its last output and its remaining processes are outstanding.
    Classifying {
        status: ExitStatus,
        ended: Mono,
        /// What it was, once that is known; it is said then, and not only when the tree has ended.
        class: Option<ExitClass>,
        tree: Option<TreeResult>,
        scope: TreeScope,
        deadline: Mono,
    },
    /// The next start comes later.
    Backoff { until: Mono },
    /// No start until something changes.
    Held { retry_at: Mono },
    /// A person wants no gateway, and none is left.
    Paused { until: Option<Mono> },
    /// Told to stop and no gateway left: ending what remains of the tree.
    Closing { deadline: Mono },
    /// Nothing follows.
    Exited,
}

/// What was left of a tree of processes and has been ended, or could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TreeResult {
    ended: u32,
    survivors: Vec<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Wanted {
    Gateway,
    /// A person asked for it at that time.
    Pause {
        since: Mono,
        limit: Option<Millis>,
    },
    End(Ending),
}

/// What has been said already, so that it is not said again at each retry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    held: Option<HoldWhy>,
    volume: Vec<VolumeWarning>,
    /// Pid and start tick of each leftover of the last look.
    leftovers: Vec<(i32, u64)>,
    /// Locks that stayed where they are at the last look.
    locks_left: Vec<(PathBuf, LockVerdict)>,
    locks_not_cleared: Vec<(PathBuf, String)>,
    config: Vec<Finding>,
    unconfigured: bool,
    not_rolled_back: Option<String>,
}

/// A stop that failed to end within its own grace: longer than any outstanding answer takes.
const CLOSING_DEADLINE: Millis = Millis::from_secs(10);

/// Several writes of one edit are one change.
const DEBOUNCE: Millis = Millis(150);

impl Core {
    /// A machine that waits for [`Event::Begun`].
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            random: policy.seed | 1,
            policy,
            phase: Phase::New,
            attempt: Attempt(0),
            wanted: Wanted::Gateway,
            history: History::default(),
            boot: None,
            memory: memory::Watch::default(),
            volume_proved: None,
            mended: false,
            mend_next: false,
            unknown_gateway: false,
            held_since: None,
            restart_asked: false,
            config_path: PathBuf::new(),
            clearing: Vec::new(),
            asked_by: None,
            reload: Reload::default(),
            rolling_back: None,
            roll_back_next: None,
            refused_config: false,
            rounds: Rounds::default(),
            said: Said::default(),
            chronicle: Chronicle::default(),
        }
    }

    /// Takes in one fact and says what to do. An answer to a look that is over changes nothing.
    pub fn step(&mut self, now: Mono, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        let before = self.phase_word();
        self.take_in(now, event, &mut out);
        if self.phase_word() != before {
            self.chronicle.note_phase(now);
        }
        out
    }

    fn take_in(&mut self, now: Mono, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Begun => {
                if self.phase == Phase::New {
                    self.begin_look(now, Stage::Volume, out);
                }
            }
            Event::DeadlinePassed => self.on_deadline(now, out),
            Event::SignalReceived {
                signal: Request::Stop,
                name,
                sender,
            } => {
                self.on_stop(now, name, sender, out);
            }
            Event::SignalReceived {
                signal: Request::Look,
                ..
            } => self.on_look(now, out),
            Event::CauseChanged => self.on_cause_changed(now),
            Event::Requested { id, op, peer } => self.on_request(now, id, op, peer, out),
            Event::Spawned { attempt, pid } => {
                if self.awaits(attempt, Stage::Spawn) {
                    self.on_spawned(now, pid, out);
                }
            }
            Event::SpawnFailed { attempt, failure } => {
                if self.awaits(attempt, Stage::Spawn) {
                    self.hold_or_close(now, HoldWhy::CannotStart(failure), out);
                }
            }
            Event::LineSeen { attempt, marker } => self.on_line(now, attempt, marker, out),
            Event::ProbeFinished {
                attempt,
                target,
                outcome,
                progress,
            } => {
                if attempt == self.attempt {
                    self.on_probe(now, target, &outcome, progress, out);
                }
            }
            Event::ListenersFound { attempt, listeners } => {
                if attempt == self.attempt {
                    self.on_listeners(&listeners, out);
                }
            }
            Event::ChildExited { attempt, status } => {
                if attempt == self.attempt {
                    self.on_exit(now, status, out);
                }
            }
            Event::EvidenceCollected { attempt, oom } => {
                if attempt == self.attempt {
                    self.classify(oom, out);
                    self.try_go_on(now, out);
                }
            }
            Event::OomSeen { attempt, oom } => {
                if attempt == self.attempt {
                    self.on_oom_seen(now, oom);
                }
            }
            Event::TreeEnded {
                attempt,
                ended,
                survivors,
            } => {
                if attempt == self.attempt {
                    self.on_tree_ended(now, ended, survivors, out);
                }
            }
            Event::ChannelsStarted { attempt, result } => {
                if attempt == self.attempt {
                    self.on_channels_started(now, result, out);
                }
            }
            Event::MemorySampled { attempt, sample } => {
                if attempt == self.attempt {
                    self.on_memory(now, sample, out);
                }
            }
            event @ (Event::ConfigSeen { .. }
            | Event::ReloadSaid { .. }
            | Event::ConfigValidated { .. }
            | Event::ConfigRolledBack { .. }) => self.on_reload_event(now, event, out),
            answer @ (Event::VolumeChecked { .. }
            | Event::LeftoversFound { .. }
            | Event::ProcessesEnded { .. }
            | Event::LocksFound { .. }
            | Event::LocksCleared { .. }
            | Event::ConfigRead { .. }
            | Event::ConfigSeeded { .. }) => self.on_answer(now, answer, out),
        }
    }

    /// When the shell must come back with [`Event::DeadlinePassed`], whatever happens until then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match &self.phase {
            Phase::New | Phase::Exited => None,
            Phase::Preflight { deadline, .. }
            | Phase::Classifying { deadline, .. }
            | Phase::Closing { deadline } => Some(*deadline),
            Phase::Starting | Phase::Running => self.boot_deadline(),
            Phase::Stopping { kill_at, .. } => Some(
                self.memory
                    .look_at()
                    .map_or(*kill_at, |at| at.min(*kill_at)),
            ),
            Phase::Backoff { until } => Some(*until),
            Phase::Held { retry_at } => Some(*retry_at),
            Phase::Paused { until } => *until,
        }
    }

    /// True when nothing more will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Exited
    }

    /// True while a gateway that was ready runs and answers.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Running && !self.is_silent()
    }

    /// True while a gateway serves in full: it was ready, answers, and has its channels.
    #[must_use]
    pub fn serves(&self) -> bool {
        let has_channels = |boot: &Boot| !boot.has_no_channels();
        self.is_at_rest() && self.boot.as_ref().is_some_and(has_channels)
    }

    /// True once clawkeeper was told to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        matches!(self.wanted, Wanted::End(_))
    }

    /// The memory of the gateway that runs, or of the last one.
    #[must_use]
    pub const fn memory(&self) -> &memory::Watch {
        &self.memory
    }

    /// The phase in one word, for logs and status.
    #[must_use]
    pub const fn phase_word(&self) -> &'static str {
        match self.phase {
            Phase::New => "new",
            Phase::Preflight { .. } => "preflight",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping { .. } => "stopping",
            Phase::Classifying { .. } => "classifying",
            Phase::Backoff { .. } => "backoff",
            Phase::Held { .. } => "held",
            Phase::Paused { .. } => "paused",
            Phase::Closing { .. } => "closing",
            Phase::Exited => "exited",
        }
    }

    fn on_deadline(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.give_back(now);
        self.look_at_memory(now, out);
        match &mut self.phase {
            Phase::New | Phase::Exited => {}
            Phase::Preflight { stage, .. } => {
                let stage = *stage;
                self.volume_proved = None;
                self.hold_or_close(now, HoldWhy::StageStuck(stage), out);
            }
            Phase::Starting | Phase::Running => self.on_boot_deadline(now, out),
            Phase::Stopping {
                kill_at, killed, ..
            } if now >= *kill_at => {
                if !*killed {
                    out.push(Action::Report(Report::Killing));
                }
                *killed = true;
                // A process in uninterruptible sleep ends only when the kernel lets it; keep asking.
                *kill_at = now.plus(CLOSING_DEADLINE);
                out.push(Action::Kill);
            }
            // Only a look at memory was due.
            Phase::Stopping { .. } => {}
            Phase::Classifying { tree, .. } => {
                tree.get_or_insert_default();
                self.classify(OomEvidence::default(), out);
                self.try_go_on(now, out);
            }
            // A volume that filled up or died may be why it crashes, and the gateway does not always say so.
            Phase::Backoff { .. } => self.begin_look(now, Stage::Volume, out),
            Phase::Held { .. } => self.begin_look(now, Stage::Volume, out),
            Phase::Paused { .. } => self.resume(now, true, out),
            Phase::Closing { .. } => self.end(out),
        }
    }

    /// SIGHUP: a held or waiting start is tried now; a running gateway's config is only looked at.
    fn on_look(&mut self, now: Mono, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Held { .. } | Phase::Backoff { .. } => self.begin_look(now, Stage::Volume, out),
            Phase::Starting | Phase::Running => {
                out.push(Action::ReadConfig {
                    attempt: self.attempt,
                });
            }
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Stopping { .. }
            | Phase::Classifying { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => {}
        }
    }

    fn on_cause_changed(&mut self, now: Mono) {
        match &mut self.phase {
            Phase::Held { retry_at } => *retry_at = (*retry_at).min(now.plus(DEBOUNCE)),
            Phase::Starting | Phase::Running => self.reload.stirred(now),
            Phase::New
            | Phase::Preflight { .. }
            | Phase::Stopping { .. }
            | Phase::Classifying { .. }
            | Phase::Backoff { .. }
            | Phase::Paused { .. }
            | Phase::Closing { .. }
            | Phase::Exited => {}
        }
    }

    /// A uniform number; xorshift64, whose state is part of the machine, so that a replay draws the same.
    fn draw(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random >> 32).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
