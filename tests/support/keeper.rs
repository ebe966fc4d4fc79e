//! clawkeeper keeping the fake gateway: where, on which volume, with which settings, and what both say.

use super::{
    Launch, Launched, PATIENCE, Place, Process, clawkeeper, example, poll_until, read_lossy,
};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// A config every release accepts.
pub(crate) const CONFIG: &str = r#"{"gateway":{"mode":"local"}}"#;

/// Mounts of its own, for a process that shares everything else.
const UNSHARE: [&str; 4] = ["/usr/bin/unshare", "--mount", "--propagation", "private"];

/// What is going to be kept, and how. It can be started more than once, on the same state folder.
#[derive(Clone)]
pub(crate) struct Plan {
    place: Place,
    home: Rc<tempfile::TempDir>,
    port: u16,
    launcher: Vec<String>,
    wrapper: Vec<String>,
    options: Vec<String>,
    clawkeeper: PathBuf,
    program: PathBuf,
    gateway: Vec<String>,
    environment: Vec<(String, String)>,
    /// What a shell does before it becomes clawkeeper.
    prepare: String,
}

impl Plan {
    /// A gateway that is ready at once, with a config, and a hurried clawkeeper.
    pub(crate) fn new(place: Place) -> Self {
        let home = tempfile::tempdir().expect("a folder for the test");
        let plan = Self {
            place,
            home: Rc::new(home),
            port: free_port(),
            launcher: Vec::new(),
            wrapper: Vec::new(),
            options: Vec::new(),
            clawkeeper: clawkeeper(),
            program: example("fake-gateway"),
            gateway: Vec::new(),
            environment: Vec::new(),
            prepare: String::new(),
        };
        fs::create_dir(plan.state()).expect("a state folder");
        plan.write_config(CONFIG);
        plan
    }

    /// The same somewhere else.
    pub(crate) fn in_place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Adds options of the `pid1` tool.
    pub(crate) fn launcher<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.launcher.extend(strings(options));
        self
    }

    /// Runs copies of both programs that every user may execute, wherever the checkout lies.
    pub(crate) fn programs_for_everybody(mut self) -> Self {
        let copy = |from: &PathBuf| {
            let to = self
                .home
                .path()
                .join(from.file_name().expect("a program has a name"));
            fs::copy(from, &to).expect("a copy");
            to
        };
        (self.clawkeeper, self.program) = (copy(&self.clawkeeper), copy(&self.program));
        self
    }

    /// Has another program start clawkeeper.
    pub(crate) fn under<'a>(mut self, program: impl IntoIterator<Item = &'a str>) -> Self {
        self.wrapper.extend(strings(program));
        self
    }

    /// Adds options of `clawkeeper run`.
    pub(crate) fn options<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.options.extend(strings(options));
        self
    }

    /// Adds flags of the fake gateway.
    pub(crate) fn gateway<'a>(mut self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        self.gateway.extend(strings(flags));
        self
    }

    /// The same folder and settings, with a gateway that does something else.
    pub(crate) fn other_gateway<'a>(mut self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        self.gateway = strings(flags);
        self
    }

    /// Another port than one of its own.
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets a variable for clawkeeper and the gateway.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Calls the gateway by a name that is known to be one, so that processes are recognised by it.
    pub(crate) fn called_openclaw(mut self) -> Self {
        self.program = self.home.path().join("openclaw");
        std::os::unix::fs::symlink(example("fake-gateway"), &self.program).expect("a link");
        self
    }

    /// Another program in the gateway's place.
    pub(crate) fn program(mut self, program: &str) -> Self {
        self.program = program.into();
        self
    }

    /// Runs a line of shell first, in the mounts and the process that become clawkeeper's own.
    pub(crate) fn prepare(mut self, line: &str) -> Self {
        self.prepare += line;
        self.prepare += " && ";
        self
    }

    /// Mounts a file system in place of the state folder, as `mount` is told to, with a config in it.
    pub(crate) fn mounted(self, mount: &str) -> Self {
        let (state, config) = (self.state(), self.config());
        let (state, config) = (state.display(), config.display());
        self.prepare(&format!("mount {mount} '{state}'"))
            .prepare(&format!("echo '{CONFIG}' > '{config}'"))
    }

    /// The state folder, as seen outside of the mounts of the test.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// A file beside the state folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.state().join("openclaw.json")
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("a config");
    }

    /// Starts clawkeeper with its output in files.
    pub(crate) fn start(&self) -> Kept {
        self.kept(self.launch().start())
    }

    /// The same with its standard output somewhere else; its own lines go to standard error.
    pub(crate) fn start_printing_to(&self, stdout: impl Into<Stdio>) -> Kept {
        self.kept(self.launch().start_printing_to(stdout))
    }

    /// Starts the gateway without clawkeeper, as somebody at a console would.
    pub(crate) fn start_by_hand(&self) -> Process {
        let line = self.command_line();
        let mut command = Command::new(&line[0]);
        self.surround(command.args(&line[1..]));
        Process::start(command.stdout(Stdio::null()))
    }

    fn kept(&self, launched: Launched) -> Kept {
        Kept {
            launched,
            plan: self.clone(),
        }
    }

    fn launch(&self) -> Launch {
        let shell = format!("{}exec \"$@\"", self.prepare);
        let prepared: &[&str] = match (self.prepare.is_empty(), self.place) {
            (true, _) => &[],
            (false, Place::Subreaper) => &[&UNSHARE[..], &["/bin/sh", "-c", &shell, "sh"]].concat(),
            (false, Place::Pid1 | Place::Pid1Unprivileged) => &["/bin/sh", "-c", &shell, "sh"],
        };
        Launch::in_place(self.place)
            .with(|command| self.surround(command))
            .args(&self.launcher)
            .args(["--"])
            .args(prepared)
            .args(&self.wrapper)
            .args([&self.clawkeeper])
            .args(["run"])
            .args(&self.options)
            .args(["--"])
            .args(self.command_line())
    }

    /// The gateway's command line.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let program = self.program.display().to_string();
        let fixed = [
            program,
            "gateway".into(),
            "--port".into(),
            self.port.to_string(),
        ];
        let diary = [
            "--diary".to_owned(),
            self.file("diary").display().to_string(),
        ];
        fixed
            .into_iter()
            .chain(diary)
            .chain(self.gateway.iter().cloned())
            .collect()
    }

    /// The environment of all that runs for this plan, and nothing of the test's own.
    pub(crate) fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("OPENCLAW_STATE_DIR", self.state())
            // What a test says by a flag wins.
            .env("CLAWKEEPER_MODE", "gateway")
            .env("CLAWKEEPER_LOG_FORMAT", "json")
            .env("CLAWKEEPER_HOLD_RETRY", "1h")
            // Its default port is one for the whole machine, and tests run side by side.
            .env("CLAWKEEPER_HEALTH_LISTEN", "off")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
    }

    /// Runs another command of clawkeeper in the same surroundings.
    pub(crate) fn ask<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new(clawkeeper());
        self.surround(&mut command)
            .args(args)
            .output()
            .expect("clawkeeper")
    }

    /// Everything the fake gateway noted under this name: its pid and the time.
    pub(crate) fn diary(&self, what: &str) -> Vec<(i32, u64)> {
        let text = read_lossy(&self.file("diary"));
        let entries = text.lines().filter_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0] == what).then_some((words.get(1)?.parse().ok()?, words.get(2)?.parse().ok()?))
        });
        entries.collect()
    }

    /// Every process that has this plan's state folder in its environment.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let wanted = format!("OPENCLAW_STATE_DIR={}", self.state().display());
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        })
        .collect()
    }
}

/// A clawkeeper that runs, or has run.
pub(crate) struct Kept {
    launched: Launched,
    plan: Plan,
}

/// How it ended, and what it had said.
pub(crate) struct Ended {
    /// `exit N` or `signal N`.
    pub(crate) status: String,
    /// Its own lines.
    pub(crate) log: Vec<Value>,
    /// Everything on its standard output and standard error.
    pub(crate) text: String,
}

impl Kept {
    pub(crate) fn pid(&self) -> i32 {
        self.launched.pid()
    }

    pub(crate) fn signal(&self, number: i32) {
        self.launched.signal(number);
    }

    /// Its own log lines so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        log_of(&self.text())
    }

    /// All that is in the output files so far.
    pub(crate) fn text(&self) -> String {
        read_lossy(&self.launched.file("stdout")) + &read_lossy(&self.launched.file("stderr"))
    }

    /// Waits for a line with this message, and returns it.
    pub(crate) fn wait_for(&self, message: &str) -> Value {
        self.wait_for_nth(message, 1)
    }

    /// Waits for the n-th line with this message.
    pub(crate) fn wait_for_nth(&self, message: &str, n: usize) -> Value {
        self.wait_for_line(message, n, |line| line["message"] == message)
    }

    /// Waits for the n-th line that fits.
    pub(crate) fn wait_for_line(
        &self,
        what: &str,
        n: usize,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        poll_until(PATIENCE, what, || {
            let mut log = self.log();
            match log
                .iter()
                .enumerate()
                .filter(|(_, line)| fits(line))
                .nth(n - 1)
            {
                Some((index, _)) => Ok(log.swap_remove(index)),
                None => Err(self.text()),
            }
        })
    }

    /// Waits until the gateway is ready, as clawkeeper sees it.
    pub(crate) fn wait_until_ready(&self) -> Value {
        self.wait_for("gateway ready")
    }

    /// Waits until the n-th gateway is ready, as clawkeeper sees it.
    pub(crate) fn wait_until_boot_is_ready(&self, n: u64) -> Value {
        let n = n.to_string();
        self.wait_for_line("the boot to be ready", 1, |line| {
            line["message"] == "gateway ready" && line["attempt"] == n
        })
    }

    /// Waits until the gateway is held; returns why.
    pub(crate) fn wait_until_held(&self) -> String {
        let line = self.wait_for("holding: the gateway is not started until this is mended");
        assert!(
            line["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
            "{line}"
        );
        line["why"].as_str().expect("a reason").to_owned()
    }

    /// Waits until the gateway noted this so often.
    pub(crate) fn wait_for_note(&self, what: &str, count: usize) -> Vec<(i32, u64)> {
        poll_until(PATIENCE, what, || {
            let notes = self.plan.diary(what);
            if notes.len() >= count {
                Ok(notes)
            } else {
                Err((notes, self.text()))
            }
        })
    }

    /// Waits until the gateway has printed its lines. No single write may have taken longer than a reader
    /// may hold it up in all (a second), with room for a loaded machine.
    pub(crate) fn wait_for_printed(&self) {
        let longest_ms: u64 = poll_until(PATIENCE, "the gateway's output", || {
            let text = read_lossy(&self.plan.file("diary"));
            let (_, rest) = text
                .split_once("longest-wait=")
                .ok_or_else(|| self.text())?;
            rest.split(' ')
                .next()
                .and_then(|ms| ms.parse().ok())
                .ok_or(text)
        });
        assert!(longest_ms < 5_000, "held up for {longest_ms} ms");
    }

    /// The gateway's pid, seen from outside of its namespace: clawkeeper's own child.
    pub(crate) fn gateway_pid(&self) -> i32 {
        poll_until(PATIENCE, "the gateway's process", || {
            let children = self.children();
            let is_gateway = |pid: &&i32| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(b"gateway")
            };
            children.iter().find(is_gateway).copied().ok_or(children)
        })
    }

    /// clawkeeper's children, adopted ones too.
    pub(crate) fn children(&self) -> Vec<i32> {
        let pid = self.pid();
        let text = read_lossy(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
        text.split_whitespace()
            .map(|pid| pid.parse().expect("a pid"))
            .collect()
    }

    /// The state of each of its threads, `S` or `D` for instance.
    pub(crate) fn thread_states(&self) -> Vec<char> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads");
        let stats = tasks
            .flatten()
            .map(|task| read_lossy(&task.path().join("stat")));
        stats
            .filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next())
            .collect()
    }

    /// True while clawkeeper itself runs.
    pub(crate) fn is_alive(&self) -> bool {
        Path::new(&format!("/proc/{}/exe", self.pid()))
            .read_link()
            .is_ok()
    }

    /// A path in clawkeeper's own mounts.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Runs a line of shell in clawkeeper's mounts and processes.
    pub(crate) fn enter(&self, line: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("nsenter")
            .args(["--target", &pid, "--mount", "--pid", "--", "sh", "-c", line])
            .status()
            .expect("nsenter");
        assert!(status.success(), "{line}: {status}");
    }

    /// Repairs what it is held for, and sees the gateway started by nothing else.
    pub(crate) fn heals(self, repair: impl FnOnce(&Self)) {
        assert!(
            self.plan.diary("boot").is_empty(),
            "nothing starts on such a volume"
        );
        assert!(self.is_alive());
        repair(&self);
        self.wait_until_ready();
        self.wait_for("hold is over");
        assert_eq!(self.stop().status, "exit 0");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(self) -> Ended {
        self.signal(nix::libc::SIGTERM);
        self.end()
    }

    /// Waits for its end; nothing of its tree may be left then.
    pub(crate) fn end(self) -> Ended {
        let plan = self.plan.clone();
        let ended = self.end_with_survivors();
        let left = plan.processes();
        assert!(
            left.is_empty(),
            "left in the tree: {left:?}; {}",
            ended.text
        );
        ended
    }

    /// Waits for its end, whatever is left.
    pub(crate) fn end_with_survivors(self) -> Ended {
        let end = self.launched.end();
        let text = end.stdout + &end.stderr;
        Ended {
            status: end.status,
            log: log_of(&text),
            text,
        }
    }
}

impl Ended {
    /// The lines with this message.
    pub(crate) fn lines(&self, message: &str) -> Vec<&Value> {
        self.log
            .iter()
            .filter(|line| line["message"] == message)
            .collect()
    }

    /// The one line with this message.
    pub(crate) fn line(&self, message: &str) -> &Value {
        match self.lines(message)[..] {
            [line] => line,
            _ => panic!("not one {message:?}: {}", self.text),
        }
    }

    /// The class of every exit of the gateway, in order.
    pub(crate) fn classes(&self) -> Vec<&str> {
        let exits = self.lines("gateway exited").into_iter();
        exits
            .map(|line| line["class"].as_str().expect("a class"))
            .collect()
    }
}

fn log_of(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with("{\"time\""));
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Every entry below a folder with all that a change would change: for "nothing was touched".
/// Not ctime: the rename of another name of the same file changes it.
pub(crate) fn snapshot(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut entries = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let (path, about) = (entry.path(), entry.metadata().expect("its metadata"));
            let (mode, owner, size) = (about.mode(), (about.uid(), about.gid()), about.size());
            let time = (about.mtime(), about.mtime_nsec());
            entries.push(format!(
                "{} {mode:o} {owner:?} {size} {time:?}",
                path.display()
            ));
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    entries.sort();
    entries
}

/// Longer than an event in clawkeeper takes, shorter than a person notices: how long "nothing more happens" is watched.
pub(crate) const A_WHILE: Duration = Duration::from_millis(700);
