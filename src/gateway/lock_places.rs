//! Where locks lie that can stop a gateway, in every layout a volume may have seen.

use std::path::{Path, PathBuf};

use super::version::Version;
use crate::core::locks::LockKind;

/// A segment `**` of a pattern stands for at most this many folders.
pub const MAX_DEPTH: usize = 6;

/// A place where locks may lie: a folder, and a pattern below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockPlace {
    /// What lies there.
    pub kind: LockKind,
    /// The folder the pattern starts in. It is never searched by following a symbolic link.
    pub root: PathBuf,
    /// The path below it, by segment: `*` stands for any run of characters within a segment, a segment
    /// `**` for none to [`MAX_DEPTH`] folders.
    pub pattern: &'static [&'static str],
    /// The releases that write there, in words for a report.
    pub written_by: &'static str,
    /// Whether the gateway of the version at hand looks there.
    pub matters_now: bool,
}

impl LockPlace {
    /// Whether a path below [`Self::root`], given by its segments, is one of this place.
    #[must_use]
    pub fn matches(&self, segments: &[&str]) -> bool {
        matches_segments(self.pattern, segments)
    }
}

/// Every place where a lock may lie, whatever the version: a volume may have seen many.
///
/// `temp_dir` is the gateway's `$TMPDIR`, else `/tmp`.
/// The folder of each uid is looked at (`openclaw-*`), because a gateway once started by root leaves
/// `openclaw-0`. Chromium and session locks lie in the state folder.
/// `/tmp/openclaw-state-locks-<uid>/*.lock.sqlite` is left out on purpose: the kernel frees those.
#[must_use]
pub fn lock_places(state: &Path, temp_dir: &Path, version: Option<Version>) -> Vec<LockPlace> {
    let on_volume = version.is_none_or(Version::locks_on_volume);
    let in_temp = version.is_none_or(|version| !version.locks_on_volume());
    let mut places = Vec::new();
    let mut add = |kind, root: PathBuf, pattern, written_by, matters_now| {
        places.push(LockPlace {
            kind,
            root,
            pattern,
            written_by,
            matters_now,
        });
    };
    let volume_tmp = state.join("tmp");
    add(
        LockKind::Gateway,
        volume_tmp.clone(),
        &["openclaw-*", "gateway.*.lock"],
        "8.2 and later",
        on_volume,
    );
    add(
        LockKind::Coordinator,
        volume_tmp,
        &["openclaw-*", "gateway.*.lock.sqlite"],
        "8.2 and later",
        on_volume,
    );
    for folder in [
        &["openclaw-*", "gateway.*.lock"],
        &["clawdbot-*", "gateway.*.lock"],
        &["moltbot-*", "gateway.*.lock"],
    ] {
        add(
            LockKind::Gateway,
            temp_dir.to_owned(),
            folder,
            "1.29 to 7.1",
            in_temp,
        );
    }
    add(
        LockKind::LegacyOnVolume,
        state.to_owned(),
        &["gateway.*.lock"],
        "scripts after the guide",
        false,
    );
    let in_sessions = &["agents", "*", "sessions", "*.jsonl.lock"];
    add(
        LockKind::Session,
        state.to_owned(),
        in_sessions,
        "1.29 to 7.1",
        in_temp,
    );
    let staged =
        version.is_none_or(|it| it >= Version::new(2026, 4, 0) && it < Version::new(2026, 6, 0));
    for pattern in [
        &["plugin-runtime-deps", "**", ".openclaw-runtime-deps.lock"],
        &["plugin-runtime-deps", "**", ".openclaw-runtime-mirror.lock"],
    ] {
        add(
            LockKind::RuntimeDeps,
            state.to_owned(),
            pattern,
            "4.x",
            staged,
        );
    }
    for pattern in [
        &["browser", "*", "user-data", "SingletonLock"],
        &["browser", "*", "user-data", "SingletonSocket"],
        &["browser", "*", "user-data", "SingletonCookie"],
    ] {
        add(
            LockKind::ChromiumSingleton,
            state.to_owned(),
            pattern,
            "Chromium",
            true,
        );
    }
    places
}

/// Whether one segment of a path fits one of a pattern, where `*` stands for any run of characters.
///
/// Runs in the product of the lengths at worst, without recursion.
#[must_use]
pub fn matches_segment(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut star, mut resume) = (0, None, 0);
    let mut index = 0;
    while index < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some(at);
            resume = index;
            at += 1;
        } else if pattern.get(at) == Some(&name[index]) {
            at += 1;
            index += 1;
        } else if let Some(star) = star {
            at = star + 1;
            resume += 1;
            index = resume;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn matches_segments(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern.split_first(), segments.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=segments.len().min(MAX_DEPTH))
            .any(|skipped| matches_segments(rest, &segments[skipped..])),
        (Some((first, rest)), Some((segment, others))) => {
            matches_segment(first, segment) && matches_segments(rest, others)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_known_lock_has_its_place() {
        let places = lock_places(Path::new("/data"), Path::new("/tmp"), None);
        let kind_of = |path: &str| {
            let found = places.iter().find(|place| {
                let below = Path::new(path).strip_prefix(&place.root).ok();
                let segments: Option<Vec<&str>> =
                    below.map(|below| below.iter().filter_map(|it| it.to_str()).collect());
                segments.is_some_and(|segments| place.matches(&segments))
            });
            found.map(|place| place.kind)
        };
        for (path, kind) in [
            (
                "/data/tmp/openclaw-1000/gateway.0a1b2c3d.lock",
                LockKind::Gateway,
            ),
            ("/data/tmp/openclaw-0/gateway.state.lock", LockKind::Gateway),
            (
                "/tmp/openclaw-1000/gateway.0a1b2c3d.lock",
                LockKind::Gateway,
            ),
            (
                "/tmp/clawdbot-1000/gateway.0a1b2c3d.lock",
                LockKind::Gateway,
            ),
            (
                "/data/tmp/openclaw-0/gateway.state.lock.sqlite",
                LockKind::Coordinator,
            ),
            ("/data/gateway.0a1b2c3d.lock", LockKind::LegacyOnVolume),
            ("/data/agents/main/sessions/x.jsonl.lock", LockKind::Session),
            (
                "/data/plugin-runtime-deps/.openclaw-runtime-deps.lock",
                LockKind::RuntimeDeps,
            ),
            (
                "/data/plugin-runtime-deps/openclaw-4/a/.openclaw-runtime-mirror.lock",
                LockKind::RuntimeDeps,
            ),
            (
                "/data/browser/openclaw/user-data/SingletonLock",
                LockKind::ChromiumSingleton,
            ),
            (
                "/data/browser/openclaw/user-data/SingletonCookie",
                LockKind::ChromiumSingleton,
            ),
        ] {
            assert_eq!(kind_of(path), Some(kind), "{path}");
        }
        for path in [
            "/data/openclaw.json",
            "/data/state/openclaw.sqlite",
            "/data/state/openclaw.sqlite-wal",
            "/data/tmp/openclaw-0/gateway.state.lock.sqlite-wal",
            "/data/tmp/openclaw-0/gateway.state.lock.sqlite-shm",
            "/data/tmp/openclaw-0/gateway.state.lock.sqlite-journal",
            "/tmp/openclaw-state-locks-0/gateway-lifecycle.12345678.lock.sqlite",
            "/data/agents/main/sessions/x.jsonl",
            "/data/agents/main/x.jsonl.lock",
        ] {
            assert_eq!(kind_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_version_only_says_which_places_matter() {
        let of = |text: &str| {
            lock_places(
                Path::new("/data"),
                Path::new("/tmp"),
                Some(text.parse().unwrap()),
            )
        };
        let (old, new) = (of("2026.7.1"), of("2026.9.6"));
        assert_eq!(old.len(), new.len());
        let matters = |places: &[LockPlace], root: &str| {
            let mut of_root = places.iter().filter(|it| it.kind == LockKind::Gateway);
            of_root.any(|it| it.root == Path::new(root) && it.matters_now)
        };
        assert!(matters(&old, "/tmp") && !matters(&old, "/data/tmp"));
        assert!(matters(&new, "/data/tmp") && !matters(&new, "/tmp"));
    }

    proptest! {
        #[test]
        fn no_pattern_ever_takes_a_wal_or_shm(stem in "[a-z./-]{0,30}", suffix in "-(wal|shm)") {
            let name = format!("gateway.{stem}.lock.sqlite{suffix}");
            for place in lock_places(Path::new("/data"), Path::new("/tmp"), None) {
                let last = place.pattern.last().unwrap();
                prop_assert!(!matches_segment(last, &name), "{} takes {name}", last);
            }
        }

        #[test]
        fn a_name_fits_the_pattern_made_from_it(parts in prop::collection::vec("[a-c.]{0,4}", 1..5)) {
            prop_assert!(matches_segment(&parts.join("*"), &parts.concat()));
            prop_assert!(matches_segment(&parts.join("*"), &parts.join("xyz")));
        }
    }
}
