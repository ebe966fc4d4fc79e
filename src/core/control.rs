//! What a person asks of clawkeeper while it runs, and what it answers.

use super::time::Millis;
use serde::{Deserialize, Serialize};

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Drain the gateway and start it again; while none runs, try a start now.
    Restart,
    /// Drain the gateway and start none until [`Op::Resume`]. clawkeeper, and with it the container, stays.
    Pause {
        /// Resume by itself after this long.
        limit: Option<Millis>,
    },
    /// End a pause.
    Resume,
}

impl Op {
    /// Its name, as the command that asks for it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
        }
    }
}

/// Who asks, as the kernel says (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its pid; 0 when it is in another pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is being done; the status tells how far it has come.
    Accepted {
        /// Gateways started up to then: a restart is done when one more is ready.
        starts: u64,
    },
    /// It is not, and nothing has changed.
    Refused(RefusedWhy),
}

/// Why a request is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedWhy {
    /// clawkeeper is ending.
    Ending,
    /// A restart of what is paused would end the pause unasked.
    Paused,
    /// There is no pause to end.
    NotPaused,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not yet.
    Going,
    /// What was asked for is so.
    Done,
    /// The gateway is held back; the status says why.
    Held,
    /// Somebody paused the gateway meanwhile.
    Paused,
    /// Somebody resumed it meanwhile.
    Resumed,
    /// clawkeeper is ending.
    Ending,
}

/// What of a status tells how far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The phase in one word.
    pub phase: &'a str,
    /// Whether the gateway serves.
    pub is_ready: bool,
    /// Whether a pause is wanted.
    pub is_paused: bool,
    /// Gateways started so far.
    pub starts: u64,
}

/// How far a request has come; `starts` gateways had been started when it was accepted.
#[must_use]
pub fn progress(op: Op, starts: u64, seen: Seen<'_>) -> Progress {
    let is_paused = seen.is_paused;
    match (op, seen.phase) {
        (_, "closing" | "exited") => Progress::Ending,
        (Op::Pause { .. }, "paused") => Progress::Done,
        (Op::Pause { .. }, _) if !is_paused => Progress::Resumed,
        (Op::Pause { .. }, _) => Progress::Going,
        (Op::Restart | Op::Resume, _) if is_paused => Progress::Paused,
        (Op::Restart | Op::Resume, "held") => Progress::Held,
        (Op::Restart | Op::Resume, _) if seen.is_ready && seen.starts > starts => Progress::Done,
        (Op::Restart | Op::Resume, _) => Progress::Going,
    }
}
