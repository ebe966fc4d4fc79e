//! `events`: the timeline, one line a transition, over the lives of clawkeeper.

use super::kept::{self, Range};
use crate::exit::Exit;
use crate::host::timeline;
use crate::render;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Events {
    #[command(flatten)]
    range: Range,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Starts, readiness, exits with their class, holds, memory, edits of the config, pauses: in the words of the log,
under a word that does not change, and kept in <state>/clawkeeper over restarts of the container.
This reads files only and needs no running clawkeeper.

Examples:
  clawkeeper events                       the last 100
  clawkeeper events --since 12h           what happened last night
  clawkeeper events -f                    and what comes
  clawkeeper events --json --since 24h | grep oom

Exit codes: 0, also when there are none; 71 when they cannot be read.";

pub(super) fn run(options: &Events) -> Exit {
    let style = super::style();
    kept::print(&options.range, timeline::RING, "events", |line| {
        let entry = timeline::parse(line)?;
        let text = if options.json {
            render::event_json(&entry)
        } else {
            render::event(&entry, style)
        };
        Some((entry.at, text))
    })
}
