//! Containers of the image under test: started, asked, and gone with the test.

use crate::support::{self, poll_until, real};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A start of the real gateway, and a stop of it, on a machine that does much else.
pub(crate) const LONG: Duration = Duration::from_secs(480);

/// Exit code of tests/containers/image.sh: no containers here.
const UNAVAILABLE: i32 = 69;

/// The image's id; `None`, said and counted, where no containers can be had. Built by the first who asks.
pub(crate) fn image() -> Option<&'static str> {
    static IMAGE: OnceLock<Option<String>> = OnceLock::new();
    let built = IMAGE.get_or_init(|| build(&["docker/Dockerfile"]));
    if built.is_none() {
        support::skip(
            "no containers here: tests/containers/setup.sh needs podman, or root on Debian",
        );
    }
    built.as_deref()
}

/// Builds from a file of the checkout, with more arguments for `podman build`.
pub(crate) fn build(arguments: &[&str]) -> Option<String> {
    try_build(arguments)
        .unwrap_or_else(|said| panic!("the image of {arguments:?} cannot be built:\n{said}"))
}

/// The same; an error is the end of the build's output.
pub(crate) fn try_build(arguments: &[&str]) -> Result<Option<String>, String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(checkout.join("tests/containers/image.sh"))
        .args(arguments)
        .output()
        .expect("tests/containers/image.sh can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Some(text(&output.stdout))),
        Some(UNAVAILABLE) => {
            eprintln!("{said}");
            Ok(None)
        }
        _ => Err(said.into_owned()),
    }
}

/// podman, with the settings that tests/containers/setup.sh wrote.
pub(crate) fn podman(arguments: &[&str]) -> Output {
    let settings = real::cache_folder().join("containers");
    Command::new("podman")
        .env("CONTAINERS_STORAGE_CONF", settings.join("storage.conf"))
        .env("CONTAINERS_CONF", settings.join("containers.conf"))
        // conmon leaves a file where it stands when a container runs out of memory.
        .current_dir(std::env::temp_dir())
        .args(arguments)
        .output()
        .expect("podman can be run")
}

/// A name that nobody else on this machine uses.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("clawkeeper-test-{}-{number}", std::process::id())
}

/// A named volume, removed with the test.
pub(crate) struct Volume(pub(crate) String);

impl Volume {
    pub(crate) fn new() -> Self {
        let volume = Self(unique());
        let made = podman(&["volume", "create", &volume.0]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        volume
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        podman(&["volume", "rm", "--force", &self.0]);
    }
}

/// A container in a network of its own that reaches nothing, so that its ports are nobody else's.
pub(crate) struct Container(String);

impl Container {
    /// `podman run --detach`, with these options, the image, and this command.
    pub(crate) fn start(options: &[&str], image: &str, command: &[&str]) -> Self {
        let container = Self(unique());
        let fixed = ["run", "--detach", "--network=none", "--name", &container.0];
        let started = podman(&[&fixed, options, &[image], command].concat());
        assert!(started.status.success(), "{}", text(&started.stderr));
        container
    }

    /// What a command in it prints; the exit code must be 0.
    pub(crate) fn exec(&self, command: &[&str]) -> String {
        let output = self.try_exec(command);
        let said = text(&output.stdout);
        assert!(
            output.status.success(),
            "{command:?}: {said}{}\n{}",
            text(&output.stderr),
            self.logs()
        );
        said
    }

    pub(crate) fn try_exec(&self, command: &[&str]) -> Output {
        podman(&[&["exec", &self.0], command].concat())
    }

    /// Waits until the container's own health check calls it ready.
    pub(crate) fn wait_until_ready(&self) {
        poll_until(LONG, "the gateway in the container", || {
            let check = self.try_exec(&["clawkeeper", "health"]);
            if check.status.success() {
                return Ok(());
            }
            self.assert_running();
            // Each look starts a process in the container.
            std::thread::sleep(Duration::from_millis(500));
            Err(self.logs())
        });
    }

    /// It has not ended; where it has, what podman knows of the end is told.
    pub(crate) fn assert_running(&self) {
        if !self.is_running() {
            let state = self.inspect("{{json .State}}");
            panic!("it ended: {state}\n{}", self.logs());
        }
    }

    fn is_running(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    /// No answer is not an answer: podman may lack one for a moment while other tests build and remove.
    pub(crate) fn inspect(&self, format: &str) -> String {
        poll_until(Duration::from_secs(30), "podman inspect", || {
            let told = podman(&["inspect", "--format", format, &self.0]);
            if told.status.success() {
                Ok(text(&told.stdout))
            } else {
                Err(text(&told.stderr))
            }
        })
    }

    /// Both streams.
    pub(crate) fn logs(&self) -> String {
        let output = podman(&["logs", &self.0]);
        let mut logs = text(&output.stdout);
        let _ = write!(logs, "\n{}", text(&output.stderr));
        logs
    }

    /// The last line of clawkeeper's with these words.
    pub(crate) fn line(&self, words: &str) -> String {
        let logs = self.logs();
        let found = logs
            .lines()
            .rfind(|line| line.contains("clawkeeper:") && line.contains(words));
        found
            .unwrap_or_else(|| panic!("no line {words:?} in:\n{logs}"))
            .to_owned()
    }

    /// `podman stop`; the exit code.
    pub(crate) fn stop(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs().to_string();
        let stopped = podman(&["stop", "--time", &seconds, &self.0]);
        assert!(stopped.status.success(), "{}", text(&stopped.stderr));
        self.inspect("{{.State.ExitCode}}")
    }

    /// SIGKILL to everything, as when the machine loses its power.
    pub(crate) fn kill(&self) {
        let killed = podman(&["kill", "--signal", "KILL", &self.0]);
        assert!(killed.status.success(), "{}", text(&killed.stderr));
        poll_until(LONG, "the container's end", || {
            if self.is_running() {
                Err("running")
            } else {
                Ok(())
            }
        });
    }

    pub(crate) fn start_again(&self) {
        let started = podman(&["start", &self.0]);
        assert!(started.status.success(), "{}", text(&started.stderr));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        podman(&["rm", "--force", "--time", "0", "--volumes", &self.0]);
    }
}

/// Runs a command in a container of its own: exit code, standard output, standard error.
pub(crate) fn run(
    options: &[&str],
    image: &str,
    command: &[&str],
) -> (Option<i32>, String, String) {
    let name = unique();
    let fixed = ["run", "--rm", "--network=none", "--name", &name];
    let output = podman(&[&fixed, options, &[image], command].concat());
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
