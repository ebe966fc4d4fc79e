//! `check`: the whole preflight, changing nothing. The exit code says the worst finding.

use super::Check;
use super::surroundings::{self, Surroundings, looked_at};
use super::tell::{print, say};
use crate::core::action::{ConfigProblem, HoldWhy};
use crate::core::config::{ConfigFacts, ConfigState, Finding, Severity};
use crate::core::leftovers::{self, ProcessFacts, ProcessVerdict};
use crate::core::locks::{self, LockFacts, LockVerdict, UnknownWhy};
use crate::core::volume::{self, VolumeVerdict};
use crate::exit::Exit;
use crate::host::hook::Hook;
use crate::host::launch::Launch;
use crate::host::proc::Proc;
use crate::host::state;
use crate::host::{
    config_file, leftovers as find_leftovers, lock_files, memory, volume as look_at_volume,
};
use crate::render;
use crate::settings::Settings;
use serde::Serialize;
use std::path::Path;

/// One line of the result.
#[derive(Debug, Serialize)]
struct Item {
    level: Level,
    about: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Heal,
    Warn,
    Hold,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Heal => "heal",
            Self::Warn => "warn",
            Self::Hold => "HOLD",
        }
    }
}

#[derive(Debug, Default)]
struct Findings(Vec<Item>);

impl Findings {
    fn add(&mut self, level: Level, about: &'static str, message: impl Into<String>) {
        self.0.push(Item {
            level,
            about,
            message: message.into(),
            fix: None,
        });
    }

    fn add_with_fix(
        &mut self,
        level: Level,
        about: &'static str,
        message: String,
        fix: impl Into<String>,
    ) {
        self.0.push(Item {
            level,
            about,
            message,
            fix: Some(fix.into()),
        });
    }

    fn add_config(&mut self, found: Vec<Finding>) {
        for finding in found {
            let level = level_of(finding.severity);
            self.add_with_fix(level, "config", finding.message, finding.fix);
        }
    }

    fn hold(&mut self, about: &'static str, why: &HoldWhy) {
        let (message, fix) = render::hold_why(why);
        self.add_with_fix(Level::Hold, about, message, fix);
    }
}

pub(super) fn run(check: &Check) -> Exit {
    let found = if check.command.is_empty() {
        surroundings::find().map(
            |Surroundings {
                 launch, settings, ..
             }| (launch, settings),
        )
    } else {
        looked_at(check.command.clone())
    };
    let (launch, settings) = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut findings = Findings::default();
    examine_gateway(&launch, &mut findings);
    let keeper = state::held_by(&launch.state_dir);
    if let Some(pid) = keeper {
        let message = format!("pid {pid} keeps this state folder; a second one would be refused");
        findings.add(Level::Ok, "instance", message);
    }
    examine_volume(&launch, &settings, &mut findings);
    let (config, parsed) = config_file::read(&launch, settings.internal_port);
    let proc = Proc::default();
    let address = launch.listen_address(parsed.as_ref().map(|parsed| &parsed.value));
    let port = address.port();
    let private = state::readable_private(&launch.state_dir).ok().flatten();
    let child = private.and_then(|folder| state::read_child(&folder));
    let (processes, port_busy) = find_leftovers::find(&launch, &proc, address, child.as_ref());
    examine_processes(&processes, &proc, keeper, (port, port_busy), &mut findings);
    examine_locks(&lock_files::find(&launch, &proc), &mut findings);
    examine_config(config, &launch, &settings, &mut findings);
    examine_alerts(&launch, &settings, &mut findings);
    show(&findings.0, check.json);
    match findings.0.iter().map(|item| item.level).max() {
        Some(Level::Hold) => Exit::CheckHolds,
        Some(Level::Warn) => Exit::CheckWarnings,
        Some(Level::Ok | Level::Heal) | None => Exit::Stopped,
    }
}

fn examine_gateway(launch: &Launch, findings: &mut Findings) {
    match launch.version {
        Some(version) => findings.add(Level::Ok, "gateway", format!("OpenClaw {version}")),
        None => findings.add_with_fix(
            Level::Warn,
            "gateway",
            "its version is unknown: no package.json of openclaw beside the entry file".to_owned(),
            "run this from the folder the gateway is started in",
        ),
    }
    let limit = memory::limit(Path::new("/"));
    findings.add(
        Level::Ok,
        "memory",
        format!("{} MB by the {}", limit.bytes >> 20, limit.source),
    );
}

fn examine_volume(launch: &Launch, settings: &Settings, findings: &mut Findings) {
    let facts = look_at_volume::look(launch);
    let place = launch.state_dir.display();
    match volume::judge(&facts, settings.no_mount) {
        VolumeVerdict::Refuse(problem) => findings.hold("volume", &HoldWhy::Volume(problem)),
        VolumeVerdict::Usable(warnings) => {
            let on = facts.mount.map_or_else(String::new, |mount| {
                format!(" on {} ({})", mount.point, mount.fs_type)
            });
            let free = facts.space.map_or_else(String::new, |space| {
                format!(", {} MB free", space.free_bytes >> 20)
            });
            findings.add(Level::Ok, "volume", format!("{place}{on}{free}"));
            for warning in warnings {
                let (why, fix) = render::volume_warning(&warning);
                findings.add_with_fix(Level::Warn, "volume", why, fix);
            }
        }
    }
}

fn examine_processes(
    processes: &[ProcessFacts],
    proc: &Proc,
    keeper: Option<i32>,
    (port, port_busy): (u16, bool),
    findings: &mut Findings,
) {
    let mut holder_named = false;
    for process in processes {
        // Whoever asks beside a supervisor sees its gateway: that is no fault. What its parent is called cannot
        // always be seen; that it holds the lock can.
        let is_kept = keeper == Some(process.ppid) || process.parent_name.starts_with("clawkeeper");
        match leftovers::judge(process) {
            ProcessVerdict::Leftover(_) | ProcessVerdict::LiveGateway if is_kept => {
                let message = format!("the gateway runs: pid {}", process.pid);
                findings.add(Level::Ok, "process", message);
                // Root of a container may not see what a process of another user listens on.
                holder_named |= proc.socket_inodes(process.pid).is_none();
            }
            ProcessVerdict::Leftover(_) => findings.add(
                Level::Heal,
                "process",
                format!(
                    "pid {} ({}) is left of an earlier gateway and would be ended",
                    process.pid, process.name
                ),
            ),
            ProcessVerdict::LiveGateway => findings.hold(
                "process",
                &HoldWhy::LiveGateway {
                    pid: process.pid,
                    ppid: process.ppid,
                    parent_name: process.parent_name.clone(),
                },
            ),
            ProcessVerdict::Stranger => {
                let holder = Some((process.pid, process.name.clone()));
                findings.hold("port", &HoldWhy::PortTaken { port, holder });
            }
            ProcessVerdict::Unrelated => {}
        }
        holder_named |= process.holds_port;
    }
    if port_busy && !holder_named {
        findings.hold("port", &HoldWhy::PortTaken { port, holder: None });
    } else if !port_busy {
        findings.add(Level::Ok, "port", format!("{port} is free"));
    }
}

fn examine_locks(found: &[LockFacts], findings: &mut Findings) {
    for facts in found {
        let verdict = locks::judge(facts, false);
        let level = match verdict {
            LockVerdict::Stale(_) => Level::Heal,
            LockVerdict::Live { .. } | LockVerdict::Unknown(UnknownWhy::HealthyDatabase) => {
                continue;
            }
            LockVerdict::Unknown(_) => Level::Warn,
        };
        findings.add(
            level,
            "lock",
            format!(
                "{} is {}",
                facts.path.display(),
                render::lock_verdict(&verdict)
            ),
        );
    }
    if found.is_empty() {
        findings.add(Level::Ok, "locks", "none");
    }
}

fn examine_config(
    facts: ConfigFacts,
    launch: &Launch,
    settings: &Settings,
    findings: &mut Findings,
) {
    let path = facts.path;
    let problem = match facts.state {
        ConfigState::Missing => {
            let seed = config_file::seed_text(launch, &settings.config_seed);
            let text = seed.as_ref().ok().map(|(text, _)| text.clone());
            match seed {
                Ok((_, from)) => findings.add(
                    Level::Heal,
                    "config",
                    format!(
                        "{} is missing and would be written from {from}",
                        path.display()
                    ),
                ),
                Err(_) if launch.command.allow_unconfigured => {
                    findings.add(Level::Ok, "config", "none; the gateway starts unconfigured");
                }
                Err(error) => findings.hold(
                    "config",
                    &HoldWhy::Config {
                        path: path.clone(),
                        problem: ConfigProblem::SeedFailed(error),
                    },
                ),
            }
            findings.add_config(config_file::examine_text(
                launch,
                text.as_deref(),
                settings.internal_port,
            ));
            return;
        }
        ConfigState::Parsed { findings: found } => {
            if found.is_empty() {
                findings.add(Level::Ok, "config", path.display().to_string());
            }
            findings.add_config(found);
            return;
        }
        ConfigState::NotAFile { what } => ConfigProblem::NotAFile(what),
        ConfigState::Unreadable { errno } => ConfigProblem::Unreadable { errno },
        ConfigState::Broken { error } => ConfigProblem::Broken(error),
    };
    findings.hold("config", &HoldWhy::Config { path, problem });
}

fn examine_alerts(launch: &Launch, settings: &Settings, findings: &mut Findings) {
    match Hook::find(settings, launch) {
        Ok(Some(hook)) => findings.add(
            Level::Ok,
            "alerts",
            format!(
                "are handed to {}; try it: clawkeeper test-alert",
                hook.name()
            ),
        ),
        Ok(None) => {}
        Err(error) => findings.add(Level::Warn, "alerts", error.to_string()),
    }
}

const fn level_of(severity: Severity) -> Level {
    match severity {
        Severity::Info => Level::Ok,
        Severity::Warn => Level::Warn,
        Severity::Hold => Level::Hold,
    }
}

fn show(items: &[Item], json: bool) {
    if json {
        print(serde_json::json!({ "findings": items }));
        return;
    }
    for item in items {
        let message = item.message.replace('\n', "\n              ");
        say(format_args!(
            "{:<5} {:<8} {message}",
            item.level.word(),
            item.about
        ));
        if let Some(fix) = &item.fix {
            say(format_args!("{:14} fix: {fix}", ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::leftovers::SameFolder;

    /// Without the right to look into process 1, what it is called and what it runs cannot be seen.
    #[test]
    fn the_gateway_of_whoever_holds_the_lock_is_no_leftover() {
        let gateway = ProcessFacts {
            pid: 7,
            ppid: 1,
            parent_name: "1".into(),
            start_ticks: 5,
            name: "openclaw-gateway".into(),
            is_gateway: true,
            state_folder: SameFolder::Yes,
            is_marked: true,
            is_recorded_child: false,
            is_orphan: true,
            may_be_service: false,
            holds_port: true,
        };
        let worst = |keeper| {
            let mut findings = Findings::default();
            examine_processes(
                std::slice::from_ref(&gateway),
                &Proc::default(),
                keeper,
                (3000, true),
                &mut findings,
            );
            findings.0.iter().map(|item| item.level).max()
        };
        assert!(worst(Some(1)) == Some(Level::Ok));
        assert!(worst(None) == Some(Level::Heal));
    }
}
