//! The status as JSON, for `/v1/status`, and the answers to requests.

use super::health::{Readiness, facts, line};
use super::metrics::Surroundings;
use super::utc::utc_seconds;
use crate::core::control::{Answer, RefusedWhy};
use crate::core::status::{RestartClass, Status};
use crate::core::time::{Millis, WallMs};
use serde::Serialize;

/// What a pause with a limit must look like, over HTTP.
pub const LIMIT_IS_WRONG: &str = "a pause takes limit_ms=NUMBER, from 1 to a week, or nothing\n";

#[derive(Debug, Serialize)]
struct Body {
    /// Of this format; a field may be added without a new one.
    v: u32,
    #[serde(flatten)]
    readiness: Readiness,
    clawkeeper: Clawkeeper,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_version: Option<String>,
    starts: u64,
    crashes_in_a_row: u32,
    restarts_by_class: Vec<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<Paused>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    config: Config,
    locks: crate::core::status::Locks,
}

#[derive(Debug, Serialize)]
struct Clawkeeper {
    version: &'static str,
    pid: u32,
    started: String,
}

/// Classes without a restart in the last day are left out.
#[derive(Debug, Serialize)]
struct Count {
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    hour: u64,
    day: u64,
}

#[derive(Debug, Serialize)]
struct Paused {
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumes: Option<String>,
}

#[derive(Debug, Serialize)]
struct Memory {
    tree_mb: u32,
    main_mb: u32,
    processes: u16,
    available_mb: u32,
    limit_mb: u32,
    limit_from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    leak_mb_per_hour: Option<u32>,
    /// Age in seconds and MB of the tree, oldest first.
    course: Vec<(u64, u32)>,
}

#[derive(Debug, Serialize)]
struct Volume {
    #[serde(skip_serializing_if = "Option::is_none")]
    free_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    usable: Option<bool>,
    generation: u64,
    last_edit: &'static str,
}

/// The body of `/v1/status`: one JSON object in one line. No value of the config or the environment is in it.
#[must_use]
pub fn status_json(status: &Status, around: &Surroundings, now: WallMs) -> String {
    let ago = |age: Millis| utc_seconds(WallMs(now.0.saturating_sub(age.0)));
    let counts = RestartClass::ALL
        .into_iter()
        .zip(status.restarts_hour)
        .zip(status.restarts_day);
    line(&Body {
        v: 1,
        readiness: facts(status, now),
        clawkeeper: Clawkeeper {
            version: env!("CARGO_PKG_VERSION"),
            pid: around.pid,
            started: ago(status.uptime),
        },
        gateway_version: around.gateway_version.clone(),
        starts: status.starts,
        crashes_in_a_row: status.crashes,
        restarts_by_class: counts
            .filter(|(_, day)| *day > 0)
            .map(|((class, hour), day)| Count {
                class: class.word(),
                cause: class.cause().map(super::report::cause_word),
                hour,
                day,
            })
            .collect(),
        paused: status.pause.as_ref().map(|pause| Paused {
            since: ago(pause.paused_for),
            resumes: pause
                .resumes_in
                .map(|wait| utc_seconds(WallMs(now.0.saturating_add(wait.0)))),
        }),
        memory: status.memory.map(|sample| Memory {
            tree_mb: sample.tree.mb(),
            main_mb: sample.main.mb(),
            processes: sample.processes,
            available_mb: sample.available.mb(),
            limit_mb: sample.limit.mb(),
            limit_from: sample.limit_from.words(),
            leak_mb_per_hour: status.leak.map(crate::core::memory::Kib::mb),
            course: status
                .memory_course
                .iter()
                .map(|(age, tree)| (age.0 / 1_000, tree.mb()))
                .collect(),
        }),
        volume: status.volume.map(|seen| {
            let space = around.space.or(seen.space);
            Volume {
                free_mb: space.map(|it| it.free_bytes >> 20),
                size_mb: space.map(|it| it.total_bytes >> 20),
                write_ms: seen.write_took.map(|took| took.0),
            }
        }),
        config: Config {
            usable: status.config_usable,
            generation: status.config_generation,
            last_edit: status.config_verdict,
        },
        locks: status.locks,
    })
}

/// The body of the answer to a request.
#[must_use]
pub fn answer_json(answer: Answer) -> String {
    line(&match answer {
        Answer::Accepted { starts } => serde_json::json!({ "accepted": true, "starts": starts }),
        Answer::Refused(why) => serde_json::json!({ "accepted": false, "why": refused(why) }),
    })
}

const fn refused(why: RefusedWhy) -> &'static str {
    match why {
        RefusedWhy::Ending => "clawkeeper is ending",
        RefusedWhy::Paused => "it is paused; clawkeeper resume starts it",
        RefusedWhy::NotPaused => "it is not paused",
    }
}
