//! What is kept for people: the timeline, over the lives of clawkeeper.

mod support;

use serde_json::Value;
use support::keeper::{CONFIG, Kept, Plan};
use support::{PATIENCE, Place, poll_until, read_lossy};

/// The entries in the files, the older file first.
fn entries(plan: &Plan) -> Vec<Value> {
    let folder = plan.state().join("clawkeeper");
    let files = ["timeline.1.ndjson", "timeline.ndjson"].map(|name| folder.join(name));
    let text: String = files.iter().map(|file| read_lossy(file)).collect();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

fn kinds(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .filter_map(|entry| entry["kind"].as_str())
        // Where the test runs is no volume.
        .filter(|kind| *kind != "volume-trouble")
        .collect()
}

fn wait_for_text(kept: &Kept, what: &str, count: usize) {
    poll_until(PATIENCE, what, || {
        let text = kept.text();
        if text.matches(what).count() >= count {
            Ok(())
        } else {
            Err(text)
        }
    });
}

#[test]
fn two_lives_of_clawkeeper_are_one_timeline_in_the_words_of_the_log() {
    let plan = Plan::new(Place::Subreaper)
        .env("CLAWKEEPER_LOG_FORMAT", "text")
        .gateway(["--end", "refuse:no-mode", "--only-first", "1"]);
    let first = plan.start();
    wait_for_text(&first, "holding: the gateway is not started", 1);
    plan.write_config(&format!("{CONFIG} "));
    wait_for_text(&first, "gateway ready", 1);
    let first = first.stop();
    let second = plan.start();
    wait_for_text(&second, "gateway ready", 1);
    let second = second.stop();

    let entries = entries(&plan);
    let life = [
        "begun",
        "started",
        "ready",
        "stopping",
        "exited-requested",
        "ended",
    ];
    let expected = [
        &[
            "begun",
            "started",
            "exited-refused",
            "held",
            "started",
            "hold-over",
            "ready",
        ],
        &life[3..],
        &life,
    ];
    assert_eq!(kinds(&entries), expected.concat());
    let log = first.text + &second.text;
    let mut said = log
        .lines()
        .filter_map(|line| line.split_once(" clawkeeper: "))
        .map(|(before, said)| (before.split_whitespace().last().unwrap_or_default(), said));
    for entry in &entries {
        let (level, _) = said
            .find(|(_, said)| entry["text"] == *said)
            .unwrap_or_else(|| panic!("{entry} is no line of the log, or not in its place\n{log}"));
        assert_eq!(entry["weight"], level.to_lowercase());
    }
}

#[test]
fn a_start_beside_another_clawkeeper_leaves_no_entry() {
    let plan = Plan::new(Place::Subreaper);
    let first = plan.start();
    first.wait_until_ready();
    assert_eq!(plan.start().end_with_survivors().status, "exit 75");
    first.stop();
    let entries = entries(&plan);
    let begun = kinds(&entries)
        .iter()
        .filter(|kind| **kind == "begun")
        .count();
    assert_eq!(begun, 1, "{entries:#?}");
}
