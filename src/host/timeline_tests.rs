#![allow(clippy::disallowed_methods, reason = "tests write files")]

use super::super::folder::Folder;
use super::*;

const ALL: WallMs = WallMs(0);

fn write(state_dir: &Path, entries: &[Entry]) {
    let state = Folder::open(state_dir).expect("it opens");
    let private = state::open_private(&state).expect("ours");
    for entry in entries {
        let Record::Lines(ring, bytes) = record(entry) else {
            panic!("an entry is lines of a ring");
        };
        ring.append(&private, &bytes).expect("appended");
    }
}

fn at(time: u64, kind: Kind) -> Entry {
    entry(
        WallMs(time),
        kind,
        &LogLine::warn("a fact").field("why", "\"quoted\"\n\u{1b}[31m ünï"),
    )
}

#[test]
fn what_was_written_is_read_back_whatever_the_text_holds() {
    let dir = tempfile::tempdir().expect("a folder");
    let entries: Vec<Entry> = (5..).zip(Kind::ALL).map(|(t, kind)| at(t, *kind)).collect();
    assert_eq!(read(dir.path(), ALL, 10).expect("none yet"), []);
    write(dir.path(), &entries);
    assert_eq!(read(dir.path(), ALL, 999).expect("read"), entries);
    assert_eq!(
        read(dir.path(), WallMs(7), 999).expect("read"),
        entries[2..],
        "7 is not older than 7"
    );
    assert_eq!(
        read(dir.path(), ALL, 3).expect("read"),
        entries[entries.len() - 3..]
    );
}

#[test]
fn cut_foreign_and_later_lines_are_passed_over() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &[at(1, Kind::Begun)]);
    let path = dir.path().join("clawkeeper").join(RING.current);
    let mut bytes = std::fs::read(&path).expect("there");
    for foreign in [
        "{\"at\":2,\"kind\":\"read",
        "hello",
        "{}",
        "{\"at\":99999999999999999999999,\"kind\":\"ready\",\"level\":\"info\",\"text\":\"x\"}",
        "{\"at\":3,\"kind\":\"of-a-later-version\",\"level\":\"info\",\"text\":\"x\"}",
        "{\"at\":3,\"kind\":\"ready\",\"level\":\"info\",\"text\":7}",
        "\u{0}\u{1}",
    ] {
        bytes.extend_from_slice(foreign.as_bytes());
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(b"{\"at\":4,\"kind\":\"ready\",\xff\n");
    bytes.extend_from_slice(b"{\"at\":5,\"kind\":\"ready\",\"level\":\"info\",\"text\":\"no end");
    std::fs::write(&path, &bytes).expect("written");
    write(dir.path(), &[at(6, Kind::Ended)]);
    assert_eq!(
        read(dir.path(), ALL, 99).expect("read"),
        [at(1, Kind::Begun), at(6, Kind::Ended)]
    );
}

#[test]
fn a_text_without_an_end_is_cut_and_still_one_entry() {
    let line = LogLine::error("holding").field("why", "\"ü".repeat(100_000));
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), &[entry(ALL, Kind::Held, &line)]);
    let read = read(dir.path(), ALL, 9).expect("read");
    assert_eq!(read.len(), 1);
    assert!(read[0].text.starts_with(r#"holding why="\"ü"#));
    assert!(read[0].text.ends_with('…'));
    assert_eq!(read[0].weight, Weight::Error);
}
