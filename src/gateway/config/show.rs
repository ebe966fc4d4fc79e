//! Writes values for a terminal: nothing in them can move the cursor or turn the line around.

use serde_json::Value;

/// A text as JSON, in ASCII where a terminal could take a character for a command.
pub(super) fn quoted(text: &str) -> String {
    tamed(&Value::from(text).to_string())
}

/// A value as indented JSON.
#[must_use]
pub fn pretty(value: &Value) -> String {
    tamed(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A value as JSON on one line.
#[must_use]
pub fn compact(value: &Value) -> String {
    tamed(&value.to_string())
}

/// A value as a script wants it: a text without quotes where that is safe, anything else as JSON.
#[must_use]
pub fn bare(value: &Value) -> String {
    match value {
        Value::String(text) if !text.chars().any(is_wild) => text.clone(),
        _ => pretty(value),
    }
}

/// Control characters beyond those that JSON escapes by itself, and those that reverse the direction.
fn is_wild(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// With an escape for each such character; in JSON only strings hold them, so it stays JSON.
pub(super) fn tamed(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if is_wild(character) && character != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_bare_unless_it_could_steer_the_terminal() {
        assert_eq!(bare(&json!("a \"b\" \u{e9}")), "a \"b\" \u{e9}");
        assert_eq!(bare(&json!("a\u{1b}[2J")), "\"a\\u001b[2J\"");
        assert_eq!(bare(&json!("a\u{9b}2J\u{202e}")), "\"a\\u009b2J\\u202e\"");
        assert_eq!(bare(&json!(1.5)), "1.5");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_still_that_value_and_steers_nothing(text in "\\PC{0,8}[\u{0}-\u{9f}\u{2020}-\u{2070}]{0,8}") {
            let value = json!({ text.clone(): [text] });
            for shown in [pretty(&value), compact(&value)] {
                prop_assert!(!shown.chars().any(|it| is_wild(it) && it != '\n'), "{shown:?}");
                prop_assert_eq!(&serde_json::from_str::<Value>(&shown).unwrap(), &value);
            }
        }
    }
}
