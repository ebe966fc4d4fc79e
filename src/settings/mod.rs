//! Environment and flags, checked: all errors at once. Flags win.
//!
//! Reads nothing by itself: the environment is an argument.

mod table;

use crate::core::reload::Apply;
use crate::core::time::Millis;
use crate::core::volume::NoMountPolicy;
use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use table::SETTINGS;
pub use table::{LONGEST, time};

/// What every setting's environment variable begins with.
pub const PREFIX: &str = "CLAWKEEPER_";

/// Which of the two ways a command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As a gateway if the command starts one, as a plain init otherwise.
    #[default]
    Auto,
    /// With the whole care a gateway gets.
    Gateway,
    /// As tini would run it.
    Init,
}

/// Where a first config comes from when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConfigSeed {
    /// From the environment: provider keys, channel tokens, `FLY_APP_NAME`.
    #[default]
    Environment,
    /// Nowhere: a missing config stays missing.
    Off,
    /// From this text, JSON or JSON5.
    Text(String),
    /// From this file.
    File(PathBuf),
}

/// What the gateway leaves behind when V8 runs out of heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeapDump {
    /// Nothing but its last words.
    #[default]
    Off,
    /// Node's report on the fatal error: stacks, heap spaces, handles.
    Report,
    /// A snapshot of the heap, with everything that was in it, secrets too.
    Snapshot,
    /// Both.
    Both,
}

impl HeapDump {
    /// True when a report is asked for.
    #[must_use]
    pub const fn has_report(self) -> bool {
        matches!(self, Self::Report | Self::Both)
    }

    /// True when a snapshot is asked for.
    #[must_use]
    pub const fn has_snapshot(self) -> bool {
        matches!(self, Self::Snapshot | Self::Both)
    }
}

/// Whom the gateway runs as when clawkeeper is root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum User {
    /// The owner of the state folder; if that is root, the user `node`; if there is none, root.
    #[default]
    Auto,
    /// A name from `/etc/passwd`.
    Name(String),
    /// Numbers; the group is the user's own when none is given.
    Ids {
        /// The user.
        uid: u32,
        /// The group.
        gid: Option<u32>,
    },
}

/// How large the gateway's heap may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heap {
    /// As large as memory allows, unless the command or `NODE_OPTIONS` says otherwise.
    #[default]
    Auto,
    /// Whatever Node makes of the machine.
    Off,
    /// This many MB, unless the command says otherwise.
    Mb(u32),
}

/// Whom alerts are handed to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnEvent {
    /// The image's own poster, if any `CLAWKEEPER_ALERT_*` says where to post; else nobody.
    #[default]
    Auto,
    /// Nobody.
    Off,
    /// This command line, with the alert on its standard input.
    Command(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Something is degraded.
    Warn,
    /// One line a transition.
    #[default]
    Info,
    /// Every event and action.
    Debug,
}

/// All settings of `clawkeeper run`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--mode`.
    pub mode: Mode,
    /// `--user`.
    pub user: User,
    /// `--stop-timeout`; `None` when it was not set.
    pub stop_timeout: Option<Millis>,
    /// `--startup-timeout`.
    pub startup_timeout: Millis,
    /// `--liveness-timeout`; `None` when off.
    pub liveness_timeout: Option<Millis>,
    /// `--backoff-min`.
    pub backoff_min: Millis,
    /// `--backoff-max`.
    pub backoff_max: Millis,
    /// `--hold-retry`.
    pub hold_retry: Millis,
    /// `--no-mount`.
    pub no_mount: NoMountPolicy,
    /// `--config-seed`.
    pub config_seed: ConfigSeed,
    /// `--config-apply`.
    pub config_apply: Apply,
    /// `--config-good-after`.
    pub config_good_after: Millis,
    /// `--config-rollback`.
    pub config_rollback: bool,
    /// `--internal-port`.
    pub internal_port: Option<u16>,
    /// `--health-listen`; `None` when off.
    pub health_listen: Option<SocketAddr>,
    /// `--heap-dump`.
    pub heap_dump: HeapDump,
    /// `--memory-restart`: whether a gateway that leaks is restarted before memory is full.
    pub memory_restart: bool,
    /// `--memory-restarts-per-hour`.
    pub memory_restarts_per_hour: u32,
    /// `--heap`.
    pub heap: Heap,
    /// `--keep-output`: MB of the gateway's output that are kept on the volume; 0 when off.
    pub keep_output_mb: u64,
    /// `--on-event`.
    pub on_event: OnEvent,
    /// `--signal-group`.
    pub signal_group: bool,
    /// `--log-level`.
    pub log_level: LogLevel,
    /// `--log-format`.
    pub log_format: LogFormat,
}

impl Settings {
    /// From SIGTERM to SIGKILL for a gateway: what its own drain may take (315 s, 330 s in all; measured on 2026.9.6).
    pub const GATEWAY_STOP_TIMEOUT: Millis = Millis::from_secs(330);

    /// Where health is asked for unless somebody says otherwise: from this machine only.
    pub const HEALTH_LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            user: User::Auto,
            stop_timeout: None,
            startup_timeout: Millis::from_secs(300),
            liveness_timeout: Some(Millis::from_secs(60)),
            backoff_min: Millis::from_secs(1),
            backoff_max: Millis::from_secs(300),
            hold_retry: Millis::from_secs(300),
            no_mount: NoMountPolicy::Warn,
            config_seed: ConfigSeed::Environment,
            config_apply: Apply::Auto,
            config_good_after: Millis::from_secs(60),
            config_rollback: false,
            internal_port: None,
            health_listen: Some(Self::HEALTH_LISTEN),
            heap_dump: HeapDump::Off,
            memory_restart: true,
            memory_restarts_per_hour: 4,
            heap: Heap::Auto,
            keep_output_mb: 1,
            on_event: OnEvent::Auto,
            signal_group: false,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

/// Everything that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsErrors(pub Vec<String>);

/// The settings, and what is odd about the environment without being wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Variables that begin with `CLAWKEEPER_` and mean nothing, most likely misspelt.
    pub unknown: Vec<String>,
}

/// Checks every flag (by its long name, without dashes) and every `CLAWKEEPER_*` variable.
///
/// An empty variable counts as unset, as Docker and Fly pass variables on.
///
/// # Errors
/// Every value that cannot be used, with its name and what would be right. Values are not repeated: they may hold secrets.
pub fn resolve(
    environment: &[(OsString, OsString)],
    flags: &[(&str, &OsStr)],
) -> Result<Resolved, SettingsErrors> {
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    let mut unknown = Vec::new();
    for setting in SETTINGS {
        let flag = flags
            .iter()
            .find(|(name, _)| *name == setting.name)
            .map(|(_, value)| *value);
        let variable = variable_of(setting.name);
        let from_environment = environment.iter().find(|(name, _)| *name == *variable);
        let (source, value) = match (flag, from_environment) {
            (Some(value), _) => (format!("--{}", setting.name), value),
            (None, Some((_, value))) if !value.is_empty() => (variable, value.as_os_str()),
            (None, _) => continue,
        };
        let applied = value
            .to_str()
            .and_then(|text| (setting.apply)(&mut settings, text.trim()));
        if applied.is_none() {
            errors.push(format!("{source} is not {}", setting.takes));
        }
    }
    if settings.backoff_min > settings.backoff_max {
        errors.push("backoff-min is longer than backoff-max".to_owned());
    }
    for (name, _) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let known = SETTINGS
            .iter()
            .any(|setting| variable_of(setting.name) == name);
        if !known && name != MARK && !name.starts_with(ALERT_PREFIX) {
            unknown.push(name.to_owned());
        }
    }
    unknown.sort_unstable();
    if errors.is_empty() {
        Ok(Resolved { settings, unknown })
    } else {
        Err(SettingsErrors(errors))
    }
}

/// The variable that marks a gateway's processes as ours; its value is `<supervisor pid>.<attempt>`.
pub const MARK: &str = "CLAWKEEPER_GATEWAY";

/// What the variables begin with that are for the command of `--on-event`: it gets them, and nobody else does.
pub const ALERT_PREFIX: &str = "CLAWKEEPER_ALERT_";

/// The environment variable of a flag.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_uppercase())
}

#[cfg(test)]
mod tests;
