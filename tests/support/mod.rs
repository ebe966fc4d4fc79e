//! What process tests share: where programs are, waiting with a reason, and ends that are certain.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

pub(crate) mod browser;
pub(crate) mod cgroup;
pub(crate) mod health;
pub(crate) mod keeper;
pub(crate) mod metrics;
pub(crate) mod real;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The clawkeeper under test.
pub(crate) fn clawkeeper() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_clawkeeper"))
}

/// A program of `tests/tools`, which `cargo test` builds beside clawkeeper.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = clawkeeper().with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built; run cargo test without --test",
        path.display()
    );
    path
}

/// Asks `look` until it answers, and fails with what it said last when `timeout` has passed.
///
/// `look` returns `Ok` with the answer, or `Err` with the present state.
pub(crate) fn poll_until<T, S: Debug>(
    timeout: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() > timeout => {
                panic!("waited {timeout:?} for {what}; last seen: {state:?}")
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that a test cannot run here, and counts it. In CI that is a failure.
pub(crate) fn skip(why: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Written past the test harness, which keeps what a passing test prints to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED ({count}): {why}");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped in CI: {why}"
    );
}

/// A process that does not outlive its test.
pub(crate) struct Process {
    child: Child,
    ended: Cell<bool>,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            ended: Cell::new(false),
        }
    }

    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = poll_until(PATIENCE, "the process to end", || {
            self.child.try_wait().expect("our child").ok_or("it runs")
        });
        self.ended.set(true);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended.get() {
            // It may have ended by itself, which is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Where a program runs: the same test body is true in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first process of a new PID namespace.
    Pid1,
    /// The same, without privileges outside it.
    Pid1Unprivileged,
    /// A process among others.
    Subreaper,
}

impl Place {
    /// Every place.
    pub(crate) const ALL: [Self; 3] = [Self::Pid1, Self::Pid1Unprivileged, Self::Subreaper];
}

/// A program about to run in a [`Place`], in a state chosen exactly.
pub(crate) struct Launch {
    command: Command,
    folder: tempfile::TempDir,
}

impl Launch {
    /// A launch with no program yet; options of the `pid1` tool come first.
    pub(crate) fn in_place(place: Place) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut command = Command::new(example("pid1"));
        command.arg("run");
        match place {
            Place::Pid1 => &mut command,
            Place::Pid1Unprivileged => command.arg("--user"),
            Place::Subreaper => command.arg("--same-namespace"),
        };
        command.arg("--pid-file").arg(folder.path().join("pid"));
        command
            .arg("--status-file")
            .arg(folder.path().join("status"));
        command.stdin(Stdio::null());
        Self { command, folder }
    }

    /// Adds arguments: first options of the tool, then `--` and the program.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Changes the surroundings, as the program inherits them.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts the program with its output in files.
    pub(crate) fn start(self) -> Launched {
        let stdout = fs::File::create(self.folder.path().join("stdout")).expect("stdout");
        self.start_printing_to(stdout)
    }

    /// Starts the program with its standard output somewhere else.
    pub(crate) fn start_printing_to(mut self, stdout: impl Into<Stdio>) -> Launched {
        let stderr = fs::File::create(self.folder.path().join("stderr")).expect("stderr");
        let launcher = Process::start(self.command.stdout(stdout).stderr(stderr));
        Launched {
            launcher,
            folder: self.folder,
        }
    }
}

/// A program that was launched.
pub(crate) struct Launched {
    launcher: Process,
    folder: tempfile::TempDir,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct End {
    /// `exit N` or `signal N`.
    pub(crate) status: String,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Launched {
    /// The program's pid, as we see it from outside.
    pub(crate) fn pid(&self) -> i32 {
        poll_until(PATIENCE, "the pid file", || {
            let text = self.read("pid");
            text.strip_suffix('\n')
                .and_then(|pid| pid.parse().ok())
                .ok_or(text)
        })
    }

    /// Sends it a signal, real-time ones too.
    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: takes two numbers.
        let answer = unsafe { nix::libc::kill(self.pid(), number) };
        assert_eq!(
            answer,
            0,
            "signal {number}: {}",
            std::io::Error::last_os_error()
        );
    }

    /// Waits until its standard output fits.
    pub(crate) fn wait_for_output(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        poll_until(PATIENCE, what, || {
            let text = self.read("stdout");
            if fits(&text) {
                Ok(text)
            } else {
                Err((text, self.read("stderr")))
            }
        })
    }

    /// The launcher, for a pipe to the program's stdin.
    pub(crate) fn launcher(&mut self) -> &mut Process {
        &mut self.launcher
    }

    /// A file of the test's own folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> End {
        self.launcher.wait();
        End {
            status: self.read("status").trim_end().to_owned(),
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
        }
    }

    fn read(&self, name: &str) -> String {
        read_lossy(&self.folder.path().join(name))
    }
}

/// The text of a file, empty while it does not exist.
pub(crate) fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(path) {
        file.read_to_end(&mut bytes).expect("a readable file");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `exit N` or `signal N`, as the `pid1` tool writes it.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
