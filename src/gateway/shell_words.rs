//! A gateway's command line that comes as one text: `sh -c "node dist/index.js gateway …"`, as a Dockerfile's
//! shell-form CMD makes it, or the whole line in one word.
//!
//! Only a text that is nothing but words is taken apart; whatever a shell would have to do is left to the shell.

use std::ffi::OsString;
use std::path::Path;

use super::command::{Command, recognise};

const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

/// The words of the gateway's command line, when `argv` is a text that starts a gateway; else `argv` as it is.
///
/// The shell is left out: one that stays between us and the gateway does not pass signals on.
#[must_use]
pub fn unwrapped(argv: Vec<OsString>) -> Vec<OsString> {
    let line = match argv.as_slice() {
        [line] => line,
        [shell, flag, line] if is_shell(shell) && flag == "-c" => line,
        _ => return argv,
    };
    match line.to_str().and_then(words) {
        Some(words) if matches!(recognise(&words), Command::Gateway(_)) => words,
        _ => argv,
    }
}

/// True when a shell's text starts a gateway that is left to the shell, as `cd /app && node dist/index.js gateway` does.
///
/// Only what stands there in plain words is seen; a script's file is not looked into.
#[must_use]
pub fn hides_a_gateway(argv: &[OsString]) -> bool {
    let text = match argv {
        [shell, flag, text, ..] if is_shell(shell) && flag.to_string_lossy().ends_with('c') => text,
        _ => return false,
    };
    let text = text.to_string_lossy();
    text.split([';', '&', '|', '(', ')', '\n']).any(|command| {
        let leads = |word: &&str| *word == "exec" || word.contains('=');
        let words: Vec<_> = command
            .split_whitespace()
            .skip_while(leads)
            .map(OsString::from)
            .collect();
        matches!(recognise(&words), Command::Gateway(_))
    })
}

fn is_shell(program: &OsString) -> bool {
    let name = Path::new(program).file_name();
    SHELLS.iter().any(|shell| name == Some(shell.as_ref()))
}

/// The words of a line as any POSIX shell splits it; `None` when it means more than its words.
#[must_use]
pub fn words(line: &str) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take().map(OsString::from)),
            '\'' | '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        end if end == character => break,
                        '$' | '`' | '\\' | '!' if character == '"' => return None,
                        inner => quoted.push(inner),
                    }
                }
            }
            plain if plain.is_alphanumeric() || "_-./:=,@%+".contains(plain) => {
                word.get_or_insert_default().push(plain);
            }
            _ => return None,
        }
    }
    words.extend(word.map(OsString::from));
    if words.first().is_some_and(|first| first == "exec") {
        words.remove(0);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    const PLAIN: [&str; 5] = ["node", "dist/index.js", "gateway", "--port", "3000"];

    #[test]
    fn a_text_of_nothing_but_words_is_the_gateways_own_command_line() {
        let line = "node dist/index.js gateway --port 3000";
        for wrapped in [
            argv(&[line]),
            argv(&["sh", "-c", line]),
            argv(&["/bin/sh", "-c", line]),
            argv(&[
                "/bin/bash",
                "-c",
                "exec node dist/index.js gateway --port 3000\n",
            ]),
            argv(&["sh", "-c", "node  'dist/index.js' \"gateway\" --port\t3000"]),
        ] {
            assert_eq!(unwrapped(wrapped.clone()), argv(&PLAIN), "{wrapped:?}");
        }
    }

    #[test]
    fn what_a_shell_has_to_do_is_left_to_the_shell() {
        for line in [
            "node dist/index.js gateway --port $PORT",
            "node dist/index.js gateway --port \"$PORT\"",
            "cd /app && node dist/index.js gateway",
            "node dist/index.js gateway; sleep 1",
            "node dist/index.js gateway\nsleep 1",
            "node dist/index.js gateway | tee /tmp/log",
            "node dist/index.js gateway > /tmp/log",
            "NODE_ENV=test node dist/index.js gateway",
            "node dist/*.js gateway",
            "node dist/index.js gateway # or not",
            "node dist/index.js gateway 'unended",
            "node ~/dist/index.js gateway",
        ] {
            for wrapped in [argv(&[line]), argv(&["sh", "-c", line])] {
                assert_eq!(unwrapped(wrapped.clone()), wrapped);
            }
        }
    }

    #[test]
    fn a_gateway_that_is_left_to_a_shell_is_seen() {
        for line in [
            "cd /app && exec node dist/index.js gateway --port $PORT",
            "NODE_ENV=test node dist/index.js gateway; sleep 1",
            "umask 077\n(openclaw gateway run | tee /tmp/log)",
        ] {
            assert!(hides_a_gateway(&argv(&["sh", "-c", line])), "{line}");
            assert!(
                hides_a_gateway(&argv(&["/bin/bash", "-lc", line])),
                "{line}"
            );
        }
        for line in [
            "openclaw gateway status; bash",
            "echo node dist/index.js gateway",
            "./start.sh",
            "",
        ] {
            assert!(!hides_a_gateway(&argv(&["sh", "-c", line])), "{line}");
        }
        assert!(!hides_a_gateway(&argv(&["cat", "-c", "openclaw gateway"])));
        assert!(!hides_a_gateway(&argv(&["bash"])));
    }

    #[test]
    fn what_starts_no_gateway_is_not_taken_apart() {
        for wrapped in [
            argv(&["sh", "-c", "node dist/index.js gateway status"]),
            argv(&["node dist/index.js --version"]),
            argv(&["ls -la"]),
            argv(&["bash"]),
            argv(&["sh", "-c", "node dist/index.js gateway", "name"]),
            argv(&["sh", "-x", "node dist/index.js gateway"]),
            argv(&["python", "-c", "node dist/index.js gateway"]),
            argv(&PLAIN),
            argv(&[]),
        ] {
            assert_eq!(unwrapped(wrapped.clone()), wrapped);
        }
    }
}
