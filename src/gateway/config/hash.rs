//! Tells whether two configs are the same, byte for byte.

use crate::core::config_history::ContentHash;

/// The SHA-256 of a config's bytes: what `sha256sum openclaw.json` prints.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> ContentHash {
    ContentHash(hmac_sha256::Hash::hash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_sha256sum_prints() {
        // printf '{}' | sha256sum
        assert_eq!(
            content_hash(b"{}").to_string(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}
