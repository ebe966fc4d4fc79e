//! The clocks. Nobody else reads them for a decision.
#![allow(
    clippy::disallowed_methods,
    reason = "this module is where clocks are read"
)]

use crate::core::time::{Mono, WallMs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Turns the monotonic clock into the core's time: milliseconds since this clawkeeper began.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// The time, rounded down.
    #[must_use]
    pub fn now(&self) -> Mono {
        Mono(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant at which `at` will have been reached, for a timer.
    #[must_use]
    pub fn instant(&self, at: Mono) -> Instant {
        self.began + Duration::from_millis(at.0)
    }
}

/// The wall clock.
#[must_use]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The wall clock in milliseconds.
#[must_use]
pub fn wall() -> WallMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
