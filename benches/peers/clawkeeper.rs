//! The one place that knows how clawkeeper is invoked.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bed::{Bed, Failure, free_port};
use crate::role::Role;
use crate::subject::Subject;
use crate::wire::Kind;

/// The binary that cargo built for this benchmark, with the same profile.
pub(crate) const BUILT: &str = env!("CARGO_BIN_EXE_clawkeeper");

/// The command line in front of the child's.
pub(crate) fn command(subject: Subject, bed: &Bed) -> Vec<OsString> {
    let mode = match subject {
        Subject::ClawkeeperInit => "init",
        _ => "gateway",
    };
    vec![
        bed.own_copy(subject).into(),
        "run".into(),
        "--mode".into(),
        mode.into(),
        "--".into(),
    ]
}

/// What the gateway's command line ends with, for a supervisor that reads it.
pub(crate) fn gateway_arguments(port: u16) -> Vec<OsString> {
    let port = port.to_string();
    ["gateway", "--port", &port, "--bind", "loopback"]
        .map(OsString::from)
        .to_vec()
}

/// Prepares a state folder with a small valid config, and says the environment that goes with it.
pub(crate) fn environment(state: &Path) -> io::Result<Vec<OsString>> {
    fs::create_dir(state)?;
    fs::set_permissions(state, fs::Permissions::from_mode(0o755))?;
    fs::write(
        state.join("openclaw.json"),
        "{ \"gateway\": { \"mode\": \"local\" } }\n",
    )?;
    let mut folder = OsString::from("OPENCLAW_STATE_DIR=");
    folder.push(state);
    Ok(vec![
        folder,
        "OPENCLAW_GATEWAY_TOKEN=a-token-for-the-benchmark-only".into(),
        "CLAWKEEPER_BACKOFF_MIN=0".into(),
        // On, as it is by default, on a port of its own: several subjects run side by side.
        format!("CLAWKEEPER_HEALTH_LISTEN=127.0.0.1:{}", free_port()?).into(),
    ])
}

/// Where the state folder of a subject lies; `None` for those that have none.
pub(crate) fn state_folder(subject: Subject, bed: &Bed, folder: &Path) -> Option<PathBuf> {
    match subject {
        Subject::Clawkeeper => Some(folder.join("state")),
        Subject::ClawkeeperDisk => Some(bed.on_disk("state")),
        _ => None,
    }
}

/// Why the binary cannot be measured as this subject.
pub(crate) fn missing(subject: Subject, bed: &Bed) -> Option<String> {
    let binary = bed.clawkeeper.display();
    let answer = Command::new(&bed.clawkeeper)
        .args(["run", "--mode", "init", "--", "echo", "started"])
        .stdin(Stdio::null())
        .output();
    match answer {
        Ok(answer) if answer.stdout == b"started\n" => {}
        Ok(answer) => {
            let status = answer.status;
            return Some(format!("{binary} does not run a command ({status})"));
        }
        Err(why) => return Some(format!("cannot execute {binary}: {why}")),
    }
    if subject == Subject::ClawkeeperInit {
        return None;
    }
    // A binary that plays the plain init in gateway mode must not collect the gateway mode's verdicts.
    match relaunches(subject, bed) {
        Ok(()) => None,
        Err(why) => Some(format!("does not keep a gateway: failed to {why}")),
    }
}

fn relaunches(subject: Subject, bed: &Bed) -> Result<(), Failure> {
    let run = bed.launch(subject, Role::Crash)?;
    run.wait_for(Kind::Started, Duration::from_secs(15))?;
    run.wait_for(Kind::Started, Duration::from_secs(15))?;
    Ok(())
}
