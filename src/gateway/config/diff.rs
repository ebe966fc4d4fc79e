//! What changed between two configs, by path, without a secret.
//!
//! Values are compared, not lines: a comment may hold a token, and a file that was only re-indented has
//! not changed for the gateway.

use serde_json::Value;

use super::mask::{self, Place};
use super::path::ConfigPath;
use super::show;

/// At most this many changes are listed.
const MAX_CHANGES: usize = 100;

/// A value is shown up to about this many characters.
const MAX_CHARS: usize = 160;

/// Everything that changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// In the order of the newer config's keys.
    pub changes: Vec<Change>,
    /// How many more there are.
    pub more: usize,
}

/// One value that changed; masked where it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// What it was; `None` when it was not there.
    pub before: Option<String>,
    /// What it is; `None` when it is gone.
    pub after: Option<String>,
}

impl Diff {
    /// Whether the gateway would see no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// One line a change: `+ path: value`, `- path: value`, `~ path: value -> value`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .changes
            .iter()
            .map(
                |Change {
                     path,
                     before,
                     after,
                 }| match (before, after) {
                    (None, Some(after)) => format!("+ {path}: {after}"),
                    (Some(before), None) => format!("- {path}: {before}"),
                    (Some(before), Some(after)) if before == after => {
                        format!("~ {path}: {before} (what is masked changed)")
                    }
                    (Some(before), Some(after)) => format!("~ {path}: {before} -> {after}"),
                    (None, None) => format!("~ {path}"),
                },
            )
            .collect();
        if self.more > 0 {
            lines.push(format!("… and {} more", self.more));
        }
        lines
    }
}

/// Compares two configs.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Diff {
    let mut differ = Differ {
        path: ConfigPath::root(),
        diff: Diff::default(),
    };
    differ.compare((before, Place::default()), (after, Place::default()));
    differ.diff
}

struct Differ {
    path: ConfigPath,
    diff: Diff,
}

/// A value and where it stands.
type Placed<'a> = (&'a Value, Place);

impl Differ {
    /// Recursion is bounded by the parser's own bound on depth.
    fn compare(&mut self, before: Placed<'_>, after: Placed<'_>) {
        match (before.0, after.0) {
            (old, new) if old == new => {}
            (Value::Object(old), Value::Object(new)) => {
                let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
                for (key, value) in gone {
                    let place = before.1.field(key);
                    self.below(key, |it| it.note(Some((value, place)), None));
                }
                for (key, value) in new {
                    let now = (value, after.1.field(key));
                    match old.get(key) {
                        Some(was) => {
                            let was = (was, before.1.field(key));
                            self.below(key, |it| it.compare(was, now));
                        }
                        None => self.below(key, |it| it.note(None, Some(now))),
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                self.compare_items((old, before.1), (new, after.1));
            }
            _ => self.note(Some(before), Some(after)),
        }
    }

    /// Leaves out what is alike at both ends, so that one item more does not make all of them differ.
    fn compare_items(&mut self, old: (&[Value], Place), new: (&[Value], Place)) {
        let alike = |(a, b): &(&Value, &Value)| a == b;
        let head = old.0.iter().zip(new.0).take_while(alike).count();
        let tails = old.0[head..].iter().rev().zip(new.0[head..].iter().rev());
        let tail = tails.take_while(alike).count();
        let placed = |(items, place): (&'_ [Value], Place), index: usize| {
            let previous = index.checked_sub(1).map(|it| &items[it]);
            place.item(previous)
        };
        let (old_end, new_end) = (old.0.len() - tail, new.0.len() - tail);
        for index in head..old_end.max(new_end) {
            let was = (index < old_end).then(|| (&old.0[index], placed(old, index)));
            let now = (index < new_end).then(|| (&new.0[index], placed(new, index)));
            self.below(&index.to_string(), |it| match (was, now) {
                (Some(was), Some(now)) => it.compare(was, now),
                (was, now) => it.note(was, now),
            });
        }
    }

    fn below(&mut self, step: &str, run: impl FnOnce(&mut Self)) {
        let mut path = std::mem::replace(&mut self.path, ConfigPath::root());
        path.with(mask::masked_key(step).to_owned(), |path| {
            self.path = path.clone();
            run(self);
        });
        self.path = path;
    }

    fn note(&mut self, before: Option<Placed<'_>>, after: Option<Placed<'_>>) {
        if self.diff.changes.len() >= MAX_CHANGES {
            self.diff.more += 1;
            return;
        }
        let shown = |(value, place)| cut(&show::compact(&mask::masked_at(value, place)));
        let path = self.path.to_string();
        self.diff.changes.push(Change {
            path: if path.is_empty() {
                "(the whole config)".to_owned()
            } else {
                path
            },
            before: before.map(shown),
            after: after.map(shown),
        });
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lines(before: &Value, after: &Value) -> Vec<String> {
        diff(before, after).lines()
    }

    #[test]
    fn a_change_is_named_by_its_path() {
        let before = json!({"gateway": {"mode": "local", "port": 1}, "old": {"a": [1]}});
        let after = json!({"gateway": {"mode": "local", "port": 2}, "new": true});
        assert_eq!(
            lines(&before, &after),
            [
                "- old: {\"a\":[1]}",
                "~ gateway.port: 1 -> 2",
                "+ new: true"
            ]
        );
        assert_eq!(
            lines(&json!(1), &json!({})),
            ["~ (the whole config): 1 -> {}"]
        );
        assert!(diff(&before, &before).is_empty());
    }

    #[test]
    fn one_item_more_is_one_change() {
        let before = json!({"list": ["b", "c"]});
        let after = json!({"list": ["a", "b", "c"]});
        assert_eq!(lines(&before, &after), ["+ list[0]: \"a\""]);
        assert_eq!(lines(&after, &before), ["- list[0]: \"a\""]);
        let other = json!({"list": ["b", "x"]});
        assert_eq!(lines(&before, &other), ["~ list[1]: \"c\" -> \"x\""]);
    }

    #[test]
    fn a_secret_that_changed_is_said_and_not_shown() {
        let before = json!({"gateway": {"auth": {"token": "one"}}, "args": ["--token", "one"]});
        let after = json!({"gateway": {"auth": {"token": "two"}}, "args": ["--token", "two"]});
        assert_eq!(
            lines(&before, &after),
            [
                "~ args[1]: \"***\" (what is masked changed)",
                "~ gateway.auth.token: \"***\" (what is masked changed)",
            ]
        );
    }

    #[test]
    fn a_long_diff_is_cut_and_counted() {
        let numbers = |from: i32| (from..from + 150).collect::<Vec<_>>();
        let found = diff(&json!(numbers(0)), &json!(numbers(500)));
        assert_eq!((found.changes.len(), found.more), (MAX_CHANGES, 50));
        assert_eq!(
            found.lines().last().map(String::as_str),
            Some("… and 50 more")
        );
        let long = diff(&json!({"a": ""}), &json!({"a": "x ".repeat(9999)}));
        assert!(long.lines()[0].chars().count() < 2 * MAX_CHARS);
    }

    /// Small configs that often differ in little.
    fn config() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            (0..3).prop_map(|it| json!(it)),
            "[ab]{0,2}".prop_map(|it| json!(it)),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c.]{0,2}|token", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn there_is_a_change_exactly_where_there_is_a_difference(before in config(), after in config()) {
            prop_assert_eq!(diff(&before, &after).is_empty(), before == after);
        }

        #[test]
        fn no_secret_is_in_a_diff(before in config(), after in config(), secret in "QZX[a-z0-9]{3,20}") {
            let planted = json!({"a": after, "token": secret, "list": [before, {"apiKey": [secret.clone()]}]});
            for (one, other) in [(&before, &planted), (&planted, &before), (&json!({"token": "old"}), &planted)] {
                let text = lines(one, other).join("\n");
                prop_assert!(!text.contains(&secret), "{text}");
            }
        }
    }
}
