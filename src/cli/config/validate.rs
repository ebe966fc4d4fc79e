//! `config validate` and `config seed`.

use super::{complain, say};
use crate::cli::surroundings::{self, Surroundings};
use crate::core::config::{ConfigState, Severity};
use crate::exit::Exit;
use crate::gateway::config::Answer;
use crate::host::launch::Launch;
use crate::host::{config_file, validator};
use crate::settings::ConfigSeed;
use std::path::PathBuf;

pub(super) fn validate(file: Option<PathBuf>) -> Exit {
    // The gateway reads its own config as its own user; another file may be for us alone. `put --dry-run` asks about that.
    let asks_gateway = file.is_none();
    // The working folder changes with the surroundings.
    let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
    let found = surroundings::find();
    let Surroundings {
        mut launch,
        settings,
        ..
    } = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if let Some(file) = file {
        launch.config_path = file;
    }
    let (facts, _) = config_file::read(&launch, settings.internal_port);
    let path = facts.path.display();
    match facts.state {
        ConfigState::Parsed { findings } => {
            for finding in &findings {
                let word = match finding.severity {
                    Severity::Info => "info",
                    Severity::Warn => "warning",
                    Severity::Hold => "error",
                };
                say(format_args!(
                    "{path}: {word}: {} [{}]\n  fix: {}",
                    finding.message, finding.code, finding.fix
                ));
            }
            match findings.iter().map(|finding| finding.severity).max() {
                Some(Severity::Hold) => Exit::CheckHolds,
                _ if asks_gateway && !passes_validator(&launch) => Exit::CheckHolds,
                Some(Severity::Warn) => Exit::CheckWarnings,
                Some(Severity::Info) | None => {
                    say(format_args!("{path}: the gateway can start with it"));
                    Exit::Stopped
                }
            }
        }
        ConfigState::Broken { error } => fail(&error),
        ConfigState::Missing => fail(&format!("{path}: there is no such file")),
        ConfigState::NotAFile { what } => fail(&format!("{path}: it is {what}, not a file")),
        ConfigState::Unreadable { errno } => fail(&format!(
            "{path}: {}",
            nix::errno::Errno::from_raw(errno).desc()
        )),
    }
}

/// Asks the gateway itself, which knows its keys; where it cannot be asked, that is said and refuses nothing.
fn passes_validator(launch: &Launch) -> bool {
    let path = launch.config_path.display();
    match validator::ask(launch, &launch.config_path) {
        Ok(Answer::Valid) => true,
        Ok(Answer::Invalid(issues)) => {
            for issue in issues {
                say(format_args!("{path}: the gateway refuses it: {issue}"));
            }
            false
        }
        Err(why) => {
            say(format_args!(
                "the gateway's own validator gave no verdict: {why}"
            ));
            true
        }
    }
}

fn fail(message: &str) -> Exit {
    say(message);
    Exit::CheckHolds
}

pub(super) fn seed(print: bool) -> Exit {
    let Surroundings {
        launch, settings, ..
    } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    // Whoever asks for a seed wants one, also where `run` is told to write none.
    let seed = match settings.config_seed {
        ConfigSeed::Off => ConfigSeed::Environment,
        seed @ (ConfigSeed::Environment | ConfigSeed::Text(_) | ConfigSeed::File(_)) => seed,
    };
    let result = if print {
        config_file::seed_text(&launch, &seed).map(|(text, _)| text.trim_end().to_owned())
    } else {
        config_file::write_seed(&launch, &seed)
            .map(|from| format!("{} written from {from}", launch.config_path.display()))
    };
    match result {
        Ok(text) => {
            super::print(text);
            Exit::Stopped
        }
        Err(error) => {
            complain(error);
            Exit::Input
        }
    }
}
