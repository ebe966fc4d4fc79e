//! `edit`: an editor on a copy, which becomes the config only when the gateway would take it.

use super::write::{self, Proposal};
use super::{How, complain, say};
use crate::cli::surroundings::{self, Surroundings};
use crate::core::config_history::{ContentHash, Source};
use crate::exit::Exit;
use crate::gateway::config::{MAX_BYTES, content_hash};
use crate::host::config_file;
use crate::host::config_store::{ConfigStore, Expected, may_be_replaced};
use crate::host::early::SignalSet;
use crate::host::folder::{FileError, Folder};
use crate::host::spawn::{self, SignalSetup, Spec};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the editor sees; the ending switches its colours on.
const NAME: &str = "openclaw.json5";

/// Tried in this order when neither variable is set.
const EDITORS: [&str; 4] = ["sensible-editor", "editor", "nano", "vi"];

pub(super) fn edit(discard: bool, how: How) -> Exit {
    // The user's own, whatever the running clawkeeper has.
    let Some(editor) = editor() else {
        complain(
            "there is no editor here: set EDITOR, or change the config elsewhere and use \
             `clawkeeper config put`",
        );
        return Exit::CommandNotFound;
    };
    let found = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let draft = match Draft::begin(&found, discard) {
        Ok(draft) => draft,
        Err(error) => {
            complain(error);
            return Exit::Host;
        }
    };
    let exit = draft.work(&found, &editor, how);
    draft.end();
    exit
}

/// A copy of the config in a folder that only we can open.
struct Draft {
    store: ConfigStore,
    dir: PathBuf,
    /// The config it began with.
    base: Option<ContentHash>,
    base_bytes: Vec<u8>,
}

impl Draft {
    fn begin(found: &Surroundings, discard: bool) -> Result<Self, String> {
        let launch = &found.launch;
        let text = |error: FileError| error.to_string();
        let store = ConfigStore::open(&launch.state_dir).map_err(text)?;
        if discard {
            store.drop_drafts().map_err(text)?;
        }
        let current = config_file::read_current(launch).map_err(|error| error.to_string())?;
        if let Some(current) = &current {
            may_be_replaced(launch, current).map_err(|error| error.to_string())?;
        }
        let current = current.map(|current| current.bytes);
        let base = current.as_deref().map(content_hash);
        let base_bytes = current.unwrap_or_default();
        let (base, bytes) = match store.draft() {
            Some((base, bytes)) => {
                say("going on with the draft that was refused; --discard throws it away");
                (base, bytes)
            }
            None => (base, base_bytes.clone()),
        };
        // Not in the state folder: the gateway could move a folder there from under the editor's path.
        let template = std::env::temp_dir().join("clawkeeper-edit.XXXXXX");
        let dir = nix::unistd::mkdtemp(&template)
            .map_err(|errno| format!("failed to make a folder for the draft: {errno}"))?;
        let draft = Self {
            store,
            dir,
            base,
            base_bytes,
        };
        Folder::open(&draft.dir)
            .and_then(|folder| folder.write_new(OsStr::new(NAME), &bytes, 0o600, None))
            .map_err(text)?;
        Ok(draft)
    }

    /// Edits until it is applied, given up, or nobody is there to be asked.
    fn work(&self, found: &Surroundings, editor: &OsStr, how: How) -> Exit {
        let path = self.dir.join(NAME);
        loop {
            if let Err(exit) = run_editor(editor, &path) {
                return exit;
            }
            let folder = Folder::open(&self.dir);
            let bytes = match folder.and_then(|it| it.read(OsStr::new(NAME), MAX_BYTES + 1)) {
                Ok(bytes) => bytes,
                Err(error) => {
                    complain(error);
                    return Exit::Input;
                }
            };
            if bytes == self.base_bytes {
                say("unchanged");
                // A draft that was edited back is no draft any more.
                let _ = self.store.drop_drafts();
                return Exit::Stopped;
            }
            let proposal = Proposal {
                name: &path,
                bytes: &bytes,
                source: Source::Edit,
                expected: Expected::Exactly(self.base),
            };
            let exit = write::propose(found, &proposal, how);
            if exit == Exit::Stopped && !how.dry_run {
                let _ = self.store.drop_drafts();
                return exit;
            }
            if exit == Exit::ConfigRefused && wants_to_go_on() {
                continue;
            }
            self.keep(&bytes);
            return exit;
        }
    }

    fn keep(&self, bytes: &[u8]) {
        match self.store.keep_draft(self.base, bytes) {
            Ok(()) => complain("the draft is kept: `clawkeeper config edit` goes on with it"),
            Err(error) => complain(format_args!("the draft could not be kept: {error}")),
        }
    }

    /// Removes the copy with whatever backups the editor made of it.
    fn end(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            let dir = self.dir.display();
            complain(format_args!(
                "{dir} holds secrets and could not be removed: {error}"
            ));
        }
    }
}

/// Asks, where somebody is there to answer.
fn wants_to_go_on() -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let _ = write!(std::io::stderr(), "edit it again? [Y/n] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok_and(|count| count > 0) && !answer.trim_start().to_lowercase().starts_with('n')
}

fn editor() -> Option<OsString> {
    let set = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    set.or_else(|| {
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let is_there = |name: &&str| folders.iter().any(|folder| folder.join(name).is_file());
        EDITORS.into_iter().find(is_there).map(OsString::from)
    })
}

/// Waits for the editor, which has the terminal meanwhile.
fn run_editor(editor: &OsStr, path: &Path) -> Result<(), Exit> {
    // As git does it: the variable may hold options, `code --wait` for one.
    let mut line = editor.to_owned();
    line.push(" \"$@\"");
    let spec = Spec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), line, editor.to_owned(), path.into()],
        env: None,
        cwd: None,
        stdin: None,
        stdout: None,
        stderr: None,
        process_group: false,
        foreground: None,
        credentials: None,
        parent_death_signal: None,
        no_new_privs: false,
        oom_score_adj: None,
        signals: SignalSetup::AsInherited,
    };
    // Ctrl-C in the editor is the editor's.
    let keyboard = SignalSet::of(&[libc::SIGINT, libc::SIGQUIT]);
    let mask = keyboard.block();
    let ended = spawn::spawn(spec)
        .map_err(|error| (crate::host::config_file::chain(&error), error.exit()))
        .and_then(|pid| wait_for(pid).map_err(|error| (error, Exit::Host)));
    while keyboard.wait(Some(Duration::ZERO)).is_some() {}
    mask.set_as_mask();
    let (problem, exit) = match ended {
        Ok(0) => return Ok(()),
        Ok(code) => (
            format!("the editor ended with {code}; nothing was changed"),
            match code {
                126 => Exit::CannotExecute,
                127 => Exit::CommandNotFound,
                _ => Exit::ConfigRefused,
            },
        ),
        Err((problem, exit)) => (problem, exit),
    };
    complain(problem);
    Err(exit)
}

/// The code it ended with, or 128 and the signal's number.
fn wait_for(pid: nix::unistd::Pid) -> Result<i32, String> {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(format!("failed to wait for the editor: {errno}")),
        }
    }
}
