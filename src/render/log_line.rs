//! One log line: a short fact without values, then the values as fields.

use super::plain::moves_a_cursor;
use crate::settings::LogLevel;
use std::fmt::Write as _;

/// A line to be written. `fix` comes last: what a person should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// error = a person must act; warn = degraded; info = one line a transition; debug = everything.
    pub level: LogLevel,
    message: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl LogLine {
    /// A person must act.
    #[must_use]
    pub const fn error(message: &'static str) -> Self {
        Self {
            level: LogLevel::Error,
            message,
            fields: Vec::new(),
        }
    }

    /// Something is degraded.
    #[must_use]
    pub const fn warn(message: &'static str) -> Self {
        Self {
            level: LogLevel::Warn,
            message,
            fields: Vec::new(),
        }
    }

    /// A transition.
    #[must_use]
    pub const fn info(message: &'static str) -> Self {
        Self {
            level: LogLevel::Info,
            message,
            fields: Vec::new(),
        }
    }

    /// A detail.
    #[must_use]
    pub const fn debug(message: &'static str) -> Self {
        Self {
            level: LogLevel::Debug,
            message,
            fields: Vec::new(),
        }
    }

    /// Adds a value.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }

    /// Adds an explanation that may have several lines, as one: the lines of a caret are left out.
    #[must_use]
    pub fn explanation(self, name: &'static str, text: &str) -> Self {
        let is_caret = |line: &&str| line.trim_matches(['^', ' ']).is_empty();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !is_caret(line))
            .map(str::trim)
            .collect();
        self.field(name, lines.join(" | "))
    }

    /// Adds a value if there is one.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// The fact, without values.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The values, in their order.
    #[must_use]
    pub fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }

    /// One value by its name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| *known == name);
        field.map(|(_, value)| value.as_str())
    }

    /// `gateway exited class=crash code=1 why="two words"`: one line, whatever the values hold.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.message.to_owned();
        for (name, value) in &self.fields {
            let plain = !value.is_empty()
                && value.chars().all(|it| {
                    !it.is_whitespace() && !moves_a_cursor(it) && it != '"' && it != '\\'
                });
            // Writing to a String cannot fail.
            let _ = if plain {
                write!(text, " {name}={value}")
            } else {
                write!(text, " {name}={}", quoted(value))
            };
        }
        text
    }

    /// The inside of a JSON object: `"message":"gateway exited","class":"crash"`.
    #[must_use]
    pub fn to_json_fields(&self) -> String {
        let mut text = format!("\"message\":{}", quoted(self.message));
        for (name, value) in &self.fields {
            let _ = write!(text, ",{}:{}", quoted(name), quoted(value));
        }
        text
    }
}

/// A JSON string; it is also how a text field with spaces or control characters is written.
fn quoted(value: &str) -> String {
    let json = serde_json::Value::from(value).to_string();
    if !json.contains(moves_a_cursor) {
        return json;
    }
    // JSON leaves these as they are, and takes them escaped as well.
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if moves_a_cursor(character) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_break_its_line_or_pass_for_another_field() {
        let line = LogLine::info("x").field("path", "/data/a b\n2026 ERROR forged=1");
        assert_eq!(line.to_text(), r#"x path="/data/a b\n2026 ERROR forged=1""#);
        assert!(!line.to_json_fields().contains('\n'));
    }

    #[test]
    fn a_value_cannot_act_on_a_terminal() {
        let name = "a\u{9b}31m\u{7f}\u{202e}\u{1b}[2J";
        let line = LogLine::info("x").field("name", name);
        assert_eq!(
            line.to_text(),
            r#"x name="a\u009b31m\u007f\u202e\u001b[2J""#
        );
        let json = format!("{{{}}}", line.to_json_fields());
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["name"], name);
    }

    #[test]
    fn an_excerpt_becomes_one_line_without_its_caret() {
        let line =
            LogLine::info("x").explanation("why", "f:4:5: expected a comma\n  port: 3000\n  ^");
        assert_eq!(
            line.to_text(),
            r#"x why="f:4:5: expected a comma | port: 3000""#
        );
    }

    #[test]
    fn a_plain_value_stands_bare() {
        assert_eq!(
            LogLine::info("x")
                .field("pid", 7)
                .field("empty", "")
                .to_text(),
            "x pid=7 empty=\"\""
        );
    }
}
