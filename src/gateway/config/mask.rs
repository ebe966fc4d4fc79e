//! Shows a config to people without its secrets.
//!
//! Wider than the search for literal secrets in [`super::secrets`]: what is masked here by mistake costs
//! a glance at the file, what is not masked may end in a ticket or a screen recording.

use serde_json::{Map, Value};

use super::secrets;

/// What stands where a secret is.
pub const MASK: &str = "***";

/// Everything below these keys is masked: environments and headers carry secrets under any name.
const CONFINED: [&str; 5] = ["env", "environment", "vars", "headers", "cookies"];

/// Ends of names, beside those of [`secrets`], whose own text is masked but not what lies below them:
/// `webhook: "https://…"` is a secret, `webhook: {port: 1}` a section.
const WEAK_NAME_ENDS: [&str; 14] = [
    "key",
    "pass",
    "passcode",
    "pwd",
    "pin",
    "credential",
    "cookie",
    "jwt",
    "bearer",
    "signature",
    "mnemonic",
    "otp",
    "auth",
    "webhook",
];

/// A name that ends as a secret's does but counts tokens: `maxTokens`.
const COUNTING: [&str; 6] = ["max", "min", "reserve", "limit", "budget", "context"];

/// An unbroken run of so many letters and digits, of both kinds, is nothing a person wrote.
const RUN: usize = 20;

/// Where in a config a value stands, as far as that says how secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Every text here and below is masked.
    texts: bool,
    /// Every number too.
    numbers: bool,
    /// A text is masked here, but not below.
    text_here: bool,
}

impl Place {
    /// The place of a field.
    pub(super) fn field(self, key: &str) -> Self {
        let is_confined = CONFINED.contains(&plain_name(key).as_str());
        Self {
            texts: self.texts || is_confined || is_name_of_secret(key),
            numbers: self.numbers || is_confined || secrets::is_name_of_one(key),
            text_here: is_weak_name(key),
        }
    }

    /// The place of an item in an array; `--token` before it makes it a secret.
    pub(super) fn item(self, previous: Option<&Value>) -> Self {
        let after_flag = previous
            .and_then(Value::as_str)
            .is_some_and(|it| it.starts_with('-') && (is_name_of_secret(it) || is_weak_name(it)));
        Self {
            texts: self.texts || after_flag,
            ..self
        }
    }

    const fn masks_text(self) -> bool {
        self.texts || self.text_here
    }
}

/// The config with every secret replaced by `***`. Booleans, nulls and `${NAME}` stay.
#[must_use]
pub fn masked(config: &Value) -> Value {
    masked_at(config, Place::default())
}

/// The same for a value at a place. Recursion is bounded by the parser's own bound on depth.
pub(super) fn masked_at(value: &Value, place: Place) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) if place.numbers => MASK.into(),
        Value::Number(_) => value.clone(),
        Value::String(text) if is_shown(text, place) => value.clone(),
        Value::String(_) => MASK.into(),
        Value::Array(items) => {
            let previous = std::iter::once(None).chain(items.iter().map(Some));
            let items = items.iter().zip(previous);
            items
                .map(|(item, previous)| masked_at(item, place.item(previous)))
                .collect()
        }
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, field) in fields {
                let mut shown = masked_key(key).to_owned();
                while out.contains_key(&shown) {
                    shown.push('*');
                }
                out.insert(shown, masked_at(field, place.field(key)));
            }
            Value::Object(out)
        }
    }
}

/// A key, unless it looks like a secret itself.
pub(super) fn masked_key(key: &str) -> &str {
    if looks_secret(key) { MASK } else { key }
}

/// Whether a text may be shown.
fn is_shown(text: &str, place: Place) -> bool {
    let literal = without_references(text);
    let literal = literal.trim();
    let is_reference = literal.is_empty() || matches!(literal, "Bearer" | "Basic" | "Token");
    is_reference || !(place.masks_text() || looks_secret(literal))
}

/// The text less every `${NAME}`; a name of capitals is all that the gateway replaces.
fn without_references(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        out.push_str(before);
        let name = reference[2..].split('}').next().unwrap_or_default();
        let is_name = reference.len() > name.len() + 2
            && !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        if is_name {
            rest = &reference[name.len() + 3..];
        } else {
            out.push_str("${");
            rest = &reference[2..];
        }
    }
    out.push_str(rest);
    out
}

fn plain_name(name: &str) -> String {
    name.chars()
        .filter(|character| !matches!(character, '_' | '-' | '.' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Also in the plural: `tokens`, `apiKeys`.
fn is_name_of_secret(name: &str) -> bool {
    let plain = plain_name(name);
    let singular = plain.strip_suffix('s').unwrap_or(&plain);
    let counts = singular.ends_with("token") && COUNTING.iter().any(|word| plain.contains(word));
    secrets::is_name_of_one(name) || (!counts && secrets::is_name_of_one(singular))
}

fn is_weak_name(name: &str) -> bool {
    let plain = plain_name(name);
    let singular = plain.strip_suffix('s').unwrap_or(&plain);
    let ends = |end: &&str| plain.ends_with(*end) || singular.ends_with(*end);
    WEAK_NAME_ENDS.iter().any(ends)
}

/// Whether a text is, or holds, something of a secret's shape.
pub(super) fn looks_secret(text: &str) -> bool {
    let words = || text.split(|it: char| it.is_whitespace() || "\"'`,;()<>[]{}|".contains(it));
    words().any(|word| {
        let parts = word.split(['=', ':', '/', '?', '&', '#', '@']);
        parts.into_iter().any(secrets::looks_like_one)
            || secrets::looks_like_one(word)
            || has_assignment(word)
            || has_password_in_url(word)
            || has_random_run(word)
    }) || has_scheme(text)
        || text.contains("-----BEGIN")
}

/// `NAME=value` or `?name=value` where the name is a secret's.
fn has_assignment(word: &str) -> bool {
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit(['?', '&', '#', ';']).next();
        if !after.is_empty()
            && name.is_some_and(|name| is_name_of_secret(name) || is_weak_name(name))
        {
            return true;
        }
        rest = after;
    }
    false
}

/// `scheme://user:password@host`.
fn has_password_in_url(word: &str) -> bool {
    word.match_indices("://").any(|(at, _)| {
        let authority = word[at + 3..].split(['/', '?', '#']).next();
        authority
            .and_then(|authority| authority.rsplit_once('@'))
            .is_some_and(|(user, _)| user.contains(':'))
    })
}

/// `Bearer x` in a header's value.
fn has_scheme(text: &str) -> bool {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let is_scheme = ["bearer", "basic"]
            .iter()
            .any(|scheme| word.trim_end_matches(':').eq_ignore_ascii_case(scheme));
        if is_scheme && words.clone().next().is_some_and(|next| next.len() >= 8) {
            return true;
        }
    }
    false
}

/// A run of letters and digits, both kinds in it, as keys and tokens are made of.
fn has_random_run(word: &str) -> bool {
    word.split(|it: char| !it.is_ascii_alphanumeric() && it != '+')
        .filter(|run| run.len() >= RUN)
        .any(|run| {
            run.bytes().any(|byte| byte.is_ascii_digit())
                && run.bytes().any(|byte| byte.is_ascii_alphabetic())
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_config_is_still_readable() {
        let config = json!({
            "gateway": {"mode": "local", "port": 3000, "auth": {"mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}"}},
            "agents": {"defaults": {
                "model": {"primary": "anthropic/claude-sonnet-4-5-20250929"},
                "workspace": "/data/workspace", "maxTokens": 4096, "contextTokens": 200_000,
            }},
            "channels": {"discord": {"enabled": true, "guilds": {"1234567890123456789": {"users": ["987654321098765432"]}}}},
            "tools": {"allow": ["read", "exec"], "id": "0d1f6a3e-8c1b-4f0e-9d55-8e2a4c6b1f77"},
            "url": "https://example.org/v1?region=eu",
            "webhook": {"port": 8443, "path": "/hook"},
            "args": ["--model", "small", "--verbose"],
        });
        assert_eq!(masked(&config), config);
    }

    #[test]
    fn what_is_secret_by_its_place_is_masked_whatever_it_is() {
        for config in [
            json!({"gateway": {"auth": {"token": "PLANTED"}}}),
            json!({"a": {"botToken": ["PLANTED"]}}),
            json!({"a": {"tokens": {"alice": "PLANTED"}}}),
            json!({"a": {"api_keys": [{"value": "PLANTED"}]}}),
            json!({"a": {"Proxy-Authorization": "PLANTED"}}),
            json!({"env": {"vars": {"ANYTHING": "PLANTED"}}}),
            json!({"mcp": {"servers": {"x": {"headers": {"X-Any": "PLANTED"}}}}}),
            json!({"a": {"webhook": "PLANTED"}}),
            json!({"a": {"auth": "PLANTED"}}),
            json!({"args": ["--api-key", "PLANTED"]}),
            json!({"args": ["--password=PLANTED"]}),
            json!({"args": ["-e", "MY_TOKEN=PLANTED"]}),
            json!({"url": "https://u:PLANTED@example.org/x"}),
            json!({"url": "https://example.org/x?a=1&access_token=PLANTED"}),
            json!({"command": "curl -H 'Authorization: Bearer PLANTED1' x"}),
            json!({"note": "ask sk-PLANTED"}),
            json!({"note": "key:ghp_PLANTED"}),
            json!({"a": "x ${A} -----BEGIN PLANTED"}),
            json!({"token": "${A}PLANTED"}),
            json!({"token": "${PLANTED"}),
            json!({"token": "${PLANTED-x}"}),
            json!({"sk-PLANTED": 1}),
        ] {
            let shown = masked(&config).to_string();
            assert!(!shown.contains("PLANTED"), "{config}: {shown}");
            assert!(shown.contains(MASK), "{shown}");
        }
        assert_eq!(masked(&json!({"password": 123})), json!({"password": MASK}));
    }

    #[test]
    fn two_keys_that_are_masked_stay_two() {
        let shown = masked(&json!({"sk-a1": 1, "sk-a2": 2}));
        assert_eq!(shown, json!({"***": 1, "****": 2}));
    }

    /// A name that holds a secret, as people write it.
    fn secret_name() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "token",
            "apiKey",
            "api_key",
            "password",
            "secret",
            "privateKey",
            "Authorization",
            "tokens",
            "secrets",
        ]);
        ("[a-z]{0,6}[_-]?", name).prop_map(|(before, name)| before + name)
    }

    /// What services give out, in their shapes.
    fn shaped_secret() -> impl Strategy<Value = String> {
        prop_oneof![
            "sk-(ant-)?[A-Za-z0-9]{4,40}",
            "xox[bp]-[0-9]{5}-[A-Za-z0-9]{8}",
            "ghp_[A-Za-z0-9]{6,36}",
            "AIza[A-Za-z0-9_-]{6,35}",
            "AKIA[A-Z0-9]{6,16}",
            "[0-9]{10}[a-f]{10}[0-9A-Za-z]{5,20}",
        ]
    }

    /// Some config with a leaf planted somewhere in it.
    fn around(leaf: Value) -> impl Strategy<Value = Value> {
        prop::collection::vec(("[a-z]{1,6}", 0..3_u8), 0..5).prop_map(move |steps| {
            steps
                .into_iter()
                .fold(leaf.clone(), |inner, (key, kind)| match kind {
                    0 => json!({key: inner, "other": [1, true, null, "x"]}),
                    1 => json!([key, inner]),
                    _ => json!([inner, {"k": key}]),
                })
        })
    }

    proptest! {
        #[test]
        fn a_planted_secret_is_never_shown_whatever_surrounds_it(
            (secret, config) in ("[a-z]{3}QZX[a-z0-9 ]{0,9}", secret_name(), 0..3_u8).prop_flat_map(|(secret, name, kind)| {
                let leaf = match kind {
                    0 => json!({name: secret.clone()}),
                    1 => json!({name: [{"deep": secret.clone()}]}),
                    _ => json!([format!("--{name}"), secret.clone()]),
                };
                (Just(secret), around(leaf))
            })
        ) {
            let shown = masked(&config).to_string();
            prop_assert!(!shown.contains(secret.trim()), "{shown}");
        }

        #[test]
        fn a_secret_is_known_by_its_shape_in_any_text(
            (secret, config) in (shaped_secret(), "[a-z ]{0,8}[ =:/@\"']", "([ \",;)][a-z ]{0,8})?").prop_flat_map(
                |(secret, before, after)| {
                    let text = format!("{before}{secret}{after}");
                    (Just(secret), prop_oneof![around(json!(text.clone())), around(json!({text: 1}))])
                },
            )
        ) {
            let shown = masked(&config).to_string();
            prop_assert!(!shown.contains(&secret), "{shown}");
        }

        #[test]
        fn masking_twice_is_masking_once_and_nothing_else_changes(
            config in around(json!({"gateway": {"mode": "local", "token": "x"}}))
        ) {
            let once = masked(&config);
            prop_assert_eq!(masked(&once), once);
        }
    }
}
