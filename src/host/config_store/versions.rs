//! The versions: listed, read, kept within bounds, and one of them marked as good.

use super::super::folder::{FileError, Folder};
use super::super::state;
use crate::core::config_history::{self, ContentHash, Source, Version};
use crate::core::time::WallMs;
use crate::gateway::config::{MAX_BYTES, content_hash};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;

const FOLDER: &str = "config";
const DRAFT: &str = "draft-";
const GOOD: &str = "last-good.json";
const GOOD_MAX_BYTES: usize = 4096;
/// More names than the bounds of the history allow are somebody else's, or a pruning that keeps failing.
const MAX_NAMES: usize = 1000;
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

/// The store with every other clawkeeper kept out.
#[derive(Debug)]
pub(super) struct Held<'a> {
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

    /// The draft of an edit that was refused, and what it was made from.
    #[must_use]
    pub fn draft(&self) -> Option<(Option<ContentHash>, Vec<u8>)> {
        let names = self.folder.names(MAX_NAMES).ok()?;
        names.into_iter().find_map(|name| {
            let base = name.to_str()?.strip_prefix(DRAFT)?;
            let base = match base.strip_suffix(".json5")? {
                "nothing" => None,
                hash => Some(ContentHash::from_hex(hash)?),
            };
            Some((base, self.folder.read(&name, MAX_BYTES + 1).ok()?))
        })
    }

    /// Keeps a draft in the place of any other.
    pub fn keep_draft(&self, base: Option<ContentHash>, bytes: &[u8]) -> Result<(), FileError> {
        let _held = self.hold()?;
        self.drop_drafts()?;
        let base = base.map_or_else(|| "nothing".to_owned(), |hash| hash.to_string());
        let name = OsString::from(format!("{DRAFT}{base}.json5"));
        self.folder.replace(&name, bytes, 0o600, None)
    }

    /// Throws away any draft.
    pub fn drop_drafts(&self) -> Result<(), FileError> {
        let names = self.folder.names(MAX_NAMES)?;
        let is_draft = |name: &&OsString| name.to_string_lossy().starts_with(DRAFT);
        names
            .iter()
            .filter(is_draft)
            .try_for_each(|name| self.folder.remove(name))
    }

    pub(super) fn hold(&self) -> Result<Held<'_>, FileError> {
        Ok(Held {
            store: self,
            _lock: state::hold(&self.folder)?,
        })
    }
}

impl Held<'_> {
    pub(super) fn keep(
        &self,
        bytes: &[u8],
        source: Source,
        now: WallMs,
    ) -> Result<Version, FileError> {
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
