//! What is said of each death, as it stands in the log.

use crate::core::action::Report;
use crate::core::event::Attempt;
use crate::core::exit_class::{ExitClass, ExitStatus, StopCause};
use crate::core::incident::{Advice, MemoryStory, MemoryThen};
use crate::core::memory::{Kib, LimitFrom, Outlook, Rise, Sample};
use crate::core::oom::{Exhausted, KernelKill, OomCount, OomEvidence, OomProof};
use crate::core::time::{Millis, Mono};

fn line(status: ExitStatus, class: ExitClass, memory: MemoryStory) -> String {
    crate::render::report(&Report::Exited {
        attempt: Attempt(3),
        pid: 77,
        status,
        class,
        uptime: Millis::from_secs(7_500),
        memory: Box::new(memory),
    })
    .to_text()
}

fn counted(is_ours: bool) -> Option<OomCount> {
    Some(OomCount {
        source: if is_ours {
            "/sys/fs/cgroup/memory.events".into()
        } else {
            "/proc/vmstat".into()
        },
        kills: 1,
        is_ours,
    })
}

fn killed() -> KernelKill {
    KernelKill {
        pid: 77,
        name: "MainThread".into(),
        exhausted: Exhausted::Cgroup,
        rss_bytes: Some(1893 << 20),
    }
}

fn last() -> Option<MemoryThen> {
    Some(MemoryThen {
        sample: Sample {
            at: Mono(0),
            main: Kib::of_mb(1_700),
            tree: Kib::of_mb(1_871),
            processes: 3,
            available: Kib::of_mb(22),
            limit: Kib::of_mb(2_048),
            limit_from: LimitFrom::CgroupV2,
            usage: Kib::of_mb(2_026),
            stalled: None,
        },
        before: Millis(412),
    })
}

#[test]
fn a_kernel_kill_is_one_line_with_evidence_numbers_and_the_command() {
    let proof = OomProof {
        count: counted(true),
        kill: Some(killed()),
    };
    let memory = MemoryStory {
        last: last(),
        heap: Some(Kib::of_mb(1_337)),
        advice: Some(Advice::Grow {
            how: "fly machine update 3d8d9014b32d68 --vm-memory 4096 --vm-cpus 2".into(),
        }),
        ..MemoryStory::default()
    };
    assert_eq!(
        line(ExitStatus::Signal(9), ExitClass::OomKernel(proof), memory),
        "gateway exited class=oom-kernel signal=SIGKILL \
         evidence=\"/sys/fs/cgroup/memory.events rose by 1; /dev/kmsg: killed process 77 (MainThread) at 1893 MB, out of its cgroup's memory\" \
         memory=1871MB available=22MB limit=2048MB limit_from=\"cgroup v2\" heap=1337MB seen_before=412ms \
         pid=77 attempt=3 uptime=2h05m \
         fix=\"fly machine update 3d8d9014b32d68 --vm-memory 4096 --vm-cpus 2\""
    );
}

#[test]
fn a_full_heap_is_told_with_the_heap_that_fits() {
    let memory = MemoryStory {
        advice: Some(Advice::RaiseHeap {
            how: "set CLAWKEEPER_HEAP=1280".into(),
        }),
        heap: Some(Kib::of_mb(320)),
        last: last(),
        ..MemoryStory::default()
    };
    let text = line(ExitStatus::Signal(6), ExitClass::OomHeap, memory);
    assert!(text.contains("class=oom-heap signal=SIGABRT"), "{text}");
    assert!(text.contains(" heap=320MB "), "{text}");
    let fix = "fix=\"V8's heap was too small, and there is room: set CLAWKEEPER_HEAP=1280\"";
    assert!(text.ends_with(fix), "{text}");
}

#[test]
fn a_restart_for_memory_is_told_with_numbers_the_leak_and_what_to_do() {
    let memory = MemoryStory {
        last: last(),
        heap: Some(Kib::of_mb(1_337)),
        leak: Some(Rise {
            per_hour: Kib::of_mb(240),
            by: Kib::of_mb(200),
            over: Millis::from_secs(3_000),
            to_come: None,
        }),
        advice: Some(Advice::Leak { how: "more".into() }),
        ..MemoryStory::default()
    };
    let class = ExitClass::Requested(StopCause::Memory);
    assert_eq!(
        line(ExitStatus::Code(0), class, memory),
        "gateway exited class=requested code=0 cause=memory \
         memory=1871MB available=22MB limit=2048MB limit_from=\"cgroup v2\" heap=1337MB seen_before=412ms \
         leak=\"240MB per hour\" pid=77 attempt=3 uptime=2h05m \
         fix=\"it leaks: a plugin or channel added lately is the likeliest cause; more memory only delays it: more\""
    );
}

#[test]
fn a_heap_that_is_too_large_is_made_smaller_or_memory_larger() {
    let memory = MemoryStory {
        advice: Some(Advice::LowerHeap {
            how: "set less".into(),
            grow: "buy more".into(),
        }),
        ..MemoryStory::default()
    };
    let proof = OomProof {
        count: counted(true),
        kill: None,
    };
    let text = line(ExitStatus::Signal(9), ExitClass::OomKernel(proof), memory);
    let fix = "fix=\"V8's heap may take more than there is beside everything else: set less; or buy more\"";
    assert!(text.ends_with(fix), "{text}");
}

#[test]
fn what_is_said_of_a_leak_names_what_will_be_full_first() {
    let told = |heap_left| {
        let outlook = Outlook {
            sample: last().expect("there is one").sample,
            heap_left,
            rise: Some(Rise {
                per_hour: Kib::of_mb(240),
                by: Kib::of_mb(200),
                over: Millis::from_secs(3_000),
                to_come: None,
            }),
            lasts: Some(Millis::from_secs(120)),
        };
        let short = Report::MemoryShort {
            outlook,
            may_restart: true,
            how_to_grow: String::new(),
        };
        let restart = Report::MemoryRestart(outlook);
        [short, restart].map(|report| crate::render::report(&report).to_text())
    };
    let [short, restart] = told(None);
    assert!(short.starts_with("memory is short available="), "{short}");
    assert!(short.contains("before memory is full"), "{short}");
    assert!(restart.contains("before the kernel kills it"), "{restart}");
    assert!(!restart.contains("heap"), "{restart}");
    for text in told(Some(Kib::of_mb(21))) {
        assert!(
            text.contains("heap") && text.contains(" heap_left=21MB "),
            "{text}"
        );
        assert!(!text.contains("kernel"), "{text}");
    }
    assert!(told(Some(Kib(0)))[1].contains("before its heap is full"));
}

#[test]
fn a_sigkill_that_is_not_the_kernels_says_why_not_or_that_it_cannot_be_told() {
    for (count, is_watched, says) in [
        (
            None,
            true,
            "the kernel counted no out-of-memory kill: somebody sent it",
        ),
        (
            None,
            false,
            "no counter of out-of-memory kills can be read here",
        ),
        (
            counted(false),
            false,
            "/proc/vmstat rose by 1, but it counts the whole host",
        ),
        (counted(true), true, "to another process: somebody sent it"),
    ] {
        let oom = OomEvidence {
            count,
            is_watched,
            ..OomEvidence::default()
        };
        let memory = MemoryStory {
            oom,
            ..MemoryStory::default()
        };
        let text = line(
            ExitStatus::Signal(9),
            ExitClass::Signal { signal: 9 },
            memory,
        );
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("class=oom"), "{text}");
    }
}

#[test]
fn a_killed_helper_is_told_by_its_name_where_the_log_names_it() {
    let oom = OomEvidence {
        count: counted(true),
        kills: vec![KernelKill {
            pid: 80,
            name: "sqlite-worker".into(),
            ..killed()
        }],
        ..OomEvidence::default()
    };
    let memory = MemoryStory {
        oom,
        ..MemoryStory::default()
    };
    let report = Report::KilledBeside {
        kills: 1,
        memory: Box::new(memory),
    };
    let text = crate::render::report(&report).to_text();
    assert!(text.contains("class=oom-beside count=1"), "{text}");
    assert!(text.contains("killed process 80 (sqlite-worker)"), "{text}");
}
