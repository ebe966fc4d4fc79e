//! The environment a gateway gets, and how it reads its own.

use std::ffi::OsString;
use std::path::PathBuf;

use super::version::Version;

/// A look-up of environment variables, so that no module here reads the process's own.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Env<'a> {
    /// Wraps a look-up by name.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup }
    }

    /// The variable as the gateway reads it: text, trimmed, and absent when nothing is left.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, as in Node's `process.env`.
    #[must_use]
    pub fn text(self, name: &str) -> Option<String> {
        let raw = (self.lookup)(name)?;
        let text = raw.to_string_lossy();
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// The variable as a path, trimmed when it is UTF-8 and kept byte for byte when it is not.
    #[must_use]
    pub fn path(self, name: &str) -> Option<PathBuf> {
        let raw = (self.lookup)(name)?;
        match raw.to_str() {
            Some(text) => {
                let trimmed = text.trim();
                (!trimmed.is_empty()).then(|| PathBuf::from(trimmed))
            }
            None => Some(PathBuf::from(raw)),
        }
    }

    /// Whether the variable holds anything but white space.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.text(name).is_some()
    }
}

impl std::fmt::Debug for Env<'_> {
    /// Says nothing of what is in it: an environment is full of secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

/// What clawkeeper adds to a gateway's environment.
///
/// From 2026.8.2 on a restart asked of the gateway is an exit 0, and its self-update and service
/// commands are refused: there is one supervisor. Before, `OPENCLAW_NO_RESPAWN` makes a restart happen
/// in the process; without it 2026.2.26 and 2026.3.13 spawn a detached child that keeps the port.
/// An unknown version gets `OPENCLAW_NO_RESPAWN`: every version from 2026.2.26 to 2026.9.6 obeys it,
/// and an old one would not know the other and leave an orphan.
/// Never both: `OPENCLAW_NO_RESPAWN` wins, and the user's own setting must be left to win here too.
/// `NO_COLOR` keeps ANSI colours out of a log nobody reads on a terminal.
#[must_use]
pub fn child_environment(version: Option<Version>) -> Vec<(&'static str, &'static str)> {
    let restart = match version {
        Some(version) if version.external_supervisor() => ("OPENCLAW_SUPERVISOR_MODE", "external"),
        Some(_) | None => ("OPENCLAW_NO_RESPAWN", "1"),
    };
    vec![restart, ("NO_COLOR", "1")]
}

/// `text` with each `${NAME}` replaced by the variable; an unset one stays as written.
///
/// Only names of capitals, digits and `_` are replaced, and `$${NAME}` stands for itself.
#[must_use]
pub fn substituted(text: &str, env: Env<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = from.find('}') else {
            rest = from;
            break;
        };
        let (reference, after) = from.split_at(end + 1);
        let name = &from[2..end];
        let value = if before.ends_with('$') || !is_variable_name(name) {
            None
        } else {
            env.text(name)
        };
        out.push_str(value.as_deref().unwrap_or(reference));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_restart_rule_is_set_and_never_two() {
        for version in [
            None,
            Some("2026.3.13"),
            Some("2026.7.1"),
            Some("2026.8.2"),
            Some("2026.9.6"),
        ] {
            let added = child_environment(version.map(|text| text.parse().unwrap()));
            let external = added.contains(&("OPENCLAW_SUPERVISOR_MODE", "external"));
            let in_process = added.contains(&("OPENCLAW_NO_RESPAWN", "1"));
            assert!(external != in_process, "{version:?}");
            assert_eq!(external, version >= Some("2026.8.2"), "{version:?}");
            assert!(added.contains(&("NO_COLOR", "1")));
        }
    }

    #[test]
    fn substitution_keeps_what_it_cannot_replace() {
        let env = Env::new(&|name| (name == "A_1").then(|| OsString::from("x")));
        for (text, expected) in [
            ("${A_1}", "x"),
            ("p${A_1}s${A_1}", "pxsx"),
            ("${UNSET}", "${UNSET}"),
            ("${lower}", "${lower}"),
            ("$${A_1}", "$${A_1}"),
            ("${A_1", "${A_1"),
            ("${", "${"),
            ("${}", "${}"),
            ("", ""),
        ] {
            assert_eq!(substituted(text, env), expected, "{text}");
        }
    }
}
