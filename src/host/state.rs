//! clawkeeper's own place in the state folder: the instance lock, a private folder, the record of the last child.
#![allow(
    clippy::disallowed_methods,
    reason = "this module opens the state folder"
)]

use super::folder::{FileError, FileOwner, Folder, errno_of};
use crate::core::event::Instance;
use nix::errno::Errno;
use nix::unistd::fchown;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Our private folder in the state folder.
const FOLDER: &str = "clawkeeper";
const HOLDER: &str = "instance.json";
const CHILD: &str = "child.json";
const ALERTS: &str = "alerts";
const RECORD_MAX_BYTES: usize = 4096;

/// The single-instance lock: flock(2) on the state folder itself, through fs2.
///
/// No file is needed, so it works on a read-only volume; nobody can rename or remove it; and the kernel drops it with its holder.
#[derive(Debug, Default)]
pub struct InstanceLock {
    held: Option<File>,
}

/// A clawkeeper that was killed keeps its lock until the last write that one of its threads waits for is done.
const DYING: Duration = Duration::from_secs(3);

/// Waits until nobody else holds this folder, and holds it until the answer is dropped.
///
/// Only for folders of our own, whose holders never keep them for longer than a few writes take.
pub fn hold(folder: &Folder) -> Result<File, FileError> {
    let file = folder.reopened()?;
    fs2::FileExt::lock_exclusive(&file).map_err(|error| FileError {
        operation: "lock",
        path: folder.path().to_owned(),
        errno: errno_of(&error),
    })?;
    Ok(file)
}

/// Holds a file if nobody else does; the kernel lets go when the process ends, however it ends.
#[must_use]
pub fn try_hold(file: &File) -> bool {
    fs2::FileExt::try_lock_exclusive(file).is_ok()
}

/// Who holds the lock, for the one who does not get it.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    version: String,
}

/// The gateway process that was started last, so that the next clawkeeper recognises it should it survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// Its pid.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_ticks: u64,
    /// The boot in which both mean something.
    pub boot_id: String,
}

impl InstanceLock {
    /// Takes the lock, or keeps it if it is still on the folder that stands at the path now.
    pub fn acquire(&mut self, state_dir: &Path) -> Instance {
        let folder = match Folder::open(state_dir).and_then(|folder| folder.reopened()) {
            Ok(folder) => folder,
            Err(error) => {
                return Instance::Unavailable {
                    error: error.to_string(),
                };
            }
        };
        if self
            .held
            .as_ref()
            .is_some_and(|held| is_same(held, &folder))
        {
            return Instance::Ours;
        }
        let began = Instant::now();
        loop {
            match fs2::FileExt::try_lock_exclusive(&folder) {
                Ok(()) => {
                    self.held = Some(folder);
                    return Instance::Ours;
                }
                Err(error) if errno_of(&error) != Errno::EWOULDBLOCK => {
                    return Instance::Unavailable {
                        error: error.to_string(),
                    };
                }
                Err(_) if began.elapsed() < DYING => std::thread::sleep(DYING / 100),
                Err(_) => {
                    return Instance::Theirs {
                        holder: holder(state_dir),
                    };
                }
            }
        }
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Whoever holds the lock wrote down who he is; the file is only words, the lock decides.
fn holder(state_dir: &Path) -> String {
    let known = Folder::open(state_dir).ok().and_then(|folder| {
        let private = private_names()
            .into_iter()
            .find_map(|name| folder.child(OsStr::new(&name)).ok())?;
        let bytes = private.read(OsStr::new(HOLDER), RECORD_MAX_BYTES).ok()?;
        serde_json::from_slice::<Holder>(&bytes).ok()
    });
    match known {
        Some(Holder { pid, host, version }) => {
            format!("clawkeeper {version}, pid {pid} on host {host}")
        }
        None => "another process".to_owned(),
    }
}

/// The process that holds the lock now, without trying to take it: that could make a starting clawkeeper fail.
///
/// `/proc/locks` lists `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF` (proc_locks(5)).
#[must_use]
pub fn held_by(state_dir: &Path) -> Option<i32> {
    let metadata = std::fs::metadata(state_dir).ok()?;
    let (dev, inode) = (metadata.dev(), metadata.ino());
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_ours = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str());
        is_ours.then(|| fields.get(4)?.parse().ok())?
    })
}

/// Says who we are, for whoever comes second. Not worth an error.
pub fn write_holder(private: &Folder) {
    let host = nix::unistd::gethostname()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let holder = Holder {
        pid: std::process::id(),
        host,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let _ = overwrite(
        private,
        HOLDER,
        &serde_json::to_vec(&holder).unwrap_or_default(),
    );
}

/// Notes the child that was started.
pub fn write_child(private: &Folder, record: &ChildRecord) -> Result<(), FileError> {
    overwrite(
        private,
        CHILD,
        &serde_json::to_vec(record).unwrap_or_default(),
    )
}

/// The child an earlier clawkeeper noted.
#[must_use]
pub fn read_child(private: &Folder) -> Option<ChildRecord> {
    serde_json::from_slice(&private.read(OsStr::new(CHILD), RECORD_MAX_BYTES).ok()?).ok()
}

/// Notes which alerts were sent, for the next clawkeeper.
pub fn write_alerts(private: &Folder, text: &str) -> Result<(), FileError> {
    overwrite(private, ALERTS, text.as_bytes())
}

/// What an earlier clawkeeper noted of its alerts.
#[must_use]
pub fn read_alerts(private: &Folder) -> Option<String> {
    String::from_utf8(private.read(OsStr::new(ALERTS), RECORD_MAX_BYTES).ok()?).ok()
}

/// By rename, without fsync: after a power failure nothing these files speak of is left anyway.
fn overwrite(private: &Folder, name: &str, bytes: &[u8]) -> Result<(), FileError> {
    use std::io::Write as _;
    let temporary = format!("{name}.tmp");
    let _ = private.remove(OsStr::new(&temporary));
    let mut file = private.create_new(OsStr::new(&temporary), 0o600)?;
    file.write_all(bytes).map_err(|error| FileError {
        operation: "write",
        path: private.path().join(name),
        errno: errno_of(&error),
    })?;
    private.move_to(OsStr::new(&temporary), private, OsStr::new(name))
}

/// The name of the private folder, then the one used when the first belongs to another user.
fn private_names() -> [String; 2] {
    [
        FOLDER.to_owned(),
        format!("{FOLDER}-{}", nix::unistd::geteuid()),
    ]
}

/// Opens our private folder in the state folder, making it if need be: mode 0700, ours, never reached through a link.
pub fn open_private(state: &Folder) -> Result<Folder, FileError> {
    let us = nix::unistd::geteuid().as_raw();
    let mut refused = None;
    for name in private_names() {
        let folder = match state.child_or_create(OsStr::new(&name), 0o700) {
            Ok(folder) => folder,
            Err(error) if matches!(error.errno, Errno::EACCES | Errno::ENOTDIR | Errno::ELOOP) => {
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let stat = folder.stat()?;
        if stat.st_uid == us && stat.st_mode & 0o022 == 0 {
            return Ok(folder);
        }
        refused = Some(FileError {
            operation: "trust",
            path: folder.path().to_owned(),
            errno: Errno::EPERM,
        });
    }
    Err(refused.unwrap_or(FileError {
        operation: "open",
        path: state.path().to_owned(),
        errno: Errno::EPERM,
    }))
}

/// Opens our private folder where there is one; `ENOENT` where there is none.
pub fn existing_private(state: &Folder) -> Result<Folder, FileError> {
    let us = nix::unistd::geteuid().as_raw();
    let ours = private_names().into_iter().find_map(|name| {
        let folder = state.child(OsStr::new(&name)).ok()?;
        let stat = folder.stat().ok()?;
        (stat.st_uid == us && stat.st_mode & 0o022 == 0).then_some(folder)
    });
    ours.ok_or_else(|| FileError {
        operation: "find our folder in",
        path: state.path().to_owned(),
        errno: Errno::ENOENT,
    })
}

/// Opens the private folder of whoever supervises this state folder, to read what is in it and trust none of it.
///
/// Ours if there is one; for root also that of a clawkeeper which runs as another user. `None` where there is none.
///
/// # Errors
/// It is there and may not be entered, or the state folder itself cannot be opened.
pub fn readable_private(state_dir: &Path) -> Result<Option<Folder>, FileError> {
    let state = match Folder::open(state_dir) {
        Ok(state) => state,
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        Err(error) => return Err(error),
    };
    match existing_private(&state) {
        Err(error) if error.errno == Errno::ENOENT => {}
        found => return found.map(Some),
    }
    match state.child(OsStr::new(FOLDER)) {
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        found => found.map(Some),
    }
}

/// Opens the state folder; makes it where there is none, with any parent that is missing, for the gateway's user.
pub fn open_or_create(path: &Path, owner: Option<FileOwner>) -> Result<Folder, FileError> {
    let missing = match Folder::open(path) {
        Err(error) if error.errno == Errno::ENOENT => error,
        found => return found,
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(missing);
    };
    let folder = open_or_create(parent, owner)?.child_or_create(name, 0o700)?;
    if let Some(FileOwner { uid, gid }) = owner {
        fchown(folder.fd(), Some(uid.into()), Some(gid.into())).map_err(|errno| FileError {
            operation: "change the owner of",
            path: path.to_owned(),
            errno,
        })?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_told_who_holds_the_folder_and_gets_it_when_he_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let state = Folder::open(dir.path()).expect("it opens");
        let mut first = InstanceLock::default();
        assert_eq!(first.acquire(dir.path()), Instance::Ours);
        assert_eq!(
            first.acquire(dir.path()),
            Instance::Ours,
            "again is no second"
        );
        write_holder(&open_private(&state).expect("a private folder"));
        let mut second = InstanceLock::default();
        let Instance::Theirs { holder } = second.acquire(dir.path()) else {
            panic!("it is taken")
        };
        assert!(
            holder.contains(&format!("pid {}", std::process::id())),
            "{holder}"
        );
        assert_eq!(held_by(dir.path()), i32::try_from(std::process::id()).ok());
        drop(first);
        assert_eq!(held_by(dir.path()), None);
        assert_eq!(second.acquire(dir.path()), Instance::Ours);
    }

    #[test]
    fn a_planted_link_in_place_of_the_private_folder_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("clawkeeper"))
            .expect("a link");
        let private = open_private(&Folder::open(dir.path()).expect("opens"))
            .expect("the second name is free");
        write_holder(&private);
        assert_eq!(
            std::fs::read_dir(elsewhere.path()).expect("listed").count(),
            0
        );
    }

    #[test]
    fn the_child_record_survives_a_round_trip() {
        let dir = tempfile::tempdir().expect("a folder");
        let private = open_private(&Folder::open(dir.path()).expect("opens")).expect("private");
        let record = ChildRecord {
            pid: 7,
            start_ticks: 404_278,
            boot_id: "b".into(),
        };
        write_child(&private, &record).expect("written");
        write_child(&private, &record).expect("written again");
        assert_eq!(read_child(&private), Some(record));
    }
}
