//! Environment and flags, checked: all errors at once. Flags win.
//!
//! Reads nothing by itself: the environment is an argument.

use crate::core::time::Millis;
use crate::core::volume::NoMountPolicy;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What every setting's environment variable begins with.
pub const PREFIX: &str = "CLAWKEEPER_";

/// The longest a length of time may be; a longer one is a slip of the hand.
const LONGEST: Millis = Millis::from_secs(7 * 24 * 3600);

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
    /// `--internal-port`.
    pub internal_port: Option<u16>,
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
            internal_port: None,
            signal_group: false,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

/// One setting: its flag's name, what it takes, and how a text becomes its value.
struct Setting {
    name: &'static str,
    takes: &'static str,
    apply: fn(&mut Settings, &str) -> Option<()>,
}

const TIME: &str = "a length of time such as 90s, 5m or 250ms";

/// The one list. The variable of `stop-timeout` is `CLAWKEEPER_STOP_TIMEOUT`.
const SETTINGS: &[Setting] = &[
    Setting {
        name: "mode",
        takes: "auto, gateway or init",
        apply: |to, text| {
            to.mode = match text {
                "auto" => Mode::Auto,
                "gateway" => Mode::Gateway,
                "init" => Mode::Init,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "user",
        takes: "auto, a user name, UID or UID:GID",
        apply: |to, text| user(text).map(|user| to.user = user),
    },
    Setting {
        name: "stop-timeout",
        takes: TIME,
        apply: |to, text| time(text).map(|time| to.stop_timeout = Some(time)),
    },
    Setting {
        name: "startup-timeout",
        takes: TIME,
        apply: |to, text| positive_time(text).map(|time| to.startup_timeout = time),
    },
    Setting {
        name: "liveness-timeout",
        takes: "a length of time such as 60s, or off",
        apply: |to, text| {
            to.liveness_timeout = if text == "off" {
                None
            } else {
                Some(positive_time(text)?)
            };
            Some(())
        },
    },
    Setting {
        name: "backoff-min",
        takes: TIME,
        apply: |to, text| time(text).map(|time| to.backoff_min = time),
    },
    Setting {
        name: "backoff-max",
        takes: TIME,
        apply: |to, text| time(text).map(|time| to.backoff_max = time),
    },
    Setting {
        name: "hold-retry",
        takes: TIME,
        apply: |to, text| positive_time(text).map(|time| to.hold_retry = time),
    },
    Setting {
        name: "no-mount",
        takes: "warn or hold",
        apply: |to, text| {
            to.no_mount = match text {
                "warn" => NoMountPolicy::Warn,
                "hold" => NoMountPolicy::Hold,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "config-seed",
        takes: "auto, off, a path or a JSON object",
        apply: |to, text| {
            to.config_seed = match text {
                "auto" => ConfigSeed::Environment,
                "off" => ConfigSeed::Off,
                text if text.trim_start().starts_with(['{', '/']) && text.contains('{') => {
                    ConfigSeed::Text(text.to_owned())
                }
                path => ConfigSeed::File(path.into()),
            };
            Some(())
        },
    },
    Setting {
        name: "internal-port",
        takes: "a port, 1 to 65535",
        apply: |to, text| {
            let port = text.parse().ok().filter(|port| *port > 0);
            port.map(|port| to.internal_port = Some(port))
        },
    },
    Setting {
        name: "signal-group",
        takes: "true or false",
        apply: |to, text| boolean(text).map(|yes| to.signal_group = yes),
    },
    Setting {
        name: "log-level",
        takes: "error, warn, info or debug",
        apply: |to, text| {
            to.log_level = match text {
                "error" => LogLevel::Error,
                "warn" => LogLevel::Warn,
                "info" => LogLevel::Info,
                "debug" => LogLevel::Debug,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "log-format",
        takes: "text or json",
        apply: |to, text| {
            to.log_format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return None,
            };
            Some(())
        },
    },
];

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
        if !known && name != MARK {
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

/// The environment variable of a flag.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_uppercase())
}

fn time(text: &str) -> Option<Millis> {
    // A bare number is a number of seconds, as in `docker stop --time`.
    let length = match text.parse::<u64>() {
        Ok(seconds) => std::time::Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    let length = Millis(u64::try_from(length.as_millis()).ok()?);
    (length <= LONGEST).then_some(length)
}

fn positive_time(text: &str) -> Option<Millis> {
    time(text).filter(|time| time.0 > 0)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn user(text: &str) -> Option<User> {
    if text == "auto" {
        return Some(User::Auto);
    }
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid.parse().ok()?)),
        None => (text, None),
    };
    match uid.parse() {
        Ok(uid) => Some(User::Ids { uid, gid }),
        Err(_) if gid.is_none() && !text.is_empty() => Some(User::Name(text.to_owned())),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        resolve(&environment(pairs), &[])
            .expect("these are right")
            .settings
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(settings(&[]), Settings::default());
        assert_eq!(
            settings(&[("CLAWKEEPER_STOP_TIMEOUT", "")]),
            Settings::default(),
            "empty is unset"
        );
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let env = environment(&[("CLAWKEEPER_STOP_TIMEOUT", "10s")]);
        let resolved = resolve(&env, &[("stop-timeout", OsStr::new("20"))]).expect("right");
        assert_eq!(resolved.settings.stop_timeout, Some(Millis::from_secs(20)));
        assert_eq!(
            resolve(&env, &[]).expect("right").settings.stop_timeout,
            Some(Millis::from_secs(10))
        );
    }

    #[test]
    fn all_errors_come_at_once_and_repeat_no_value() {
        let env = environment(&[
            ("CLAWKEEPER_STOP_TIMEOUT", "sk-secret"),
            ("CLAWKEEPER_MODE", "gatway"),
            ("CLAWKEEPER_INTERNAL_PORT", "70000"),
            ("CLAWKEEPER_BACKOFF_MIN", "10m"),
        ]);
        let error = resolve(&env, &[("user", OsStr::new("1000:x"))]).expect_err("five are wrong");
        assert_eq!(error.0.len(), 5, "{error}");
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_misspelt_variable_is_named() {
        let resolved =
            resolve(&environment(&[("CLAWKEEPER_STOP_TIMOUT", "3")]), &[]).expect("not wrong");
        assert_eq!(resolved.unknown, ["CLAWKEEPER_STOP_TIMOUT"]);
    }

    #[test]
    fn a_seed_is_a_path_or_a_json_object() {
        let seed = |text| settings(&[("CLAWKEEPER_CONFIG_SEED", text)]).config_seed;
        assert_eq!(
            seed("/etc/seed.json"),
            ConfigSeed::File("/etc/seed.json".into())
        );
        assert_eq!(
            seed("{gateway: {}}"),
            ConfigSeed::Text("{gateway: {}}".into())
        );
        assert_eq!(seed("// note\n{}"), ConfigSeed::Text("// note\n{}".into()));
        assert_eq!(seed("off"), ConfigSeed::Off);
    }

    #[test]
    fn a_user_is_a_name_or_numbers() {
        let user = |text| settings(&[("CLAWKEEPER_USER", text)]).user;
        assert_eq!(user("node"), User::Name("node".into()));
        assert_eq!(
            user("1000"),
            User::Ids {
                uid: 1000,
                gid: None
            }
        );
        assert_eq!(
            user("1000:1001"),
            User::Ids {
                uid: 1000,
                gid: Some(1001)
            }
        );
    }
}
