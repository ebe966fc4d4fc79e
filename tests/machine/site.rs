//! A place for machines to boot in: a disk, a volume, a console, and what can be seen of them.

use super::support::keeper::free_port;
use super::support::{Process, poll_until, read_lossy, skip};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// From power on to anything that needs no gateway of OpenClaw: 7 s on idle cores.
pub(crate) const BOOT: Duration = Duration::from_secs(120);
/// The same to a real gateway that is ready: four minutes of one core, on a machine that does much else.
pub(crate) const REAL_BOOT: Duration = Duration::from_secs(1800);

const TOKEN: &str = "a-token-of-the-machine-0123456789";

/// One machine at a time: two cores are what a machine has, and what a small host has.
static ONE: Mutex<()> = Mutex::new(());

/// A volume, and what boots with it.
pub(crate) struct Site {
    root: PathBuf,
    folder: tempfile::TempDir,
    options: Vec<String>,
    command: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// With the image's own command; `None`, said loudly, where no machine can be had.
    pub(crate) fn new() -> Option<Self> {
        let root = root()?;
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let site = Self {
            root,
            folder: tempfile::tempdir().expect("a folder for the test"),
            options: Vec::new(),
            command: Vec::new(),
            _turn: turn,
        };
        Some(site.option("--env", &format!("OPENCLAW_GATEWAY_TOKEN={TOKEN}")))
    }

    /// With the image's own gateway, on a volume that it has lived on once.
    pub(crate) fn with_real_gateway() -> Option<Self> {
        // What it compiled in that life, as the root file system forgets it: V8 in emulation takes a while.
        let cache = "NODE_COMPILE_CACHE=/data/.compile-cache";
        let site = Self::new()?
            .option("--env", cache)
            .option("--clock", "instructions");
        let made = Command::new(script("volume.sh"))
            .args([&site.root, &site.volume()])
            .args([&format!("OPENCLAW_GATEWAY_TOKEN={TOKEN}"), cache])
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no volume: {said}");
        Some(site)
    }

    /// With a gateway that does what it is told, instead of a real one that takes minutes to be emulated.
    pub(crate) fn with_fake_gateway(flags: &[&str]) -> Option<Self> {
        let fake = super::support::example("fake-gateway");
        let mut site = Self::new()?
            .option("--add", &fake.display().to_string())
            .option("--env", "CLAWKEEPER_MODE=gateway");
        let command = [
            "/run/fake-gateway",
            "gateway",
            "--port",
            "3000",
            "--bind",
            "lan",
        ];
        site.command = command
            .iter()
            .chain(flags)
            .map(|word| (*word).to_owned())
            .collect();
        Some(site)
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().join("volume.img")
    }

    /// Adds an option of `boot.sh`.
    pub(crate) fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Switches a machine on.
    pub(crate) fn boot(&self) -> Machine {
        let (port, health) = (free_port(), free_port());
        let console = self.folder.path().join("console");
        let log = self.folder.path().join("log");
        let mut command = Command::new(script("boot.sh"));
        command
            .arg(&self.root)
            .arg(self.volume())
            .args(["--forward", &format!("{port}:3000")])
            .args(["--forward", &format!("{health}:9180")])
            .arg("--console")
            .arg(&console)
            .args(&self.options);
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
        let output = fs::File::create(&log).expect("a log");
        let errors = output.try_clone().expect("a log");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Machine {
            process: Process::start(&mut command),
            log,
            console,
            port,
            health,
        }
    }
}

/// A machine that is on. Dropping it pulls the plug.
pub(crate) struct Machine {
    process: Process,
    log: PathBuf,
    console: PathBuf,
    /// Where the gateway's port is to be had.
    pub(crate) port: u16,
    /// Where clawkeeper's own is.
    pub(crate) health: u16,
}

impl Machine {
    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Waits until its log fits. A machine that went off by itself will never fit.
    pub(crate) fn wait_for(
        &mut self,
        timeout: Duration,
        what: &str,
        fits: impl Fn(&str) -> bool,
    ) -> String {
        let log = self.log.clone();
        let process = self.process.child();
        poll_until(timeout, what, || {
            let off = process.try_wait().expect("our child");
            let text = read_lossy(&log);
            if fits(&text) {
                return Ok(text);
            }
            assert!(off.is_none(), "the machine is off before {what}: {text}");
            Err(text)
        })
    }

    /// Waits until its gateway is ready for the n-th time since power on.
    pub(crate) fn wait_until_ready(&mut self, timeout: Duration, times: usize) -> String {
        let what = format!("ready, {times} times");
        self.wait_for(timeout, &what, |log| {
            log.matches("clawkeeper: gateway ready").count() >= times
        })
    }

    /// Waits until it has switched itself off, and returns all it printed.
    pub(crate) fn wait_until_off(mut self) -> String {
        self.process.wait();
        self.log()
    }

    /// Pulls the plug.
    pub(crate) fn cut(self) {
        drop(self);
    }

    /// Runs a line on its console, as `fly ssh console -C` does: what it printed, and its exit code.
    pub(crate) fn run(&self, line: &str) -> (String, i32) {
        let mut console = UnixStream::connect(&self.console).expect("the console");
        console.set_read_timeout(Some(BOOT)).expect("a timeout");
        console
            .write_all(format!("{line}\n").as_bytes())
            .expect("the console");
        let mut printed = String::new();
        for answer in BufReader::new(console).lines() {
            let answer = answer.unwrap_or_else(|error| panic!("{line}: {error} after {printed:?}"));
            if let Some(code) = answer.strip_prefix("[console] exit ") {
                return (printed, code.parse().expect("a code"));
            }
            printed += &answer;
            printed.push('\n');
        }
        panic!("the console went away during {line}: {printed:?}");
    }

    /// Asks for a path from outside, with more header lines: status and body.
    pub(crate) fn get(&self, port: u16, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the forward");
        stream.set_read_timeout(Some(BOOT)).expect("a timeout");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:3000\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        // An abrupt end counts as an end.
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (code.unwrap_or_default(), body.to_owned())
    }
}

/// The value of a field in the first line that says so.
pub(crate) fn field<'a>(log: &'a str, message: &str, name: &str) -> Option<&'a str> {
    let line = log.lines().find(|line| line.contains(message))?;
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/machine")
        .join(name)
}

/// The disk to boot from, made once a test run.
fn root() -> Option<PathBuf> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        if let Some(root) = std::env::var_os("CLAWKEEPER_MACHINE_ROOT") {
            return Ok(root.into());
        }
        printed_by(&script("setup.sh"))?;
        printed_by(&script("root.sh")).map(PathBuf::from)
    });
    match root {
        Ok(root) => Some(root.clone()),
        Err(why) => {
            skip(&format!("no virtual machine: {why}"));
            None
        }
    }
}

/// The one line that a script of ours prints.
fn printed_by(script: &Path) -> Result<String, String> {
    let output = Command::new(script).output().expect("bash");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
