//! `locks`: every lock with its verdict; with `--clear`, what a start would clear.

use super::Locks;
use super::surroundings::{self, Surroundings};
use super::tell::{complain, print, say};
use crate::core::locks::{self, LockContent, LockFacts, LockVerdict, UnknownWhy};
use crate::exit::Exit;
use crate::host::leftovers;
use crate::host::lock_files;
use crate::host::proc::Proc;
use crate::render;
use serde_json::json;

pub(super) fn run(options: &Locks) -> Exit {
    let Surroundings { launch, .. } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let proc = Proc::default();
    // A gateway that runs may hold a lock that names nobody.
    let gateway_alive = leftovers::any_gateway(&launch, &proc);
    let judged: Vec<_> = lock_files::find(&launch, &proc)
        .into_iter()
        .map(|facts| {
            let verdict = locks::judge(&facts, gateway_alive);
            (facts, verdict)
        })
        // The database beside each lock is worth a line only when something is wrong with it.
        .filter(|(_, verdict)| *verdict != LockVerdict::Unknown(UnknownWhy::HealthyDatabase))
        .collect();
    if options.json {
        let rows: Vec<_> = judged
            .iter()
            .map(|(facts, verdict)| {
                // A path that is no text is no JSON either.
                let path = facts.path.to_string_lossy().into_owned().into();
                let facts = LockFacts {
                    path,
                    ..facts.clone()
                };
                json!({ "lock": facts, "verdict": verdict })
            })
            .collect();
        print(serde_json::Value::from(rows));
    } else if judged.is_empty() {
        say("no locks");
    } else {
        for (facts, verdict) in &judged {
            let pid = match &facts.content {
                LockContent::Claim(claim) => format!(" pid {}", claim.pid),
                LockContent::Empty
                | LockContent::Corrupt
                | LockContent::Directory
                | LockContent::Special
                | LockContent::Unreadable { .. } => String::new(),
            };
            say(format_args!(
                "{} ({}{pid}) is {}",
                facts.path.display(),
                facts.kind.name(),
                render::lock_verdict(verdict)
            ));
        }
    }
    if !options.clear {
        return Exit::Stopped;
    }
    let stale: Vec<_> = judged
        .into_iter()
        .filter_map(|(facts, verdict)| match verdict {
            LockVerdict::Stale(why) => Some((facts, why)),
            LockVerdict::Live { .. } | LockVerdict::Unknown(_) => None,
        })
        .collect();
    let failed = lock_files::clear(&launch.state_dir, &stale);
    for (path, error) in &failed {
        complain(format_args!("{} was not cleared: {error}", path.display()));
    }
    if !options.json {
        say(format_args!("{} cleared", stale.len() - failed.len()));
    }
    if failed.is_empty() {
        Exit::Stopped
    } else {
        Exit::Host
    }
}
