//! The one list of settings, and how a text becomes the value of each.

use super::{ConfigSeed, Heap, HeapDump, LogFormat, LogLevel, Mode, OnEvent, Settings, User};
use crate::core::reload::Apply;
use crate::core::time::Millis;
use crate::core::volume::NoMountPolicy;
use std::net::SocketAddr;

/// The longest a length of time may be; a longer one is a slip of the hand.
pub const LONGEST: Millis = Millis::from_secs(7 * 24 * 3600);

/// One setting: its flag's name, what it takes, and how a text becomes its value.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) apply: fn(&mut Settings, &str) -> Option<()>,
}

const TIME: &str = "a length of time such as 90s, 5m or 250ms";

/// The one list. The variable of `stop-timeout` is `CLAWKEEPER_STOP_TIMEOUT`.
pub(super) const SETTINGS: &[Setting] = &[
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
        name: "config-apply",
        takes: "auto, gateway or restart",
        apply: |to, text| {
            to.config_apply = match text {
                "auto" => Apply::Auto,
                "gateway" => Apply::Gateway,
                "restart" => Apply::Restart,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "config-good-after",
        takes: TIME,
        apply: |to, text| time(text).map(|time| to.config_good_after = time),
    },
    Setting {
        name: "config-rollback",
        takes: "true or false",
        apply: |to, text| boolean(text).map(|yes| to.config_rollback = yes),
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
        name: "health-listen",
        takes: "ADDRESS:PORT such as 127.0.0.1:9180 or [::]:9180, or off",
        apply: |to, text| {
            to.health_listen = if text == "off" {
                None
            } else {
                Some(text.parse().ok().filter(has_port)?)
            };
            Some(())
        },
    },
    Setting {
        name: "heap-dump",
        takes: "off, report, snapshot or both",
        apply: |to, text| {
            to.heap_dump = match text {
                "off" => HeapDump::Off,
                "report" => HeapDump::Report,
                "snapshot" => HeapDump::Snapshot,
                "both" => HeapDump::Both,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "memory-restart",
        takes: "auto or off",
        apply: |to, text| {
            to.memory_restart = match text {
                "auto" => true,
                "off" => false,
                _ => return None,
            };
            Some(())
        },
    },
    Setting {
        name: "memory-restarts-per-hour",
        takes: "a number, 1 to 60",
        apply: |to, text| {
            let count = text.parse().ok().filter(|count| (1..=60).contains(count));
            count.map(|count| to.memory_restarts_per_hour = count)
        },
    },
    Setting {
        name: "heap",
        takes: "auto, off or a number of MB, 64 or more",
        apply: |to, text| {
            to.heap = match text {
                "auto" => Heap::Auto,
                "off" => Heap::Off,
                mb => Heap::Mb(mb.parse().ok().filter(|mb| (64..=1 << 20).contains(mb))?),
            };
            Some(())
        },
    },
    Setting {
        name: "keep-output",
        takes: "off or a number of MB, 1 to 100",
        apply: |to, text| {
            to.keep_output_mb = match text {
                "off" => 0,
                mb => mb.parse().ok().filter(|mb| (1..=100).contains(mb))?,
            };
            Some(())
        },
    },
    Setting {
        name: "on-event",
        takes: "auto, off or a command",
        apply: |to, text| {
            to.on_event = match text {
                "auto" => OnEvent::Auto,
                "off" => OnEvent::Off,
                command => OnEvent::Command(command.to_owned()),
            };
            Some(())
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

/// A port of the kernel's choice is one that nobody could ask.
const fn has_port(address: &SocketAddr) -> bool {
    address.port() > 0
}

/// `90s`, `5m`, `250ms`, or a bare number of seconds; a week at most.
pub fn time(text: &str) -> Option<Millis> {
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
