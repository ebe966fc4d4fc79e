//! `incidents`: what was kept of deaths, from the files alone: no supervisor need run.

use super::fail;
use super::surroundings::{self, Surroundings};
use super::tell::{complain, print, say};
use crate::exit::Exit;
use crate::host::incidents::{self, Kept};
use crate::render::{self, Bar};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::Path;

/// The last lines of output that `show` prints; the file has all that were kept.
const LINES_SHOWN: usize = 40;

#[derive(Debug, Args)]
#[command(after_help = INCIDENTS_HELP)]
pub(super) struct Incidents {
    #[command(subcommand)]
    what: Option<What>,
    /// JSON instead of lines: an array for the list, the whole incident for show
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// One line an incident, the newest first (also without a word)
    List,
    /// The report with its fix, memory over time, and the gateway's last lines
    Show {
        /// Its number in the list, or its id; the newest without one
        which: Option<String>,
    },
}

const INCIDENTS_HELP: &str = "\
Each death of the gateway that nobody asked for leaves a file in <state>/clawkeeper/incidents, at most 20 of them:
  oom-kernel  the kernel killed it for want of memory; its counter or its log says so
  oom-heap    V8 ran out of heap: --max-old-space-size was too small
  oom-beside  the kernel killed one of its helpers, and the gateway lived on
  signal      somebody else sent a signal; crash: it returned an error
  requested   clawkeeper restarted it: it leaked, it hung, or it was not ready in time; cause= in its report says which
This reads files only and needs no running clawkeeper.

Exit codes: 0; 66 when there is no such incident or it cannot be read; 71 when the folder cannot be read.";

pub(super) fn run(options: &Incidents) -> Exit {
    let Surroundings { launch, .. } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let ids = match incidents::list(&launch.state_dir) {
        Ok(ids) => ids,
        Err(error) => return fail(&error, Exit::Host),
    };
    match &options.what {
        None | Some(What::List) => list(&launch.state_dir, &ids, options.json),
        Some(What::Show { which }) => {
            let Some(id) = choose(&ids, which.as_deref()) else {
                match which {
                    Some(which) => complain(format_args!(
                        "no incident {which:?}; clawkeeper incidents lists what there is"
                    )),
                    None => complain("no incidents"),
                }
                return Exit::Input;
            };
            match incidents::read(&launch.state_dir, id) {
                Ok(kept) => show(id, &kept, options.json),
                Err(error) => fail(&error, Exit::Input),
            }
        }
    }
}

/// By its number in the list, the newest being 1, or by its id.
fn choose<'a>(ids: &'a [String], which: Option<&str>) -> Option<&'a String> {
    let which = which.unwrap_or("1");
    match which.parse::<usize>() {
        Ok(number) => ids.get(number.checked_sub(1)?),
        Err(_) => ids.iter().find(|id| *id == which),
    }
}

fn list(state_dir: &Path, ids: &[String], json: bool) -> Exit {
    let mut rows = Vec::new();
    let mut text = String::new();
    let mut unreadable = Exit::Stopped;
    for (place, id) in ids.iter().enumerate() {
        let kept = match incidents::read(state_dir, id) {
            Ok(kept) => kept,
            Err(error) => {
                unreadable = fail(&error, Exit::Input);
                continue;
            }
        };
        text += &row(place + 1, &kept);
        rows.push(kept.summary(place + 1, id));
    }
    if json {
        print(Value::from(rows));
    } else if ids.is_empty() {
        say("no incidents");
    } else {
        say(text.trim_end());
    }
    unreadable
}

/// ` 1  2026-11-21 12:20:01Z  oom-kernel  up 2h05m  1893MB of 2048MB`
fn row(number: usize, kept: &Kept) -> String {
    let memory = kept.memory.last.as_ref().map_or_else(String::new, |last| {
        format!("{} of {}", last.sample.tree, last.sample.limit)
    });
    let row = format!(
        "{number:>2}  {}  {:<11} up {:<8} {memory}",
        kept.utc(),
        kept.class,
        kept.uptime.to_string(),
    );
    format!("{}\n", row.trim_end())
}

fn show(id: &str, kept: &Kept, json: bool) -> Exit {
    if json {
        let mut value = serde_json::to_value(kept).unwrap_or_default();
        value["id"] = id.into();
        print(value);
        return Exit::Stopped;
    }
    let version = kept
        .gateway_version
        .as_deref()
        .unwrap_or("of unknown version");
    let readiness = if kept.was_ready {
        "had been ready"
    } else {
        "was never ready"
    };
    let mut text = format!(
        "{} {} ({id})\nOpenClaw {version}, start {}, pid {}, up {}, {readiness}\n\n{}\n",
        kept.utc(),
        kept.class,
        kept.attempt,
        kept.pid,
        kept.uptime,
        kept.line,
    );
    let bars: Vec<Bar> = kept
        .history
        .iter()
        .map(|past| Bar {
            before_ms: past.before.0,
            low_kib: past.tree_low_kib,
            high_kib: past.tree_high_kib,
        })
        .collect();
    let limit = kept.memory.last.as_ref().map(|last| last.sample.limit.0);
    let chart = render::chart(&bars, limit);
    if !chart.is_empty() {
        let of = limit.map_or_else(String::new, |kib| format!(" (limit {} MB)", kib >> 10));
        text += &format!("\nMemory of the gateway and its helpers{of}:\n");
        text += &chart.join("\n");
        text.push('\n');
    }
    for dump in &kept.dumps {
        text += &format!("\nNode wrote {dump}\n");
    }
    let first = kept.output.len().saturating_sub(LINES_SHOWN);
    if !kept.output.is_empty() {
        text += &format!(
            "\nThe gateway's last {} lines, secrets masked (--json has {}):\n",
            kept.output.len() - first,
            kept.output.len()
        );
        text += &kept.output[first..].join("\n");
    }
    say(text.trim_end());
    Exit::Stopped
}
