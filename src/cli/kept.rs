//! Shows lines that a clawkeeper keeps in our folder, and follows them. No supervisor need run.

use super::surroundings::{self, Surroundings};
use super::tell::complain;
use super::{fail, length_of_time};
use crate::core::time::{Millis, WallMs};
use crate::exit::Exit;
use crate::host::folder::{FileError, errno_of};
use crate::host::ring::{Reader, Ring};
use crate::host::{clock, state};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io::{Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

/// How long a new line may wait for whoever follows.
const LOOK_EVERY_MS: u16 = 250;

/// Which lines.
#[derive(Debug, Args)]
pub(super) struct Range {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines [default: 100, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Only what is not older, such as 2h or 30m, a week at most
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    since: Option<Millis>,
}

const LINES: usize = 100;

/// A line as it is shown, and its time.
pub(super) type Shown = (WallMs, String);

/// Prints a ring; `show` makes of each line what is to be seen, or nothing of one that is not ours.
pub(super) fn print(
    range: &Range,
    ring: Ring,
    what: &str,
    show: impl Fn(&[u8]) -> Option<Shown>,
) -> Exit {
    let Surroundings { launch, .. } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let not_before = range.since.map_or(WallMs(0), |Millis(length)| {
        WallMs(clock::wall().0.saturating_sub(length))
    });
    let max = range.lines.unwrap_or(match range.since {
        Some(_) => usize::MAX,
        None => LINES,
    });
    let mut reader = Reader::new(ring);
    let mut last = VecDeque::new();
    let looked = look(&launch.state_dir, &mut reader, |line| {
        if let Some((at, text)) = show(line)
            && at >= not_before
        {
            last.push_back(text);
        }
        if last.len() > max {
            last.pop_front();
        }
    });
    match looked {
        Err(error) => return fail(&error, Exit::Host),
        Ok(true) if last.is_empty() && max > 0 => complain(format_args!("no {what} in that time")),
        Ok(true) => {}
        Ok(false) => complain(format_args!(
            "no {what} yet: none was kept in {}",
            launch.state_dir.display()
        )),
    }
    let mut out = std::io::stdout();
    let mut said = say(&mut out, last);
    while range.follow && said.is_ok() && wait(&out) {
        let mut new = VecDeque::new();
        let looked = look(&launch.state_dir, &mut reader, |line| {
            new.extend(show(line).map(|(_, text)| text));
        });
        if let Err(error) = looked {
            return fail(&error, Exit::Host);
        }
        said = say(&mut out, new);
    }
    match said {
        // A reader that has seen enough is no error.
        Err(error) if errno_of(&error) != Errno::EPIPE => fail(&error, Exit::Host),
        Ok(()) | Err(_) => Exit::Stopped,
    }
}

fn look(
    state_dir: &Path,
    reader: &mut Reader,
    on_line: impl FnMut(&[u8]),
) -> Result<bool, FileError> {
    match state::readable_private(state_dir)? {
        Some(folder) => reader.read(&folder, on_line),
        None => Ok(false),
    }
}

fn say(out: &mut Stdout, lines: VecDeque<String>) -> std::io::Result<()> {
    let mut text = Vec::from(lines).join("\n");
    if !text.is_empty() {
        text.push('\n');
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Waits a moment; false once nobody reads what is printed.
fn wait(out: &Stdout) -> bool {
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS)) {
        Ok(0) | Err(Errno::EINTR) => true,
        Ok(_) | Err(_) => false,
    }
}
