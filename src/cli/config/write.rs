//! `put` and `rollback`: a config is checked, what it replaces is kept, and it takes its place whole.

use super::view::{kept, parse, show_difference};
use super::{How, complain, say};
use crate::cli::surroundings::{self, Surroundings};
use crate::core::config::Severity;
use crate::core::config_history::{self, Source, Wanted};
use crate::exit::Exit;
use crate::gateway::config::{self, Answer, MAX_BYTES, Parsed, content_hash};
use crate::host::config_store::{self, Expected, WriteError, Written};
use crate::host::launch::Launch;
use crate::host::{clock, config_file, validator};
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;

/// A config that is to be put in place.
pub(super) struct Proposal<'a> {
    /// What it is called when something is wrong with it.
    pub(super) name: &'a Path,
    pub(super) bytes: &'a [u8],
    pub(super) source: Source,
    pub(super) expected: Expected,
}

pub(super) fn put(file: Option<&Path>, how: How) -> Exit {
    let (name, bytes) = match file {
        Some(file) if file != Path::new("-") => (file, File::open(file).and_then(read_all)),
        Some(_) | None => {
            if std::io::stdin().is_terminal() {
                complain("reading the config from this terminal; Ctrl-D ends it");
            }
            (Path::new("<stdin>"), read_all(std::io::stdin()))
        }
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            complain(format_args!("failed to read {}: {error}", name.display()));
            return Exit::Input;
        }
    };
    if bytes.is_empty() {
        let name = name.display();
        complain(format_args!(
            "{name}: nothing came in; the config is as it was"
        ));
        return Exit::ConfigRefused;
    }
    let proposal = Proposal {
        name,
        bytes: &bytes,
        source: Source::Put,
        expected: Expected::Anything,
    };
    match surroundings::find() {
        Ok(found) => propose(&found, &proposal, how),
        Err(exit) => exit,
    }
}

pub(super) fn rollback(number: Option<u64>, how: How) -> Exit {
    let found = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let (store, versions) = match kept(&found.launch) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let good = store.as_ref().and_then(|store| store.last_good());
    let good = good.map(|(version, _)| version.number);
    let current = config_file::read_current(&found.launch).ok().flatten();
    let current = current.map(|current| content_hash(&current.bytes));
    let wanted = number.map_or(Wanted::Previous, Wanted::Number);
    let candidates = match config_history::candidates(&versions, good, current, wanted) {
        Ok(candidates) => candidates,
        Err(error) => {
            complain(format_args!(
                "{error}; `clawkeeper config history` lists what there is"
            ));
            return Exit::Input;
        }
    };
    let Some(store) = store else {
        return Exit::Input;
    };
    let mut last = Exit::Input;
    for version in candidates {
        let number = version.number;
        let bytes = match store.read(&version) {
            Ok(bytes) => bytes,
            Err(error) => {
                complain(error);
                continue;
            }
        };
        if good == Some(number) {
            say(format_args!(
                "version {number}, the last one the gateway was ready with:"
            ));
        } else {
            say(format_args!(
                "version {number}, kept as {}:",
                version.source.word()
            ));
        }
        let name = format!("version {number}");
        let proposal = Proposal {
            name: Path::new(&name),
            bytes: &bytes,
            source: Source::Rollback,
            expected: Expected::Anything,
        };
        last = propose(&found, &proposal, how);
        // A version that was kept because it was broken is not what a roll-back means.
        if last != Exit::ConfigRefused {
            break;
        }
    }
    last
}

/// Checks a config, says what it changes, and puts it in place unless told not to.
pub(super) fn propose(found: &Surroundings, proposal: &Proposal<'_>, how: How) -> Exit {
    let Surroundings {
        launch, settings, ..
    } = found;
    let parsed = match parse(proposal.name, proposal.bytes) {
        Ok(parsed) => parsed,
        Err(exit) => return refused(launch, exit),
    };
    let passes = passes_rules(launch, &parsed, proposal, settings.internal_port);
    if !passes && !how.force {
        return refused(launch, Exit::ConfigRefused);
    }
    let is_new = match show_changes(launch, &parsed, proposal) {
        Ok(is_new) => is_new,
        Err(exit) => return exit,
    };
    if !is_new {
        say(format_args!(
            "{} holds exactly this; nothing to do",
            launch.config_path.display()
        ));
        return Exit::Stopped;
    }
    if !how.force && !passes_validator(launch, proposal) {
        return refused(launch, Exit::ConfigRefused);
    }
    if how.dry_run {
        say("it would be applied; nothing was changed (--dry-run)");
        return Exit::Stopped;
    }
    apply(found, proposal)
}

fn apply(found: &Surroundings, proposal: &Proposal<'_>) -> Exit {
    let launch = &found.launch;
    let path = launch.config_path.display();
    let written = config_store::write_config(
        launch,
        proposal.bytes,
        proposal.source,
        proposal.expected,
        clock::wall(),
    );
    let (previous, kept, not_durable) = match written {
        Ok(Written::Replaced {
            previous,
            kept,
            not_durable,
        }) => (previous, kept, not_durable),
        Ok(Written::Unchanged) => {
            say(format_args!("{path} holds exactly this; nothing to do"));
            return Exit::Stopped;
        }
        Err(error) => {
            complain(&error);
            let exit = match error {
                WriteError::Changed(_) | WriteError::TooLarge { .. } => Exit::ConfigRefused,
                _ => Exit::Host,
            };
            return refused(launch, exit);
        }
    };
    say(format_args!("applied: {path}"));
    if let Some(previous) = previous {
        let number = previous.number;
        say(format_args!(
            "the one before is version {number}; back to it: clawkeeper config rollback {number}"
        ));
    }
    if let Err(error) = kept {
        complain(format_args!(
            "it is in place, but not in the history: {error}"
        ));
    }
    match found.keeper {
        Some(pid) => say(format_args!(
            "clawkeeper (pid {pid}) sees it and says in its log when the gateway has taken it"
        )),
        None => say("no clawkeeper is running here: it counts from the next start"),
    }
    match not_durable {
        Some(error) => {
            complain(format_args!(
                "it is in place, but a power failure could still undo it: {error}"
            ));
            Exit::Host
        }
        None => Exit::Stopped,
    }
}

/// Prints what the rules find; false when the gateway would not start.
fn passes_rules(
    launch: &Launch,
    parsed: &Parsed,
    proposal: &Proposal<'_>,
    expected_port: Option<u16>,
) -> bool {
    let findings = launch.with(Some(&parsed.value), |launch| {
        config::examine(Some(parsed), launch, expected_port)
    });
    let name = proposal.name.display();
    for finding in &findings {
        let word = match finding.severity {
            Severity::Info => continue,
            Severity::Warn => "warning",
            Severity::Hold => "error",
        };
        complain(format_args!(
            "{name}: {word}: {} [{}]\n  fix: {}",
            finding.message, finding.code, finding.fix
        ));
    }
    findings
        .iter()
        .all(|finding| finding.severity < Severity::Hold)
}

/// Asks the gateway's own validator where it can be asked.
fn passes_validator(launch: &Launch, proposal: &Proposal<'_>) -> bool {
    let asked = config_store::with_draft(launch, proposal.bytes, |draft| {
        validator::ask(launch, draft)
    });
    match asked {
        Ok(Ok(Answer::Valid)) => true,
        Ok(Ok(Answer::Invalid(issues))) => {
            for issue in issues {
                let name = proposal.name.display();
                complain(format_args!("{name}: the gateway refuses it: {issue}"));
            }
            false
        }
        Ok(Err(why)) => {
            say(format_args!(
                "the gateway's own validator gave no verdict: {why}"
            ));
            true
        }
        Err(error) => {
            // Whether the folder can be written is found out when the config is.
            say(format_args!(
                "the gateway's own validator gave no verdict: {error}"
            ));
            true
        }
    }
}

/// Prints what would change; `Ok(false)` when nothing does, down to the last byte.
fn show_changes(launch: &Launch, new: &Parsed, proposal: &Proposal<'_>) -> Result<bool, Exit> {
    let path = launch.config_path.display();
    let current = match config_file::read_current(launch) {
        Ok(Some(current)) => current,
        Ok(None) => {
            say(format_args!("{path} does not exist yet"));
            return Ok(true);
        }
        Err(error) => {
            complain(error);
            return Err(refused(launch, Exit::Host));
        }
    };
    if let Err(error) = config_store::may_be_replaced(launch, &current) {
        complain(error);
        return Err(refused(launch, Exit::Host));
    }
    if current.bytes == proposal.bytes {
        return Ok(false);
    }
    match config::parse(&current.bytes) {
        Ok(old) => show_difference(&old, &current.bytes, new, proposal.bytes),
        Err(error) => say(format_args!(
            "what stands there now does not parse: {path}:{}: {}",
            error.position, error.problem
        )),
    }
    Ok(true)
}

/// The last line of everything that was not applied.
fn refused(launch: &Launch, exit: Exit) -> Exit {
    complain(format_args!(
        "not applied; {} is as it was",
        launch.config_path.display()
    ));
    exit
}

/// No more than a config may have, and one byte to tell.
fn read_all(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
