//! A bounded record of lines in our folder: the file being written, and the one before it.
//!
//! Each append opens the file anew, so that nothing is held open on a volume that may be taken away, and a name that
//! somebody put something else under is cleared. A line that a full disk or a kill has cut is ended before the next.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads and writes files of ours"
)]

use super::folder::{FileError, Folder, errno_of};
use crate::core::output::{LineCutter, LineEnd};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

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
}

/// Reads a ring from its oldest line on, and then what is added to it, over any number of rotations.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    open: Option<Open>,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    lines: LineCutter,
}

impl Reader {
    /// Begins before the oldest line.
    #[must_use]
    pub const fn new(ring: Ring) -> Self {
        Self { ring, open: None }
    }

    /// Hands out every whole line since the last call, without its newline; one that is longer than ours is passed over.
    /// True when there is a file at all.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is none.
    pub fn read(
        &mut self,
        folder: &Folder,
        mut on_line: impl FnMut(&[u8]),
    ) -> Result<bool, FileError> {
        let read = self.open.as_ref().map(|open| open.inode);
        let current = self.ring.open(folder, self.ring.current)?;
        let is_same = current.as_ref().map(|open| open.inode) == read;
        if let Some(open) = &mut self.open {
            // Whatever has taken its place: nothing is appended to it after that.
            open.read(&mut on_line);
        }
        if !is_same {
            let previous = self.ring.open(folder, self.ring.previous)?;
            // It may be the one that was read just now, or, had it been moved meanwhile, the one that comes next.
            let known = [read, current.as_ref().map(|open| open.inode)];
            if let Some(mut previous) = previous.filter(|open| !known.contains(&Some(open.inode))) {
                previous.read(&mut on_line);
                self.open = Some(previous);
            }
            if let Some(mut current) = current {
                current.read(&mut on_line);
                self.open = Some(current);
            }
        }
        Ok(self.open.is_some())
    }
}

impl Ring {
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
        Reader::new(*self).read(folder, |line| {
            if is_wanted(line) {
                last.push_back(line.to_vec());
            }
            if last.len() > max {
                last.pop_front();
            }
        })?;
        Ok(last)
    }

    /// Opens one of the two, at the start of the last lines that may be ours; `None` where there is none.
    fn open(&self, folder: &Folder, name: &'static str) -> Result<Option<Open>, FileError> {
        let mut file = match folder.open_file(OsStr::new(name)) {
            Ok(file) => file,
            Err(error) if error.errno == Errno::ENOENT => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().map_err(|error| FileError {
            operation: "stat",
            path: folder.path().join(name),
            errno: errno_of(&error),
        })?;
        let mut lines = LineCutter::default();
        if metadata.len() > self.max_bytes {
            // Larger than we write: its end is enough, from the next line on.
            let _ = file.seek(SeekFrom::Start(metadata.len() - self.max_bytes));
            lines.gap();
        }
        Ok(Some(Open {
            file,
            inode: metadata.ino(),
            lines,
        }))
    }
}

impl Open {
    /// Reads to the end. A line that has none yet is handed out once it has; a failed read ends like the file.
    fn read(&mut self, on_line: &mut impl FnMut(&[u8])) {
        let mut buffer = [0; READ_BYTES];
        while let Ok(count @ 1..) = self.file.read(&mut buffer) {
            self.lines.feed(&buffer[..count], |line, end| {
                if end == LineEnd::Newline {
                    on_line(line);
                }
            });
        }
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

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
