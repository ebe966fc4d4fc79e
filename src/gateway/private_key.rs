//! Which lines are of a private key: from `-----BEGIN` on (RFC 7468), until it ends or could not go on.
//!
//! Whoever writes the first line need not write a key: an error may quote it. So a line within is judged by itself, and
//! what cannot be of a key does not end it either: another's line may come between two of its own.

const BEGIN: &str = "-----BEGIN";
const END: &str = "-----END";
/// An RSA key of 16,384 bits has 194.
const LINES_MAX: u16 = 200;
/// A line of a key has 64 letters, or 70, or 76; all but its last one.
const FULL: usize = 40;

/// Where lines that follow one another stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrivateKey {
    /// Lines that may still be of it.
    left: u16,
    /// True until a line comes that is no header.
    in_head: bool,
    /// True behind a full line: what is left of the key may be short, with anything before and behind it.
    was_full: bool,
}

impl PrivateKey {
    /// Before the first of these lines, which may begin in the middle of a key.
    pub(super) fn before(lines: &[&str]) -> Self {
        let edge = lines
            .iter()
            .find(|line| line.contains(BEGIN) || line.contains(END));
        let is_cut = edge.is_some_and(|line| !line.contains(BEGIN));
        Self {
            left: if is_cut { LINES_MAX } else { 0 },
            ..Self::default()
        }
    }

    /// Whether the next line may be of a key. Rather too many are than too few.
    pub(super) fn may_have(&mut self, line: &str) -> bool {
        if let Some(at) = line.rfind(BEGIN) {
            let goes_on = !line[at..].contains(END);
            *self = Self {
                left: if goes_on { LINES_MAX } else { 0 },
                in_head: true,
                was_full: false,
            };
            return true;
        }
        if self.left == 0 {
            return false;
        }
        if line.contains(END) {
            *self = Self::default();
            return true;
        }
        self.left -= 1;
        // As they stand in a string of JSON or JavaScript.
        let text = line.replace("\\n", " ").replace("\\r", " ");
        let words = || {
            text.split(|it: char| !is_letter(it))
                .filter(|it| is_word(it))
        };
        let is_full = words().any(|word| word.len() >= FULL);
        let is_header = self.in_head && is_header(line);
        let may_be = is_full || self.was_full || is_header || words().count() == 1;
        (self.in_head, self.was_full) = (is_header, is_full);
        may_be
    }
}

/// Of base64.
const fn is_letter(it: char) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, '+' | '/' | '=')
}

fn is_word(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// `Proc-Type: 4,ENCRYPTED` (RFC 1421), `Version: 1` (RFC 4880).
fn is_header(line: &str) -> bool {
    let Some((name, _)) = line.trim_start().split_once(": ") else {
        return false;
    };
    name.starts_with(|it: char| it.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random, in the form of a key of 2048 bits.
    const FULL_LINE: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    const LAST_LINE: &str = "MzEfYyjiWA4R4/M2bS1GB4t7";

    fn shown<'a>(lines: &[&'a str]) -> Vec<&'a str> {
        let mut key = PrivateKey::before(lines);
        let shown = lines.iter().filter(|line| !key.may_have(line));
        shown.copied().collect()
    }

    #[test]
    fn no_line_of_a_key_is_shown_however_it_is_printed() {
        // What leads a line, what follows it, and what is said of it between.
        for (lead, tail) in [
            ("", ""),
            ("    ", ""),
            ("> ", ""),
            ("  '", "\\n' +"),
            ("  \"", "\\r\\n\","),
            ("2026-11-20T05:04:02.849+00:00 [gateway] ", ""),
            ("{\"level\":30,\"name\":\"x\",\"msg\":\"", "\"}"),
        ] {
            for full_lines in [1, 24, 193] {
                let wrap = |text: &str| format!("{lead}{text}{tail}");
                let mut lines = vec![wrap("-----BEGIN PRIVATE KEY-----")];
                lines.extend(vec![wrap(FULL_LINE); full_lines]);
                lines.push(wrap(LAST_LINE));
                lines.push(wrap("-----END PRIVATE KEY-----"));
                lines.push("after the key".to_owned());
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                assert_eq!(shown(&lines), ["after the key"], "{lead:?}");
                // Its first lines may be gone from what is kept.
                assert_eq!(shown(&lines[1..]), ["after the key"], "{lead:?}");
            }
        }
    }

    #[test]
    fn a_key_with_headers_and_one_with_anothers_lines_between_are_not_shown() {
        let lines = [
            "-----BEGIN RSA PRIVATE KEY-----",
            "Proc-Type: 4,ENCRYPTED",
            "DEK-Info: AES-256-CBC,0123456789ABCDEF",
            "",
            FULL_LINE,
            FULL_LINE,
            "[gateway] masked, for it could be the last line",
            "[gateway] ready on port 3000",
            FULL_LINE,
            LAST_LINE,
            "-----END RSA PRIVATE KEY-----",
        ];
        assert_eq!(shown(&lines), ["", "[gateway] ready on port 3000"]);
    }

    #[test]
    fn a_first_line_without_a_key_hides_nothing_that_is_said_after_it() {
        let quoted = "Error: PEM must start with -----BEGIN PRIVATE KEY-----";
        let said = [
            "    at createPrivateKey (node:internal/crypto/keys:620:12)",
            "",
            "2026-11-20T05:04:02.849+00:00 [gateway] ready",
            "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
            "clawkeeper: gateway exited class=crash code=1",
        ];
        let lines = [&[quoted][..], &said[..]].concat();
        assert_eq!(shown(&lines), said);
    }

    #[test]
    fn what_never_ends_is_no_key() {
        let mut lines = vec!["-----BEGIN PRIVATE KEY-----"];
        lines.extend(vec![FULL_LINE; usize::from(LINES_MAX) + 1]);
        assert_eq!(shown(&lines), [FULL_LINE]);
    }

    #[test]
    fn a_key_in_one_line_ends_in_it_and_the_next_begins_anew() {
        let whole = format!("\"-----BEGIN X-----\\n{LAST_LINE}\\n-----END X-----\\n\"");
        assert_eq!(shown(&[&whole, "ready"]), ["ready"]);
        let two = format!("{whole}, \"-----BEGIN X-----");
        assert_eq!(shown(&[&two, LAST_LINE]), [""; 0]);
    }
}
