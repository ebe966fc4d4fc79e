//! Gathers the facts about the state folder's volume, and gives root's files in it to the gateway.
#![allow(clippy::disallowed_methods, reason = "this module probes the volume")]

use super::config_file;
use super::folder::{FileError, Folder, errno_of, is_kind};
use super::launch::{Account, Launch};
use super::state::{self, InstanceLock};
use crate::core::event::{Instance, Mended};
use crate::core::time::Millis;
use crate::core::volume::{Mount, Owner, Space, VolumeFacts, WriteProbe};
use crate::gateway;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use nix::unistd::fchown;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Longer means that the disk hangs.
pub const DEADLINE: Millis = Millis::from_secs(10);

const PROBE: &str = "write-probe";
const PROBE_BYTES: usize = 4096;
/// A state folder with more entries than this is mended in part; the next refusal mends the rest.
const MEND_MAX_ENTRIES: usize = 200_000;
const MEND_MAX_DEPTH: usize = 32;
const MENDED_NAMED: usize = 3;
/// At most this many entries are looked at before each start: milliseconds, even where WhatsApp keeps a thousand keys.
const CONSOLE_MAX_ENTRIES: usize = 5_000;
const CONSOLE_MAX_DEPTH: usize = 8;

/// Everything `CheckVolume` asks for. Blocks as long as the disk does: run it where that hurts nobody.
pub fn check(
    launch: &Launch,
    lock: &mut InstanceLock,
    mend_all: bool,
) -> (Instance, VolumeFacts, Option<Mended>) {
    let path = &launch.state_dir;
    if let Err(error) = state::open_or_create(path, launch.account.file_owner()) {
        let instance = Instance::Unavailable {
            error: error.to_string(),
        };
        let write = WriteProbe::Failed {
            operation: format!("{} the state folder", error.operation),
            errno: error.errno as i32,
        };
        return (instance, facts(launch, write), None);
    }
    let instance = lock.acquire(path);
    if instance != Instance::Ours {
        // Nothing may be touched in a folder that is somebody else's.
        return (instance, look(launch), None);
    }
    let mended = mend(launch, mend_all);
    let write = probe(path);
    (instance, facts(launch, write), mended)
}

/// The facts without a write of our own, for `check`, which changes nothing, and for a folder that is not ours.
#[must_use]
pub fn look(launch: &Launch) -> VolumeFacts {
    use nix::unistd::AccessFlags;
    let wanted = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let access = Folder::open(&launch.state_dir)
        .map_err(|error| error.errno)
        .and_then(|_| nix::unistd::access(&launch.state_dir, wanted));
    let write = match access {
        Ok(()) => WriteProbe::Written { took: Millis(0) },
        // The folder will be made at the first start.
        Err(Errno::ENOENT) => WriteProbe::Written { took: Millis(0) },
        Err(errno) => WriteProbe::Failed {
            operation: "write".into(),
            errno: errno as i32,
        },
    };
    facts(launch, write)
}

/// The facts of a volume that gave no answer.
#[must_use]
pub fn hung() -> VolumeFacts {
    VolumeFacts {
        mount: None,
        root_is_ephemeral: false,
        write: WriteProbe::TimedOut { after: DEADLINE },
        space: None,
        owner: None,
    }
}

fn facts(launch: &Launch, write: WriteProbe) -> VolumeFacts {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = existing(&launch.state_dir);
    let root = mount_of(&mounts, Path::new("/"));
    let root_is_overlay = root.is_some_and(|mount| mount.fs_type == "overlay");
    VolumeFacts {
        mount: mount_of(&mounts, &path),
        root_is_ephemeral: root_is_overlay || launch.is_on_fly() || launch.in_container,
        write,
        space: space(&path),
        owner: owner(&launch.state_dir, &launch.account),
    }
}

/// The path itself, or the nearest folder above it that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|path| path.canonicalize().ok())
        .unwrap_or_else(|| "/".into())
}

/// Writes a block, makes it durable and removes it.
fn probe(state_dir: &Path) -> WriteProbe {
    let started = Instant::now();
    match write_probe(state_dir) {
        Ok(()) => WriteProbe::Written {
            took: elapsed(started),
        },
        Err(FileError {
            operation, errno, ..
        }) => WriteProbe::Failed {
            operation: operation.to_owned(),
            errno: errno as i32,
        },
    }
}

fn write_probe(state_dir: &Path) -> Result<(), FileError> {
    let private = state::open_private(&Folder::open(state_dir)?)?;
    let name = OsStr::new(PROBE);
    // Left behind by a power failure in the middle of a probe.
    let _ = private.remove(name);
    let mut file = private.create_new(name, 0o600)?;
    let failed = |operation, errno| FileError {
        operation,
        path: private.path().join(PROBE),
        errno,
    };
    let written = file
        .write_all(&[0; PROBE_BYTES])
        .map_err(|error| failed("write", errno_of(&error)))
        .and_then(|()| nix::unistd::fsync(file.as_fd()).map_err(|errno| failed("fsync", errno)));
    let removed = private.remove(name);
    written.and(removed)
}

fn elapsed(started: Instant) -> Millis {
    Millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// The room on the file system of the state folder. May hang with a network file system.
#[must_use]
pub fn room(state_dir: &Path) -> Option<Space> {
    space(&existing(state_dir))
}

/// Room on the volume of a folder; `None` where it does not say.
pub(super) fn space(path: &Path) -> Option<Space> {
    let room = nix::sys::statvfs::statvfs(path).ok()?;
    Some(Space {
        free_bytes: room.blocks_available().saturating_mul(room.fragment_size()),
        total_bytes: room.blocks().saturating_mul(room.fragment_size()),
        // btrfs and others count no inodes and report 0 of 0.
        free_inodes: (room.files() > 0).then(|| room.files_available()),
    })
}

fn owner(path: &Path, account: &Account) -> Option<Owner> {
    let stat = Folder::open(path).ok()?.stat().ok()?;
    Some(Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        gateway_uid: account.uid,
        gateway_gid: account.gid,
    })
}

/// The last mount whose point is the path or above it; a later line covers an earlier one.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let point = unescape(head.split(' ').nth(4)?);
        Some(Mount {
            point,
            fs_type: tail.split(' ').next()?.to_owned(),
        })
    });
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| Path::new(&mount.point).components().count())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, character)| {
            text.replace(code, character)
        })
}

/// Gives to the gateway's uid what root owns: the state folder, its config and what a console of root's writes into
/// it, or everything in it.
///
/// Only as root, only inside the state folder, only files with a single name, never through a link:
/// the gateway owns the folder and could otherwise have root hand it any file of the machine.
fn mend(launch: &Launch, all: bool) -> Option<Mended> {
    let owner = launch.account.file_owner()?;
    let mut mended = Mended {
        paths: Vec::new(),
        count: 0,
        uid: owner.uid,
    };
    let state = Folder::open(&launch.state_dir).ok()?;
    give(&state, &launch.account, &mut mended);
    if launch.config_path.starts_with(&launch.state_dir)
        && let Ok((parent, name)) = config_file::open_folder(launch)
    {
        give_entry(&parent, &name, &launch.account, &mut mended);
    }
    if !all {
        mend_console(&state, &launch.account, &mut mended);
    } else {
        let mut left = MEND_MAX_ENTRIES;
        mend_below(
            &state,
            &launch.account,
            MEND_MAX_DEPTH,
            &mut left,
            &mut mended,
        );
    }
    (mended.count > 0).then_some(mended)
}

/// Gives these files to the gateway's uid where root owns them, under the same conditions.
#[must_use]
pub fn mend_files(launch: &Launch, files: &[PathBuf]) -> Option<Mended> {
    let owner = launch.account.file_owner()?;
    let mut mended = Mended {
        paths: Vec::new(),
        count: 0,
        uid: owner.uid,
    };
    for file in files {
        let Ok(below) = file.strip_prefix(&launch.state_dir) else {
            continue;
        };
        let Ok(mut folder) = Folder::open(&launch.state_dir) else {
            continue;
        };
        let mut steps = below.iter().peekable();
        while let Some(step) = steps.next() {
            match give_entry(&folder, step, &launch.account, &mut mended) {
                Some(child) if steps.peek().is_some() => folder = child,
                Some(_) | None => break,
            }
        }
    }
    (mended.count > 0).then_some(mended)
}

/// The entries of the state folder itself, and what is below those that `openclaw …` writes to in a console.
fn mend_console(state: &Folder, account: &Account, mended: &mut Mended) {
    let mut left = CONSOLE_MAX_ENTRIES;
    for name in state.names(left).unwrap_or_default() {
        left = left.saturating_sub(1);
        if !is_ours(&name) {
            give_entry(state, &name, account, mended);
        }
    }
    let console = gateway::CONSOLE_FOLDERS.map(|name| state.child(OsStr::new(name)));
    for folder in console.into_iter().flatten() {
        mend_below(&folder, account, CONSOLE_MAX_DEPTH, &mut left, mended);
    }
    let Ok(agents) = state.child(OsStr::new(gateway::AGENTS)) else {
        return;
    };
    for name in agents.names(left).unwrap_or_default() {
        if let Some(agent) = give_entry(&agents, &name, account, mended)
            && let Some(folder) = give_entry(&agent, OsStr::new(gateway::AGENT), account, mended)
        {
            mend_below(&folder, account, CONSOLE_MAX_DEPTH, &mut left, mended);
        }
    }
}

/// Ours to write, and root's alone.
fn is_ours(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("clawkeeper")
}

fn mend_below(
    folder: &Folder,
    account: &Account,
    depth: usize,
    left: &mut usize,
    mended: &mut Mended,
) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for name in folder.names(*left).unwrap_or_default() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        if is_ours(&name) {
            continue;
        }
        match give_entry(folder, &name, account, mended) {
            Some(child) => mend_below(&child, account, depth, left, mended),
            None => continue,
        }
    }
}

/// Gives one entry away; returns it opened when it is a folder.
fn give_entry(
    parent: &Folder,
    name: &OsStr,
    account: &Account,
    mended: &mut Mended,
) -> Option<Folder> {
    if let Ok(folder) = parent.child(name) {
        give(&folder, account, mended);
        return Some(folder);
    }
    let file = parent.open_file(name).ok()?;
    let stat = nix::sys::stat::fstat(&file).ok()?;
    if stat.st_uid == 0 && stat.st_nlink == 1 && is_kind(&stat, SFlag::S_IFREG) {
        note(
            fchown(
                file.as_fd(),
                Some(account.uid.into()),
                Some(account.gid.into()),
            ),
            parent.path().join(name),
            mended,
        );
    }
    None
}

fn give(folder: &Folder, account: &Account, mended: &mut Mended) {
    if folder.stat().is_ok_and(|stat| stat.st_uid == 0) {
        let changed = fchown(
            folder.fd(),
            Some(account.uid.into()),
            Some(account.gid.into()),
        );
        note(changed, folder.path().to_owned(), mended);
    }
}

fn note(changed: nix::Result<()>, path: PathBuf, mended: &mut Mended) {
    if changed.is_ok() {
        mended.count += 1;
        if mended.paths.len() < MENDED_NAMED {
            mended.paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/l
30 22 254:16 / /data rw,relatime shared:1 - ext4 /dev/vdb rw,errors=remount-ro
31 30 0:40 / /data/with\\040space rw - tmpfs tmpfs rw";

    #[test]
    fn the_nearest_mount_above_a_path_is_its_own() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path)).expect("there is always the root");
        assert_eq!(of("/data/state").point, "/data");
        assert_eq!(
            of("/database").point,
            "/",
            "a name that merely begins alike is another folder"
        );
        assert_eq!(of("/data/with space/x").fs_type, "tmpfs");
    }

    #[test]
    fn a_probe_leaves_nothing_behind_and_survives_its_own_leftover() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(matches!(probe(dir.path()), WriteProbe::Written { .. }));
        std::fs::write(dir.path().join("clawkeeper").join(PROBE), b"x").expect("written");
        assert!(matches!(probe(dir.path()), WriteProbe::Written { .. }));
        assert_eq!(
            std::fs::read_dir(dir.path().join("clawkeeper"))
                .expect("listed")
                .count(),
            0
        );
    }
}
