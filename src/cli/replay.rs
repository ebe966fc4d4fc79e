//! `replay`: a journal's events through the core again, printing what it decides.

use super::tell::{complain, say};
use crate::core::action::Action;
use crate::core::machine::Core;
use crate::core::time::Mono;
use crate::exit::Exit;
use crate::host::folder::open_parent;
use crate::host::journal::{self, Line};
use crate::render;
use std::path::Path;

pub(super) fn run(file: &Path) -> Exit {
    let read = open_parent(file).and_then(|(parent, name)| parent.read(&name, journal::MAX_BYTES));
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => {
            complain(error);
            return Exit::Input;
        }
    };
    let (lines, bad) = journal::parse(&bytes);
    if !matches!(lines.first(), Some(Line::Snapshot { .. })) {
        complain(format_args!(
            "{}: not a journal: it does not begin with a snapshot",
            file.display()
        ));
        return Exit::Input;
    }
    for line in replayed(lines) {
        say(line);
    }
    if bad > 0 {
        complain(format_args!(
            "{bad} lines are cut or of another version and were passed over"
        ));
    }
    Exit::Stopped
}

/// The decisions, one a line: time since the snapshot, phase, what happened, what was decided.
fn replayed(lines: Vec<Line>) -> Vec<String> {
    let mut text = Vec::new();
    let mut machine: Option<(Core, Mono)> = None;
    for line in lines {
        match line {
            Line::Snapshot {
                version,
                wall,
                at,
                core,
            } => {
                text.push(format!(
                    "snapshot by clawkeeper {version} at {} ms after 1970, {}",
                    wall.0,
                    core.phase_word()
                ));
                machine = Some((*core, at));
            }
            Line::Event { at, event } => {
                let Some((core, began)) = &mut machine else {
                    continue;
                };
                let before = core.phase_word();
                let shown = format!("{event:?}");
                let actions = core.step(at, event);
                text.push(format!(
                    "+{} {before} → {}: {}",
                    at.since(*began),
                    core.phase_word(),
                    cut(&shown)
                ));
                text.extend(actions.iter().map(decision));
            }
        }
    }
    text
}

fn decision(action: &Action) -> String {
    match action {
        Action::Report(report) => format!("    says: {}", render::report(report).to_text()),
        other => format!("    does: {}", cut(&format!("{other:?}"))),
    }
}

/// Facts can be long; a line of a terminal or two is enough to recognise one.
fn cut(text: &str) -> String {
    const MAX: usize = 200;
    if text.chars().count() <= MAX {
        text.to_owned()
    } else {
        text.chars().take(MAX).chain("…".chars()).collect()
    }
}
