//! Gives the gateway a heap that fits, and says what does not.

use super::super::launch::Launch;
use super::super::log;
use super::super::memory::MemoryLimit;
use crate::core::memory::{HeapBounds, Kib};
use crate::gateway::heap::{
    self, BESIDE_HEAP_MB, HELPERS_MB, LEAST_BESIDE_HEAP_MB, RECOMMENDED_MB, is_small,
};
use crate::gateway::{HeapChoice, HeapWish};
use crate::render::LogLine;
use crate::settings::{Heap, Settings};
use std::path::Path;

/// A heap as it was chosen, with what there is to choose from.
pub(super) struct Sized {
    choice: HeapChoice,
    wish: HeapWish,
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
            choice,
            wish,
            limit_mb,
        }
    }

    /// `1337MB (fitted)`: for the first line.
    pub(super) fn in_words(&self) -> String {
        let mb = |mb: u32, by: &str| format!("{mb}MB ({by})");
        match self.choice {
            HeapChoice::Sized(size) if self.wish == HeapWish::Fitted => {
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
            size: self.choice.mb().map(Kib::of_mb),
            fits: heap::fits_instead(self.choice.mb(), self.limit_mb).map(Kib::of_mb),
            beside: Kib::of_mb(LEAST_BESIDE_HEAP_MB),
        }
    }

    /// Says what does not fit, once.
    pub(super) fn warn(&self, how_to_grow: &str) {
        if let Some(found) = self.choice.too_large(self.wish, self.limit_mb) {
            let sum = format!(
                "{} MB heap + {} MB young generation + {BESIDE_HEAP_MB} MB beside the heap + {HELPERS_MB} MB helpers = {} MB, of {} MB",
                found.old,
                found.young,
                found.needed(),
                found.limit
            );
            log::emit(
                &LogLine::warn("the gateway's heap may become larger than memory allows")
                    .field("why", sum)
                    .field(
                        "fix",
                        format!(
                            "leave --max-old-space-size out, and {} MB are set; or {how_to_grow}",
                            found.fits
                        ),
                    ),
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
