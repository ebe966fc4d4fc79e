//! Parses a config as the gateway does, with the bounds a supervisor needs.
//!
//! The gateway reads the file as UTF-8 with every bad byte replaced by U+FFFD, tries JSON, then npm's
//! json5: a byte order mark is white space to it, and of two equal keys the last one counts (7.1 and
//! 9.6, source). What it accepts is accepted here too, and noted.

use std::fmt;
use std::path::Path;

use json5::ErrorCode;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{excerpt, scan, secrets};

/// A larger file is not parsed.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A file nested deeper is not parsed: the json5 crate recurses, and 10 to 15 thousand levels overflow
/// its stack and abort the process. No config of the gateway comes near this bound.
pub const MAX_DEPTH: usize = 200;

/// At most this many repeated keys are listed.
const MAX_REPEATED: usize = 20;

/// Up to here a JavaScript number holds every integer.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// What is said when the parser wants a comma and no bracket tells more.
const EXPECTED_COMMA: &str = "expected a comma";

/// A config that parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The values. A number that is not finite is `null`, as in JSON.
    pub value: Value,
    /// The paths of keys that stand twice in one object; the last one counts.
    pub repeated_keys: Vec<String>,
    /// Where the first bytes are that are no UTF-8; the gateway reads U+FFFD there.
    pub not_utf8_at: Option<Position>,
}

/// A place in a file as editors count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

/// Why a config does not parse, where, and the line in question.
///
/// Neither the message nor the excerpt holds the content of a string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse config at {position}: {problem}")]
pub struct ConfigError {
    /// What is wrong.
    pub problem: ConfigProblem,
    /// Where. It lies in the file, or right behind its end.
    pub position: Position,
    /// The line and, below it, a caret; ASCII, at most about 120 columns; empty when the file is.
    pub excerpt: String,
}

/// What is wrong with a config that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// Nothing but white space and comments. The gateway reports this as a missing `gateway.mode`.
    Empty,
    /// More than [`MAX_BYTES`].
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// The file ends too early.
    CutShort {
        /// What it ends inside of, such as `an object`.
        inside: &'static str,
        /// Where the innermost bracket is that is never closed.
        opened_at: Option<Position>,
    },
    /// Not JSON5.
    Syntax {
        /// What was expected, as a phrase.
        message: &'static str,
    },
}

/// Parses the bytes of a config.
///
/// # Errors
/// The file is empty, too large, too deep, cut short or not JSON5; see [`ConfigProblem`].
pub fn parse(bytes: &[u8]) -> Result<Parsed, ConfigError> {
    if bytes.len() > MAX_BYTES {
        let problem = ConfigProblem::TooLarge { bytes: bytes.len() };
        return Err(ConfigError {
            problem,
            position: Position { line: 1, column: 1 },
            excerpt: String::new(),
        });
    }
    let lossy = String::from_utf8_lossy(bytes);
    let not_utf8_at = std::str::from_utf8(bytes)
        .err()
        .map(|error| position(&lossy, error.valid_up_to()));
    let text = lossy.strip_prefix('\u{feff}').unwrap_or(&lossy);
    if scan::Tokens::new(text).all(|token| token.kind == scan::TokenKind::Comment) {
        return Err(error(text, text.trim_end().len(), ConfigProblem::Empty));
    }
    let nesting = scan::nesting(text, MAX_DEPTH);
    if let Some(offset) = nesting.too_deep_at {
        return Err(error(text, offset, ConfigProblem::TooDeep));
    }
    let tree: Tree = json5::from_str(text)
        .map_err(|failure| syntax_error(text, &failure, nesting.unclosed_at))?;
    Ok(Parsed {
        value: tree.value,
        repeated_keys: tree.repeated_keys,
        not_utf8_at,
    })
}

impl Parsed {
    /// A file that parsed without a remark.
    #[must_use]
    pub fn plain(value: Value) -> Self {
        Self {
            value,
            repeated_keys: Vec::new(),
            not_utf8_at: None,
        }
    }
}

impl ConfigError {
    /// The whole report: `path:line:column: what is wrong`, then the line, then the caret.
    #[must_use]
    pub fn report(&self, path: &Path) -> String {
        let head = format!("{}:{}: {}", path.display(), self.position, self.problem);
        if self.excerpt.trim_matches(['\n', '^', ' ']).is_empty() {
            return head;
        }
        let indented: Vec<String> = self
            .excerpt
            .lines()
            .map(|line| format!("  {line}"))
            .collect();
        format!("{head}\n{}", indented.join("\n"))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file holds no value"),
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes are more than {MAX_BYTES}"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
            Self::CutShort {
                inside,
                opened_at: None,
            } => write!(f, "the file ends inside {inside}"),
            Self::CutShort {
                inside,
                opened_at: Some(position),
            } => {
                write!(
                    f,
                    "the file ends inside {inside}; the bracket at {position} is never closed"
                )
            }
            Self::Syntax { message } => f.write_str(message),
        }
    }
}

fn error(text: &str, offset: usize, problem: ConfigProblem) -> ConfigError {
    ConfigError {
        problem,
        position: position(text, offset),
        excerpt: excerpt::draw(text, offset),
    }
}

fn syntax_error(text: &str, failure: &json5::Error, unclosed_at: Option<usize>) -> ConfigError {
    let end = text.trim_end().len();
    let offset = failure.position().map_or(end, |at| offset_of(text, at));
    let (offset, problem) = match failure.code().map(phrase) {
        // The parser then names the bracket that is open, not the end of the file.
        Some(Err(inside)) => {
            let opened_at = unclosed_at.map(|offset| position(text, offset));
            (end, ConfigProblem::CutShort { inside, opened_at })
        }
        Some(Ok(EXPECTED_COMMA)) => (
            offset,
            ConfigProblem::Syntax {
                message: comma_or_close(text, offset),
            },
        ),
        Some(Ok(message)) => (offset, ConfigProblem::Syntax { message }),
        None => (
            offset,
            ConfigProblem::Syntax {
                message: "expected a number",
            },
        ),
    };
    error(text, offset, problem)
}

/// The parser's code in words: `Ok` what was expected, `Err` what the file ends inside of.
fn phrase(code: ErrorCode) -> Result<&'static str, &'static str> {
    match code {
        ErrorCode::EofParsingArray => Err("an array"),
        ErrorCode::EofParsingComment => Err("a comment"),
        ErrorCode::EofParsingEscapeSequence | ErrorCode::EofParsingString => Err("a string"),
        ErrorCode::EofParsingObject | ErrorCode::EofParsingIdentifier => Err("an object"),
        ErrorCode::EofParsingBool | ErrorCode::EofParsingNull | ErrorCode::EofParsingNumber => {
            Err("a value")
        }
        ErrorCode::EofParsingValue => Err("a value"),
        ErrorCode::ExpectedClosingBrace
        | ErrorCode::ExpectedOpeningBrace
        | ErrorCode::ExpectedClosingBracket
        | ErrorCode::ExpectedOpeningBracket
        | ErrorCode::ExpectedComma => Ok(EXPECTED_COMMA),
        ErrorCode::ExpectedColon => Ok("expected a ':' after the key"),
        ErrorCode::ExpectedComment => Ok("expected '//' or '/*'"),
        ErrorCode::ExpectedIdentifier | ErrorCode::InvalidKey => Ok("expected a key"),
        ErrorCode::ExpectedBool | ErrorCode::ExpectedNull | ErrorCode::ExpectedValue => {
            Ok("expected a value")
        }
        ErrorCode::ExpectedString | ErrorCode::ExpectedStringOrObject => Ok("expected a string"),
        ErrorCode::ExpectedNumber => Ok("expected a number"),
        ErrorCode::InvalidBytes | ErrorCode::InvalidEscapeSequence => Ok("not an escape sequence"),
        ErrorCode::LeadingZero => Ok("a number must not begin with 0"),
        ErrorCode::LineTerminatorInString => Ok("the string is not closed on its line"),
        ErrorCode::OverflowParsingNumber => Ok("the number is too large"),
        ErrorCode::TrailingCharacters => Ok("expected the end of the file"),
    }
}

/// What may follow a value, by the innermost bracket that is open there.
fn comma_or_close(text: &str, offset: usize) -> &'static str {
    match scan::nesting(&text[..offset], usize::MAX)
        .unclosed_at
        .map(|at| text.as_bytes()[at])
    {
        Some(b'{') => "expected a comma or '}'",
        Some(_) => "expected a comma or ']'",
        None => EXPECTED_COMMA,
    }
}

/// The place of a byte offset, counting `\n`, `\r`, `\r\n` and U+2028 and U+2029 as ends of lines.
fn position(text: &str, offset: usize) -> Position {
    let end = (0..=offset.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let found = json5::Position::from_offset(end, text);
    Position {
        line: found.line + 1,
        column: found.column + 1,
    }
}

/// The byte offset of a place the parser named.
fn offset_of(text: &str, at: json5::Position) -> usize {
    let mut characters = text.char_indices().peekable();
    let (mut line, mut column) = (0, 0);
    while let Some((offset, character)) = characters.next() {
        if (line, column) == (at.line, at.column) {
            return offset;
        }
        if matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
            if character == '\r' {
                characters.next_if(|(_, next)| *next == '\n');
            }
            line += 1;
            column = 0;
        } else {
            column += 1;
        }
    }
    text.len()
}

/// A value with the paths of its repeated keys.
struct Tree {
    value: Value,
    repeated_keys: Vec<String>,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut repeated_keys = Vec::new();
        let builder = Builder {
            path: &mut String::new(),
            repeated: &mut repeated_keys,
        };
        let value = builder.deserialize(deserializer)?;
        Ok(Self {
            value,
            repeated_keys,
        })
    }
}

/// Builds one value of a [`Tree`].
struct Builder<'a> {
    path: &'a mut String,
    repeated: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON5 value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| (value as f64).into(), Value::from))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or_else(|_| (value as f64).into(), Value::from))
    }

    /// To the gateway `3000.` and `3000` are one number.
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        let whole = value as i64;
        let is_whole = whole as f64 == value && whole.unsigned_abs() <= MAX_SAFE_INTEGER;
        Ok(if is_whole { whole.into() } else { value.into() })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let Builder { path, repeated } = self;
        while let Some(item) = items.next_element_seed(Builder {
            path: &mut *path,
            repeated: &mut *repeated,
        })? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let Builder { path, repeated } = self;
        while let Some(key) = fields.next_key::<String>()? {
            let mut value = Ok(Value::Null);
            secrets::below(path, &key, |path| {
                if out.contains_key(&key) && repeated.len() < MAX_REPEATED {
                    repeated.push(path.clone());
                }
                value = fields.next_value_seed(Builder { path, repeated });
            });
            out.insert(key, value?);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap().value
    }

    fn report(text: &str) -> String {
        parse(text.as_bytes())
            .unwrap_err()
            .report(Path::new("/data/openclaw.json"))
    }

    #[test]
    fn what_the_gateway_reads_is_read() {
        assert_eq!(
            value("{a: 'x', /* c */ b: [1, 0x10, .5, -2,], // d\n}"),
            json!({"a": "x", "b": [1, 16, 0.5, -2]})
        );
        assert_eq!(value("\u{feff}{}"), json!({}));
        assert_eq!(
            value("[NaN, Infinity, -Infinity, 1e999]"),
            json!([null, null, null, null])
        );
        assert_eq!(
            value("[18446744073709551616]"),
            json!([18_446_744_073_709_551_616_f64])
        );
        assert_eq!(value("\"a\\\nb\""), json!("ab"));
        assert_eq!(value("null // end"), Value::Null);
        assert_eq!(value("{} /* end */ "), json!({}));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_and_is_noted() {
        let parsed =
            parse(b"{gateway: {port: 1, port: 2}, a: [{b: 1, b: 1}], gateway: 3}").unwrap();
        assert_eq!(parsed.value, json!({"gateway": 3, "a": [{"b": 1}]}));
        assert_eq!(parsed.repeated_keys, ["gateway.port", "a.b", "gateway"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_read_as_the_gateway_reads_them() {
        let parsed = parse(b"{\n  a: '\xff'}").unwrap();
        assert_eq!(parsed.value, json!({"a": "\u{fffd}"}));
        assert_eq!(parsed.not_utf8_at, Some(Position { line: 2, column: 7 }));
        assert_eq!(parse("{a: '\u{e9}'}".as_bytes()).unwrap().not_utf8_at, None);
    }

    #[test]
    fn an_error_names_file_line_and_column_and_shows_the_spot() {
        assert_eq!(
            report("{\n  gateway: {\n    mode: 'local'\n    port: 3000\n  }\n}\n"),
            "/data/openclaw.json:4:5: expected a comma or '}'\n  port: 3000\n  ^"
        );
        assert_eq!(
            report("{\"gateway\": {\"mode\": \"local\"}\n"),
            "/data/openclaw.json:1:30: the file ends inside an object; the bracket at 1:1 is never closed\n  {\"gateway\": {\"mode\": \"***\"}\n                             ^"
        );
        assert_eq!(
            report(""),
            "/data/openclaw.json:1:1: the file holds no value"
        );
        assert_eq!(
            report("// nothing yet\n"),
            "/data/openclaw.json:1:15: the file holds no value\n  // ***\n        ^"
        );
        assert!(
            report("{} {}").starts_with("/data/openclaw.json:1:4: expected the end of the file")
        );
        assert!(
            report("{a: \"x\n}").contains(":1:7: the string is not closed on its line"),
            "{}",
            report("{a: \"x\n}")
        );
    }

    #[test]
    fn a_config_that_is_too_large_or_too_deep_never_reaches_the_parser() {
        let large = vec![b' '; MAX_BYTES + 1];
        assert!(matches!(
            parse(&large).unwrap_err().problem,
            ConfigProblem::TooLarge { .. }
        ));
        for open in ["[", "{a:", "[/*]*/", "{'}':"] {
            let deep = open.repeat(100_000);
            let error = parse(deep.as_bytes()).unwrap_err();
            assert_eq!(error.problem, ConfigProblem::TooDeep, "{open}");
        }
        let fits = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(parse(fits.as_bytes()).is_ok());
    }

    #[test]
    fn no_secret_is_in_an_error() {
        for text in [
            "{gateway: {auth: {token: 'hunter2' }} x}",
            "{token: hunter2}",
            "{\"token\": \"hunter2}",
            "{\"token: \"hunter2\"}",
            "{token: 'hunter2",
            "{token: 'hunter2\\q\\u12'}",
            "hunter2",
            "{} 'hunter2'",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            let all = format!("{error} {error:?} {}", error.report(Path::new("c")));
            assert!(!all.contains("hunter2"), "{all}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_position_lies_inside(text in "[\\[\\]{}:,'\"/*\\\\a-c0-9.\u{e9}\u{2028}\r\n -]{0,80}") {
            if let Err(error) = parse(text.as_bytes()) {
                let lines = text.split('\n').count() + text.matches(['\r', '\u{2028}']).count();
                prop_assert!((1..=lines).contains(&error.position.line), "{error}");
                prop_assert!((1..=text.chars().count() + 1).contains(&error.position.column), "{error}");
            }
        }

        #[test]
        fn plain_json_is_read_as_json(text in "(\\{\"[a-d]\":(1|-2\\.5|true|null|\"x\"|\\[1,\"y\"\\])\\}|\\[\\]|\\[[1-9][0-9]{0,4}\\])") {
            prop_assert_eq!(value(&text), serde_json::from_str::<Value>(&text).unwrap());
        }
    }
}
