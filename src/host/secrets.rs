//! What must not be seen in text that is kept: the secrets of the gateway's environment, command line and config.

use super::config_file::{self, Seen};
use super::launch::Launch;
use crate::gateway::Mask;
use std::ffi::OsStr;

/// A mask that goes with the config, for whoever writes for as long as clawkeeper lives.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    mask: Mask,
    /// The config whose secrets are in the mask.
    config: Option<Seen>,
    is_made: bool,
}

impl Secrets {
    /// The mask as the config now wants it. One that cannot be read leaves the mask as it was.
    pub(super) fn mask(&mut self, launch: &Launch) -> &Mask {
        let seen = config_file::open_folder(launch)
            .and_then(|(folder, name)| folder.stat_of(&name))
            .ok()
            .map(|stat| Seen::of(&stat));
        if !self.is_made || seen != self.config {
            let (mask, is_whole) = read(launch);
            if is_whole || !self.is_made {
                self.mask = mask;
            }
            self.is_made = true;
            self.config = seen;
        }
        &self.mask
    }
}

/// The mask for one text.
pub(super) fn mask(launch: &Launch) -> Mask {
    read(launch).0
}

/// The mask, and whether there was a config to make it from.
fn read(launch: &Launch) -> (Mask, bool) {
    let texts: Vec<(String, String)> = launch
        .environment
        .iter()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect();
    let arguments: Vec<String> = launch.argv.iter().map(|word| lossy(word)).collect();
    let config = config_file::read(launch, None).1;
    let mask = Mask::new(
        texts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        arguments.iter().map(String::as_str),
        config.as_ref().map(|parsed| &parsed.value),
    );
    (mask, config.is_some())
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}
