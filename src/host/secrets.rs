//! What must not be seen in text that is kept: the secrets of the gateway's environment, command line and config.

use super::config_file::{self, Seen};
use super::config_look;
use super::launch::Launch;
use crate::gateway::Mask;
use std::ffi::OsStr;
use std::path::PathBuf;

/// A mask that goes with the config, for whoever writes for as long as clawkeeper lives.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    mask: Mask,
    /// The config and what it includes, whose secrets are in the mask; none before the mask is made.
    files: Vec<(PathBuf, Option<Seen>)>,
}

impl Secrets {
    /// The mask as the config now wants it. One that cannot be read leaves the mask as it was.
    pub(super) fn mask(&mut self, launch: &Launch) -> &Mask {
        let is_made = !self.files.is_empty();
        let is_current = |(path, seen): &(PathBuf, Option<Seen>)| config_look::stamp(path) == *seen;
        if !is_made || !self.files.iter().all(is_current) {
            let read = read(launch);
            if read.is_whole || !is_made {
                self.mask = read.mask;
            }
            self.files = read.files;
        }
        &self.mask
    }
}

/// The mask for one text.
pub(super) fn mask(launch: &Launch) -> Mask {
    read(launch).mask
}

struct Read {
    mask: Mask,
    /// Whether there was a config to make it from, and everything that it includes.
    is_whole: bool,
    files: Vec<(PathBuf, Option<Seen>)>,
}

fn read(launch: &Launch) -> Read {
    let texts: Vec<(String, String)> = launch
        .environment
        .iter()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect();
    let arguments: Vec<String> = launch.argv.iter().map(|word| lossy(word)).collect();
    let config = config_file::read(launch, None).1.map(|parsed| parsed.value);
    let (whole, files) = config_look::with_includes(launch, config.as_ref());
    let is_whole = whole.is_some();
    let config = whole.or(config);
    let mask = Mask::new(
        texts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        arguments.iter().map(String::as_str),
        config.as_ref(),
    );
    Read {
        mask,
        is_whole,
        files,
    }
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}
