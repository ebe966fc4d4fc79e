//! Finds a value in a config by a path as people write it: `agents.list[0].id`.

use std::fmt;

use serde_json::Value;

/// Names of what is there, listed at most when a path leads nowhere.
const MAX_LISTED: usize = 30;

/// A path taken apart: keys, and indices as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPath(Vec<String>);

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It cannot be read.
    #[error("{0:?} is no path; write it like agents.list[0].id or env[\"MY.VAR\"]")]
    Malformed(String),
    /// There is nothing of that name.
    #[error("{at} holds no {wanted:?}; it holds {there}")]
    NotThere {
        /// The path as far as it led, `the config` for its top.
        at: String,
        /// The step that failed.
        wanted: String,
        /// What is there instead, in words.
        there: String,
    },
}

impl ConfigPath {
    /// Takes a path apart. An empty one stands for the whole config.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let malformed = || PathError::Malformed(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text.trim();
        let mut is_first = true;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracketed(inner).ok_or_else(malformed)?;
                steps.push(step);
                rest = after;
            } else {
                let name = if is_first {
                    rest
                } else {
                    rest.strip_prefix('.').ok_or_else(malformed)?
                };
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    return Err(malformed());
                }
                steps.push(name[..end].to_owned());
                rest = &name[end..];
            }
            is_first = false;
        }
        Ok(Self(steps))
    }

    /// The value at this path.
    ///
    /// A key with dots in it is found without quotes too: `models.gpt-4.1`.
    pub fn find<'a>(&self, config: &'a Value) -> Result<&'a Value, PathError> {
        let mut value = config;
        let mut led = Self(Vec::new());
        let mut steps = self.0.as_slice();
        while let Some(step) = steps.first() {
            let found = match value {
                Value::Object(_) => (1..=steps.len()).find_map(|count| {
                    let key = steps[..count].join(".");
                    value.get(&key).map(|next| (next, key, count))
                }),
                Value::Array(items) => step
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get(index))
                    .map(|next| (next, step.clone(), 1)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            let Some((next, key, count)) = found else {
                return Err(led.leads_no_further(value, step));
            };
            led.0.push(key);
            value = next;
            steps = &steps[count..];
        }
        Ok(value)
    }

    fn leads_no_further(&self, value: &Value, wanted: &str) -> PathError {
        let there = match value {
            Value::Object(fields) if fields.is_empty() => "nothing".to_owned(),
            Value::Object(fields) => {
                let keys = fields.keys().take(MAX_LISTED).map(|key| {
                    if is_plain(key) {
                        key.clone()
                    } else {
                        super::show::quoted(key)
                    }
                });
                keys.collect::<Vec<_>>().join(", ")
                    + if fields.len() > MAX_LISTED {
                        ", …"
                    } else {
                        ""
                    }
            }
            Value::Array(items) => format!("a list of {}, counted from 0", items.len()),
            Value::Null => "null".to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => "a single value".to_owned(),
        };
        PathError::NotThere {
            at: if self.0.is_empty() {
                "the config".to_owned()
            } else {
                self.to_string()
            },
            wanted: wanted.to_owned(),
            there,
        }
    }

    /// One step further.
    pub(super) fn with<T>(&mut self, step: String, run: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(step);
        let result = run(self);
        self.0.pop();
        result
    }

    /// The top.
    pub(super) const fn root() -> Self {
        Self(Vec::new())
    }
}

impl fmt::Display for ConfigPath {
    /// As it could be typed again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            if step.bytes().all(|byte| byte.is_ascii_digit()) && index > 0 && !step.is_empty() {
                write!(f, "[{step}]")?;
            } else if is_plain(step) {
                write!(f, "{}{step}", if index > 0 { "." } else { "" })?;
            } else {
                write!(f, "[{}]", super::show::quoted(step))?;
            }
        }
        Ok(())
    }
}

fn is_plain(step: &str) -> bool {
    let plain = |it: char| it.is_alphanumeric() || "_-/:@$*+".contains(it);
    !step.is_empty() && step.chars().all(plain)
}

/// `0]…` or `"a.b"]…`: the step, and what follows the bracket.
fn bracketed(inner: &str) -> Option<(String, &str)> {
    if !inner.starts_with('"') {
        let (step, after) = inner.split_once(']')?;
        let step = step.trim_matches('\'');
        return (!step.is_empty()).then(|| (step.to_owned(), after));
    }
    let mut strings = serde_json::Deserializer::from_str(inner).into_iter::<String>();
    let step = strings.next()?.ok()?;
    let after = inner.get(strings.byte_offset()..)?;
    Some((step, after.strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn get(config: &Value, path: &str) -> Result<Value, PathError> {
        ConfigPath::parse(path)?.find(config).cloned()
    }

    #[test]
    fn a_path_is_found_in_every_way_people_write_it() {
        let config =
            json!({"a": {"list": [{"id": 1}], "gpt-4.1": 2, "x.y": {"z": 3}, "": 4, "0": 5}});
        for (path, expected) in [
            ("a.list[0].id", json!(1)),
            ("a.list.0.id", json!(1)),
            ("a[\"list\"][0]['id']", json!(1)),
            ("a.gpt-4.1", json!(2)),
            ("a[\"gpt-4.1\"]", json!(2)),
            ("a.x.y.z", json!(3)),
            ("a[\"\"]", json!(4)),
            ("a[0]", json!(5)),
            (" a.0 ", json!(5)),
            ("", config.clone()),
        ] {
            assert_eq!(get(&config, path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_says_what_is_there() {
        let config = json!({"gateway": {"mode": "local", "port": 1}, "list": [1, 2], "empty": {}});
        let said = |path| get(&config, path).unwrap_err().to_string();
        assert_eq!(
            said("gateway.prot"),
            "gateway holds no \"prot\"; it holds mode, port"
        );
        assert_eq!(
            said("list[2]"),
            "list holds no \"2\"; it holds a list of 2, counted from 0"
        );
        assert_eq!(
            said("gateway.mode.x"),
            "gateway.mode holds no \"x\"; it holds a single value"
        );
        assert_eq!(said("empty.a"), "empty holds no \"a\"; it holds nothing");
        assert!(said("nope").starts_with("the config holds no \"nope\""));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            ".", "a..b", "a.", ".a", "a[", "a[]", "a[0", "a[0]b", "a[\"x]", "a][",
        ] {
            let result = ConfigPath::parse(path);
            assert!(
                matches!(result, Err(PathError::Malformed(_))) || path == "a][",
                "{path}: {result:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_printed_can_be_typed_again(steps in prop::collection::vec(".{1,8}|[0-9]{1,3}|[a-z.]{1,6}", 0..5)) {
            let path = ConfigPath(steps);
            prop_assert_eq!(ConfigPath::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", inner in "[\\[\\]\"'.a0\\\\]{0,20}") {
            let config = json!({"a": [{"a": 0}]});
            let _ = get(&config, &text);
            let _ = get(&config, &inner);
        }
    }
}
