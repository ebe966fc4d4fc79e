//! The history's file: `<state>/clawkeeper/history`, a week of minutes, each at the place that its time gives it.
//!
//! One write of 16 bytes a minute and no fsync: a machine that loses power loses some minutes of a chart.
//! The file never grows beyond 160 KB, and no part of it is kept in memory.

use super::folder::{FileError, Folder, errno_of};
use super::state;
use crate::core::history::{Fold, MINUTE_BYTES, MINUTES, Minute, Span, Stretch};
use crate::core::time::WallMs;
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const FILE: &str = "history";
/// Minutes that are read at once: what a reader holds of the file.
const AT_ONCE: u32 = 240;

/// Writes a minute to its place.
///
/// # Errors
/// Something else stands there, or the volume cannot be written.
pub fn write(private: &Folder, minute: Minute) -> Result<(), FileError> {
    let file = private.open_or_create(OsStr::new(FILE), 0o600)?;
    let at = place(minute.slot());
    let mut there = [0; MINUTE_BYTES];
    let earlier = file
        .read_exact_at(&mut there, at)
        .ok()
        .and_then(|()| Minute::of_bytes(&there))
        .filter(|there| there.number == minute.number);
    let minute = earlier.map_or(minute, |earlier| minute.joined(earlier));
    file.write_all_at(&minute.to_bytes(), at)
        .map_err(|error| FileError {
            operation: "write",
            path: private.path().join(FILE),
            errno: errno_of(&error),
        })
}

/// The stretches of a span, oldest first; what nobody wrote is left out. Nothing where there is no file.
///
/// # Errors
/// Something else stands in its place, or the volume cannot be read.
pub fn read(state_dir: &Path, span: Span, now: WallMs) -> Result<Vec<Stretch>, FileError> {
    let opened = Folder::open(state_dir)
        .and_then(|folder| state::existing_private(&folder))
        .and_then(|private| private.open_file(OsStr::new(FILE)));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.errno == Errno::ENOENT => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut fold = Fold::new(span);
    let mut minutes = span.minutes(now);
    while !minutes.is_empty() {
        // Not over the end of the ring.
        let until = minutes.start + (MINUTES - minutes.start % MINUTES).min(AT_ONCE);
        let part = minutes.start..until.min(minutes.end);
        minutes.start = part.end;
        read_part(&file, part, &mut fold);
    }
    Ok(fold.stretches())
}

/// What is cut, foreign or older than a week is passed over.
fn read_part(file: &File, minutes: std::ops::Range<u32>, fold: &mut Fold) {
    let mut bytes = vec![0; minutes.len() * MINUTE_BYTES];
    let mut filled = 0;
    let begin = place(minutes.start % MINUTES);
    while let Ok(read @ 1..) = file.read_at(&mut bytes[filled..], begin + filled as u64) {
        filled += read;
    }
    let (records, _) = bytes[..filled].as_chunks();
    for (record, number) in records.iter().zip(minutes) {
        if let Some(minute) = Minute::of_bytes(record).filter(|it| it.number == number) {
            fold.add(minute);
        }
    }
}

fn place(slot: u32) -> u64 {
    u64::from(slot) * MINUTE_BYTES as u64
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test makes files")]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    struct Site {
        dir: tempfile::TempDir,
        private: Folder,
    }

    impl Site {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let private = Folder::open(dir.path()).and_then(|folder| state::open_private(&folder));
            let private = private.expect("a private folder");
            Self { dir, private }
        }

        fn file(&self) -> PathBuf {
            self.private.path().join(FILE)
        }

        fn read(&self, span: Span, now: u32) -> Vec<Stretch> {
            let now = WallMs(u64::from(now) * 60_000);
            read(self.dir.path(), span, now).expect("it can be read")
        }
    }

    fn minute(number: u32) -> Minute {
        Minute {
            number,
            tree_mb: u16::try_from(number % 1000).expect("small"),
            limit_mb: 2_048,
            ready_secs: 60,
            phase: b'r',
            ..Minute::default()
        }
    }

    #[test]
    fn two_weeks_of_minutes_leave_the_last_one_in_a_file_that_does_not_grow() {
        let site = Site::new();
        assert_eq!(site.read(Span::Week, 5_000_000), [], "nothing yet");
        let begin = 5_000_000;
        let now = begin + 2 * MINUTES + 7;
        for number in begin..now {
            write(&site.private, minute(number)).expect("written");
        }
        assert_eq!(
            site.file().metadata().expect("a file").size(),
            u64::from(MINUTES) * MINUTE_BYTES as u64
        );
        for span in [Span::Hour, Span::Day, Span::Week] {
            let stretches = site.read(span, now);
            let known: u32 = stretches.iter().map(|it| u32::from(it.known)).sum();
            let range = span.minutes(WallMs(u64::from(now) * 60_000));
            assert_eq!(known, now.min(range.end) - range.start, "{span:?}");
            assert_eq!(stretches[0].first, range.start);
        }
    }

    #[test]
    fn time_without_a_clawkeeper_is_a_gap() {
        let site = Site::new();
        for number in [1_000_000, 1_000_001, 1_000_030, 1_000_031] {
            write(&site.private, minute(number)).expect("written");
        }
        let firsts: Vec<u32> = site
            .read(Span::Hour, 1_000_040)
            .iter()
            .map(|it| it.first)
            .collect();
        assert_eq!(firsts, [1_000_000, 1_000_001, 1_000_030, 1_000_031]);
        assert_eq!(
            site.read(Span::Hour, 1_000_040 + MINUTES),
            [],
            "what lies there is a week old"
        );
    }

    #[test]
    fn the_minute_of_a_restart_is_of_both_lives() {
        let site = Site::new();
        let part = |ready_secs, tree_mb| Minute {
            ready_secs,
            tree_mb,
            starts: 1,
            ..minute(1_000_000)
        };
        write(&site.private, part(20, 900)).expect("written");
        write(&site.private, part(30, 400)).expect("written");
        let [both] = site.read(Span::Hour, 1_000_001)[..] else {
            panic!("one minute")
        };
        assert_eq!((both.ready_secs, both.tree_mb, both.starts), (50, 900, 2));
    }

    #[test]
    fn what_is_cut_or_foreign_is_passed_over() {
        let site = Site::new();
        let now = 5_000_000 / MINUTES * MINUTES + 40;
        for number in now - 40..now {
            write(&site.private, minute(number)).expect("written");
        }
        let mut bytes = std::fs::read(site.file()).expect("read");
        bytes[..160].fill(b'x');
        bytes.truncate(bytes.len() - 5);
        std::fs::write(site.file(), &bytes).expect("written");
        let stretches = site.read(Span::Hour, now);
        assert_eq!(stretches.len(), 29, "of 40, ten are foreign and one is cut");
        write(&site.private, minute(now)).expect("it goes on");
        assert_eq!(site.read(Span::Hour, now + 1).len(), 30);
    }

    #[test]
    fn a_link_a_pipe_and_a_second_name_are_neither_written_nor_waited_for() {
        let site = Site::new();
        let victim = site.dir.path().join("victim");
        std::fs::write(&victim, b"precious").expect("written");
        let make: [&dyn Fn(&Path); 3] = [
            &|path| symlink(&victim, path).expect("a link"),
            &|path| {
                nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
            },
            &|path| std::fs::hard_link(&victim, path).expect("a second name"),
        ];
        for make in make {
            make(&site.file());
            write(&site.private, minute(1_000_000)).expect_err("refused");
            assert_eq!(std::fs::read(&victim).expect("read"), b"precious");
            std::fs::remove_file(site.file()).expect("removed");
        }
    }
}
