//! The folder of incidents: `<state>/clawkeeper/incidents/<time>-<class>.json`, the newest [`FILES_MAX`] of them.
//!
//! Never follows a link, never fills the volume, never keeps a secret that it can tell. Blocks as long as the
//! disk does: run it where that hurts nobody.

use super::dumps;
use super::folder::{FileError, Folder};
use super::launch::Launch;
use super::secrets;
use super::state;
use super::volume;
use crate::core::incident::{self, FILE_MAX_BYTES, FILES_MAX, Incident, MemoryStory, NoRoom};
use crate::core::memory::Point;
use crate::core::time::{Millis, WallMs};
use crate::render;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const FOLDER: &str = "incidents";
/// `2026-11-20T04:58:20.966Z` with signs that every file system takes.
const TIME_LENGTH: usize = 24;
const SUFFIX: &str = ".json";
/// A folder with more names than this is not ours any more; the rest is left alone.
const NAMES_MAX: usize = 2000;
/// Reading takes more than was written, for a file of a later version.
const READ_MAX_BYTES: usize = 1 << 20;

/// An incident as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When, by the wall clock, in milliseconds after 1970.
    pub time: WallMs,
    /// The word of the class.
    pub class: String,
    /// The line that was logged.
    pub line: String,
    /// The clawkeeper that wrote it.
    pub clawkeeper_version: String,
    /// The gateway, where its version is known.
    pub gateway_version: Option<String>,
    /// Which start since clawkeeper's own.
    pub attempt: u64,
    /// The gateway's main process.
    pub pid: i32,
    /// From its start to the incident.
    pub uptime: Millis,
    /// Whether it had been ready.
    pub was_ready: bool,
    /// What memory had to do with it.
    pub memory: MemoryStory,
    /// Memory over its life, oldest first.
    pub history: Vec<Past>,
    /// What node wrote when it ran out of heap (`--heap-dump`).
    #[serde(default)]
    pub dumps: Vec<String>,
    /// The gateway's last lines, secrets masked.
    pub output: Vec<String>,
}

/// Memory within one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// How long before the incident the stretch begins.
    pub before: Millis,
    /// The least of the gateway's tree, in KiB.
    pub tree_low_kib: u32,
    /// The most.
    pub tree_high_kib: u32,
    /// The least that was available, in KiB.
    pub available_low_kib: u32,
}

/// Why an incident is not kept, or cannot be read. Completes "failed to keep it:".
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The volume is nearly full.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Not one of ours, or cut.
    #[error("{}: not an incident: {source}", .path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Writes an incident, and removes what there is too much of. Returns its file.
///
/// # Errors
/// No room, or a failed call. Nothing is left half written.
pub fn keep(
    launch: &Launch,
    incident: &Incident,
    tail: &[u8],
    now: WallMs,
) -> Result<PathBuf, IncidentError> {
    let mut kept = Kept::of(launch, incident, now);
    kept.output = masked(launch, tail);
    let bytes = kept.fit();
    let private = state::open_private(&Folder::open(&launch.state_dir)?)?;
    let space = volume::space(private.path());
    incident::room_for(bytes.len() as u64, space)?;
    let folder = private.child_or_create(OsStr::new(FOLDER), 0o700)?;
    make_room(&folder)?;
    let name = format!("{}-{}{SUFFIX}", file_time(now), incident.class);
    folder.replace(OsStr::new(&name), &bytes, 0o600, None)?;
    Ok(folder.path().join(name))
}

/// The ids of what is kept, the newest first, as many as a clawkeeper keeps. None where none has written any.
///
/// # Errors
/// A folder that is there and cannot be read.
pub fn list(state_dir: &Path) -> Result<Vec<String>, FileError> {
    let Some(folder) = existing(state_dir)? else {
        return Ok(Vec::new());
    };
    let mut ids = ids(&folder)?;
    ids.reverse();
    // More were put there by somebody else, perhaps to fill the memory of whoever reads them all.
    ids.truncate(FILES_MAX);
    Ok(ids)
}

/// Reads one.
///
/// # Errors
/// It is gone, or it is not what we write.
pub fn read(state_dir: &Path, id: &str) -> Result<Kept, IncidentError> {
    let name = format!("{id}{SUFFIX}");
    let missing = || FileError {
        operation: "open",
        path: state_dir.join(&name),
        errno: nix::errno::Errno::ENOENT,
    };
    // An id comes from a person: it names a file in this folder and none elsewhere.
    let class = class_of(&name).ok_or_else(missing)?;
    let folder = existing(state_dir)?.ok_or_else(missing)?;
    let bytes = folder.read(OsStr::new(&name), READ_MAX_BYTES)?;
    let kept = serde_json::from_slice(&bytes).map_err(|source| IncidentError::Unreadable {
        path: folder.path().join(&name),
        source,
    });
    // A word, where a file that is not ours may have any text.
    let class = class.to_owned();
    kept.map(|kept| Kept { class, ..kept })
}

impl Kept {
    /// What a list says of it, for programs. No line of output is in it.
    #[must_use]
    pub fn summary(&self, number: usize, id: &str) -> Value {
        json!({
            "number": number,
            "id": id,
            "time": self.utc(),
            "class": self.class,
            "uptime_ms": self.uptime,
            "line": self.line,
        })
    }

    /// `2026-11-21 12:20:01Z`.
    #[must_use]
    pub fn utc(&self) -> String {
        render::utc_seconds(self.time).replace('T', " ")
    }

    fn of(launch: &Launch, incident: &Incident, now: WallMs) -> Self {
        let past = |point: &Point| Past {
            before: incident.at.since(point.at),
            tree_low_kib: point.tree_low.0,
            tree_high_kib: point.tree_high.0,
            available_low_kib: point.available_low.0,
        };
        Self {
            time: now,
            class: incident.class.clone(),
            line: render::report(&incident.report).to_text(),
            clawkeeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway_version: launch.version.map(|version| version.to_string()),
            attempt: incident.attempt.0,
            pid: incident.pid,
            uptime: incident.uptime,
            was_ready: incident.was_ready,
            memory: incident.memory.clone(),
            history: incident.history.iter().map(past).collect(),
            dumps: dumps::written_since(launch, now.0.saturating_sub(incident.uptime.0))
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect(),
            output: Vec::new(),
        }
    }

    /// As JSON within the bound: the oldest lines of output give way.
    fn fit(&mut self) -> Vec<u8> {
        loop {
            // A struct of numbers and text always is JSON; a path that is no text would not be.
            let bytes = serde_json::to_vec_pretty(&self).unwrap_or_default();
            if bytes.len() <= FILE_MAX_BYTES || self.output.is_empty() {
                return bytes;
            }
            let too_many = self.output.len().div_ceil(4);
            self.output.drain(..too_many);
        }
    }
}

/// The gateway's last lines, fit to be kept.
fn masked(launch: &Launch, tail: &[u8]) -> Vec<String> {
    let mask = secrets::mask(launch);
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<String> = text.lines().map(render::plain).collect();
    mask.lines(lines.iter().map(String::as_str))
}

/// Removes files of ours until one more fits the bound, and what a killed clawkeeper left half written.
fn make_room(folder: &Folder) -> Result<(), FileError> {
    for name in folder.names(NAMES_MAX)? {
        if name.to_string_lossy().contains(".json.tmp-") {
            folder.remove(&name)?;
        }
    }
    let ids = ids(folder)?;
    let classes: Vec<&str> = ids.iter().map(|id| &id[TIME_LENGTH + 1..]).collect();
    for place in incident::to_remove(&classes) {
        folder.remove(OsStr::new(&format!("{}{SUFFIX}", ids[place])))?;
    }
    Ok(())
}

/// Oldest first: the time leads the name.
fn ids(folder: &Folder) -> Result<Vec<String>, FileError> {
    let mut ids: Vec<String> = folder
        .names(NAMES_MAX)?
        .into_iter()
        .filter_map(|name| {
            let name = name.to_str()?;
            class_of(name)?;
            name.strip_suffix(SUFFIX).map(str::to_owned)
        })
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The class in the name of a file of ours.
fn class_of(name: &str) -> Option<&str> {
    let (time, class) = name.strip_suffix(SUFFIX)?.split_at_checked(TIME_LENGTH)?;
    let is_time = time
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"-.TZ".contains(&byte));
    let class = class.strip_prefix('-').filter(|_| is_time)?;
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (!class.is_empty() && class.bytes().all(is_word)).then_some(class)
}

fn file_time(now: WallMs) -> String {
    render::utc_millis(now).replace(':', "-")
}

/// The folder if there is one, for reading what is in it and trusting none of it; looking makes none.
fn existing(state_dir: &Path) -> Result<Option<Folder>, FileError> {
    use nix::errno::Errno;
    let Some(private) = state::readable_private(state_dir)? else {
        return Ok(None);
    };
    match private.child(OsStr::new(FOLDER)) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "incidents_tests.rs"]
mod tests;
