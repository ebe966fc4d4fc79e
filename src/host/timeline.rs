//! The timeline on the volume: `timeline.ndjson` in our folder, and `timeline.1.ndjson`, which came before.
//!
//! One line a transition, over many lives of clawkeeper. Whoever reads it needs no running clawkeeper, and trusts nothing
//! in it: a line that is cut, foreign or of a later version is passed over.

use super::folder::FileError;
use super::records::Record;
use super::ring::Ring;
use super::state;
use crate::core::time::WallMs;
use crate::core::timeline::{Entry, Kind, Weight};
use crate::render::LogLine;
use crate::settings::LogLevel;
use serde_json::Value;
use std::path::Path;

/// Some 3,000 entries: months of a gateway that behaves, days of one that crashes all the time.
pub const RING: Ring = Ring {
    current: "timeline.ndjson",
    previous: "timeline.1.ndjson",
    max_bytes: 256 * 1024,
};

/// A report may quote a config or a path; what goes on beyond this is cut. Escaped for JSON it is twice as long at most,
/// and still no longer than a reader takes a line to be.
const TEXT_MAX_BYTES: usize = 1800;
/// How every line of ours begins.
const HEAD: &[u8] = b"{\"at\":";

/// The entry for a line that is logged.
#[must_use]
pub fn entry(at: WallMs, kind: Kind, line: &LogLine) -> Entry {
    let mut text = line.to_text();
    if text.len() > TEXT_MAX_BYTES {
        let cut = (0..=TEXT_MAX_BYTES).rfind(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    let weight = match line.level {
        LogLevel::Error => Weight::Error,
        LogLevel::Warn => Weight::Warn,
        LogLevel::Info | LogLevel::Debug => Weight::Info,
    };
    Entry {
        at,
        kind,
        weight,
        text,
    }
}

/// The entry as it is written.
#[must_use]
pub fn record(entry: &Entry) -> Record {
    let line = format!(
        "{{\"at\":{},\"kind\":\"{}\",\"level\":\"{}\",\"text\":{}}}\n",
        entry.at.0,
        entry.kind.word(),
        entry.weight.word(),
        Value::from(entry.text.as_str()),
    );
    Record::Lines(&RING, line.into_bytes())
}

/// An entry that was written by [`record`]; `None` for anything else.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Entry> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let text = |name| value.get(name).and_then(Value::as_str);
    Some(Entry {
        at: WallMs(value.get("at")?.as_u64()?),
        kind: Kind::from_word(text("kind")?)?,
        weight: Weight::from_word(text("level")?)?,
        text: text("text")?.to_owned(),
    })
}

/// The last entries, at most `max` of them, not older than `since`, oldest first. None where nothing was ever written.
///
/// Blocks as long as the disk does.
///
/// # Errors
/// A folder or file that is there and cannot be read.
pub fn read(state_dir: &Path, since: WallMs, max: usize) -> Result<Vec<Entry>, FileError> {
    let Some(folder) = state::readable_private(state_dir)? else {
        return Ok(Vec::new());
    };
    let last = RING.last(&folder, max, |line| {
        time_of(line).is_some_and(|at| at >= since)
    })?;
    Ok(last.iter().filter_map(|line| parse(line)).collect())
}

/// The time of a line that begins as ours do, without reading the rest of it.
fn time_of(line: &[u8]) -> Option<WallMs> {
    let rest = line.strip_prefix(HEAD)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = std::str::from_utf8(&rest[..digits]).ok()?;
    text.parse().ok().map(WallMs)
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
