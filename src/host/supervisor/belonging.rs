//! Which of our children belong to the gateway.
#![allow(
    clippy::disallowed_methods,
    reason = "an environment is read on a thread of its own, and waited for"
)]

use super::super::proc::Proc;
use crate::settings::MARK;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The kernel takes the memory lock of a process to read its environment. One that hangs in a page fault, on a disk
/// that gives no answer, may hold it for ever. The limit is far more than a busy machine needs.
const DEADLINE: Duration = Duration::from_millis(500);
/// More processes than any gateway has; when as many are known, all of them are judged anew.
const KNOWN_MAX: usize = 1024;
const STACK_BYTES: usize = 64 * 1024;

/// Judges each process once, by pid and start tick.
#[derive(Debug, Clone)]
pub(super) struct Belonging {
    proc: Proc,
    /// The gateway's user.
    uid: u32,
    known: Rc<RefCell<HashMap<(i32, u64), bool>>>,
}

impl Belonging {
    pub(super) fn new(proc: Proc, uid: u32) -> Self {
        Self {
            proc,
            uid,
            known: Rc::default(),
        }
    }

    /// A descendant of the gateway carries its mark. Where environments are hidden from us or give no answer, its
    /// user tells.
    pub(super) fn is_of_gateway(&self, pid: Pid) -> bool {
        let pid = pid.as_raw();
        let Some(stat) = self.proc.stat(pid) else {
            return true;
        };
        let key = (pid, stat.start_ticks);
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let by_user = || self.proc.uid(pid).is_none_or(|uid| uid == self.uid);
        let is_of_gateway = match self.is_marked(pid) {
            Marked::Hidden => return by_user(),
            Marked::NoAnswer => by_user(),
            Marked::Yes => true,
            Marked::No => false,
        };
        let mut known = self.known.borrow_mut();
        if known.len() == KNOWN_MAX {
            known.clear();
        }
        known.insert(key, is_of_gateway);
        is_of_gateway
    }

    fn is_marked(&self, pid: i32) -> Marked {
        let (answer, answered) = sync_channel(1);
        let proc = self.proc.clone();
        let reading = std::thread::Builder::new()
            .name("environ".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let marked = match proc.environment(pid) {
                    Some(environment) if !environment.is_empty() => {
                        if environment.iter().any(|(name, _)| name == MARK) {
                            Marked::Yes
                        } else {
                            Marked::No
                        }
                    }
                    // Empty: it is about to execute its program, or has ended.
                    Some(_) | None => Marked::Hidden,
                };
                let _ = answer.send(marked);
            });
        match reading {
            Ok(_) => answered.recv_timeout(DEADLINE).unwrap_or(Marked::NoAnswer),
            Err(_) => Marked::Hidden,
        }
    }
}

/// Whether a process carries the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marked {
    Yes,
    No,
    /// Not to be seen, or not yet.
    Hidden,
    NoAnswer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::{getuid, mkfifo};
    use std::path::Path;

    const PID: i32 = 77;

    fn procfs(start_ticks: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("77")).expect("created");
        tick(root.path(), start_ticks);
        root
    }

    fn tick(root: &Path, start_ticks: u64) {
        let stat = format!("77 (node) S 1{} {start_ticks} 0", " 0".repeat(17));
        std::fs::write(root.join("77/stat"), stat).expect("written");
    }

    fn environ(root: &Path, text: &str) {
        std::fs::write(root.join("77/environ"), text).expect("written");
    }

    fn judge(belonging: &Belonging) -> bool {
        belonging.is_of_gateway(Pid::from_raw(PID))
    }

    fn belonging(root: &Path, uid: u32) -> Belonging {
        Belonging::new(Proc::at(root), uid)
    }

    #[test]
    fn the_mark_tells_once_for_each_process() {
        let root = procfs(5);
        environ(root.path(), &format!("A=1\0{MARK}=1.1\0"));
        let belonging = belonging(root.path(), getuid().as_raw());
        assert!(judge(&belonging));
        environ(root.path(), "A=1\0");
        assert!(judge(&belonging), "it is known");
        tick(root.path(), 6);
        assert!(!judge(&belonging), "the pid is another process's now");
    }

    #[test]
    fn an_environment_that_gives_no_answer_is_not_waited_for_and_the_user_tells() {
        let root = procfs(5);
        mkfifo(&root.path().join("77/environ"), Mode::S_IRWXU).expect("made");
        let own = getuid().as_raw();
        assert!(judge(&belonging(root.path(), own)));
        assert!(!judge(&belonging(root.path(), own + 1)));
    }

    #[test]
    fn an_environment_that_is_still_empty_is_looked_at_again() {
        let root = procfs(5);
        environ(root.path(), "");
        let belonging = belonging(root.path(), getuid().as_raw() + 1);
        assert!(!judge(&belonging));
        environ(root.path(), &format!("{MARK}=1.1\0"));
        assert!(judge(&belonging));
    }
}
