//! Asks the gateway's own command line whether it would accept a config.
//!
//! It runs as the gateway's user, with the gateway's environment, at low priority, and is the first
//! process the kernel kills when memory runs out: an answer is never worth the gateway.
#![allow(clippy::disallowed_methods, reason = "this module waits for a child")]

use super::gateway_call;
use super::launch::Launch;
use super::spawn::{self, Spec};
use crate::gateway::config::{Answer, MAX_ANSWER_BYTES, VALIDATE, answer};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// A Node start on a small, busy machine; the answer is late rather than wrong.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// What it takes, with room for what the gateway wants meanwhile.
const MEMORY_NEEDED: u64 = 400 << 20;
/// For V8's old generation, in MB: some more than it needs (2026.7.1 and 2026.9.6).
const HEAP_MB: u32 = 256;
/// The gateway has the processor first.
const NICE: i32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A question ready to be asked: start [`Question::spec`], wait for its end, then [`read`] the answer.
#[derive(Debug)]
pub struct Question {
    /// The command to start.
    pub spec: Spec,
    /// Where its standard output goes, for [`read`].
    pub answer: File,
}

/// Prepares the question for a config at any path, or says why it is not asked.
///
/// `$include` is resolved from the config's own folder, so a draft lies beside the config it is to replace.
pub fn question(launch: &Launch, config: &Path) -> Result<Question, String> {
    match launch.version {
        Some(version) if version.validates_as_json() => {}
        Some(version) => return Err(format!("OpenClaw {version} has no validator to be asked")),
        None => return Err("the gateway's program was not found from here".to_owned()),
    }
    gateway_call::has_room(MEMORY_NEEDED)?;
    let failed = |errno: Errno| format!("failed to make room for its answer: {errno}");
    let output = memfd_create(c"validation", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
    let answer = File::from(output.try_clone().map_err(|error| error.to_string())?);
    let mut environment = launch.environment.clone();
    environment
        .retain(|(name, _)| name != "OPENCLAW_CONFIG_PATH" && name != "CLAWDBOT_CONFIG_PATH");
    environment.push(("OPENCLAW_CONFIG_PATH".into(), config.into()));
    let program = launch.argv.first().map(Path::new);
    let is_node = program.and_then(Path::file_name) == Some(OsStr::new("node"));
    let heap = is_node.then(|| OsString::from(format!("--max-old-space-size={HEAP_MB}")));
    let entry = launch.command.entry.iter();
    let args = heap
        .into_iter()
        .chain(entry.map(|entry| entry.clone().into_os_string()))
        .chain(VALIDATE.map(OsString::from))
        .collect();
    Ok(Question {
        spec: gateway_call::spec(launch, args, environment, Some(output))?,
        answer,
    })
}

/// Gives the rest of the machine precedence over a child that was just started.
pub fn step_back(pid: Pid) {
    // SAFETY: setpriority takes numbers only; a refusal leaves the priority as it is.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, pid.as_raw().cast_unsigned(), NICE) };
}

/// Asks and waits, for a command that has nothing else to do. `Err` says why there is no answer.
pub fn ask(launch: &Launch, config: &Path) -> Result<Answer, String> {
    let Question { spec, answer } = question(launch, config)?;
    let pid = spawn::spawn(spec).map_err(|error| super::config_file::chain(&error))?;
    step_back(pid);
    if wait_for(pid, DEADLINE).is_err() {
        return Err(format!("no answer within {} s", DEADLINE.as_secs()));
    }
    read(answer)
}

/// Reads what was printed, once the child is gone.
pub fn read(mut output: File) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    output
        .rewind()
        .and_then(|()| output.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("failed to read its answer: {error}"))?;
    answer(&bytes).ok_or_else(|| "it ended without an answer".to_owned())
}

/// A child that did not end in time.
#[derive(Debug)]
pub(super) struct Late;

/// Waits for a child that leads its group, for a command that has nothing else to do; a late one is killed with its group.
/// There is no status where somebody above us ignores SIGCHLD.
pub(super) fn wait_for(pid: Pid, limit: Duration) -> Result<Option<WaitStatus>, Late> {
    let started = Instant::now();
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            other => return Ok(other.ok()),
        }
        if started.elapsed() > limit {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return Err(Late);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
