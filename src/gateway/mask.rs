//! Takes secrets out of text that is going to be kept: those we know, and what looks like one.
//!
//! Too much is masked rather than too little: what is kept shall tell why a gateway died, not what it said.

use super::config::secrets;
use super::private_key::PrivateKey;
use serde_json::Value;

/// Shorter ones cannot be told from words, and masking every "on" would leave nothing to read.
pub const SHORTEST: usize = 4;

/// More secrets than a deployment has.
const SECRETS_MAX: usize = 500;

const MASKED: &str = "***";

/// How tokens of services begin that stand in the middle of a text, beside those that configs are searched for.
const STARTS: [&str; 22] = [
    "gho_", "ghs_", "ghu_", "ghr_", "glpat-", "hf_", "pplx-", "xai-", "r8_", "npm_", "dop_v1_",
    "fo1_", "FlyV1 ", "fm1r_", "fm2_", "sk_live_", "sk_test_", "rk_live_", "whsec_", "SG.", "eyJ",
    "ya29.",
];

/// What is behind a start must be at least this long: `sk-` alone is no key.
const TOKEN_SHORTEST: usize = 8;

/// Letters and digits in a row, with both cases and some digits, or hexadecimal: nothing a person writes.
const RANDOM_SHORTEST: usize = 32;

/// Words behind which a credential stands in an HTTP header.
const SCHEMES: [&str; 3] = ["bearer ", "basic ", "bot "];

/// Values that are no secrets even where the name says so.
/// The last is the start of the command that makes a token, in the fix for a gateway that has none.
const HARMLESS: [&str; 7] = [
    "true",
    "false",
    "null",
    "none",
    "undefined",
    "missing",
    "$(openssl",
];

/// Everything that must not be seen.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// The longest first.
    known: Vec<String>,
}

impl Mask {
    /// From the gateway's environment, its command line and its config.
    #[must_use]
    pub fn new<'a>(
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
        arguments: impl IntoIterator<Item = &'a str>,
        config: Option<&Value>,
    ) -> Self {
        let environment: Vec<_> = environment.into_iter().collect();
        let mut values = Vec::new();
        for (name, value) in &environment {
            if is_secret_variable(name) || secrets::looks_like_one(value) {
                values.push((*value).to_owned());
            }
        }
        let mut is_named = false;
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            if is_named {
                values.push(argument.to_owned());
            }
            is_named = name.starts_with("--") && secrets::is_name_of_one(name);
            if is_named && !value.is_empty() {
                values.push(value.to_owned());
                is_named = false;
            }
        }
        if let Some(config) = config {
            let mut written = Vec::new();
            secrets::collect(config, SECRETS_MAX, &mut written);
            for text in written {
                values.extend(referred(&text, &environment));
                values.push(text);
            }
        }
        Self::of(values)
    }

    /// From the secrets themselves.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = String>) -> Self {
        let mut known: Vec<String> = values
            .into_iter()
            .take(SECRETS_MAX)
            .flat_map(|value| forms(&value))
            .filter(|form| form.len() >= SHORTEST && !HARMLESS.contains(&form.as_str()))
            .collect();
        known.sort_unstable_by(|one, other| (other.len(), other).cmp(&(one.len(), one)));
        known.dedup();
        Self { known }
    }

    /// Masks lines that follow one another: a private key stretches over many.
    #[must_use]
    pub fn lines<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let lines: Vec<&str> = lines.into_iter().collect();
        let mut key = PrivateKey::before(&lines);
        lines
            .into_iter()
            .map(|line| self.next_line(line, &mut key))
            .collect()
    }

    /// Masks the next of such lines.
    #[must_use]
    pub fn next_line(&self, line: &str, key: &mut PrivateKey) -> String {
        if key.may_have(line) {
            MASKED.to_owned()
        } else {
            self.line(line)
        }
    }

    /// Masks one line.
    #[must_use]
    pub fn line(&self, line: &str) -> String {
        let mut spans = Vec::new();
        for secret in &self.known {
            spans.extend(
                line.match_indices(secret.as_str())
                    .map(|(at, it)| (at, at + it.len())),
            );
            // A line may have been cut in the middle of a secret.
            if let Some(at) = cut_start(line, secret) {
                spans.push((at, line.len()));
            }
        }
        find_shapes(line, &mut spans);
        replace(line, spans)
    }
}

/// What the `${NAME}` in a secret of the config stand for.
fn referred(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let is_meant = |name: &str| text.contains(&format!("${{{name}}}"));
    environment
        .iter()
        .filter(|(name, _)| text.contains("${") && is_meant(name))
        .map(|(_, value)| (*value).to_owned())
        .collect()
}

/// The secret, and what becomes of it in JSON, in a URL and in a file of several lines.
fn forms(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    let json = Value::from(secret).to_string();
    let mut forms = vec![secret.to_owned(), json[1..json.len() - 1].to_owned()];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let percent = secret.bytes().map(|byte| {
        if is_plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    forms.push(percent.collect());
    if secret.contains('\n') {
        forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    }
    forms
}

/// Where a line ends in the first bytes of a secret.
fn cut_start(line: &str, secret: &str) -> Option<usize> {
    let longest = (secret.len() - 1).min(line.len());
    (SHORTEST..=longest).rev().find_map(|length| {
        let start = secret.get(..length)?;
        line.ends_with(start).then(|| line.len() - length)
    })
}

/// The name of a variable is shorter and less uniform than a key of the config, so more of them count.
fn is_secret_variable(name: &str) -> bool {
    const PARTS: [&str; 8] = [
        "TOKEN",
        "SECRET",
        "PASSW",
        "CREDENTIAL",
        "PRIVATE",
        "APIKEY",
        "API_KEY",
        "WEBHOOK",
    ];
    let name = name.to_ascii_uppercase();
    secrets::is_name_of_one(&name)
        || PARTS.iter().any(|part| name.contains(part))
        || name.ends_with("_KEY")
        || name.ends_with("_PASS")
        || name.ends_with("_DSN")
}

fn find_shapes(line: &str, spans: &mut Vec<(usize, usize)>) {
    let lower = line.to_ascii_lowercase();
    for scheme in SCHEMES {
        for (at, _) in lower.match_indices(scheme) {
            let start = at + scheme.len();
            push_if_long(start, run(line, start, is_value), TOKEN_SHORTEST, spans);
        }
    }
    for (at, _) in line.match_indices("://") {
        let start = at + 3;
        let authority = run(line, start, |byte| !b"/?#\"' \t".contains(&byte));
        if let Some(end) = line[start..authority].rfind('@') {
            spans.push((start, start + end));
        }
    }
    for (at, _) in line.match_indices(['=', ':']) {
        find_named(line, at, spans);
    }
    let mut at = 0;
    while at < line.len() {
        let end = run(line, at, is_token);
        if end == at {
            at += 1;
            continue;
        }
        find_tokens(line, at, end, spans);
        at = end;
    }
}

/// `name=value`, `name: value`, `"name":"value"`, where the name says that it is a secret.
fn find_named(line: &str, separator: usize, spans: &mut Vec<(usize, usize)>) {
    let before = line[..separator].trim_end_matches(['"', '\'', '\\', ' ']);
    let name_start = before
        .rfind(|character: char| !(character.is_ascii_alphanumeric() || "_-".contains(character)))
        .map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
    let name = &before[name_start..];
    let is_variable = !name.bytes().any(|byte| byte.is_ascii_lowercase());
    if !(secrets::is_name_of_one(name) || (is_variable && is_secret_variable(name))) {
        return;
    }
    let rest = &line[separator + 1..];
    let start =
        separator + 1 + (rest.len() - rest.trim_start_matches(['"', '\'', '\\', ' ']).len());
    let end = run(line, start, is_value);
    let is_harmless = HARMLESS.contains(&&line[start..end]);
    if !is_harmless {
        push_if_long(start, end, SHORTEST, spans);
    }
}

/// What looks like a token by its head or by its letters, in a run of letters that tokens are made of.
fn find_tokens(line: &str, start: usize, end: usize, spans: &mut Vec<(usize, usize)>) {
    let text = &line[start..end];
    for head in secrets::VALUE_STARTS.into_iter().chain(STARTS) {
        for (at, _) in text.match_indices(head.trim_end()) {
            let is_at_a_word = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric();
            let from = start + at;
            // `FlyV1 fm2_…` has a blank in it.
            let to = if head.ends_with(' ') {
                run(line, end + 1, is_value).max(end)
            } else {
                end
            };
            if is_at_a_word && to - from >= head.len() + TOKEN_SHORTEST {
                spans.push((from, to));
            }
        }
    }
    // Telegram: digits, a colon, 35 letters.
    for (colon, _) in text.match_indices(':') {
        let before = text[..colon].trim_end_matches(|it: char| it.is_ascii_digit());
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let letters_end = run(line, start + colon + 1, is_letter);
        if colon - before.len() >= 6 && letters_end - (start + colon) > 30 {
            spans.push((start + before.len(), letters_end));
        }
    }
    let mut at = 0;
    for word in text.split(['.', ':', '/', '+', '=', '~']) {
        if looks_random(word) {
            spans.push((start + at, start + at + word.len()));
        }
        at += word.len() + 1;
    }
}

fn looks_random(word: &str) -> bool {
    let count = |is: fn(&u8) -> bool| word.bytes().filter(is).count();
    let digits = count(u8::is_ascii_digit);
    let has_both = count(u8::is_ascii_uppercase) > 0 && count(u8::is_ascii_lowercase) > 0;
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    word.len() >= RANDOM_SHORTEST && ((digits >= 4 && has_both) || is_hex)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'-' | b'.' | b':' | b'+' | b'/' | b'=' | b'~')
}

/// What a value in a log ends at. Bytes above ASCII belong to it, so a span never cuts a letter.
const fn is_value(byte: u8) -> bool {
    !matches!(
        byte,
        b' ' | b'\t' | b'"' | b'\'' | b',' | b';' | b'&' | b'}' | b']' | b')'
    )
}

/// The end of the run of such bytes; `start` may lie behind the line.
fn run(line: &str, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = line.as_bytes().get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| !belongs(*byte));
    start.min(line.len()) + length.unwrap_or(rest.len())
}

fn push_if_long(start: usize, end: usize, shortest: usize, spans: &mut Vec<(usize, usize)>) {
    if end >= start + shortest {
        spans.push((start, end));
    }
}

/// Puts the mask in place of the spans, which may overlap.
fn replace(line: &str, mut spans: Vec<(usize, usize)>) -> String {
    spans.sort_unstable();
    let mut out = String::with_capacity(line.len());
    let mut done = 0;
    for (start, end) in spans {
        if start > done || (start == done && !out.ends_with(MASKED)) {
            out.push_str(&line[done..start]);
            out.push_str(MASKED);
        }
        done = done.max(end);
    }
    out.push_str(&line[done..]);
    out
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
