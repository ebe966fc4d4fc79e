//! What of a config means something to a running gateway, and which keys differ between two.

use super::secrets::below;
use serde_json::{Map, Value};

/// At most this many keys are named.
const MAX_CHANGED: usize = 8;
/// Keys are named down to this depth.
const MAX_KEY_DEPTH: usize = 3;

/// The config without what the gateway notes in it for itself, and with one shape where versions have two.
///
/// `meta` and `wizard` hold stamps of whoever wrote the file last. `gateway.reload` is about reloading alone:
/// a change of it needs none. 9.6 rewrites `agents.list` to `agents.entries`.
#[must_use]
pub fn meaning(config: &Value) -> Value {
    let mut config = config.clone();
    let Some(root) = config.as_object_mut() else {
        return config;
    };
    root.remove("meta");
    root.remove("wizard");
    if let Some(gateway) = root.get_mut("gateway").and_then(Value::as_object_mut) {
        gateway.remove("reload");
    }
    if let Some(agents) = root.get_mut("agents").and_then(Value::as_object_mut) {
        list_to_entries(agents);
    }
    config
}

fn list_to_entries(agents: &mut Map<String, Value>) {
    let id_of = |agent: &Value| agent.get("id").and_then(Value::as_str).map(str::to_owned);
    let Some(Value::Array(list)) = agents.get("list") else {
        return;
    };
    if agents.contains_key("entries") || !list.iter().all(|agent| id_of(agent).is_some()) {
        return;
    }
    let Some(Value::Array(list)) = agents.remove("list") else {
        return;
    };
    let entries = list.into_iter().filter_map(|mut agent| {
        let id = id_of(&agent)?;
        agent.as_object_mut()?.remove("id");
        Some((id, agent))
    });
    agents.insert("entries".to_owned(), Value::Object(entries.collect()));
}

/// True when the config tells the gateway to leave edits alone.
#[must_use]
pub fn reload_is_off(config: &Value) -> bool {
    text(config, &["gateway", "reload", "mode"]) == Some("off")
}

/// True when its console is told to keep to itself what it says of a reload, most of which is `info`.
#[must_use]
pub fn log_is_quiet(config: &Value) -> bool {
    matches!(
        text(config, &["logging", "consoleLevel"]),
        Some("silent" | "fatal" | "error" | "warn")
    )
}

fn text<'a>(config: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter()
        .try_fold(config, |value, key| value.get(key))?
        .as_str()
}

/// The paths of keys that differ, a few, not deep, and never a value.
#[must_use]
pub fn changed_keys(old: &Value, new: &Value) -> Vec<String> {
    let mut changed = Vec::new();
    compare(old, new, &mut String::new(), 0, &mut changed);
    if changed.len() > MAX_CHANGED {
        changed.truncate(MAX_CHANGED);
        changed.push("...".to_owned());
    }
    changed
}

fn compare(old: &Value, new: &Value, path: &mut String, depth: usize, changed: &mut Vec<String>) {
    if old == new || changed.len() > MAX_CHANGED {
        return;
    }
    match (old, new) {
        (Value::Object(was), Value::Object(is)) if depth < MAX_KEY_DEPTH => {
            let gone = was.keys().filter(|key| !is.contains_key(*key));
            for key in is.keys().chain(gone) {
                let side = |fields: &Map<String, Value>| fields.get(key).cloned();
                let (was, is) = (side(was), side(is));
                if was != is {
                    below(path, key, |path| {
                        let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
                        compare(&was, &is, path, depth + 1, changed);
                    });
                }
            }
        }
        _ => changed.push(if path.is_empty() {
            "everything".to_owned()
        } else {
            path.clone()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_gateways_own_notes_and_rewrites_mean_nothing() {
        let users = json!({"gateway": {"mode": "local"}, "agents": {"list": [{"id": "main", "name": "m"}]}});
        let rewritten = json!({
            "gateway": {"mode": "local", "reload": {"mode": "off"}},
            "agents": {"entries": {"main": {"name": "m"}}},
            "meta": {"lastTouchedVersion": "2026.9.6"},
        });
        assert_eq!(meaning(&users), meaning(&rewritten));
        let other = json!({"gateway": {"mode": "local"}, "agents": {"list": [{"id": "main"}]}});
        assert_ne!(meaning(&users), meaning(&other));
        assert_eq!(meaning(&json!([])), json!([]));
    }

    #[test]
    fn changed_keys_are_named_without_values() {
        let old = json!({"gateway": {"mode": "local", "auth": {"token": "hunter2"}}, "a": 1});
        let new =
            json!({"gateway": {"mode": "local", "auth": {"token": "hunter3"}}, "b": {"sk-abc": 1}});
        let changed = changed_keys(&old, &new);
        assert_eq!(changed, ["b", "gateway.auth.token", "a"]);
        assert_eq!(changed_keys(&old, &old), Vec::<String>::new());
        assert_eq!(changed_keys(&json!({}), &json!([])), ["everything"]);
        let many: Map<String, Value> = (0..50).map(|n| (format!("k{n}"), json!(n))).collect();
        let named = changed_keys(&json!({}), &Value::Object(many));
        assert_eq!(
            (named.len(), named.last().map(String::as_str)),
            (9, Some("..."))
        );
    }

    #[test]
    fn what_a_config_says_of_reloading_and_logging_is_read() {
        assert!(reload_is_off(
            &json!({"gateway": {"reload": {"mode": "off"}}})
        ));
        assert!(!reload_is_off(
            &json!({"gateway": {"reload": {"mode": "hot"}}})
        ));
        assert!(log_is_quiet(&json!({"logging": {"consoleLevel": "warn"}})));
        assert!(!log_is_quiet(
            &json!({"logging": {"consoleLevel": "debug"}})
        ));
    }
}
