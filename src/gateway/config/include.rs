//! Puts a config and what it includes together, as the gateway does (7.1 and 9.6, source).
//!
//! `$include` is a path or a list of paths beside the including file; lists are appended, objects merged, and
//! the keys beside it win. Files are read by the caller, which decides what may be read.

use super::parse::MAX_DEPTH;
use serde_json::{Map, Value};

/// The key.
const INCLUDE: &str = "$include";

/// Files within files, as the gateway bounds it.
pub const MAX_INCLUDE_DEPTH: usize = 10;

/// Bytes of one included file, as the gateway bounds it.
pub const MAX_INCLUDE_BYTES: usize = 2 * 1024 * 1024;

/// More files than this are not read for one config; the gateway has no such bound.
pub const MAX_INCLUDES: usize = 64;

/// Longer paths are refused by the gateway.
pub const MAX_INCLUDE_PATH: usize = 4096;

/// Replaces every `$include` of a value, which stands at this depth, by what `load` makes of its path and depth.
///
/// # Errors
/// The first error of `load`, or a sentence about an `$include` that is no path and no list of paths.
/// All files together are as deep as one file may be.
pub fn expand<E: From<&'static str>>(
    value: Value,
    depth: usize,
    load: &mut impl FnMut(&str, usize) -> Result<Value, E>,
) -> Result<Value, E> {
    if depth > MAX_DEPTH {
        return Err("the files included are nested too deep".into());
    }
    match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| expand(item, depth + 1, load))
            .collect::<Result<_, E>>()
            .map(Value::Array),
        Value::Object(mut fields) => {
            let Some(include) = fields.remove(INCLUDE) else {
                return expand_fields(fields, depth, load).map(Value::Object);
            };
            let included = load_all(&include, depth, load)?;
            if fields.is_empty() {
                return Ok(included);
            }
            if !included.is_object() {
                return Err("keys beside $include need an object to be included".into());
            }
            let own = Value::Object(expand_fields(fields, depth, load)?);
            Ok(merge(included, own))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value),
    }
}

fn expand_fields<E: From<&'static str>>(
    fields: Map<String, Value>,
    depth: usize,
    load: &mut impl FnMut(&str, usize) -> Result<Value, E>,
) -> Result<Map<String, Value>, E> {
    fields
        .into_iter()
        .map(|(key, field)| Ok((key, expand(field, depth + 1, load)?)))
        .collect()
}

fn load_all<E: From<&'static str>>(
    include: &Value,
    depth: usize,
    load: &mut impl FnMut(&str, usize) -> Result<Value, E>,
) -> Result<Value, E> {
    match include {
        Value::String(path) => load(path, depth),
        Value::Array(paths) => {
            let mut all = Value::Object(Map::new());
            for path in paths {
                let Value::String(path) = path else {
                    return Err("$include lists something that is no path".into());
                };
                all = merge(all, load(path, depth)?);
            }
            Ok(all)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err("$include is no path and no list of paths".into())
        }
    }
}

/// Objects are merged, arrays appended, anything else is replaced. As deep as the parser's bound.
fn merge(target: Value, source: Value) -> Value {
    match (target, source) {
        (Value::Object(mut target), Value::Object(source)) => {
            for (key, value) in source {
                let merged = match target.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                target.insert(key, merged);
            }
            Value::Object(target)
        }
        (Value::Array(mut target), Value::Array(source)) => {
            target.extend(source);
            Value::Array(target)
        }
        (_, source) => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expanded(value: Value) -> Result<Value, String> {
        expand::<Error>(value, 0, &mut |path, _| match path {
            "a" => Ok(json!({"x": 1, "list": [1], "deep": {"a": 1}})),
            "b" => Ok(json!({"x": 2, "list": [2], "deep": {"b": 2}})),
            "list" => Ok(json!([1, 2])),
            _ => Err(Error(format!("no {path}"))),
        })
        .map_err(|error| error.0)
    }

    #[derive(Debug)]
    struct Error(String);

    impl From<&'static str> for Error {
        fn from(text: &'static str) -> Self {
            Self(text.to_owned())
        }
    }

    #[test]
    fn included_objects_are_merged_and_the_keys_beside_them_win() {
        assert_eq!(
            expanded(json!({"$include": ["a", "b"], "x": 3, "y": {"$include": "list"}})),
            Ok(json!({"x": 3, "list": [1, 2], "deep": {"a": 1, "b": 2}, "y": [1, 2]}))
        );
        assert_eq!(
            expanded(json!([{"$include": "b", "list": [9]}])),
            Ok(json!([{"x": 2, "list": [2, 9], "deep": {"b": 2}}]))
        );
    }

    #[test]
    fn what_cannot_be_included_is_an_error() {
        for (config, error) in [
            (
                json!({"$include": 1}),
                "$include is no path and no list of paths",
            ),
            (
                json!({"$include": [1]}),
                "$include lists something that is no path",
            ),
            (json!({"a": {"$include": "c"}}), "no c"),
            (
                json!({"$include": "list", "x": 1}),
                "keys beside $include need an object to be included",
            ),
        ] {
            assert_eq!(expanded(config), Err(error.to_owned()));
        }
    }
}
