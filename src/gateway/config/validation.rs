//! The gateway's own validator: how it is asked, and what its answer means.
//!
//! `node dist/index.js config validate --json` prints one JSON object with `valid` and `issues`, from
//! 2026.3.13 on. It takes 0.7 to 2.8 s and 200 MB (2026.6.11, 2026.7.1 and 2026.9.6).

use serde::Deserialize;

use super::{mask, show};

/// What follows the entry file on its command line.
pub const VALIDATE: [&str; 3] = ["config", "validate", "--json"];

/// A longer answer is not read.
pub const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// At most this many issues are named.
const MAX_ISSUES: usize = 10;

/// A message is shown up to about this many characters.
const MAX_CHARS: usize = 240;

/// What the validator said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The gateway would accept the config, as far as its schema goes: it calls `{}` valid too.
    Valid,
    /// It would not: `path: message`, the first few.
    Invalid(Vec<String>),
}

#[derive(Deserialize)]
struct Output {
    valid: bool,
    #[serde(default)]
    issues: Vec<Issue>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    path: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Reads what the validator printed; `None` when that is no answer.
///
/// Lines of a log before the object are passed over.
#[must_use]
pub fn answer(stdout: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(stdout);
    let starts = std::iter::once(0).chain(text.match_indices("\n{").map(|(at, _)| at + 1));
    let output = starts.take(100).find_map(|start| {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Output>();
        values.next()?.ok()
    })?;
    if output.valid {
        return Some(Answer::Valid);
    }
    let mut issues: Vec<String> = output
        .issues
        .iter()
        .take(MAX_ISSUES)
        .map(|Issue { path, message }| format!("{}: {}", harmless(path), harmless(message)))
        .collect();
    if output.issues.len() > MAX_ISSUES {
        issues.push(format!("and {} more", output.issues.len() - MAX_ISSUES));
    }
    if issues.is_empty() {
        // 2026.9.6 has an error and no issues for a file that is not there.
        let error = output.error;
        issues.extend(error.map(|error| format!("config: {}", harmless(&error.message))));
    }
    Some(Answer::Invalid(issues))
}

/// One line without secrets: a message may quote what it complains of.
fn harmless(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if mask::looks_secret(word) {
            mask::MASK
        } else {
            word
        }
    });
    let line = show::tamed(&words.collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_real_gateways_are_understood() {
        let valid = br#"{"valid":true,"path":"/data/openclaw.json","warnings":[]}"#;
        assert_eq!(answer(valid), Some(Answer::Valid));
        // 2026.7.1.
        let invalid = b"{\n  \"valid\": false,\n  \"path\": \"/d/openclaw.json\",\n  \"issues\": [\n    {\n      \"path\": \"gateway.port\",\n      \"message\": \"Invalid input\"\n    }\n  ]\n}\n";
        let said = |text: &str| Some(Answer::Invalid(vec![text.to_owned()]));
        assert_eq!(answer(invalid), said("gateway.port: Invalid input"));
        // 2026.9.6.
        let invalid = br#"{"ok":false,"error":{"type":"cli_error","message":"OpenClaw config is invalid: /d/openclaw.json"},"valid":false,"issues":[{"path":"<root>","message":"Unrecognized key: \"foo\""}]}"#;
        assert_eq!(answer(invalid), said("<root>: Unrecognized key: \"foo\""));
        let missing = br#"{"ok":false,"error":{"type":"cli_error","message":"file not found"},"valid":false}"#;
        assert_eq!(answer(missing), said("config: file not found"));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in [
            "",
            "error: unknown option '--json'",
            "{}",
            "{\"valid\":",
            "[1]",
        ] {
            assert_eq!(answer(text.as_bytes()), None, "{text}");
        }
        let logged = b"[plugins] loading {x}\n{\"valid\":true}\nbye";
        assert_eq!(answer(logged), Some(Answer::Valid));
    }

    #[test]
    fn an_issue_shows_no_secret_and_steers_no_terminal() {
        let text = format!(
            "{{\"valid\":false,\"issues\":[{{\"path\":\"a\",\"message\":\"got sk-hunter2 \\u001b[2J {}\"}}]}}",
            "x ".repeat(900)
        );
        let Some(Answer::Invalid(issues)) = answer(text.as_bytes()) else {
            panic!("it is an answer")
        };
        assert!(
            issues[0].starts_with("a: got *** \\u001b[2J x"),
            "{issues:?}"
        );
        assert!(issues[0].len() < 2 * MAX_CHARS);
    }

    #[test]
    fn many_issues_are_counted() {
        let issue = r#"{"path":"a","message":"b"}"#;
        let text = format!("{{\"valid\":false,\"issues\":[{}]}}", [issue; 12].join(","));
        let Some(Answer::Invalid(issues)) = answer(text.as_bytes()) else {
            panic!("it is an answer")
        };
        assert_eq!(issues.len(), MAX_ISSUES + 1);
        assert_eq!(issues.last().map(String::as_str), Some("and 2 more"));
    }
}
