//! The page, and the JSON that it draws from. It shows no line of output and no value of the config.

use crate::core::history::{Span, Stretch, phase_of};
use crate::core::time::WallMs;
use crate::core::timeline::Entry;
use crate::render::edit::SAID;
use crate::render::timeline::event_json;
use std::fmt::Write as _;

/// The document, as the build script shortened it.
pub const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/index.html"));
/// Its style.
pub const STYLE: &str = include_str!(concat!(env!("OUT_DIR"), "/style.css"));
/// Its script.
pub const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/app.js"));

/// What the page may load: its own files, and answers of the same server; an icon is made by the script.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The answer to a request that names a host which others may own.
pub const NOT_OUR_NAME: &str = "this is clawkeeper, and it is not known by that name: a web site may have had its name point here.\n\
Ask by an IP address, localhost, a name without a dot, or one that ends in .internal, .flycast or .local.\n";

/// What a history may be asked for.
pub const SPAN_IS_WRONG: &str = "a history takes span=hour, span=day or span=week\n";

/// The answer when the volume gives none.
pub const NO_ANSWER_OF_VOLUME: &str = "the volume gives no answer\n";

const EVENTS_MAX_BYTES: usize = 96 * 1024;

/// The body of `/v1/history`. Times are in Unix seconds; what is not known is left out.
#[must_use]
pub fn history_json(span: Span, now: WallMs, stretches: &[Stretch]) -> String {
    let minutes = span.minutes(now);
    let seconds = |minute: u32| u64::from(minute) * 60;
    let mut text = format!(
        "{{\"v\":1,\"span\":\"{}\",\"width_s\":{},\"from\":{},\"to\":{},\"points\":[",
        span.word(),
        span.width() * 60,
        seconds(minutes.start),
        seconds(minutes.end),
    );
    // Writing to a String cannot fail.
    for (place, it) in stretches.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let phase = phase_of(it.phase).unwrap_or_default();
        let _ = write!(
            text,
            "{comma}{{\"at\":{},\"minutes\":{},\"ready_s\":{},\"phase\":\"{phase}\"",
            seconds(it.first),
            it.known,
            it.ready_secs,
        );
        let numbers = [
            ("starts", it.starts),
            ("tree_mb", it.tree_mb),
            ("main_mb", it.main_mb),
            ("limit_mb", it.limit_mb),
            ("heap_full_mb", it.heap_full_mb),
        ];
        for (name, number) in numbers.iter().filter(|(_, number)| *number > 0) {
            let _ = write!(text, ",\"{name}\":{number}");
        }
        text.push('}');
    }
    text + "]}\n"
}

/// The body of `/v1/events`: as `clawkeeper events --json` has them, oldest first. The oldest are left out of what
/// would be a long answer: a slow reader keeps all of it in our memory.
#[must_use]
pub fn events_json(entries: &[Entry]) -> String {
    let mut room = EVENTS_MAX_BYTES;
    let newest = entries.iter().rev().map_while(|entry| {
        let text = without_values(&entry.text);
        let json = event_json(&Entry {
            text,
            ..entry.clone()
        });
        room = room.checked_sub(json.len())?;
        Some(json)
    });
    let mut events: Vec<String> = newest.collect();
    events.reverse();
    format!("{{\"v\":1,\"events\":[{}]}}\n", events.join(","))
}

/// A log line without what shows values of the config: the log may show them, the page may not.
#[must_use]
pub fn without_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(equals) = rest.find('=') {
        let (before, value) = rest.split_at(equals + 1);
        let is_quoted = value.starts_with('"');
        let end = if is_quoted {
            (end_of(&value[1..]) + 2).min(value.len())
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        let (head, name) = before[..equals].rsplit_once(' ').unwrap_or(("", before));
        if let Some(value_only) = shown(name, &value[..end]) {
            out += before;
            out += value_only;
            out += if is_quoted && value_only.len() < end {
                "\""
            } else {
                ""
            };
        } else {
            out += head;
        }
        rest = &value[end..];
    }
    out + rest
}

/// What may be shown of a field of a log line to those who may not see the config; `None` where none of it may be.
///
/// The spot that an error points at stands behind the first line of an explanation, wherever
/// [`explanation`](super::LogLine::explanation) joined it.
pub(super) fn shown<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    let cut = [" | ", "\n", "\\n"].iter().filter_map(|it| value.find(it));
    (name != SAID).then(|| &value[..cut.min().unwrap_or(value.len())])
}

/// The place of the quotation mark that ends a JSON string; its end where there is none.
fn end_of(value: &str) -> usize {
    let mut is_escaped = false;
    let end = value.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::Report;
    use crate::core::history::{Fold, Minute};
    use crate::core::reload::Told;
    use crate::core::timeline::{Kind, Weight};
    use crate::render::LogLine;

    #[test]
    fn the_history_is_json_with_what_is_known() {
        let now = WallMs(29_000_000 * 60_000);
        let mut fold = Fold::new(Span::Hour);
        let minute = |number, tree_mb| Minute {
            number,
            tree_mb,
            ready_secs: 60,
            phase: b'r',
            ..Minute::default()
        };
        fold.add(minute(28_999_990, 904));
        fold.add(minute(28_999_999, 0));
        let text = history_json(Span::Hour, now, &fold.stretches());
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&json["from"], &json["to"], &json["width_s"]),
            (
                &(28_999_940_u64 * 60).into(),
                &(29_000_000_u64 * 60).into(),
                &60.into()
            )
        );
        let points = json["points"].as_array().expect("points");
        assert_eq!((points.len(), &points[0]["tree_mb"]), (2, &904.into()));
        assert_eq!(points[0]["phase"], "running");
        assert_eq!(points[1].get("tree_mb"), None, "nobody looked");
    }

    #[test]
    fn the_spot_in_the_config_is_left_out_and_nothing_else() {
        let error = "f:4:5: expected a \"comma\"\n  4 | planted: 4711\n    | ^";
        for line in [
            LogLine::warn("config").explanation("why", error),
            LogLine::warn("config").field("why", error),
        ] {
            let text = line.field("fix", "mend it").to_text();
            assert!(text.contains("planted"), "{text}");
            assert_eq!(
                without_values(&text),
                r#"config why="f:4:5: expected a \"comma\"" fix="mend it""#
            );
        }
        for (text, shown) in [
            (
                r#"x why="at a.b" said="a.b: unknown: +4911" path=/a"#,
                r#"x why="at a.b" path=/a"#,
            ),
            ("x said=+4911", "x"),
            (r#"x said="a \"b\" +4911 and no end…"#, "x"),
            (
                r#"x why="said=+4911 \" said=2" said=3 y=1"#,
                r#"x why="said=+4911 \" said=2" y=1"#,
            ),
        ] {
            assert_eq!(without_values(text), shown);
        }
        for text in [
            "gateway exited class=crash code=1",
            "gateway exited class=crash code=1 equals= x==1 =",
            r#"x path="/a b\\" why="a \"b\"" y=1"#,
            r#"cut why="and never clo"#,
            "",
        ] {
            assert_eq!(without_values(text), text);
        }
    }

    #[test]
    fn of_a_config_that_the_gateway_refuses_the_places_are_shown_and_its_words_are_not() {
        let told = |issues: &[&str]| {
            let told = Told::RefusedByGateway {
                generation: 4,
                issues: issues.iter().map(ToString::to_string).collect(),
            };
            let path = "/data/openclaw.json".into();
            crate::render::report(&Report::Edit { path, told }).to_text()
        };
        let text = told(&[
            "agents.defaults.heartbeat.target: unknown heartbeat target: +4915112345678",
            "<root>: Unrecognized key: \"foo\"",
        ]);
        assert!(text.contains("+4915112345678"), "the log has it: {text}");
        let entry = Entry {
            at: WallMs(0),
            kind: Kind::ConfigRefused,
            weight: Weight::Error,
            text,
        };
        let json = events_json(&[entry]);
        assert!(!json.contains("+4915112345678"), "{json}");
        assert!(
            json.contains("finds it invalid at agents.defaults.heartbeat.target, <root>"),
            "{json}"
        );
        assert!(json.contains("generation=4 fix="), "{json}");
        assert!(told(&[]).contains("says where: clawkeeper logs"));
    }

    #[test]
    fn a_long_timeline_is_answered_with_its_end() {
        let entry = |at| Entry {
            at: WallMs(at),
            kind: Kind::Held,
            weight: Weight::Error,
            text: format!("holding n={at} why=\"{}\"", "a ".repeat(900)),
        };
        let entries: Vec<Entry> = (0..400).map(entry).collect();
        let text = events_json(&entries);
        assert!(text.len() < EVENTS_MAX_BYTES + 1_000, "{}", text.len());
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let events = json["events"].as_array().expect("events");
        assert!(events.len() > 40);
        let last = events[events.len() - 1]["text"].as_str().expect("text");
        assert!(last.starts_with("holding n=399 "), "{last}");
        assert_eq!(events_json(&[]), "{\"v\":1,\"events\":[]}\n");
    }

    /// The size is part of the binary's, and of what a phone loads over a tunnel.
    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        let whole = [PAGE, STYLE, SCRIPT].concat();
        assert!(whole.len() < 30_000, "{} bytes", whole.len());
        let away = ["https:", "//cdn", "@import", "url(", "import(", "eval("];
        for needle in away {
            assert!(!whole.contains(needle), "{needle}");
        }
        for inline in ["<style", " style=", " onclick=", "innerHTML"] {
            assert!(!whole.contains(inline), "{inline}");
        }
        // The one address is the name of SVG's language.
        assert_eq!(
            whole.matches("http:").count(),
            whole.matches("http://www.w3.org/2000/svg").count()
        );
    }
}
