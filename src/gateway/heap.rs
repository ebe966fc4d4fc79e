//! How large the gateway's heap may become, and whether that fits.
//!
//! V8 ends the process when its heap is full, and the kernel ends it when memory is. Node by itself takes half of
//! what there is for the heap, whatever else the process needs: too little of 2 GB, and too much of 1 GB.

use super::command::GatewayCommand;
use std::ffi::OsString;

/// What the main process has beside its heap (2026.9.6 on Node 24).
pub const BESIDE_HEAP_MB: u32 = 450;
/// The least that it has beside its heap: 2026.9.6 at rest.
pub const LEAST_BESIDE_HEAP_MB: u32 = 300;
/// What its helpers have: the spawn broker and a worker for SQLite (2026.9.6).
pub const HELPERS_MB: u32 = 165;

/// 2026.9.6 dies of a heap of 180 MB and is ready with one of 260.
const LEAST_MB: u32 = 320;
/// What Node takes on the largest machine. A larger heap is collected in longer pauses.
const MOST_MB: u32 = 4096;

/// Below this 2026.9.6 has no room to work: of 512 MB it fills all before it is ready, with a heap of any size.
/// A machine sold with 1 GB shows a little less.
const SMALL_MB: u32 = 900;
/// What OpenClaw's own guide asks for.
pub const RECOMMENDED_MB: u32 = 2048;

/// What is wished of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapWish {
    /// That it fits.
    Fitted,
    /// Nothing: Node decides.
    None,
    /// This size, in MB.
    Mb(u32),
}

/// What becomes of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapChoice {
    /// It is given this size, in MB, as an argument after `node`. In `NODE_OPTIONS` every child would get it too.
    Sized(u32),
    /// It was given this size, in MB, by the command.
    ByCommand(u32),
    /// It was given this size, in MB, by `NODE_OPTIONS`.
    ByEnvironment(u32),
    /// Node decides: it was wished so, or the command does not show where `node` is.
    Left,
}

/// A heap that does not fit beside everything else, all in MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Its old generation, the size that was set.
    pub old: u32,
    /// Its young one, which V8 adds.
    pub young: u32,
    /// The limit.
    pub limit: u32,
    /// The old generation that would fit.
    pub fits: u32,
}

impl TooLarge {
    /// What all of it takes.
    #[must_use]
    pub const fn needed(&self) -> u32 {
        self.old
            .saturating_add(self.young + BESIDE_HEAP_MB + HELPERS_MB)
    }
}

impl HeapChoice {
    /// What is to become of the heap where the limit is this, in MB.
    ///
    /// `is_node` says that the command's first word is Node; `node_options` is the variable of that name.
    #[must_use]
    pub fn of(
        wish: HeapWish,
        limit_mb: u32,
        is_node: bool,
        command: &GatewayCommand,
        node_options: Option<&str>,
    ) -> Self {
        let words: Vec<_> = command
            .node_options
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        if let Some(mb) = size_in(words.iter().map(AsRef::as_ref), limit_mb) {
            return Self::ByCommand(mb);
        }
        let of_environment = size_in(node_options.unwrap_or("").split_whitespace(), limit_mb);
        match (wish, of_environment) {
            (HeapWish::Mb(mb), _) if is_node => Self::Sized(mb),
            (_, Some(mb)) => Self::ByEnvironment(mb),
            (HeapWish::Fitted, None) if is_node => Self::Sized(fitted(limit_mb)),
            (HeapWish::Fitted | HeapWish::None | HeapWish::Mb(_), None) => Self::Left,
        }
    }

    /// Adds the argument to a command line, where one is to be added.
    pub fn apply(self, argv: &mut Vec<OsString>) {
        if let (Self::Sized(mb), false) = (self, argv.is_empty()) {
            argv.insert(1, format!("--max-old-space-size={mb}").into());
        }
    }

    /// The size in MB, where it is known.
    #[must_use]
    pub const fn mb(self) -> Option<u32> {
        match self {
            Self::Sized(mb) | Self::ByCommand(mb) | Self::ByEnvironment(mb) => Some(mb),
            Self::Left => None,
        }
    }

    /// The size in MB that was wished and did not become the heap's.
    #[must_use]
    pub fn is_not(self, wish: HeapWish) -> Option<u32> {
        match wish {
            HeapWish::Mb(mb) => Some(mb).filter(|_| self.mb() != Some(mb)),
            HeapWish::Fitted | HeapWish::None => None,
        }
    }

    /// Whether a size that somebody chose is more than fits.
    #[must_use]
    pub fn too_large(self, wish: HeapWish, limit_mb: u32) -> Option<TooLarge> {
        let is_ours = matches!(self, Self::Sized(_)) && wish == HeapWish::Fitted;
        let found = TooLarge {
            old: self.mb().filter(|_| !is_ours)?,
            young: young(limit_mb),
            limit: limit_mb,
            fits: fitted(limit_mb),
        };
        (found.needed() > limit_mb).then_some(found)
    }
}

/// Whether more memory is recommended for a gateway whatever it does.
#[must_use]
pub const fn is_small(limit_mb: u32) -> bool {
    limit_mb < SMALL_MB
}

/// The old generation that leaves room for everything else, in MB; `None` where no gateway works with what that is.
#[must_use]
pub fn fits(limit_mb: u32) -> Option<u32> {
    room(limit_mb).map(|room| room.min(MOST_MB))
}

/// The old generation that may be tried where this one was full, in MB: as [`fits`], and beyond what is given unasked
/// no more than twice as much.
#[must_use]
pub fn fits_instead(full_mb: Option<u32>, limit_mb: u32) -> Option<u32> {
    let most = full_mb.unwrap_or(0).saturating_mul(2).max(MOST_MB);
    room(limit_mb).map(|room| room.min(most))
}

fn room(limit_mb: u32) -> Option<u32> {
    let others = beside_at_most(limit_mb) + HELPERS_MB;
    let left = limit_mb.saturating_sub(others);
    (left >= LEAST_MB).then_some(left)
}

/// The most that a main process with a full heap is granted beside its old generation, in MB.
#[must_use]
pub fn beside_at_most(limit_mb: u32) -> u32 {
    BESIDE_HEAP_MB + young(limit_mb)
}

/// The same, or the least that is worth a try.
#[must_use]
pub fn fitted(limit_mb: u32) -> u32 {
    fits(limit_mb).unwrap_or(LEAST_MB)
}

/// What V8 adds to the old generation for the young one: on Node 24 48 MB of 1 GB, 96 of 2 GB, 192 from 4 GB on
/// (measured by `heap_size_limit`); a quarter of that on Node 22.
fn young(limit_mb: u32) -> u32 {
    (limit_mb / 64 * 3).min(192)
}

/// The last size among Node's options, in MB.
fn size_in<'a>(words: impl Iterator<Item = &'a str>, limit_mb: u32) -> Option<u32> {
    let mut words = words.peekable();
    let mut found = None;
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        // V8 takes its options with either sign, and their values behind a space too.
        let name = name.replace('_', "-");
        let mut value = || inline.or_else(|| words.peek().copied());
        let number = |text: &str| text.parse::<f64>().ok().filter(|it| *it > 0.0);
        found = match name.as_str() {
            "--max-old-space-size" | "--max-heap-size" => value().and_then(number).or(found),
            "--max-old-space-size-percentage" => value()
                .and_then(number)
                .map(|percent| f64::from(limit_mb) * percent / 100.0)
                .or(found),
            _ => found,
        };
    }
    found.map(|mb| mb as u32)
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, recognise};
    use super::*;

    fn choose(wish: HeapWish, limit_mb: u32, line: &str, node_options: &str) -> HeapChoice {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let Command::Gateway(command) = recognise(&argv) else {
            panic!("not a gateway: {line}");
        };
        let is_node = line.starts_with("node");
        HeapChoice::of(wish, limit_mb, is_node, &command, Some(node_options))
    }

    const PLAIN: &str = "node dist/index.js gateway";

    #[test]
    fn a_fitted_heap_leaves_room_for_what_lives_outside_it() {
        for (limit, heap) in [(1_024, 361), (2_048, 1_337), (4_096, 3_289), (8_192, 4_096)] {
            let choice = choose(HeapWish::Fitted, limit, PLAIN, "");
            assert_eq!(choice, HeapChoice::Sized(heap), "{limit}");
            assert!(heap + young(limit) + BESIDE_HEAP_MB + HELPERS_MB <= limit);
        }
        assert_eq!(fits(512), None);
        assert_eq!(fitted(512), LEAST_MB, "less is not enough to start");
    }

    #[test]
    fn a_full_heap_on_a_large_machine_may_be_twice_as_large_and_on_a_small_one_what_fits() {
        for (full, limit, instead) in [
            (Some(4_096), 24_105, Some(8_192)),
            (Some(8_192), 24_105, Some(16_384)),
            (Some(16_384), 24_105, Some(23_298)),
            (Some(1_337), 2_048, Some(1_337)),
            (Some(120), 8_192, Some(4_096)),
            (None, 24_105, Some(4_096)),
            (Some(u32::MAX), 24_105, Some(23_298)),
            (Some(320), 512, None),
        ] {
            assert_eq!(fits_instead(full, limit), instead, "{full:?} of {limit}");
        }
    }

    #[test]
    fn the_size_goes_right_behind_node_and_nowhere_else() {
        let mut argv: Vec<OsString> = PLAIN.split(' ').map(OsString::from).collect();
        HeapChoice::Sized(1_337).apply(&mut argv);
        assert_eq!(
            argv[..3],
            ["node", "--max-old-space-size=1337", "dist/index.js"]
        );
        let before = argv.clone();
        HeapChoice::ByEnvironment(1_000).apply(&mut argv);
        HeapChoice::Left.apply(&mut argv);
        assert_eq!(argv, before);
    }

    #[test]
    fn a_size_that_the_user_set_is_kept() {
        let kept = |line: &str, options: &str| choose(HeapWish::Fitted, 2_048, line, options);
        for line in [
            "node --max-old-space-size=1536 dist/index.js gateway",
            "node --max_old_space_size=1536 dist/index.js gateway",
            "node --max-old-space-size 1536 dist/index.js gateway",
            "node --max-old-space-size=1 -r x --max-old-space-size=1536 dist/index.js gateway",
            "node --max-old-space-size-percentage=75 dist/index.js gateway",
        ] {
            assert_eq!(
                kept(line, "--max-old-space-size=9"),
                HeapChoice::ByCommand(1_536),
                "{line}"
            );
        }
        assert_eq!(
            kept(PLAIN, "--no-warnings --max-old-space-size=1536"),
            HeapChoice::ByEnvironment(1_536)
        );
        assert_eq!(
            kept("openclaw gateway", "--max-old-space-size=1536"),
            HeapChoice::ByEnvironment(1_536)
        );
        assert_eq!(
            kept(PLAIN, "--max-old-space-size=lots"),
            HeapChoice::Sized(1_337),
            "Node refuses to start with it, whatever is added"
        );
    }

    #[test]
    fn a_wish_yields_to_the_command_and_off_is_off() {
        let line = "node --max-old-space-size=700 dist/index.js gateway";
        let wish = HeapWish::Mb(900);
        assert_eq!(choose(wish, 2_048, line, ""), HeapChoice::ByCommand(700));
        let set = choose(wish, 2_048, PLAIN, "--max-old-space-size=5");
        assert_eq!(set, HeapChoice::Sized(900));
        assert_eq!(set.is_not(wish), None);
        assert_eq!(choose(HeapWish::None, 2_048, PLAIN, ""), HeapChoice::Left);
        assert_eq!(
            choose(HeapWish::Fitted, 2_048, "openclaw gateway", ""),
            HeapChoice::Left,
            "where node is cannot be seen"
        );
    }

    #[test]
    fn a_size_that_was_asked_for_and_is_not_set_is_noticed() {
        let wish = HeapWish::Mb(900);
        for (line, options) in [
            ("openclaw gateway", ""),
            ("openclaw gateway", "--max-old-space-size=700"),
            ("node --max-old-space-size=700 dist/index.js gateway", ""),
        ] {
            let choice = choose(wish, 2_048, line, options);
            assert_eq!(choice.is_not(wish), Some(900), "{line}");
        }
        let same = choose(wish, 2_048, "openclaw gateway", "--max-old-space-size=900");
        assert_eq!(same.is_not(wish), None);
        for wish in [HeapWish::Fitted, HeapWish::None] {
            assert_eq!(
                choose(wish, 2_048, "openclaw gateway", "").is_not(wish),
                None
            );
        }
    }

    #[test]
    fn a_heap_that_cannot_fit_is_told_with_what_it_takes() {
        let choice = HeapChoice::ByCommand(1_536);
        let found = choice
            .too_large(HeapWish::Fitted, 2_048)
            .expect("it cannot fit");
        assert_eq!(
            (found.needed(), found.fits),
            (1_536 + 96 + 450 + 165, 1_337)
        );
        assert_eq!(choice.too_large(HeapWish::Fitted, 4_096), None);
        let endless = HeapChoice::ByCommand(u32::MAX).too_large(HeapWish::Fitted, 4_096);
        assert_eq!(endless.map(|it| it.needed()), Some(u32::MAX));
        assert!(
            HeapChoice::Sized(1_536)
                .too_large(HeapWish::Mb(1_536), 2_048)
                .is_some()
        );
        assert_eq!(
            HeapChoice::Sized(320).too_large(HeapWish::Fitted, 512),
            None,
            "that the machine is small is said instead"
        );
        assert_eq!(HeapChoice::Left.too_large(HeapWish::None, 512), None);
    }

    #[test]
    fn a_machine_sold_with_a_gigabyte_is_not_below_one() {
        assert!(is_small(512) && is_small(899) && !is_small(963) && !is_small(2_048));
    }
}
