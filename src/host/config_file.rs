//! Reads the config, and writes a first one where there is none. Never touches one that is there.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads the user's own seed file"
)]

use super::folder::{FileError, FileOwner, Folder, errno_of, kind_word, open_parent};
use super::launch::Launch;
use super::rollback;
use crate::core::config::{ConfigFacts, ConfigState, Finding, Severity};
use crate::gateway::config::{self, ConfigProblem, Parsed};
use crate::settings::ConfigSeed;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A file that is still being written is read so often at most.
const SETTLE_TRIES: usize = 4;

/// The config as it stands, examined.
#[must_use]
pub fn read(launch: &Launch, expected_port: Option<u16>) -> (ConfigFacts, Option<Parsed>) {
    let found = read_current(launch);
    let rolled_back = match &found {
        Ok(Some(current)) => rollback::standing(launch, &current.bytes),
        Ok(None) | Err(_) => None,
    };
    let (state, parsed) = match found {
        Ok(None) => (ConfigState::Missing, None),
        Err(error) => (error.into(), None),
        Ok(Some(current)) => match config::parse(&current.bytes) {
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
            rolled_back,
        },
        parsed,
    )
}

/// What the rules say of a config that parses.
pub fn examine(launch: &Launch, parsed: &Parsed, expected_port: Option<u16>) -> ConfigState {
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

/// The config as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whose it is.
    pub owner: FileOwner,
    /// Its permissions.
    pub mode: u32,
    /// How many names the file has.
    pub names: nix::libc::nlink_t,
    /// What tells it from a file that was changed.
    pub seen: Seen,
}

impl From<Unusable> for ConfigState {
    fn from(error: Unusable) -> Self {
        match error {
            Unusable::NotAFile { what, .. } => Self::NotAFile {
                what: what.to_owned(),
            },
            Unusable::TooLarge { .. } => Self::Broken {
                error: error.to_string(),
            },
            Unusable::Unreadable(error) => Self::Unreadable {
                errno: error.errno as i32,
            },
        }
    }
}

/// What the kernel says of a file that changes with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    inode: (u64, u64),
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why there is no reading what stands at the config's path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A folder, a link, a pipe, a device.
    #[error("{} is {what}, not a file; the gateway wants a regular file there", .path.display())]
    NotAFile {
        /// The config's path.
        path: PathBuf,
        /// What it is, in words.
        what: &'static str,
    },
    /// Larger than any config is read.
    #[error("{}: {}", .path.display(), ConfigProblem::TooLarge { bytes: *.bytes })]
    TooLarge {
        /// The config's path.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// The system refuses.
    #[error(transparent)]
    Unreadable(FileError),
}

impl Seen {
    /// From a stat.
    #[must_use]
    pub fn of(stat: &nix::sys::stat::FileStat) -> Self {
        Self {
            inode: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// The folder of the config, and its name there.
///
/// Below the state folder, which the gateway owns, no link is followed; elsewhere the path is the user's own.
pub fn open_folder(launch: &Launch) -> Result<(Folder, OsString), FileError> {
    let path = &launch.config_path;
    let below = path.strip_prefix(&launch.state_dir).ok();
    let (Some(below), Some(name)) = (below.and_then(Path::parent), path.file_name()) else {
        return open_parent(path);
    };
    let mut folder = Folder::open(&launch.state_dir)?;
    for step in below.components() {
        folder = folder.child(step.as_os_str())?;
    }
    Ok((folder, name.to_owned()))
}

/// Reads the config whole; `None` when there is no such file.
///
/// Bounded in size and time: a pipe is not waited for, and a file that grows under the reader is read
/// again until it holds still, [`SETTLE_TRIES`] times.
pub fn read_current(launch: &Launch) -> Result<Option<Current>, Unusable> {
    let missing = |error: &FileError| matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR);
    let found = open_folder(launch).and_then(|(folder, name)| {
        let stat = folder.stat_of(&name)?;
        Ok((folder, name, stat))
    });
    let (folder, name, stat) = match found {
        Ok(found) => found,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(Unusable::Unreadable(error)),
    };
    for _ in 0..SETTLE_TRIES {
        match read_once(&folder, &name) {
            Ok((before, after, current)) if before == after => return Ok(Some(current)),
            Ok(_) => {}
            Err(ReadError::TooLarge(bytes)) => {
                return Err(Unusable::TooLarge {
                    path: launch.config_path.clone(),
                    bytes,
                });
            }
            Err(ReadError::File(error)) if missing(&error) => return Ok(None),
            Err(ReadError::File(error))
                if matches!(error.errno, Errno::ELOOP | Errno::EINVAL | Errno::ENXIO) =>
            {
                return Err(Unusable::NotAFile {
                    path: launch.config_path.clone(),
                    what: kind_word(&stat),
                });
            }
            Err(ReadError::File(error)) => return Err(Unusable::Unreadable(error)),
        }
    }
    Err(Unusable::Unreadable(FileError {
        operation: "read, because it keeps changing,",
        path: launch.config_path.clone(),
        errno: Errno::EAGAIN,
    }))
}

enum ReadError {
    TooLarge(usize),
    File(FileError),
}

/// The file before and after it was read, and what was read.
fn read_once(folder: &Folder, name: &OsStr) -> Result<(Seen, Seen, Current), ReadError> {
    let failed = |errno| {
        ReadError::File(FileError {
            operation: "read",
            path: folder.path().join(name),
            errno,
        })
    };
    let file = folder.open_file(name).map_err(ReadError::File)?;
    let stat = fstat(&file).map_err(failed)?;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > config::MAX_BYTES {
        return Err(ReadError::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(size);
    (&file)
        .take(config::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(errno_of(&error)))?;
    let after = fstat(&file).map_err(failed)?;
    let current = Current {
        bytes,
        owner: FileOwner {
            uid: stat.st_uid,
            gid: stat.st_gid,
        },
        mode: stat.st_mode & 0o777,
        names: stat.st_nlink,
        seen: Seen::of(&stat),
    };
    Ok((Seen::of(&stat), Seen::of(&after), current))
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
        let (parent, name) = open_folder(launch)?;
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
