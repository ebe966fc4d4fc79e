//! What is said of each death, as it stands in the log.

use crate::core::action::Report;
use crate::core::event::Attempt;
use crate::core::exit_class::{ExitClass, ExitStatus};
use crate::core::incident::{Advice, MemoryStory, MemoryThen};
use crate::core::memory::{Kib, LimitFrom, Sample};
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
        advice: Some(Advice::Grow {
            how: "fly machine update 3d8d9014b32d68 --vm-memory 4096 --vm-cpus 2".into(),
        }),
        ..MemoryStory::default()
    };
    assert_eq!(
        line(ExitStatus::Signal(9), ExitClass::OomKernel(proof), memory),
        "gateway exited class=oom-kernel signal=SIGKILL \
         evidence=\"/sys/fs/cgroup/memory.events rose by 1; /dev/kmsg: killed process 77 (MainThread) at 1893 MB, out of its cgroup's memory\" \
         memory=1871MB available=22MB limit=2048MB limit_from=\"cgroup v2\" seen_before=412ms \
         pid=77 attempt=3 uptime=2h05m \
         fix=\"fly machine update 3d8d9014b32d68 --vm-memory 4096 --vm-cpus 2\""
    );
}

#[test]
fn a_full_heap_is_told_with_the_heap_that_fits() {
    let memory = MemoryStory {
        advice: Some(Advice::RaiseHeap {
            to: Kib::of_mb(1_280),
        }),
        ..MemoryStory::default()
    };
    let text = line(ExitStatus::Signal(6), ExitClass::OomHeap, memory);
    assert!(text.contains("class=oom-heap signal=SIGABRT"), "{text}");
    assert!(text.contains("=1280 fits"), "{text}");
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
