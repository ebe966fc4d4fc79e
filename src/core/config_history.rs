//! Which versions of the config are kept, what they are called, and which one a roll-back means.
//!
//! A version says everything about itself in its file name, so that there is no index that could
//! disagree with the folder after a crash.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use super::time::WallMs;

/// At most this many versions are kept.
pub const MAX_VERSIONS: usize = 40;

/// And at most this many bytes of them; the newest and the last good one stay in any case.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The SHA-256 of a config's bytes, as `sha256sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// Why a version was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It stood there when something else was written over it.
    Found,
    /// `config put` wrote it.
    Put,
    /// `config edit` wrote it.
    Edit,
    /// An older version was put back.
    Rollback,
    /// The gateway was ready with it.
    Ready,
}

/// One version that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Counts up from 1 and is never given twice while a newer version is kept.
    pub number: u64,
    /// When it was kept.
    pub kept_at: WallMs,
    /// Why.
    pub source: Source,
    /// Of its content.
    pub hash: ContentHash,
    /// Its size.
    pub bytes: u64,
}

/// Which version is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one with this number.
    Number(u64),
    /// The last known good one, or else the newest, that differs from what stands there now.
    Previous,
}

/// Why there is no such version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoVersion {
    /// Nothing has been kept yet.
    NoneKept,
    /// Not this number.
    NoSuchNumber(u64),
    /// Every version is what stands there now.
    NoneDiffers,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Found,
        Self::Put,
        Self::Edit,
        Self::Rollback,
        Self::Ready,
    ];

    /// As it stands in a file name and in `config history`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Put => "put",
            Self::Edit => "edit",
            Self::Rollback => "rollback",
            Self::Ready => "ready",
        }
    }
}

impl ContentHash {
    /// Enough of it to tell versions apart by eye.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

impl fmt::Display for NoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneKept => f.write_str("no version of the config has been kept yet"),
            Self::NoSuchNumber(number) => write!(f, "there is no version {number}"),
            Self::NoneDiffers => {
                f.write_str("no version that is kept differs from the config as it is")
            }
        }
    }
}

impl std::error::Error for NoVersion {}

impl Version {
    /// `000042-put-1763726400123-<64 digits>.json5`: sorted by name they are sorted by age.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Self {
            number,
            kept_at: WallMs(kept_at),
            source,
            hash,
            bytes: _,
        } = self;
        format!("{number:06}-{}-{kept_at}-{hash}.json5", source.word())
    }

    /// The version a file name stands for; `None` for every other file in the folder.
    #[must_use]
    pub fn from_file_name(name: &str, bytes: u64) -> Option<Self> {
        let fields: Vec<&str> = name.strip_suffix(".json5")?.split('-').collect();
        let [number, source, kept_at, hash] = fields[..] else {
            return None;
        };
        let version = Self {
            number: number.parse().ok()?,
            kept_at: WallMs(kept_at.parse().ok()?),
            source: Source::ALL
                .into_iter()
                .find(|known| known.word() == source)?,
            hash: ContentHash::from_hex(hash)?,
            bytes,
        };
        // Two names for one version would be two files for one number.
        (version.file_name() == name).then_some(version)
    }
}

/// The number of the version after these.
#[must_use]
pub fn next_number(versions: &[Version]) -> u64 {
    let newest = versions.iter().map(|version| version.number).max();
    newest.map_or(1, |newest| newest.saturating_add(1))
}

/// The versions to be dropped, oldest first: those beyond either bound, never the newest or the good one.
#[must_use]
pub fn to_prune(versions: &[Version], good: Option<u64>) -> Vec<Version> {
    let mut newest_first: Vec<&Version> = versions.iter().collect();
    newest_first.sort_by_key(|version| std::cmp::Reverse(version.number));
    let is_good = |version: &Version| Some(version.number) == good;
    let newest = newest_first.first().map(|version| version.number);
    let stays = |version: &Version| is_good(version) || Some(version.number) == newest;
    let (mut count, mut bytes) = (0, 0_u64);
    for version in newest_first.iter().filter(|version| stays(version)) {
        count += 1;
        bytes = bytes.saturating_add(version.bytes);
    }
    let mut dropped = Vec::new();
    let mut is_over = false;
    for version in newest_first.into_iter().filter(|version| !stays(version)) {
        count += 1;
        bytes = bytes.saturating_add(version.bytes);
        // One that does not fit ends the history: it has no gaps but around the good one.
        is_over |= count > MAX_VERSIONS || bytes > MAX_BYTES;
        if is_over {
            dropped.push(version.clone());
        }
    }
    dropped.reverse();
    dropped
}

/// The versions a roll-back may mean, the likeliest first; more than one only for [`Wanted::Previous`].
///
/// `current` is the hash of what stands there now, if anything does.
pub fn candidates(
    versions: &[Version],
    good: Option<u64>,
    current: Option<ContentHash>,
    wanted: Wanted,
) -> Result<Vec<Version>, NoVersion> {
    if versions.is_empty() {
        return Err(NoVersion::NoneKept);
    }
    if let Wanted::Number(number) = wanted {
        let found = versions.iter().find(|version| version.number == number);
        return found
            .map(|version| vec![version.clone()])
            .ok_or(NoVersion::NoSuchNumber(number));
    }
    let mut others: Vec<Version> = versions
        .iter()
        .filter(|version| Some(version.hash) != current)
        .cloned()
        .collect();
    others.sort_by_key(|version| {
        let is_good = Some(version.number) == good;
        std::cmp::Reverse((is_good, version.number))
    });
    if others.is_empty() {
        Err(NoVersion::NoneDiffers)
    } else {
        Ok(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, content: u8, bytes: u64) -> Version {
        Version {
            number,
            kept_at: WallMs(1_763_726_400_000 + number),
            source: Source::Put,
            hash: ContentHash([content; 32]),
            bytes,
        }
    }

    fn numbers(versions: &[Version]) -> Vec<u64> {
        versions.iter().map(|version| version.number).collect()
    }

    #[test]
    fn a_file_name_gives_back_the_version_it_was_made_of() {
        for source in Source::ALL {
            let version = Version {
                source,
                ..version(42, 0xa5, 7)
            };
            let name = version.file_name();
            assert!(
                name.starts_with(&format!("000042-{}-", source.word())),
                "{name}"
            );
            assert_eq!(Version::from_file_name(&name, 7), Some(version));
        }
    }

    #[test]
    fn any_other_name_is_no_version() {
        let name = version(42, 0xa5, 7).file_name();
        for other in [
            name.replace(".json5", ""),
            name.replace(".json5", ".json5.tmp"),
            name.replace("000042", "42"),
            name.replace("000042", "+00042"),
            name.replace("000042", "-00042"),
            name.replace("put", "PUT"),
            name.replace("put", "steal"),
            name.replace("a5a5", "A5A5"),
            name.replace("a5a5", "\u{e9}5"),
            "last-good.json".to_owned(),
            String::new(),
        ] {
            assert_eq!(Version::from_file_name(&other, 7), None, "{other}");
        }
    }

    #[test]
    fn numbers_count_on_from_the_highest() {
        assert_eq!(next_number(&[]), 1);
        assert_eq!(next_number(&[version(9, 1, 1), version(3, 2, 1)]), 10);
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_and_the_good_one_stay() {
        let many: Vec<Version> = (1..=50).map(|number| version(number, 0, 1)).collect();
        assert_eq!(
            numbers(&to_prune(&many, None)),
            (1..=10).collect::<Vec<_>>()
        );
        let dropped = numbers(&to_prune(&many, Some(3)));
        assert!(!dropped.contains(&3));
        assert_eq!(many.len() - dropped.len(), MAX_VERSIONS);
        assert!(to_prune(&many[..MAX_VERSIONS], None).is_empty());
    }

    #[test]
    fn bytes_are_bounded_whatever_the_sizes_are() {
        let large: Vec<Version> = (1..=9)
            .map(|number| version(number, 0, MAX_BYTES / 4))
            .collect();
        assert_eq!(numbers(&to_prune(&large, None)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&to_prune(&large, Some(1))), [2, 3, 4, 5, 6]);
        let huge = [version(1, 0, u64::MAX), version(2, 0, u64::MAX)];
        assert_eq!(numbers(&to_prune(&huge, None)), [1]);
        assert!(to_prune(&huge, Some(1)).is_empty());
    }

    #[test]
    fn a_roll_back_means_the_good_one_and_else_the_newest_that_differs() {
        let kept = [version(1, 0xa, 1), version(2, 0xb, 1), version(3, 0xc, 1)];
        let hash = |content| Some(ContentHash([content; 32]));
        let first = |good, current| {
            candidates(&kept, good, current, Wanted::Previous).map(|found| numbers(&found))
        };
        assert_eq!(first(Some(1), hash(0xc)), Ok(vec![1, 2]));
        assert_eq!(first(Some(3), hash(0xc)), Ok(vec![2, 1]));
        assert_eq!(first(None, hash(0xb)), Ok(vec![3, 1]));
        assert_eq!(first(None, None), Ok(vec![3, 2, 1]));
        assert_eq!(
            candidates(&kept[..1], None, hash(0xa), Wanted::Previous),
            Err(NoVersion::NoneDiffers)
        );
    }

    #[test]
    fn a_number_means_that_version_and_no_other() {
        let kept = [version(1, 0xa, 1), version(2, 0xb, 1)];
        let ask = |number| candidates(&kept, None, None, Wanted::Number(number));
        assert_eq!(ask(2).map(|found| numbers(&found)), Ok(vec![2]));
        assert_eq!(ask(7), Err(NoVersion::NoSuchNumber(7)));
        assert_eq!(
            candidates(&[], None, None, Wanted::Number(1)),
            Err(NoVersion::NoneKept)
        );
    }
}
