//! A bounded record of lines in our folder: the file being written, and the one before it.
//!
//! Each append opens the file anew, so that nothing is held open on a volume that may be taken away, and a name that
//! somebody put something else under is cleared. A line that a full disk or a kill has cut is ended before the next.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads and writes files of ours"
)]

use super::folder::{FileError, Folder, errno_of};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

/// A longer line was not written by us, and is passed over.
pub const LINE_MAX_BYTES: usize = 16 * 1024;
const READ_BYTES: usize = 8 * 1024;

/// Two files that together hold the last lines of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    /// The file being written.
    pub current: &'static str,
    /// The file before it.
    pub previous: &'static str,
    /// Each of them holds at most this much.
    pub max_bytes: u64,
}

impl Ring {
    /// Appends whole lines, the last with its newline too. What is too much pushes out the older file.
    ///
    /// # Errors
    /// A failed call. Part of the lines may then be in the file.
    pub fn append(&self, folder: &Folder, lines: &[u8]) -> Result<(), FileError> {
        let name = OsStr::new(self.current);
        let failed = |error: std::io::Error| FileError {
            operation: "write",
            path: folder.path().join(self.current),
            errno: errno_of(&error),
        };
        let mut file = match folder.open_append(name, 0o600) {
            Err(error) if is_no_file(error.errno) => {
                folder.remove(name)?;
                folder.open_append(name, 0o600)?
            }
            other => other?,
        };
        let length = file.metadata().map_err(failed)?.len();
        if length > 0 && length.saturating_add(lines.len() as u64) > self.max_bytes {
            folder.move_to(name, folder, OsStr::new(self.previous))?;
            file = folder.open_append(name, 0o600)?;
        } else if !ends_a_line(&file, length) {
            file.write_all(b"\n").map_err(failed)?;
        }
        file.write_all(lines).map_err(failed)
    }

    /// The last lines that are wanted, oldest first and without their newlines, in memory for no more than those.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is none.
    pub fn last(
        &self,
        folder: &Folder,
        max: usize,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<VecDeque<Vec<u8>>, FileError> {
        let mut last = VecDeque::new();
        for name in [self.previous, self.current] {
            let Some(file) = self.open(folder, name)? else {
                continue;
            };
            let mut reader = BufReader::with_capacity(READ_BYTES, file);
            let mut line = Vec::new();
            while next_line(&mut reader, &mut line) {
                if is_wanted(&line) {
                    if last.len() == max {
                        last.pop_front();
                    }
                    if max > 0 {
                        last.push_back(line.clone());
                    }
                }
            }
        }
        Ok(last)
    }

    /// Opens one of the two, at the start of the last lines that may be ours; `None` where there is none.
    fn open(&self, folder: &Folder, name: &'static str) -> Result<Option<File>, FileError> {
        let mut file = match folder.open_file(OsStr::new(name)) {
            Ok(file) => file,
            Err(error) if error.errno == Errno::ENOENT => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length > self.max_bytes {
            // Larger than we write: its end is enough. The line it begins in counts as cut.
            let _ = file.seek(SeekFrom::Start(length - self.max_bytes));
        }
        Ok(Some(file))
    }
}

/// What open(2) says of a name that stands for something else than a file of ours.
const fn is_no_file(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ELOOP | Errno::EINVAL | Errno::ENXIO | Errno::EISDIR
    )
}

fn ends_a_line(file: &File, length: u64) -> bool {
    let mut last = [0];
    length == 0
        || file
            .read_exact_at(&mut last, length - 1)
            .is_ok_and(|()| last == *b"\n")
}

/// Reads the next whole line; false at the end, and for a line that has no end yet.
fn next_line(reader: &mut impl std::io::BufRead, line: &mut Vec<u8>) -> bool {
    loop {
        line.clear();
        let mut bounded = reader.by_ref().take(LINE_MAX_BYTES as u64);
        match bounded.read_until(b'\n', line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if line.pop_if(|byte| *byte == b'\n').is_some() => return true,
            // The last line, which is being written or was cut; or one that is too long.
            Ok(_) => {
                if !skip_line(reader) {
                    return false;
                }
            }
        }
    }
}

/// Passes over what is left of a line; false when the file ends in it.
fn skip_line(reader: &mut impl std::io::BufRead) -> bool {
    loop {
        let Ok(bytes) = reader.fill_buf() else {
            return false;
        };
        if bytes.is_empty() {
            return false;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(bytes.len(), |at| at + 1);
        reader.consume(count);
        if end.is_some() {
            return true;
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
