//! Recognises what a gateway says of itself in its output.
//!
//! [`recognise_line`] runs on every line a gateway prints, so a line that says nothing costs a look at
//! its first bytes. [`recognise_tail`] runs once, on the last lines of a gateway that ended, and searches
//! all of them, because V8 dies in the middle of a line and a buffer cuts where it likes.

use crate::core::exit_class::{Marker, Refusal};

/// At most this much of a line is looked at.
const MAX_LINE_BYTES: usize = 4096;

/// Time stamp, colours and the name of the subsystem end within this many bytes.
const MAX_LEAD_BYTES: usize = 128;

/// Where a text may stand in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the whole message of the subsystem `[gateway]`.
    Message,
    /// It begins the message of the subsystem `[gateway]`.
    MessageStart,
    /// All of the texts stand in a line without a subsystem, or of `openclaw` itself.
    Raw,
}

/// A line taken apart: `[time stamp] [[subsystem]] text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line<'a> {
    /// The name between the brackets, empty when there is none.
    subsystem: &'a [u8],
    text: &'a [u8],
}

/// The texts, the more telling first: the first that fits names the line.
#[rustfmt::skip]
const RULES: &[(Place, &[&str], Marker)] = &[
    (Place::Message, &["ready"], Marker::Ready),
    (Place::MessageStart, &["listening on ws"], Marker::Listening),
    (Place::MessageStart, &["http server listening ("], Marker::Listening),
    (Place::MessageStart, &["restart-loop breaker tripped"], Marker::BreakerTripped),
    (Place::MessageStart, &["gateway restart-loop breaker recovered"], Marker::BreakerRecovered),
    (Place::MessageStart, &["requires state migration"], Marker::Refusal(Refusal::StartupMigrations)),
    (Place::Raw, &["FATAL ERROR:", "heap out of memory"], Marker::HeapOom),
    (Place::Raw, &["Missing config. Run"], Marker::Refusal(Refusal::MissingConfig)),
    (Place::Raw, &["config is missing gateway.mode"], Marker::Refusal(Refusal::MissingMode)),
    (Place::Raw, &["Gateway start blocked: set gateway.mode"], Marker::Refusal(Refusal::MissingMode)),
    (Place::Raw, &["Unrecognized key"], Marker::Refusal(Refusal::UnknownKey)),
    (Place::Raw, &["JSON5 parse failed"], Marker::Refusal(Refusal::InvalidConfig)),
    (Place::Raw, &["Invalid config at "], Marker::Refusal(Refusal::InvalidConfig)),
    (Place::Raw, &["selected config changed", "(config validity changed)"], Marker::Refusal(Refusal::InvalidConfig)),
    (Place::Raw, &["efusing to bind gateway to", "without auth"], Marker::Refusal(Refusal::NoAuthForBind)),
    (Place::Raw, &["but no password is configured"], Marker::Refusal(Refusal::NoAuthForBind)),
    (Place::Raw, &["non-loopback Control UI requires"], Marker::Refusal(Refusal::NoAllowedOrigins)),
    (Place::Raw, &["already owns this state directory"], Marker::Refusal(Refusal::AnotherOwner)),
    (Place::Raw, &["OpenClaw process owns gateway-lifecycle"], Marker::Refusal(Refusal::AnotherOwner)),
    (Place::Raw, &["owner lease is still active"], Marker::Refusal(Refusal::OwnerLease)),
    (Place::Raw, &["is already listening on"], Marker::Refusal(Refusal::PortInUse)),
    (Place::Raw, &["EADDRINUSE"], Marker::Refusal(Refusal::PortInUse)),
    (Place::Raw, &["gateway already running"], Marker::Refusal(Refusal::AlreadyRunning)),
    (Place::Raw, &["not readable by the current process"], Marker::Refusal(Refusal::PermissionDenied)),
    (Place::Raw, &["EACCES"], Marker::Refusal(Refusal::PermissionDenied)),
    (Place::Raw, &["ENOSPC"], Marker::Refusal(Refusal::DiskFull)),
    (Place::Raw, &["database or disk is full"], Marker::Refusal(Refusal::DiskFull)),
    (Place::Raw, &["EROFS"], Marker::Refusal(Refusal::ReadOnly)),
    (Place::Raw, &["attempt to write a readonly database"], Marker::Refusal(Refusal::ReadOnly)),
    (Place::Raw, &["restore this file from a verified backup"], Marker::Refusal(Refusal::CorruptDatabase)),
    (Place::Raw, &["state database is unreadable"], Marker::Refusal(Refusal::CorruptDatabase)),
    (Place::Raw, &["database disk image is malformed"], Marker::Refusal(Refusal::CorruptDatabase)),
    (Place::Raw, &["file is not a database"], Marker::Refusal(Refusal::CorruptDatabase)),
    (Place::Raw, &["migrations did not complete cleanly"], Marker::Refusal(Refusal::StartupMigrations)),
    (Place::Raw, &["startup migrations are already running"], Marker::Refusal(Refusal::StartupMigrations)),
    (Place::Raw, &["config changed during startup"], Marker::ChangedWhileStarting),
    (Place::Raw, &["inputs changed during startup"], Marker::ChangedWhileStarting),
    (Place::Raw, &["plugin verification failed"], Marker::Refusal(Refusal::PluginVerification)),
    (Place::Raw, &["Invalid --"], Marker::Refusal(Refusal::InvalidFlag)),
];

/// How the lines of no subsystem begin that may say something. One that begins otherwise is not searched.
const RAW_STARTS: &[&str] = &[
    "FATAL ERROR:",
    "Missing config",
    "Gateway ",
    "Refusing to ",
    "Another gateway",
    "another ",
    "gateway already",
    "Invalid ",
    "OpenClaw ",
    "Error",
    "JSON5 parse failed",
    "<root>",
    "- ",
    "Config ",
    "read failed",
    "Doctor ",
    "EACCES",
    "StateDatabase",
    "ENOSPC",
    "EROFS",
    "refusing to bind",
];

/// What one line of output says, with or without time stamp and colours, cut or whole.
///
/// Cheap on a line that says nothing: its first bytes decide.
#[must_use]
pub fn recognise_line(line: &[u8]) -> Option<Marker> {
    let line = &line[..line.len().min(MAX_LINE_BYTES)];
    let first = *line.get(line_start(line))?;
    let may_say_something = first.is_ascii_digit()
        || first == b'['
        || RAW_STARTS.iter().any(|start| start.as_bytes()[0] == first);
    if !may_say_something {
        return None;
    }
    // Most lines of a running gateway belong to another subsystem: look no further.
    let plain = plain(line);
    let line = take_apart(&plain);
    let is_worth_it = match line.subsystem {
        b"" | b"openclaw" => {
            RAW_STARTS
                .iter()
                .any(|start| line.text.starts_with(start.as_bytes()))
                || line.subsystem == b"openclaw"
        }
        b"gateway" => true,
        _ => false,
    };
    if is_worth_it { say(line) } else { None }
}

/// The message of a line of this subsystem. Cheap on a line of another one.
pub(super) fn message_of(line: &[u8], subsystem: &[u8]) -> Option<Vec<u8>> {
    let line = &line[..line.len().min(MAX_LINE_BYTES)];
    let head = &line[..line.len().min(MAX_LEAD_BYTES)];
    find(head, subsystem)?;
    let plain = plain(line);
    let parts = take_apart(&plain);
    (parts.subsystem == subsystem).then(|| parts.text.to_vec())
}

/// Every different thing the last output of a gateway says, in the order first said.
///
/// Also finds V8's last words behind another text, so it is for a bounded tail and not for a stream.
#[must_use]
pub fn recognise_tail(tail: &[u8]) -> Vec<Marker> {
    let mut found = Vec::new();
    for line in tail.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let is_last_word =
            || find(line, b"FATAL ERROR:").is_some() && find(line, b"heap out of memory").is_some();
        let marker = recognise_line(line).or_else(|| is_last_word().then_some(Marker::HeapOom));
        if let Some(marker) = marker
            && !found.contains(&marker)
        {
            found.push(marker);
        }
    }
    found
}

fn say(line: Line<'_>) -> Option<Marker> {
    let is_gateway = line.subsystem == b"gateway";
    let is_raw = matches!(line.subsystem, b"" | b"openclaw");
    let fits = |place: Place, texts: &[&str]| match place {
        Place::Message => is_gateway && line.text == texts[0].as_bytes(),
        Place::MessageStart => is_gateway && line.text.starts_with(texts[0].as_bytes()),
        Place::Raw => {
            is_raw
                && texts
                    .iter()
                    .all(|text| find(line.text, text.as_bytes()).is_some())
        }
    };
    RULES
        .iter()
        .find(|(place, texts, _)| fits(*place, texts))
        .map(|(_, _, marker)| *marker)
}

/// Takes a line without colours apart. A time stamp begins with a digit and ends with a blank.
fn take_apart(line: &[u8]) -> Line<'_> {
    let mut text = line.trim_ascii();
    if text.first().is_some_and(u8::is_ascii_digit) {
        let stamp = text
            .iter()
            .take(MAX_LEAD_BYTES)
            .position(|byte| *byte == b' ');
        text = stamp.map_or(&[][..], |end| text[end..].trim_ascii_start());
    }
    let head = &text[..text.len().min(MAX_LEAD_BYTES)];
    match head.iter().position(|byte| *byte == b']') {
        Some(end) if head[0] == b'[' => Line {
            subsystem: &text[1..end],
            text: text[end + 1..].trim_ascii_start(),
        },
        Some(_) | None => Line {
            subsystem: b"",
            text,
        },
    }
}

/// Where the text of a line begins, behind colours and blanks.
fn line_start(line: &[u8]) -> usize {
    let mut at = 0;
    while at < line.len().min(MAX_LEAD_BYTES) {
        match line[at] {
            b' ' | b'\t' => at += 1,
            0x1b => at += escape_length(&line[at..]),
            _ => break,
        }
    }
    at
}

/// The line without its `ESC [ … letter` sequences.
fn plain(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !line.contains(&0x1b) {
        return line.into();
    }
    let mut out = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        if line[at] == 0x1b {
            at += escape_length(&line[at..]);
        } else {
            out.push(line[at]);
            at += 1;
        }
    }
    out.into()
}

/// How many bytes the escape sequence at the start takes; at least 1, and all that is left of a cut one.
fn escape_length(bytes: &[u8]) -> usize {
    if bytes.get(1) != Some(&b'[') {
        return 1;
    }
    let end = bytes[2..]
        .iter()
        .position(|byte| (0x40..=0x7e).contains(byte));
    end.map_or(bytes.len(), |end| end + 3)
}

/// Where `needle` begins. The first byte is searched for by the standard library's fast search.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    while let Some(offset) = haystack.get(from..)?.iter().position(|byte| byte == first) {
        let at = from + offset;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::exit_class::first_cause;

    const LEAD: &str = "\u{1b}[90m2026-11-20T04:14:21.981+00:00\u{1b}[39m \u{1b}[36m[gateway]\u{1b}[39m \u{1b}[36m";

    /// Whole lines as captured, without the newline.
    const CAPTURED: &[(&str, Marker)] = &[
        (
            "OpenClaw migration inputs changed during startup; refusing to report the gateway ready. Restart OpenClaw so state migrations run against the final config and plugin inventory.",
            Marker::ChangedWhileStarting,
        ),
        (
            "[gateway] listening on ws://0.0.0.0:3000 (PID 77)",
            Marker::Listening,
        ),
        (
            "2026-11-20T04:14:20.429+00:00 [gateway] http server listening (14 plugins: anthropic, browser; 3.9s)",
            Marker::Listening,
        ),
        (
            "2026-11-20T04:14:21.981+00:00 [gateway] ready",
            Marker::Ready,
        ),
        (
            "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
            Marker::HeapOom,
        ),
        (
            "FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory",
            Marker::HeapOom,
        ),
        (
            "2026-11-20T04:58:20.966+00:00 [gateway] restart-loop breaker tripped: 3 unclean boot(s) within 300000ms; suppressing channel/provider account auto-start.",
            Marker::BreakerTripped,
        ),
        (
            "Missing config. Run `openclaw setup` or set gateway.mode=local (or pass --allow-unconfigured).",
            Marker::Refusal(Refusal::MissingConfig),
        ),
        (
            "Gateway start blocked: existing config is missing gateway.mode. Treat this as suspicious or clobbered config.",
            Marker::Refusal(Refusal::MissingMode),
        ),
        (
            "Gateway start blocked: set gateway.mode=local (current: unset) or pass --allow-unconfigured.",
            Marker::Refusal(Refusal::MissingMode),
        ),
        (
            "- <root>: Unrecognized key: \"foo\"",
            Marker::Refusal(Refusal::UnknownKey),
        ),
        (
            "<root>: Unrecognized key: \"foo\"",
            Marker::Refusal(Refusal::UnknownKey),
        ),
        (
            "Gateway failed to start: Invalid config at /data/openclaw.json:",
            Marker::Refusal(Refusal::InvalidConfig),
        ),
        (
            "Refusing to run automatic gateway startup migrations because the selected config changed during startup (config validity changed). Retry startup so the new config can be validated.",
            Marker::Refusal(Refusal::InvalidConfig),
        ),
        (
            "OpenClaw startup migrations are already running for this state directory; retry after 2026-11-21T13:14:15.000Z",
            Marker::Refusal(Refusal::StartupMigrations),
        ),
        (
            "- <root>: JSON5 parse failed: SyntaxError: JSON5: invalid character '}' at 1:27",
            Marker::Refusal(Refusal::InvalidConfig),
        ),
        (
            "Refusing to bind gateway to lan without auth.",
            Marker::Refusal(Refusal::NoAuthForBind),
        ),
        (
            "Another gateway (pid 7) already owns this state directory; refusing to run automatic startup migrations or report the gateway ready.",
            Marker::Refusal(Refusal::AnotherOwner),
        ),
        (
            "Gateway failed to start: Another Gateway owner lease is still active for this state directory. Run openclaw gateway status --deep for diagnostics.",
            Marker::Refusal(Refusal::OwnerLease),
        ),
        (
            "Gateway failed to start: gateway already running (pid 7); lock timeout after 5000ms",
            Marker::Refusal(Refusal::AlreadyRunning),
        ),
        (
            "Gateway failed to start: another gateway instance is already listening on ws://0.0.0.0:3000",
            Marker::Refusal(Refusal::PortInUse),
        ),
        (
            "Error: EACCES: permission denied, open '/data/openclaw.json'",
            Marker::Refusal(Refusal::PermissionDenied),
        ),
        (
            "OpenClaw startup migrations did not complete cleanly; refusing to report the gateway ready.",
            Marker::Refusal(Refusal::StartupMigrations),
        ),
    ];

    #[test]
    fn captured_lines_are_recognised_by_both_readers() {
        for (line, marker) in CAPTURED {
            assert_eq!(recognise_line(line.as_bytes()), Some(*marker), "{line}");
            assert_eq!(recognise_tail(line.as_bytes()), [*marker], "{line}");
            let coloured = format!("\u{1b}[31m{line}\u{1b}[39m");
            assert_eq!(recognise_line(coloured.as_bytes()), Some(*marker), "{line}");
        }
    }

    #[test]
    fn coloured_log_lines_are_recognised() {
        for (message, marker) in [
            ("ready\u{1b}[39m", Marker::Ready),
            (
                "http server listening (14 plugins: a; 3.9s)\u{1b}[39m",
                Marker::Listening,
            ),
            (
                "\u{1b}[31mrestart-loop breaker tripped: 3 unclean boot(s)\u{1b}[39m",
                Marker::BreakerTripped,
            ),
        ] {
            let line = format!("{LEAD}{message}");
            assert_eq!(recognise_line(line.as_bytes()), Some(marker), "{message}");
        }
    }

    #[test]
    fn what_only_looks_alike_says_nothing() {
        for line in [
            "",
            "\u{1b}",
            "\u{1b}[",
            "\u{1b}[90m2026-11-20T04:14:21.981+00:00\u{1b}[39m \u{1b}[35m[plugins]\u{1b}[39m ready",
            "2026-11-20T04:14:21.981+00:00 [gateway] not ready",
            "2026-11-20T04:14:21.981+00:00 [gateway] ready soon",
            "2026-11-20T04:14:21.981+00:00 [gateway] spawn broker ready pid=16101",
            "2026-11-20T04:14:21.981+00:00 [discord] user wrote: FATAL ERROR: heap out of memory",
            "2026-11-20T04:14:21.981+00:00 [gateway] starting HTTP server...",
            "2026-11-20T04:14:21.981+00:00 [gateway] failed to write a cache: ENOSPC",
            "2026-11-20T04:14:21.981+00:00 [tools] Error: EACCES: permission denied",
            "2026-11-20T04:14:21.981+00:00",
            "[",
            "[]",
            "1: 0x931db0  [node]",
            "ready",
        ] {
            assert_eq!(recognise_line(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn an_out_of_memory_glued_to_another_line_is_found_in_the_tail() {
        let tail = b"current mu =[30347:0xb982000] 4437 ms: Mark-Compact FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n----- Native stack trace -----\n\n 1: 0x931db0  [node]\n";
        assert_eq!(recognise_tail(tail), [Marker::HeapOom]);
    }

    #[test]
    fn the_tail_says_each_thing_once_and_in_order() {
        let tail =
            b"2026-11-20T04:14:21+00:00 [gateway] ready\nError: EACCES: a\r\nError: EACCES: b\n";
        assert_eq!(
            recognise_tail(tail),
            [Marker::Ready, Marker::Refusal(Refusal::PermissionDenied)]
        );
    }

    #[test]
    fn a_cause_outweighs_the_symptoms_printed_around_it() {
        let cause = |tail: &str| first_cause(&recognise_tail(tail.as_bytes()));
        // 9.6 over a config it may not read.
        let unreadable = "2026-11-20T07:04:56+00:00 read failed: Error: EACCES: permission denied\n\
            2026-11-20T07:04:57+00:00 Gateway start blocked: existing config is missing gateway.mode.\n";
        assert_eq!(cause(unreadable), Some(Refusal::PermissionDenied));
        let unknown = "Gateway failed to start: Invalid config at /data/openclaw.json:\n<root>: Unrecognized key: \"foo\"\n";
        assert_eq!(cause(unknown), Some(Refusal::UnknownKey));
        let mode = "Gateway start blocked: existing config is missing gateway.mode.\n";
        assert_eq!(cause(mode), Some(Refusal::MissingMode));
        assert_eq!(cause("2026-11-20T07:04:57+00:00 [gateway] ready\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = recognise_line(&line);
            let _ = recognise_tail(&line);
        }

        #[test]
        fn a_cut_line_never_says_another_thing(index in 0..CAPTURED.len(), end in 0..200_usize) {
            let (line, marker) = CAPTURED[index];
            let cut = &line.as_bytes()[..end.min(line.len())];
            if let Some(found) = recognise_line(cut) {
                // A cut list of issues still has its head, which is the more general word; and what changed
                // during a start is told before how it did.
                let is_general = found == Marker::Refusal(Refusal::InvalidConfig)
                    || (found, marker)
                        == (
                            Marker::ChangedWhileStarting,
                            Marker::Refusal(Refusal::InvalidConfig),
                        );
                prop_assert!(found == marker || is_general, "{found:?}");
            }
        }

        #[test]
        fn what_one_line_says_the_tail_says_too(line in "(\\[gateway\\] |FATAL ERROR: |Error: )?[a-zA-Z :]{0,40}") {
            if let Some(marker) = recognise_line(line.as_bytes()) {
                prop_assert_eq!(recognise_tail(line.as_bytes()), vec![marker]);
            }
        }
    }
}
