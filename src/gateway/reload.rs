//! Recognises what a gateway says of reloading its config.
//!
//! Every text is the message of the subsystem `[reload]` (7.1 and 9.6, run; `hot` is a mode of 7.1 only).

use super::markers::message_of;
use crate::core::reload::Sign;

/// How the messages begin.
const SIGNS: &[(&str, Sign)] = &[
    (
        "config reload requires gateway restart; hot mode ignoring",
        Sign::NeedsRestart,
    ),
    (
        "config reload disabled (gateway.reload.mode=off)",
        Sign::Off,
    ),
    ("config change requires gateway restart", Sign::Restarting),
    ("config reload skipped (invalid config)", Sign::Refused),
    ("config change detected", Sign::Noticed),
    ("config hot reload applied", Sign::Applied),
    ("config change applied", Sign::Applied),
    ("config reload failed", Sign::Failed),
    ("config restart failed", Sign::Failed),
    ("config hot-reload disabled", Sign::Failed),
];

/// What one line of output says of a reload. Costs a look at the head of the line when it says nothing.
#[must_use]
pub fn recognise_reload(line: &[u8]) -> Option<Sign> {
    let text = message_of(line, b"reload")?;
    SIGNS
        .iter()
        .find(|(start, _)| text.starts_with(start.as_bytes()))
        .map(|(_, sign)| *sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            lead in "(\\[|[0-9]+ \\[)?(reload)?\\]?",
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = recognise_reload(&[lead.as_bytes(), &rest].concat());
        }
    }

    #[test]
    fn the_lines_of_7_1_and_9_6_are_recognised() {
        for (line, sign) in [
            (
                "2026-11-21T11:58:46.543+00:00 [reload] config change detected; evaluating reload (logging)",
                Sign::Noticed,
            ),
            (
                "2026-11-21T11:58:54.654+00:00 [reload] config reload skipped (invalid config): : Unrecognized key: \"foo\"",
                Sign::Refused,
            ),
            (
                "2026-11-21T11:59:00.584+00:00 [reload] config reload disabled (gateway.reload.mode=off)",
                Sign::Off,
            ),
            (
                "2026-11-21T12:00:53.215+00:00 [reload] config reload requires gateway restart; hot mode ignoring (gateway.controlUi)",
                Sign::NeedsRestart,
            ),
            (
                "2026-11-21T12:01:15.305+00:00 [reload] config change requires gateway restart (gateway.controlUi.basePath) — preparing",
                Sign::Restarting,
            ),
            (
                "\u{1b}[36m[reload]\u{1b}[39m config hot reload applied (hooks)",
                Sign::Applied,
            ),
        ] {
            assert_eq!(recognise_reload(line.as_bytes()), Some(sign), "{line}");
        }
    }

    #[test]
    fn what_others_say_of_a_config_is_no_sign() {
        for line in [
            "",
            "[gateway] config change detected",
            "2026-11-21T11:58:51.526+00:00 Config observe anomaly: /data/openclaw.json (gateway-mode-missing-vs-last-good)",
            "[reload] config reload skipped (config file not found)",
            "[reload] config reload skipped by writer intent (x)",
            "config change detected",
        ] {
            assert_eq!(recognise_reload(line.as_bytes()), None, "{line}");
        }
    }
}
