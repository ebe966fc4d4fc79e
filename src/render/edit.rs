//! What is said of an edit of the config while the gateway runs.

use super::log_line::LogLine;
use super::problem::{CONFIG_FIX, config_problem};
use crate::core::action::ConfigProblem;
use crate::core::reload::{RestartWhy, Told, Unapplied};
use std::path::Path;

/// What ends a roll-back.
pub(super) const REPAIR: &str =
    "correct the broken file and put it back: clawkeeper config put FILE";

/// The field that has the gateway's own words of a config, which quote its values.
pub(super) const SAID: &str = "said";

pub(super) fn line(path: &Path, told: &Told) -> LogLine {
    match told {
        Told::Accepted {
            generation,
            changed,
        } => {
            let line = if changed.is_empty() {
                LogLine::info("config accepted; nothing but its layout changed")
            } else {
                LogLine::info("config edited and found sound; the gateway is to take it")
            };
            line.field("path", path.display())
                .field("generation", generation)
                .maybe("changed", keys(changed))
        }
        Told::Refused {
            generation,
            problem: ConfigProblem::Missing,
        } => LogLine::error("the config is gone; the gateway runs on with what it has read")
            .field("path", path.display())
            .field("generation", generation)
            .field(
                "fix",
                "put it back before the next start: clawkeeper config rollback",
            ),
        Told::Refused {
            generation,
            problem,
        } => {
            let (why, fix) = config_problem(problem);
            LogLine::error("config refused; the gateway runs on with the one before")
                .explanation("why", &why)
                .field("path", path.display())
                .field("generation", generation)
                .field("fix", fix)
        }
        Told::RefusedByGateway { generation, issues } => {
            let said = (!issues.is_empty()).then(|| issues.join("; "));
            LogLine::error("config refused; the gateway runs on with the one before")
                .field("why", invalid(issues))
                .maybe(SAID, said)
                .field("path", path.display())
                .field("generation", generation)
                .field("fix", CONFIG_FIX)
        }
        Told::Restored => LogLine::info("config can be used again").field("path", path.display()),
        Told::Rewritten { changed } => LogLine::info("the gateway changed its config itself")
            .field("path", path.display())
            .maybe("changed", keys(changed)),
        Told::Applied { generation, took } => LogLine::info("config accepted and applied")
            .field("by", "gateway")
            .field("generation", generation)
            .field("took", took),
        Told::GatewayRestarts { generation } => {
            LogLine::info("the gateway restarts itself for the config")
                .field("generation", generation)
        }
        Told::Restarts { generation, why } => {
            LogLine::info("the config needs a restart that the gateway does not make itself")
                .field("generation", generation)
                .field("why", restart_why(*why))
        }
        Told::Unverified { generation } => {
            LogLine::info("config accepted; the gateway says nothing of having applied it")
                .field("generation", generation)
        }
        Told::NotApplied {
            generation,
            why,
            because,
        } => {
            let because = match because {
                Unapplied::Setting => "CLAWKEEPER_CONFIG_APPLY leaves it to the gateway".to_owned(),
                Unapplied::NotValidated(why) => {
                    format!("neither the gateway nor its validator has found it valid: {why}")
                }
            };
            LogLine::warn("config not applied until the next start")
                .field("generation", generation)
                .field("why", restart_why(*why))
                .field("because", because)
                .field("fix", "clawkeeper restart, when it suits you")
        }
    }
}

/// Where the gateway finds it invalid, without its words.
fn invalid(issues: &[String]) -> String {
    let mut places: Vec<&str> = issues
        .iter()
        .filter_map(|issue| issue.split_once(": "))
        .map(|(path, _)| path)
        .collect();
    places.dedup();
    if places.is_empty() {
        return "the gateway finds it invalid; its own line says where: clawkeeper logs".to_owned();
    }
    format!("the gateway finds it invalid at {}", places.join(", "))
}

fn keys(changed: &[String]) -> Option<String> {
    (!changed.is_empty()).then(|| changed.join(","))
}

const fn restart_why(why: RestartWhy) -> &'static str {
    match why {
        RestartWhy::Asked => "CLAWKEEPER_CONFIG_APPLY=restart",
        RestartWhy::ReloadOff => "gateway.reload.mode is off",
        RestartWhy::NeedsRestart => "what changed needs one, and gateway.reload.mode forbids it",
        RestartWhy::Missed => "the gateway did not notice the edit",
        RestartWhy::Failed => "the gateway's own reload failed",
    }
}
