//! V8's heap snapshots and Node's fatal-error reports, where the user asks for them: their folder, how many stay,
//! and whether there is room for one more.
//!
//! The gateway writes them as its own user, so they lie in a folder of its own, `<state>/clawkeeper-dumps`, and not
//! in ours, which it cannot enter. Nothing in it is trusted: links are never followed, and a report is read within
//! a bound, for what must not stay in it.

use super::folder::{FileError, FileOwner, Folder};
use super::launch::Launch;
use super::log;
use super::memory;
use super::secrets;
use super::volume;
use crate::core::incident::LEAVE_BYTES;
use crate::gateway::{Mask, Version, clean_report};
use crate::render::LogLine;
use crate::settings::HeapDump;
use nix::errno::Errno;
use nix::unistd::fchown;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder beside ours.
pub const FOLDER: &str = "clawkeeper-dumps";
/// Snapshots that stay. One can be as large as the heap.
const SNAPSHOTS_KEPT: usize = 2;
/// Reports that stay, of some kilobytes each.
const REPORTS_KEPT: usize = 10;
const NAMES_MAX: usize = 2000;
const SNAPSHOT: &str = ".heapsnapshot";
const REPORT: &str = ".json";
/// A report has some 20 KB, and 10 more for each worker thread.
const REPORT_MAX_BYTES: usize = 4 << 20;

/// An incident is written while the next start is prepared: one of them cleans the reports.
static CLEANING: Mutex<()> = Mutex::new(());

/// What the gateway is started with, and what is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Arguments of node, before the script.
    pub options: Vec<OsString>,
    /// Why something that was asked for is not done in this start.
    pub refused: Option<String>,
}

/// Makes room and the options for one start. Blocks as long as the disk does.
#[must_use]
pub fn prepare(launch: &Launch, wanted: HeapDump) -> Prepared {
    if wanted == HeapDump::Off {
        return Prepared::default();
    }
    prepare_within(launch, wanted, memory::limit(Path::new("/")).bytes)
}

fn prepare_within(launch: &Launch, wanted: HeapDump, memory_limit_bytes: u64) -> Prepared {
    let refused = |why: String| Prepared {
        options: Vec::new(),
        refused: Some(why),
    };
    if launch.command.entry.is_none() {
        return refused("the command does not start with node and a script".to_owned());
    }
    let folder = match open(launch) {
        Ok(folder) => folder,
        Err(error) => return refused(error.to_string()),
    };
    let made_room = prune(&folder, SNAPSHOT, SNAPSHOTS_KEPT)
        .and_then(|()| prune(&folder, REPORT, REPORTS_KEPT))
        .and_then(|()| clean(&folder, launch));
    if let Err(error) = made_room {
        return refused(error.to_string());
    }
    let mut prepared = Prepared::default();
    let path = folder.path().as_os_str();
    let with_path = |option: &str| {
        let mut option = OsString::from(option);
        option.push(path);
        option
    };
    if wanted.has_report() {
        if can_leave_out_the_environment(launch) {
            prepared.options.extend([
                "--report-on-fatalerror".into(),
                "--report-exclude-env".into(),
                with_path("--report-directory="),
            ]);
        } else {
            prepared.refused = Some(
                "this Node may not know --report-exclude-env, and a report would hold every secret of the environment".to_owned(),
            );
        }
    }
    if wanted.has_snapshot() {
        // The heap can grow to the limit before V8 gives up, and a snapshot is about as large.
        let needed = memory_limit_bytes.saturating_add(LEAVE_BYTES);
        let free = volume::space(folder.path()).map_or(0, |space| space.free_bytes);
        if free >= needed {
            prepared.options.extend([
                "--heapsnapshot-near-heap-limit=1".into(),
                with_path("--diagnostic-dir="),
            ]);
        } else {
            prepared.refused = Some(format!(
                "a heap snapshot may need {} MB, and the volume has {} MB free",
                needed >> 20,
                free >> 20
            ));
        }
    }
    prepared
}

/// What was written there at this time or later, in milliseconds after 1970; a few names at most. Reports are rid of
/// secrets first.
#[must_use]
pub fn written_since(launch: &Launch, since_ms: u64) -> Vec<PathBuf> {
    let folder = Folder::open(&launch.state_dir).and_then(|state| state.child(OsStr::new(FOLDER)));
    let Ok(folder) = folder else {
        return Vec::new();
    };
    if let Err(error) = clean(&folder, launch) {
        log::emit(
            &LogLine::warn("a report of node may hold secrets").field("why", error.to_string()),
        );
    }
    let since = i64::try_from(since_ms / 1000).unwrap_or(i64::MAX);
    let names = folder.names(NAMES_MAX).unwrap_or_default();
    let is_new = |name: &OsString| {
        (has_suffix(name, SNAPSHOT) || has_suffix(name, REPORT))
            && folder
                .stat_of(name)
                .is_ok_and(|stat| stat.st_mtime >= since)
    };
    names
        .into_iter()
        .filter(is_new)
        .take(SNAPSHOTS_KEPT + 1)
        .map(|name| folder.path().join(name))
        .collect()
}

/// By what the gateway demands, else by the variable that Node's own images set. A flag that Node does not know
/// would keep the gateway from starting.
fn can_leave_out_the_environment(launch: &Launch) -> bool {
    let is_known = |version: &OsStr| {
        let mut numbers = version.to_str()?.trim_start_matches('v').split('.');
        let mut next = || numbers.next()?.parse::<u32>().ok();
        Some((next()?, next()?))
    };
    let node = launch.value_of("NODE_VERSION");
    let by_node = match node.as_deref().and_then(is_known) {
        Some((22, minor)) => minor >= 13,
        Some((23, minor)) => minor >= 3,
        Some((major, _)) => major >= 24,
        None => false,
    };
    by_node
        || launch
            .version
            .is_some_and(Version::excludes_env_from_reports)
}

/// The folder, owned by the gateway's user. One of another user that is not empty is left alone: the gateway could
/// have moved ours there, to be given it.
fn open(launch: &Launch) -> Result<Folder, FileError> {
    let state = Folder::open(&launch.state_dir)?;
    let folder = state.child_or_create(OsStr::new(FOLDER), 0o700)?;
    let refused = |errno| FileError {
        operation: "use",
        path: folder.path().to_owned(),
        errno,
    };
    let owner = folder.stat()?.st_uid;
    if owner == launch.account.uid {
        return Ok(folder);
    }
    let Some(account) = launch.account.file_owner() else {
        return Err(refused(Errno::EPERM));
    };
    if owner != nix::unistd::geteuid().as_raw() || !folder.names(1)?.is_empty() {
        return Err(refused(Errno::EPERM));
    }
    fchown(
        folder.fd().as_fd(),
        Some(account.uid.into()),
        Some(account.gid.into()),
    )
    .map_err(refused)?;
    Ok(folder)
}

/// Removes all but the newest of a kind.
fn prune(folder: &Folder, suffix: &str, kept: usize) -> Result<(), FileError> {
    let mut found: Vec<(i64, OsString)> = folder
        .names(NAMES_MAX)?
        .into_iter()
        .filter(|name| has_suffix(name, suffix))
        .filter_map(|name| Some((folder.stat_of(&name).ok()?.st_mtime, name)))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    for (_, name) in found.iter().skip(kept) {
        folder.remove(name)?;
    }
    Ok(())
}

/// Rids every report of secrets. One that cannot be is removed, and that is said.
///
/// # Errors
/// The folder cannot be listed, or such a report cannot be removed.
fn clean(folder: &Folder, launch: &Launch) -> Result<(), FileError> {
    let _one_at_a_time = CLEANING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reports = folder.names(NAMES_MAX)?;
    reports.retain(|name| has_suffix(name, REPORT));
    if reports.is_empty() {
        return Ok(());
    }
    let (mask, owner) = (secrets::mask(launch), launch.account.file_owner());
    for name in reports {
        if let Err(why) = clean_one(folder, &name, &mask, owner) {
            folder.remove(&name)?;
            log::emit(
                &LogLine::warn("a report of node was removed: it may hold secrets")
                    .field("path", folder.path().join(&name).display())
                    .field("why", why),
            );
        }
    }
    Ok(())
}

fn clean_one(
    folder: &Folder,
    name: &OsStr,
    mask: &Mask,
    owner: Option<FileOwner>,
) -> Result<(), String> {
    let bytes = folder
        .read(name, REPORT_MAX_BYTES)
        .map_err(|error| error.to_string())?;
    let mut report = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if clean_report(&mut report, mask) {
        let text = format!("{report:#}\n");
        folder
            .replace(name, text.as_bytes(), 0o600, owner)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn has_suffix(name: &OsStr, suffix: &str) -> bool {
    name.as_encoded_bytes().ends_with(suffix.as_bytes())
}

#[cfg(test)]
#[path = "dumps_tests.rs"]
mod tests;
