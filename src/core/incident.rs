//! What is kept of a death for whoever looks in the morning: which deaths, how many, and what is advised.
//!
//! Never reads a file or a clock; the wall time of an incident is the shell's to add.

use super::action::Report;
use super::event::Attempt;
use super::exit_class::{ExitClass, StopCause};
use super::memory::{HeapBounds, Kib, Point, Rise, Sample, Series};
use super::oom::OomEvidence;
use super::time::{Millis, Mono};
use super::volume::Space;
use serde::{Deserialize, Serialize};

/// Incidents that are kept.
pub const FILES_MAX: usize = 20;
/// The size of one; the oldest lines of output go first.
pub const FILE_MAX_BYTES: usize = 160 * 1024;
/// Room that is left to the gateway: an incident must not be what fills the volume.
pub const LEAVE_BYTES: u64 = 32 << 20;
/// The same for files.
pub const LEAVE_INODES: u64 = 100;
/// The word for a kill that hit another process than the gateway's main one.
pub const BESIDE: &str = "oom-beside";

/// A death, and everything the core knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The word of the class, or [`BESIDE`].
    pub class: String,
    /// The attempt.
    pub attempt: Attempt,
    /// The gateway's main process.
    pub pid: i32,
    /// When it happened.
    pub at: Mono,
    /// Since its start.
    pub uptime: Millis,
    /// Whether it had been ready.
    pub was_ready: bool,
    /// What was said of it.
    pub report: Report,
    /// What memory had to do with it.
    pub memory: MemoryStory,
    /// Memory over its whole life, oldest first.
    pub history: Vec<Point>,
}

/// What memory had to do with a death.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStory {
    /// What the kernel said of out-of-memory kills meanwhile.
    pub oom: OomEvidence,
    /// The last look before it.
    pub last: Option<MemoryThen>,
    /// A rise that went on until then.
    #[serde(default)]
    pub leak: Option<Rise>,
    /// What can be done about it, where memory ran out.
    pub advice: Option<Advice>,
}

/// The last look at memory before a death.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryThen {
    /// What was seen.
    pub sample: Sample,
    /// How long before the death.
    pub before: Millis,
}

impl MemoryThen {
    /// The last look before `at`.
    #[must_use]
    pub fn of(series: &Series, at: Mono) -> Option<Self> {
        series.last().map(|sample| Self {
            sample: *sample,
            before: at.since(sample.at),
        })
    }
}

/// What a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advice {
    /// It needs more memory than there is.
    Grow {
        /// How that is done here.
        how: String,
    },
    /// It leaks; more memory only delays the next time.
    Leak {
        /// How more is given here.
        how: String,
    },
    /// V8's heap is smaller than this place could give.
    RaiseHeap {
        /// What fits beside everything else.
        to: Kib,
    },
}

/// Why an incident was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Bytes are short.
    #[error("the volume has {} MB free, and {} MB are left to the gateway", .free_bytes >> 20, LEAVE_BYTES >> 20)]
    Bytes {
        /// What is free.
        free_bytes: u64,
    },
    /// Inodes are short.
    #[error(
        "the volume has room for {free} more files, and {LEAVE_INODES} are left to the gateway"
    )]
    Inodes {
        /// What is free.
        free: u64,
    },
}

/// Whether a death is worth a file: one that nobody wanted and that says something new.
#[must_use]
pub const fn is_worth_keeping(class: &ExitClass) -> bool {
    match class {
        // A refusal holds and says why until it is mended; the others are wanted.
        ExitClass::Refused(_)
        | ExitClass::Relaunch
        | ExitClass::Requested(
            StopCause::ChannelsOff
            | StopCause::Reload
            | StopCause::Restart
            | StopCause::Pause
            | StopCause::Shutdown,
        ) => false,
        ExitClass::Requested(StopCause::Hung | StopCause::Memory | StopCause::StartTimeout)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. }
        | ExitClass::OomKernel(_)
        | ExitClass::OomHeap => true,
    }
}

/// What is advised after this death; nothing where memory had no part in it.
#[must_use]
pub fn advise(
    class: &ExitClass,
    memory: &MemoryStory,
    heap: &HeapBounds,
    how_to_grow: &str,
) -> Option<Advice> {
    let how = how_to_grow.to_owned();
    let grow = || Advice::Grow { how: how.clone() };
    match class {
        ExitClass::OomKernel(_) | ExitClass::OomHeap if memory.leak.is_some() => {
            Some(Advice::Leak { how })
        }
        ExitClass::OomKernel(_) => Some(grow()),
        ExitClass::OomHeap => {
            let main = memory.last.as_ref().map(|last| last.sample.main);
            // A full heap is nearly all that the main process has.
            let was = heap.size.or(main.map(|main| main.less(heap.beside)));
            Some(match (was, heap.fits) {
                (Some(was), Some(fits)) if fits <= was.percent(LARGER_PERCENT) => grow(),
                (_, Some(to)) => Advice::RaiseHeap { to },
                (_, None) => grow(),
            })
        }
        ExitClass::Requested(_)
        | ExitClass::Relaunch
        | ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. } => None,
    }
}

/// A heap that is not larger by this much would be full as soon.
const LARGER_PERCENT: u32 = 125;

/// Whether a file of this size may be written.
///
/// # Errors
/// What is short. A volume that does not tell is tried: the write itself is then the test.
pub fn room_for(bytes: u64, space: Option<Space>) -> Result<(), NoRoom> {
    let Some(space) = space else { return Ok(()) };
    if space.free_bytes < LEAVE_BYTES.saturating_add(bytes) {
        return Err(NoRoom::Bytes {
            free_bytes: space.free_bytes,
        });
    }
    match space.free_inodes {
        Some(free) if free < LEAVE_INODES => Err(NoRoom::Inodes { free }),
        Some(_) | None => Ok(()),
    }
}

/// Which of the kept incidents go, so that one more makes no more than [`FILES_MAX`].
///
/// The oldest of the class that has the most: a storm of crashes does not drive out the one death that explains it.
/// `kept` holds the class of each, the oldest first; the answer holds places in it.
#[must_use]
pub fn to_remove(kept: &[&str]) -> Vec<usize> {
    let mut left: Vec<(usize, &str)> = kept.iter().copied().enumerate().collect();
    let mut gone = Vec::new();
    while left.len() >= FILES_MAX {
        let count = |class: &str| left.iter().filter(|(_, other)| *other == class).count();
        let most = left
            .iter()
            .map(|(_, class)| count(class))
            .max()
            .unwrap_or(0);
        let oldest = left.iter().position(|(_, class)| count(class) == most);
        gone.push(left.remove(oldest.unwrap_or(0)).0);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::super::memory::LimitFrom;
    use super::*;

    #[test]
    fn a_storm_of_crashes_does_not_drive_out_the_death_that_explains_it() {
        let mut kept = vec!["oom-kernel"];
        for _ in 0..500 {
            let mut gone = to_remove(&kept);
            gone.sort_unstable_by(|one, other| other.cmp(one));
            for place in gone {
                kept.remove(place);
            }
            kept.push("crash");
            assert!(kept.len() <= FILES_MAX);
        }
        assert_eq!((kept.len(), kept[0]), (FILES_MAX, "oom-kernel"));
    }

    #[test]
    fn a_full_heap_is_enlarged_where_there_is_room_and_else_the_machine() {
        let seen = |limit_mb, main_mb| MemoryStory {
            last: Some(MemoryThen {
                sample: Sample {
                    at: Mono(0),
                    main: Kib::of_mb(main_mb),
                    tree: Kib::of_mb(main_mb + 165),
                    processes: 3,
                    available: Kib::of_mb(100),
                    limit: Kib::of_mb(limit_mb),
                    limit_from: LimitFrom::Machine,
                    usage: Kib::of_mb(main_mb),
                    stalled: None,
                },
                before: Millis(100),
            }),
            ..MemoryStory::default()
        };
        let grow = Advice::Grow { how: "more".into() };
        let raise = |mb: u32| Advice::RaiseHeap { to: Kib::of_mb(mb) };
        // The sizes that were set and that fit, and what the main process had where none was set.
        for (size, fits, main_mb, advice) in [
            (Some(120), Some(1_337), 180, raise(1_337)),
            (Some(1_337), Some(1_337), 1_700, grow.clone()),
            (Some(1_100), Some(1_337), 1_500, grow.clone()),
            (None, Some(1_337), 1_240, raise(1_337)),
            (None, Some(1_337), 1_500, grow.clone()),
            (Some(120), None, 180, grow.clone()),
        ] {
            let heap = HeapBounds {
                size: size.map(Kib::of_mb),
                fits: fits.map(Kib::of_mb),
                beside: Kib::of_mb(300),
            };
            let given = advise(&ExitClass::OomHeap, &seen(2_048, main_mb), &heap, "more");
            assert_eq!(given, Some(advice), "{heap:?}, {main_mb} MB");
        }
        let heap = HeapBounds {
            fits: Some(Kib::of_mb(1_337)),
            ..HeapBounds::default()
        };
        let unseen = MemoryStory::default();
        assert_eq!(
            advise(&ExitClass::OomHeap, &unseen, &heap, "more"),
            Some(raise(1_337)),
            "before the first look"
        );
        let crash = ExitClass::Crash { code: 1 };
        assert_eq!(advise(&crash, &unseen, &heap, "more"), None);
    }

    #[test]
    fn of_a_leak_more_memory_is_not_the_first_advice() {
        let story = MemoryStory {
            leak: Some(Rise {
                per_hour: Kib::of_mb(90),
                by: Kib::of_mb(400),
                over: Millis::from_secs(3_600),
                to_come: None,
            }),
            ..MemoryStory::default()
        };
        let heap = HeapBounds::default();
        let advice = |class| advise(&class, &story, &heap, "more");
        let leak = Some(Advice::Leak { how: "more".into() });
        assert_eq!(advice(ExitClass::OomHeap), leak);
        assert_eq!(advice(ExitClass::Crash { code: 1 }), None);
    }

    #[test]
    fn what_lies_there_beyond_the_bound_goes_with_the_next() {
        let kept = vec!["signal"; FILES_MAX + 30];
        let gone = to_remove(&kept);
        assert_eq!(gone, (0..=30).collect::<Vec<_>>(), "the oldest");
        assert_eq!(to_remove(&kept[..FILES_MAX - 1]), [0usize; 0]);
    }

    #[test]
    fn an_incident_is_not_what_fills_the_volume() {
        let space = |free_bytes, free_inodes| {
            Some(Space {
                free_bytes,
                total_bytes: 1 << 40,
                free_inodes,
            })
        };
        let cases = [
            (None, true),
            (space(LEAVE_BYTES + 100, None), true),
            (space(LEAVE_BYTES + 99, None), false),
            (space(1 << 40, Some(LEAVE_INODES)), true),
            (space(1 << 40, Some(LEAVE_INODES - 1)), false),
            (space(0, Some(0)), false),
        ];
        for (space, fits) in cases {
            assert_eq!(room_for(100, space).is_ok(), fits, "{space:?}");
        }
    }
}
