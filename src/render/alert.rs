//! An alert as the JSON that the command of `--on-event` gets. Its lines are those of the log.
//!
//! docs/alerts.md describes it; a field is added without a new version, never changed or taken away.

use super::log_line::LogLine;
use super::page::shown;
use super::report::report as line_of;
use crate::core::action::Report;
use crate::core::alert::{Alert, Incident, News, Trouble};
use serde_json::{Map, Value, json};

/// A value longer than this says nothing more to a person in a message.
const VALUE_MAX_CHARS: usize = 1_000;

/// Where the gateway runs, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// The host's name, which in a container is the container's.
    pub host: String,
    /// Fly's name of the app.
    pub app: Option<String>,
    /// Fly's id of the machine.
    pub machine: Option<String>,
    /// Fly's region.
    pub region: Option<String>,
    /// OpenClaw's version.
    pub gateway: Option<String>,
}

/// One JSON object on one line.
#[must_use]
pub fn alert(alert: &Alert, place: &Whereabouts) -> String {
    let (kind, title, incidents, reports): (_, _, &[Incident], &[Report]) = match &alert.news {
        News::Trouble { incident, reports } => (
            "trouble",
            title(incident.trouble, reports),
            std::slice::from_ref(incident),
            reports,
        ),
        News::Back(incidents) => ("back", "the gateway serves again", incidents, &[]),
        News::Test => ("test", "this is a test: alerts arrive", &[], &[]),
    };
    let lines: Vec<LogLine> = reports.iter().map(line_of).collect();
    let fix = lines.iter().rev().find_map(|line| line.value("fix"));
    let fix = fix.map(cut).or_else(|| last_resort(&alert.news));
    let incidents: Vec<Value> = incidents
        .iter()
        .map(|it| {
            json!({
                "id": it.id(),
                "trouble": it.trouble.word(),
                "since": it.since.0,
                "count": it.count,
            })
        })
        .collect();
    let trouble = match &alert.news {
        News::Trouble { incident, .. } => Some(incident.trouble.word()),
        News::Back(_) | News::Test => None,
    };
    json!({
        "v": 1,
        "kind": kind,
        "trouble": trouble,
        "title": title,
        "at": alert.at.0,
        "fix": fix,
        "incidents": incidents,
        "lines": lines.iter().map(in_json).collect::<Vec<_>>(),
        "quiet_until": alert.quiet_until.map(|at| at.0),
        "host": place.host,
        "app": place.app,
        "machine": place.machine,
        "region": place.region,
        "clawkeeper": env!("CARGO_PKG_VERSION"),
        "gateway": place.gateway,
    })
    .to_string()
}

/// The trouble in one sentence: the log's own, where that says more than one event of many.
fn title(trouble: Trouble, reports: &[Report]) -> &'static str {
    match trouble {
        Trouble::CrashLoop => "the gateway ends over and over",
        Trouble::OutOfMemory if matches!(reports, [Report::Exited { .. }]) => {
            "the gateway ran out of memory"
        }
        Trouble::OutOfMemory | Trouble::NotAnswering | Trouble::Held => reports
            .last()
            .map_or("the gateway is in trouble", |it| line_of(it).message()),
    }
}

/// What to do where no report says it.
fn last_resort(news: &News) -> Option<String> {
    let fix = match news {
        News::Trouble { incident, .. } => match incident.trouble {
            Trouble::CrashLoop | Trouble::NotAnswering => {
                "its last words before the end: clawkeeper incidents show"
            }
            Trouble::OutOfMemory | Trouble::Held => "clawkeeper status",
        },
        News::Back(_) | News::Test => return None,
    };
    Some(fix.to_owned())
}

fn in_json(line: &LogLine) -> Value {
    let mut fields = Map::new();
    fields.insert("message".into(), line.message().into());
    for (name, value) in line.fields() {
        if let Some(value) = shown(name, value) {
            fields.insert((*name).into(), cut(value).into());
        }
    }
    Value::Object(fields)
}

fn cut(value: &str) -> String {
    value.chars().take(VALUE_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::{ConfigProblem, HoldWhy};
    use crate::core::event::{Attempt, SpawnFailure, SpawnFault};
    use crate::core::exit_class::{ExitClass, ExitStatus};
    use crate::core::time::{Millis, WallMs};

    fn incident(trouble: Trouble) -> Incident {
        Incident {
            trouble,
            since: WallMs(1_763_737_965_123),
            count: 1,
        }
    }

    fn json_of(news: News) -> Value {
        let place = Whereabouts {
            host: "3d8d".into(),
            app: Some("my-openclaw".into()),
            ..Whereabouts::default()
        };
        let text = alert(
            &Alert {
                at: WallMs(1_763_737_965_124),
                news,
                quiet_until: None,
            },
            &place,
        );
        assert!(!text.contains('\n'));
        serde_json::from_str(&text).expect("it is JSON")
    }

    #[test]
    fn a_hold_says_what_the_log_says_and_the_fix() {
        let report = Report::Held(HoldWhy::PortTaken {
            port: 3000,
            holder: Some((7, "nginx\n@everyone".into())),
        });
        let json = json_of(News::Trouble {
            incident: incident(Trouble::Held),
            reports: vec![report.clone()],
        });
        let line = line_of(&report);
        assert_eq!(json["v"], 1);
        assert_eq!(json["kind"], "trouble");
        assert_eq!(json["incidents"][0]["id"], "held-1763737965123");
        assert_eq!(json["title"], line.message());
        // Behind the first line of an explanation a config may stand.
        assert_eq!(json["lines"][0]["why"], "port 3000 is held by nginx");
        assert_eq!(json["fix"], line.value("fix").expect("a fix"));
        assert_eq!(json["app"], "my-openclaw");
        assert_eq!(json["region"], Value::Null);
    }

    #[test]
    fn a_crash_loop_shows_the_last_end_and_the_pause_and_where_to_look() {
        let exited = Report::Exited {
            attempt: Attempt(3),
            pid: 7,
            status: ExitStatus::Code(1),
            class: ExitClass::Crash { code: 1 },
            uptime: Millis(900),
            memory: Box::default(),
        };
        let pause = Report::BackingOff {
            delay: Millis(2_000),
            crashes: 3,
        };
        let json = json_of(News::Trouble {
            incident: incident(Trouble::CrashLoop),
            reports: vec![exited, pause],
        });
        assert_eq!(json["lines"][0]["class"], "crash");
        assert_eq!(json["lines"][1]["crashes_in_a_row"], "3");
        let fix = json["fix"].as_str().expect("a fix");
        assert!(fix.contains("clawkeeper incidents"), "{fix}");
    }

    #[test]
    fn the_spot_in_the_config_that_an_error_points_at_is_for_the_log() {
        let problem = ConfigProblem::Broken("f:4:5: expected a comma\n  4 | planted: 4711".into());
        let report = Report::Held(HoldWhy::Config {
            path: "f".into(),
            problem,
        });
        assert!(line_of(&report).to_text().contains("4711"));
        let json = json_of(News::Trouble {
            incident: incident(Trouble::Held),
            reports: vec![report],
        });
        assert_eq!(json["lines"][0]["why"], "f:4:5: expected a comma");
        assert!(!json.to_string().contains("4711"), "{json}");
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let report = Report::Held(HoldWhy::CannotStart(SpawnFailure {
            fault: SpawnFault::Command,
            error: "é".repeat(100_000),
        }));
        let json = json_of(News::Trouble {
            incident: incident(Trouble::Held),
            reports: vec![report],
        });
        let why = json["lines"][0]["why"].as_str().expect("a why");
        assert_eq!(why.chars().count(), VALUE_MAX_CHARS);
    }

    #[test]
    fn back_names_every_incident_that_it_ends() {
        let all = Trouble::ALL.map(incident).to_vec();
        let json = json_of(News::Back(all.clone()));
        assert_eq!(json["kind"], "back");
        assert_eq!(json["incidents"].as_array().map(Vec::len), Some(all.len()));
        assert_eq!(json["lines"], json!([]));
    }

    #[test]
    fn the_document_shows_an_alert_with_every_field() {
        let example = include_str!("../../docs/alerts.md")
            .lines()
            .find(|line| line.starts_with("{\"v\":1"))
            .expect("an example");
        let example: Value = serde_json::from_str(example).expect("JSON");
        let report = Report::Held(HoldWhy::CannotStart(SpawnFailure {
            fault: SpawnFault::Command,
            error: "x".into(),
        }));
        let real = json_of(News::Trouble {
            incident: incident(Trouble::Held),
            reports: vec![report],
        });
        let keys = |value: &Value| -> Vec<String> {
            let object = value.as_object().expect("an object");
            object.keys().cloned().collect()
        };
        assert_eq!(keys(&example), keys(&real));
        assert_eq!(keys(&example["incidents"][0]), keys(&real["incidents"][0]));
        assert_eq!(keys(&example["lines"][0]), keys(&real["lines"][0]));
    }
}
