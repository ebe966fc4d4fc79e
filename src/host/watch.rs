//! Tells of changes in the files that could end a hold, and that a running gateway's config consists of.
//!
//! Watches their folders: editors, `tee`, sftp and the gateway replace files by rename, which a watch on the file
//! misses. At rest it costs nothing: the kernel wakes it.

use super::folder::Folder;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Watches until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    watcher: RecommendedWatcher,
    files: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Each folder with the identity it had when it was last watched.
    folders: BTreeSet<(PathBuf, Option<(u64, u64)>)>,
}

impl FileWatch {
    /// `changed` runs on notify's thread, for changes of content and names, not for reads, and once until
    /// somebody sets `is_told` to false again: a file written in a thousand pieces is one change.
    pub fn new(is_told: Arc<AtomicBool>, changed: impl Fn() + Send + 'static) -> Option<Self> {
        let files: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let names = Arc::clone(&files);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            // An error is an overflow of the kernel's queue: what was lost may have been ours.
            let relevant = event.map_or(true, |event| {
                event.need_rescan()
                    || is_change(event.kind) && event.paths.iter().any(|it| names.contains(it))
            });
            drop(names);
            if relevant && !is_told.swap(true, Ordering::AcqRel) {
                changed();
            }
        });
        Some(Self {
            watcher: watcher.ok()?,
            files,
            folders: BTreeSet::new(),
        })
    }

    /// Watches exactly these files from now on, in the folders that are there now.
    ///
    /// A folder that cannot be watched is passed over: the slow look comes anyway.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        let folders: BTreeSet<_> = files
            .iter()
            .filter_map(|file| file.parent())
            .map(|folder| (folder.to_owned(), identity(folder)))
            .collect();
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        for (gone, _) in self.folders.difference(&folders) {
            // It fails for a folder that was removed, which took its watch along.
            let _ = self.watcher.unwatch(gone);
        }
        for (new, _) in folders.difference(&self.folders) {
            let _ = self.watcher.watch(new, RecursiveMode::NonRecursive);
        }
        self.folders = folders;
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let stat = Folder::open(folder).ok()?.stat().ok()?;
    Some((stat.st_dev, stat.st_ino))
}

const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any => true,
        EventKind::Access(_) | EventKind::Other => false,
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests write, move and remove files"
)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(10);

    struct Watched {
        watch: FileWatch,
        is_told: Arc<AtomicBool>,
    }

    impl Watched {
        fn rearm(&self) {
            self.is_told.store(false, Ordering::Release);
        }
    }

    fn watch(files: &[PathBuf]) -> (Watched, Receiver<()>) {
        let (sender, receiver) = channel();
        let is_told = Arc::new(AtomicBool::new(false));
        let watch = FileWatch::new(Arc::clone(&is_told), move || {
            let _ = sender.send(());
        });
        let mut watch = watch.expect("inotify");
        watch.follow(files.iter().cloned());
        (Watched { watch, is_told }, receiver)
    }

    #[test]
    fn a_file_replaced_by_rename_written_in_place_or_removed_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("openclaw.json");
        let (watch, told) = watch(std::slice::from_ref(&file));
        let new = dir.path().join("new");
        std::fs::write(&new, "1").expect("written");
        std::fs::rename(&new, &file).expect("renamed");
        told.recv_timeout(SOON).expect("a rename");
        watch.rearm();
        std::fs::write(&file, "2").expect("written");
        told.recv_timeout(SOON).expect("a write");
        watch.rearm();
        std::fs::remove_file(&file).expect("removed");
        told.recv_timeout(SOON).expect("a removal");
    }

    #[test]
    fn a_folder_that_was_made_anew_is_watched_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("state");
        let file = folder.join("openclaw.json");
        std::fs::create_dir(&folder).expect("a folder");
        let (mut watch, told) = watch(std::slice::from_ref(&file));
        std::fs::rename(&folder, dir.path().join("old")).expect("renamed");
        std::fs::create_dir(&folder).expect("a folder");
        watch.watch.follow([file.clone()]);
        watch.rearm();
        while told.try_recv().is_ok() {}
        std::fs::write(&file, "1").expect("written");
        told.recv_timeout(SOON).expect("a write in the new folder");
    }

    #[test]
    fn many_writes_are_one_change_until_it_was_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, other) = (dir.path().join("a"), dir.path().join("b"));
        let (watch, told) = watch(&[file.clone(), other.clone()]);
        for _ in 0..100 {
            std::fs::write(&file, "1").expect("written");
        }
        told.recv_timeout(SOON).expect("the first");
        watch.rearm();
        // What the kernel still holds of the hundred is at most one more.
        std::fs::write(&other, "1").expect("written");
        told.recv_timeout(SOON).expect("another");
        assert!(told.try_recv().is_err(), "told more often than asked");
    }
}
