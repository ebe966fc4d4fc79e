//! Any bytes may lie where a lock should be.
//!
//! Holds: no panic; a payload names a pid that a process can have; bytes behind the first value change
//! nothing; an error is short.
#![no_main]

use clawkeeper::gateway::lock_payload::{
    MAX_BYTES, MAX_PID, parse, parse_singleton, sqlite_header,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(payload) => {
            assert!((1..=MAX_PID).contains(&payload.pid));
            assert!(data.len() <= MAX_BYTES);
            assert_ne!(payload.port, Some(0));
            // 9.6 appends bytes encoded as white space.
            let mut padded = data.to_vec();
            padded.extend_from_slice(b"\n\t \t");
            if padded.len() <= MAX_BYTES {
                assert_eq!(parse(&padded), Ok(payload));
            }
        }
        Err(error) => assert!(error.to_string().len() < 300, "{error}"),
    }
    if let Ok(target) = std::str::from_utf8(data)
        && let Some(owner) = parse_singleton(target)
    {
        assert_eq!(
            format!("{}-{}", owner.host_name, owner.pid).len() <= target.len(),
            true
        );
    }
    let _ = sqlite_header(data);
});
