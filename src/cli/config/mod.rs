//! `config`: looks at the gateway's config, and changes it so that no edit can take the gateway down.

mod edit;
mod validate;
mod view;
mod write;

use super::tell::{complain, print, say};
use crate::exit::Exit;
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  clawkeeper config get                                   the whole config, secrets masked
  clawkeeper config get agents.defaults.model.primary     one value
  clawkeeper config put new.json5                         check a file, keep the old config, put it in place
  fly ssh console -C 'clawkeeper config put' < new.json5  the same from your own machine
  clawkeeper config edit                                  edit it; what the gateway would refuse is not saved
  clawkeeper config history                               the versions that are kept
  clawkeeper config diff                                  what the last change was
  clawkeeper config rollback                              go back to the last config that worked

The config and its folder are found as the running clawkeeper has them; OPENCLAW_STATE_DIR and
OPENCLAW_CONFIG_PATH of this shell win. Comments and layout stay as they are written.

Exit codes:
  0 done, or nothing to do
  1 get: there is nothing at that path; validate: warnings
  2 refused, and nothing has changed; get, diff: there is no config that parses
  64 wrong usage · 66 a named file or version cannot be read · 71 it could not be written;
  put, edit, rollback: or it is in place, and a power failure could still undo it";

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the config or one value of it, secrets masked
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// Like agents.list[0].id; a key with odd characters is written env["A.B"] [default: the whole config]
        path: Option<String>,
        /// JSON, also for a single text
        #[arg(long)]
        json: bool,
    },
    /// Check a new config, keep the old one, and put the new one in its place
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        /// The new config; - or nothing for standard input
        file: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Edit the config in $VISUAL or $EDITOR; what the gateway would refuse is not saved
    #[command(after_help = EDIT_EXAMPLES)]
    Edit {
        /// Throw away the draft of an edit that was refused, and begin with the config as it is
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        how: How,
    },
    /// List the versions that are kept, the newest first
    History {
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Show by path what changed between two versions, secrets masked
    #[command(after_help = DIFF_EXAMPLES)]
    Diff {
        /// The older version [default: the newest that differs from the config as it is]
        from: Option<u64>,
        /// The newer version [default: the config as it is]
        to: Option<u64>,
    },
    /// Put a version that was kept back in place
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback {
        /// A number of the history [default: the last one the gateway was ready with for a while, else the newest that differs]
        number: Option<u64>,
        #[command(flatten)]
        how: How,
    },
    /// Print where the config is
    Path,
    /// Say whether the gateway could start with its config; the gateway's own validator is asked too
    Validate {
        /// Another file than the gateway's own
        file: Option<PathBuf>,
    },
    /// Write a first config if there is none
    Seed {
        /// Only print it
        #[arg(long)]
        print: bool,
    },
}

/// How a config is put in place.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct How {
    /// Check and show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Put it in place although a check refuses it; it must still parse
    #[arg(long)]
    force: bool,
}

const GET_EXAMPLES: &str = "\
Examples:
  clawkeeper config get gateway
  clawkeeper config get channels.discord.enabled
  clawkeeper config get agents.list[0].id
  clawkeeper config get --json env

Exit codes: 0 found, 1 nothing at that path, 2 there is no config that parses.";

const PUT_EXAMPLES: &str = "\
Examples:
  clawkeeper config put new.json5
  fly ssh console -C 'clawkeeper config put' < new.json5
  docker exec -i CONTAINER clawkeeper config put < new.json5
  clawkeeper config put --dry-run new.json5

It is parsed, checked by clawkeeper's rules, and then by the gateway's own validator where that is at hand.
The old config is kept as a version; the new one is written beside it and takes its place at once, whole.

Exit codes: 0 applied or already so, 2 refused, 66 the file cannot be read, 71 it could not be written.";

const EDIT_EXAMPLES: &str = "\
Examples:
  clawkeeper config edit
  EDITOR=nano clawkeeper config edit

The draft of an edit that was refused is kept, and the next edit goes on with it.
Exit codes: 0 applied or unchanged, 2 refused, 71 it could not be written, 126/127 the editor cannot be run.";

const DIFF_EXAMPLES: &str = "\
Examples:
  clawkeeper config diff        what the last change was
  clawkeeper config diff 3      from version 3 to the config as it is
  clawkeeper config diff 3 5    from version 3 to version 5";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  clawkeeper config rollback             the last good version, else the one before
  clawkeeper config rollback 3           version 3 of `clawkeeper config history`
  clawkeeper config rollback --dry-run   only say which, and what would change

What stands there now is kept as a version first. Exit codes are those of put; 66 there is no such version.";

pub(super) fn run(command: &Config) -> Exit {
    match command {
        Config::Get { path, json } => view::get(path.as_deref().unwrap_or_default(), *json),
        Config::Put { file, how } => write::put(file.as_deref(), *how),
        Config::Edit { discard, how } => edit::edit(*discard, *how),
        Config::History { json } => view::history(*json),
        Config::Diff { from, to } => view::diff(*from, *to),
        Config::Rollback { number, how } => write::rollback(*number, *how),
        Config::Path => view::path(),
        Config::Validate { file } => validate::validate(file.clone()),
        Config::Seed { print } => validate::seed(*print),
    }
}
