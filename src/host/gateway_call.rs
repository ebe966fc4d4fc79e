//! A call of the gateway's own command line, beside the gateway.
//!
//! It runs as the gateway's user and is the first process the kernel kills when memory runs out: no answer is
//! worth the gateway.
#![allow(clippy::disallowed_methods, reason = "this module opens /dev/null")]

use super::launch::Launch;
use super::memory;
use super::spawn::{SignalSetup, Spec};
use crate::settings::MARK;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::os::fd::OwnedFd;

/// Says why there is to be no call, when less than this many bytes of memory are free.
pub fn has_room(needed: u64) -> Result<(), String> {
    if memory::available() < needed {
        let needed = needed >> 20;
        return Err(format!("less than {needed} MB of memory are free"));
    }
    Ok(())
}

/// What to start. Without a place for its output that is thrown away, as its errors are.
pub fn spec(
    launch: &Launch,
    args: Vec<OsString>,
    mut environment: Vec<(OsString, OsString)>,
    output: Option<OwnedFd>,
) -> Result<Spec, String> {
    environment.push((MARK.into(), format!("{}.call", std::process::id()).into()));
    Ok(Spec {
        program: launch.argv.first().cloned().unwrap_or_default(),
        args,
        env: Some(environment),
        cwd: None,
        stdin: Some(null()?),
        stdout: Some(output.map_or_else(null, Ok)?),
        stderr: Some(null()?),
        process_group: true,
        foreground: None,
        credentials: launch.account.credentials(),
        parent_death_signal: Some(Signal::SIGKILL),
        no_new_privs: true,
        oom_score_adj: Some(1000),
        signals: SignalSetup::Default,
    })
}

/// Nothing to read, and nobody who reads.
pub(super) fn null() -> Result<OwnedFd, String> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    null.map(OwnedFd::from)
        .map_err(|error| format!("failed to open /dev/null: {error}"))
}
