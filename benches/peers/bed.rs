//! The test bed: scratch folders, and one supervisor with its child at a time inside them.
//!
//! Nothing it starts outlives the harness. Its folders stay behind only if the harness is killed.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::clawkeeper;
use crate::namespace::{Command, Namespace};
use crate::options::Options;
use crate::role::Role;
use crate::subject::Subject;
use crate::wire::{self, Kind, Record};

/// Why a sample could not be taken. Each text completes "failed to ...".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("prepare {what}: {source}")]
    Prepare { what: String, source: io::Error },
    #[error("clone a pid namespace: {0}; be root, or prefix `unshare --user --map-root-user`")]
    Namespace(Errno),
    #[error("execute the supervisor: {0}")]
    Exec(Errno),
    #[error("see the child {awaited:?} within {limit:?}; stderr ends: {stderr}")]
    Late {
        awaited: Kind,
        limit: Duration,
        stderr: String,
    },
    #[error("see the child {awaited:?}: the supervisor was gone; stderr ends: {stderr}")]
    Gone { awaited: Kind, stderr: String },
    #[error("see the supervisor gone within {0:?}")]
    Stays(Duration),
}

/// Scratch folders and the programs under test.
pub(crate) struct Bed {
    memory: TempDir,
    disk: TempDir,
    /// This binary, which is the child of every supervisor.
    pub(crate) me: PathBuf,
    /// clawkeeper as it was built.
    pub(crate) clawkeeper: PathBuf,
    samples: Cell<u32>,
}

impl Bed {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let given = options.clawkeeper.clone();
        let bed = Self {
            memory: scratch("/dev/shm")?,
            disk: scratch(env!("CARGO_TARGET_TMPDIR"))?,
            me: std::env::current_exe().map_err(preparing("the path of this binary"))?,
            clawkeeper: given.unwrap_or_else(|| clawkeeper::BUILT.into()),
            samples: Cell::new(0),
        };
        if let Ok(clawkeeper) = fs::canonicalize(&bed.clawkeeper) {
            for subject in Subject::ALL.into_iter().filter(|one| one.is_clawkeeper()) {
                let copy = bed.own_copy(subject);
                fs::copy(&clawkeeper, &copy)
                    .and_then(|_| File::open(&copy)?.sync_all())
                    .map_err(preparing("a copy of clawkeeper"))?;
            }
        }
        Ok(bed)
    }

    /// A copy of clawkeeper for this subject alone.
    ///
    /// Two subjects that run the same file share its pages, and each would show half its PSS.
    /// It was synced, because pages not yet written back count as the process's private dirty ones.
    pub(crate) fn own_copy(&self, subject: Subject) -> PathBuf {
        self.disk.path().join(subject.name())
    }

    /// A path on the disk that no other sample uses.
    pub(crate) fn on_disk(&self, name: &str) -> PathBuf {
        self.disk
            .path()
            .join(format!("{name}-{}", self.samples.get()))
    }

    /// The folders in memory and on disk, for the record.
    pub(crate) fn folders(&self) -> [&Path; 2] {
        [self.memory.path(), self.disk.path()]
    }

    /// Starts a supervisor with a child in this role, its stdout going nowhere.
    pub(crate) fn launch(&self, subject: Subject, role: Role) -> Result<Run, Failure> {
        let null = File::create("/dev/null").map_err(preparing("/dev/null"))?;
        self.launch_into(subject, role, &null, false)
    }

    /// The same with a stdout; `logged` puts the supervisor's logger in between where it has one.
    pub(crate) fn launch_into(
        &self,
        subject: Subject,
        role: Role,
        stdout: impl AsFd,
        logged: bool,
    ) -> Result<Run, Failure> {
        self.samples.set(self.samples.get() + 1);
        let folder = self.memory.path().join(self.samples.get().to_string());
        let prepared = self.prepare(subject, role, &folder, logged);
        let (argv, env, pipes) = prepared.map_err(preparing("a sample's files"))?;
        let null = File::open("/dev/null").map_err(preparing("/dev/null"))?;
        let stderr = File::create(folder.join("stderr")).map_err(preparing("stderr"))?;
        let namespace = Namespace::start(Command {
            argv,
            env,
            stdin: null.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        })
        .map_err(Failure::Namespace)?;
        let [from_child, go] = pipes;
        Ok(Run {
            namespace,
            from_child,
            go,
            state: clawkeeper::state_folder(subject, self, &folder),
            folder,
        })
    }

    fn prepare(
        &self,
        subject: Subject,
        role: Role,
        folder: &Path,
        logged: bool,
    ) -> io::Result<(Vec<OsString>, Vec<OsString>, [File; 2])> {
        fs::create_dir(folder)?;
        let paths = [folder.join("from-child"), folder.join("go")];
        let [from_child, go] = &paths;
        let pipes = [named_pipe(from_child)?, named_pipe(go)?];
        let mut child = role.command(&self.me, from_child, go);
        let mut env = vec!["PATH=/usr/bin:/bin".into(), "HOME=/root".into()];
        if let Some(state) = clawkeeper::state_folder(subject, self, folder) {
            env.extend(clawkeeper::environment(&state)?);
            let port = match role {
                Role::Gateway(port) => port,
                _ => free_port()?,
            };
            child.extend(clawkeeper::gateway_arguments(port));
        }
        let argv = subject.command(self, folder, child, logged)?;
        Ok((argv, env, pipes))
    }
}

/// A supervisor that runs, and its child. Dropping it ends both.
pub(crate) struct Run {
    // Declared first, so that it is gone before its files are.
    pub(crate) namespace: Namespace,
    from_child: File,
    go: File,
    folder: PathBuf,
    state: Option<PathBuf>,
}

impl Run {
    /// Waits for the next record of this kind, passing over others.
    pub(crate) fn wait_for(&self, awaited: Kind, limit: Duration) -> Result<Record, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let [arrived, gone] =
                wire::readable([&self.from_child, &self.namespace.pidfd], deadline);
            if arrived {
                match wire::next(&self.from_child) {
                    Some(record) if record.kind == awaited => return Ok(record),
                    _ => continue,
                }
            }
            let stderr = self.stderr_end();
            self.namespace.exec_ns().map_err(Failure::Exec)?;
            return Err(if gone {
                Failure::Gone { awaited, stderr }
            } else {
                Failure::Late {
                    awaited,
                    limit,
                    stderr,
                }
            });
        }
    }

    /// Waits until PID 1 is gone, and with it the whole namespace; says when.
    pub(crate) fn wait_gone(&self, limit: Duration) -> Result<u64, Failure> {
        let [gone] = wire::readable([&self.namespace.pidfd], Instant::now() + limit);
        let now_ns = wire::now_ns();
        if gone {
            Ok(now_ns)
        } else {
            Err(Failure::Stays(limit))
        }
    }

    /// Gives the child the word it waits for.
    pub(crate) fn go(&self) {
        let _ = (&self.go).write_all(b"!");
    }

    /// What the supervisor and its child have printed there.
    pub(crate) fn stderr(&self) -> String {
        let text = fs::read(self.folder.join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn stderr_end(&self) -> String {
        let text = self.stderr().into_bytes();
        let tail = text.len().saturating_sub(300);
        let tail = String::from_utf8_lossy(&text[tail..]);
        tail.trim().replace('\n', " | ")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The files may be in use until here; the temporary folder takes what is left.
        self.namespace.end();
        for folder in [Some(&self.folder), self.state.as_ref()]
            .into_iter()
            .flatten()
        {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A port of the loopback that was free a moment ago.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Names what was being prepared when it failed.
pub(crate) fn preparing(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    move |source| Failure::Prepare { what, source }
}

fn scratch(parent: &str) -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("clawkeeper-bench-")
        // The child may run as another user.
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(preparing(parent))
}

/// Makes a named pipe and opens both its ends, so that it never tells end-of-file.
fn named_pipe(path: &Path) -> io::Result<File> {
    mkfifo(path, Mode::from_bits_truncate(0o666))?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}
