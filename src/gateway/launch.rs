//! What a gateway makes of its command line, environment and config: which port, which address.

use serde_json::Value;

use super::command::GatewayCommand;
use super::environment::{Env, substituted};
use super::version::Version;

/// The port a gateway listens on when nothing says otherwise (2026.3.13, 7.1, 9.6; source).
pub const DEFAULT_PORT: u16 = 18789;

/// What decides how one gateway starts.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Its command line.
    pub command: &'a GatewayCommand,
    /// The environment it will get.
    pub env: Env<'a>,
    /// Its config, when there is one that parses.
    pub config: Option<&'a Value>,
    /// Its version, when its package was found.
    pub version: Option<Version>,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag on the command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The config file.
    Config,
    /// A named profile.
    Profile,
    /// The gateway's own default.
    Default,
}

/// Which addresses a gateway listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// 127.0.0.1 only: no proxy outside the machine can reach it.
    Loopback,
    /// 0.0.0.0.
    Lan,
    /// 0.0.0.0 in what the gateway takes for a container, else 127.0.0.1.
    Auto,
    /// The machine's Tailscale address, else 127.0.0.1.
    Tailnet,
    /// `gateway.customBindHost`, else 0.0.0.0.
    Custom(Option<String>),
    /// A word no version knows; the gateway exits 1 on it.
    Invalid(String),
}

impl Bind {
    /// Whether another machine may reach the gateway, as far as can be told; `None` when it hangs on
    /// the machine's interfaces.
    ///
    /// `in_container` is the gateway's own test: `FLY_MACHINE_ID` and `FLY_APP_NAME` are both set, or
    /// `/.dockerenv` or a container's cgroup is found (7.1 and 9.6, source).
    #[must_use]
    pub fn reaches_out(&self, in_container: bool) -> Option<bool> {
        match self {
            Self::Loopback => Some(false),
            Self::Lan => Some(true),
            Self::Auto => Some(in_container),
            Self::Custom(Some(host)) => Some(!is_loopback(host)),
            Self::Custom(None) => Some(true),
            Self::Tailnet | Self::Invalid(_) => None,
        }
    }
}

/// The port the gateway will listen on, and what says so.
///
/// `--port`, then `OPENCLAW_GATEWAY_PORT`, then `gateway.port`, then the profile's, then
/// [`DEFAULT_PORT`] (7.1 and 9.6, source). A value it cannot read is passed over, except `--port`:
/// that one makes it exit 1, and the port returned is then the one the rest would give.
#[must_use]
pub fn effective_port(launch: Launch<'_>) -> (u16, Source) {
    if let Some(Ok(port)) = launch.command.port {
        return (port, Source::Flag);
    }
    if let Some(port) = env_port(launch) {
        return (port, Source::Environment);
    }
    if let Some(port) = config_port(launch.config) {
        return (port, Source::Config);
    }
    profile_port(launch).map_or((DEFAULT_PORT, Source::Default), |port| {
        (port, Source::Profile)
    })
}

/// The same, where the command line or the environment says it: no config moves it from there.
#[must_use]
pub fn fixed_port(launch: Launch<'_>) -> Option<u16> {
    match effective_port(launch) {
        (port, Source::Flag | Source::Environment) => Some(port),
        (_, Source::Config | Source::Profile | Source::Default) => None,
    }
}

/// The addresses the gateway will listen on, and what says so.
///
/// `--bind`, then `gateway.bind`, then loopback if Tailscale is on, then the version's default
/// (3.13, 7.1 and 9.6, source).
#[must_use]
pub fn effective_bind(launch: Launch<'_>) -> (Bind, Source) {
    let config = launch.config;
    if let Some(word) = &launch.command.bind {
        return (bind_of(word, config), Source::Flag);
    }
    let gateway = config.and_then(|value| value.get("gateway"));
    let word = gateway
        .and_then(|it| it.get("bind"))
        .and_then(Value::as_str);
    if let Some(word) = word.map(str::trim).filter(|word| !word.is_empty()) {
        return (
            bind_of(&substituted(word, launch.env), config),
            Source::Config,
        );
    }
    let tailscale = launch.command.tailscale.as_deref().or_else(|| {
        let mode = gateway.and_then(|it| it.get("tailscale"));
        mode.and_then(|it| it.get("mode")).and_then(Value::as_str)
    });
    if tailscale.is_some_and(|mode| mode != "off") {
        return (Bind::Loopback, Source::Config);
    }
    match launch.version.and_then(Version::binds_auto_in_container) {
        Some(false) => (Bind::Loopback, Source::Default),
        Some(true) | None => (Bind::Auto, Source::Default),
    }
}

/// `3000`, `host:3000` and `[::1]:3000` are read by 7.1 and 9.6 (source); 3.13 takes the leading digits.
fn env_port(launch: Launch<'_>) -> Option<u16> {
    let text = launch.env.text("OPENCLAW_GATEWAY_PORT")?;
    let digits = match text.split_once("]:") {
        Some((host, port)) if host.starts_with('[') => port,
        Some(_) => return None,
        None => match text.split_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(':') => port,
            Some(_) => return None,
            None => text.as_str(),
        },
    };
    parse_port(digits)
}

/// A port of decimal digits only, 1 to 65535.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port > 0)
}

fn config_port(config: Option<&Value>) -> Option<u16> {
    let port = config?.get("gateway")?.get("port")?;
    let port = port.as_u64().or_else(|| {
        // `3000.0` is the same number in JavaScript.
        let float = port.as_f64().filter(|it| it.fract() == 0.0)?;
        (1.0..=65535.0).contains(&float).then_some(float as u64)
    })?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// `--dev` before `gateway` means port 19001; another profile's port is a hash of its name.
fn profile_port(launch: Launch<'_>) -> Option<u16> {
    if launch.command.profile.as_deref() == Some("dev") {
        return Some(19001);
    }
    if !launch.version.is_none_or(Version::profile_moves_port) {
        return None;
    }
    let profile = match &launch.command.profile {
        Some(profile) => profile.clone(),
        None => launch.env.text("OPENCLAW_PROFILE")?,
    };
    if profile.eq_ignore_ascii_case("default") || !is_profile_name(&profile) {
        return None;
    }
    let hash = profile.bytes().fold(2_166_136_261_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    u16::try_from(20_000 + hash % 40_000).ok()
}

/// `^[a-z0-9][a-z0-9_-]{0,63}$`, in either case (9.6, source).
pub(super) fn is_profile_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn bind_of(word: &str, config: Option<&Value>) -> Bind {
    match word {
        "loopback" => Bind::Loopback,
        "lan" => Bind::Lan,
        "auto" => Bind::Auto,
        "tailnet" => Bind::Tailnet,
        "custom" => {
            let host = config
                .and_then(|value| value.get("gateway"))
                .and_then(|gateway| gateway.get("customBindHost"))
                .and_then(Value::as_str)
                .map(|host| host.trim().to_owned());
            Bind::Custom(host.filter(|host| !host.is_empty()))
        }
        other => Bind::Invalid(other.to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use serde_json::json;

    use super::*;
    use crate::gateway::command::{Command, recognise};

    fn command(line: &str) -> GatewayCommand {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match recognise(&argv) {
            Command::Gateway(command) => command,
            Command::Other => panic!("not a gateway: {line}"),
        }
    }

    fn port(line: &str, vars: &[(&str, &str)], config: &Value, version: &str) -> (u16, Source) {
        let lookup = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        effective_port(Launch {
            command: &command(line),
            env: Env::new(&lookup),
            config: Some(config),
            version: Some(version.parse().unwrap()),
        })
    }

    fn bind(line: &str, config: &Value, version: &str) -> (Bind, Source) {
        effective_bind(Launch {
            command: &command(line),
            env: Env::new(&|name| (name == "BIND").then(|| OsString::from("lan"))),
            config: Some(config),
            version: Some(version.parse().unwrap()),
        })
    }

    #[test]
    fn port_is_taken_from_flag_then_environment_then_config_then_default() {
        let gateway = "node dist/index.js gateway";
        let flagged = "node dist/index.js gateway --port 3000";
        let config = json!({"gateway": {"port": 4000}});
        let vars = [("OPENCLAW_GATEWAY_PORT", " 5000 ")];
        assert_eq!(
            port(flagged, &vars, &config, "2026.9.6"),
            (3000, Source::Flag)
        );
        assert_eq!(
            port(gateway, &vars, &config, "2026.9.6"),
            (5000, Source::Environment)
        );
        assert_eq!(
            port(gateway, &[], &config, "2026.9.6"),
            (4000, Source::Config)
        );
        assert_eq!(
            port(gateway, &[], &json!({}), "2026.9.6"),
            (18789, Source::Default)
        );
    }

    #[test]
    fn only_a_port_that_no_config_can_move_is_fixed() {
        let fixed = |line: &str, vars: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            };
            fixed_port(Launch {
                command: &command(line),
                env: Env::new(&lookup),
                config: None,
                version: None,
            })
        };
        let set = [("OPENCLAW_GATEWAY_PORT", "3000")];
        assert_eq!(fixed("openclaw gateway --port 8080", &set), Some(8080));
        assert_eq!(fixed("openclaw gateway", &set), Some(3000));
        assert_eq!(fixed("openclaw gateway", &[]), None);
        assert_eq!(fixed("openclaw --profile work gateway", &[]), None);
    }

    #[test]
    fn a_port_variable_may_name_a_host() {
        let read = |text| {
            port(
                "openclaw gateway",
                &[("OPENCLAW_GATEWAY_PORT", text)],
                &json!({}),
                "2026.9.6",
            )
            .0
        };
        for text in ["3000", "0.0.0.0:3000", "[::]:3000"] {
            assert_eq!(read(text), 3000, "{text}");
        }
        for text in [
            "", "three", ":3000", "::1:3000", "0", "70000", "-1", "3000x",
        ] {
            assert_eq!(read(text), DEFAULT_PORT, "{text}");
        }
    }

    #[test]
    fn a_config_port_the_gateway_would_not_use_is_not_used() {
        for value in [
            json!(0),
            json!(-1),
            json!("3000"),
            json!(null),
            json!(70_000),
            json!(1.5),
        ] {
            let config = json!({"gateway": {"port": value}});
            assert_eq!(
                port("openclaw gateway", &[], &config, "2026.9.6").0,
                DEFAULT_PORT,
                "{config}"
            );
        }
        let config = json!({"gateway": {"port": 3000.0}});
        assert_eq!(
            port("openclaw gateway", &[], &config, "2026.9.6"),
            (3000, Source::Config)
        );
    }

    #[test]
    fn a_profile_moves_the_port_on_the_versions_that_do_so() {
        let (moved, source) = port(
            "openclaw --profile work gateway",
            &[],
            &json!({}),
            "2026.9.6",
        );
        assert_eq!(source, Source::Profile);
        assert!((20_000..60_000).contains(&moved));
        let old = port(
            "openclaw --profile work gateway",
            &[],
            &json!({}),
            "2026.7.1",
        );
        assert_eq!(old, (DEFAULT_PORT, Source::Default));
        let dev = port("openclaw --dev gateway", &[], &json!({}), "2026.7.1");
        assert_eq!(dev, (19001, Source::Profile));
    }

    #[test]
    fn bind_is_taken_from_flag_then_config_then_the_versions_default() {
        let plain = "openclaw gateway";
        let config = json!({"gateway": {"bind": "auto"}});
        assert_eq!(
            bind("openclaw gateway --bind lan", &config, "2026.9.6"),
            (Bind::Lan, Source::Flag)
        );
        assert_eq!(
            bind(plain, &config, "2026.9.6"),
            (Bind::Auto, Source::Config)
        );
        assert_eq!(
            bind(plain, &json!({}), "2026.9.6"),
            (Bind::Auto, Source::Default)
        );
        assert_eq!(
            bind(plain, &json!({}), "2026.3.13"),
            (Bind::Loopback, Source::Default)
        );
        let tailscale = json!({"gateway": {"tailscale": {"mode": "serve"}}});
        assert_eq!(bind(plain, &tailscale, "2026.9.6").0, Bind::Loopback);
        let variable = json!({"gateway": {"bind": "${BIND}"}});
        assert_eq!(bind(plain, &variable, "2026.9.6").0, Bind::Lan);
        let custom = json!({"gateway": {"bind": "custom", "customBindHost": "127.0.0.1"}});
        assert_eq!(
            bind(plain, &custom, "2026.9.6").0.reaches_out(true),
            Some(false)
        );
        assert_eq!(
            bind("openclaw gateway --bind 0.0.0.0", &json!({}), "2026.9.6").0,
            Bind::Invalid("0.0.0.0".to_owned())
        );
    }
}
