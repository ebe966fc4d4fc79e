//! Killed at any system call, out of space, out of inodes, read-only or failing: a config is the old one
//! or the new one, whole, and what it replaced is kept.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::keeper::Plan;
use support::{Place, clawkeeper, skip};

const STRACE: &str = "/usr/bin/strace";
/// Larger than one page, so that it can be there in part.
const PAGES: usize = 3;

/// A config of some pages that tells which one it is, and whether all of it is there.
fn text_of(name: &str) -> String {
    let filler = format!("// {name}\n").repeat(PAGES * 4096 / 8);
    format!(
        "{{gateway: {{mode: 'local', port: {}}}}}\n{filler}// end of {name}\n",
        name.len()
    )
}

fn old() -> String {
    text_of("old")
}

fn new() -> String {
    text_of("newer")
}

/// A state folder with the old config in it, made anew for each try.
struct Bench {
    plan: Plan,
}

/// What a try left behind.
struct Left {
    output: Output,
    config: String,
    /// Names in the state folder but the config and our own folder.
    beside: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let plan = Plan::new(Place::Subreaper).env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken");
        Self { plan }
    }

    /// The old config, and with `history` the new one as version 1.
    fn reset(&self, history: bool) {
        let (state, template) = (self.plan.state(), self.plan.file("template"));
        fs::remove_dir_all(&state).expect("it was there");
        if history && template.exists() {
            let copied = Command::new("cp")
                .arg("-a")
                .args([&template, &state])
                .status();
            assert!(copied.expect("cp").success());
            return;
        }
        fs::create_dir(&state).expect("a folder");
        self.plan.write_config(&if history { new() } else { old() });
        if history {
            let put = self.run(&mut Command::new(clawkeeper()), &["put"], &old());
            assert!(put.status.success(), "{put:?}");
            let copied = Command::new("cp")
                .arg("-a")
                .args([&state, &template])
                .status();
            assert!(copied.expect("cp").success());
        }
    }

    /// Runs a config command under another program.
    fn run(&self, command: &mut Command, args: &[&str], stdin: &str) -> Output {
        let mut child = self
            .plan
            .surround(command)
            .arg("config")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // Whoever is killed does not read it.
        let _ = child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(stdin.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    fn strace(&self, options: &[&str], args: &[&str]) -> Output {
        let mut command = Command::new(STRACE);
        command
            .args(["-f", "-qq", "-o"])
            .arg(self.trace())
            .args(options)
            .arg(clawkeeper());
        self.run(&mut command, args, &new())
    }

    fn trace(&self) -> PathBuf {
        self.plan.file("trace")
    }

    fn left(&self, output: Output) -> Left {
        let names = fs::read_dir(self.plan.state()).expect("listed").flatten();
        Left {
            output,
            config: fs::read_to_string(self.plan.config()).expect("a config"),
            beside: names
                .map(|entry| entry.file_name().into_string().expect("text"))
                .filter(|name| name != "clawkeeper" && name != "openclaw.json")
                .collect(),
        }
    }

    /// How often each system call is made.
    fn calls(&self, args: &[&str]) -> BTreeMap<String, usize> {
        let output = self.strace(&[], args);
        assert!(output.status.success(), "{output:?}");
        let mut calls = BTreeMap::new();
        for line in fs::read_to_string(self.trace()).expect("a trace").lines() {
            let call = line
                .split_once(' ')
                .map_or(line, |(_, call)| call.trim_start());
            let name = call.split('(').next().unwrap_or_default();
            if name
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
            {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        calls
    }

    /// The versions that are kept, each read back whole.
    fn kept(&self) -> Vec<String> {
        let folder = self.plan.state().join("clawkeeper/config");
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        names
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "json5"))
            .map(|entry| fs::read_to_string(entry.path()).expect("readable"))
            .collect()
    }

    #[track_caller]
    fn whole_and_kept(&self, left: &Left, what: &str) {
        assert!(
            left.config == old() || left.config == new(),
            "{what}: {} bytes: {:?}",
            left.config.len(),
            left.output
        );
        for version in self.kept() {
            assert!(
                version == old() || version == new(),
                "{what}: a torn version"
            );
        }
        if left.config == new() {
            assert!(self.kept().contains(&old()), "{what}: the old one is lost");
        }
    }
}

#[test]
fn a_put_killed_at_any_system_call_leaves_the_old_config_or_the_new_one() {
    killed_everywhere(&["put"], false);
}

#[test]
fn a_roll_back_killed_at_any_system_call_leaves_the_old_config_or_the_new_one() {
    killed_everywhere(&["rollback", "1"], true);
}

fn killed_everywhere(args: &[&str], history: bool) {
    if !Path::new(STRACE).exists() {
        return skip("strace is not installed");
    }
    let bench = Bench::new();
    bench.reset(history);
    let calls = bench.calls(args);
    let (mut tries, mut olds, mut news) = (0, 0, 0);
    for (call, count) in calls {
        // The one that starts it is not its own.
        for nth in (1..=count).filter(|nth| call != "execve" || *nth > 1) {
            let what = format!("{args:?} killed at {call} number {nth}");
            bench.reset(history);
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let left = bench.left(bench.strace(&["-e", &inject], args));
            bench.whole_and_kept(&left, &what);
            tries += 1;
            if left.config == new() {
                news += 1;
            } else {
                olds += 1;
            }
            // Whoever tries again finds nothing in the way, and clears up what was left half done.
            let again = bench.run(&mut Command::new(clawkeeper()), args, &new());
            let again = bench.left(again);
            assert!(again.output.status.success(), "{what}: {:?}", again.output);
            assert_eq!(again.config, new(), "{what}");
            if left.config != new() {
                assert!(again.beside.is_empty(), "{what}: {:?}", again.beside);
            }
        }
    }
    assert!(tries > 50, "{tries} tries");
    assert!(
        olds > 0 && news > 0,
        "killed before and after: {olds}, {news}"
    );
}

#[test]
fn every_failing_call_is_a_refusal_that_changes_nothing_or_is_no_matter() {
    if !Path::new(STRACE).exists() {
        return skip("strace is not installed");
    }
    let bench = Bench::new();
    bench.reset(false);
    let calls = bench.calls(&["put"]);
    let mut refusals = 0;
    let failing = [
        ("fsync", "EIO"),
        ("write", "ENOSPC"),
        ("rename", "EIO"),
        ("renameat", "EIO"),
        ("renameat2", "EIO"),
        ("mkdirat", "ENOSPC"),
        ("flock", "EIO"),
        ("fchmod", "EPERM"),
        ("fchown", "EPERM"),
        ("unlinkat", "EIO"),
    ];
    for (call, error) in failing {
        for nth in 1..=calls.get(call).copied().unwrap_or_default() {
            let what = format!("{call} number {nth} fails with {error}");
            bench.reset(false);
            let inject = format!("inject={call}:error={error}:when={nth}");
            let left = bench.left(bench.strace(&["-e", &inject], &["put"]));
            bench.whole_and_kept(&left, &what);
            let said = String::from_utf8_lossy(&left.output.stderr).into_owned();
            let in_place = left.output.status.success() || said.contains("it is in place");
            assert_eq!(left.config == new(), in_place, "{what}: {said}");
            if !in_place {
                refusals += 1;
                assert_eq!(left.output.status.code(), Some(71), "{what}: {said}");
                assert!(said.contains("is as it was"), "{what}: {said}");
                assert!(
                    left.beside.is_empty() || call == "unlinkat",
                    "{what}: {:?}",
                    left.beside
                );
            }
        }
    }
    assert!(refusals >= 6, "{refusals}");
}

/// Puts the new config on a small file system of its own, and says what is there afterwards.
fn on_tmpfs(bench: &Bench, options: &str, prepare: &str) -> Left {
    let (state, home) = (bench.plan.state(), bench.plan.file("."));
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs '{state}' && cp '{home}/old' '{state}/openclaw.json' && {{ {prepare}; }} && \
         '{keeper}' \"$@\"; code=$?; mount -o remount,rw '{state}'; \
         cp '{state}/openclaw.json' '{home}/after'; ls -A '{state}' > '{home}/listing'; \
         mkdir -p '{home}/versions' && cp -r '{state}/clawkeeper/config/.' '{home}/versions' 2>&-; exit $code",
        state = state.display(),
        home = home.display(),
        keeper = clawkeeper().display(),
    );
    fs::write(bench.plan.file("old"), old()).expect("written");
    let mut command = Command::new("/usr/bin/unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        &script,
        "sh",
    ]);
    let output = bench.run(&mut command, &["put"], &new());
    let read = |name: &str| {
        let path = bench.plan.file(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{options}: {error}: {output:?}"))
    };
    let (config, listing) = (read("after"), read("listing"));
    Left {
        config,
        beside: listing
            .lines()
            .filter(|name| !["clawkeeper", "openclaw.json", "fill"].contains(name))
            .map(str::to_owned)
            .collect(),
        output,
    }
}

#[track_caller]
fn applied_or_refused(left: &Left, what: &str) -> bool {
    let said = String::from_utf8_lossy(&left.output.stderr);
    let applied = left.output.status.success();
    assert_eq!(left.config == new(), applied, "{what}: {said}");
    assert!(applied || left.config == old(), "{what}: neither");
    assert!(left.beside.is_empty(), "{what}: {:?}", left.beside);
    if !applied {
        assert_eq!(left.output.status.code(), Some(71), "{what}: {said}");
        assert!(said.contains("is as it was"), "{what}: {said}");
    }
    applied
}

#[test]
fn a_disk_that_fills_up_at_any_point_leaves_the_old_config_or_the_new_one() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to mount");
    }
    let bench = Bench::new();
    let mut outcomes = Vec::new();
    // The old config takes its pages; what the new one and both versions need is there in part.
    for pages in PAGES + 1..=6 * PAGES + 6 {
        let left = on_tmpfs(&bench, &format!("size={}", pages * 4096), "true");
        outcomes.push(applied_or_refused(&left, &format!("{pages} pages")));
    }
    assert!(
        outcomes.contains(&true) && outcomes.contains(&false),
        "{outcomes:?}"
    );
    assert!(
        outcomes.is_sorted(),
        "more room is never worse: {outcomes:?}"
    );
}

#[test]
fn a_disk_without_inodes_leaves_the_old_config_or_the_new_one() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to mount");
    }
    let bench = Bench::new();
    let mut outcomes = Vec::new();
    for inodes in 2..=10 {
        let left = on_tmpfs(&bench, &format!("nr_inodes={inodes}"), "true");
        outcomes.push(applied_or_refused(&left, &format!("{inodes} inodes")));
    }
    assert!(
        outcomes.contains(&true) && outcomes.contains(&false),
        "{outcomes:?}"
    );
    assert!(outcomes.is_sorted(), "{outcomes:?}");
}

#[test]
fn a_volume_that_became_read_only_keeps_its_config() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to mount");
    }
    let bench = Bench::new();
    let remount = format!("mount -o remount,ro '{}'", bench.plan.state().display());
    let left = on_tmpfs(&bench, "size=1m", &remount);
    assert!(!applied_or_refused(&left, "read-only"));
    let said = String::from_utf8_lossy(&left.output.stderr).into_owned();
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_config_that_is_mounted_by_itself_is_left_alone_and_that_is_said() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to mount");
    }
    let bench = Bench::new();
    let config = bench.plan.config();
    let bind = format!(
        "cp '{home}/old' '{home}/mounted' && mount --bind '{home}/mounted' '{config}'",
        home = bench.plan.file(".").display(),
        config = config.display()
    );
    let left = on_tmpfs(&bench, "size=1m", &bind);
    assert!(!applied_or_refused(&left, "mounted"));
    let said = String::from_utf8_lossy(&left.output.stderr).into_owned();
    assert!(said.contains("is a mount of its own"), "{said}");
}
