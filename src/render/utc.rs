//! Times of the wall clock, for people and programs, as RFC 3339 has them.

use crate::core::time::WallMs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Beyond the year 9999 there is no such notation, and a file or a request may say anything.
const LAST: u64 = 253_402_300_799_999;

fn system_time(at: WallMs) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0.min(LAST))
}

/// `2026-11-21T03:12:45Z`.
#[must_use]
pub fn utc_seconds(at: WallMs) -> String {
    humantime::format_rfc3339_seconds(system_time(at)).to_string()
}

/// `2026-11-20T06:44:40.123Z`, as the log has it.
#[must_use]
pub fn utc_millis(at: WallMs) -> String {
    humantime::format_rfc3339_millis(system_time(at)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_time_is_it_can_be_written() {
        assert_eq!(utc_seconds(WallMs(1_000)), "1970-01-01T00:00:01Z");
        assert_eq!(utc_millis(WallMs(1)), "1970-01-01T00:00:00.001Z");
        for at in [LAST, LAST + 1, u64::MAX] {
            assert_eq!(utc_seconds(WallMs(at)), "9999-12-31T23:59:59Z");
            assert_eq!(utc_millis(WallMs(at)), "9999-12-31T23:59:59.999Z");
        }
    }
}
