//! Judges a config, with the command and the environment it is started with, before the gateway does.
//!
//! The gateway's own validator stays the authority on the schema. These rules say early, in one line
//! each, what makes a gateway refuse to start or start where nobody can reach it.
//! A key that an `$include` may bring is never claimed to be missing.

use serde_json::Value;

use super::parse::Parsed;
use super::secrets;
use super::seed::FLY_PROXY;
use crate::core::config::{Finding, Severity};
use crate::gateway::launch::{Bind, Launch, Source, effective_bind, effective_port};
use crate::gateway::version::Version;

/// What is known of the keys under `gateway`.
struct Gateway<'a> {
    value: Option<&'a Value>,
    /// True when an `$include` may bring keys that are not in the file.
    may_be_included: bool,
}

/// Every finding about a config, the worst first.
///
/// `parsed` is `None` when there is no file; `launch.config` should be its value.
/// `expected_port` is the port Fly's proxy forwards to (`internal_port`), when it is known.
#[must_use]
pub fn examine(
    parsed: Option<&Parsed>,
    launch: Launch<'_>,
    expected_port: Option<u16>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(parsed) = parsed {
        examine_file(parsed, &mut findings);
    }
    let gateway = Gateway::of(parsed);
    if parsed.is_none_or(|parsed| parsed.value.is_object()) {
        examine_mode(parsed.is_some(), &gateway, launch, &mut findings);
        examine_auth(&gateway, launch, &mut findings);
        examine_address(&gateway, launch, expected_port, &mut findings);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

impl<'a> Gateway<'a> {
    fn of(parsed: Option<&'a Parsed>) -> Self {
        let root = parsed.map(|parsed| &parsed.value);
        let value = root.and_then(|root| root.get("gateway"));
        let includes = |value: Option<&Value>| value.is_some_and(|it| it.get("$include").is_some());
        let auth = value.and_then(|it| it.get("auth"));
        Self {
            value,
            may_be_included: includes(root) || includes(value) || includes(auth),
        }
    }

    fn get(&self, path: &[&str]) -> Option<&'a Value> {
        path.iter()
            .try_fold(self.value?, |value, key| value.get(key))
    }

    fn text(&self, path: &[&str]) -> Option<&'a str> {
        self.get(path)?
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }
}

fn add(
    findings: &mut Vec<Finding>,
    severity: Severity,
    code: &'static str,
    message: String,
    fix: &str,
) {
    findings.push(Finding {
        severity,
        code: code.to_owned(),
        message,
        fix: fix.to_owned(),
    });
}

/// What can be said of the file by itself.
fn examine_file(parsed: &Parsed, findings: &mut Vec<Finding>) {
    if !parsed.value.is_object() {
        let message = "the config is not an object".to_owned();
        add(
            findings,
            Severity::Hold,
            "config.not-object",
            message,
            "wrap its content in { }",
        );
    }
    if let Some(position) = parsed.not_utf8_at {
        let message =
            format!("the config is not UTF-8 at {position}; the gateway reads U+FFFD there");
        add(
            findings,
            Severity::Warn,
            "config.not-utf8",
            message,
            "save the file as UTF-8",
        );
    }
    if !parsed.repeated_keys.is_empty() {
        let keys = parsed.repeated_keys.join(", ");
        let message = format!("keys stand twice and only the last one counts: {keys}");
        add(
            findings,
            Severity::Warn,
            "config.repeated-key",
            message,
            "remove all but one of each",
        );
    }
    let found = secrets::find(&parsed.value);
    if !found.is_empty() {
        let message = format!("secrets stand in the config file: {}", found.join(", "));
        let fix = "move them to the environment (fly secrets set NAME=...) and write \"${NAME}\"";
        add(
            findings,
            Severity::Warn,
            "config.secret-in-file",
            message,
            fix,
        );
    }
}

/// `gateway.mode` must be `local`, unless `--allow-unconfigured` is given (3.13, 7.1 and 9.6, source).
///
/// Run on 9.6 with that flag: `{}` and `{"gateway":{"mode":"remote"}}` come up ready; an empty file is
/// refused with rc 78, but as JSON5 that does not parse.
fn examine_mode(
    exists: bool,
    gateway: &Gateway<'_>,
    launch: Launch<'_>,
    findings: &mut Vec<Finding>,
) {
    let fix = "set gateway.mode to \"local\" in the config";
    let severity = match (launch.command.allow_unconfigured, gateway.may_be_included) {
        (true, _) => Severity::Info,
        (false, true) => Severity::Warn,
        (false, false) => Severity::Hold,
    };
    match gateway.get(&["mode"]) {
        _ if !exists => {
            let message = "there is no config file".to_owned();
            add(
                findings,
                severity,
                "config.missing",
                message,
                "create one: clawkeeper config seed",
            );
        }
        None => {
            let message = "gateway.mode is missing".to_owned();
            add(findings, severity, "config.mode-missing", message, fix);
        }
        Some(Value::String(mode)) if mode.trim() == "local" || mode.contains("${") => {}
        Some(_) => {
            // What stands there may be anything, so it is not repeated.
            let message = "gateway.mode is not \"local\"".to_owned();
            add(
                findings,
                severity.max(Severity::Warn),
                "config.mode-not-local",
                message,
                fix,
            );
        }
    }
}

/// A bind beyond loopback needs a token, a password or `trusted-proxy`; `none` is refused too (9.6).
///
/// 3.13 makes a token up when it has none (source), so there it is only a warning.
fn examine_auth(gateway: &Gateway<'_>, launch: Launch<'_>, findings: &mut Vec<Finding>) {
    let (bind, _) = effective_bind(launch);
    if bind.reaches_out(in_container(launch)) != Some(true) {
        return;
    }
    let mode = launch
        .command
        .auth
        .as_deref()
        .or_else(|| gateway.text(&["auth", "mode"]));
    let configured = |key| {
        gateway
            .get(&["auth", key])
            .is_some_and(|value| is_secret_given(value, launch))
    };
    let token = launch.command.token_given
        || ["OPENCLAW_GATEWAY_TOKEN", "CLAWDBOT_GATEWAY_TOKEN"]
            .iter()
            .any(|it| launch.env.has(it))
        || configured("token");
    let password = launch.command.password_given
        || ["OPENCLAW_GATEWAY_PASSWORD", "CLAWDBOT_GATEWAY_PASSWORD"]
            .iter()
            .any(|it| launch.env.has(it))
        || configured("password");
    let is_safe = match mode {
        Some("trusted-proxy") => true,
        Some("token") => token,
        Some("password") => password,
        Some("none") => false,
        Some(_) | None => token || password,
    };
    if is_safe {
        return;
    }
    let makes_one_up = launch
        .version
        .is_some_and(|version| version <= Version::new(2026, 3, 13));
    let severity = if gateway.may_be_included || (makes_one_up && mode != Some("none")) {
        Severity::Warn
    } else {
        Severity::Hold
    };
    let (lack, fix) = auth_lack(mode, launch.env.has("FLY_APP_NAME"));
    let message = format!(
        "{} reaches beyond this machine, but {lack}",
        bind_text(&bind)
    );
    add(
        findings,
        severity,
        "config.bind-without-auth",
        message,
        &fix,
    );
}

/// What a gateway that others can reach lacks in this mode, and the fix.
fn auth_lack(mode: Option<&str>, is_fly: bool) -> (&'static str, String) {
    let (lack, secret, instead) = match mode {
        Some("none") => {
            let fix = "remove gateway.auth.mode (and --auth), or set it to token";
            return ("its auth mode is none", fix.to_owned());
        }
        Some("password") => (
            "its auth mode is password and it has none",
            "OPENCLAW_GATEWAY_PASSWORD",
            "; or set gateway.auth.mode (and --auth) to token",
        ),
        Some(_) | None => ("the gateway has no token", "OPENCLAW_GATEWAY_TOKEN", ""),
    };
    let fix = if is_fly {
        format!("fly secrets set {secret}=$(openssl rand -hex 32){instead}")
    } else {
        format!(
            "start it with one in its environment, such as docker run -e {secret}=$(openssl rand -hex 32){instead}"
        )
    };
    (lack, fix)
}

/// Whether Fly's proxy can reach the gateway, and the Control UI opens.
fn examine_address(
    gateway: &Gateway<'_>,
    launch: Launch<'_>,
    expected_port: Option<u16>,
    findings: &mut Vec<Finding>,
) {
    if let Some(Err(_)) = launch.command.port {
        let message = "--port is not a port between 1 and 65535".to_owned();
        add(
            findings,
            Severity::Hold,
            "command.port-invalid",
            message,
            "give a number, such as --port 3000",
        );
    }
    let (port, port_source) = effective_port(launch);
    if let Some(expected) = expected_port.filter(|expected| *expected != port) {
        let message = format!(
            "the gateway will listen on {port} ({}), but {expected} is forwarded to it",
            source_text(port_source)
        );
        let fix = format!(
            "set --port {expected} in the command, or internal_port and CLAWKEEPER_INTERNAL_PORT to {port} in fly.toml"
        );
        add(
            findings,
            Severity::Warn,
            "config.port-mismatch",
            message,
            &fix,
        );
    }
    let (bind, source) = effective_bind(launch);
    let reaches_out = bind.reaches_out(in_container(launch));
    if let Bind::Invalid(_) = bind {
        let message = format!(
            "the bind ({}) is a word the gateway does not know",
            source_text(source)
        );
        let fix = "use lan, loopback, auto, tailnet or custom";
        add(
            findings,
            Severity::Hold,
            "config.bind-invalid",
            message,
            fix,
        );
    }
    if on_fly(launch) && reaches_out == Some(false) {
        let message = format!("{} keeps Fly's proxy out", bind_text(&bind));
        let fix = "add --bind lan to the command in fly.toml";
        add(
            findings,
            Severity::Warn,
            "config.bind-loopback",
            message,
            fix,
        );
    }
    let demands_proxies = launch.version.is_some_and(Version::demands_trusted_proxies);
    let has_proxies = gateway.get(&["trustedProxies"]).is_some();
    if on_fly(launch) && demands_proxies && reaches_out == Some(true) && !has_proxies {
        let severity = if gateway.may_be_included {
            Severity::Info
        } else {
            Severity::Warn
        };
        let message = "gateway.trustedProxies is missing: visitors that Fly's proxy brings get 403"
            .to_owned();
        let fix = format!("set it to [\"{FLY_PROXY}\"]");
        add(findings, severity, "config.proxies-missing", message, &fix);
    }
    let demands_origins = launch.version.is_some_and(Version::demands_allowed_origins);
    let control_ui_is_off = gateway.get(&["controlUi", "enabled"]) == Some(&Value::Bool(false));
    let any_origin = gateway.get(&["controlUi", "dangerouslyAllowHostHeaderOriginFallback"]);
    let has_origins = gateway
        .get(&["controlUi", "allowedOrigins"])
        .and_then(Value::as_array)
        .is_some_and(|origins| !origins.is_empty());
    let is_let_off = control_ui_is_off || any_origin == Some(&Value::Bool(true)) || has_origins;
    if demands_origins && reaches_out == Some(true) && !is_let_off {
        let severity = if gateway.may_be_included {
            Severity::Info
        } else {
            Severity::Warn
        };
        let message =
            "gateway.controlUi.allowedOrigins is missing; this version may refuse to start"
                .to_owned();
        let fix = "set it to the address you open, such as [\"https://my-app.fly.dev\"]";
        add(findings, severity, "config.origins-missing", message, fix);
    }
}

/// A literal, a set `${NAME}`, or a reference object the gateway resolves itself.
fn is_secret_given(value: &Value, launch: Launch<'_>) -> bool {
    match value {
        Value::String(text) => {
            let resolved = crate::gateway::environment::substituted(text.trim(), launch.env);
            !resolved.is_empty() && !resolved.contains("${")
        }
        Value::Object(_) => true,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

/// The gateway's own test for Fly; the marks of other containers are files, which the host looks for.
fn on_fly(launch: Launch<'_>) -> bool {
    launch.env.has("FLY_MACHINE_ID") && launch.env.has("FLY_APP_NAME")
}

fn in_container(launch: Launch<'_>) -> bool {
    on_fly(launch)
}

fn bind_text(bind: &Bind) -> &'static str {
    match bind {
        Bind::Loopback => "bind loopback",
        Bind::Lan => "bind lan",
        Bind::Auto => "bind auto",
        Bind::Tailnet => "bind tailnet",
        Bind::Custom(_) => "bind custom",
        Bind::Invalid(_) => "the bind",
    }
}

fn source_text(source: Source) -> &'static str {
    match source {
        Source::Flag => "by the command line",
        Source::Environment => "by the environment",
        Source::Config => "by the config",
        Source::Profile => "by the profile",
        Source::Default => "by default",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::gateway::command::{Command, recognise};
    use crate::gateway::config::parse;
    use crate::gateway::environment::Env;

    const GUIDE: &str = "node dist/index.js gateway --allow-unconfigured --port 3000 --bind lan";
    const STRICT: &str = "node dist/index.js gateway --port 3000";
    const TOKEN: (&str, &str) = ("OPENCLAW_GATEWAY_TOKEN", "hunter2");
    const FLY: [(&str, &str); 2] = [("FLY_APP_NAME", "my-app"), ("FLY_MACHINE_ID", "48e")];

    /// The findings as `code severity`, and all their text.
    fn findings(
        text: Option<&str>,
        line: &str,
        vars: &[(&str, &str)],
        version: &str,
    ) -> (Vec<String>, String) {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let Command::Gateway(command) = recognise(&argv) else {
            panic!("not a gateway: {line}");
        };
        let lookup = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let parsed = text.map(|text| parse(text.as_bytes()).unwrap());
        let launch = Launch {
            command: &command,
            env: Env::new(&lookup),
            config: parsed.as_ref().map(|parsed| &parsed.value),
            version: Some(version.parse().unwrap()),
        };
        let findings = examine(parsed.as_ref(), launch, Some(3000));
        let codes = findings
            .iter()
            .map(|it| format!("{} {:?}", it.code, it.severity))
            .collect();
        (codes, format!("{findings:?}"))
    }

    fn codes(text: Option<&str>, line: &str, vars: &[(&str, &str)]) -> Vec<String> {
        findings(text, line, vars, "2026.9.6").0
    }

    #[test]
    fn a_sound_config_finds_nothing() {
        let text = "{gateway: {mode: 'local', trustedProxies: ['172.16.0.0/12']}}";
        assert!(codes(Some(text), GUIDE, &[TOKEN, FLY[0], FLY[1]]).is_empty());
    }

    #[test]
    fn a_missing_mode_holds_only_without_allow_unconfigured() {
        assert_eq!(codes(Some("{}"), STRICT, &[]), ["config.mode-missing Hold"]);
        assert_eq!(codes(None, STRICT, &[]), ["config.missing Hold"]);
        assert_eq!(
            codes(Some("{}"), GUIDE, &[TOKEN]),
            ["config.mode-missing Info"]
        );
        assert_eq!(codes(None, GUIDE, &[TOKEN]), ["config.missing Info"]);
        assert_eq!(
            codes(Some("{gateway: {mode: 'remote'}}"), STRICT, &[]),
            ["config.mode-not-local Hold"]
        );
        assert_eq!(
            codes(Some("{gateway: {mode: 1}}"), STRICT, &[]),
            ["config.mode-not-local Hold"]
        );
    }

    #[test]
    fn what_an_include_may_bring_is_never_claimed_missing() {
        for text in [
            "{$include: './a.json5'}",
            "{gateway: {$include: './a.json5'}}",
        ] {
            let all = codes(Some(text), "openclaw gateway --port 3000 --bind lan", &[]);
            assert!(
                !all.is_empty() && all.iter().all(|it| !it.ends_with("Hold")),
                "{all:?}"
            );
        }
    }

    #[test]
    fn a_bind_to_the_world_needs_a_secret_the_gateway_can_read() {
        let held = ["config.bind-without-auth Hold"];
        let local = |auth: &str| format!("{{gateway: {{mode: 'local', auth: {auth}}}}}");
        let check = |auth: &str, vars: &[(&str, &str)]| codes(Some(&local(auth)), GUIDE, vars);
        assert_eq!(check("{}", &[]), held);
        assert_eq!(check("{mode: 'none'}", &[TOKEN]), held);
        assert_eq!(check("{mode: 'password'}", &[TOKEN]), held);
        assert_eq!(check("{token: '${UNSET}'}", &[]), held);
        assert_eq!(check("{token: ''}", &[]), held);
        // What is named is what is missing.
        let said = |auth: &str, vars: &[(&str, &str)]| {
            findings(Some(&local(auth)), GUIDE, vars, "2026.9.6").1
        };
        assert!(said("{}", &[]).contains("OPENCLAW_GATEWAY_TOKEN"));
        let none = said("{mode: 'none'}", &[TOKEN]);
        assert!(none.contains("mode is none") && !none.contains("OPENCLAW_"));
        let password = said("{mode: 'password'}", &[TOKEN]);
        assert!(password.contains("OPENCLAW_GATEWAY_PASSWORD") && password.contains("to token"));
        assert!(!password.contains("no token"));
        assert!(check("{}", &[TOKEN]).is_empty());
        assert!(check("{mode: 'trusted-proxy'}", &[]).is_empty());
        assert!(check("{token: '${T}'}", &[("T", "x")]).is_empty());
        assert!(
            check(
                "{token: {source: 'env', provider: 'default', id: 'T'}}",
                &[]
            )
            .is_empty()
        );
        let flagged = "openclaw gateway --port 3000 --bind lan --token x";
        assert!(codes(Some(&local("{}")), flagged, &[]).is_empty());
        // 3.13 makes a token up.
        let (old, _) = findings(Some(&local("{}")), GUIDE, &[], "2026.3.13");
        assert!(
            old.contains(&"config.bind-without-auth Warn".to_owned()),
            "{old:?}"
        );
    }

    #[test]
    fn fly_must_be_able_to_reach_the_gateway() {
        let text = Some("{gateway: {mode: 'local', bind: 'loopback', port: 4000}}");
        let all = codes(text, "openclaw gateway", &[TOKEN, FLY[0], FLY[1]]);
        assert_eq!(
            all,
            ["config.port-mismatch Warn", "config.bind-loopback Warn"]
        );
        assert_eq!(
            codes(text, "openclaw gateway", &[]),
            ["config.port-mismatch Warn"]
        );
        let bad = codes(text, "openclaw gateway --port x --bind world", &[]);
        assert!(
            bad.contains(&"command.port-invalid Hold".to_owned()),
            "{bad:?}"
        );
        assert!(
            bad.contains(&"config.bind-invalid Hold".to_owned()),
            "{bad:?}"
        );
    }

    #[test]
    fn missing_origins_are_told_to_the_versions_that_demand_them() {
        let text = Some("{gateway: {mode: 'local'}}");
        let of = |text, version| findings(text, GUIDE, &[TOKEN], version).0;
        assert_eq!(of(text, "2026.3.13"), ["config.origins-missing Warn"]);
        assert!(of(text, "2026.9.6").is_empty());
        let given = Some("{gateway: {mode: 'local', controlUi: {allowedOrigins: ['https://a']}}}");
        assert!(of(given, "2026.3.13").is_empty());
    }

    #[test]
    fn missing_proxies_are_told_on_fly_to_the_versions_that_demand_them() {
        let on_fly = [TOKEN, FLY[0], FLY[1]];
        let text = Some("{gateway: {mode: 'local'}}");
        let of = |text, env: &[_], version| findings(text, GUIDE, env, version).0;
        assert_eq!(
            of(text, &on_fly, "2026.9.6"),
            ["config.proxies-missing Warn"]
        );
        assert!(of(text, &on_fly, "2026.7.1").is_empty());
        assert!(of(text, &[TOKEN], "2026.9.6").is_empty());
        let given = Some("{gateway: {mode: 'local', trustedProxies: ['172.16.0.0/12']}}");
        assert!(of(given, &on_fly, "2026.9.6").is_empty());
    }

    #[test]
    fn secrets_and_repeated_keys_are_named_and_never_shown() {
        let text = "{gateway: {mode: 'local', auth: {token: 'hunter2', token: 'hunter2'}}}";
        let (codes, all) = findings(Some(text), GUIDE, &[], "2026.9.6");
        assert_eq!(
            codes,
            ["config.repeated-key Warn", "config.secret-in-file Warn"]
        );
        assert!(
            all.contains("gateway.auth.token") && !all.contains("hunter2"),
            "{all}"
        );
    }

    #[test]
    fn a_config_that_is_no_object_is_one_finding() {
        assert_eq!(codes(Some("[]"), GUIDE, &[]), ["config.not-object Hold"]);
    }
}
