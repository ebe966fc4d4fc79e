//! `logs`: the gateway's output as it is kept on the volume.

use super::kept::{self, Range};
use crate::exit::Exit;
use crate::host::output;
use crate::render;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Logs {
    #[command(flatten)]
    range: Range,
}

const HELP: &str = "\
The gateway's last output, for when the platform's log has scrolled away: 1 MB of it in <state>/clawkeeper, or what
CLAWKEEPER_KEEP_OUTPUT says. Each line with its time, secrets masked, and between them what clawkeeper said of it.
This reads files only and needs no running clawkeeper.

Examples:
  clawkeeper logs -n 500
  clawkeeper logs --since 30m
  clawkeeper logs -f

Exit codes: 0, also when there is none; 71 when it cannot be read.";

pub(super) fn run(options: &Logs) -> Exit {
    // Of a file that another setting wrote no more is read than that of the largest.
    let ring = output::ring(LARGEST_BYTES);
    kept::print(&options.range, ring, "output", |line| {
        // The file may have been written by somebody else: nothing in it may move the cursor.
        let line = render::plain(&String::from_utf8_lossy(line));
        Some((output::parse(&line)?.0, line))
    })
}

const LARGEST_BYTES: u64 = 100 << 20;
