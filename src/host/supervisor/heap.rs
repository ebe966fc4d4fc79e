//! Gives the gateway a heap that fits, and says what does not.

use super::super::launch::Launch;
use super::super::log;
use super::super::memory::MemoryLimit;
use crate::core::memory::{HeapBounds, Kib};
use crate::gateway::heap::{
    self, BESIDE_HEAP_MB, HELPERS_MB, LEAST_BESIDE_HEAP_MB, RECOMMENDED_MB, is_small,
};
use crate::gateway::{HeapChoice, HeapSetting, HeapWish};
use crate::render::LogLine;
use crate::settings::{Heap, Settings};
use std::path::Path;

/// A heap as it was chosen, with what there is to choose from.
pub(super) struct Sized {
    setting: HeapSetting,
    limit_mb: u32,
}

impl Sized {
    /// Chooses the heap, and adds it to the command where it is ours to say.
    pub(super) fn fit(launch: &mut Launch, settings: &Settings, limit: &MemoryLimit) -> Self {
        let wish = match settings.heap {
            Heap::Auto => HeapWish::Fitted,
            Heap::Off => HeapWish::None,
            Heap::Mb(mb) => HeapWish::Mb(mb),
        };
        let limit_mb = u32::try_from(limit.bytes >> 20).unwrap_or(u32::MAX);
        let program = launch.argv.first().map(Path::new);
        let name = program.and_then(Path::file_name).unwrap_or_default();
        // Behind `sh -c` or a wrapper nobody knows where an argument of node's would have to stand.
        let is_node = launch.command.entry.is_some() && (name == "node" || name == "nodejs");
        let node_options = launch.value_of("NODE_OPTIONS");
        let node_options = node_options.as_deref().map(|text| text.to_string_lossy());
        let choice = HeapChoice::of(
            wish,
            limit_mb,
            is_node,
            &launch.command,
            node_options.as_deref(),
        );
        choice.apply(&mut launch.argv);
        Self {
            setting: HeapSetting {
                choice,
                wish,
                is_node,
                fitted_mb: heap::fitted(limit_mb),
                is_on_fly: launch.is_on_fly(),
            },
            limit_mb,
        }
    }

    /// `1337MB (fitted)`: for the first line.
    pub(super) fn in_words(&self) -> String {
        let mb = |mb: u32, by: &str| format!("{mb}MB ({by})");
        match self.setting.choice {
            HeapChoice::Sized(size) if self.setting.wish == HeapWish::Fitted => {
                let fits = heap::fits(self.limit_mb).is_some();
                mb(
                    size,
                    if fits {
                        "fitted"
                    } else {
                        "the least that works"
                    },
                )
            }
            HeapChoice::Sized(size) => mb(size, "--heap"),
            HeapChoice::ByCommand(size) => mb(size, "set by the command"),
            HeapChoice::ByEnvironment(size) => mb(size, "set by NODE_OPTIONS"),
            HeapChoice::Left => "left to Node".to_owned(),
        }
    }

    /// The heap as it is, and as it could be.
    pub(super) fn bounds(&self) -> HeapBounds {
        HeapBounds {
            size: self.setting.choice.mb().map(Kib::of_mb),
            fits: self.fits_instead().map(Kib::of_mb),
            beside: Kib::of_mb(LEAST_BESIDE_HEAP_MB),
            beside_at_most: Kib::of_mb(heap::beside_at_most(self.limit_mb)),
        }
    }

    fn fits_instead(&self) -> Option<u32> {
        heap::fits_instead(self.setting.choice.mb(), self.limit_mb)
    }

    /// How it is given what fits; empty where nothing does.
    pub(super) fn how_to_fit(&self) -> String {
        let how = self.fits_instead().map(|mb| self.setting.how_to_set(mb));
        how.unwrap_or_default()
    }

    /// Says what does not fit or is not done, once.
    pub(super) fn warn(&self, how_to_grow: &str) {
        let HeapSetting { choice, wish, .. } = self.setting;
        if let Some(mb) = choice.is_not(wish) {
            let why = match choice {
                HeapChoice::ByCommand(_) => "the command sets a size of its own",
                HeapChoice::Sized(_) | HeapChoice::ByEnvironment(_) | HeapChoice::Left => {
                    "the command does not show where node is"
                }
            };
            log::emit(
                &LogLine::warn("the heap that was asked for is not set")
                    .field("asked_for", format!("{mb}MB"))
                    .field("why", why)
                    .field("fix", self.setting.how_to_set(mb)),
            );
        }
        if let Some(found) = choice.too_large(wish, self.limit_mb) {
            let sum = format!(
                "{} MB heap + {} MB young generation + {BESIDE_HEAP_MB} MB beside the heap + {HELPERS_MB} MB helpers = {} MB, of {} MB",
                found.old,
                found.young,
                found.needed(),
                found.limit
            );
            let smaller = self.setting.how_to_set(found.fits);
            log::emit(
                &LogLine::warn("the gateway's heap may become larger than memory allows")
                    .field("why", sum)
                    .field("fix", format!("{smaller}; or {how_to_grow}")),
            );
        }
        if is_small(self.limit_mb) {
            log::emit(
                &LogLine::warn("less than 1 GB of memory is too little for a gateway")
                    .field("memory_limit", format!("{}MB", self.limit_mb))
                    .field("recommended", format!("{RECOMMENDED_MB}MB"))
                    .field("fix", how_to_grow),
            );
        }
    }
}
