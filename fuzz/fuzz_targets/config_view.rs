//! Any two configs may be compared, and any text may be asked for as a path.
//!
//! Holds: no panic; what is planted where a secret belongs is in nothing that is shown; nothing shown can
//! steer a terminal; a difference is shown exactly where there is one; a printed path can be typed again.
#![no_main]

use clawkeeper::gateway::config::{ConfigPath, bare, compact, diff, masked, parse, pretty};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const SECRET: &str = "QZXhunter2";

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let path = String::from_utf8_lossy(next()).into_owned();
    let config = |bytes: &[u8]| parse(bytes).map_or(Value::Null, |parsed| parsed.value);
    let (one, two) = (config(next()), config(next()));
    let mut shown = Vec::new();
    for value in [&one, &two] {
        let planted = json!({
            "before": value,
            "token": SECRET,
            "list": [{"apiKeys": [SECRET]}, value],
            "env": {"X": SECRET},
            "args": ["--password", SECRET],
        });
        let once = masked(&planted);
        assert_eq!(masked(&once), once, "masking is done after one time");
        shown.extend([pretty(&once), compact(&once)]);
        let (there, gone) = (diff(value, &planted), diff(&planted, value));
        shown.extend(there.lines());
        shown.extend(gone.lines());
        match ConfigPath::parse(&path) {
            Ok(path) => {
                assert_eq!(ConfigPath::parse(&path.to_string()).as_ref(), Ok(&path));
                match path.find(&once) {
                    Ok(found) => shown.push(bare(found)),
                    Err(error) => shown.push(error.to_string()),
                }
            }
            Err(error) => shown.push(error.to_string()),
        }
    }
    assert_eq!(diff(&one, &two).is_empty(), one == two);
    // A text that spells the secret by itself proves nothing.
    if !String::from_utf8_lossy(data).contains("QZX") {
        for text in &shown {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
    for text in &shown {
        let wild = text.chars().find(|it| it.is_control() && *it != '\n');
        assert_eq!(wild, None, "{text:?}");
    }
});
