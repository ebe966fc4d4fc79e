//! The gateway reads its config with npm's json5. Over a corpus made from a fixed seed, what it accepts
//! is accepted here, with the same value; the few differences are listed here and in docs/config.md.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read files"
)]

#[path = "../support/mod.rs"]
mod support;

mod corpus;

use clawkeeper::gateway::config::parse;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use support::real::{NEWEST, cache};

/// Texts that are compared.
const TEXTS: usize = 30_000;

/// Where we read another thing than json5 2.2.3, and why that is no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// Half of a surrogate pair, which no UTF-8 text can hold, is an error here and a broken text there.
    LoneSurrogate,
    /// A bare key spelt as an escaped surrogate pair is read here and an error there.
    EscapedPairAsKey,
}

#[test]
fn what_npms_json5_reads_is_read_alike() {
    let cache = cache();
    let texts = corpus::texts(TEXTS);
    let theirs = read_by_node(&cache, &texts);
    assert_eq!(theirs.len(), texts.len(), "an answer for each");
    let mut differences: Vec<(Difference, &str)> = Vec::new();
    let mut unexplained = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for (text, theirs) in texts.iter().zip(&theirs) {
        let ours = parse(text.as_bytes()).ok().map(|parsed| parsed.value);
        match &ours {
            Some(_) => accepted += 1,
            None => refused += 1,
        }
        if alike(ours.as_ref(), theirs.as_ref()) {
            continue;
        }
        match explain(text, ours.as_ref(), theirs.as_ref()) {
            Some(difference) => differences.push((difference, text)),
            None => unexplained.push(format!("{text:?}: ours {ours:?}, npm's {theirs:?}")),
        }
    }
    let listed = unexplained.iter().take(20).cloned().collect::<Vec<_>>();
    assert!(
        unexplained.is_empty(),
        "{} in all:\n{}",
        unexplained.len(),
        listed.join("\n")
    );
    for known in [Difference::LoneSurrogate, Difference::EscapedPairAsKey] {
        let count = differences.iter().filter(|(it, _)| *it == known).count();
        assert!(
            count > 0,
            "{known:?} is no difference any more: strike it off the lists"
        );
    }
    println!(
        "{accepted} accepted, {refused} refused, {} known differences",
        differences.len()
    );
    assert!(
        accepted > TEXTS / 4 && refused > TEXTS / 8,
        "{accepted} {refused}"
    );
}

/// The texts through the json5 that the gateway itself brings along.
fn read_by_node(cache: &Path, texts: &[String]) -> Vec<Option<Value>> {
    let node = cache.join("node-24/node_modules/node/bin/node");
    let json5 = cache.join(format!("openclaw-{NEWEST}/node_modules/json5"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json5/read.js");
    let mut child = Command::new(node)
        .arg(script)
        .arg(json5)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node");
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines: String = texts
        .iter()
        .map(|text| Value::from(text.as_str()).to_string() + "\n")
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let mut answers = String::new();
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_to_string(&mut answers).expect("its answers");
    writer.join().expect("it ends").expect("written");
    assert!(child.wait().expect("it ends").success());
    answers
        .lines()
        .map(|line| match line {
            "" => None,
            // What it cannot write in UTF-8 is no value for us.
            line => {
                Some(serde_json::from_str(line).unwrap_or_else(|_| Value::from("\u{fffd}lone")))
            }
        })
        .collect()
}

/// Equal, with numbers as JavaScript has them.
fn alike(ours: Option<&Value>, theirs: Option<&Value>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => same(ours, theirs),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => {
            let (ours, theirs) = (
                ours.as_f64().unwrap_or_default(),
                theirs.as_f64().unwrap_or_default(),
            );
            // serde_json, which reads the answer, may be off by the last bit.
            (ours - theirs).abs() <= ours.abs() * 2.0 * f64::EPSILON
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(one, other)| same(one, other))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(key, one)| theirs.get(key).is_some_and(|other| same(one, other)))
        }
        _ => ours == theirs,
    }
}

fn explain(text: &str, ours: Option<&Value>, theirs: Option<&Value>) -> Option<Difference> {
    let lower = text.to_lowercase();
    if ours.is_none() && theirs.is_some() && lower.contains("\\ud") {
        Some(Difference::LoneSurrogate)
    } else if ours.is_some() && theirs.is_none() && lower.contains("\\ud801\\udc00") {
        Some(Difference::EscapedPairAsKey)
    } else {
        None
    }
}
