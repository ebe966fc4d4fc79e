//! Looks at the config and everything it includes while the gateway runs, and compares it with the look before.
//!
//! Reads what the gateway may own: each included file is reached from a folder that it may lie in, name by name,
//! and never through a link. Writes nothing but owners and times.

use super::config_file::{self, Seen};
use super::folder::{FileError, Folder};
use super::launch::Launch;
use super::volume;
use crate::core::config::ConfigState;
use crate::core::event::Mended;
use crate::core::reload::{Digest, Look};
use crate::gateway::config::{
    self, MAX_INCLUDE_BYTES, MAX_INCLUDE_DEPTH, MAX_INCLUDE_PATH, MAX_INCLUDES,
};
use nix::errno::Errno;
use nix::sys::stat::{futimens, lstat};
use nix::sys::time::TimeSpec;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Component, Path, PathBuf};

/// How the gateway names what it replaced: the newest, and up to four older ones (7.1 and 9.6).
const BACKUPS: [&str; 5] = [".bak", ".bak.1", ".bak.2", ".bak.3", ".bak.4"];
/// The gateway's own copy of a config it has accepted.
const LAST_GOOD: &str = ".last-good";

/// What was seen last, and the key of its fingerprints.
#[derive(Debug, Clone, Default)]
pub struct Looker {
    key: RandomState,
    /// Of the config file alone.
    main: Option<Digest>,
    /// The config with its includes.
    value: Value,
    bytes: Option<Digest>,
    files: Vec<(PathBuf, Option<Seen>)>,
}

/// One look's way through the files.
struct Reader<'a> {
    /// Where included files may lie.
    roots: Vec<PathBuf>,
    key: &'a RandomState,
    digest: u64,
    files: Vec<PathBuf>,
    reads: usize,
}

/// Why an include cannot be used, in words.
struct Bad(String);

impl From<&'static str> for Bad {
    fn from(text: &'static str) -> Self {
        Self(text.to_owned())
    }
}

impl Looker {
    /// Looks, after giving to the gateway's uid what root left unreadable.
    pub fn look(&mut self, launch: &Launch, expected_port: Option<u16>) -> (Look, Option<Mended>) {
        let mut known: Vec<PathBuf> = self.paths();
        known.push(launch.config_path.clone());
        let mut mended = volume::mend_files(launch, &known);
        if mended.is_some() {
            // The gateway may have tried to read it before it could, and does not notice a change of owner.
            touch(launch);
        }
        let mut look = self.look_once(launch, expected_port);
        // An include that is new to us may be root's as well.
        let more = volume::mend_files(launch, &self.paths());
        if more.is_some() {
            look = self.look_once(launch, expected_port);
            mended = mended.or(more);
        }
        (look, mended)
    }

    /// The files the last look read.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }

    /// The last config that parsed, with its includes.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// True when a file is another one than at the last look, by its stamp.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.files.iter().any(|(path, seen)| stamp(path) != *seen)
    }

    /// The config file's bytes, if all files together are still what the fingerprint was taken of.
    #[must_use]
    pub fn main_if_still(&self, launch: &Launch, bytes: Digest) -> Option<Vec<u8>> {
        if self.bytes != Some(bytes) {
            return None;
        }
        let current = config_file::read_current(launch).ok().flatten()?;
        (!self.is_outdated()).then_some(current.bytes)
    }

    /// Sets the config's times to now, unless it changed since the last look. A link is left alone.
    pub fn touch(&self, launch: &Launch) {
        let unchanged = self
            .files
            .first()
            .is_some_and(|(path, seen)| stamp(path) == *seen);
        if unchanged {
            touch(launch);
        }
    }

    fn look_once(&mut self, launch: &Launch, expected_port: Option<u16>) -> Look {
        let path = &launch.config_path;
        let mut reader = Reader::new(launch, &self.key);
        let found = config_file::read_current(launch);
        let main = match &found {
            Ok(Some(current)) => self.key.hash_one(&current.bytes),
            Ok(None) => self.key.hash_one("none"),
            Err(unusable) => self.key.hash_one(unusable.to_string()),
        };
        reader.add(main);
        let (state, value) = match found {
            Ok(None) => (ConfigState::Missing, Value::Null),
            Err(unusable) => (unusable.into(), Value::Null),
            Ok(Some(current)) => match config::parse(&current.bytes) {
                Err(error) => {
                    let error = error.report(path);
                    (ConfigState::Broken { error }, Value::Null)
                }
                Ok(parsed) => {
                    let chain = &mut vec![path.clone()];
                    match reader.expand(parsed.value.clone(), 0, chain) {
                        Ok(value) => (config_file::examine(launch, &parsed, expected_port), value),
                        Err(Bad(error)) => (ConfigState::Broken { error }, Value::Null),
                    }
                }
            },
        };
        let bytes = Digest(reader.digest);
        let is_good = matches!(state, ConfigState::Parsed { .. });
        let meaning = if is_good {
            let text = serde_json::to_vec(&config::meaning(&value)).unwrap_or_default();
            Digest(self.key.hash_one(text))
        } else {
            bytes
        };
        let files = reader.files;
        let beside = self.beside(launch, Digest(main));
        let look = Look {
            path: path.clone(),
            bytes,
            meaning,
            reload_is_off: config::reload_is_off(&value),
            log_is_quiet: config::log_is_quiet(&value) || is_quiet(launch),
            changed: config::changed_keys(&self.value, &value),
            is_gateways_own: beside.0,
            is_taken: beside.1,
            state,
        };
        if self.bytes != Some(bytes) && is_good {
            (self.main, self.value) = (Some(Digest(main)), value);
        }
        self.bytes = Some(bytes);
        self.files = stamped(files);
        look
    }

    /// Whether the gateway's backup is what stood there at the last look, and whether its last good one is what
    /// stands there now.
    fn beside(&self, launch: &Launch, main: Digest) -> (bool, bool) {
        let Ok((folder, name)) = config_file::open_folder(launch) else {
            return (false, false);
        };
        let holds = |suffix: &str, digest: Digest| {
            let mut name: OsString = name.clone();
            name.push(suffix);
            let bytes = folder.read(&name, config::MAX_BYTES);
            bytes.is_ok_and(|bytes| Digest(self.key.hash_one(bytes)) == digest)
        };
        let before = self.main.filter(|before| *before != main);
        let is_own = before.is_some_and(|before| BACKUPS.iter().any(|name| holds(name, before)));
        (is_own, holds(LAST_GOOD, main))
    }
}

/// A config with what it includes, if that can all be read; and the files it is made of, as they now are.
#[must_use]
pub fn with_includes(
    launch: &Launch,
    config: Option<&Value>,
) -> (Option<Value>, Vec<(PathBuf, Option<Seen>)>) {
    let path = &launch.config_path;
    let key = RandomState::new();
    let mut reader = Reader::new(launch, &key);
    let whole = config.and_then(|config| {
        reader
            .expand(config.clone(), 0, &mut vec![path.clone()])
            .ok()
    });
    (whole, stamped(reader.files))
}

fn stamped(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<Seen>)> {
    let with_stamp = |path: PathBuf| {
        let stamp = stamp(&path);
        (path, stamp)
    };
    files.into_iter().map(with_stamp).collect()
}

impl<'a> Reader<'a> {
    fn new(launch: &Launch, key: &'a RandomState) -> Self {
        Self {
            roots: roots(launch),
            key,
            digest: 0,
            files: vec![launch.config_path.clone()],
            reads: 0,
        }
    }

    fn add(&mut self, of: u64) {
        self.digest = self.key.hash_one((self.digest, of));
    }

    fn expand(
        &mut self,
        value: Value,
        depth: usize,
        chain: &mut Vec<PathBuf>,
    ) -> Result<Value, Bad> {
        config::expand(value, depth, &mut |path, depth| {
            self.load(path, depth, chain)
        })
    }

    fn load(&mut self, path: &str, depth: usize, chain: &mut Vec<PathBuf>) -> Result<Value, Bad> {
        let from = chain.last().cloned().unwrap_or_default();
        let bad = |what: &str| {
            Bad(format!(
                "$include of {} in {}: {what}",
                path.escape_debug(),
                from.display()
            ))
        };
        if path.contains('\0') || path.len() >= MAX_INCLUDE_PATH {
            return Err(bad("no path of a file"));
        }
        let full = normal(&from.parent().unwrap_or(Path::new("/")).join(path));
        let Some(root) = self
            .roots
            .iter()
            .find(|root| full.starts_with(root))
            .cloned()
        else {
            return Err(bad("it lies outside the config's folder"));
        };
        if chain.contains(&full) {
            return Err(bad("it includes itself"));
        }
        if chain.len() > MAX_INCLUDE_DEPTH {
            return Err(bad("includes are nested too deep"));
        }
        // Counted by reads: one that is included twice, and so on, would be read a million times.
        self.reads += 1;
        if self.reads > MAX_INCLUDES {
            return Err(bad("too many files are included"));
        }
        if !self.files.contains(&full) {
            self.files.push(full.clone());
        }
        let bytes = match read_below(&root, &full) {
            Ok(bytes) => bytes,
            // The gateway follows links that stay inside; we do not, and leave the judgement to it.
            Err(FileError {
                errno: Errno::ELOOP | Errno::ENOTDIR | Errno::EMLINK,
                ..
            }) => {
                self.add(self.key.hash_one(format!("{:?}", stamp(&full))));
                return Ok(Value::Object(serde_json::Map::new()));
            }
            Err(error) => {
                self.add(self.key.hash_one(error.errno as i32));
                return Err(bad(error.errno.desc()));
            }
        };
        self.add(self.key.hash_one(&bytes));
        let parsed = config::parse(&bytes).map_err(|error| Bad(error.report(&full)))?;
        chain.push(full);
        let value = self.expand(parsed.value, depth, chain);
        chain.pop();
        value
    }
}

/// Sets the config's times to now. One that cannot be opened or is a link is left alone.
fn touch(launch: &Launch) {
    let touched = config_file::open_folder(launch)
        .and_then(|(folder, name)| folder.open_file(&name))
        .map(|file| futimens(&file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW));
    tracing::debug!("config touched: {touched:?}");
}

/// Reads a file below a folder; `ELOOP` where a link is on the way, `EMLINK` for a file with several names.
fn read_below(root: &Path, full: &Path) -> Result<Vec<u8>, FileError> {
    let below = full.strip_prefix(root).unwrap_or(full);
    let mut folder = Folder::open(root)?;
    let steps: Vec<&OsStr> = below.iter().collect();
    let Some((name, folders)) = steps.split_last() else {
        return Err(FileError {
            operation: "read",
            path: full.to_owned(),
            errno: Errno::EISDIR,
        });
    };
    for step in folders {
        folder = folder.child(step)?;
    }
    if folder.stat_of(name)?.st_nlink > 1 {
        return Err(FileError {
            operation: "read",
            path: full.to_owned(),
            errno: Errno::EMLINK,
        });
    }
    folder.read(name, MAX_INCLUDE_BYTES)
}

/// The config's folder, and what `OPENCLAW_INCLUDE_ROOTS` adds to it.
fn roots(launch: &Launch) -> Vec<PathBuf> {
    let own = launch.config_path.parent().map(normal);
    let more = launch
        .value_of("OPENCLAW_INCLUDE_ROOTS")
        .unwrap_or_default();
    let more: Vec<PathBuf> = std::env::split_paths(&more)
        .filter(|root| root.is_absolute())
        .map(|root| normal(&root))
        .collect();
    own.into_iter().chain(more).collect()
}

/// The gateway's environment overrides the level its config sets.
fn is_quiet(launch: &Launch) -> bool {
    let level = launch.value_of("OPENCLAW_LOG_LEVEL").unwrap_or_default();
    matches!(level.to_str(), Some("silent" | "fatal" | "error" | "warn"))
}

/// Without `.` and `..`, by the names alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// What the kernel says of a file, or of a link itself; `None` when there is none.
#[must_use]
pub fn stamp(path: &Path) -> Option<Seen> {
    lstat(path).ok().map(|stat| Seen::of(&stat))
}

#[cfg(test)]
mod tests;
