//! The way to a folder that somebody named, for root: a link leads only where its owner could have gone by himself.
//!
//! Where the state folder lies in one of the gateway's, the gateway can put a link to `/etc` in its place, and root
//! would give what it finds there to the gateway. systemd's `chase(3)` calls that an unsafe transition.

use super::is_kind;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// As many links as the kernel follows in one path (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Opens the folder; `ELOOP` where a link of somebody other than root leads to a folder that is not his.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let on_the_way = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut left = steps(path);
    let mut at = begin(path)?;
    let mut links = 0;
    let mut stranger = None;
    while let Some(step) = left.pop() {
        let next = openat(&at, step.as_os_str(), on_the_way, Mode::empty())?;
        let stat = fstat(&next)?;
        if !is_kind(&stat, SFlag::S_IFLNK) {
            at = next;
            continue;
        }
        links += 1;
        let owner = Some(stat.st_uid).filter(|uid| *uid != 0);
        if links > LINKS_MAX || (stranger.is_some() && owner.is_some() && owner != stranger) {
            return Err(Errno::ELOOP);
        }
        stranger = stranger.or(owner);
        if fstatfs(&next)?.filesystem_type() == PROC_SUPER_MAGIC {
            // Those of /proc lead to what their text only describes (proc(5)), and nobody makes them.
            let through = OFlag::O_PATH | OFlag::O_CLOEXEC;
            at = openat(&at, step.as_os_str(), through, Mode::empty())?;
            continue;
        }
        let target = readlinkat(&next, "")?;
        let target = Path::new(&target);
        if target.is_absolute() {
            at = begin(target)?;
        }
        left.extend(steps(target));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = openat(&at, ".", flags, Mode::empty())?;
    match stranger {
        Some(uid) if fstat(&folder)?.st_uid != uid => Err(Errno::ELOOP),
        Some(_) | None => Ok(folder),
    }
}

fn begin(path: &Path) -> Result<OwnedFd, Errno> {
    let begin = if path.is_absolute() { "/" } else { "." };
    openat(
        AT_FDCWD,
        begin,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// The names of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter(|part| match part {
        Component::Normal(_) | Component::ParentDir => true,
        Component::Prefix(_) | Component::RootDir | Component::CurDir => false,
    });
    names.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests make folders, links and owners"
)]
mod tests {
    use super::*;
    use nix::unistd::{Gid, Uid, geteuid};
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, chown, lchown, symlink};
    use std::path::PathBuf;

    const GATEWAY: u32 = 54_321;
    const OTHER: u32 = 54_322;

    /// A folder with `roots` and `theirs` in it.
    fn site() -> Option<(tempfile::TempDir, PathBuf)> {
        if !geteuid().is_root() {
            println!("SKIPPED: only root can make links of others");
            assert!(std::env::var_os("CI").is_none(), "skipped in CI");
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().canonicalize().expect("it is there");
        fs::create_dir_all(path.join("roots/below")).expect("folders");
        fs::create_dir_all(path.join("theirs/below")).expect("folders");
        for theirs in ["theirs", "theirs/below"] {
            let (uid, gid) = (Uid::from_raw(GATEWAY), Gid::from_raw(GATEWAY));
            chown(path.join(theirs), Some(uid.as_raw()), Some(gid.as_raw())).expect("given away");
        }
        Some((dir, path))
    }

    fn link(path: &Path, target: &str, owner: u32) {
        symlink(target, path).expect("a link");
        lchown(path, Some(owner), None).expect("given away");
    }

    fn inode(folder: &OwnedFd) -> u64 {
        fstat(folder).expect("it is open").st_ino
    }

    #[test]
    fn a_link_leads_only_where_its_owner_could_have_gone_by_himself() {
        let Some((_dir, path)) = site() else { return };
        for (target, owner, is_followed) in [
            ("theirs", GATEWAY, true),
            ("theirs", 0, true),
            ("roots", 0, true),
            ("roots", GATEWAY, false),
            ("theirs", OTHER, false),
            ("nowhere/../roots", GATEWAY, false),
            ("/etc", GATEWAY, false),
        ] {
            let link = path.join("link");
            self::link(&link, target, owner);
            assert_eq!(open(&link).is_ok(), is_followed, "{target} by {owner}");
            fs::remove_file(&link).expect("removed");
        }
    }

    #[test]
    fn what_lies_behind_links_in_the_middle_counts_and_so_does_every_one_of_them() {
        let Some((_dir, path)) = site() else { return };
        link(&path.join("theirs/out"), "../roots", GATEWAY);
        link(&path.join("theirs/back"), "../roots/../theirs", GATEWAY);
        link(&path.join("roots/in"), "../theirs/back", 0);
        link(&path.join("mixed"), "theirs/back", OTHER);
        assert_eq!(
            open(&path.join("theirs/out/below")).err(),
            Some(Errno::ELOOP)
        );
        let found = open(&path.join("roots/in/below")).expect("theirs in the end");
        let below = fs::metadata(path.join("theirs/below")).expect("there");
        assert_eq!(inode(&found), below.ino());
        assert_eq!(open(&path.join("mixed/below")).err(), Some(Errno::ELOOP));
    }

    #[test]
    fn what_proc_leads_to_is_found_though_no_path_leads_there() {
        use std::os::fd::AsRawFd as _;
        let Some((_dir, path)) = site() else { return };
        let below = path.join("roots/below");
        let held = open(&below).expect("it opens");
        fs::remove_dir(&below).expect("it is empty");
        let number = held.as_raw_fd();
        let found = open(Path::new(&format!("/proc/self/fd/{number}"))).expect("it is held");
        assert_eq!(inode(&found), inode(&held));
    }

    #[test]
    fn a_path_without_links_is_the_kernels_own() {
        let Some((_dir, path)) = site() else { return };
        fs::write(path.join("file"), b"").expect("a file");
        link(&path.join("itself"), "itself", 0);
        for (below, errno) in [
            ("file", Errno::ENOTDIR),
            ("file/x", Errno::ENOTDIR),
            ("nothing", Errno::ENOENT),
            ("itself", Errno::ELOOP),
        ] {
            assert_eq!(open(&path.join(below)).err(), Some(errno), "{below}");
        }
        let root = fs::metadata("/").expect("there is one");
        assert_eq!(inode(&open(Path::new("/")).expect("it opens")), root.ino());
        let here = fs::metadata(".").expect("there is one");
        for same in [".", "./.", "../."] {
            let is_here = inode(&open(Path::new(same)).expect("it opens")) == here.ino();
            assert_eq!(is_here, same != "../.", "{same}");
        }
    }
}
