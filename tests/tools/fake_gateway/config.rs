//! What the fake gateway does about its config: it says of an edit what the real ones say.

#![allow(
    clippy::disallowed_methods,
    reason = "a test tool that reads the clock, files and the environment"
)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// The real ones take 0.5 to 0.7 s.
const NOTICES_AFTER: Duration = Duration::from_millis(300);

/// What it does about an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reload {
    /// Takes it, or refuses it, or leaves it where the config says so.
    Applies,
    /// Ends with 0 for it, as 2026.9.6 does under a supervisor.
    Restarts,
    /// Misses it until the file is touched.
    Misses,
    /// Misses it whatever happens.
    Blind,
}

/// The config as it was seen last.
#[derive(Debug, Default)]
pub(crate) struct Config {
    text: Option<String>,
    written: Option<SystemTime>,
    changed: Option<Instant>,
    is_known: bool,
}

impl Config {
    /// Looks at the file; true when it wants to be started again.
    pub(crate) fn look(&mut self, reload: Reload) -> bool {
        let path = PathBuf::from(std::env::var_os("OPENCLAW_STATE_DIR").unwrap_or_default())
            .join("openclaw.json");
        let written = fs::metadata(&path).and_then(|it| it.modified()).ok();
        if written != self.written {
            let text = fs::read_to_string(&path).ok();
            let was_touched = text == self.text;
            self.written = written;
            let notices = match reload {
                Reload::Applies | Reload::Restarts => !was_touched,
                Reload::Misses => was_touched,
                Reload::Blind => false,
            };
            if !std::mem::replace(&mut self.is_known, true) {
                self.text = text;
            } else if notices {
                self.text = text;
                self.changed = Some(Instant::now());
            } else if reload == Reload::Misses {
                self.text = text;
            }
        }
        let due = self.changed.is_some_and(|at| at.elapsed() >= NOTICES_AFTER);
        if !due {
            return false;
        }
        self.changed = None;
        let text = self.text.clone().unwrap_or_default();
        if serde_json::from_str::<serde_json::Value>(&text).is_err() {
            say("config reload skipped (invalid config): : JSON5 parse failed");
            return false;
        }
        say("config change detected; evaluating reload (agents)");
        if text.contains("\"mode\":\"off\"") {
            say("config reload disabled (gateway.reload.mode=off)");
        } else if reload == Reload::Restarts {
            say("config change requires gateway restart (agents) — preparing");
            return true;
        } else {
            say("config hot reload applied (agents)");
        }
        false
    }
}

fn say(text: &str) {
    println!("2026-11-21T11:58:46.543+00:00 [reload] {text}");
}
