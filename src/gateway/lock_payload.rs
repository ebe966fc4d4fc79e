//! Reads what a lock file says about its owner.
//!
//! A lock is untrusted: a crash may have cut it, another program may have written it.
//! What cannot be read is an error with a reason, never a guess about an owner.

use std::path::PathBuf;

use serde_json::Value;

/// A lock is read up to this many bytes; 2026.9.6 writes about 450.
pub const MAX_BYTES: usize = 64 * 1024;

/// Brackets inside brackets beyond this are refused before the parser sees them; a lock has one level.
pub const MAX_DEPTH: usize = 16;

/// The largest process id a 64-bit Linux hands out (`PID_MAX_LIMIT`).
pub const MAX_PID: u32 = 4_194_304;

/// The first bytes of every SQLite database that is not empty.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Who a lock says holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockPayload {
    /// The owner's process id, 1 to [`MAX_PID`], as seen in its own pid namespace.
    pub pid: u32,
    /// Field 22 of its `/proc/<pid>/stat`: ticks of 10 ms since the machine's boot.
    pub start_ticks: Option<u64>,
    /// When the lock was written, in milliseconds since 1970 by the owner's clock.
    pub created_ms: Option<u64>,
    /// A random id of the owner (8.2 and later).
    pub owner_id: Option<String>,
    /// The port it meant to listen on (8.2 and later).
    pub port: Option<u16>,
    /// The config it was started with.
    pub config_path: Option<PathBuf>,
    /// Its state folder (8.2 and later).
    pub state_dir: Option<PathBuf>,
    /// What it does when it is no gateway: `agent-embedded`, `skill-workshop-apply` or
    /// `sqlite-maintenance` (9.6, source).
    pub role: Option<String>,
}

/// Why a lock names no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockPayloadError {
    /// Nothing but white space. 9.6 waits 30 s for a writer to finish, then takes it over.
    #[error("read a lock: it is empty")]
    Empty,
    /// More than [`MAX_BYTES`].
    #[error("read a lock: {bytes} bytes are more than {MAX_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("read a lock: nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Neither JSON nor a process id.
    #[error("read a lock: {reason}")]
    Json {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// No `pid` in it.
    #[error("read a lock: it names no pid")]
    NoPid,
    /// A `pid` that no process can have.
    #[error("read a lock: no process can have pid {pid}")]
    BadPid {
        /// The number as written, cut to 32 characters.
        pid: String,
    },
}

/// What Chromium's `SingletonLock` says: a symbolic link to `<host name>-<pid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingletonOwner {
    /// The machine it ran on. Another name than ours is another container: we cannot see its processes.
    pub host_name: String,
    /// Its process id there.
    pub pid: u32,
}

/// What the first bytes of a SQLite file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqliteHeader {
    /// No bytes at all: SQLite takes it for a new database.
    Empty,
    /// The header of a database.
    Database,
    /// Something else: SQLite refuses it for good.
    Corrupt,
}

/// Reads a lock's payload: the first JSON value, or a bare process id.
///
/// 2026.9.6 writes an object followed by bytes encoded as white space, so what follows the first value
/// is ignored. Plugin-runtime locks of 4.x hold an `owner.json` with `pid` and `startedAt`, session
/// locks `pid` and `createdAt`; both are read by the same rules.
///
/// # Errors
/// The bytes hold no owner that can be named; see [`LockPayloadError`].
pub fn parse(bytes: &[u8]) -> Result<LockPayload, LockPayloadError> {
    if bytes.len() > MAX_BYTES {
        return Err(LockPayloadError::TooLarge { bytes: bytes.len() });
    }
    if bytes
        .iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == 0)
    {
        return Err(LockPayloadError::Empty);
    }
    if too_deep(bytes) {
        return Err(LockPayloadError::TooDeep);
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let first = values.next().ok_or(LockPayloadError::Empty)?;
    let value = first.map_err(|error| LockPayloadError::Json {
        reason: error.to_string(),
    })?;
    match value {
        Value::Object(fields) => {
            let pid = fields.get("pid").ok_or(LockPayloadError::NoPid)?;
            Ok(LockPayload {
                pid: pid_of(pid)?,
                start_ticks: ["startTime", "starttime"]
                    .iter()
                    .find_map(|key| whole(fields.get(*key)?)),
                created_ms: ["createdAt", "startedAt"]
                    .iter()
                    .find_map(|key| time_ms(fields.get(*key)?)),
                owner_id: text(fields.get("ownerId")),
                port: fields
                    .get("port")
                    .and_then(whole)
                    .and_then(|port| u16::try_from(port).ok())
                    .filter(|port| *port > 0),
                config_path: text(fields.get("configPath")).map(PathBuf::from),
                state_dir: text(fields.get("stateDir")).map(PathBuf::from),
                role: text(fields.get("role")),
            })
        }
        Value::Number(_) => Ok(bare(pid_of(&value)?)),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {
            Err(LockPayloadError::NoPid)
        }
    }
}

/// Reads the target of Chromium's `SingletonLock`, `<host name>-<pid>`.
///
/// The host name may hold dashes itself: the pid is what follows the last one.
#[must_use]
pub fn parse_singleton(target: &str) -> Option<SingletonOwner> {
    let (host_name, digits) = target.rsplit_once('-')?;
    if host_name.is_empty() || host_name.len() > 255 || digits.len() > 10 {
        return None;
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let pid = digits
        .parse()
        .ok()
        .filter(|pid| (1..=MAX_PID).contains(pid))?;
    Some(SingletonOwner {
        host_name: host_name.to_owned(),
        pid,
    })
}

/// Judges a coordinator (`<lock>.sqlite`) by its first bytes; sixteen are enough.
///
/// A corrupt one stops 2026.9.6 with rc 78 and never heals.
#[must_use]
pub fn sqlite_header(first_bytes: &[u8]) -> SqliteHeader {
    if first_bytes.is_empty() {
        SqliteHeader::Empty
    } else if first_bytes.starts_with(SQLITE_MAGIC) {
        SqliteHeader::Database
    } else {
        SqliteHeader::Corrupt
    }
}

fn bare(pid: u32) -> LockPayload {
    LockPayload {
        pid,
        start_ticks: None,
        created_ms: None,
        owner_id: None,
        port: None,
        config_path: None,
        state_dir: None,
        role: None,
    }
}

/// Whether brackets nest deeper than [`MAX_DEPTH`], counted outside strings.
fn too_deep(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (_, _) => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn pid_of(value: &Value) -> Result<u32, LockPayloadError> {
    let bad = || LockPayloadError::BadPid {
        pid: value.to_string().chars().take(32).collect(),
    };
    let pid = whole(value).ok_or_else(bad)?;
    u32::try_from(pid)
        .ok()
        .filter(|pid| (1..=MAX_PID).contains(pid))
        .ok_or_else(bad)
}

/// A whole number, however it was written: `404278`, `404278.0` or `"404278"`.
///
/// Above 2^53 a float no longer names one number, so it names none.
fn whole(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    if let Some(float) = value.as_f64() {
        let exact = float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&float);
        return exact.then_some(float as u64);
    }
    let digits = value.as_str()?.trim();
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| digits.parse().ok()).flatten()
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// `2026-11-20T05:12:15.193Z`, or milliseconds since 1970.
fn time_ms(value: &Value) -> Option<u64> {
    match value.as_str() {
        Some(text) => {
            let time = humantime::parse_rfc3339_weak(text).ok()?;
            let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(since.as_millis()).ok()
        }
        None => whole(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What 2026.9.6 wrote as pid 1 of a container.
    const CAPTURED: &str = "{\n  \"pid\": 1,\n  \"ownerId\": \"fbb303ac-3fe3-484c-b5e1-0d2786120a82\",\n  \
        \"cronOwnerProjection\": \"dynamic-default-v1\",\n  \"createdAt\": \"2026-11-20T05:12:15.193Z\",\n  \
        \"configPath\": \"/data/openclaw.json\",\n  \"stateDir\": \"/data\",\n  \"port\": 19093,\n  \
        \"startTime\": 404278\n}\n\t\t\t \t \t   \t";

    #[test]
    fn a_lock_of_the_newest_release_is_read_whole() {
        let expected = LockPayload {
            pid: 1,
            start_ticks: Some(404_278),
            created_ms: Some(1_795_151_535_193),
            owner_id: Some("fbb303ac-3fe3-484c-b5e1-0d2786120a82".to_owned()),
            port: Some(19093),
            config_path: Some(PathBuf::from("/data/openclaw.json")),
            state_dir: Some(PathBuf::from("/data")),
            role: None,
        };
        assert_eq!(parse(CAPTURED.as_bytes()), Ok(expected));
    }

    #[test]
    fn what_follows_the_first_value_is_ignored() {
        for tail in ["", "\n", "\t \t", "{\"pid\":9}", "garbage \u{1}", "]]]"] {
            let text = format!("{{\"pid\":7}}{tail}");
            assert_eq!(parse(text.as_bytes()).map(|it| it.pid), Ok(7), "{tail:?}");
        }
    }

    #[test]
    fn a_bare_pid_is_a_payload() {
        for text in ["12345", "12345\n", "  12345 \n"] {
            assert_eq!(parse(text.as_bytes()), Ok(bare(12345)), "{text:?}");
        }
    }

    #[test]
    fn what_names_no_owner_is_an_error() {
        assert_eq!(parse(b""), Err(LockPayloadError::Empty));
        assert_eq!(parse(b" \n\t"), Err(LockPayloadError::Empty));
        assert_eq!(parse(&[0; 512]), Err(LockPayloadError::Empty));
        assert_eq!(parse(b"{}"), Err(LockPayloadError::NoPid));
        assert_eq!(parse(b"[1]"), Err(LockPayloadError::NoPid));
        assert_eq!(parse(b"\"12\""), Err(LockPayloadError::NoPid));
        for pid in ["0", "-1", "4194305", "1.5", "1e99", "\"x\"", "null", "[1]"] {
            let text = format!("{{\"pid\":{pid}}}");
            assert!(
                matches!(parse(text.as_bytes()), Err(LockPayloadError::BadPid { .. })),
                "{pid}"
            );
        }
        for text in [
            "{\"pid\":",
            "{\"pid\":7",
            "pid 7",
            "\u{feff}{\"pid\":7}",
            "{\"pid\":\"7",
        ] {
            assert!(
                matches!(parse(text.as_bytes()), Err(LockPayloadError::Json { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_is_read_however_it_was_written() {
        for ticks in ["404278", "404278.0", "\"404278\""] {
            let text = format!("{{\"pid\":\"7\",\"startTime\":{ticks}}}");
            assert_eq!(
                parse(text.as_bytes()).unwrap().start_ticks,
                Some(404_278),
                "{ticks}"
            );
        }
        for ticks in ["null", "-1", "1.5", "\"\"", "\"x\"", "1e300", "{}"] {
            let text = format!("{{\"pid\":7,\"startTime\":{ticks}}}");
            assert_eq!(parse(text.as_bytes()).unwrap().start_ticks, None, "{ticks}");
        }
    }

    #[test]
    fn a_time_that_is_none_is_absent() {
        for time in [
            "\"yesterday\"",
            "\"\"",
            "\"2026-13-40T99:00:00Z\"",
            "\"1969-12-31T23:59:59Z\"",
            "null",
        ] {
            let text = format!("{{\"pid\":7,\"createdAt\":{time}}}");
            assert_eq!(parse(text.as_bytes()).unwrap().created_ms, None, "{time}");
        }
        let text = r#"{"pid":7,"startedAt":"2026-04-30T07:37:00.000Z"}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap().created_ms,
            Some(1_777_534_620_000)
        );
    }

    #[test]
    fn size_and_depth_are_bounded_before_parsing() {
        let large = vec![b'['; MAX_BYTES + 1];
        assert!(matches!(
            parse(&large),
            Err(LockPayloadError::TooLarge { .. })
        ));
        let deep = vec![b'['; MAX_BYTES];
        assert_eq!(parse(&deep), Err(LockPayloadError::TooDeep));
        let quoted = format!("{{\"pid\":7,\"ownerId\":\"{}\"}}", "[".repeat(100));
        assert_eq!(parse(quoted.as_bytes()).map(|it| it.pid), Ok(7));
    }

    #[test]
    fn a_singleton_lock_names_host_and_pid() {
        let owner = parse_singleton("my-app-48ed-1234").unwrap();
        assert_eq!((owner.host_name.as_str(), owner.pid), ("my-app-48ed", 1234));
        for target in [
            "",
            "-",
            "-12",
            "host-",
            "host",
            "host-0",
            "host-x",
            "host-99999999999",
        ] {
            assert_eq!(parse_singleton(target), None, "{target}");
        }
    }

    #[test]
    fn a_coordinator_is_judged_by_its_first_bytes() {
        assert_eq!(sqlite_header(b""), SqliteHeader::Empty);
        assert_eq!(
            sqlite_header(b"SQLite format 3\0\x10\x00"),
            SqliteHeader::Database
        );
        assert_eq!(sqlite_header(b"SQLite forma"), SqliteHeader::Corrupt);
        assert_eq!(sqlite_header(b"corrupt"), SqliteHeader::Corrupt);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_a_pid_is_always_sane(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(payload) = parse(&bytes) {
                prop_assert!((1..=MAX_PID).contains(&payload.pid));
            }
        }

        #[test]
        fn a_cut_lock_never_names_a_wrong_owner(end in 0..CAPTURED.len()) {
            match parse(&CAPTURED.as_bytes()[..end]) {
                Ok(payload) => prop_assert_eq!(payload.start_ticks, Some(404_278)),
                Err(LockPayloadError::Empty | LockPayloadError::Json { .. }) => {}
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
