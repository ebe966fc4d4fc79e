//! What the child is to do, and how that is written on its command line.

use std::ffi::OsString;
use std::path::Path;

/// The hidden first argument by which this binary is the child.
pub(crate) const CHILD: &str = "__child";

/// The work of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Waits for SIGTERM.
    Wait,
    /// Exits 1 at once.
    Crash,
    /// Kills itself with SIGKILL after so many milliseconds.
    Killed(u64),
    /// Exits 0 after so many milliseconds.
    Done(u64),
    /// Takes memory without end after so many milliseconds.
    Eat(u64),
    /// Answers the gateway's health requests on this port.
    Gateway(u16),
    /// Leaves so many orphans and lets all of them exit at once.
    Orphans(u64),
    /// Writes so many numbered lines to stdout.
    Lines(u64),
}

impl Role {
    /// The child's command line, from its program on.
    pub(crate) fn command(self, program: &Path, to_harness: &Path, go: &Path) -> Vec<OsString> {
        let (name, value) = match self {
            Self::Wait => ("wait", 0),
            Self::Crash => ("crash", 0),
            Self::Killed(after_ms) => ("killed", after_ms),
            Self::Done(after_ms) => ("done", after_ms),
            Self::Eat(after_ms) => ("eat", after_ms),
            Self::Gateway(port) => ("serve", u64::from(port)),
            Self::Orphans(count) => ("orphans", count),
            Self::Lines(count) => ("lines", count),
        };
        vec![
            program.into(),
            CHILD.into(),
            to_harness.into(),
            go.into(),
            name.into(),
            value.to_string().into(),
        ]
    }

    /// Reads what [`Role::command`] wrote.
    pub(crate) fn parse(name: &str, value: &str) -> Option<Self> {
        let value: u64 = value.parse().ok()?;
        match name {
            "wait" => Some(Self::Wait),
            "crash" => Some(Self::Crash),
            "killed" => Some(Self::Killed(value)),
            "done" => Some(Self::Done(value)),
            "eat" => Some(Self::Eat(value)),
            "serve" => u16::try_from(value).ok().map(Self::Gateway),
            "orphans" => Some(Self::Orphans(value)),
            "lines" => Some(Self::Lines(value)),
            _ => None,
        }
    }
}
