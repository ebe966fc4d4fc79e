//! `get`, `path`, `history` and `diff`: they change nothing and show no secret.

use super::{complain, print, say};
use crate::cli::surroundings::{self, Surroundings};
use crate::core::config_history::{self, Version, Wanted};
use crate::exit::Exit;
use crate::gateway::config::{self, ConfigPath, Parsed, content_hash};
use crate::host::config_file;
use crate::host::config_store::ConfigStore;
use crate::host::launch::Launch;
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn path() -> Exit {
    match surroundings::find() {
        Ok(Surroundings { launch, .. }) => {
            say(launch.config_path.display());
            Exit::Stopped
        }
        Err(exit) => exit,
    }
}

pub(super) fn get(path: &str, as_json: bool) -> Exit {
    let path = match ConfigPath::parse(path) {
        Ok(path) => path,
        Err(error) => {
            complain(error);
            return Exit::Usage;
        }
    };
    let parsed = match surroundings::find().and_then(|it| current(&it.launch)) {
        Ok((_, parsed)) => parsed,
        Err(exit) => return exit,
    };
    let masked = config::masked(&parsed.value);
    match path.find(&masked) {
        Ok(value) if as_json => print(config::pretty(value)),
        Ok(value) => print(config::bare(value)),
        Err(error) => {
            complain(error);
            return Exit::NothingThere;
        }
    }
    Exit::Stopped
}

pub(super) fn history(as_json: bool) -> Exit {
    let Surroundings { launch, .. } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let (store, versions) = match kept(&launch) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let good = store.as_ref().and_then(ConfigStore::last_good);
    let good = good.map(|(version, _)| version.number);
    let current = config_file::read_current(&launch).ok().flatten();
    let current = current.map(|current| content_hash(&current.bytes));
    let mut newest_of_current = versions.iter().filter(|it| Some(it.hash) == current);
    let current = newest_of_current.next().map(|version| version.number);
    if as_json {
        let rows: Vec<Value> = versions
            .iter()
            .map(|version| {
                json!({
                    "number": version.number,
                    "kept_at": time(version),
                    "source": version.source,
                    "bytes": version.bytes,
                    "sha256": version.hash,
                    "is_current": current == Some(version.number),
                    "is_last_good": good == Some(version.number),
                })
            })
            .collect();
        print(Value::from(rows));
        return Exit::Stopped;
    }
    if versions.is_empty() {
        say("no version of the config has been kept yet");
    }
    for version in &versions {
        let mut marks = String::new();
        if current == Some(version.number) {
            marks.push_str("  <- in place");
        }
        if good == Some(version.number) {
            marks.push_str("  <- last good");
        }
        say(format_args!(
            "{:>4}  {}  {:<8} {:>8} bytes  {}{marks}",
            version.number,
            time(version),
            version.source.word(),
            version.bytes,
            version.hash.short(),
        ));
    }
    Exit::Stopped
}

pub(super) fn diff(from: Option<u64>, to: Option<u64>) -> Exit {
    let Surroundings { launch, .. } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let (store, versions) = match kept(&launch) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let new = match to {
        Some(number) => version(store.as_ref(), &versions, Wanted::Number(number), None),
        None => current(&launch).map(|(bytes, parsed)| Side {
            name: "the config as it is".to_owned(),
            bytes,
            parsed,
        }),
    };
    let new = match new {
        Ok(new) => new,
        Err(exit) => return exit,
    };
    let wanted = from.map_or(Wanted::Previous, Wanted::Number);
    let old = match version(store.as_ref(), &versions, wanted, Some(&new.bytes)) {
        Ok(old) => old,
        Err(exit) => return exit,
    };
    say(format_args!("from {} to {}:", old.name, new.name));
    show_difference(&old.parsed, &old.bytes, &new.parsed, &new.bytes);
    Exit::Stopped
}

/// Prints what changed, or that nothing did.
pub(super) fn show_difference(old: &Parsed, old_bytes: &[u8], new: &Parsed, new_bytes: &[u8]) {
    let diff = config::diff(&old.value, &new.value);
    if !diff.is_empty() {
        for line in diff.lines() {
            say(line);
        }
    } else if old_bytes == new_bytes {
        say("they are the same, byte for byte");
    } else {
        say("only comments and layout differ");
    }
}

/// One of the two that are compared.
struct Side {
    name: String,
    bytes: Vec<u8>,
    parsed: Parsed,
}

fn version(
    store: Option<&ConfigStore>,
    versions: &[Version],
    wanted: Wanted,
    differs_from: Option<&[u8]>,
) -> Result<Side, Exit> {
    let differs_from = differs_from.map(content_hash);
    // The last good one is for going back to; what the last change was, the newest tells.
    let found = config_history::candidates(versions, None, differs_from, wanted);
    let found = found.map_err(|error| {
        complain(error);
        Exit::Input
    })?;
    let store = store.ok_or(Exit::Input)?;
    // A broken edit is kept too, and says nothing of what changed.
    let parses = |it: &&Version| {
        store
            .read(it)
            .is_ok_and(|bytes| config::parse(&bytes).is_ok())
    };
    let version = found.iter().find(parses).unwrap_or(&found[0]);
    let bytes = store.read(version).map_err(|error| {
        complain(error);
        Exit::Input
    })?;
    let name = format!("version {}", version.number);
    let parsed = parse(Path::new(&name), &bytes)?;
    Ok(Side {
        name,
        bytes,
        parsed,
    })
}

/// The versions, the newest first, and where they lie; none where nothing was kept.
pub(super) fn kept(launch: &Launch) -> Result<(Option<ConfigStore>, Vec<Version>), Exit> {
    let found = ConfigStore::existing(&launch.state_dir).and_then(|store| {
        let versions = store
            .as_ref()
            .map_or(Ok(Vec::new()), ConfigStore::versions)?;
        Ok((store, versions))
    });
    found.map_err(|error| {
        complain(error);
        Exit::Input
    })
}

/// The config as it stands, or the words why there is none to look at.
pub(super) fn current(launch: &Launch) -> Result<(Vec<u8>, Parsed), Exit> {
    let path = &launch.config_path;
    match config_file::read_current(launch) {
        Ok(Some(current)) => {
            let parsed = parse(path, &current.bytes)?;
            Ok((current.bytes, parsed))
        }
        Ok(None) => {
            complain(format_args!("{}: there is no such file", path.display()));
            Err(Exit::ConfigRefused)
        }
        Err(error) => {
            complain(error);
            Err(Exit::ConfigRefused)
        }
    }
}

/// Parses what is called `name`, or prints where it does not.
pub(super) fn parse(name: &Path, bytes: &[u8]) -> Result<Parsed, Exit> {
    config::parse(bytes).map_err(|error| {
        complain(error.report(name));
        Exit::ConfigRefused
    })
}

fn time(version: &Version) -> String {
    crate::render::utc_seconds(version.kept_at)
}
