//! Keeps the versions a config had, and replaces a config whole or not at all.
//!
//! The versions lie in `<state>/clawkeeper/config/`, which only the user clawkeeper runs as can open:
//! a config holds secrets. Everything about a version stands in its name (see
//! [`core::config_history`](crate::core::config_history)), so a crash leaves no index to be repaired.

use super::config_file::{self, Current, Seen};
use super::folder::{FileError, FileOwner, Folder, errno_of};
use super::launch::Launch;
use super::state;
use crate::core::config_history::{self, ContentHash, Source, Version};
use crate::core::time::WallMs;
use crate::gateway::config::{MAX_BYTES, content_hash};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

const FOLDER: &str = "config";
const GOOD: &str = "last-good.json";
const GOOD_MAX_BYTES: usize = 4096;
/// More names than the bounds of the history allow are somebody else's, or a pruning that keeps failing.
const MAX_NAMES: usize = 1000;
/// So many names beside the config are looked through for what a killed clawkeeper left.
const MAX_SWEPT: usize = 10_000;
/// Part of the name under which a config is written before it takes its own.
const TEMPORARY: &str = ".clawkeeper-new-";

/// The folder of versions.
#[derive(Debug)]
pub struct ConfigStore {
    folder: Folder,
}

/// The last config the gateway was ready with for long enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// The version's number.
    pub number: u64,
    /// Of its content, so that a number given anew after a loss of files does not pass for it.
    pub hash: ContentHash,
    /// When it was found good.
    pub at: WallMs,
}

/// What has to stand at the config's path for a replacement to go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is: it is kept as a version first.
    Anything,
    /// Exactly this, or nothing at all.
    Exactly(Option<ContentHash>),
}

/// What became of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The file is the new one.
    Replaced {
        /// The version that holds what stood there before; `None` where nothing did.
        previous: Option<Version>,
        /// The version of what stands there now, or why none could be kept.
        kept: Result<Version, FileError>,
        /// Why a power failure might still undo it.
        not_durable: Option<FileError>,
    },
    /// It held these bytes already. Nothing was touched.
    Unchanged,
}

/// Why a config was not replaced. The file is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It cannot be read, or is nothing that may be replaced.
    #[error(transparent)]
    Current(#[from] config_file::Unusable),
    /// It has more than one name.
    #[error("{} has {names} names (hard links), and only one of them would change; give it a name of its own: cp -p FILE FILE.new && mv FILE.new FILE", .path.display())]
    HardLink {
        /// The config.
        path: PathBuf,
        /// How many.
        names: u64,
    },
    /// Somebody else wrote it meanwhile.
    #[error("{} was changed by somebody else meanwhile; look at it and try again", .0.display())]
    Changed(PathBuf),
    /// It is larger than any config is read.
    #[error("{bytes} bytes are more than {MAX_BYTES}, the most a config may have")]
    TooLarge {
        /// The size of what was to be written.
        bytes: usize,
    },
    /// What stands there could not be kept, so it was not replaced.
    #[error("the version that would be replaced cannot be kept: {0}")]
    Keep(FileError),
    /// It is the mount point of a single file.
    #[error("{} is a mount of its own and cannot be replaced whole; change the file that is mounted there, or mount its folder", .0.display())]
    Mounted(PathBuf),
    /// The new file could not be written beside it or moved into its place.
    #[error(transparent)]
    Write(FileError),
}

/// The store with every other clawkeeper kept out.
#[derive(Debug)]
struct Held<'a> {
    store: &'a ConfigStore,
    _lock: File,
}

impl ConfigStore {
    /// Opens the store, making it where there is none.
    pub fn open(state_dir: &Path) -> Result<Self, FileError> {
        let private = state::open_private(&Folder::open(state_dir)?)?;
        let folder = private.child_or_create(OsStr::new(FOLDER), 0o700)?;
        Ok(Self { folder })
    }

    /// Opens the store if there is one, and makes nothing.
    pub fn existing(state_dir: &Path) -> Result<Option<Self>, FileError> {
        let found = Folder::open(state_dir)
            .and_then(|state| state::existing_private(&state))
            .and_then(|private| private.child(OsStr::new(FOLDER)));
        match found {
            Ok(folder) => Ok(Some(Self { folder })),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Every version, the newest first.
    pub fn versions(&self) -> Result<Vec<Version>, FileError> {
        let names = self.folder.names(MAX_NAMES)?;
        let mut versions: Vec<Version> = names
            .iter()
            .filter_map(|name| {
                let stat = self.folder.stat_of(name).ok()?;
                let bytes = u64::try_from(stat.st_size).ok()?;
                Version::from_file_name(name.to_str()?, bytes)
            })
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.number));
        Ok(versions)
    }

    /// The bytes of a version.
    pub fn read(&self, version: &Version) -> Result<Vec<u8>, FileError> {
        let name = OsString::from(version.file_name());
        let bytes = self.folder.read(&name, MAX_BYTES)?;
        if content_hash(&bytes) == version.hash {
            Ok(bytes)
        } else {
            // A torn write cannot look like this, a failing disk can.
            Err(FileError {
                operation: "read back what was kept in",
                path: self.path().join(name),
                errno: Errno::EIO,
            })
        }
    }

    /// The version marked as the last good one, if it is still kept.
    #[must_use]
    pub fn last_good(&self) -> Option<(Version, Good)> {
        let bytes = self.folder.read(OsStr::new(GOOD), GOOD_MAX_BYTES).ok()?;
        let good: Good = serde_json::from_slice(&bytes).ok()?;
        let versions = self.versions().ok()?;
        let is_it = |version: &Version| version.number == good.number && version.hash == good.hash;
        let version = versions.into_iter().find(is_it)?;
        Some((version, good))
    }

    /// Keeps these bytes as a version, unless the newest one holds them already.
    pub fn keep(&self, bytes: &[u8], source: Source, now: WallMs) -> Result<Version, FileError> {
        self.hold()?.keep(bytes, source, now)
    }

    /// Marks these bytes as the last good config, keeping them if no version holds them yet.
    pub fn mark_good(&self, bytes: &[u8], now: WallMs) -> Result<Version, FileError> {
        let held = self.hold()?;
        let hash = content_hash(bytes);
        let known = self.versions()?.into_iter().find(|it| it.hash == hash);
        let version = match known {
            Some(version) => version,
            None => held.keep(bytes, Source::Ready, now)?,
        };
        if self
            .last_good()
            .is_some_and(|(marked, _)| marked.hash == hash)
        {
            return Ok(version);
        }
        let good = Good {
            number: version.number,
            hash,
            at: now,
        };
        let text = serde_json::to_vec(&good).unwrap_or_default();
        self.folder.replace(OsStr::new(GOOD), &text, 0o600, None)?;
        Ok(version)
    }

    fn hold(&self) -> Result<Held<'_>, FileError> {
        Ok(Held {
            store: self,
            _lock: state::hold(&self.folder)?,
        })
    }
}

impl Held<'_> {
    fn keep(&self, bytes: &[u8], source: Source, now: WallMs) -> Result<Version, FileError> {
        let folder = &self.store.folder;
        let mut versions = self.store.versions()?;
        let hash = content_hash(bytes);
        if let Some(newest) = versions.first().filter(|newest| newest.hash == hash) {
            return Ok(newest.clone());
        }
        self.sweep();
        let version = Version {
            number: config_history::next_number(&versions),
            kept_at: now,
            source,
            hash,
            bytes: bytes.len() as u64,
        };
        let name = OsString::from(version.file_name());
        folder.replace(&name, bytes, 0o600, None)?;
        versions.push(version.clone());
        let good = self.store.last_good().map(|(good, _)| good.number);
        for old in config_history::to_prune(&versions, good) {
            // One that cannot be removed now is removed with the next version.
            let _ = folder.remove(OsStr::new(&old.file_name()));
        }
        Ok(version)
    }

    /// Removes what a clawkeeper that was killed left half written; nobody else writes here while we hold the folder.
    fn sweep(&self) {
        let folder = &self.store.folder;
        for name in folder.names(MAX_NAMES).unwrap_or_default() {
            if name.to_string_lossy().contains(".tmp-") {
                let _ = folder.remove(&name);
            }
        }
    }
}

/// Replaces the config, keeping both what stood there and what stands there now as versions.
///
/// Killed at any instruction it leaves the old file or the new one, whole, and the old one is kept
/// before the new one takes its place. On an error the file is as it was.
pub fn write_config(
    launch: &Launch,
    bytes: &[u8],
    source: Source,
    expected: Expected,
    now: WallMs,
) -> Result<Written, WriteError> {
    if bytes.len() > MAX_BYTES {
        return Err(WriteError::TooLarge { bytes: bytes.len() });
    }
    let store = ConfigStore::open(&launch.state_dir).map_err(WriteError::Keep)?;
    let held = store.hold().map_err(WriteError::Keep)?;
    let path = &launch.config_path;
    let current = config_file::read_current(launch)?;
    let hash = current.as_ref().map(|current| content_hash(&current.bytes));
    if let Expected::Exactly(expected) = expected
        && expected != hash
    {
        return Err(WriteError::Changed(path.clone()));
    }
    if let Some(names) = current.as_ref().map(|current| current.names)
        && names > 1
    {
        return Err(WriteError::HardLink {
            path: path.clone(),
            names,
        });
    }
    if current.as_ref().is_some_and(|it| it.bytes == bytes) {
        return Ok(Written::Unchanged);
    }
    let previous = match &current {
        Some(current) => Some(
            held.keep(&current.bytes, Source::Found, now)
                .map_err(WriteError::Keep)?,
        ),
        None => None,
    };
    let not_durable = replace(launch, bytes, current.as_ref())?;
    Ok(Written::Replaced {
        previous,
        kept: held.keep(bytes, source, now),
        not_durable,
    })
}

/// Temporary file, fsync, rename, fsync of the folder. An answer is the failure of that last step alone.
fn replace(
    launch: &Launch,
    bytes: &[u8],
    current: Option<&Current>,
) -> Result<Option<FileError>, WriteError> {
    let (folder, name) = config_file::open_folder(launch).map_err(WriteError::Write)?;
    let mut temporary = temporary_prefix(&name);
    sweep_temporaries(&folder, &temporary);
    temporary.push(std::process::id().to_string());
    let file = folder
        .create_new(&temporary, 0o600)
        .map_err(WriteError::Write)?;
    // Nobody sweeps away what is held.
    let _ = state::try_hold(&file);
    let done = fill(launch, &file, &folder, &temporary, bytes, current)
        .map_err(WriteError::Write)
        .and_then(|()| take_its_place(launch, &folder, &temporary, &name, current));
    if let Err(error) = done {
        let _ = folder.remove(&temporary);
        return Err(error);
    }
    let durable = nix::unistd::fsync(folder.fd());
    Ok(durable.err().map(|errno| FileError {
        operation: "fsync the folder of",
        path: launch.config_path.clone(),
        errno,
    }))
}

fn fill(
    launch: &Launch,
    mut file: &File,
    folder: &Folder,
    name: &OsStr,
    bytes: &[u8],
    current: Option<&Current>,
) -> Result<(), FileError> {
    let failed = |operation, errno| FileError {
        operation,
        path: folder.path().join(name),
        errno,
    };
    let (owner, mode) = owner_and_mode(launch, current);
    if let Some(FileOwner { uid, gid }) = owner {
        fchown(file.as_fd(), Some(uid.into()), Some(gid.into()))
            .map_err(|errno| failed("change the owner of", errno))?;
    }
    fchmod(file.as_fd(), Mode::from_bits_truncate(mode))
        .map_err(|errno| failed("change the mode of", errno))?;
    file.write_all(bytes)
        .map_err(|error| failed("write", errno_of(&error)))?;
    nix::unistd::fsync(file.as_fd()).map_err(|errno| failed("fsync", errno))
}

/// In the state folder a config is the gateway's alone. Elsewhere somebody chose its owner and mode: they stay.
fn owner_and_mode(launch: &Launch, current: Option<&Current>) -> (Option<FileOwner>, u32) {
    match current {
        Some(current) if !launch.config_path.starts_with(&launch.state_dir) => {
            let is_root = nix::unistd::geteuid().is_root();
            (is_root.then_some(current.owner), current.mode)
        }
        Some(_) | None => (launch.account.file_owner(), 0o600),
    }
}

/// Renames over exactly the file that was read and kept.
fn take_its_place(
    launch: &Launch,
    folder: &Folder,
    temporary: &OsStr,
    name: &OsStr,
    current: Option<&Current>,
) -> Result<(), WriteError> {
    let now = match folder.stat_of(name) {
        Ok(stat) => Some(Seen::of(&stat)),
        Err(error) if error.errno == Errno::ENOENT => None,
        Err(error) => return Err(WriteError::Write(error)),
    };
    let path = &launch.config_path;
    if now != current.map(|current| current.seen) {
        return Err(WriteError::Changed(path.clone()));
    }
    folder
        .move_to(temporary, folder, name)
        .map_err(|error| match error.errno {
            Errno::EBUSY => WriteError::Mounted(path.clone()),
            _ => WriteError::Write(error),
        })
}

/// Beside the config, so that a rename is all it takes.
fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(TEMPORARY);
    prefix
}

/// Removes what a clawkeeper that was killed left beside the config. A living one holds its own.
fn sweep_temporaries(folder: &Folder, prefix: &OsStr) {
    for name in folder.names(MAX_SWEPT).unwrap_or_default() {
        let is_ours = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit));
        if is_ours && folder.open_file(&name).is_ok_and(|it| state::try_hold(&it)) {
            let _ = folder.remove(&name);
        }
    }
}

#[cfg(test)]
#[path = "config_store_tests.rs"]
mod tests;
