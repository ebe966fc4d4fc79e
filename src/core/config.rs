//! Start with the config, seed one, or hold? Facts in, verdict out.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The config file as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFacts {
    /// Where the gateway will look for it.
    pub path: PathBuf,
    /// What is there.
    pub state: ConfigState,
    /// Where the broken config is kept, as long as the last good one stands in its place.
    pub rolled_back: Option<PathBuf>,
}

/// What stands at the config's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigState {
    /// Nothing.
    Missing,
    /// A folder, a link that leads nowhere, a pipe, a device.
    NotAFile {
        /// What it is, in words.
        what: String,
    },
    /// The gateway's uid cannot read it, and neither could clawkeeper repair that.
    Unreadable {
        /// The errno of the attempt.
        errno: i32,
    },
    /// It does not parse.
    Broken {
        /// `line:column: message`, with the line and a caret below; no value is shown.
        error: String,
    },
    /// It parses; these are the findings about its content.
    Parsed {
        /// What the rules found, worst first.
        findings: Vec<Finding>,
    },
}

/// One thing worth saying about a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A stable name for scripts, e.g. `config.mode-missing`.
    pub code: String,
    /// What is so, without any secret.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// How bad a finding is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// The gateway starts, but something will not work as meant.
    Warn,
    /// The gateway would refuse to start.
    Hold,
}

/// What to do about the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigVerdict {
    /// Start with it.
    Use,
    /// Write a first one.
    Seed,
    /// Do not start.
    Hold,
}

/// Judges the config. `may_seed` is the user's setting.
#[must_use]
pub fn judge(state: &ConfigState, may_seed: bool, allow_unconfigured: bool) -> ConfigVerdict {
    match state {
        ConfigState::Missing if may_seed => ConfigVerdict::Seed,
        ConfigState::Missing if allow_unconfigured => ConfigVerdict::Use,
        ConfigState::Missing
        | ConfigState::NotAFile { .. }
        | ConfigState::Unreadable { .. }
        | ConfigState::Broken { .. } => ConfigVerdict::Hold,
        ConfigState::Parsed { findings } => {
            if findings
                .iter()
                .any(|finding| finding.severity == Severity::Hold)
            {
                ConfigVerdict::Hold
            } else {
                ConfigVerdict::Use
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_file_is_seeded_and_only_when_allowed() {
        let broken = ConfigState::Broken {
            error: String::new(),
        };
        assert_eq!(
            judge(&ConfigState::Missing, true, false),
            ConfigVerdict::Seed
        );
        assert_eq!(
            judge(&ConfigState::Missing, false, true),
            ConfigVerdict::Use
        );
        assert_eq!(
            judge(&ConfigState::Missing, false, false),
            ConfigVerdict::Hold
        );
        assert_eq!(
            judge(&broken, true, true),
            ConfigVerdict::Hold,
            "--allow-unconfigured does not help a broken file"
        );
    }

    #[test]
    fn the_worst_finding_decides() {
        let finding = |severity| Finding {
            severity,
            code: String::new(),
            message: String::new(),
            fix: String::new(),
        };
        let parsed = |findings| ConfigState::Parsed { findings };
        let warn = parsed(vec![finding(Severity::Info), finding(Severity::Warn)]);
        assert_eq!(judge(&warn, true, true), ConfigVerdict::Use);
        let hold = parsed(vec![finding(Severity::Warn), finding(Severity::Hold)]);
        assert_eq!(judge(&hold, true, true), ConfigVerdict::Hold);
    }
}
