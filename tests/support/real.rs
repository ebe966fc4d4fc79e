//! Real gateways for tests: a place for one to live in, clawkeeper around it, and what can be seen of both.
//!
//! Nothing here knows what clawkeeper should do. Starts are counted by the `node` that is started, not by what is logged.

use super::{Process, poll_until, read_lossy};
use std::fmt::{self, Debug};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// The releases every claim about the gateway is tested on: the newest, and the last before 2026.8.2.
pub(crate) const NEWEST: &str = "2026.9.6";
/// See [`NEWEST`].
pub(crate) const BEFORE_8_2: &str = "2026.7.1";

/// From a start to ready, with other tests on the same two cores.
pub(crate) const READY: Duration = Duration::from_secs(120);
/// For what needs no gateway to boot.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A config that a gateway starts with.
pub(crate) const GOOD_CONFIG: &str = r#"{"gateway":{"mode":"local"}}"#;

pub(crate) const TOKEN: &str = "test-token-0123456789abcdef";

/// Real gateways that may run at once on this machine, over all test processes.
const AT_ONCE: usize = 2;

/// Runs a body for both releases, and says which one it is about to fail on.
pub(crate) fn for_each_version(body: impl Fn(&'static str)) {
    for version in [NEWEST, BEFORE_8_2] {
        println!("on {version}");
        body(version);
    }
}

/// Where `tests/gateways/install.sh` puts gateways; installs the two releases when they are missing.
pub(crate) fn cache() -> PathBuf {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateways/install.sh");
        let status = Command::new("bash")
            .arg(script)
            .args([NEWEST, BEFORE_8_2])
            .status()
            .expect("bash");
        assert!(status.success(), "the gateways could not be installed");
    });
    cache_folder().join("gateways")
}

/// What the set-up scripts keep outside of the checkout.
pub(crate) fn cache_folder() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    folder("CLAWKEEPER_CACHE")
        .map(PathBuf::from)
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("clawkeeper")))
        .or_else(|| folder("HOME").map(|home| PathBuf::from(home).join(".cache/clawkeeper")))
        .expect("a HOME")
}

/// The major version of Node a release is installed for, as `install.sh` has it.
fn node_for(version: &str) -> u32 {
    let month: u32 = version
        .split('.')
        .nth(1)
        .and_then(|month| month.parse().ok())
        .expect("a version has a month");
    if month < 7 { 22 } else { 24 }
}

/// Leave to run a number of gateways, by file locks, so that test processes share one machine.
pub(crate) struct Turn {
    _slots: Vec<fs::File>,
}

impl Turn {
    /// Waits for it, first come, first served: whoever has just ended a test queues again behind the others.
    pub(crate) fn wait(gateways: usize) -> Self {
        let lock_file =
            |name: String| fs::File::create(cache().join(name)).expect("a lock in the cache");
        let queue = lock_file(".test-queue".to_owned());
        queue.lock().expect("flock");
        let hour = Duration::from_secs(3600);
        let slots = poll_until(hour, "a turn to run gateways", || {
            let free = (0..AT_ONCE)
                .map(|number| lock_file(format!(".test-slot-{number}")))
                .filter(|slot| slot.try_lock().is_ok());
            let free: Vec<_> = free.take(gateways).collect();
            if free.len() == gateways {
                Ok(free)
            } else {
                Err(free.len())
            }
        });
        Self { _slots: slots }
    }
}

/// A state folder, a home and a port for one gateway of one release, empty at first.
pub(crate) struct Site {
    pub(crate) version: &'static str,
    pub(crate) port: u16,
    /// The value of `--bind`.
    pub(crate) bind: &'static str,
    /// Whether the command says so.
    pub(crate) allow_unconfigured: bool,
    folder: tempfile::TempDir,
    package: PathBuf,
    node: PathBuf,
    _turn: Turn,
}

impl Site {
    /// A site for a test that runs one gateway at a time.
    pub(crate) fn new(version: &'static str) -> Self {
        Self::with_turn(version, Turn::wait(1))
    }

    /// A site for a test that runs two at once.
    pub(crate) fn for_two(version: &'static str) -> Self {
        Self::with_turn(version, Turn::wait(2))
    }

    fn with_turn(version: &'static str, turn: Turn) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable).expect("our folder");
        for name in ["bin", "home", "tmp", "state"] {
            fs::create_dir(folder.path().join(name)).expect("our folder");
        }
        let cache = cache();
        let site = Self {
            version,
            port: free_port(),
            bind: "loopback",
            allow_unconfigured: true,
            package: cache.join(format!("openclaw-{version}/node_modules/openclaw")),
            node: cache.join(format!(
                "node-{}/node_modules/node/bin/node",
                node_for(version)
            )),
            folder,
            _turn: turn,
        };
        site.write_node(&site.node.clone());
        site
    }

    /// `node` on the PATH: notes each start of a gateway, runs the hook if there is one, and becomes the real one.
    pub(crate) fn write_node(&self, real: &Path) {
        let (starts, hook) = (self.file("starts"), self.file("hook"));
        fs::write(&starts, "").expect("our file");
        fs::set_permissions(&starts, fs::Permissions::from_mode(0o666)).expect("our file");
        let script = format!(
            "#!/bin/sh\n\
             case \" $* \" in *' gateway call '*) ;; *' gateway '*)\n\
             echo $$ >>{}\n\
             [ ! -e {hook} ] || . {hook};;\n\
             esac\n\
             exec {} \"$@\"\n",
            starts.display(),
            real.display(),
            hook = hook.display(),
        );
        let path = self.file("bin/node");
        fs::write(&path, script).expect("our file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our file");
    }

    /// A shell script that the gateway's process runs, as itself, before it is a gateway.
    pub(crate) fn hook(&self, script: &str) {
        fs::write(self.file("hook"), script).expect("our file");
    }

    /// A path in the test's own folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in the state folder.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.file("state").join(name)
    }

    /// The gateway's config.
    pub(crate) fn config(&self) -> PathBuf {
        self.state("openclaw.json")
    }

    /// Writes the config as an editor does.
    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("the config");
    }

    /// The gateway's locks in its version's own place.
    pub(crate) fn locks(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.state("tmp"), self.file("tmp")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("openclaw-") {
                    folders.push(entry.path());
                } else if name.starts_with("gateway.") && name.ends_with(".lock") {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    /// The arguments of a gateway.
    pub(crate) fn gateway_args(&self) -> Vec<String> {
        let port = self.port.to_string();
        let mut args = vec!["dist/index.js", "gateway"];
        if self.allow_unconfigured {
            args.push("--allow-unconfigured");
        }
        args.extend(["--port", &port, "--bind", self.bind]);
        args.into_iter().map(str::to_owned).collect()
    }

    /// A program with the environment of a container of this gateway, and no other variable.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.file("bin").display()
        );
        command
            .current_dir(&self.package)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.file("home"))
            .env("TMPDIR", self.file("tmp"))
            .env("OPENCLAW_STATE_DIR", self.file("state"))
            // Its default port is one for the whole machine, and tests run side by side.
            .env("CLAWKEEPER_HEALTH_LISTEN", "off")
            .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
            // Without a network npm would try for minutes.
            .env("npm_config_fetch_retries", "0")
            // A sixth of a start is compiling what the start before has compiled.
            .env("NODE_COMPILE_CACHE", cache().join("compile-cache"))
            .stdin(Stdio::null());
        command
    }

    /// The arguments of `clawkeeper` that keep this gateway.
    pub(crate) fn run_args(&self, flags: &[&str]) -> Vec<String> {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        std::iter::once("run".to_owned())
            .chain(flags)
            .chain(["--".to_owned(), "node".to_owned()])
            .chain(self.gateway_args())
            .collect()
    }

    /// Starts `clawkeeper run FLAGS -- node dist/index.js gateway …`.
    pub(crate) fn keep(&self, flags: &[&str]) -> Running {
        self.keep_with(flags, |command| command)
    }

    /// The same, with a change to its environment.
    pub(crate) fn keep_with(
        &self,
        flags: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Running {
        let mut command = self.command(super::clawkeeper());
        change(command.args(self.run_args(flags)));
        Running::start(&mut command)
    }

    /// Starts the same as process 1 of a namespace; `before` is a piece of shell that process 1 runs first.
    pub(crate) fn keep_as_pid_1(&self, flags: &[&str], before: &str) -> Running {
        let mut command = self.command(super::example("pid1"));
        command.args(["run", "--", "/bin/sh", "-c"]);
        command.arg(format!("{before}\nexec \"$0\" \"$@\""));
        command.arg(super::clawkeeper()).args(self.run_args(flags));
        Running::start(&mut command)
    }

    /// Starts the same with mounts of its own, which `mounts` makes in shell.
    pub(crate) fn keep_with_mounts(&self, flags: &[&str], mounts: &str) -> Running {
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-ec"]);
        command.arg(format!("{mounts}\nexec \"$0\" \"$@\""));
        command.arg(super::clawkeeper()).args(self.run_args(flags));
        Running::start(&mut command)
    }

    /// Starts the same where every user can read the gateway: the cache may lie in a home that is private.
    pub(crate) fn keep_readable_by_all(&self, flags: &[&str]) -> Running {
        let seen = self.file("cache");
        fs::create_dir(&seen).expect("our folder");
        let inside = |path: &Path| seen.join(path.strip_prefix(cache()).expect("in the cache"));
        self.write_node(&inside(&self.node));
        let mounts = format!(
            "mount --rbind {} {}\ncd {}",
            cache().display(),
            seen.display(),
            inside(&self.package).display()
        );
        self.keep_with_mounts(flags, &mounts)
    }

    /// Starts the gateway itself, as somebody would by hand.
    pub(crate) fn raw(&self) -> Running {
        let mut command = self.command("node");
        Running::start(command.args(self.gateway_args()))
    }

    /// The same, told that it has a supervisor, as clawkeeper tells it.
    pub(crate) fn raw_as_external(&self) -> Running {
        let mut command = self.command("node");
        command.env("OPENCLAW_SUPERVISOR_MODE", "external");
        Running::start(command.args(self.gateway_args()))
    }

    /// The pid of each gateway that was started here, in order, in its own namespace.
    pub(crate) fn starts(&self) -> Vec<i32> {
        let text = read_lossy(&self.file("starts"));
        text.lines()
            .map(|pid| pid.parse().expect("a pid"))
            .collect()
    }

    /// Waits for the start of that number, from 1, and returns its pid.
    pub(crate) fn wait_for_start(&self, number: usize, of: &Running) -> i32 {
        of.poll(READY, &format!("start {number}"), || {
            let starts = self.starts();
            starts.get(number - 1).copied().ok_or(starts)
        })
    }

    /// Waits until the gateway says by its own probe that it is ready.
    pub(crate) fn wait_until_ready(&self, of: &Running) {
        of.poll(READY, "the gateway to be ready", || {
            self.is_ready().then_some(()).ok_or_else(|| self.starts())
        });
    }

    /// Whether the gateway says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let (path, fact) = if self.version == NEWEST {
            ("/startupz", ("ok", "status", "started"))
        } else {
            ("/readyz", ("ready", "", ""))
        };
        let Some(body) = self.get(path) else {
            return false;
        };
        body[fact.0] == true && (fact.1.is_empty() || body[fact.1] == fact.2)
    }

    /// The JSON a path answers with.
    pub(crate) fn get(&self, path: &str) -> Option<serde_json::Value> {
        let limit = Duration::from_secs(5);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (_, body) = answer.split_once("\r\n\r\n")?;
        // A chunked body has its length before it; the JSON is one object.
        serde_json::from_str(&body[body.find('{')?..=body.rfind('}')?]).ok()
    }

    /// Every live process of this site but clawkeeper: the gateway and whatever it started.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let mut processes = self.everybody();
        let own = super::clawkeeper();
        let launcher = super::example("pid1");
        processes.retain(|(pid, _)| {
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            program != own && program != launcher
        });
        processes
    }

    /// Every live process of this site.
    fn everybody(&self) -> Vec<(i32, String)> {
        let state = self.file("state");
        let mark = format!("OPENCLAW_STATE_DIR={}", state.display());
        let is_of_site = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        };
        pids()
            .filter(is_of_site)
            .map(|pid| {
                let line = read_lossy(Path::new(&format!("/proc/{pid}/cmdline")));
                (pid, line.replace('\0', " "))
            })
            .collect()
    }

    /// Ends whatever is left of the site, a clawkeeper too, and waits for it: whoever starts next meets nobody.
    pub(crate) fn end_all(&self) {
        poll_until(SOON, "every process of the site to end", || {
            let left = self.everybody();
            for (pid, _) in &left {
                kill(*pid, nix::libc::SIGKILL);
            }
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }

    /// Waits until no process of the gateway is left.
    pub(crate) fn wait_until_empty(&self, of: &Running) {
        of.poll(SOON, "every process of the gateway to end", || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Starts a Telegram Bot API that has no news, so that a channel really connects.
pub(crate) fn fake_telegram(port: u16) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateways/fake_telegram.py");
    Running::start(Command::new("python3").arg(script).arg(port.to_string()))
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { nix::libc::kill(pid, signal) };
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = read_lossy(Path::new(&format!("/proc/{pid}/stat")));
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Field 22 of `/proc/PID/stat`.
pub(crate) fn start_tick(pid: i32) -> u64 {
    let stat = read_lossy(Path::new(&format!("/proc/{pid}/stat")));
    let (_, rest) = stat.rsplit_once(") ").expect("it runs");
    rest.split(' ')
        .nth(19)
        .and_then(|tick| tick.parse().ok())
        .expect("22 fields")
}

/// A process of a site, with everything it prints.
pub(crate) struct Running {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts it; both outputs come through one pipe.
    pub(crate) fn start(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let twin = writer.try_clone().expect("a descriptor");
        let process = Process::start(command.stdout(writer).stderr(twin));
        // The command keeps its ends of the pipe until it is given others.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                sink.lock().expect("no panic above").push(text);
                line.clear();
            }
        });
        Self { process, lines }
    }

    /// Its pid.
    pub(crate) fn pid(&mut self) -> i32 {
        i32::try_from(self.process.child().id()).expect("a pid")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().expect("no panic above").clone()
    }

    /// The lines that are clawkeeper's own.
    pub(crate) fn own_log(&self) -> Vec<String> {
        let mut lines = self.log();
        lines.retain(|line| line.contains(" clawkeeper: "));
        lines
    }

    /// How many lines hold the text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// The first line that holds the text, so far.
    pub(crate) fn first_line(&self, text: &str) -> Option<String> {
        let mut log = self.log().into_iter();
        log.find(|line| line.contains(text))
    }

    /// Waits for the first line that holds the text.
    pub(crate) fn wait_for_line(&self, timeout: Duration, text: &str) -> String {
        self.poll(timeout, text, || {
            self.first_line(text).ok_or("no such line")
        })
    }

    /// [`poll_until`], with the end of the log in its complaint.
    pub(crate) fn poll<T, S: Debug>(
        &self,
        timeout: Duration,
        what: &str,
        mut look: impl FnMut() -> Result<T, S>,
    ) -> T {
        let lines = Arc::clone(&self.lines);
        poll_until(timeout, what, || {
            look().map_err(|state| Seen(state, Arc::clone(&lines)))
        })
    }

    /// Fails unless the claim is true for as long as this; `claim` returns `Err` with what is wrong.
    pub(crate) fn stays<S: Debug>(
        &self,
        time: Duration,
        what: &str,
        mut claim: impl FnMut() -> Result<(), S>,
    ) {
        let start = Instant::now();
        self.poll(time * 2, what, || {
            if let Err(wrong) = claim() {
                panic!("{what}: {:?}", Seen(wrong, Arc::clone(&self.lines)));
            }
            if start.elapsed() < time {
                Err("it is early")
            } else {
                Ok(())
            }
        });
    }

    /// True while it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process
            .child()
            .try_wait()
            .expect("our child")
            .is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let lines = Arc::clone(&self.lines);
        poll_until(READY, "its end", || {
            let status = self.process.child().try_wait().expect("our child");
            status.ok_or_else(|| Seen("it runs", Arc::clone(&lines)))
        })
    }

    /// Asks it to stop and returns its exit code and how long that took.
    pub(crate) fn stop(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal(nix::libc::SIGTERM);
        (self.end().code(), start.elapsed())
    }
}

/// A state, and the end of a log whose lines stay lines in a panic.
struct Seen<S>(S, Arc<Mutex<Vec<String>>>);

impl<S: Debug> Debug for Seen<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.1.lock().map_err(|_| fmt::Error)?;
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        write!(f, "{:?}\n--- the end of its log\n{tail}", self.0)
    }
}
