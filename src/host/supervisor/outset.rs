//! What is settled once, before the loop begins: the policy, and the first line of the log.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads the clock and its own pid for the seed"
)]

use super::super::clock;
use super::super::launch::Launch;
use super::super::memory::MemoryLimit;
use super::super::reap;
use super::heap;
use crate::core::machine::Policy;
use crate::core::memory::MemoryPolicy;
use crate::core::readiness::{Expected, ProbeTarget};
use crate::core::restart::Pace;
use crate::core::time::Millis;
use crate::gateway::{self, Version};
use crate::render::LogLine;
use crate::settings::Settings;
use std::path::Path;

/// Time between two liveness probes while all is well; a Node process is woken by each.
const LIVENESS_INTERVAL: Millis = Millis::from_secs(15);

/// What the settings and the gateway's version decide for as long as clawkeeper lives.
pub(super) fn policy(
    settings: &Settings,
    launch: &Launch,
    limit: &MemoryLimit,
    heap: &heap::Sized,
) -> Policy {
    let start_probe = match launch.version {
        Some(version) if !version.has_readyz() => ProbeTarget::Healthz,
        Some(version) if !version.has_startupz() => ProbeTarget::Readyz,
        // An unknown version is asked for the newest; what it answers tells.
        Some(_) | None => ProbeTarget::Startupz,
    };
    // Fly forwards to a port that fly.toml names and the machine is not told: the one the gateway was told stands for it.
    let own_port = launch.with(None, gateway::fixed_port);
    let stop_timeout = settings
        .stop_timeout
        .unwrap_or(Settings::GATEWAY_STOP_TIMEOUT);
    Policy {
        pace: Pace {
            backoff_min: settings.backoff_min,
            backoff_max: settings.backoff_max,
            reset_after: Millis::from_secs(600),
        },
        stop_timeout,
        startup_timeout: settings.startup_timeout,
        liveness_timeout: settings.liveness_timeout,
        // A short timeout is kept only by asking often enough.
        liveness_interval: settings
            .liveness_timeout
            .map_or(LIVENESS_INTERVAL, |Millis(timeout)| {
                LIVENESS_INTERVAL.min(Millis(timeout / 4))
            }),
        hold_retry: settings.hold_retry,
        no_mount: settings.no_mount,
        how_to_grow: how_to_grow(launch, limit),
        how_to_fit_heap: heap.how_to_fit(),
        may_seed: settings.config_seed != crate::settings::ConfigSeed::Off,
        apply: settings.config_apply,
        good_after: settings.config_good_after,
        roll_back: settings.config_rollback,
        recovers_channels: launch.version.is_some_and(Version::recovers_channels),
        allow_unconfigured: launch.command.allow_unconfigured,
        start_probe,
        expected: settings
            .internal_port
            .or(own_port.filter(|_| launch.is_on_fly()))
            .map(|port| Expected { port }),
        memory: MemoryPolicy {
            restarts_per_hour: settings
                .memory_restart
                .then_some(settings.memory_restarts_per_hour),
            drain: stop_timeout,
            heap: heap.bounds(),
        },
        seed: clock::wall().0 ^ (u64::from(std::process::id()) << 32),
    }
}

fn how_to_grow(launch: &Launch, limit: &MemoryLimit) -> String {
    let text = |name| launch.value_of(name)?.into_string().ok();
    let machine = text("FLY_MACHINE_ID").filter(|machine| !machine.is_empty());
    let host = nix::unistd::gethostname().unwrap_or_default();
    // SAFETY: sysconf takes a number.
    let cpus = unsafe { nix::libc::sysconf(nix::libc::_SC_NPROCESSORS_ONLN) };
    let is_podman = Path::new("/run/.containerenv").exists();
    let engine = Some(if is_podman { "podman" } else { "docker" });
    gateway::how_to_grow(gateway::Place {
        fly_machine: machine.as_deref(),
        fly_memory_mb: text("FLY_VM_MEMORY_MB").and_then(|mb| mb.parse().ok()),
        cpus: u64::try_from(cpus).unwrap_or(1),
        is_kubernetes: text("KUBERNETES_SERVICE_HOST").is_some(),
        engine: engine.filter(|_| launch.in_container),
        host: &host.to_string_lossy(),
        limit_bytes: limit.bytes,
        is_cgroup_limit: limit.source != "machine",
    })
}

/// Who we are, and what was found at the start.
pub(super) fn first_line(launch: &Launch, limit: &MemoryLimit, heap: &heap::Sized) -> LogLine {
    LogLine::info("clawkeeper starts")
        .field("version", env!("CARGO_PKG_VERSION"))
        .field("pid", std::process::id())
        .field("is_pid_1", reap::is_pid_1())
        .field("memory_limit", format!("{}MB", limit.bytes >> 20))
        .field("memory_limit_from", limit.source)
        .field("heap", heap.in_words())
        .field("state_folder", launch.state_dir.display())
        .field(
            "gateway_version",
            launch
                .version
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), Version::to_string),
        )
        .field(
            "gateway_user",
            format!("{}:{}", launch.account.uid, launch.account.gid),
        )
}
