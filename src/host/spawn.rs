//! Starts a process: the one fork and exec of clawkeeper, for the gateway and for init mode.
//!
//! Why not `std::process::Command`: it cannot restore an inherited signal state (it empties the
//! mask and resets SIGPIPE), it names no failing step, and a child's set-up in `pre_exec` runs after
//! its own. What failed the child writes into shared memory. `CLONE_VFORK` suspends us until it has
//! executed or ended; a child with another uid, which others could stop on the way, is waited for by
//! a pipe that closes itself, see [`exec`].
//!
//! Between clone and exec only system calls are made and nothing is allocated; every string is
//! ready before. Ids are set by plain system calls: glibc's wrappers would signal our threads.
//! Nothing here waits for a child that was started; `reap` does.

#![allow(clippy::disallowed_methods, reason = "this module starts processes")]

mod child;
mod exec;
mod shared;
mod strings;

use super::early::{self, SignalSet};
use crate::core::event::SpawnFault;
use crate::exit::Exit;
use child::Plan;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use shared::Shared;
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use strings::Strings;

/// What to start, and in which surroundings.
#[derive(Debug)]
pub struct Spec {
    /// A path, or a name that is looked for in the child's PATH as `execvp` does it.
    pub program: OsString,
    /// The arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment, or `None` for ours, byte for byte.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// The working folder, entered with the child's credentials; `None` for ours.
    pub cwd: Option<OsString>,
    /// Standard input; `None` leaves ours.
    pub stdin: Option<OwnedFd>,
    /// Standard output; `None` leaves ours.
    pub stdout: Option<OwnedFd>,
    /// Standard error; `None` leaves ours.
    pub stderr: Option<OwnedFd>,
    /// True when the child leads a process group of its own, which stands when we return.
    pub process_group: bool,
    /// The terminal, by its descriptor in the child, whose foreground the child's group becomes.
    pub foreground: Option<RawFd>,
    /// Who the child is to be; `None` for who we are.
    pub credentials: Option<Credentials>,
    /// What the child gets when the thread that started it ends. Start it from the main thread.
    pub parent_death_signal: Option<Signal>,
    /// True when no program below the child may gain privileges.
    pub no_new_privs: bool,
    /// What the kernel adds when it looks for a process to kill; more is sooner.
    pub oom_score_adj: Option<i32>,
    /// The signal state the child begins with.
    pub signals: SignalSetup,
}

/// Uid, gid and supplementary groups of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user.
    pub uid: Uid,
    /// Real, effective and saved group.
    pub gid: Gid,
    /// Exactly the supplementary groups; ours are dropped.
    pub groups: Vec<Gid>,
}

/// The signal mask and dispositions a child begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalSetup {
    /// Nothing blocked, nothing ignored.
    Default,
    /// What this process was started with, see [`early::inherited`].
    AsInherited,
}

/// No child was started, or it could not be made what it should be; then it is gone and reaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {} for {}", .stage.what(), .program.display())]
pub struct SpawnError {
    /// The step that failed.
    pub stage: Stage,
    /// What the kernel said to it.
    #[source]
    pub errno: Errno,
    /// The program as it was given.
    pub program: OsString,
}

impl SpawnError {
    /// The exit code a shell would have for it, where a shell has one.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (self.stage, self.errno) {
            (Stage::Exec, Errno::ENOENT) => Exit::CommandNotFound,
            (Stage::Exec | Stage::Prepare, _) => Exit::CannotExecute,
            _ => Exit::Host,
        }
    }

    /// Whether the command is wrong, or what it is to run on.
    #[must_use]
    pub const fn fault(&self) -> SpawnFault {
        match (self.stage, self.errno) {
            (Stage::Groups | Stage::Gid | Stage::Uid, Errno::EPERM) => SpawnFault::Privileges,
            (
                Stage::Exec,
                Errno::EAGAIN
                | Errno::EIO
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::ETIMEDOUT
                | Errno::ETXTBSY,
            ) => SpawnFault::Resources,
            (Stage::Prepare | Stage::WorkingFolder | Stage::Exec, _) => SpawnFault::Command,
            _ => SpawnFault::Resources,
        }
    }
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $what:literal,)+) => {
        /// The steps of a start, in the order in which they are taken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Stage { $($(#[$doc])* $name,)+ }

        impl Stage {
            const IN_ORDER: &[Self] = &[$(Self::$name,)+];

            /// What the step does, to complete "failed to …".
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)+ }
            }
        }
    };
}

stages! {
    /// Turning the specification into C strings; a NUL inside is all that can be wrong.
    Prepare = "prepare arguments",
    /// Making room for the child's stack.
    Allocate = "allocate a stack",
    /// clone(2).
    Clone = "create a process",
    /// setpgid(2).
    ProcessGroup = "create a process group",
    /// dup2(2) onto 0, 1 and 2.
    Stdio = "connect standard streams",
    /// setgroups(2).
    Groups = "set supplementary groups",
    /// setresgid(2).
    Gid = "set the group",
    /// setresuid(2).
    Uid = "set the user",
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NoNewPrivs = "give up new privileges",
    /// prctl(PR_SET_PDEATHSIG).
    ParentDeathSignal = "ask for a signal at our death",
    /// chdir(2).
    WorkingFolder = "enter the working folder",
    /// execve(2).
    Exec = "execute the program",
}

/// Starts a process and returns once it executes its program, or says why it cannot.
///
/// Of its descriptors the child keeps all that are not close-on-exec. All signals are blocked
/// meanwhile, so that no handler of ours runs in the child.
pub fn spawn(spec: Spec) -> Result<Pid, SpawnError> {
    let program = spec.program.clone();
    spawn_prepared(spec).map_err(|(stage, errno)| SpawnError {
        stage,
        errno,
        program,
    })
}

type Failure = (Stage, Errno);

fn spawn_prepared(spec: Spec) -> Result<Pid, Failure> {
    let mut strings = Strings::new(&spec).map_err(|errno| (Stage::Prepare, errno))?;
    let stdio = [spec.stdin, spec.stdout, spec.stderr];
    let mut streams = [None, None, None];
    for (slot, stream) in streams.iter_mut().zip(stdio) {
        *slot = stream
            .map(above_stdio)
            .transpose()
            .map_err(|errno| (Stage::Stdio, errno))?;
    }
    let shared = Shared::new().map_err(|errno| (Stage::Allocate, errno))?;
    let (mask, ignored) = match spec.signals {
        SignalSetup::Default => (SignalSet::EMPTY, SignalSet::EMPTY),
        SignalSetup::AsInherited => (early::inherited().mask, early::inherited().ignored),
    };
    let mut plan = Plan {
        outcome: shared.outcome(),
        candidates: strings.candidates.as_ptrs(),
        argv: strings.argv.as_ptrs(),
        shell_argv: strings.shell_argv(),
        envp: strings.envp(),
        cwd: strings.cwd.as_ref().map_or(ptr::null(), |cwd| cwd.as_ptr()),
        streams: streams
            .each_ref()
            .map(|stream| stream.as_ref().map(OwnedFd::as_raw_fd)),
        process_group: spec.process_group,
        foreground: spec.foreground,
        ids: spec
            .credentials
            .as_ref()
            .map(|ids| (ids.uid.as_raw(), ids.gid.as_raw())),
        groups: spec.credentials.map_or_else(Vec::new, |ids| {
            ids.groups.iter().map(|group| group.as_raw()).collect()
        }),
        parent_death_signal: spec.parent_death_signal.map(|signal| signal as c_int),
        parent: std::process::id(),
        no_new_privs: spec.no_new_privs,
        oom_score_adj: spec
            .oom_score_adj
            .map(|score| score.to_string().into_bytes()),
        mask,
        ignored,
    };
    let pid = if plan.ids.is_some() {
        let seen = exec::Seen::new().map_err(|errno| (Stage::Clone, errno))?;
        let pid = clone_and_run(&mut plan, &shared, 0)?;
        seen.wait(pid).map_err(|errno| (Stage::Exec, errno))?;
        pid
    } else {
        clone_and_run(&mut plan, &shared, libc::CLONE_VFORK | libc::CLONE_VM)?
    };
    let outcome = plan.outcome;
    if let Some(failure) = outcome.failure() {
        collect(pid);
        return Err(failure);
    }
    Ok(pid)
}

/// A child that has to change who it is gets a copy of our memory; any other borrows ours, as
/// posix_spawn(3) does it, which saves copying page tables.
///
/// A borrower with the gateway's uid would make our own memory non-dumpable, and could be stopped
/// by the gateway's processes; as long as it is, whoever shares its memory or waits for it as
/// vfork(2) does waits too. A borrower's OOM score is its own, because it is there as by vfork(2)
/// (`__set_oom_adj` and `copy_oom_score_adj` in the kernel).
fn clone_and_run(plan: &mut Plan<'_>, shared: &Shared, sharing: c_int) -> Result<Pid, Failure> {
    let mask = SignalSet::ALL.block();
    // SAFETY: the stack is unused, aligned and lives until `shared` is dropped. The child has a copy
    // of all else, or CLONE_VFORK keeps us suspended while it runs `enter`: nothing here but the
    // atomics of `shared` is used by both at once.
    let pid = unsafe {
        libc::clone(
            child::enter,
            shared.stack_top(),
            sharing | libc::SIGCHLD,
            ptr::from_mut(plan).cast(),
        )
    };
    let pid = Errno::result(pid)
        .map(Pid::from_raw)
        .map_err(|errno| (Stage::Clone, errno));
    mask.set_as_mask();
    pid
}

/// Reaps a child that failed before its exec; it has ended or is about to.
fn collect(pid: Pid) {
    // ECHILD means that SIGCHLD is ignored and the kernel took it already.
    while nix::sys::wait::waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// Moves a descriptor out of 0 to 2: there it would be overwritten by the one before it, or, being
/// in its place already, be closed at exec.
fn above_stdio(stream: OwnedFd) -> Result<OwnedFd, Errno> {
    if stream.as_raw_fd() > 2 {
        return Ok(stream);
    }
    // SAFETY: fcntl with numbers only; a descriptor that it returns is new and nobody else's.
    unsafe {
        let moved = Errno::result(libc::fcntl(
            stream.as_raw_fd(),
            libc::F_DUPFD_CLOEXEC,
            3 as c_int,
        ))?;
        Ok(OwnedFd::from_raw_fd(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    fn spec(program: &str, args: &[&str]) -> Spec {
        Spec {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
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
            signals: SignalSetup::Default,
        }
    }

    /// Runs it with its standard output in a pipe, and waits for this one child only: the harness
    /// runs other tests beside it.
    fn output(mut spec: Spec) -> Result<(String, ExitStatus), SpawnError> {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        spec.stdout = Some(writer.into());
        let pid = spawn(spec)?;
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let mut status = 0;
        // SAFETY: status is valid for the call.
        let ended = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
        assert_eq!(ended, pid.as_raw());
        Ok((text, ExitStatus::from_raw(status)))
    }

    fn failure(spec: Spec) -> (Stage, Errno) {
        let error = output(spec).expect_err("it cannot be started");
        (error.stage, error.errno)
    }

    #[test]
    fn a_failed_step_is_named_with_the_kernels_reason() {
        let missing = spec("/no/such/program", &[]);
        assert_eq!(failure(missing), (Stage::Exec, Errno::ENOENT));
        let lost = Spec {
            cwd: Some("/no/such/folder".into()),
            ..spec("true", &[])
        };
        assert_eq!(failure(lost), (Stage::WorkingFolder, Errno::ENOENT));
        let torn = spec("true", &["a\0b"]);
        assert_eq!(failure(torn), (Stage::Prepare, Errno::EINVAL));
    }

    #[test]
    fn a_wrong_command_is_told_from_a_system_without_room() {
        let fault = |stage, errno| {
            let program = "node".into();
            let error = SpawnError {
                stage,
                errno,
                program,
            };
            error.fault()
        };
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC, Errno::E2BIG] {
            assert_eq!(fault(Stage::Exec, errno), SpawnFault::Command);
        }
        assert_eq!(fault(Stage::Exec, Errno::ENOMEM), SpawnFault::Resources);
        assert_eq!(fault(Stage::Clone, Errno::EAGAIN), SpawnFault::Resources);
        assert_eq!(fault(Stage::Groups, Errno::EPERM), SpawnFault::Privileges);
    }

    #[test]
    fn an_oom_score_is_the_childs_and_not_that_of_whose_memory_it_borrows() {
        let own = || std::fs::read_to_string("/proc/self/oom_score_adj").expect("procfs");
        let before = own();
        let (text, _) = output(Spec {
            oom_score_adj: Some(567),
            ..spec("cat", &["/proc/self/oom_score_adj"])
        })
        .expect("cat runs");
        assert_eq!((text.as_str(), own()), ("567\n", before));
    }

    #[test]
    fn an_error_reads_as_one_sentence_and_has_a_shells_code() {
        let error = output(spec("/etc", &[])).expect_err("a folder cannot be executed");
        assert_eq!(error.to_string(), "failed to execute the program for /etc");
        assert_eq!(error.exit(), Exit::CannotExecute);
    }

    #[test]
    fn a_child_of_default_signals_has_none_blocked_or_ignored() {
        let status = output(spec("grep", &["-E", "Sig(Blk|Ign)", "/proc/self/status"]));
        let (text, _) = status.expect("grep runs");
        assert_eq!(
            text,
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
        );
    }

    #[test]
    fn an_environment_of_its_own_is_all_it_gets_and_its_path_counts() {
        let env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("A".into(), "b=c".into()),
        ];
        let (text, _) = output(Spec {
            env: Some(env),
            ..spec("env", &[])
        })
        .expect("env runs");
        assert_eq!(text, "PATH=/usr/bin:/bin\nA=b=c\n");
        let nowhere = vec![("PATH".into(), "/no/such/folder".into())];
        let hidden = Spec {
            env: Some(nowhere),
            ..spec("env", &[])
        };
        assert_eq!(failure(hidden), (Stage::Exec, Errno::ENOENT));
    }

    #[test]
    fn a_gateways_child_is_who_and_what_it_should_be() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: only root can become somebody else");
            assert!(std::env::var_os("CI").is_none(), "skipped in CI");
            return;
        }
        let gateway = Credentials {
            uid: Uid::from_raw(65534),
            gid: Gid::from_raw(65533),
            groups: vec![Gid::from_raw(65532)],
        };
        // A copy of our memory reports in the same way as a borrower of it.
        let copied = Spec {
            credentials: Some(gateway.clone()),
            ..spec("/no/such/program", &[])
        };
        assert_eq!(failure(copied), (Stage::Exec, Errno::ENOENT));
        let script = "id -u; id -g; id -G; pwd; cat /proc/self/oom_score_adj; \
                      grep NoNewPrivs /proc/self/status; ps -o pgid= -p $$ | tr -d ' '; echo $$";
        let (text, status) = output(Spec {
            cwd: Some("/".into()),
            process_group: true,
            credentials: Some(gateway),
            parent_death_signal: Some(Signal::SIGKILL),
            no_new_privs: true,
            oom_score_adj: Some(500),
            ..spec("/bin/sh", &["-c", script])
        })
        .expect("sh runs");
        assert!(status.success());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..5], ["65534", "65533", "65533 65532", "/", "500"]);
        assert_eq!(lines[5], "NoNewPrivs:\t1");
        assert_eq!(lines[6], lines[7], "it leads a group of its own");
    }

    #[test]
    fn whoever_stops_all_processes_of_the_gateways_user_holds_up_no_start() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: only root can become somebody else");
            assert!(std::env::var_os("CI").is_none(), "skipped in CI");
            return;
        }
        let gateway = || Credentials {
            uid: Uid::from_raw(54_399),
            gid: Gid::from_raw(54_399),
            groups: Vec::new(),
        };
        let end = |pid: Pid| {
            nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it was not reaped");
            nix::sys::wait::waitpid(pid, None).expect("our child");
        };
        let stopper = spawn(Spec {
            credentials: Some(gateway()),
            parent_death_signal: Some(Signal::SIGKILL),
            ..spec(
                "sh",
                &["-c", "while :; do kill -s STOP -- -1; done 2>/dev/null"],
            )
        });
        let stopper = stopper.expect("sh runs");
        for _ in 0..20 {
            let started = spawn(Spec {
                credentials: Some(gateway()),
                ..spec("sleep", &["1000"])
            });
            match started {
                Ok(started) => end(started),
                Err(error) => assert_eq!(error.errno, Errno::ETIMEDOUT, "{error}"),
            }
        }
        end(stopper);
    }

    #[test]
    fn the_death_signal_survives_the_change_of_user() {
        let credentials = nix::unistd::geteuid().is_root().then(|| Credentials {
            uid: Uid::from_raw(65534),
            gid: Gid::from_raw(65534),
            groups: Vec::new(),
        });
        // The signal comes when the thread ends, so a thread is all that has to die.
        let pid = std::thread::spawn(move || {
            spawn(Spec {
                credentials,
                parent_death_signal: Some(Signal::SIGKILL),
                ..spec("sleep", &["1000"])
            })
            .expect("sleep runs")
        })
        .join()
        .expect("the thread ends");
        let status = nix::sys::wait::waitpid(pid, None).expect("our child");
        assert_eq!(
            status,
            nix::sys::wait::WaitStatus::Signaled(pid, Signal::SIGKILL, false)
        );
    }
}
