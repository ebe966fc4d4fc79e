//! Starts channels that the gateway's crash breaker left off, through the gateway's own command line.
//!
//! Measured after a burst of crashes: this brings channels back within seconds of the gateway being ready,
//! where waiting for the breaker's window takes five minutes.

use super::super::gateway_call;
use super::super::launch::Launch;
use super::super::probe;
use super::super::reap::Waited;
use super::super::spawn::{self, Spec};
use super::Supervisor;
use super::act::address;
use crate::core::event::{Attempt, Event};
use crate::core::readiness::{ProbeOutcome, ProbeTarget};
use crate::core::time::Millis;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A call takes one to four seconds, more on a loaded machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const PROBE_TIMEOUT: Millis = Millis::from_secs(10);
/// The command line takes 200 MB for its second or two; a machine without them is better left alone.
const MEMORY_NEEDED: u64 = 400 << 20;
/// More channels than a gateway has.
const CHANNELS_MAX: usize = 32;
/// The gateway has the processor first.
const NICE: i32 = 10;

/// Children that are no gateway, each with whoever waits for its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<Pid, oneshot::Sender<ExitStatus>>>>);

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<ExitStatus>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits for this child, if anybody does.
    pub(super) fn ended(&self, waited: Waited) {
        if let Some(waiter) = self.waiting().remove(&waited.pid) {
            // Whoever gave up waiting does not want to know.
            let _ = waiter.send(waited.status);
        }
    }

    /// Starts a command, and tells its end. Runs on the loop's thread, which is the one that reaps.
    pub(super) fn start(
        &self,
        spec: Spec,
        priority: Priority,
    ) -> Result<(Pid, oneshot::Receiver<ExitStatus>), String> {
        let pid = spawn::spawn(spec).map_err(|error| super::super::config_file::chain(&error))?;
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(pid, sender);
        priority.give(pid);
        Ok((pid, receiver))
    }

    /// The same, and waits for its end.
    pub(super) async fn run(
        &self,
        spec: Spec,
        timeout: Duration,
        priority: Priority,
    ) -> Result<ExitStatus, String> {
        let (pid, ended) = self.start(spec, priority)?;
        match tokio::time::timeout(timeout, ended).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) | Err(_) => {
                // It leads a group, as every call of the gateway's command line does.
                let _ = killpg(pid, Signal::SIGKILL);
                Err(format!("no answer within {} s", timeout.as_secs()))
            }
        }
    }
}

/// How much of the processor a call gets beside the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// Less than the gateway.
    Low,
    /// What nobody else wants (sched(7), `SCHED_IDLE`).
    Idle,
}

impl Priority {
    /// A refusal leaves the priority as it is, and the call is only less polite.
    fn give(self, pid: Pid) {
        let nice = match self {
            Self::Low => NICE,
            Self::Idle => 19,
        };
        // SAFETY: both take numbers, and the parameters of SCHED_IDLE are all zero.
        unsafe {
            nix::libc::setpriority(nix::libc::PRIO_PROCESS, pid.as_raw().cast_unsigned(), nice);
            if self == Self::Idle {
                let parameters = std::mem::zeroed::<nix::libc::sched_param>();
                nix::libc::sched_setscheduler(pid.as_raw(), nix::libc::SCHED_IDLE, &parameters);
            }
        }
    }
}

impl Supervisor {
    pub(super) fn start_channels(&self, attempt: Attempt) {
        let (launch, calls, sender) = (
            Arc::clone(&self.launch),
            self.calls.clone(),
            self.sender.clone(),
        );
        tokio::spawn(async move {
            let result = start(&launch, &calls).await;
            let _ = sender
                .send(Event::ChannelsStarted { attempt, result })
                .await;
        });
    }
}

async fn start(launch: &Arc<Launch>, calls: &Calls) -> Result<Vec<String>, String> {
    let (ip, port) = address(launch).await;
    let outcome = probe::ask(ip, port, ProbeTarget::Readyz, PROBE_TIMEOUT).await;
    let ProbeOutcome::Answered {
        body: Some(body), ..
    } = outcome
    else {
        return Err("/readyz gave no answer that lists them".to_owned());
    };
    if !body.suppressed.is_empty() {
        gateway_call::has_room(MEMORY_NEEDED)?;
    }
    let mut started = Vec::new();
    for channel in body.suppressed.into_iter().take(CHANNELS_MAX) {
        let status = calls
            .run(call(launch, &channel, port)?, CALL_TIMEOUT, Priority::Low)
            .await?;
        if !status.success() {
            return Err(format!("channels.start of {channel} ended with {status}"));
        }
        started.push(channel);
    }
    Ok(started)
}

/// `node dist/index.js gateway call channels.start …`, as the gateway's user; the token stays in the environment.
fn call(launch: &Launch, channel: &str, port: u16) -> Result<Spec, String> {
    let entry = launch
        .command
        .entry
        .as_ref()
        .map(|entry| entry.clone().into_os_string());
    let params = serde_json::json!({ "channel": channel }).to_string();
    let words = [
        "gateway",
        "call",
        "channels.start",
        "--params",
        &params,
        "--json",
    ];
    let mut environment = launch.environment.clone();
    environment.retain(|(name, _)| name != "OPENCLAW_GATEWAY_PORT");
    environment.push(("OPENCLAW_GATEWAY_PORT".into(), port.to_string().into()));
    let args = entry.into_iter().chain(words.map(OsString::from)).collect();
    gateway_call::spec(launch, args, environment, None)
}
