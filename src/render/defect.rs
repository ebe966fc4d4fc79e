//! What is said of a defect in clawkeeper itself.

use super::LogLine;

/// The line for a panic: where (file:line:column), on which thread, and its text if that is a constant.
///
/// `ends` is true when clawkeeper stops its child and ends; otherwise it goes on without that thread.
#[must_use]
pub fn defect(
    at: Option<&str>,
    thread: Option<&str>,
    constant: Option<&str>,
    ends: bool,
) -> LogLine {
    let mut line = LogLine::error(if ends {
        "a defect in clawkeeper: it ends in order, with exit code 70"
    } else {
        "a defect in clawkeeper: a task is given up, the rest goes on"
    });
    if let Some(at) = at {
        line = line.field("at", at);
    }
    if let Some(thread) = thread {
        line = line.field("thread", thread);
    }
    if let Some(constant) = constant {
        line = line.field("what", constant);
    }
    line.field(
        "fix",
        "please report this line; a restart of the container begins afresh",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_is_one_line_that_says_where_and_what_follows() {
        assert_eq!(
            defect(Some("src/a.rs:1:2"), Some("disk"), None, false).to_text(),
            "a defect in clawkeeper: a task is given up, the rest goes on at=src/a.rs:1:2 thread=disk \
             fix=\"please report this line; a restart of the container begins afresh\""
        );
        let line = defect(None, None, Some("no such phase"), true).to_text();
        assert!(
            line.contains("exit code 70 what=\"no such phase\""),
            "{line}"
        );
    }
}
