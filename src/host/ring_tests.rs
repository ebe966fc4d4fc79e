use super::*;
use crate::core::output::LINE_MAX_BYTES;
use std::path::Path;

const RING: Ring = Ring {
    current: "ring",
    previous: "ring.1",
    max_bytes: 100,
};

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = Folder::open(dir.path()).expect("it opens");
    (dir, folder)
}

fn lines(folder: &Folder, max: usize) -> Vec<String> {
    let last = RING.last(folder, max, |_| true).expect("it can be read");
    last.into_iter()
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).expect("written");
}

#[test]
fn the_last_lines_stay_and_neither_file_outgrows_its_bound() {
    let (dir, folder) = folder();
    for number in 0..100 {
        let line = format!("line {number:>4}\n");
        RING.append(&folder, line.as_bytes()).expect("appended");
    }
    for name in ["ring", "ring.1"] {
        let length = std::fs::metadata(dir.path().join(name)).expect("it is there");
        assert!(length.len() <= RING.max_bytes, "{name}: {}", length.len());
    }
    let kept = lines(&folder, usize::MAX);
    assert!((10..=20).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().map(String::as_str), Some("line   99"));
    assert_eq!(lines(&folder, 2), ["line   98", "line   99"]);
    assert_eq!(lines(&folder, 0).len(), 0);
}

#[test]
fn one_append_over_the_bound_is_kept_whole() {
    let (_dir, folder) = folder();
    RING.append(&folder, b"before\n").expect("appended");
    let long = [&[b'x'; 300][..], b"\n"].concat();
    RING.append(&folder, &long).expect("appended");
    RING.append(&folder, b"after\n").expect("appended");
    assert_eq!(lines(&folder, 9).last().map(String::as_str), Some("after"));
}

#[test]
fn a_cut_line_is_ended_before_the_next_one_and_not_shown_while_it_has_no_end() {
    let (dir, folder) = folder();
    put(dir.path(), "ring", b"whole\ncut in the mid");
    assert_eq!(lines(&folder, 9), ["whole"]);
    RING.append(&folder, b"next\n").expect("appended");
    assert_eq!(lines(&folder, 9), ["whole", "cut in the mid", "next"]);
}

#[test]
fn a_line_without_an_end_takes_no_memory_and_hides_no_other() {
    let (dir, folder) = folder();
    let ring = Ring {
        max_bytes: 1 << 20,
        ..RING
    };
    let mut bytes = b"before\n".to_vec();
    bytes.resize(LINE_MAX_BYTES * 5, b'x');
    bytes.extend_from_slice(b"\nafter\n\0\xff\n");
    put(dir.path(), "ring", &bytes);
    let last = ring.last(&folder, 9, |_| true).expect("it can be read");
    assert_eq!(last, [b"before".as_slice(), b"after", b"\0\xff"]);
}

#[test]
fn of_a_file_larger_than_ours_only_the_end_is_read() {
    let (dir, folder) = folder();
    put(dir.path(), "ring", "0123456789\n".repeat(1000).as_bytes());
    let kept = lines(&folder, usize::MAX);
    assert_eq!(kept, ["0123456789"; 9], "and no part of a line");
}

#[test]
fn a_reader_gets_each_line_once_over_rotations_and_waits_for_the_end_of_one() {
    let (dir, folder) = folder();
    let mut reader = Reader::new(RING);
    let mut read = Vec::new();
    let mut look = |read: &mut Vec<String>| {
        let on_line = |line: &[u8]| read.push(String::from_utf8_lossy(line).into_owned());
        reader.read(&folder, on_line).expect("it can be read")
    };
    assert!(!look(&mut read), "there is none yet");
    let mut written = Vec::new();
    // A look after each line, after each rotation, and after two of them.
    for (number, lines) in [1, 1, 3, 8, 1, 15, 1, 1].into_iter().enumerate() {
        for part in 0..lines {
            let line = format!("line {number}.{part:>2}");
            RING.append(&folder, format!("{line}\n").as_bytes())
                .expect("appended");
            written.push(line);
        }
        assert!(look(&mut read));
        assert_eq!(read, written);
    }
    let mut current = std::fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("ring"))
        .expect("it is there");
    current.write_all(b"not yet").expect("written");
    look(&mut read);
    assert_eq!(read, written);
    current.write_all(b" ended\n").expect("written");
    look(&mut read);
    assert_eq!(read.last().map(String::as_str), Some("not yet ended"));
}

#[test]
fn a_pipe_in_place_of_the_file_is_no_wait_for_a_reader() {
    let (dir, folder) = folder();
    nix::unistd::mkfifo(&dir.path().join("ring"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(RING.last(&folder, 9, |_| true).is_err());
}

#[test]
fn what_somebody_put_in_its_place_is_cleared_and_never_written_to() {
    let (dir, folder) = folder();
    let victim = dir.path().join("victim");
    put(dir.path(), "victim", b"untouched\n");
    let name = dir.path().join("ring");
    let plant: [&dyn Fn(); 4] = [
        &|| std::os::unix::fs::symlink(&victim, &name).expect("a link"),
        &|| nix::unistd::mkfifo(&name, nix::sys::stat::Mode::S_IRWXU).expect("a pipe"),
        &|| std::fs::create_dir(&name).expect("a folder"),
        &|| std::fs::hard_link(&victim, &name).expect("a second name"),
    ];
    for planted in plant {
        planted();
        RING.append(&folder, b"ours\n").expect("cleared");
        assert_eq!(lines(&folder, 9), ["ours"]);
        std::fs::remove_file(&name).expect("removed");
    }
    assert_eq!(
        std::fs::read(&victim).expect("it is there"),
        b"untouched\n",
        "no link was followed"
    );
}
