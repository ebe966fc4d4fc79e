//! Tells of changes in the folders whose content could end a hold.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::{Path, PathBuf};

/// Watches until it is dropped.
#[derive(Debug)]
pub struct CauseWatch {
    _watcher: RecommendedWatcher,
}

impl CauseWatch {
    /// Watches the folders of these files: editors replace files by rename, which a watch on the file misses.
    ///
    /// `changed` runs on notify's thread, for changes of content and names, not for reads.
    /// A folder that cannot be watched is passed over: the slow look comes anyway.
    pub fn on(files: &[PathBuf], changed: impl Fn() + Send + 'static) -> Option<Self> {
        let names: Vec<PathBuf> = files.to_vec();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let relevant = event.is_ok_and(|event| {
                    is_change(event.kind) && event.paths.iter().any(|path| names.contains(path))
                });
                if relevant {
                    changed();
                }
            })
            .ok()?;
        let folders = files.iter().filter_map(|file| file.parent());
        let watched = folders.filter(|folder| watch(&mut watcher, folder)).count();
        (watched > 0).then_some(Self { _watcher: watcher })
    }
}

fn watch(watcher: &mut RecommendedWatcher, folder: &Path) -> bool {
    watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
}

const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any => true,
        EventKind::Access(_) | EventKind::Other => false,
    }
}
