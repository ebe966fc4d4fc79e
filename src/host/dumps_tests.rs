#![allow(clippy::disallowed_methods, reason = "tests write files")]

use super::*;
use crate::gateway;
use crate::settings::Settings;

fn launch(dir: &std::path::Path, line: &str, node: &str) -> Launch {
    let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let gateway::Command::Gateway(command) = gateway::recognise(&argv) else {
        panic!("a gateway")
    };
    let environment = vec![
        ("OPENCLAW_STATE_DIR".into(), dir.into()),
        ("NODE_VERSION".into(), node.into()),
    ];
    let settings = Settings {
        user: crate::settings::User::Ids {
            uid: nix::unistd::geteuid().as_raw(),
            gid: None,
        },
        ..Settings::default()
    };
    Launch::prepare(argv, command, environment, &settings).expect("prepared")
}

const GATEWAY: &str = "node dist/index.js gateway";
const MB: u64 = 1 << 20;

fn has(prepared: &Prepared, option: &str) -> bool {
    let starts = |it: &OsString| it.to_string_lossy().starts_with(option);
    prepared.options.iter().any(starts)
}

#[test]
fn what_is_asked_for_is_passed_where_it_can_do_no_harm() {
    let dir = tempfile::tempdir().expect("a folder");
    let modern = launch(dir.path(), GATEWAY, "24.16.0");
    assert_eq!(prepare(&modern, HeapDump::Off), Prepared::default());
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    let both = prepare_within(&modern, HeapDump::Both, MB);
    assert_eq!(both.refused, None);
    assert!(has(&both, "--report-exclude-env") && has(&both, "--report-on-fatalerror"));
    assert!(has(&both, "--heapsnapshot-near-heap-limit=1") && has(&both, "--diagnostic-dir=/"));
    let report = prepare_within(&modern, HeapDump::Report, MB);
    assert!(!has(&report, "--heapsnapshot"));
    let old = prepare_within(
        &launch(dir.path(), GATEWAY, "22.12.0"),
        HeapDump::Report,
        MB,
    );
    assert!(
        old.options.is_empty(),
        "a report would hold the environment"
    );
    assert!(
        old.refused
            .is_some_and(|why| why.contains("--report-exclude-env"))
    );
    let no_node = prepare_within(
        &launch(dir.path(), "openclaw gateway", "24.16.0"),
        HeapDump::Both,
        MB,
    );
    assert!(no_node.options.is_empty() && no_node.refused.is_some());
}

#[test]
fn a_snapshot_needs_as_much_room_as_the_memory_it_is_of() {
    let dir = tempfile::tempdir().expect("a folder");
    let launch = launch(dir.path(), GATEWAY, "24.16.0");
    let prepared = prepare_within(&launch, HeapDump::Both, 1 << 60);
    assert!(!has(&prepared, "--heapsnapshot") && has(&prepared, "--report-on-fatalerror"));
    assert!(prepared.refused.is_some_and(|why| why.contains("free")));
}

#[test]
fn few_stay_and_nothing_else_in_the_folder_is_touched() {
    let dir = tempfile::tempdir().expect("a folder");
    let launch = launch(dir.path(), GATEWAY, "24.16.0");
    let folder = dir.path().join(FOLDER);
    std::fs::create_dir(&folder).expect("a folder");
    let outside = dir.path().join("precious.heapsnapshot");
    std::fs::write(&outside, "precious").expect("written");
    for number in 0..5 {
        std::fs::write(folder.join(format!("Heap.{number}.heapsnapshot")), "x").expect("written");
    }
    std::os::unix::fs::symlink(&outside, folder.join("Heap.0a.heapsnapshot")).expect("a link");
    std::fs::write(folder.join("notes.txt"), "mine").expect("written");
    let _ = prepare_within(&launch, HeapDump::Snapshot, MB);
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .expect("listed")
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("text"))
        .collect();
    left.sort_unstable();
    assert_eq!(
        left,
        ["Heap.3.heapsnapshot", "Heap.4.heapsnapshot", "notes.txt"]
    );
    assert_eq!(std::fs::read_to_string(outside).expect("there"), "precious");
    assert_eq!(written_since(&launch, 0).len(), 2);
    assert!(written_since(&launch, u64::MAX).is_empty());
}

#[test]
fn reports_are_rid_of_secrets_and_what_cannot_be_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let launch = launch(dir.path(), GATEWAY, "24.16.0");
    let folder = dir.path().join(FOLDER);
    std::fs::create_dir(&folder).expect("a folder");
    let report = r#"{"header": {}, "workers": [{"environmentVariables": {"X_TOKEN": "hunter2"}}]}"#;
    std::fs::write(folder.join("report.1.json"), report).expect("written");
    let sound = "{\"header\": {}}";
    std::fs::write(folder.join("report.2.json"), sound).expect("written");
    // Node had no room for the rest of it.
    std::fs::write(folder.join("report.3.json"), &report[..70]).expect("written");
    std::fs::write(
        folder.join("report.4.json"),
        vec![b' '; REPORT_MAX_BYTES + 1],
    )
    .expect("written");
    let outside = dir.path().join("precious.json");
    std::fs::write(&outside, report).expect("written");
    std::os::unix::fs::symlink(&outside, folder.join("report.5.json")).expect("a link");
    let dumps = written_since(&launch, 0);
    let names: Vec<_> = dumps.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let read = |name| std::fs::read_to_string(folder.join(name)).expect("there");
    assert!(!read("report.1.json").contains("hunter2"));
    assert_eq!(read("report.2.json"), sound, "it is not written again");
    assert_eq!(std::fs::read_to_string(outside).expect("there"), report);
}

#[test]
fn a_link_or_a_folder_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let launch = launch(dir.path(), GATEWAY, "24.16.0");
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(FOLDER)).expect("a link");
    let prepared = prepare_within(&launch, HeapDump::Both, MB);
    assert!(prepared.options.is_empty() && prepared.refused.is_some());
    assert_eq!(
        std::fs::read_dir(elsewhere.path()).expect("listed").count(),
        0
    );
}
