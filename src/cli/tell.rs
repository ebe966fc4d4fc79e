//! What a command prints. Whoever has stopped reading still gets the exit code, and no text of others moves the cursor.

use crate::render::plain;
use std::fmt::Display;
use std::io::Write as _;

/// A result, for people.
pub(super) fn say(text: impl Display) {
    print(fit(&text.to_string()));
}

/// A result as it is, for programs.
pub(super) fn print(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What went wrong, with our name before it.
pub(super) fn complain(problem: impl Display) {
    let problem = fit(&problem.to_string());
    let _ = writeln!(std::io::stderr(), "clawkeeper: {problem}");
}

/// Without anything but lines of text.
fn fit(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}
