//! Replaces a config whole or not at all.

use super::super::config_file::{self, Current, Seen};
use super::super::folder::{FileError, FileOwner, Folder, errno_of};
use super::super::launch::Launch;
use super::super::state;
use super::versions::ConfigStore;
use crate::core::config_history::{ContentHash, Source, Version};
use crate::core::time::WallMs;
use crate::gateway::config::{MAX_BYTES, content_hash};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchown;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// So many names beside the config are looked through for what a killed clawkeeper left.
const MAX_SWEPT: usize = 10_000;
/// Part of the name under which a config is written before it takes its own.
const TEMPORARY: &str = ".clawkeeper-new-";

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
        names: nix::libc::nlink_t,
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
    // A first config may come before the first start.
    state::open_or_create(&launch.state_dir, launch.account.file_owner())
        .map_err(WriteError::Write)?;
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
    if let Some(current) = &current {
        may_be_replaced(launch, current)?;
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

/// Refuses a file with several names: only one of them would change, and the other may be anybody's.
pub fn may_be_replaced(launch: &Launch, current: &Current) -> Result<(), WriteError> {
    if current.names > 1 {
        return Err(WriteError::HardLink {
            path: launch.config_path.clone(),
            names: current.names,
        });
    }
    Ok(())
}

/// Lets somebody read a config that is not in its place yet, from a file beside that place.
pub fn with_draft<T>(
    launch: &Launch,
    bytes: &[u8],
    read: impl FnOnce(&Path) -> T,
) -> Result<T, FileError> {
    let beside = {
        // Whoever sweeps holds the store; a first draft of all has nobody beside it.
        let store = ConfigStore::existing(&launch.state_dir)?;
        let _held = store.as_ref().map(ConfigStore::hold).transpose()?;
        Beside::write(launch, bytes, None)?
    };
    let result = read(&beside.folder.path().join(&beside.name));
    beside.remove();
    Ok(result)
}

/// Temporary file, fsync, rename, fsync of the folder. An answer is the failure of that last step alone.
fn replace(
    launch: &Launch,
    bytes: &[u8],
    current: Option<&Current>,
) -> Result<Option<FileError>, WriteError> {
    let beside = Beside::write(launch, bytes, current).map_err(WriteError::Write)?;
    if let Err(error) = beside.take_the_place(launch, current) {
        beside.remove();
        return Err(error);
    }
    let durable = nix::unistd::fsync(beside.folder.fd());
    Ok(durable.err().map(|errno| FileError {
        operation: "fsync the folder of",
        path: launch.config_path.clone(),
        errno,
    }))
}

/// A new config beside the one it may replace, durable and whole, in a name of its own.
struct Beside {
    folder: Folder,
    name: OsString,
    /// Held, so that nobody sweeps it away.
    _file: File,
}

impl Beside {
    /// To be called by whoever holds the store: between its creation and its lock a file could be swept away.
    fn write(launch: &Launch, bytes: &[u8], current: Option<&Current>) -> Result<Self, FileError> {
        let (folder, config) = config_file::open_folder(launch)?;
        let mut name = temporary_prefix(&config);
        sweep_temporaries(&folder, &name);
        name.push(std::process::id().to_string());
        let file = folder.create_new(&name, 0o600)?;
        let _ = state::try_hold(&file);
        let filled = fill(launch, &file, &folder, &name, bytes, current);
        let beside = Self {
            folder,
            name,
            _file: file,
        };
        match filled {
            Ok(()) => Ok(beside),
            Err(error) => {
                beside.remove();
                Err(error)
            }
        }
    }

    /// Renames over exactly the file that was read and kept.
    fn take_the_place(&self, launch: &Launch, current: Option<&Current>) -> Result<(), WriteError> {
        let path = &launch.config_path;
        let config = path.file_name().unwrap_or_default();
        let now = match self.folder.stat_of(config) {
            Ok(stat) => Some(Seen::of(&stat)),
            Err(error) if error.errno == Errno::ENOENT => None,
            Err(error) => return Err(WriteError::Write(error)),
        };
        if now != current.map(|current| current.seen) {
            return Err(WriteError::Changed(path.clone()));
        }
        self.folder
            .move_to(&self.name, &self.folder, config)
            .map_err(|error| match error.errno {
                Errno::EBUSY => WriteError::Mounted(path.clone()),
                _ => WriteError::Write(error),
            })
    }

    /// Not worth an error: the next one sweeps what is left.
    fn remove(&self) {
        let _ = self.folder.remove(&self.name);
    }
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
