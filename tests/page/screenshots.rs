//! The pictures in `docs/images`, which `scripts/screenshots` takes anew.
//!
//! The gateway in them is the real one. The days before are made up, in the words of the reports that they would have led to.

use crate::now_ms;
use crate::support::browser::{self, Page};
use crate::support::cgroup::Cgroup;
use crate::support::health::Listener;
use crate::support::real::{NEWEST, Site};
use crate::support::skip;
use clawkeeper::core::action::Report;
use clawkeeper::core::event::Attempt;
use clawkeeper::core::exit_class::{ExitClass, ExitStatus};
use clawkeeper::core::history::Minute;
use clawkeeper::core::incident::{Advice, MemoryStory, MemoryThen};
use clawkeeper::core::memory::{Kib, LimitFrom, Rise, Sample};
use clawkeeper::core::oom::{OomCount, OomProof};
use clawkeeper::core::reload::Told;
use clawkeeper::core::time::{Millis, Mono, WallMs};
use clawkeeper::core::timeline::kind_of;
use clawkeeper::host::{folder::Folder, history, incidents, state, timeline};
use clawkeeper::render;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const LIMIT_MB: u16 = 2_048;
const HOUR: u64 = 60;

/// Minutes ago, and what was reported then.
fn past() -> Vec<(u64, Report)> {
    let attempt = Attempt;
    let started = |number, pid| Report::Started {
        attempt: attempt(number),
        pid,
    };
    let ready = |number, took| Report::Ready {
        attempt: attempt(number),
        took: Millis(took),
    };
    let edit = |told| Report::Edit {
        path: "/srv/openclaw.json".into(),
        told,
    };
    vec![
        (97 * HOUR, started(1, 212)),
        (97 * HOUR, ready(1, 9_412)),
        (70 * HOUR + 4, accepted(&edit)),
        (70 * HOUR + 4, applied(&edit, 2, 640)),
        (44 * HOUR, Report::Paused { limit: None }),
        (44 * HOUR - 25, resumed(25)),
        (44 * HOUR - 25, started(2, 3_871)),
        (44 * HOUR - 25, ready(2, 8_870)),
        (5 * HOUR + 31, out_of_memory()),
        (5 * HOUR + 31, started(3, 9_133)),
        (5 * HOUR + 31, ready(3, 9_650)),
        (41, applied(&edit, 3, 580)),
    ]
}

fn accepted(edit: &impl Fn(Told) -> Report) -> Report {
    edit(Told::Accepted {
        generation: 2,
        changed: vec!["channels.discord".into()],
    })
}

fn applied(edit: &impl Fn(Told) -> Report, generation: u64, took: u64) -> Report {
    edit(Told::Applied {
        generation,
        took: Millis(took),
    })
}

fn resumed(minutes: u64) -> Report {
    Report::Resumed {
        after: Millis::from_secs(minutes * 60),
        by_limit: false,
    }
}

fn out_of_memory() -> Report {
    let sample = Sample {
        at: Mono(0),
        main: Kib::of_mb(1_690),
        tree: Kib::of_mb(1_931),
        processes: 3,
        available: Kib::of_mb(18),
        limit: Kib::of_mb(u32::from(LIMIT_MB)),
        limit_from: LimitFrom::CgroupV1,
        usage: Kib::of_mb(2_044),
        stalled: None,
    };
    let count = OomCount {
        source: "memory.oom_control".into(),
        kills: 1,
        is_ours: true,
    };
    Report::Exited {
        attempt: Attempt(2),
        pid: 3_871,
        status: ExitStatus::Signal(9),
        class: ExitClass::OomKernel(OomProof {
            count: Some(count),
            kill: None,
        }),
        uptime: Millis::from_secs(38 * 3_600 + 240),
        memory: Box::new(MemoryStory {
            last: Some(MemoryThen {
                sample,
                before: Millis(1_800),
            }),
            leak: Some(Rise {
                per_hour: Kib::of_mb(212),
                by: Kib::of_mb(1_040),
                over: Millis::from_secs(5 * 3_600),
                to_come: None,
            }),
            advice: Some(Advice::Leak {
                how: "fly machine update 4d891577b21e08 --vm-memory 4096 --vm-cpus 2".into(),
            }),
            ..MemoryStory::default()
        }),
    }
}

/// What memory was so many minutes ago: at rest, with a leak over the five hours before the death.
fn memory_mb(ago: u64) -> u16 {
    let wave = |minutes: u64, high: u64| {
        let phase = ago % minutes;
        phase.min(minutes - phase) * high / minutes
    };
    let death = 5 * HOUR + 31;
    let leak = if (death..death + 5 * HOUR).contains(&ago) {
        (death + 5 * HOUR - ago) * 1_020 / (5 * HOUR)
    } else {
        0
    };
    u16::try_from(830 + wave(190, 90) + wave(23, 40) + leak).expect("small")
}

/// Writes the days before into a state folder.
fn write_past(state_dir: &Path) {
    let private = Folder::open(state_dir).and_then(|folder| state::open_private(&folder));
    let private = private.expect("our folder");
    let now = now_ms();
    let began = 97 * HOUR;
    for ago in (1..=began).rev() {
        let paused = (44 * HOUR - 25..44 * HOUR).contains(&ago);
        let fell = ago == 5 * HOUR + 31;
        // The machine was updated then.
        if (60 * HOUR..61 * HOUR).contains(&ago) {
            continue;
        }
        let tree = if paused { 0 } else { memory_mb(ago) };
        let minute = Minute {
            number: u32::try_from(now / 60_000 - ago).expect("a minute"),
            tree_mb: tree,
            main_mb: tree.saturating_sub(if tree > 1_000 {
                168 + (tree - 1_000) / 4
            } else {
                168
            }),
            limit_mb: LIMIT_MB,
            heap_full_mb: if paused { 0 } else { 1_637 },
            ready_secs: if paused { 0 } else { 60 - 11 * u8::from(fell) },
            starts: u8::from(fell),
            phase: if paused {
                b'z'
            } else {
                [b'r', b'b'][usize::from(fell)]
            },
        };
        history::write(&private, minute).expect("written");
    }
    let mut lines = String::new();
    for (ago, report) in past() {
        let at = WallMs(now - ago * 60_000);
        let line = render::report(&report);
        let entry = timeline::entry(at, kind_of(&report).expect("a transition"), &line);
        let json = serde_json::json!({
            "at": at.0, "kind": entry.kind.word(), "weight": entry.weight.word(), "text": entry.text,
        });
        // What reads it goes by how a line begins.
        let json = json
            .to_string()
            .replacen(&format!("\"at\":{},", at.0), "", 1);
        lines += &format!("{{\"at\":{},{}\n", at.0, &json[1..]);
        if let Report::Exited { class, .. } = &report {
            keep_incident(private.path(), at, class.word(), &entry.text);
        }
    }
    fs::write(private.path().join("timeline.ndjson"), lines).expect("written");
}

fn keep_incident(private: &Path, at: WallMs, class: &str, line: &str) {
    let kept = incidents::Kept {
        time: at,
        class: class.to_owned(),
        line: line.to_owned(),
        clawkeeper_version: "0.1.0".to_owned(),
        gateway_version: Some(NEWEST.to_owned()),
        attempt: 2,
        pid: 3_871,
        uptime: Millis::from_secs(38 * 3_600 + 240),
        was_ready: true,
        memory: MemoryStory::default(),
        history: Vec::new(),
        dumps: Vec::new(),
        output: Vec::new(),
    };
    let folder = private.join("incidents");
    fs::create_dir(&folder).expect("a folder");
    let name = kept.utc().replace(' ', "T").replace(':', "-");
    let name = format!("{}.000Z-{class}.json", name.trim_end_matches('Z'));
    let text = serde_json::to_string(&kept).expect("JSON");
    fs::write(folder.join(name), text).expect("written");
}

fn images() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Waits until all of it is drawn, with nothing focused, and takes the picture.
fn take(page: &Page, phase: &str, name: &str) {
    page.wait_for_phase(phase);
    page.wait_for(
        "document.querySelector('#chart .curve') && document.querySelector('#incidents b')",
    );
    let path = images().join(name);
    page.screenshot(&path);
    let size = fs::metadata(&path).expect("a picture").len();
    assert!(size < 150_000, "{name} has {size} bytes");
}

#[test]
#[ignore = "takes pictures: scripts/screenshots"]
fn pictures_of_the_page() {
    if !browser::is_there() {
        return;
    }
    let Some(group) = Cgroup::new(u64::from(LIMIT_MB) << 20) else {
        return skip("no memory cgroup can be made here");
    };
    let site = Site::new(NEWEST);
    write_past(&site.state(""));
    let listener = Listener::new();
    let listen = format!("127.0.0.1:{}", listener.port);
    let start = |config: &str| {
        site.write_config(config);
        // A volume of its own, at a place that is nobody's.
        let mount = format!("mount --bind {} /srv", site.state("").display());
        let line = format!("{}; {mount}; exec \"$0\" \"$@\"", group.enter());
        let mut command = site.command("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-ec",
                &line,
            ])
            .arg(crate::support::clawkeeper())
            .args(site.run_args(&[]))
            .env("OPENCLAW_STATE_DIR", "/srv")
            .env("CLAWKEEPER_HEALTH_LISTEN", &listen);
        crate::support::real::Running::start(&mut command)
    };

    let mut running = start(crate::support::real::GOOD_CONFIG);
    site.wait_until_ready(&running);
    let page = Page::open(listener.port, 880, "light");
    page.resize(880, 1180);
    page.wait_for_phase("ready");
    page.value("document.getElementById('tab-day').click()");
    page.wait_for("document.getElementById('sum').textContent.includes('the last day')");
    take(&page, "ready", "page-light.png");
    page.close();
    running.stop();

    let mut held = start("{\n  gateway: {\n    mode: \"local\"\n    port: 3000\n  }\n}\n");
    listener.wait_for("held");
    let page = Page::open(listener.port, 880, "dark");
    page.resize(880, 1040);
    page.wait_for_phase("held");
    page.value("document.getElementById('tab-week').click()");
    page.wait_for("document.getElementById('sum').textContent.includes('the last week')");
    take(&page, "held", "page-dark.png");
    page.close();
    let page = Page::open(listener.port, 390, "dark");
    page.resize(390, 844);
    take(&page, "held", "page-phone.png");
    page.close();
    let answer: Value = listener.get("/readyz").json();
    assert_eq!(answer["phase"], "held");
    held.stop();
}
