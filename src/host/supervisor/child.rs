//! The gateway's process: how it is started, and the signals it gets.

use super::super::folder::FileOwner;
use super::super::launch::Launch;
use super::super::relay::Attachment;
use super::super::spawn::{self, SignalSetup, SpawnError, Spec};
use crate::core::event::Attempt;
use crate::settings::MARK;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, fchown};
use std::ffi::OsString;

/// How much sooner than us the kernel shall take the gateway when memory runs out, of 1000.
const OOM_SCORE_RAISE: i32 = 300;
const OOM_SCORE_MAX: i32 = 1000;

/// A gateway that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) attempt: Attempt,
}

impl Child {
    /// Starts it, marked as ours, in a group of its own, to die with us. The options come right after the program.
    pub(super) fn start(
        launch: &Launch,
        attempt: Attempt,
        output: Attachment,
        node_options: Vec<OsString>,
    ) -> Result<Self, SpawnError> {
        if let Some(FileOwner { uid, gid }) = launch.account.file_owner() {
            for pipe in [&output.stdout, &output.stderr] {
                // As container runtimes do it: else /dev/stdout, which opens the pipe anew, is closed to the gateway.
                let _ = fchown(pipe, Some(uid.into()), Some(gid.into()));
            }
        }
        let mut environment = launch.environment.clone();
        let mark = format!("{}.{}", std::process::id(), attempt.0);
        environment.push((OsString::from(MARK), mark.into()));
        let (program, args) = launch
            .argv
            .split_first()
            .map(|(first, rest)| (first.clone(), [node_options, rest.to_vec()].concat()))
            .unwrap_or_default();
        let pid = spawn::spawn(Spec {
            program,
            args,
            env: Some(environment),
            cwd: None,
            stdin: None,
            stdout: Some(output.stdout),
            stderr: Some(output.stderr),
            process_group: true,
            foreground: None,
            credentials: launch.account.credentials(),
            // A gateway without its supervisor cannot log and would not be restarted; a second one may start beside it.
            parent_death_signal: Some(Signal::SIGKILL),
            no_new_privs: true,
            // Before it can start a helper of its own, which inherits it.
            oom_score_adj: Some(oom_score_adj()),
            signals: SignalSetup::Default,
        })?;
        Ok(Self { pid, attempt })
    }

    /// Asks it to drain. The main process only: its helpers are its own to stop.
    pub(super) fn terminate(self) {
        // ESRCH cannot be: it has not been reaped. A stopped process acts on SIGTERM once continued.
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    /// Ends it and its group at once.
    pub(super) fn kill(self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

/// Ours and some more, so that the kernel takes the gateway sooner than us; lowering it is not allowed, so what an
/// orchestrator set for us is the base.
fn oom_score_adj() -> i32 {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    own.trim()
        .parse::<i32>()
        .unwrap_or(0)
        .saturating_add(OOM_SCORE_RAISE)
        .min(OOM_SCORE_MAX)
}
