//! Looks at the config while the gateway runs: watches, looks, touches, validates, keeps, rolls back.

use super::super::clock;
use super::super::config_file::Seen;
use super::super::config_look::{self, Looker};
use super::super::config_store::ConfigStore;
use super::super::log;
use super::super::rollback;
use super::super::watch::FileWatch;
use super::{Supervisor, validate};
use crate::core::event::{Attempt, Event};
use crate::core::reload::Digest;
use crate::render::LogLine;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often files are looked at that may lie where the kernel reports no events. A stat of each.
const POLL: Duration = Duration::from_secs(60);
/// A wake that comes this much sooner is used: two wakes cost more than one.
const POLL_SLACK: Duration = Duration::from_secs(15);

/// What is known of the config's files. Behind locks that only threads which may hang with the disk wait for.
#[derive(Debug, Default)]
pub(super) struct ConfigFiles {
    looker: Mutex<Looker>,
    watch: Mutex<Option<FileWatch>>,
    /// A change that was told and not looked at yet.
    is_told: Arc<AtomicBool>,
    /// The watch is being set up.
    is_beginning: AtomicBool,
    /// The config's stamp from before it was read for a start, until the gateway runs and may write to it.
    judged: Mutex<Option<Option<Seen>>>,
    /// One validator at a time.
    validator: tokio::sync::Mutex<()>,
}

/// When files are looked at by their stamps. One look at a time: a hanging disk gets one thread, not many.
#[derive(Debug)]
pub(super) struct Poll {
    last: Instant,
    is_out: Arc<AtomicBool>,
}

impl Poll {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: now,
            is_out: Arc::default(),
        }
    }

    fn next_at(&self) -> Instant {
        self.last + POLL
    }

    /// True when a look is to begin: it is time or nearly so, and the one before has come back. Either way the
    /// next time is a later one, or the loop would be woken without a pause.
    fn begin(&mut self, now: Instant) -> bool {
        if now + POLL_SLACK < self.next_at() {
            return false;
        }
        self.last = now;
        !self.is_out.swap(true, Ordering::AcqRel)
    }
}

impl ConfigFiles {
    fn looker(&self) -> MutexGuard<'_, Looker> {
        self.looker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the config, what it includes, and what else a hold may wait for.
    fn follow(&self, paths: Vec<PathBuf>) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = watch.as_mut() {
            watch.follow(paths);
        }
    }

    /// The config is going to be read for a start.
    pub(super) fn note_judged(&self, config: &Path) {
        *self.judged.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(config_look::stamp(config));
    }

    /// True once for a config that was changed since it was judged, before anything watched it.
    fn was_missed(&self, config: &Path) -> bool {
        let judged = self
            .judged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        judged.is_some_and(|judged| judged != config_look::stamp(config))
    }

    /// What happens from now on is another change.
    pub(super) fn rearm(&self) {
        self.is_told.store(false, Ordering::Release);
    }
}

impl Supervisor {
    fn watched_paths(&self) -> Vec<PathBuf> {
        vec![
            self.launch.config_path.clone(),
            self.launch.state_dir.clone(),
        ]
    }

    pub(super) fn watch_config(&self) {
        let sender = self.sender.clone();
        let (files, own) = (Arc::clone(&self.config), self.watched_paths());
        let launch = Arc::clone(&self.launch);
        // A change that came while nobody would have acted on it must not hide the next one.
        files.rearm();
        // Each look of a hold asks for it, and a hanging disk gets one thread, not many.
        if files.is_beginning.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::task::spawn_blocking(move || {
            let mut paths = files.looker().paths();
            paths.extend(own);
            let tell = sender.clone();
            let mut watch = files.watch.lock().unwrap_or_else(PoisonError::into_inner);
            if watch.is_none() {
                *watch = FileWatch::new(Arc::clone(&files.is_told), move || {
                    // A full channel holds a change already.
                    let _ = sender.try_send(Event::CauseChanged);
                });
            }
            drop(watch);
            files.follow(paths);
            files.is_beginning.store(false, Ordering::Release);
            if files.was_missed(&launch.config_path) {
                let _ = tell.try_send(Event::CauseChanged);
            }
        });
    }

    /// While the gateway drains: an exit that closes a watch waits for the kernel to forget it, some 8 ms.
    pub(super) fn unwatch_config(&self) {
        let files = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || {
            let mut watch = files.watch.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(watch) = watch.as_mut() {
                watch.end();
            }
        });
    }

    pub(super) fn look_at_config(&self, attempt: Attempt, touches: bool) {
        let (launch, port) = (Arc::clone(&self.launch), self.settings.internal_port);
        let (files, own) = (Arc::clone(&self.config), self.watched_paths());
        files.rearm();
        self.job(move || {
            // A copy: should a text that nobody foresaw stop this thread, the others go on from the look before.
            let mut looker = files.looker().clone();
            if touches {
                looker.touch(&launch);
            }
            let (look, mended) = looker.look(&launch, port);
            let mut paths = looker.paths();
            *files.looker() = looker;
            paths.extend(own);
            files.follow(paths);
            Event::ConfigSeen {
                attempt,
                look,
                mended,
            }
        });
    }

    /// When the files are to be looked at by their stamps.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.child.map(|_| self.poll.next_at())
    }

    /// Looks for changes that no event told of, if it is time or nearly so.
    pub(super) fn poll_config(&mut self) {
        if self.child.is_none() || !self.poll.begin(Instant::now()) {
            return;
        }
        let is_out = Arc::clone(&self.poll.is_out);
        let (files, sender) = (Arc::clone(&self.config), self.sender.clone());
        let own = self.watched_paths();
        tokio::task::spawn_blocking(move || {
            let looker = files.looker();
            let (is_outdated, mut paths) = (looker.is_outdated(), looker.paths());
            drop(looker);
            paths.extend(own);
            // A folder that was made anew is watched anew.
            files.follow(paths);
            is_out.store(false, Ordering::Release);
            if is_outdated {
                let _ = sender.try_send(Event::CauseChanged);
            }
        });
    }

    pub(super) fn validate_config(&self, attempt: Attempt, generation: u64) {
        let (launch, calls) = (Arc::clone(&self.launch), self.calls.clone());
        let (files, sender) = (Arc::clone(&self.config), self.sender.clone());
        tokio::spawn(async move {
            let _alone = files.validator.lock().await;
            let seen = Arc::clone(&files);
            let value = tokio::task::spawn_blocking(move || seen.looker().value().clone()).await;
            let validation = validate::ask(&launch, &calls, &value.unwrap_or_default()).await;
            let _ = sender
                .send(Event::ConfigValidated {
                    attempt,
                    generation,
                    validation,
                })
                .await;
        });
    }

    pub(super) fn keep_config(&self, bytes: Digest) {
        let (files, launch) = (Arc::clone(&self.config), Arc::clone(&self.launch));
        tokio::task::spawn_blocking(move || {
            let Some(bytes) = files.looker().main_if_still(&launch, bytes) else {
                return;
            };
            let kept = ConfigStore::open(&launch.state_dir)
                .and_then(|store| store.mark_good(&bytes, clock::wall()));
            if let Err(error) = kept {
                log::emit(
                    &LogLine::warn("the config could not be kept as the last good one")
                        .field("why", error),
                );
            }
        });
    }

    pub(super) fn roll_back_config(&self, attempt: Attempt) {
        let launch = Arc::clone(&self.launch);
        self.job(move || {
            let result = rollback::roll_back(&launch, clock::wall());
            Event::ConfigRolledBack { attempt, result }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_hangs_with_the_disk_does_not_make_the_next_one_due_at_once() {
        let start = Instant::now();
        let mut poll = Poll::new(start);
        assert!(!poll.begin(start));
        let due = poll.next_at();
        assert!(poll.begin(due));
        for _ in 0..3 {
            let due = poll.next_at();
            assert!(!poll.begin(due), "the one before is still out");
            assert!(poll.next_at() >= due + POLL);
        }
        poll.is_out.store(false, Ordering::Release);
        assert!(poll.begin(poll.next_at() - POLL_SLACK), "one wake for two");
    }

    #[test]
    fn a_change_between_the_reading_of_a_config_and_its_watch_is_told_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = dir.path().join("openclaw.json");
        let files = ConfigFiles::default();
        assert!(!files.was_missed(&config), "nothing was judged yet");
        files.note_judged(&config);
        assert!(!files.was_missed(&config));
        files.note_judged(&config);
        std::fs::write(&config, "{}").expect("written");
        assert!(files.was_missed(&config));
        assert!(!files.was_missed(&config), "told once");
    }
}
