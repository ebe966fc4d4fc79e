//! The gateway's output on the volume: `output.log` in our folder, and `output.1.log`, which came before.
//!
//! Lines are written in batches on the records' thread, each with its time, without escape sequences, and with every
//! secret masked that can be told. A line that comes too fast or finds a full disk is counted, not waited for.

use super::clock;
use super::folder::{FileError, Folder};
use super::launch::Launch;
use super::ring::Ring;
use super::secrets::Secrets;
use super::volume;
use crate::core::incident;
use crate::core::output::LINE_MAX_BYTES;
use crate::core::pending::Pending;
use crate::core::time::WallMs;
use crate::gateway::PrivateKey;
use crate::render;
use std::fmt::Write as _;
use std::sync::Arc;

/// How a line of ours between the gateway's begins: it is never a part of theirs.
pub const OWN: &str = "clawkeeper: ";
/// Of the time and the blank before each line.
const TIME_BYTES: usize = 25;

/// The files, which together hold this much.
#[must_use]
pub const fn ring(max_bytes: u64) -> Ring {
    Ring {
        current: "output.log",
        previous: "output.1.log",
        max_bytes: max_bytes / 2,
    }
}

/// The time that a line begins with, and the line after it; `None` for a line that is not ours.
#[must_use]
pub fn parse(line: &str) -> Option<(WallMs, &str)> {
    let (time, text) = line.split_at_checked(TIME_BYTES)?;
    let time = humantime::parse_rfc3339(time.strip_suffix(' ')?).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((WallMs(u64::try_from(since.as_millis()).ok()?), text))
}

/// Writes batches.
#[derive(Debug)]
pub struct Output {
    launch: Arc<Launch>,
    ring: Ring,
    secrets: Secrets,
    key: PrivateKey,
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The volume is nearly full; what is left is the gateway's.
    #[error(transparent)]
    NoRoom(#[from] incident::NoRoom),
}

impl Output {
    pub(super) fn new(launch: Arc<Launch>, max_bytes: u64) -> Self {
        Self {
            launch,
            ring: ring(max_bytes),
            secrets: Secrets::default(),
            key: PrivateKey::default(),
        }
    }

    pub(super) fn write(&mut self, folder: &Folder, batch: &Pending) -> Result<(), OutputError> {
        let mut text = String::with_capacity(batch.len_bytes() + batch.len_bytes() / 2);
        if batch.lost() > 0 {
            let first = batch.lines().next();
            let at = first.map_or_else(clock::wall, |(at, _)| at);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{} {OWN}{} lines of output were not kept: they came too fast, or the disk was slow or full",
                render::utc_millis(at),
                batch.lost(),
            );
        }
        let mask = self.secrets.mask(&self.launch);
        for (at, line) in batch.lines() {
            let line = render::plain(&String::from_utf8_lossy(line));
            let mut line = if line.starts_with(OWN) {
                mask.lines([line.as_str()]).concat()
            } else {
                mask.next_line(&line, &mut self.key)
            };
            let longest = LINE_MAX_BYTES - TIME_BYTES;
            if line.len() > longest {
                let cut = (0..=longest).rfind(|at| line.is_char_boundary(*at));
                line.truncate(cut.unwrap_or(0));
            }
            let _ = writeln!(text, "{} {line}", render::utc_millis(at));
        }
        incident::room_for(text.len() as u64, volume::space(folder.path()))?;
        Ok(self.ring.append(folder, text.as_bytes())?)
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
