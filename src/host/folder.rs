//! Files in folders that somebody else may write to: nothing is followed, nothing is read without bounds.
//!
//! The gateway owns the state folder while clawkeeper may be root, so every name in it is untrusted:
//! each step goes from an open folder to one name in it, never through a link, a device or a pipe.
#![allow(
    clippy::disallowed_methods,
    reason = "this module is where files are opened"
)]

mod way;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchown, fsync, geteuid, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// A failed call on a file, with the call's name for the error text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {operation} {}: {errno}", .path.display())]
pub struct FileError {
    /// What was attempted, e.g. `open`.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    pub errno: Errno,
}

/// Owner given to a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// An open folder, and the path it was reached by, for error texts only.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that the user named. For root a link of somebody else's leads to nothing but his own: `ELOOP`.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = if geteuid().is_root() {
            way::open(path)
        } else {
            openat(AT_FDCWD, path, flags, Mode::empty())
        };
        let fd = opened.map_err(|errno| fail("open", path, errno))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens a folder below this one, not through a link.
    pub fn child(&self, name: &OsStr) -> Result<Self, FileError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = self.path.join(name);
        let fd = openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| fail("open", &path, errno))?;
        Ok(Self { fd, path })
    }

    /// Opens a folder below this one, making it first where there is none.
    pub fn child_or_create(&self, name: &OsStr, mode: u32) -> Result<Self, FileError> {
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EEXIST) => self.child(name),
            Err(errno) => Err(fail("create", &self.path.join(name), errno)),
        }
    }

    /// The same folder through a descriptor of its own, for a lock that ends with it.
    pub fn reopened(&self) -> Result<File, FileError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.fd, ".", flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| fail("open", &self.path, errno))
    }

    /// Where it was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Owner, mode and identity of the folder itself.
    pub fn stat(&self) -> Result<FileStat, FileError> {
        fstat(&self.fd).map_err(|errno| fail("stat", &self.path, errno))
    }

    /// Owner, mode and identity of what a name stands for, not of what a link points to.
    pub fn stat_of(&self, name: &OsStr) -> Result<FileStat, FileError> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| fail("stat", &self.path.join(name), errno))
    }

    /// Names in the folder, at most `limit`, without `.` and `..`.
    pub fn names(&self, limit: usize) -> Result<Vec<OsString>, FileError> {
        let failed = |errno| fail("list", &self.path, errno);
        let mut listing = nix::dir::Dir::from_fd(self.reopened()?.into()).map_err(failed)?;
        let names = listing.iter().filter_map(Result::ok).map(|entry| {
            use std::os::unix::ffi::OsStrExt as _;
            OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()
        });
        Ok(names
            .filter(|name| name != "." && name != "..")
            .take(limit)
            .collect())
    }

    /// Opens a regular file for reading; a link, folder, pipe or device is refused with `ELOOP` or `EINVAL`.
    pub fn open_file(&self, name: &OsStr) -> Result<File, FileError> {
        // Without O_NONBLOCK, opening a pipe in place of a file would wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let path = self.path.join(name);
        let failed = |errno| fail("open", &path, errno);
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        if is_kind(&stat, SFlag::S_IFREG) {
            Ok(File::from(fd))
        } else {
            Err(failed(Errno::EINVAL))
        }
    }

    /// Reads a regular file of at most `limit` bytes; a larger one fails with `EFBIG`.
    pub fn read(&self, name: &OsStr, limit: usize) -> Result<Vec<u8>, FileError> {
        let file = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| fail("read", &self.path.join(name), errno_of(&error)))?;
        if bytes.len() > limit {
            return Err(fail("read", &self.path.join(name), Errno::EFBIG));
        }
        Ok(bytes)
    }

    /// Writes a file whole or not at all: temporary file, fsync, rename, fsync of the folder.
    pub fn replace(
        &self,
        name: &OsStr,
        bytes: &[u8],
        mode: u32,
        owner: Option<FileOwner>,
    ) -> Result<(), FileError> {
        let mut temporary = name.to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        let path = self.path.join(name);
        let written = self
            .write_new(&temporary, bytes, mode, owner)
            .and_then(|()| {
                renameat(&self.fd, temporary.as_os_str(), &self.fd, name)
                    .map_err(|errno| fail("rename into", &path, errno))
            });
        if written.is_err() {
            let _ = unlinkat(&self.fd, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        written?;
        fsync(&self.fd).map_err(|errno| fail("fsync folder of", &path, errno))
    }

    /// Creates a file that must not exist, writes it and makes it durable.
    pub fn write_new(
        &self,
        name: &OsStr,
        bytes: &[u8],
        mode: u32,
        owner: Option<FileOwner>,
    ) -> Result<(), FileError> {
        let path = self.path.join(name);
        let mut file = self.create_new(name, mode)?;
        if let Some(owner) = owner {
            fchown(file.as_fd(), Some(owner.uid.into()), Some(owner.gid.into()))
                .map_err(|errno| fail("change the owner of", &path, errno))?;
        }
        file.write_all(bytes)
            .map_err(|error| fail("write", &path, errno_of(&error)))?;
        fsync(file.as_fd()).map_err(|errno| fail("fsync", &path, errno))
    }

    /// Creates a file that must not exist, open for writing.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> Result<File, FileError> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.fd, name, flags, Mode::from_bits_truncate(mode))
            .map(File::from)
            .map_err(|errno| fail("create", &self.path.join(name), errno))
    }

    /// Opens a regular file for reading and writing at any place, creating it where there is none; what is no file is
    /// refused as in [`Folder::open_file`].
    pub fn open_or_create(&self, name: &OsStr, mode: u32) -> Result<File, FileError> {
        self.open_to_write(name, OFlag::empty(), mode)
    }

    /// The same, but every write goes to its end.
    pub fn open_append(&self, name: &OsStr, mode: u32) -> Result<File, FileError> {
        self.open_to_write(name, OFlag::O_APPEND, mode)
    }

    fn open_to_write(&self, name: &OsStr, how: OFlag, mode: u32) -> Result<File, FileError> {
        let flags = OFlag::O_RDWR
            | OFlag::O_CREAT
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC
            | how;
        let failed = |errno| fail("open", &self.path.join(name), errno);
        let mode = Mode::from_bits_truncate(mode);
        let fd = openat(&self.fd, name, flags, mode).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        // A second name would be a file of somebody else's that is to be written through us.
        if is_kind(&stat, SFlag::S_IFREG) && stat.st_nlink == 1 {
            Ok(File::from(fd))
        } else {
            Err(failed(Errno::EINVAL))
        }
    }

    /// Moves a name into another folder of the same file system.
    pub fn move_to(&self, name: &OsStr, target: &Self, new_name: &OsStr) -> Result<(), FileError> {
        renameat(&self.fd, name, &target.fd, new_name)
            .map_err(|errno| fail("move", &self.path.join(name), errno))
    }

    /// Removes a file or link, or an empty folder.
    pub fn remove(&self, name: &OsStr) -> Result<(), FileError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir),
            other => other,
        }
        .map_err(|errno| fail("remove", &self.path.join(name), errno))
    }

    /// The target of a symbolic link, which is never followed.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString, FileError> {
        nix::fcntl::readlinkat(&self.fd, name)
            .map_err(|errno| fail("read the link", &self.path.join(name), errno))
    }

    /// The descriptor, for calls this type has no word for.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Opens the folder of a path and gives the last name in it.
pub fn open_parent(path: &Path) -> Result<(Folder, OsString), FileError> {
    let name = path
        .file_name()
        .ok_or_else(|| fail("open", path, Errno::EINVAL))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((Folder::open(parent)?, name.to_owned()))
}

/// Whether a stat is of this kind of file.
#[must_use]
pub fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// What a stat is of, in words.
#[must_use]
pub fn kind_word(stat: &FileStat) -> &'static str {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => "a file",
        SFlag::S_IFDIR => "a folder",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFSOCK => "a socket",
        _ => "a device",
    }
}

/// The errno of an I/O error; 0 for one that the library made up.
#[must_use]
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn fail(operation: &'static str, path: &Path, errno: Errno) -> FileError {
    FileError {
        operation,
        path: path.to_owned(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(dir.path()).expect("it opens");
        (dir, folder)
    }

    #[test]
    fn links_pipes_and_folders_in_place_of_a_file_are_refused_without_waiting() {
        let (dir, folder) = folder();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).expect("a link");
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).expect("a pipe");
        std::fs::create_dir(dir.path().join("folder")).expect("a folder");
        for (name, errno) in [
            ("link", Errno::ELOOP),
            ("pipe", Errno::EINVAL),
            ("folder", Errno::EINVAL),
        ] {
            let error = folder
                .read(OsStr::new(name), 100)
                .expect_err("it is no file");
            assert_eq!(error.errno, errno, "{name}");
        }
        assert!(folder.child(OsStr::new("link")).is_err());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
        let (dir, folder) = folder();
        std::fs::write(dir.path().join("f"), b"12345").expect("written");
        assert_eq!(folder.read(OsStr::new("f"), 5).expect("fits"), b"12345");
        assert_eq!(
            folder
                .read(OsStr::new("f"), 4)
                .expect_err("too large")
                .errno,
            Errno::EFBIG
        );
    }

    #[test]
    fn replace_writes_the_whole_file_and_leaves_no_temporary_behind() {
        let (dir, folder) = folder();
        std::fs::write(dir.path().join("f"), b"old").expect("written");
        folder
            .replace(OsStr::new("f"), b"new", 0o600, None)
            .expect("replaced");
        assert_eq!(std::fs::read(dir.path().join("f")).expect("read"), b"new");
        assert_eq!(folder.names(10).expect("listed"), ["f"]);
    }
}
