//! Tells by its name, or by its well-known head, what is a secret. Values are never kept or shown.

use serde_json::Value;

/// At most this many places of secrets are listed for one file.
pub(super) const MAX_FOUND: usize = 20;

/// How the names of secrets end, once case, `_` and `-` are gone.
///
/// `maxTokens` and `tokenFile` do not end so; `auth.mode: "token"` is a value and no name.
const NAME_ENDS: [&str; 10] = [
    "token",
    "apikey",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "privatekey",
    "accesskey",
    "secretkey",
    "authorization",
];

/// How tokens of well-known services begin.
pub(in crate::gateway) const VALUE_STARTS: [&str; 10] = [
    "sk-",
    "xoxb-",
    "xapp-",
    "xoxp-",
    "ghp_",
    "github_pat_",
    "AIza",
    "AKIA",
    "gsk_",
    "-----BEGIN",
];

/// Whether a key names a secret.
pub(in crate::gateway) fn is_name_of_one(key: &str) -> bool {
    let plain: String = key
        .chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    NAME_ENDS.iter().any(|end| plain.ends_with(end))
}

/// Whether a value begins as a well-known kind of secret does.
pub(in crate::gateway) fn looks_like_one(value: &str) -> bool {
    VALUE_STARTS
        .iter()
        .any(|start| value.len() > start.len() && value.starts_with(start))
}

/// The paths of the secrets that stand in a config as literal text, such as `gateway.auth.token`.
///
/// `${NAME}` is a reference and no secret. At most [`MAX_FOUND`] are listed.
pub(super) fn find(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    visit(config, &mut String::new(), false, &mut found);
    found
}

/// The secrets themselves, at most `limit`, for taking them out of other texts. Never shown.
/// `${NAME}` is among them: what it stands for is one.
pub(in crate::gateway) fn collect(config: &Value, limit: usize, found: &mut Vec<String>) {
    collect_below(config, false, limit, found);
}

fn collect_below(value: &Value, is_named: bool, limit: usize, found: &mut Vec<String>) {
    if found.len() >= limit {
        return;
    }
    match value {
        Value::String(text) => {
            if is_named || looks_like_one(text) {
                found.push(text.clone());
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_below(item, is_named, limit, found);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                collect_below(field, is_name_of_one(key), limit, found);
            }
        }
        Value::Number(number) if is_named => found.push(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Recursion is bounded by the parser's own bound on depth.
fn visit(value: &Value, path: &mut String, is_named: bool, found: &mut Vec<String>) {
    if found.len() >= MAX_FOUND {
        return;
    }
    match value {
        Value::String(text) => {
            let is_literal = !text.trim().is_empty() && !text.contains("${");
            if is_literal && (is_named || looks_like_one(text)) {
                found.push(path.clone());
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(path, &index.to_string(), |path| {
                    visit(item, path, is_named, found)
                });
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                below(path, key, |path| {
                    visit(field, path, is_name_of_one(key), found)
                });
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Runs with `path` extended by `segment`, which is masked when it is a secret itself.
pub(super) fn below(path: &mut String, segment: &str, run: impl FnOnce(&mut String)) {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    let is_plain = segment.len() <= 64 && segment.chars().all(|it| !it.is_control());
    path.push_str(if is_plain && !looks_like_one(segment) {
        segment
    } else {
        "***"
    });
    run(path);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_found_by_its_name_and_only_as_literal_text() {
        let config = json!({
            "gateway": {"auth": {"mode": "token", "token": "abc", "password": "${PASSWORD}"}},
            "channels": {"telegram": {"botToken": "1:x", "tokenFile": "/run/token"}},
            "env": {"OPENAI_API_KEY": "x", "LANG": "C"},
            "agents": {"defaults": {"maxTokens": 4, "reserveTokens": "4"}},
            "models": {"providers": {"a": {"apiKey": {"source": "env", "id": "A"}}}},
            "list": ["sk-abc"],
            "empty": {"token": ""},
        });
        assert_eq!(
            find(&config),
            [
                "channels.telegram.botToken",
                "env.OPENAI_API_KEY",
                "gateway.auth.token",
                "list.0"
            ]
        );
    }

    #[test]
    fn the_list_is_bounded() {
        let config = json!({"tokens": (0..1000).map(|_| "sk-1234").collect::<Vec<_>>()});
        assert_eq!(find(&config).len(), MAX_FOUND);
    }

    #[test]
    fn a_secret_used_as_a_key_is_not_shown() {
        assert_eq!(find(&json!({"sk-abc": {"token": "x"}})), ["***.token"]);
    }
}
