//! Time as an argument: instants and durations in milliseconds. Never reads a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point on the monotonic clock, in milliseconds. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// A length of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// Milliseconds since the Unix epoch, as the wall clock had it. For people and for lock files, never for deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMs(pub u64);

impl Mono {
    /// The instant `length` after this one; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// Whole seconds as milliseconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// For the standard library's timers.
    #[must_use]
    pub const fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    /// `850ms`, `12.3s`, `4m10s`, `3h05m`: what a person reads at night.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ms) = *self;
        match ms {
            0..1_000 => write!(f, "{ms}ms"),
            1_000..60_000 => write!(f, "{}.{}s", ms / 1000, ms % 1000 / 100),
            60_000..3_600_000 => write!(f, "{}m{:02}s", ms / 60_000, ms / 1000 % 60),
            _ => write!(f, "{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_like_a_person_says_them() {
        let read = |ms| Millis(ms).to_string();
        assert_eq!(
            [
                read(0),
                read(850),
                read(12_340),
                read(250_000),
                read(11_100_000)
            ],
            ["0ms", "850ms", "12.3s", "4m10s", "3h05m"]
        );
    }
}
