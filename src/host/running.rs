//! Finds the clawkeeper that keeps a gateway on this machine, for a command typed beside it.
//!
//! A console may not have the image's environment, and stands in another folder than the gateway:
//! what a command should look at, the running supervisor knows.

use super::proc::Proc;
use super::state;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A supervisor that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its pid.
    pub pid: i32,
    /// Its command line.
    pub argv: Vec<OsString>,
    /// The environment it was started with.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub working_dir: PathBuf,
}

/// The supervisor that keeps this state folder.
#[must_use]
pub fn keeper_of(proc: &Proc, state_dir: &Path) -> Option<Running> {
    look(proc, state::held_by(state_dir)?)
}

/// The only supervisor there is; `None` when there are more.
#[must_use]
pub fn only_one(proc: &Proc) -> Option<Running> {
    let mut found = proc.pids().filter_map(|pid| look(proc, pid));
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Nobody but root and ourselves is believed: the environment decides which file we write.
fn look(proc: &Proc, pid: i32) -> Option<Running> {
    let us = nix::unistd::geteuid().as_raw();
    if !proc.uid(pid).is_some_and(|uid| uid == us || uid == 0) {
        return None;
    }
    let argv = proc.command_line(pid);
    let program = Path::new(argv.first()?).file_name()?;
    let is_supervisor =
        program == "clawkeeper" && argv.get(1).map(OsString::as_os_str) == Some(OsStr::new("run"));
    if !is_supervisor || !proc.is_process(pid) {
        return None;
    }
    let environment = proc.environment(pid).filter(|it| !it.is_empty())?;
    Some(Running {
        pid,
        argv,
        environment,
        working_dir: proc.working_folder(pid)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests build a tree like /proc")]

    use super::*;
    use std::fs;

    fn plant(root: &Path, pid: u32, cmdline: &str, environ: &str) {
        let dir = root.join(pid.to_string());
        fs::create_dir(&dir).expect("a folder");
        fs::write(dir.join("cmdline"), cmdline).expect("written");
        fs::write(dir.join("environ"), environ).expect("written");
        std::os::unix::fs::symlink("/app", dir.join("cwd")).expect("a link");
    }

    #[test]
    fn one_supervisor_is_found_among_others_and_two_are_not_guessed_between() {
        let root = tempfile::tempdir().expect("a folder");
        let proc = Proc::at(root.path());
        plant(root.path(), 5, "bash\0-c\0clawkeeper run\0", "A=1\0");
        plant(root.path(), 6, "clawkeeper\0config\0path\0", "A=1\0");
        assert_eq!(only_one(&proc), None);
        plant(
            root.path(),
            7,
            "/usr/local/bin/clawkeeper\0run\0--\0node\0",
            "OPENCLAW_STATE_DIR=/data\0",
        );
        let found = only_one(&proc).expect("one");
        assert_eq!((found.pid, found.working_dir), (7, "/app".into()));
        assert_eq!(
            found.environment,
            [("OPENCLAW_STATE_DIR".into(), "/data".into())]
        );
        plant(root.path(), 8, "clawkeeper\0run\0", "A=1\0");
        assert_eq!(only_one(&proc), None);
    }

    #[test]
    fn a_supervisor_of_somebody_else_is_not_believed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().expect("a folder");
        plant(
            root.path(),
            7,
            "clawkeeper\0run\0",
            "OPENCLAW_STATE_DIR=/etc\0",
        );
        std::os::unix::fs::chown(root.path().join("7"), Some(1000), None).expect("given away");
        assert_eq!(only_one(&Proc::at(root.path())), None);
    }
}
