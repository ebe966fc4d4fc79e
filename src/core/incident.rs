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
    /// The size of V8's heap as it was set, where it was.
    #[serde(default)]
    pub heap: Option<Kib>,
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
        /// How it is given what fits beside everything else.
        how: String,
    },
    /// V8's heap was set to more than there is room for.
    LowerHeap {
        /// How it is given what fits beside everything else.
        how: String,
        /// How more memory is given here, which is the other way.
        grow: String,
    },
}

/// What a person can do here, in words.
#[derive(Debug, Clone, Copy)]
pub struct Ways<'a> {
    /// How this machine or container is given more memory.
    pub grow: &'a str,
    /// How the gateway is given the heap that fits.
    pub fit_heap: &'a str,
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
    ways: Ways<'_>,
) -> Option<Advice> {
    let grow = || ways.grow.to_owned();
    let fit_heap = || ways.fit_heap.to_owned();
    let last = memory.last.as_ref().map(|last| &last.sample);
    let is_of_heap = match class {
        ExitClass::OomHeap => true,
        ExitClass::OomKernel(_) => false,
        ExitClass::Requested(StopCause::Memory) => {
            last.is_some_and(|sample| heap.is_full_first(sample))
        }
        ExitClass::Requested(_)
        | ExitClass::Relaunch
        | ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. } => return None,
    };
    // A full heap is nearly all that the main process has.
    let was = heap
        .size
        .or(last.map(|sample| sample.main.less(heap.beside)));
    let may_be_raised = is_of_heap && heap.may_be_raised(was);
    let is_too_large = !is_of_heap
        && heap
            .fits
            .is_some_and(|fits| heap.size.is_some_and(|size| size > fits));
    Some(match memory.leak {
        Some(_) if may_be_raised => Advice::Leak { how: fit_heap() },
        Some(_) => Advice::Leak { how: grow() },
        None if may_be_raised => Advice::RaiseHeap { how: fit_heap() },
        None if is_too_large => Advice::LowerHeap {
            how: fit_heap(),
            grow: grow(),
        },
        None => Advice::Grow { how: grow() },
    })
}

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
    use super::super::oom::OomProof;
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

    const WAYS: Ways<'_> = Ways {
        grow: "more",
        fit_heap: "fit",
    };

    fn heap(size: Option<u32>, fits: Option<u32>) -> HeapBounds {
        HeapBounds {
            size: size.map(Kib::of_mb),
            fits: fits.map(Kib::of_mb),
            beside: Kib::of_mb(300),
            beside_at_most: Kib::of_mb(546),
        }
    }

    fn seen(limit_mb: u32, main_mb: u32) -> MemoryStory {
        MemoryStory {
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
        }
    }

    #[test]
    fn a_full_heap_is_enlarged_where_there_is_room_and_else_the_machine() {
        let grow = Advice::Grow { how: "more".into() };
        let raise = Advice::RaiseHeap { how: "fit".into() };
        // The sizes that were set and that fit, and what the main process had where none was set.
        for (size, fits, main_mb, advice) in [
            (Some(120), Some(1_337), 180, &raise),
            (Some(1_337), Some(1_337), 1_700, &grow),
            (Some(1_100), Some(1_337), 1_500, &grow),
            (None, Some(1_337), 1_240, &raise),
            (None, Some(1_337), 1_500, &grow),
            (Some(120), None, 180, &grow),
        ] {
            let heap = heap(size, fits);
            let given = advise(&ExitClass::OomHeap, &seen(2_048, main_mb), &heap, WAYS);
            assert_eq!(given.as_ref(), Some(advice), "{heap:?}, {main_mb} MB");
        }
        let heap = heap(None, Some(1_337));
        let unseen = MemoryStory::default();
        assert_eq!(
            advise(&ExitClass::OomHeap, &unseen, &heap, WAYS),
            Some(raise),
            "before the first look"
        );
        let crash = ExitClass::Crash { code: 1 };
        assert_eq!(advise(&crash, &unseen, &heap, WAYS), None);
    }

    #[test]
    fn a_heap_set_to_more_than_there_is_room_for_is_lowered_where_the_kernel_killed() {
        let lower = Advice::LowerHeap {
            how: "fit".into(),
            grow: "more".into(),
        };
        let grow = Advice::Grow { how: "more".into() };
        let kernel = ExitClass::OomKernel(OomProof {
            count: None,
            kill: None,
        });
        for (size, fits, advice) in [
            (Some(1_536), Some(1_337), lower),
            (Some(1_337), Some(1_337), grow.clone()),
            (None, Some(1_337), grow.clone()),
            (Some(320), None, grow),
        ] {
            let heap = heap(size, fits);
            let given = advise(&kernel, &seen(2_048, 1_700), &heap, WAYS);
            assert_eq!(given, Some(advice), "{heap:?}");
        }
    }

    #[test]
    fn of_a_leak_more_memory_is_not_the_first_advice() {
        let leaking = |main_mb| MemoryStory {
            leak: Some(Rise {
                per_hour: Kib::of_mb(90),
                by: Kib::of_mb(400),
                over: Millis::from_secs(3_600),
                to_come: None,
            }),
            ..seen(2_048, main_mb)
        };
        let advice = |class, main_mb, heap| advise(&class, &leaking(main_mb), &heap, WAYS);
        let leak = |how: &str| Some(Advice::Leak { how: how.into() });
        let restart = || ExitClass::Requested(StopCause::Memory);
        let fitted = heap(Some(1_337), Some(1_337));
        let small = heap(Some(320), Some(1_337));
        assert_eq!(advice(ExitClass::OomHeap, 1_700, fitted), leak("more"));
        assert_eq!(advice(restart(), 1_500, fitted), leak("more"));
        assert_eq!(
            advice(restart(), 600, small),
            leak("fit"),
            "the heap decided"
        );
        let helpers = advice(restart(), 500, small);
        assert_eq!(helpers, leak("more"), "memory is full before the heap");
        assert_eq!(advice(ExitClass::Crash { code: 1 }, 1_700, fitted), None);
        let hung = ExitClass::Requested(StopCause::Hung);
        assert_eq!(advice(hung, 1_700, fitted), None);
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
