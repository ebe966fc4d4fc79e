//! Puts the last good config in the place of one that cannot be used, and remembers it until that is repaired.
//!
//! The broken file is kept twice: as a version, and beside the config where its owner will look for it.

use super::config_file;
use super::config_store::{ConfigStore, Expected, Written, write_config};
use super::folder::{FileError, Folder};
use super::launch::Launch;
use super::state;
use crate::core::config_history::{ContentHash, Source};
use crate::core::time::WallMs;
use crate::gateway::config::{MAX_BYTES, content_hash};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

const RECORD: &str = "rolled-back.json";
const RECORD_MAX_BYTES: usize = 8192;
/// More broken configs than this are not kept beside it, only as versions.
const MAX_BROKEN: u32 = 9;

/// What stands in our folder while a roll-back is not repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Where the broken config is.
    broken: PathBuf,
    /// What was put in its place.
    good: ContentHash,
}

/// Rolls back and answers where the broken config is kept.
///
/// Killed at any instruction the config is the broken one or the good one, whole, and the broken one is kept
/// before it is replaced.
pub fn roll_back(launch: &Launch, now: WallMs) -> Result<PathBuf, String> {
    let text = |error: &dyn std::error::Error| config_file::chain(error);
    let store = ConfigStore::existing(&launch.state_dir).map_err(|error| text(&error))?;
    let none = || "no config is known to be good yet".to_owned();
    let store = store.ok_or_else(none)?;
    let (version, _) = store.last_good().ok_or_else(none)?;
    let good = store.read(&version).map_err(|error| text(&error))?;
    let current = config_file::read_current(launch).map_err(|error| text(&error))?;
    let current = current.ok_or_else(|| "the broken config is gone".to_owned())?;
    let hash = content_hash(&current.bytes);
    if hash == version.hash {
        return Err("it is the last good one".to_owned());
    }
    let broken = keep_beside(launch, &current.bytes).map_err(|error| text(&error))?;
    let record = Record {
        broken: broken.clone(),
        good: version.hash,
    };
    write_record(launch, &record).map_err(|error| text(&error))?;
    let expected = Expected::Exactly(Some(hash));
    let written = write_config(launch, &good, Source::Rollback, expected, now)
        .map_err(|error| text(&error))?;
    match written {
        Written::Replaced { .. } | Written::Unchanged => Ok(broken),
    }
}

/// Where the broken config is kept, while the config is still what was put in its place.
#[must_use]
pub fn standing(launch: &Launch, config: &[u8]) -> Option<PathBuf> {
    let folder = state::existing_private(&Folder::open(&launch.state_dir).ok()?).ok()?;
    let bytes = folder.read(OsStr::new(RECORD), RECORD_MAX_BYTES).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (content_hash(config) == record.good).then_some(record.broken)
}

/// Forgets a roll-back: the config is another one by now.
pub fn forget(launch: &Launch) {
    let folder = Folder::open(&launch.state_dir).and_then(|state| state::existing_private(&state));
    // There is nothing to forget most of the time, and on a frozen file system even the removal of nothing waits.
    if let Ok(folder) = folder
        && folder.stat_of(OsStr::new(RECORD)).is_ok()
    {
        let _ = folder.remove(OsStr::new(RECORD));
    }
}

/// Copies the broken config to `NAME.broken`, or a numbered one, and never over another.
fn keep_beside(launch: &Launch, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let (folder, name) = config_file::open_folder(launch)?;
    let numbers = std::iter::once(String::new()).chain((1..MAX_BROKEN).map(|n| format!("-{n}")));
    let mut taken = None;
    for number in numbers {
        let mut copy: OsString = name.clone();
        copy.push(".broken");
        copy.push(number);
        let path = launch.config_path.with_file_name(&copy);
        match folder.write_new(&copy, bytes, 0o600, launch.account.file_owner()) {
            Ok(()) => return Ok(path),
            Err(error) if error.errno == Errno::EEXIST => {
                let same = folder
                    .read(&copy, MAX_BYTES)
                    .is_ok_and(|kept| kept == bytes);
                if same {
                    return Ok(path);
                }
                taken = Some(error);
            }
            Err(error) => {
                let _ = folder.remove(&copy);
                return Err(error);
            }
        }
    }
    Err(taken.unwrap_or(FileError {
        operation: "keep",
        path: launch.config_path.clone(),
        errno: Errno::EEXIST,
    }))
}

fn write_record(launch: &Launch, record: &Record) -> Result<(), FileError> {
    let text = serde_json::to_vec(record).unwrap_or_default();
    let folder = state::open_private(&Folder::open(&launch.state_dir)?)?;
    folder.replace(OsStr::new(RECORD), &text, 0o600, None)
}
