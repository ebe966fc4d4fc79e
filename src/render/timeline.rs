//! How an entry of the timeline is shown.

use super::{Style, plain, utc_millis};
use crate::core::timeline::{Entry, Weight};
use serde_json::Value;

/// A column for the kind; the few longer words push the text aside.
const KIND_WIDTH: usize = 17;

/// `2026-11-20T06:44:40.123Z  INFO ready             gateway ready took=7.7s attempt=1`
#[must_use]
pub fn event(entry: &Entry, style: Style) -> String {
    let (level, colour) = match entry.weight {
        Weight::Info => ("INFO", "0"),
        Weight::Warn => ("WARN", "33"),
        Weight::Error => ("ERROR", "31"),
    };
    let kind = format!("{level:>5} {:<KIND_WIDTH$}", entry.kind.word());
    format!(
        "{} {} {}",
        style.paint("2", &utc_millis(entry.at)),
        style.paint(colour, &kind),
        // The file may have been written by somebody else: nothing in it may move the cursor.
        plain(&entry.text),
    )
}

/// `{"time":"2026-11-20T06:44:40.123Z","level":"info","kind":"ready","text":"gateway ready took=7.7s attempt=1"}`
#[must_use]
pub fn event_json(entry: &Entry) -> String {
    format!(
        r#"{{"time":"{}","level":"{}","kind":"{}","text":{}}}"#,
        utc_millis(entry.at),
        entry.weight.word(),
        entry.kind.word(),
        Value::from(entry.text.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::WallMs;
    use crate::core::timeline::Kind;

    const PLAIN: Style = Style { colour: false };

    fn entry(at: u64, weight: Weight, text: &str) -> Entry {
        Entry {
            at: WallMs(at),
            kind: Kind::Held,
            weight,
            text: text.to_owned(),
        }
    }

    #[test]
    fn columns_stand_under_one_another_and_colour_is_left_out_where_it_is_not_wanted() {
        let info = event(&entry(1_795_271_080_123, Weight::Info, "a"), PLAIN);
        assert_eq!(info, "2026-11-21T14:24:40.123Z  INFO held              a");
        let error = event(&entry(0, Weight::Error, "b"), PLAIN);
        assert_eq!(error, "1970-01-01T00:00:00.000Z ERROR held              b");
        let coloured = event(&entry(0, Weight::Error, "b"), Style { colour: true });
        assert_eq!(plain(&coloured), error);
        assert!(coloured.contains("\u{1b}[31mERROR"));
    }

    #[test]
    fn a_text_can_neither_move_the_cursor_nor_break_its_line() {
        let hostile = entry(u64::MAX, Weight::Warn, "x\n\u{1b}[2J\u{1b}]0;y\u{7}");
        assert!(!event(&hostile, PLAIN).contains(|it: char| it.is_control()));
        let json = event_json(&hostile);
        assert!(!json.contains(|it: char| it.is_control()));
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["text"], hostile.text);
    }
}
