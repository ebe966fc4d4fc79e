//! An edit of the config: what a look finds, what the gateway says, the verdict, and what is said and done about it.

use super::super::action::ConfigProblem;
use super::super::config::{ConfigState, Severity};
use super::super::time::Millis;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How an accepted edit reaches the gateway (`--config-apply`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// The gateway takes it; it is restarted, drained, only where it cannot or did not.
    #[default]
    Auto,
    /// The gateway takes it or nobody does.
    Gateway,
    /// Each edit that changes something is a drained restart.
    Restart,
}

/// A fingerprint of content. Equality is all it tells, and only within one life of clawkeeper: its key is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub u64);

/// The config and everything it includes, as they stand while the gateway runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The config file.
    pub path: PathBuf,
    /// What can be said of it and its includes together.
    pub state: ConfigState,
    /// Of the bytes of every file.
    pub bytes: Digest,
    /// Of what they mean to the gateway: without layout, comments and the notes that the gateway itself keeps in it.
    pub meaning: Digest,
    /// True when it tells the gateway to leave edits alone (`gateway.reload.mode: "off"`).
    pub reload_is_off: bool,
    /// True when the gateway's log level hides what it says of a reload.
    pub log_is_quiet: bool,
    /// Keys that changed since the look before, a few, without values.
    pub changed: Vec<String>,
    /// True when the gateway's own code wrote it: what stood there before lies in the backup that only it makes.
    pub is_gateways_own: bool,
    /// True when the gateway has read it and found it good: its own copy of the last good one is equal.
    pub is_taken: bool,
}

/// What the gateway says of a reload, in its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// It has seen a change, and found the config valid.
    Noticed,
    /// It has applied it without a restart.
    Applied,
    /// It restarts itself for it.
    Restarting,
    /// It has seen it and does nothing: its reload is switched off.
    Off,
    /// It has seen it and would need a restart, which its mode forbids (`hot`, 7.1).
    NeedsRestart,
    /// It finds the config invalid and keeps running with the one before.
    Refused,
    /// Its reload failed, or it can no longer watch.
    Failed,
}

/// What the gateway's own validator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Validation {
    /// The gateway would accept it.
    Valid,
    /// It would not: `path: message`, the first few. A message may quote a value that is no secret.
    Invalid(Vec<String>),
    /// Not asked, and why.
    Skipped(String),
}

/// Why a gateway is restarted for an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhy {
    /// The setting wants a restart for each edit.
    Asked,
    /// The gateway's own reload is switched off.
    ReloadOff,
    /// What changed needs a restart, which the gateway's mode forbids it.
    NeedsRestart,
    /// The gateway did not notice it, not even when its file was touched.
    Missed,
    /// The gateway's reload failed.
    Failed,
}

/// What is worth saying of an edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It can be used.
    Accepted {
        /// Counts the contents seen in this life of clawkeeper.
        generation: u64,
        /// The keys that changed; none when only layout or comments did.
        changed: Vec<String>,
    },
    /// It cannot; the gateway runs on with the one before.
    Refused {
        /// As above.
        generation: u64,
        /// What is wrong.
        problem: ConfigProblem,
    },
    /// The gateway finds it invalid and runs on with the one before.
    RefusedByGateway {
        /// As above.
        generation: u64,
        /// What its validator says, as in [`Validation::Invalid`]; none where it could not be asked.
        issues: Vec<String>,
    },
    /// What was refused or gone is as it was.
    Restored,
    /// The gateway's own code changed its config.
    Rewritten {
        /// The keys that changed.
        changed: Vec<String>,
    },
    /// The gateway has taken it and answers.
    Applied {
        /// As above.
        generation: u64,
        /// Since it was seen.
        took: Millis,
    },
    /// The gateway restarts itself for it.
    GatewayRestarts {
        /// As above.
        generation: u64,
    },
    /// The gateway is restarted for it, drained.
    Restarts {
        /// As above.
        generation: u64,
        /// Why.
        why: RestartWhy,
    },
    /// Accepted, and whether the gateway took it cannot be told.
    Unverified {
        /// As above.
        generation: u64,
    },
    /// Accepted by us, and not applied.
    NotApplied {
        /// As above.
        generation: u64,
        /// What a restart would be for.
        why: RestartWhy,
        /// Why there is none.
        because: Unapplied,
    },
}

/// Why an edit that needs a restart gets none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unapplied {
    /// The setting leaves it to the gateway.
    Setting,
    /// Neither the gateway nor its validator has found it valid: a restart could be the gateway's last.
    NotValidated(String),
}

/// What is to be done about an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Say it.
    Tell(Told),
    /// Look at the config now.
    Look,
    /// Touch the config, content and all as it is, so that the gateway looks again; then look.
    Nudge,
    /// Ask the gateway's validator.
    Validate {
        /// For its answer.
        generation: u64,
    },
    /// Ask the gateway now whether it answers.
    Probe,
    /// Restart it, drained.
    Restart,
    /// Keep the config as the last good one, if its bytes still have this fingerprint.
    Keep(Digest),
}

/// The verdict on a look, before anything is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes are the ones judged last.
    Same,
    /// No gateway could start with it.
    Bad,
    /// It means what the gateway runs with.
    Equal,
    /// It means something else, and the gateway wrote it.
    Own,
    /// It means something else.
    Edit,
}

/// What the decisions need to know besides the edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// `--config-apply`.
    pub apply: Apply,
    /// True when this gateway's words can be heard: it has said that it is ready or listens.
    pub speaks: bool,
    /// A config that the gateway served with for this long is a good one (`--config-good-after`).
    pub good_after: Millis,
}

/// Judges a look against the bytes judged last and the meaning the gateway runs with.
#[must_use]
pub fn judge(look: &Look, known: Option<Digest>, running: Option<Digest>) -> Verdict {
    if known == Some(look.bytes) {
        Verdict::Same
    } else if is_bad(&look.state) {
        Verdict::Bad
    } else if running.is_none_or(|running| running == look.meaning) {
        Verdict::Equal
    } else if look.is_gateways_own {
        Verdict::Own
    } else {
        Verdict::Edit
    }
}

fn is_bad(state: &ConfigState) -> bool {
    match state {
        ConfigState::Missing
        | ConfigState::NotAFile { .. }
        | ConfigState::Unreadable { .. }
        | ConfigState::Broken { .. } => true,
        ConfigState::Parsed { findings } => findings
            .iter()
            .any(|finding| finding.severity == Severity::Hold),
    }
}
