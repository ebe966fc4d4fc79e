//! The wording of every report of the core: the one place where a log line is made.

use super::death;
use super::edit;
use super::log_line::LogLine;
use super::memory;
use super::problem::{config_problem, hold_why, lock_verdict, stale_why, volume_warning};
use crate::core::action::{Ending, Report};
use crate::core::config::{Finding, Severity};
use crate::core::control::Op;
use crate::core::exit_class::StopCause;
use crate::core::leftovers::LeftoverWhy;
use crate::core::readiness::ListenVerdict;
use crate::core::time::Millis;
use nix::sys::signal::Signal;

/// The line for a report.
#[must_use]
pub fn report(report: &Report) -> LogLine {
    match report {
        Report::AlreadyRunning { holder } => {
            LogLine::error("another clawkeeper keeps this state folder; nothing was touched")
                .field("holder", holder)
                .field(
                    "fix",
                    "give each gateway its own volume, or stop the other one",
                )
        }
        Report::Volume(warning) => {
            let (why, fix) = volume_warning(warning);
            LogLine::warn("volume").field("why", why).field("fix", fix)
        }
        Report::OwnersMended { paths, count, uid } => {
            LogLine::warn("files of root were given to the gateway's user")
                .field("count", count)
                .field("uid", uid)
                .field(
                    "paths",
                    paths
                        .iter()
                        .map(|path| path.display().to_string())
                        .collect::<Vec<_>>()
                        .join(" "),
                )
        }
        Report::LeftoverFound { process, why } => {
            LogLine::warn("ending a leftover process of an earlier gateway")
                .field("pid", process.pid)
                .field("name", &process.name)
                .field("why", leftover_why(*why))
        }
        Report::LockCleared { path, pid, why } => LogLine::warn("stale lock cleared")
            .field("path", path.display())
            .maybe("pid", *pid)
            .field("why", stale_why(*why)),
        Report::LockNotCleared { path, error } => LogLine::warn("stale lock could not be cleared")
            .field("path", path.display())
            .field("why", error),
        Report::LockLeft { path, verdict } => LogLine::info("lock left in place")
            .field("path", path.display())
            .field("why", lock_verdict(verdict)),
        Report::Config(finding) => config_finding(finding),
        Report::ConfigSeeded { path, from } => {
            LogLine::info("no config was there; a first one was written")
                .field("path", path.display())
                .field("from", from)
        }
        Report::Unconfigured => LogLine::info("no config; the gateway starts unconfigured"),
        Report::ConfigFine => LogLine::info("config looked at: it can be used"),
        Report::ConfigNotFine(problem) => {
            let (why, fix) = config_problem(problem);
            LogLine::error("config looked at: it would not be accepted at the next start")
                .explanation("why", &why)
                .field("fix", fix)
        }
        Report::Held(why) => {
            let (why, fix) = hold_why(why);
            LogLine::error("holding: the gateway is not started until this is mended")
                .explanation("why", &why)
                .field("fix", fix)
        }
        Report::HoldOver { after } => LogLine::info("hold is over").field("after", after),
        Report::Edit { path, told } => edit::line(path, told),
        Report::RolledBack { path, broken } => {
            LogLine::error("the config cannot be used; the last good one was put in its place")
                .field("path", path.display())
                .field("broken", broken.display())
                .field("fix", edit::REPAIR)
        }
        Report::NotRolledBack { why } => {
            LogLine::error("the config could not be rolled back").field("why", why)
        }
        Report::StillRolledBack { path, broken } => {
            LogLine::error("starting with the last good config: the broken one was not repaired")
                .field("path", path.display())
                .field("broken", broken.display())
                .field("fix", edit::REPAIR)
        }
        Report::Requested { op, peer } => LogLine::info(match op {
            Op::Restart => "a restart was asked for",
            Op::Pause { .. } => "a pause was asked for",
            Op::Resume => "the end of the pause was asked for",
        })
        .field("by_pid", peer.pid)
        .field("by_uid", peer.uid),
        Report::Paused { limit } => LogLine::warn(PAUSED)
            .maybe("resumes_in", *limit)
            .field("fix", RESUME),
        Report::Resumed { after, by_limit } => LogLine::info("the pause is over")
            .field("after", after)
            .field(
                "why",
                if *by_limit {
                    "its time is up"
                } else {
                    "asked for"
                },
            ),
        Report::Ending(ending) => ending_line(*ending),
        Report::Started { attempt, pid } => LogLine::info("gateway started")
            .field("pid", pid)
            .field("attempt", attempt.0),
        Report::StillStarting {
            elapsed,
            pending,
            short,
        } => {
            let message = "gateway still starting";
            let line = match short {
                Some(_) => LogLine::warn(message),
                None => LogLine::info(message),
            };
            let line = line
                .field("elapsed", elapsed)
                .maybe("waits_for", pending.as_ref());
            memory::slowed(line, short.as_deref())
        }
        Report::Ready { attempt, took } => LogLine::info("gateway ready")
            .field("took", took)
            .field("attempt", attempt.0),
        Report::Unreachable {
            expected_port,
            verdict,
        } => unreachable(*expected_port, verdict),
        Report::ChannelsOff { start_in } => {
            LogLine::warn("the gateway's crash breaker left every channel off")
                .maybe("start_in", *start_in)
        }
        Report::ChannelsStarted { names } if names.is_empty() => {
            LogLine::info("the channels are on again")
        }
        Report::ChannelsStarted { names } => {
            LogLine::info("channels started again after the crash breaker")
                .field("channels", names.join(","))
        }
        Report::ChannelsStayOff { why, restart_in } => {
            LogLine::warn("the channels stay off for now")
                .field("why", why)
                .maybe("restart_in", *restart_in)
                .field(
                    "fix",
                    "openclaw gateway call channels.start --params '{\"channel\":\"<name>\"}'",
                )
        }
        Report::NotAnswering { since, short } => {
            let line = LogLine::warn("gateway does not answer").field("since", since);
            memory::slowed(line, short.as_deref())
        }
        Report::AnsweringAgain { after } => {
            LogLine::info("gateway answers again").field("after", after)
        }
        Report::MemoryShort {
            outlook,
            may_restart,
            how_to_grow,
        } => memory::short(outlook, *may_restart, how_to_grow),
        Report::MemoryEased(sample) => memory::eased(sample),
        Report::MemoryRestart(outlook) => memory::restart(outlook),
        Report::MemoryRestartsSpent {
            outlook,
            restarts,
            how_to_grow,
        } => memory::spent(outlook, *restarts, how_to_grow),
        Report::Stopping {
            cause,
            signal,
            timeout,
            short,
        } => {
            let line = stopping(*cause, signal.as_ref(), *timeout);
            memory::slowed(line, short.as_deref())
        }
        Report::StopShortened { timeout } => {
            LogLine::info("another signal shortens the stop").field("kill_in", timeout)
        }
        Report::Killing => LogLine::warn("the gateway did not stop in time and is killed"),
        Report::Exited {
            attempt,
            pid,
            status,
            class,
            uptime,
            memory,
        } => death::exited(*status, class, memory)
            .field("pid", pid)
            .field("attempt", attempt.0)
            .field("uptime", uptime)
            .maybe("fix", memory.advice.as_ref().map(death::advice)),
        Report::KilledBeside { kills, memory } => death::killed_beside(*kills, memory)
            .maybe("fix", memory.advice.as_ref().map(death::advice)),
        Report::TreeEnded { ended, survivors } => {
            LogLine::info("processes it left behind were ended")
                .field("count", ended)
                .maybe(
                    "survivors",
                    (!survivors.is_empty()).then(|| format!("{survivors:?}")),
                )
        }
        Report::BackingOff { delay, crashes } => LogLine::warn("waiting before the next start")
            .field("delay", delay)
            .field("crashes_in_a_row", crashes),
    }
}

fn config_finding(finding: &Finding) -> LogLine {
    let line = match finding.severity {
        Severity::Info => LogLine::info("config"),
        Severity::Warn => LogLine::warn("config"),
        Severity::Hold => LogLine::error("config"),
    };
    line.field("code", &finding.code)
        .field("why", &finding.message)
        .field("fix", &finding.fix)
}

fn stopping(cause: StopCause, signal: Option<&(String, Option<i32>)>, timeout: Millis) -> LogLine {
    let line = match cause {
        StopCause::Shutdown => LogLine::info("stopping"),
        StopCause::Reload => {
            LogLine::info("restarting the gateway, drained, for an edit of its config")
        }
        StopCause::ChannelsOff => {
            LogLine::info("restarting the gateway, drained, to bring its channels back")
        }
        StopCause::Hung => LogLine::error("restarting the gateway: it does not answer"),
        StopCause::Memory => LogLine::info("draining the gateway"),
        StopCause::StartTimeout => {
            LogLine::error("restarting the gateway: it was not ready in time")
        }
        StopCause::Restart => LogLine::info("restarting the gateway, drained, as asked for"),
        StopCause::Pause => LogLine::info("draining the gateway for a pause"),
    };
    let line = match signal {
        Some((name, sender)) => line.field("signal", name).maybe("from_pid", *sender),
        None => line,
    };
    line.maybe("kill_in", (timeout.0 > 0).then_some(timeout))
}

fn unreachable(expected_port: u16, verdict: &ListenVerdict) -> LogLine {
    let line =
        LogLine::error("not listening on expected address: Fly's proxy cannot reach the gateway");
    match verdict {
        ListenVerdict::LoopbackOnly { address } => line
            .field("listens_on", format!("{address}:{expected_port}"))
            .field("expected", format!("0.0.0.0:{expected_port}"))
            .field(
                "fix",
                "add --bind lan to the command in fly.toml's [processes]",
            ),
        ListenVerdict::WrongPort { actual } => {
            let ports: Vec<_> = actual.iter().map(u16::to_string).collect();
            line.field("listens_on_port", ports.join(","))
                .field("expected_port", expected_port)
                .field("fix", format!("set --port {expected_port}, or internal_port in fly.toml to the gateway's port and CLAWKEEPER_INTERNAL_PORT with it"))
        }
        ListenVerdict::Reachable => line,
    }
}

fn ending_line(ending: Ending) -> LogLine {
    match ending {
        Ending::Stopped => LogLine::info("stopped"),
        Ending::StopForced => LogLine::warn("stopped; the gateway had to be killed").field(
            "fix",
            "give it more time: CLAWKEEPER_STOP_TIMEOUT, and beyond it what the platform waits (fly.toml: kill_timeout, docker: --stop-timeout, compose: stop_grace_period, Kubernetes: terminationGracePeriodSeconds)",
        ),
        Ending::AlreadyRunning => LogLine::info("ending"),
    }
}

/// What a pause is, wherever it is told.
pub(super) const PAUSED: &str = "paused: no gateway runs until it is resumed";
/// What ends one.
pub(super) const RESUME: &str = "clawkeeper resume";

const fn leftover_why(why: LeftoverWhy) -> &'static str {
    match why {
        LeftoverWhy::RecordedChild => "clawkeeper's record names it as its last gateway",
        LeftoverWhy::MarkedOrphan => "it carries clawkeeper's mark and has lost its parent",
        LeftoverWhy::OrphanGateway => {
            "it is a gateway of this state folder that has lost its parent"
        }
    }
}

pub(super) const fn cause_word(cause: StopCause) -> &'static str {
    match cause {
        StopCause::ChannelsOff => "channels-off",
        StopCause::Reload => "reload",
        StopCause::Hung => "hung",
        StopCause::Memory => "memory",
        StopCause::StartTimeout => "start-timeout",
        StopCause::Restart => "restart",
        StopCause::Pause => "pause",
        StopCause::Shutdown => "shutdown",
    }
}

/// `SIGKILL`, or the number of a real-time signal.
pub(super) fn signal_name(signal: i32) -> String {
    Signal::try_from(signal)
        .map_or_else(|_| signal.to_string(), |signal| signal.as_str().to_owned())
}
