//! Finds locks, gathers what their verdict needs, and moves proven leftovers into quarantine.
//!
//! Only the very file that was judged is moved: its identity is compared again right before.
#![allow(
    clippy::disallowed_methods,
    reason = "this module looks at lock files and the clock"
)]

use super::clock::wall;
use super::folder::{FileError, Folder, is_kind};
use super::launch::Launch;
use super::proc::Proc;
use super::state;
use crate::core::locks::{
    Claim, KernelLock, LockContent, LockFacts, LockKind, OwnerFacts, Seen, StaleWhy,
};
use crate::core::time::{Millis, WallMs};
use crate::gateway::lock_payload::{self, LockPayloadError, SqliteHeader};
use crate::gateway::{self, LockPlace};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::{FileStat, SFlag};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// A state folder with more lock-like files than this is looked at in part.
const LOCKS_MAX: usize = 2_000;
/// Names looked at in one folder.
const NAMES_MAX: usize = 20_000;
/// Kept in quarantine; the oldest go first.
const QUARANTINE_KEEPS: usize = 20;
const QUARANTINE: &str = "quarantine";
/// SQLite's lock bytes: pending, reserved and the shared range, at 1 GiB (sqlite.org, `os.h`).
const SQLITE_LOCK_START: i64 = 0x4000_0000;
const SQLITE_LOCK_LENGTH: i64 = 512;
/// Time stamps of a file and of `/proc` are compared across clocks that tick in whole seconds.
const BOOT_SLACK_MS: u64 = 2_000;

/// Every lock in every place any version uses, with the facts about each.
#[must_use]
pub fn find(launch: &Launch, proc: &Proc) -> Vec<LockFacts> {
    let mut found = Vec::new();
    let mut roots = Roots::new(&launch.state_dir);
    for place in gateway::lock_places(&launch.state_dir, &launch.temp_dir, launch.version) {
        // A place that is not there holds no lock.
        if let Some(root) = roots.open(&place.root) {
            search(
                root,
                place.pattern,
                gateway::lock_places::MAX_DEPTH,
                &mut |folder, name| {
                    if found.len() < LOCKS_MAX
                        && let Some(facts) = examine(proc, &place, folder, name)
                    {
                        found.push(facts);
                    }
                },
            );
        }
    }
    // Two places may overlap, e.g. a TMPDIR inside the state folder.
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found.dedup_by(|one, other| one.path == other.path);
    found
}

/// The folders that places lie in, each opened once: opening the state folder wakes whoever watches it, ourselves too.
struct Roots<'a> {
    state_dir: &'a Path,
    open: Vec<(PathBuf, Option<Folder>)>,
}

impl<'a> Roots<'a> {
    const fn new(state_dir: &'a Path) -> Self {
        Self {
            state_dir,
            open: Vec::new(),
        }
    }

    /// Opens one; below the state folder, which the gateway owns, not through a link.
    fn open(&mut self, root: &Path) -> Option<&Folder> {
        let at = match self.open.iter().position(|(path, _)| path == root) {
            Some(at) => at,
            None => {
                let is_below = root != self.state_dir && root.starts_with(self.state_dir);
                let folder = if is_below {
                    let name = root.file_name()?;
                    self.open(root.parent()?)
                        .and_then(|parent| parent.child(name).ok())
                } else {
                    Folder::open(root).ok()
                };
                self.open.push((root.to_owned(), folder));
                self.open.len() - 1
            }
        };
        self.open.get(at)?.1.as_ref()
    }
}

/// Walks a pattern by segments, through folders only and never through a link.
fn search(folder: &Folder, pattern: &[&str], depth: usize, visit: &mut dyn FnMut(&Folder, &OsStr)) {
    let [segment, rest @ ..] = pattern else {
        return;
    };
    if *segment == "**" {
        search(folder, rest, depth, visit);
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        for name in folder.names(NAMES_MAX).unwrap_or_default() {
            if let Ok(child) = folder.child(&name) {
                search(&child, pattern, depth, visit);
            }
        }
        return;
    }
    let names = if segment.contains('*') {
        folder.names(NAMES_MAX).unwrap_or_default()
    } else {
        vec![OsString::from(segment)]
    };
    for name in names {
        if !name
            .to_str()
            .is_some_and(|name| gateway::lock_places::matches_segment(segment, name))
        {
            continue;
        }
        if rest.is_empty() {
            visit(folder, &name);
        } else if let Ok(child) = folder.child(&name) {
            search(&child, rest, depth, visit);
        }
    }
}

fn examine(proc: &Proc, place: &LockPlace, folder: &Folder, name: &OsStr) -> Option<LockFacts> {
    let stat = folder.stat_of(name).ok()?;
    let content = content(place.kind, folder, name, &stat);
    let owner = match &content {
        LockContent::Claim(claim) => Some(owner(proc, claim.pid)),
        LockContent::Empty
        | LockContent::Corrupt
        | LockContent::Directory
        | LockContent::Special
        | LockContent::Unreadable { .. } => None,
    };
    let WallMs(now) = wall();
    let modified = modified_ms(&stat);
    Some(LockFacts {
        path: folder.path().join(name),
        seen: seen(&stat),
        kind: place.kind,
        content,
        owner,
        age: modified
            .and_then(|modified| now.checked_sub(modified))
            .map(Millis),
        before_this_boot: matches!((modified, proc.began()),
            (Some(modified), Some(WallMs(began))) if modified.saturating_add(BOOT_SLACK_MS) < began),
        kernel_lock: kernel_lock(place.kind, folder, name),
    })
}

/// When a file was changed, in milliseconds after 1970; whoever owns it may have chosen any time.
fn modified_ms(stat: &FileStat) -> Option<u64> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    Some(seconds.saturating_mul(1000))
}

fn content(kind: LockKind, folder: &Folder, name: &OsStr, stat: &FileStat) -> LockContent {
    if kind == LockKind::ChromiumSingleton {
        return singleton(folder, stat);
    }
    if is_kind(stat, SFlag::S_IFDIR) {
        // The 4.x runtime locks are folders that hold their owner's name.
        return folder
            .child(name)
            .and_then(|inner| {
                inner.read(
                    OsStr::new(kind.owner_file().unwrap_or("")),
                    lock_payload::MAX_BYTES,
                )
            })
            .map_or(LockContent::Directory, |bytes| claim(&bytes));
    }
    if !is_kind(stat, SFlag::S_IFREG) {
        return LockContent::Special;
    }
    if kind == LockKind::Coordinator {
        return coordinator(folder, name);
    }
    match folder.read(name, lock_payload::MAX_BYTES) {
        Ok(bytes) => claim(&bytes),
        Err(FileError {
            errno: Errno::EFBIG,
            ..
        }) => LockContent::Corrupt,
        Err(FileError { errno, .. }) => LockContent::Unreadable {
            errno: errno as i32,
        },
    }
}

fn claim(bytes: &[u8]) -> LockContent {
    match lock_payload::parse(bytes) {
        Ok(payload) => LockContent::Claim(Claim {
            pid: i32::try_from(payload.pid).unwrap_or(i32::MAX),
            start_ticks: payload.start_ticks,
            created: payload.created_ms.map(WallMs),
        }),
        Err(LockPayloadError::Empty) => LockContent::Empty,
        Err(_) => LockContent::Corrupt,
    }
}

/// `SingletonLock` is a link that names host and pid; the two beside it are links that name nobody.
fn singleton(folder: &Folder, stat: &FileStat) -> LockContent {
    if !is_kind(stat, SFlag::S_IFLNK) {
        return if is_kind(stat, SFlag::S_IFREG) {
            LockContent::Corrupt
        } else {
            LockContent::Special
        };
    }
    // All three stand and fall with the lock.
    let owner = folder.read_link(OsStr::new("SingletonLock")).ok();
    let owner = owner.and_then(|target| lock_payload::parse_singleton(target.to_str()?));
    let host = nix::unistd::gethostname().unwrap_or_default();
    match owner {
        // A container has another host name at each start, so another name is an earlier container's
        // or another one's that shares the volume: the time of the link tells.
        Some(owner) if host == *owner.host_name => LockContent::Claim(Claim {
            pid: i32::try_from(owner.pid).unwrap_or(i32::MAX),
            start_ticks: None,
            created: modified_ms(stat).map(WallMs),
        }),
        Some(_) | None => LockContent::Corrupt,
    }
}

fn coordinator(folder: &Folder, name: &OsStr) -> LockContent {
    use std::io::Read as _;
    let mut head = Vec::with_capacity(16);
    let read = folder
        .open_file(name)
        .map(|file| file.take(16).read_to_end(&mut head));
    match read {
        Ok(Ok(_)) => match lock_payload::sqlite_header(&head) {
            SqliteHeader::Corrupt => LockContent::Corrupt,
            SqliteHeader::Empty | SqliteHeader::Database => LockContent::Empty,
        },
        Ok(Err(_)) => LockContent::Unreadable {
            errno: Errno::EIO as i32,
        },
        Err(FileError { errno, .. }) => LockContent::Unreadable {
            errno: errno as i32,
        },
    }
}

/// Who has the pid that a lock names.
fn owner(proc: &Proc, pid: i32) -> OwnerFacts {
    let is_alive = |stat: &super::proc::Stat| stat.is_alive() && proc.is_process(pid);
    let stat = proc.stat(pid).filter(is_alive);
    let us = i32::try_from(std::process::id()).unwrap_or(0);
    OwnerFacts {
        alive: stat.is_some(),
        start_ticks: stat.as_ref().map(|stat| stat.start_ticks),
        started: stat
            .as_ref()
            .and_then(|stat| proc.started(stat.start_ticks)),
        is_gateway: stat.is_some() && super::leftovers::is_gateway(proc, pid),
        is_us: proc.lineage(us).contains(&pid),
        name: stat.map(|stat| stat.name).unwrap_or_default(),
    }
}

/// Asks the kernel whether anybody has the database beside a lock open in a transaction.
///
/// F_GETLK sees locks of every process on this kernel, in other containers too; it takes none itself.
fn kernel_lock(kind: LockKind, folder: &Folder, name: &OsStr) -> KernelLock {
    let name = match kind {
        LockKind::Gateway => {
            let mut name = name.to_owned();
            name.push(".sqlite");
            name
        }
        LockKind::Coordinator => name.to_owned(),
        LockKind::LegacyOnVolume
        | LockKind::Session
        | LockKind::RuntimeDeps
        | LockKind::ChromiumSingleton => return KernelLock::Absent,
    };
    let file = match folder.open_file(&name) {
        Ok(file) => file,
        Err(FileError {
            errno: Errno::ENOENT,
            ..
        }) => return KernelLock::Absent,
        Err(_) => return KernelLock::Unknown,
    };
    let mut range = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: SQLITE_LOCK_START,
        l_len: SQLITE_LOCK_LENGTH,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut range)) {
        Ok(_) if i32::from(range.l_type) == nix::libc::F_UNLCK => KernelLock::Free,
        Ok(_) => KernelLock::Held,
        Err(_) => KernelLock::Unknown,
    }
}

fn seen(stat: &FileStat) -> Seen {
    Seen {
        device: stat.st_dev,
        inode: stat.st_ino,
        mtime_ns: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(stat.st_mtime_nsec),
        size: u64::try_from(stat.st_size).unwrap_or(0),
    }
}

/// Moves locks into quarantine; returns those that could not be moved, with the reason.
pub fn clear(state_dir: &Path, locks: &[(LockFacts, StaleWhy)]) -> Vec<(PathBuf, String)> {
    let quarantine = Folder::open(state_dir)
        .and_then(|state| state::open_private(&state))
        .and_then(|private| private.child_or_create(OsStr::new(QUARANTINE), 0o700));
    let failed = locks
        .iter()
        .filter_map(|(facts, _)| {
            clear_one(facts, quarantine.as_ref().ok())
                .err()
                .map(|error| (facts.path.clone(), error))
        })
        .collect();
    if let Ok(quarantine) = &quarantine {
        prune(quarantine);
    }
    failed
}

fn clear_one(facts: &LockFacts, quarantine: Option<&Folder>) -> Result<(), String> {
    let (parent, name) =
        super::folder::open_parent(&facts.path).map_err(|error| error.to_string())?;
    let stat = match parent.stat_of(&name) {
        Ok(stat) => stat,
        Err(FileError {
            errno: Errno::ENOENT,
            ..
        }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if seen(&stat) != facts.seen {
        return Err("it has changed since it was judged".to_owned());
    }
    let WallMs(now) = wall();
    let mut kept = OsString::from(format!("{now}-"));
    kept.push(&name);
    let Some(quarantine) = quarantine else {
        return remove(&parent, &name);
    };
    match parent.move_to(&name, quarantine, &kept) {
        Ok(()) => Ok(()),
        // Another file system, such as /tmp: what it said is kept, if it said anything.
        Err(FileError {
            errno: Errno::EXDEV,
            ..
        }) => {
            if let Ok(bytes) = parent.read(&name, lock_payload::MAX_BYTES) {
                let _ = quarantine.write_new(&kept, &bytes, 0o600, None);
            }
            remove(&parent, &name)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A lock that is a folder holds a file or two of its owner's name at the most.
fn remove(parent: &Folder, name: &OsStr) -> Result<(), String> {
    if let Ok(folder) = parent.child(name) {
        for inner in folder.names(16).unwrap_or_default() {
            folder.remove(&inner).map_err(|error| error.to_string())?;
        }
    }
    parent.remove(name).map_err(|error| error.to_string())
}

/// Names begin with the time, so the oldest sort first.
fn prune(quarantine: &Folder) {
    let mut names = quarantine.names(NAMES_MAX).unwrap_or_default();
    names.sort_unstable();
    for name in names
        .iter()
        .take(names.len().saturating_sub(QUARANTINE_KEEPS))
    {
        let _ = remove(quarantine, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &[&str], dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let root = Folder::open(dir).expect("it opens");
        search(
            &root,
            pattern,
            gateway::lock_places::MAX_DEPTH,
            &mut |folder, name| {
                if folder.stat_of(name).is_ok() {
                    found.push(
                        folder
                            .path()
                            .join(name)
                            .strip_prefix(dir)
                            .expect("below")
                            .to_owned(),
                    );
                }
            },
        );
        found.sort();
        found
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, b"x").expect("written");
        }
        dir
    }

    #[test]
    fn patterns_are_walked_through_folders_and_never_through_links() {
        let dir = tree(&[
            "agents/a/sessions/1.jsonl.lock",
            "agents/a/sessions/1.jsonl",
            "elsewhere/sessions/2.jsonl.lock",
        ]);
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("agents/b"))
            .expect("a link");
        let pattern = ["agents", "*", "sessions", "*.jsonl.lock"];
        assert_eq!(
            found(&pattern, dir.path()),
            [PathBuf::from("agents/a/sessions/1.jsonl.lock")]
        );
    }

    #[test]
    fn two_stars_reach_any_depth_up_to_the_bound() {
        let dir = tree(&["p/.l", "p/a/.l", "p/a/b/c/.l", "p/1/2/3/4/5/6/7/8/.l"]);
        assert_eq!(found(&["p", "**", ".l"], dir.path()).len(), 3);
    }

    #[test]
    fn a_place_below_the_state_folder_is_not_reached_through_a_link() {
        let dir = tree(&["real/openclaw-0/gateway.x.lock"]);
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("tmp"))
            .expect("a link");
        let mut roots = Roots::new(dir.path());
        assert!(roots.open(&dir.path().join("tmp")).is_none());
        assert!(roots.open(&dir.path().join("tmp/openclaw-0")).is_none());
        let inner = dir.path().join("real/openclaw-0");
        assert_eq!(roots.open(&inner).map(Folder::path), Some(inner.as_path()));
        assert!(roots.open(dir.path()).is_some());
    }

    #[test]
    fn a_time_beyond_all_times_is_not_before_this_boot() {
        // 2^61 s are 0 ms in 64 bits. File systems on disks hold no such time.
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            println!("SKIPPED: no file system in memory");
            assert!(std::env::var_os("CI").is_none(), "skipped in CI");
            return;
        };
        let path = dir.path().join("gateway.0a0a0a0a.lock");
        let file = std::fs::File::create(&path).expect("a lock");
        let at = nix::sys::time::TimeSpec::new(1 << 61, 0);
        nix::sys::stat::futimens(&file, &at, &at).expect("its time");
        let place = gateway::lock_places(dir.path(), dir.path(), None)
            .into_iter()
            .find(|place| place.root == dir.path())
            .expect("the state folder is a place");
        let folder = Folder::open(dir.path()).expect("it opens");
        let name = path.file_name().expect("a name");
        let facts = examine(&Proc::default(), &place, &folder, name).expect("facts");
        assert!(!facts.before_this_boot, "{facts:?}");
        assert_eq!(facts.age, None);
    }

    #[test]
    fn only_the_very_file_that_was_judged_is_moved() {
        let dir = tree(&["gateway.a.lock"]);
        let path = dir.path().join("gateway.a.lock");
        let stat = Folder::open(dir.path())
            .and_then(|it| it.stat_of(OsStr::new("gateway.a.lock")))
            .expect("a stat");
        let facts = LockFacts {
            path: path.clone(),
            seen: seen(&stat),
            kind: LockKind::LegacyOnVolume,
            content: LockContent::Corrupt,
            owner: None,
            age: None,
            before_this_boot: true,
            kernel_lock: KernelLock::Absent,
        };
        let locks = [(facts, StaleWhy::BeforeThisBoot)];
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, b"another").expect("written");
        assert_eq!(clear(dir.path(), &locks).len(), 1, "it is another file now");
        assert!(path.exists());
        let stat = Folder::open(dir.path())
            .and_then(|it| it.stat_of(OsStr::new("gateway.a.lock")))
            .expect("a stat");
        let mut locks = locks;
        locks[0].0.seen = seen(&stat);
        assert_eq!(clear(dir.path(), &locks), []);
        assert!(!path.exists());
        let kept = std::fs::read_dir(dir.path().join("clawkeeper/quarantine"))
            .expect("listed")
            .count();
        assert_eq!(kept, 1);
    }
}
