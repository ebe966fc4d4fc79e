//! The config a gateway gets when it has none: what the environment implies, and never a secret.

use serde_json::{Map, Value, json};

use super::parse::{ConfigError, Parsed, parse};
use super::secrets;
use crate::gateway::launch::{Launch, effective_port};
use crate::gateway::version::Version;

/// The model for the first provider whose key is set: its id, and the id of releases older than 2026.3.13.
///
/// Each is in the catalogs of the releases that were looked at (1.29, 2.26, 3.13, 4.29, 7.1, 9.6).
const MODELS: &[(&[&str], &str, &str)] = &[
    (
        &["ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN"],
        "anthropic/claude-opus-4-5",
        "anthropic/claude-opus-4-5",
    ),
    (&["OPENAI_API_KEY"], "openai/gpt-5.4", "openai/gpt-5.2"),
    (
        &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        "google/gemini-2.5-pro",
        "google/gemini-2.5-pro",
    ),
    (
        &["OPENROUTER_API_KEY"],
        "openrouter/auto",
        "openrouter/auto",
    ),
];

/// The channels, each with the variables that must all be set. The gateway reads the tokens from the
/// environment by these names.
const CHANNELS: &[(&str, &[&str])] = &[
    ("discord", &["DISCORD_BOT_TOKEN"]),
    ("telegram", &["TELEGRAM_BOT_TOKEN"]),
    ("slack", &["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]),
];

/// From where the Fly Proxy reaches a machine: "a private IPv4 address" in Fly's words, of 172.16.0.0/12 as people
/// see it. From there nothing else comes: Fly's private network between machines is IPv6.
pub(super) const FLY_PROXY: &str = "172.16.0.0/12";

/// What stands above a seeded config.
const HEADER: &str = "\
// Written by clawkeeper because there was no config. It is yours now: clawkeeper never changes it.
// Secrets belong in the environment (fly secrets set NAME=...), not in this file.
";

/// Why a user's seed cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// It is no JSON5.
    #[error("parse the seed")]
    Parse(#[source] ConfigError),
    /// It is JSON5, but no object.
    #[error("use the seed: it is not an object")]
    NotAnObject,
    /// It holds secrets, named by their paths. They would lie on the volume in plain text.
    #[error("use the seed: it holds secrets at {}", .paths.join(", "))]
    HoldsSecrets {
        /// The paths, never the values.
        paths: Vec<String>,
    },
}

/// The config the environment implies.
///
/// `gateway.mode` is `local`, the model is the one of the first provider with a key, each channel with
/// its tokens set is enabled for the groups the user lists, and the Control UI is allowed from the app's own addresses on Fly and from this machine.
/// On Fly its proxy is trusted to say who a visitor is: 9.6 answers 403 to all of them otherwise, and shows them the
/// Control UI then (run, with addresses and headers as Fly has them).
/// A version that does not know a key is not given it, since it would refuse the file; an unknown
/// version is taken for a current one.
///
/// The whole seed was run: 2.26, 3.13, 4.29 and 9.6 come up ready with it, and 1.29 without the origins.
/// 7.1 and 8.2 accept it too, but install the plugin of each channel from npm and exit 1 when they
/// cannot. 9.6 starts no channel whose plugin is not trusted by name in `plugins.entries`, which all
/// nine releases accept. Without a model 9.6 picks its own default, whichever provider's key is set.
#[must_use]
pub fn seed(launch: Launch<'_>) -> Value {
    let (env, version) = (launch.env, launch.version);
    let mut gateway = Map::new();
    gateway.insert("mode".to_owned(), json!("local"));
    if version.is_none_or(Version::knows_allowed_origins) {
        let origins = json!({"allowedOrigins": allowed_origins(launch)});
        gateway.insert("controlUi".to_owned(), origins);
    }
    if env.has("FLY_APP_NAME") && version.is_none_or(Version::demands_trusted_proxies) {
        gateway.insert("trustedProxies".to_owned(), json!([FLY_PROXY]));
    }
    let mut root = Map::new();
    root.insert("gateway".to_owned(), Value::Object(gateway));
    let has_any = |names: &[&str]| names.iter().any(|name| env.has(name));
    if let Some((_, model, older)) = MODELS.iter().find(|(names, ..)| has_any(names)) {
        let is_old = version.is_some_and(|version| version < Version::new(2026, 3, 13));
        let model = if is_old { older } else { model };
        root.insert(
            "agents".to_owned(),
            json!({"defaults": {"model": {"primary": model}}}),
        );
    }
    let (mut channels, mut plugins) = (Map::new(), Map::new());
    let is_set = |names: &[&str]| names.iter().all(|name| env.has(name));
    for (channel, _) in CHANNELS.iter().filter(|(_, names)| is_set(names)) {
        let settings = json!({"enabled": true, "groupPolicy": "allowlist"});
        channels.insert((*channel).to_owned(), settings);
        plugins.insert((*channel).to_owned(), json!({"enabled": true}));
    }
    if !channels.is_empty() {
        root.insert("channels".to_owned(), Value::Object(channels));
        root.insert("plugins".to_owned(), json!({"entries": plugins}));
    }
    Value::Object(root)
}

/// The seeded config as the text of a file, with a comment that says whose it is.
#[must_use]
pub fn seed_text(launch: Launch<'_>) -> String {
    format!("{HEADER}{:#}\n", seed(launch))
}

/// From where the Control UI may be opened: the app's own addresses on Fly, and this machine, which is where
/// `fly proxy` and an SSH tunnel come from. 3.13 refuses to listen to the network without any, and a list
/// with only one of them keeps later releases from adding the other themselves.
fn allowed_origins(launch: Launch<'_>) -> Vec<String> {
    let app = launch.env.text("FLY_APP_NAME");
    let (port, _) = effective_port(launch);
    // By its public name, and by the one that only Fly's private network knows (Flycast).
    let on_fly = app.filter(|app| is_host_label(app)).map(|app| {
        [
            format!("https://{app}.fly.dev"),
            format!("http://{app}.flycast:{port}"),
        ]
    });
    let local = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}"));
    on_fly.into_iter().flatten().chain(local).collect()
}

/// Checks the text of a user's own seed (`CLAWKEEPER_CONFIG_SEED`).
///
/// # Errors
/// It does not parse, is no object, or holds a secret as literal text.
pub fn user_seed(text: &str) -> Result<Parsed, SeedError> {
    let parsed = parse(text.as_bytes()).map_err(SeedError::Parse)?;
    if !parsed.value.is_object() {
        return Err(SeedError::NotAnObject);
    }
    let paths = secrets::find(&parsed.value);
    if !paths.is_empty() {
        return Err(SeedError::HoldsSecrets { paths });
    }
    Ok(parsed)
}

/// A Fly app's name: what may stand in a host name, and nothing that could end a string.
fn is_host_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::{Env, GatewayCommand};

    const LOCAL: [&str; 2] = ["http://localhost:18789", "http://127.0.0.1:18789"];

    fn seeded(vars: &[(&str, &str)], version: Option<&str>) -> String {
        let lookup = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let command = GatewayCommand::default();
        seed_text(Launch {
            command: &command,
            env: Env::new(&lookup),
            config: None,
            version: version.map(|text| text.parse().unwrap()),
        })
    }

    fn value(vars: &[(&str, &str)], version: Option<&str>) -> Value {
        parse(seeded(vars, version).as_bytes()).unwrap().value
    }

    #[test]
    fn an_empty_environment_gives_the_least_a_gateway_accepts() {
        let least = json!({"gateway": {"mode": "local", "controlUi": {"allowedOrigins": LOCAL}}});
        assert_eq!(value(&[], None), least);
    }

    #[test]
    fn the_environment_decides_model_channels_and_origins() {
        let vars = [
            ("FLY_APP_NAME", "my-app"),
            ("OPENAI_API_KEY", "sk-1"),
            ("OPENROUTER_API_KEY", "sk-2"),
            ("DISCORD_BOT_TOKEN", "MTQ"),
            ("SLACK_BOT_TOKEN", "xoxb-1"),
        ];
        let expected = json!({
            "agents": {"defaults": {"model": {"primary": "openai/gpt-5.4"}}},
            "channels": {"discord": {"enabled": true, "groupPolicy": "allowlist"}},
            "gateway": {
                "mode": "local",
                "controlUi": {"allowedOrigins": ["https://my-app.fly.dev", "http://my-app.flycast:18789", LOCAL[0], LOCAL[1]]},
                "trustedProxies": ["172.16.0.0/12"],
            },
            "plugins": {"entries": {"discord": {"enabled": true}}},
        });
        assert_eq!(value(&vars, Some("2026.9.6")), expected);
        let both = [("SLACK_BOT_TOKEN", "a"), ("SLACK_APP_TOKEN", "b")];
        assert_eq!(
            value(&both, None)["channels"],
            json!({"slack": {"enabled": true, "groupPolicy": "allowlist"}})
        );
    }

    #[test]
    fn a_version_is_not_given_a_key_it_refuses() {
        let fly = [("FLY_APP_NAME", "my-app")];
        assert_eq!(
            value(&fly, Some("2026.1.29")),
            json!({"gateway": {"mode": "local"}})
        );
        assert_eq!(
            value(&fly, Some("2026.7.1"))["gateway"]["trustedProxies"],
            Value::Null
        );
        let key = [("OPENAI_API_KEY", "sk-1")];
        assert_eq!(
            value(&key, Some("2026.1.29"))["agents"]["defaults"]["model"]["primary"],
            "openai/gpt-5.2"
        );
    }

    #[test]
    fn a_blank_variable_is_not_set() {
        assert_eq!(value(&[("OPENAI_API_KEY", " ")], None), value(&[], None));
    }

    #[test]
    fn a_users_seed_is_checked() {
        assert!(user_seed("{gateway: {mode: 'local'}}").is_ok());
        assert_eq!(user_seed("[]"), Err(SeedError::NotAnObject));
        assert!(matches!(user_seed("{"), Err(SeedError::Parse(_))));
        let error = user_seed("{gateway: {auth: {token: 'hunter2'}}}").unwrap_err();
        assert_eq!(
            error,
            SeedError::HoldsSecrets {
                paths: vec!["gateway.auth.token".to_owned()]
            }
        );
        assert!(!error.to_string().contains("hunter2"));
        assert!(user_seed("{gateway: {auth: {token: '${OPENCLAW_GATEWAY_TOKEN}'}}}").is_ok());
    }

    proptest! {
        #[test]
        fn no_secret_is_ever_in_a_seed(secret in "[a-z0-9]{12,40}", app in ".{0,20}") {
            let names = [
                "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY",
                "OPENROUTER_API_KEY", "DISCORD_BOT_TOKEN", "TELEGRAM_BOT_TOKEN", "SLACK_BOT_TOKEN",
                "SLACK_APP_TOKEN", "OPENCLAW_GATEWAY_TOKEN",
            ];
            let mut vars: Vec<(&str, &str)> = names.iter().map(|name| (*name, secret.as_str())).collect();
            vars.push(("FLY_APP_NAME", &app));
            let text = seeded(&vars, None);
            prop_assert!(!text.contains(&secret));
            prop_assert!(parse(text.as_bytes()).is_ok());
        }
    }
}
