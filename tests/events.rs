//! What is kept for people: the timeline, over the lives of clawkeeper, and the command that shows it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests drive the operating system"
)]

mod support;

use clawkeeper::core::timeline::Kind;
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Output, Stdio};
use support::keeper::{CONFIG, Kept, Plan, snapshot};
use support::{PATIENCE, Place, Process, clawkeeper, poll_until, read_lossy};

/// What the command shows of everything that is kept.
fn entries(plan: &Plan) -> Vec<Value> {
    parsed(&text(&plan.ask(["events", "--json", "-n", "9999"])))
}

fn parsed(text: &str) -> Vec<Value> {
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

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
fn the_document_lists_every_kind() {
    let document = include_str!("../docs/events.md");
    let listed: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('`').nth(1))
        .collect();
    for kind in Kind::ALL {
        let count = listed.iter().filter(|word| **word == kind.word()).count();
        assert_eq!(count, 1, "{}", kind.word());
    }
    assert_eq!(listed.len(), Kind::ALL.len());
}

const LIFE: [&str; 6] = [
    "begun",
    "started",
    "ready",
    "stopping",
    "exited-requested",
    "ended",
];

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
    let held = ["begun", "started", "exited-refused", "held"];
    let mended = ["started", "hold-over", "ready"];
    let expected = [&held[..], &mended, &LIFE[3..], &LIFE].concat();
    assert_eq!(kinds(&entries), expected);
    let log = first.text + &second.text;
    let mut said = log
        .lines()
        .filter_map(|line| line.split_once(" clawkeeper: "))
        .map(|(before, said)| (before.split_whitespace().last().unwrap_or_default(), said));
    for entry in &entries {
        let (level, _) = said
            .find(|(_, said)| entry["text"] == *said)
            .unwrap_or_else(|| panic!("{entry} is no line of the log, or not in its place\n{log}"));
        assert_eq!(entry["level"], level.to_lowercase());
    }
}

#[test]
fn a_death_is_kept_under_the_word_of_its_class() {
    let plan = Plan::new(Place::Subreaper).options(["--backoff-min", "1ms"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let pid = nix::unistd::Pid::from_raw(kept.gateway_pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    kept.wait_until_boot_is_ready(2);
    kept.stop();
    let entries = entries(&plan);
    let kinds = kinds(&entries);
    assert!(
        kinds
            .windows(2)
            .any(|pair| pair == ["ready", "exited-signal"]),
        "{kinds:?}"
    );
}

#[test]
fn a_start_beside_another_clawkeeper_leaves_no_entry() {
    let plan = Plan::new(Place::Subreaper);
    let first = plan.start();
    first.wait_until_ready();
    assert_eq!(plan.start().end_with_survivors().status, "exit 75");
    first.stop();
    assert_eq!(kinds(&entries(&plan)), LIFE);
}

#[test]
fn the_command_says_what_it_cannot_show_and_changes_nothing() {
    let plan = Plan::new(Place::Subreaper);
    let before = snapshot(&plan.state());
    let nothing = plan.ask(["events"]);
    assert_eq!(text(&nothing), "");
    assert!(complaint(&nothing).contains("no events yet"), "{nothing:?}");
    assert_eq!(snapshot(&plan.state()), before);

    let folder = plan.state().join("clawkeeper");
    let elsewhere = plan.file("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    std::os::unix::fs::symlink(&elsewhere, &folder).expect("a link");
    let refused = plan.ask(["events"]);
    assert_eq!(refused.status.code(), Some(71), "{refused:?}");
    assert!(complaint(&refused).contains("clawkeeper: failed to open"));
    fs::remove_file(&folder).expect("the link");

    let life = plan.start();
    life.wait_until_ready();
    life.stop();
    // By the time they can be asked for, all of it is older than this.
    let late = plan.ask(["events", "--since", "1ms"]);
    assert_eq!(text(&late), "");
    assert!(complaint(&late).contains("no events in that time"));
    assert_eq!(
        plan.ask(["events", "--since", "soon"]).status.code(),
        Some(64)
    );
}

#[test]
fn lines_for_people_are_aligned_bounded_and_without_colour_in_a_pipe() {
    let plan = Plan::new(Place::Subreaper).env("TERM", "xterm");
    let life = plan.start();
    life.wait_until_ready();
    life.stop();
    let all = text(&plan.ask(["events"]));
    assert!(!all.contains('\u{1b}'), "{all}");
    let ready = all.lines().find(|line| line.contains(" ready "));
    let ready = ready.unwrap_or_else(|| panic!("it was ready: {all}"));
    assert_eq!(&ready[23..49], "Z  INFO ready             ", "{all}");
    assert!(ready[49..].starts_with("gateway ready took="), "{all}");
    let last = text(&plan.ask(["events", "-n", "2"]));
    assert_eq!(last.lines().count(), 2);
    assert!(all.ends_with(&last));
    let recent = text(&plan.ask(["events", "--since", "1h"]));
    assert_eq!(recent, all);

    // script(1) gives it a terminal.
    let shown = |no_color: &str| {
        let command = format!("{} events -n 1", clawkeeper().display());
        let mut script = Command::new("script");
        let output = plan
            .surround(&mut script)
            .args(["-qec", &command, "/dev/null"])
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null())
            .output()
            .expect("script(1)");
        text(&output)
    };
    assert!(shown("").contains('\u{1b}'));
    assert!(!shown("1").contains('\u{1b}'));
}

/// A command that is followed, and what it has printed.
struct Followed {
    process: Process,
    file: std::path::PathBuf,
}

fn follow(plan: &Plan, args: &[&str]) -> Followed {
    let file = plan.file("followed");
    let out = fs::File::create(&file).expect("a file");
    let mut command = Command::new(clawkeeper());
    let command = plan.surround(command.args(args).stdout(out).stderr(Stdio::null()));
    // A test run in the background of a shell inherits an ignored SIGINT; a person at a terminal does not.
    // SAFETY: signal(2) may be called between fork and exec, and a default disposition runs no code.
    unsafe {
        command.pre_exec(|| {
            nix::sys::signal::signal(
                nix::sys::signal::Signal::SIGINT,
                nix::sys::signal::SigHandler::SigDfl,
            )
            .map(drop)
            .map_err(std::io::Error::from)
        });
    }
    let process = Process::start(command);
    Followed { process, file }
}

#[test]
fn following_begins_before_the_first_life_and_goes_on_over_the_next() {
    let plan = Plan::new(Place::Subreaper);
    let mut followed = follow(&plan, &["events", "--follow", "--json"]);
    for _ in 0..2 {
        let life = plan.start();
        life.wait_until_ready();
        life.signal(nix::libc::SIGTERM);
        // The one that follows lives on.
        life.end_with_survivors();
    }
    poll_until(PATIENCE, "the end of the second life", || {
        let entries = parsed(&read_lossy(&followed.file));
        let kinds = kinds(&entries);
        if kinds == [LIFE, LIFE].concat() {
            Ok(())
        } else {
            Err(format!("{kinds:?}"))
        }
    });
    let pid = i32::try_from(followed.process.child().id()).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    assert_eq!(
        followed.process.wait().signal(),
        Some(2),
        "as a shell has it"
    );
}

#[test]
fn following_ends_with_its_reader_though_nothing_happens() {
    let plan = Plan::new(Place::Subreaper);
    let life = plan.start();
    life.wait_until_ready();
    let mut command = Command::new(clawkeeper());
    let command = plan.surround(command.args(["events", "-f"]).stdout(Stdio::piped()));
    let mut process = Process::start(command);
    let mut out = process.child().stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 20]).expect("what is there already");
    drop(out);
    assert_eq!(process.wait().code(), Some(0));
    life.stop();
}

#[test]
fn a_full_disk_under_the_output_is_an_error() {
    let plan = Plan::new(Place::Subreaper);
    let life = plan.start();
    life.wait_until_ready();
    life.stop();
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = Command::new(clawkeeper());
    let output = plan
        .surround(&mut command)
        .arg("events")
        .stdout(full.expect("/dev/full"))
        .output()
        .expect("clawkeeper");
    assert_eq!(output.status.code(), Some(71), "{output:?}");
}
