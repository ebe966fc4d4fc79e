//! The answers of the health listener, but for the metrics. No value of the config or the environment is in them.

use super::death::evidence;
use super::problem::{hold_why, stage_words};
use super::report::{PAUSED, RESUME, cause_word, signal_name};
use super::utc::utc_seconds;
use crate::core::exit_class::{ExitClass, ExitStatus};
use crate::core::status::{LastExit, Status};
use crate::core::time::{Millis, WallMs};
use serde::Serialize;

/// What there is to ask for.
pub const PATHS: &str = "\
clawkeeper; a browser is shown a page here
/livez    200 while clawkeeper's own loop turns, whatever the gateway does
/readyz   200 while the gateway serves, else 503; JSON: phase, why, fix
/metrics  the same and more for Prometheus
/v1/status  all that clawkeeper status shows, as JSON
";

/// The body of `/livez` while the loop turns.
pub const LIVE: &str = "ok\n";

/// The body of every path while the loop does not turn.
pub const NOT_LIVE: &str = "clawkeeper's loop gives no answer\n";

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    ready: bool,
    phase: &'static str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_start: Option<String>,
    attempt: u64,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Gateway>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct Gateway {
    pid: i32,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<String>,
    /// While it answers nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_since: Option<String>,
    /// `suppressed` while its crash breaker keeps them off; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Exit {
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    at: String,
}

/// The body of `/readyz`: one JSON object in one line.
#[must_use]
pub fn readiness(status: &Status, now: WallMs) -> String {
    line(&facts(status, now))
}

/// What `/readyz` and `/v1/status` both say.
pub(super) fn facts(status: &Status, now: WallMs) -> Readiness {
    let ago = |age: Millis| utc_seconds(WallMs(now.0.saturating_sub(age.0)));
    let (why, fix) = why(status);
    // A hold goes on through its retries.
    let since = match &status.hold {
        Some(hold) if status.phase == "held" => hold.held_for,
        Some(_) | None => status.phase_for,
    };
    Readiness {
        ready: status.is_ready(),
        phase: status.phase,
        since: ago(since),
        why,
        fix,
        next_start: status
            .next_look_in
            .map(|wait| utc_seconds(WallMs(now.0.saturating_add(wait.0)))),
        attempt: status.attempt.0,
        restarts: status.restarts.iter().sum(),
        gateway: status.gateway.as_ref().map(|it| Gateway {
            pid: it.pid,
            started: ago(it.up_for),
            ready: it.ready_for.map(ago),
            silent_since: it.silent_for.map(ago),
            channels: it.channels_suppressed.then_some("suppressed"),
        }),
        last_exit: status.last_exit.as_ref().map(|it| exit(it, ago(it.ago))),
    }
}

/// One JSON object in one line.
pub(super) fn line(body: &impl Serialize) -> String {
    // Only a map with keys that are no texts, or a failing Serialize, could fail here.
    serde_json::to_string(body).unwrap_or_default() + "\n"
}

/// Why it is not ready, and what to do where a person must. Nothing in it changes merely because time passes: a screen
/// reader says it whenever it does.
fn why(status: &Status) -> (Option<String>, Option<String>) {
    if let Some(hold) = &status.hold {
        let (why, fix) = hold_why(&hold.why);
        return (Some(first_line(&why)), Some(fix));
    }
    let why = match status.phase {
        "paused" => return (Some(PAUSED.to_owned()), Some(RESUME.to_owned())),
        "new" => "clawkeeper begins".to_owned(),
        "preflight" => status
            .stage
            .map_or_else(String::new, |stage| stage_words(stage).to_owned()),
        "starting" => {
            let waits_for = status.gateway.as_ref().and_then(|it| it.waits_for.as_ref());
            waits_for.map_or_else(
                || "the gateway is starting".to_owned(),
                |what| format!("the gateway is starting and waits for {what}"),
            )
        }
        "running" => match status.gateway.as_ref().and_then(|it| it.silent_for) {
            Some(_) => "the gateway does not answer".to_owned(),
            None => return (None, None),
        },
        "stopping" => status.stopping.map_or_else(String::new, |cause| {
            format!("the gateway is being stopped: {}", cause_word(cause))
        }),
        "classifying" => "the gateway has ended".to_owned(),
        "backoff" => {
            let class = status
                .last_exit
                .as_ref()
                .map_or("unknown", |it| it.class.word());
            let row = match status.crashes {
                0 | 1 => String::new(),
                crashes => format!(", {crashes} in a row"),
            };
            format!("the gateway ended ({class}){row}")
        }
        _ => "clawkeeper is ending".to_owned(),
    };
    (Some(why), None)
}

/// Below the first line of a parse error stands the spot in the config, which is for the log only.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn exit(exit: &LastExit, at: String) -> Exit {
    let cause = if let ExitClass::Requested(cause) = &exit.class {
        Some(cause_word(*cause))
    } else {
        None
    };
    let (code, signal) = match exit.status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal(signal) => (None, Some(signal_name(signal))),
    };
    Exit {
        class: exit.class.word(),
        cause,
        code,
        signal,
        evidence: evidence(&exit.class, &exit.oom),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::{ConfigProblem, HoldWhy};
    use crate::core::oom::OomEvidence;
    use crate::core::status::{GatewayStatus, Hold};

    #[test]
    fn a_hold_says_why_and_what_to_do_without_the_excerpt_of_the_config() {
        let broken = "/data/openclaw.json:3:1: expected a comma\n  3 | token: 'sk-secret'\n    | ^";
        let why = HoldWhy::Config {
            path: "/data/openclaw.json".into(),
            problem: ConfigProblem::Broken(broken.into()),
        };
        let held_for = Millis(5_000);
        let body = readiness(
            &Status {
                hold: Some(Hold { why, held_for }),
                ..Status::bare("held")
            },
            WallMs(1_000_000),
        );
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(value["ready"], false);
        assert_eq!(value["why"], "/data/openclaw.json:3:1: expected a comma");
        assert_eq!(
            value["fix"],
            "correct it (clawkeeper config edit) or go back to the last good one (clawkeeper config rollback); the gateway then starts by itself"
        );
        assert_eq!(value["since"], "1970-01-01T00:16:35Z");
        assert!(!body.contains("secret"), "{body}");
    }

    #[test]
    fn a_kill_is_answered_with_who_it_was_as_far_as_that_is_known() {
        let body = readiness(
            &Status {
                last_exit: Some(LastExit {
                    class: ExitClass::Signal { signal: 9 },
                    status: ExitStatus::Signal(9),
                    oom: OomEvidence {
                        is_watched: true,
                        ..OomEvidence::default()
                    },
                    after: Millis(1),
                    ago: Millis(1),
                }),
                ..Status::bare("backoff")
            },
            WallMs(1_000_000),
        );
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            value["last_exit"]["evidence"],
            "the kernel counted no out-of-memory kill: somebody sent it"
        );
    }

    #[test]
    fn why_it_is_not_ready_does_not_change_because_time_passes() {
        let after = |age: Millis, phase| {
            let gateway = GatewayStatus {
                pid: 7,
                up_for: age,
                ready_for: Some(age),
                waits_for: Some("channels".to_owned()),
                silent_for: Some(age),
                probe_took: None,
                channels_suppressed: false,
            };
            why(&Status {
                phase_for: age,
                next_look_in: Some(age),
                gateway: Some(gateway),
                ..Status::bare(phase)
            })
        };
        for phase in crate::core::status::PHASES {
            let words = after(Millis(1), phase);
            assert_eq!(words, after(Millis(4_321), phase), "{phase}");
        }
        assert!(after(Millis(1), "running").0.is_some());
    }

    #[test]
    fn every_phase_but_running_says_why_it_is_not_ready() {
        for phase in crate::core::status::PHASES {
            let (why, _) = why(&Status::bare(phase));
            assert_eq!(why.is_none(), phase == "running", "{phase}: {why:?}");
        }
    }
}
