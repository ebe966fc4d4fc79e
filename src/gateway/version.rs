//! The gateway's version and what each version does at our boundary.
//!
//! This is the only place that compares versions: the rest asks a question by name.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// `package.json` is read up to this many bytes; 2026.9.6 ships one of less than 200 KiB.
pub const MAX_PACKAGE_JSON_BYTES: usize = 4 * 1024 * 1024;

/// The names the package has been published under, newest first.
const PACKAGE_NAMES: [&str; 3] = ["openclaw", "moltbot", "clawdbot"];

/// A release of the gateway, as `year.month.patch`.
///
/// A suffix (`-beta.1`, `-2`) is read and dropped: a beta behaves as the release it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The year, such as 2026.
    pub year: u16,
    /// The month, 1 to 12.
    pub month: u8,
    /// The third number; it is not always a day.
    pub patch: u16,
}

/// How the file name `gateway.<8 hex digits>.lock` is made from the config path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHash {
    /// Up to 2026.1.29.
    Sha1,
    /// From 2026.2.26 on.
    Sha256,
}

/// Why a version could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The text is not `year.month.patch`.
    #[error("read {text:?} as a version such as 2026.9.6")]
    Shape {
        /// The text, cut to 64 characters.
        text: String,
    },
    /// The bytes are not a `package.json`.
    #[error("parse package.json: {reason}")]
    Json {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// The file is larger than [`MAX_PACKAGE_JSON_BYTES`].
    #[error("read package.json: {bytes} bytes are more than {MAX_PACKAGE_JSON_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The package is another one than the gateway.
    #[error("find openclaw: package.json names {name:?}")]
    OtherPackage {
        /// The name it has, cut to 64 characters.
        name: String,
    },
}

impl Version {
    /// A version from its three numbers.
    #[must_use]
    pub const fn new(year: u16, month: u8, patch: u16) -> Self {
        Self { year, month, patch }
    }

    /// Reads the version of a gateway's `package.json`.
    ///
    /// # Errors
    /// The bytes are too many, are not JSON, belong to another package, or hold no version.
    pub fn from_package_json(bytes: &[u8]) -> Result<Self, VersionError> {
        #[derive(Deserialize)]
        struct Package {
            name: String,
            version: String,
        }
        if bytes.len() > MAX_PACKAGE_JSON_BYTES {
            return Err(VersionError::TooLarge { bytes: bytes.len() });
        }
        let package: Package =
            serde_json::from_slice(bytes).map_err(|error| VersionError::Json {
                reason: error.to_string(),
            })?;
        if !PACKAGE_NAMES.contains(&package.name.as_str()) {
            return Err(VersionError::OtherPackage {
                name: cut(&package.name),
            });
        }
        package.version.parse()
    }

    /// Whether its locks lie in the state folder, where they outlive the container.
    ///
    /// 2026.8.2 and 2026.9.6 keep them in `<state>/tmp/openclaw-<uid>/`; 2026.7.1 and older in
    /// `$TMPDIR`, which a Fly machine clears at each start.
    #[must_use]
    pub fn locks_on_volume(self) -> bool {
        self >= Self::new(2026, 8, 2)
    }

    /// Whether every Node it runs on knows `--report-exclude-env` (22.13 and 23.3): 2026.7.1 demands 22.22 at least.
    #[must_use]
    pub fn excludes_env_from_reports(self) -> bool {
        self >= Self::new(2026, 7, 1)
    }

    /// Whether it brings channels back by itself that its crash breaker left off.
    ///
    /// 2026.9.6 (run) and 2026.8.2 (source) do so some six minutes after their start; 2026.7.1 never does.
    #[must_use]
    pub fn recovers_channels(self) -> bool {
        self >= Self::new(2026, 8, 2)
    }

    /// Whether it reads `OPENCLAW_SUPERVISOR_MODE=external`: restarts by exit 0, refuses to update
    /// itself and to manage services.
    #[must_use]
    pub fn external_supervisor(self) -> bool {
        self >= Self::new(2026, 8, 2)
    }

    /// Whether `/startupz` answers JSON; older versions answer unknown paths 200 with HTML.
    #[must_use]
    pub fn has_startupz(self) -> bool {
        self >= Self::new(2026, 8, 2)
    }

    /// Whether `/readyz` answers JSON.
    #[must_use]
    pub fn has_readyz(self) -> bool {
        self >= Self::new(2026, 3, 13)
    }

    /// Whether `/healthz` and `/health` answer JSON.
    #[must_use]
    pub fn healthz_is_json(self) -> bool {
        self >= Self::new(2026, 4, 29)
    }

    /// Whether the third unclean boot within 300 s comes up with every channel off.
    #[must_use]
    pub fn crash_breaker(self) -> bool {
        self >= Self::new(2026, 7, 1)
    }

    /// Whether `config validate --json` exists; 2026.1.29 and 2026.2.26 reject `--json`.
    #[must_use]
    pub fn validates_as_json(self) -> bool {
        self >= Self::new(2026, 3, 13)
    }

    /// Whether it prints `[gateway] ready`; before, `listening on ws://…` is the last line of a start.
    #[must_use]
    pub fn prints_ready(self) -> bool {
        self >= Self::new(2026, 4, 29)
    }

    /// Whether its schema has `gateway.controlUi.allowedOrigins`.
    ///
    /// 2026.1.29 refuses a config that has it (run); 2026.2.2 brought it (source).
    #[must_use]
    pub fn knows_allowed_origins(self) -> bool {
        self >= Self::new(2026, 2, 2)
    }

    /// Whether a bind that reaches other machines is refused until
    /// `gateway.controlUi.allowedOrigins` is in the file.
    ///
    /// 2026.3.13 exits 1 after 17 s; 2026.9.6 makes a list up for the run. The releases between were
    /// not measured, so they count as demanding it.
    #[must_use]
    pub fn demands_allowed_origins(self) -> bool {
        self >= Self::new(2026, 2, 26) && self < Self::new(2026, 7, 1)
    }

    /// Whether a request with forwarding headers is refused (403 `proxy_attribution_required`, the Control UI
    /// with it) unless `gateway.trustedProxies` covers where it comes from.
    #[must_use]
    pub fn demands_trusted_proxies(self) -> bool {
        self >= Self::new(2026, 8, 2)
    }

    /// Whether a gateway told no bind listens on every address when it finds itself in a container.
    ///
    /// 2026.7.1 and 2026.9.6 do (source); 2026.3.13 stays on loopback (source).
    /// Between the two it is unknown: `None`.
    #[must_use]
    pub fn binds_auto_in_container(self) -> Option<bool> {
        if self <= Self::new(2026, 3, 13) {
            Some(false)
        } else if self >= Self::new(2026, 7, 1) {
            Some(true)
        } else {
            None
        }
    }

    /// Whether a named profile moves the default port to `20000 + hash % 40000`.
    ///
    /// 2026.9.6 does and 2026.7.1 does not (source).
    #[must_use]
    pub fn profile_moves_port(self) -> bool {
        self >= Self::new(2026, 9, 6)
    }

    /// How it names its lock after the config path.
    #[must_use]
    pub fn lock_hash(self) -> LockHash {
        if self >= Self::new(2026, 2, 26) {
            LockHash::Sha256
        } else {
            LockHash::Sha1
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.year, self.month, self.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let shape = || VersionError::Shape { text: cut(text) };
        let trimmed = text.trim();
        let numbers = trimmed.strip_prefix('v').unwrap_or(trimmed);
        let numbers = numbers.split(['-', '+']).next().unwrap_or(numbers);
        let mut parts = numbers.split('.');
        let year = number(parts.next()).ok_or_else(shape)?;
        let month = number(parts.next()).ok_or_else(shape)?;
        let patch = number(parts.next()).ok_or_else(shape)?;
        if parts.next().is_some() {
            return Err(shape());
        }
        Ok(Self { year, month, patch })
    }
}

/// A decimal number of ASCII digits only; `parse` alone would take a leading `+`.
fn number<N: FromStr>(text: Option<&str>) -> Option<N> {
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_suffix_is_read_and_dropped() {
        for text in [
            "2026.9.6",
            "2026.9.6-beta.1",
            "2026.9.6-2",
            "v2026.9.6+build",
            " 2026.9.6\n",
        ] {
            assert_eq!(version(text), Version::new(2026, 9, 6), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_three_numbers_is_refused() {
        for text in [
            "",
            "2026",
            "2026.9",
            "2026.9.6.1",
            "2026.x.6",
            "+2026.9.6",
            "2026.900.6",
            "latest",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_measured_release_does_what_was_measured() {
        // locks_on_volume, external, startupz, readyz, healthz json, breaker, validate --json, ready
        let table = [
            (
                "2026.1.29",
                [false, false, false, false, false, false, false, false],
            ),
            (
                "2026.2.26",
                [false, false, false, false, false, false, false, false],
            ),
            (
                "2026.3.13",
                [false, false, false, true, false, false, true, false],
            ),
            (
                "2026.4.29",
                [false, false, false, true, true, false, true, true],
            ),
            (
                "2026.5.28",
                [false, false, false, true, true, false, true, true],
            ),
            (
                "2026.6.11",
                [false, false, false, true, true, false, true, true],
            ),
            (
                "2026.7.1",
                [false, false, false, true, true, true, true, true],
            ),
            ("2026.8.2", [true, true, true, true, true, true, true, true]),
            ("2026.9.6", [true, true, true, true, true, true, true, true]),
        ];
        for (text, expected) in table {
            let it = version(text);
            let found = [
                it.locks_on_volume(),
                it.external_supervisor(),
                it.has_startupz(),
                it.has_readyz(),
                it.healthz_is_json(),
                it.crash_breaker(),
                it.validates_as_json(),
                it.prints_ready(),
            ];
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(version("2026.1.29").lock_hash(), LockHash::Sha1);
        assert_eq!(version("2026.2.26").lock_hash(), LockHash::Sha256);
    }

    #[test]
    fn only_the_gateways_own_package_names_a_version() {
        let read = |text: &str| Version::from_package_json(text.as_bytes());
        assert_eq!(
            read(r#"{"name":"openclaw","version":"2026.9.6","bin":{}}"#),
            Ok(Version::new(2026, 9, 6))
        );
        assert_eq!(
            read(r#"{"name":"clawdbot","version":"2026.1.24-3"}"#),
            Ok(Version::new(2026, 1, 24))
        );
        assert!(matches!(
            read(r#"{"name":"left-pad","version":"1.3.0"}"#),
            Err(VersionError::OtherPackage { .. })
        ));
        assert!(matches!(read("{"), Err(VersionError::Json { .. })));
        assert!(matches!(
            read(r#"{"name":"openclaw"}"#),
            Err(VersionError::Json { .. })
        ));
        let deep = "[".repeat(100_000);
        assert!(matches!(read(&deep), Err(VersionError::Json { .. })));
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(year: u16, month: u8, patch: u16) {
            let it = Version::new(year, month, patch);
            prop_assert_eq!(it.to_string().parse::<Version>(), Ok(it));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Version>();
        }
    }
}
