//! Any bytes may lie where a config should be.
//!
//! Holds: no panic and no overflow of the stack; nesting is bounded; an error's position lies inside the
//! text or right behind it; a report is short ASCII and shows nothing of a string's content.
#![no_main]

use std::path::Path;

use clawkeeper::gateway::config::{ConfigProblem, MAX_BYTES, MAX_DEPTH, parse, user_seed};
use libfuzzer_sys::fuzz_target;

/// Put into a text as the content of a string, wherever the input has a byte 1.
const SECRET: &str = "hunter2";

fuzz_target!(|data: &[u8]| {
    check(data);
    let planted: Vec<u8> = data
        .iter()
        .flat_map(|byte| match byte {
            1 => format!(":\"{SECRET}\"").into_bytes(),
            2 => format!(":'{SECRET}").into_bytes(),
            other => vec![*other],
        })
        .collect();
    // A text that spells the secret by itself, as a key say, proves nothing.
    let text = String::from_utf8_lossy(data);
    if !text.contains("hunter") {
        for shown in check(&planted) {
            assert!(!shown.contains(SECRET), "shown: {shown}");
        }
    }
    let _ = user_seed(&text);
});

/// Parses, checks what must hold of the outcome, and returns every text a log could get.
fn check(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    let error = match parse(data) {
        Ok(parsed) => {
            assert!(depth(&parsed.value.to_string()) <= MAX_DEPTH);
            assert!(data.len() <= MAX_BYTES);
            return Vec::new();
        }
        Err(error) => error,
    };
    let lines = 1 + text
        .chars()
        .filter(|it| matches!(it, '\n' | '\r' | '\u{2028}' | '\u{2029}'))
        .count();
    assert!((1..=lines).contains(&error.position.line), "{error}");
    assert!(
        (1..=text.chars().count() + 1).contains(&error.position.column),
        "{error}"
    );
    if let ConfigProblem::CutShort {
        opened_at: Some(opened_at),
        ..
    } = error.problem
    {
        assert!((1..=lines).contains(&opened_at.line), "{error}");
    }
    let report = error.report(Path::new("c"));
    assert!(report.len() < 600, "{report}");
    assert!(report.lines().count() <= 3, "{report}");
    assert!(
        report
            .bytes()
            .all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)),
        "{report:?}"
    );
    vec![report, error.to_string(), format!("{error:?}")]
}

/// How deep a JSON text nests.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
