//! Reads the config, and writes a first one where there is none. Never touches one that is there.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads the user's own seed file"
)]

use super::folder::{FileError, Folder, kind_word, open_parent};
use super::launch::Launch;
use crate::core::config::{ConfigFacts, ConfigState, Finding, Severity};
use crate::gateway::config::{self, Parsed};
use crate::settings::ConfigSeed;
use nix::errno::Errno;
use std::ffi::OsStr;
use std::path::Path;

/// The config as it stands, examined.
#[must_use]
pub fn read(launch: &Launch, expected_port: Option<u16>) -> (ConfigFacts, Option<Parsed>) {
    let (state, parsed) = match read_bytes(&launch.config_path) {
        Ok(None) => (ConfigState::Missing, None),
        Err(state) => (state, None),
        Ok(Some(bytes)) => match config::parse(&bytes) {
            Ok(parsed) => (examine(launch, &parsed, expected_port), Some(parsed)),
            Err(error) => (
                ConfigState::Broken {
                    error: error.report(&launch.config_path),
                },
                None,
            ),
        },
    };
    (
        ConfigFacts {
            path: launch.config_path.clone(),
            state,
        },
        parsed,
    )
}

fn examine(launch: &Launch, parsed: &Parsed, expected_port: Option<u16>) -> ConfigState {
    let findings = launch.with(Some(&parsed.value), |launch| {
        config::examine(Some(parsed), launch, expected_port)
    });
    ConfigState::Parsed { findings }
}

/// The config, where the command line leaves it to say on which port and address the gateway listens.
#[must_use]
pub fn read_for_address(launch: &Launch) -> Option<Parsed> {
    let needed = launch.needs_config_for_address();
    needed.then(|| read(launch, None).1).flatten()
}

/// What the rules say of a config that is yet to be written; `None` stands for none at all.
#[must_use]
pub fn examine_text(
    launch: &Launch,
    text: Option<&str>,
    expected_port: Option<u16>,
) -> Vec<Finding> {
    let parsed = text.and_then(|text| config::parse(text.as_bytes()).ok());
    let value = parsed.as_ref().map(|parsed| &parsed.value);
    let mut findings = launch.with(value, |launch| {
        config::examine(parsed.as_ref(), launch, expected_port)
    });
    findings.retain(|finding| finding.severity > Severity::Info);
    findings
}

/// `None` when there is no such file.
pub fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, ConfigState> {
    let unreadable = |error: &FileError| ConfigState::Unreadable {
        errno: error.errno as i32,
    };
    let missing = |error: &FileError| matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR);
    let (parent, name) = match open_parent(path) {
        Ok(found) => found,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let stat = match parent.stat_of(&name) {
        Ok(stat) => stat,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    match parent.read(&name, config::MAX_BYTES + 1) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FileError {
            errno: Errno::ELOOP | Errno::EINVAL,
            ..
        }) => Err(ConfigState::NotAFile {
            what: kind_word(&stat).to_owned(),
        }),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The text a missing config is to be seeded with, and what it is made from.
pub fn seed_text(launch: &Launch, seed: &ConfigSeed) -> Result<(String, &'static str), String> {
    let users = |text: String, from| match config::user_seed(&text) {
        Ok(_) => Ok((text, from)),
        Err(error) => Err(chain(&error)),
    };
    match seed {
        ConfigSeed::Environment => Ok((launch.with(None, config::seed_text), "the environment")),
        ConfigSeed::Text(text) => users(text.clone(), "CLAWKEEPER_CONFIG_SEED"),
        ConfigSeed::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("failed to read the seed {}: {error}", path.display()))?;
            users(text, "the file CLAWKEEPER_CONFIG_SEED names")
        }
        ConfigSeed::Off => Err("seeding is switched off".to_owned()),
    }
}

/// Writes the first config and says what it was made from: 0600, the gateway's own, whole or not at all, and never over another.
pub fn write_seed(launch: &Launch, seed: &ConfigSeed) -> Result<String, String> {
    let (text, from) = seed_text(launch, seed)?;
    let path = &launch.config_path;
    let write = || -> Result<(), FileError> {
        let (parent, name) = open_parent(path)?;
        let mut temporary = name.clone();
        temporary.push(".clawkeeper-seed");
        let _ = parent.remove(&temporary);
        parent.write_new(
            &temporary,
            text.as_bytes(),
            0o600,
            launch.account.file_owner(),
        )?;
        // A hard link fails where a rename would overwrite: whoever wrote a config meanwhile wins.
        let linked = link(&parent, &temporary, &name);
        let _ = parent.remove(&temporary);
        linked?;
        nix::unistd::fsync(parent.fd()).map_err(|errno| FileError {
            operation: "fsync the folder of",
            path: path.clone(),
            errno,
        })
    };
    write()
        .map(|()| from.to_owned())
        .map_err(|error| error.to_string())
}

fn link(parent: &Folder, from: &OsStr, to: &OsStr) -> Result<(), FileError> {
    nix::unistd::linkat(
        parent.fd(),
        from,
        parent.fd(),
        to,
        nix::fcntl::AtFlags::empty(),
    )
    .map_err(|errno| FileError {
        operation: "create",
        path: parent.path().join(to),
        errno,
    })
}

/// An error with everything behind it, as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
