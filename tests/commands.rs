//! Settings, the commands beside `run`, the journal, and what none of them may show or touch.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read what they wrote"
)]

mod support;

use nix::libc;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::keeper::{CONFIG, Kept, Plan, snapshot};
use support::{PATIENCE, Place, clawkeeper, poll_until, read_lossy, skip};

#[test]
fn every_wrong_setting_is_reported_at_once() {
    let plan = Plan::new(Place::Subreaper)
        .env("CLAWKEEPER_STOP_TIMEOUT", "soon")
        .env("CLAWKEEPER_INTERNAL_PORT", "sk-secret")
        .options(["--user", "1:x", "--no-mount", "maybe"]);
    let ended = plan.start().end();
    assert_eq!(ended.status, "exit 64");
    let said = [
        "CLAWKEEPER_STOP_TIMEOUT",
        "CLAWKEEPER_INTERNAL_PORT",
        "--user",
        "--no-mount",
    ];
    for name in said {
        assert!(ended.text.contains(name), "{name}: {}", ended.text);
    }
    assert_eq!(ended.text.lines().count(), said.len(), "{}", ended.text);
    assert!(!ended.text.contains("secret"), "{}", ended.text);
    assert!(plan.diary("boot").is_empty());
}

#[test]
fn an_unknown_variable_of_ours_is_warned_about_and_an_unknown_flag_refused() {
    let plan = Plan::new(Place::Subreaper).env("CLAWKEEPER_STOP_TIMOUT", "3");
    let kept = plan.start();
    kept.wait_until_ready();
    let ended = kept.stop();
    assert_eq!(
        ended.line("unknown setting; is it misspelt?")["name"],
        "CLAWKEEPER_STOP_TIMOUT"
    );
    let output = plan.ask(["run", "--stop-timout", "3", "--", "true"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output).contains("--stop-timeout"),
        "it says what was meant"
    );
}

#[test]
fn every_command_has_help_and_there_is_a_version() {
    let plan = Plan::new(Place::Subreaper);
    let commands: [&[&str]; 16] = [
        &[],
        &["run"],
        &["check"],
        &["locks"],
        &["config"],
        &["config", "validate"],
        &["config", "seed"],
        &["config", "get"],
        &["config", "put"],
        &["config", "edit"],
        &["config", "history"],
        &["config", "diff"],
        &["config", "rollback"],
        &["config", "path"],
        &["replay"],
        &["--version"],
    ];
    for command in commands {
        let args = command
            .iter()
            .copied()
            .chain(["--help"])
            .filter(|arg| command != ["--version"] || *arg != "--help");
        let output = plan.ask(args);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(output.stderr.is_empty(), "{command:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).len() > 10,
            "{command:?}"
        );
    }
    assert_eq!(plan.ask([]).status.code(), Some(64), "no command at all");
}

#[test]
fn check_grades_by_its_exit_code_and_changes_nothing() {
    let app = App::new();
    fs::create_dir_all(app.plan.state().join("agents")).expect("a folder");
    fs::write(
        app.plan.state().join("gateway.0a0a0a0a.lock"),
        r#"{"pid": 999999}"#,
    )
    .expect("a lock");
    let before = snapshot(&app.plan.state());
    assert_eq!(
        app.check(&[]).status.code(),
        Some(1),
        "an unknown volume is worth a look"
    );
    let json = app.check(&["--json"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let levels: Vec<_> = found["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|item| &item["level"])
        .collect();
    assert!(
        levels.contains(&&"heal".into()),
        "the lock would be cleared: {found}"
    );
    if let Some(output) = app.check_on_a_mount() {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    assert_eq!(snapshot(&app.plan.state()), before);
    app.plan.write_config("{");
    let before = snapshot(&app.plan.state());
    let broken = app.check(&[]);
    assert_eq!(broken.status.code(), Some(2), "{}", text(&broken));
    assert!(
        text(&broken).contains("openclaw.json:1:2"),
        "{}",
        text(&broken)
    );
    assert_eq!(snapshot(&app.plan.state()), before);
}

#[test]
fn check_without_any_state_folder_makes_none() {
    let app = App::new();
    fs::remove_dir_all(app.plan.state()).expect("it was there");
    let output = app.check(&[]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        text(&output)
    );
    assert!(!app.plan.state().exists());
}

#[test]
fn locks_lists_verdicts_and_clears_only_what_is_proven() {
    let plan = Plan::new(Place::Subreaper).called_openclaw();
    let dead = plan.state().join("gateway.0a0a0a0a.lock");
    let live = plan.state().join("gateway.0b0b0b0b.lock");
    // A live gateway of another state folder, so that it is nobody's leftover here.
    let elsewhere = Plan::new(Place::Subreaper).called_openclaw();
    let kept = elsewhere.start();
    kept.wait_until_ready();
    let pid = kept.gateway_pid();
    let ticks = start_ticks(pid);
    fs::write(&dead, r#"{"pid": 999999}"#).expect("a lock");
    fs::write(&live, format!(r#"{{"pid": {pid}, "startTime": {ticks}}}"#)).expect("a lock");
    let before = snapshot(&plan.state());
    let list = plan.ask(["locks"]);
    assert_eq!(list.status.code(), Some(0));
    let verdict = |path: &Path| {
        let name = path.display().to_string();
        let listed = text(&list);
        listed
            .lines()
            .find(|line| line.starts_with(&name))
            .expect("listed")
            .to_owned()
    };
    assert!(verdict(&dead).contains("is stale"), "{}", verdict(&dead));
    assert!(verdict(&live).contains("is live"), "{}", verdict(&live));
    assert_eq!(snapshot(&plan.state()), before);
    let rows: serde_json::Value =
        serde_json::from_slice(&plan.ask(["locks", "--json"]).stdout).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(plan.ask(["locks", "--clear"]).status.code(), Some(0));
    assert!(!dead.exists() && live.exists());
    assert!(
        find(&plan.state().join("clawkeeper"), "0a0a0a0a"),
        "it was moved, not removed"
    );
    kept.stop();
}

#[test]
fn config_validate_points_at_the_place() {
    // Without a gateway's command the image's is meant, which listens to the network.
    let plan = Plan::new(Place::Subreaper).env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken");
    let fine = plan.ask(["config", "validate"]);
    assert_eq!(fine.status.code(), Some(0), "{}", text(&fine));
    plan.write_config("{\n  // a note\n  \"gateway\": {\"mode\" \"local\"}\n}\n");
    let broken = plan.ask(["config", "validate"]);
    assert_eq!(broken.status.code(), Some(2));
    let said = text(&broken);
    assert!(said.contains("openclaw.json:3:22"), "{said}");
    assert!(
        said.lines().any(|line| line.trim_end().ends_with('^')),
        "{said}"
    );
    let missing = plan.ask(["config", "validate", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_seed_is_printed_without_secrets_and_never_written_over_a_config() {
    let plan = Plan::new(Place::Subreaper)
        .env("ANTHROPIC_API_KEY", "sk-ant-SECRET")
        .env("TELEGRAM_BOT_TOKEN", "123:SECRET");
    let before = snapshot(&plan.state());
    let printed = plan.ask(["config", "seed", "--print"]);
    assert_eq!(printed.status.code(), Some(0));
    let seed = text(&printed);
    assert!(
        seed.contains("anthropic/") && seed.contains("telegram"),
        "{seed}"
    );
    assert!(!seed.contains("SECRET"), "{seed}");
    assert_ne!(
        plan.ask(["config", "seed"]).status.code(),
        Some(0),
        "there is a config"
    );
    assert_eq!(snapshot(&plan.state()), before);
    fs::remove_file(plan.config()).expect("it was there");
    assert_eq!(plan.ask(["config", "seed"]).status.code(), Some(0));
    assert_eq!(read_lossy(&plan.config()).trim_end(), seed.trim_end());
}

#[test]
fn a_second_clawkeeper_names_the_first_and_touches_nothing() {
    let plan = Plan::new(Place::Subreaper).gateway(["--locks"]);
    let first = plan.start();
    first.wait_until_ready();
    let before = settled(&plan.state());
    for place in [Place::Subreaper, Place::Pid1] {
        let second = plan.clone().in_place(place).start().end_with_survivors();
        assert_eq!(second.status, "exit 75", "{place:?} {}", second.text);
        let line = second.line("another clawkeeper keeps this state folder; nothing was touched");
        let holder = line["holder"].as_str().expect("a holder");
        assert!(
            holder.contains(&format!("pid {} ", first.pid())),
            "{holder}"
        );
    }
    assert_eq!(but_for_the_history(snapshot(&plan.state())), before);
    assert_eq!(plan.diary("boot").len(), 1);
    assert_eq!(first.stop().status, "exit 0");
}

#[test]
fn a_bare_shell_beside_a_running_clawkeeper_sees_what_it_sees() {
    let plan = Plan::new(Place::Pid1).env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken");
    let kept = plan.start();
    kept.wait_until_ready();
    let out = plan.file("out");
    let said = |command: &str| {
        kept.enter(&format!(
            "cd / && env -i PATH=/usr/bin:/bin {} {command} > '{}' 2>&1; true",
            clawkeeper().display(),
            out.display()
        ));
        read_lossy(&out)
    };
    for (command, part) in [
        ("check", "keeps this state folder"),
        ("check", "the gateway runs: pid "),
        ("events", "gateway ready"),
        ("logs", "gateway ready"),
        ("status", "ready for"),
        ("restart --timeout 30s", "ready"),
    ] {
        // What is kept is written beside the loop, a moment later.
        poll_until(PATIENCE, command, || {
            let said = said(command);
            if said.contains(part) {
                Ok(())
            } else {
                Err(said)
            }
        });
    }
    kept.stop();
}

#[test]
fn check_beside_a_gateway_it_may_not_look_into_finds_no_fault() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return skip("needs root and setpriv");
    }
    let plan = Plan::new(Place::Subreaper)
        .env("CLAWKEEPER_USER", "1000:1000")
        .programs_for_everybody();
    fs::set_permissions(plan.file("."), fs::Permissions::from_mode(0o777)).expect("ours");
    let kept = plan.start();
    kept.wait_until_ready();
    // What an engine leaves of root's capabilities lets it see no environment and no socket of another user.
    let mut command = Command::new("/usr/bin/setpriv");
    plan.surround(&mut command);
    let less = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    command
        .args(less)
        .arg(clawkeeper())
        .arg("check")
        .args([
            "--",
            "node",
            "dist/index.js",
            "gateway",
            "--bind",
            "loopback",
        ])
        .args(["--port", &plan.port().to_string()]);
    let output = command.output().expect("setpriv");
    let said = format!("{output:?}");
    assert!(said.contains("the gateway runs: pid "), "{said}");
    assert!(!said.contains("HOLD"), "{said}");
    kept.stop();
}

#[test]
fn a_replay_of_the_journal_says_what_the_log_said() {
    let plan = Plan::new(Place::Pid1)
        .env("CLAWKEEPER_LOG_FORMAT", "text")
        .gateway(["--end", "refuse:no-mode", "--only-first", "1", "--helper"]);
    let kept = plan.start();
    wait_for_text(&kept, "holding: the gateway is not started", 1);
    plan.write_config(&format!("{CONFIG} "));
    wait_for_text(&kept, "gateway ready", 1);
    kill(kept.gateway_pid());
    wait_for_text(&kept, "gateway ready", 2);
    let ended = kept.stop();
    let logged: Vec<_> = ended
        .text
        .lines()
        .filter_map(|line| line.split_once(" clawkeeper: "))
        .map(|(_, said)| said)
        // Said by the host of itself: who it is, and that a file was written.
        .filter(|said| !said.starts_with("clawkeeper starts") && !said.starts_with("incident kept"))
        .collect();
    let journal = plan.state().join("clawkeeper/journal.ndjson");
    let replay = plan.ask(["replay", journal.to_str().expect("text")]);
    assert_eq!(replay.status.code(), Some(0), "{}", text(&replay));
    let replayed = text(&replay);
    let says: Vec<_> = replayed
        .lines()
        .filter_map(|line| line.strip_prefix("    says: "))
        .collect();
    assert_eq!(says, logged);
}

#[test]
fn a_journal_is_bounded_and_each_of_its_files_replays() {
    let plan = Plan::new(Place::Subreaper)
        .options(["--hold-retry", "5ms"])
        .gateway(["--end", "refuse:no-mode"]);
    let kept = plan.start();
    let folder = plan.state().join("clawkeeper");
    let (current, previous) = (
        folder.join("journal.ndjson"),
        folder.join("journal.1.ndjson"),
    );
    poll_until(PATIENCE, "a second file", || {
        if previous.exists() {
            Ok(())
        } else {
            Err(read_lossy(&current).lines().count())
        }
    });
    kept.signal(libc::SIGKILL);
    kept.end_with_survivors();
    for file in [current, previous] {
        let lines = read_lossy(&file).lines().count();
        assert!(lines <= 501, "{}: {lines}", file.display());
        assert!(replays(&plan, &file));
    }
}

#[test]
fn a_journal_replays_whenever_its_writer_was_killed() {
    for delay_us in (0..20).map(|step| step * 2_000) {
        let delay = delay_us.to_string();
        let launcher = ["--signal-once-blocked", "9", "--delay-us", &delay];
        let plan = Plan::new(Place::Subreaper).launcher(launcher);
        let ended = plan.start().end_with_survivors();
        assert_eq!(ended.status, "signal 9");
        let journal = plan.state().join("clawkeeper/journal.ndjson");
        assert!(
            !journal.exists() || read_lossy(&journal).is_empty() || replays(&plan, &journal),
            "{delay_us}"
        );
    }
}

#[test]
fn no_secret_reaches_a_log_a_journal_an_answer_or_a_command_line() {
    const SECRETS: [&str; 5] = [
        "s3cret-token",
        "s3cret-anthropic",
        "s3cret-discord",
        "s3cret-literal",
        "s3cret-seed",
    ];
    let literal =
        r#"{"gateway":{"mode":"local"},"channels":{"discord":{"token":"s3cret-literal"}}}"#;
    let plan = Plan::new(Place::Subreaper)
        .env("OPENCLAW_GATEWAY_TOKEN", SECRETS[0])
        .env("ANTHROPIC_API_KEY", SECRETS[1])
        .env("DISCORD_BOT_TOKEN", SECRETS[2])
        .env(
            "CLAWKEEPER_CONFIG_SEED",
            r#"{"gateway":{"mode":"local","auth":{"token":"s3cret-seed"}}}"#,
        )
        .options(["--log-level", "debug"]);
    let broken = literal.replace("\":{\"token", "\" {\"token");
    let mut said = String::new();
    // A config that works, one that is broken right at the secret, and a seed with a secret in it.
    for config in [Some(literal), Some(&broken), None] {
        match config {
            Some(config) => plan.write_config(config),
            None => fs::remove_file(plan.config()).expect("it was there"),
        }
        let kept = plan.start();
        kept.wait_for_line("ready or held", 1, |line| {
            let message = line["message"].as_str().unwrap_or_default();
            message == "gateway ready" || message.starts_with("holding")
        });
        for child in kept.children() {
            said += &read_lossy(Path::new(&format!("/proc/{child}/cmdline")));
        }
        for args in [
            &["check"][..],
            &["check", "--json"],
            &["config", "validate"],
            &["config", "seed", "--print"],
            &["locks", "--json"],
        ] {
            said += &text(&plan.ask(args.iter().copied()));
        }
        said += &kept.stop().text;
        for file in ["journal.ndjson", "journal.1.ndjson"] {
            let path = plan.state().join("clawkeeper").join(file);
            said += &text(&plan.ask(["replay", path.to_str().expect("text")]));
        }
        for secret in SECRETS {
            assert!(!said.contains(secret), "{config:?} {secret}: {said}");
            assert!(
                !find(&plan.state().join("clawkeeper"), secret),
                "{config:?} {secret}"
            );
        }
    }
}

/// A gateway that looks installed, for the commands that only look.
struct App {
    plan: Plan,
    entry: PathBuf,
}

impl App {
    fn new() -> Self {
        let plan = Plan::new(Place::Subreaper).env("CLAWKEEPER_MODE", "auto");
        let dist = plan.file("app/dist");
        fs::create_dir_all(&dist).expect("folders");
        fs::write(dist.join("index.js"), "").expect("an entry");
        fs::write(
            plan.file("app/package.json"),
            r#"{"name":"openclaw","version":"2026.9.6"}"#,
        )
        .expect("a package");
        Self {
            plan,
            entry: dist.join("index.js"),
        }
    }

    fn gateway(&self) -> Vec<String> {
        let entry = self.entry.display().to_string();
        let port = self.plan.port().to_string();
        [
            "--", "node", &entry, "gateway", "--port", &port, "--bind", "loopback",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn check(&self, options: &[&str]) -> Output {
        let gateway = self.gateway();
        let args = ["check"].into_iter().chain(options.iter().copied());
        self.plan
            .ask(args.chain(gateway.iter().map(String::as_str)))
    }

    /// The same where the state folder is a mount.
    fn check_on_a_mount(&self) -> Option<Output> {
        if !nix::unistd::getuid().is_root() {
            skip("only root can mount");
            return None;
        }
        let state = self.plan.state().display().to_string();
        let line = format!("mount --bind '{state}' '{state}' && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &line,
            "sh",
        ]);
        self.plan.surround(&mut command);
        Some(
            command
                .arg(clawkeeper())
                .arg("check")
                .args(self.gateway())
                .output()
                .expect("unshare"),
        )
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn replays(plan: &Plan, journal: &Path) -> bool {
    let output = plan.ask(["replay", journal.to_str().expect("text")]);
    let decided = text(&output).lines().count();
    output.status.code() == Some(0) && decided > 0
}

/// The state folder once nothing has changed between two looks.
fn settled(state: &Path) -> Vec<String> {
    let mut last = Vec::new();
    poll_until(PATIENCE, "a state folder at rest", || {
        std::thread::sleep(support::keeper::A_WHILE);
        let now = but_for_the_history(snapshot(state));
        if now == last {
            return Ok(now);
        }
        last = now;
        Err(last.clone())
    })
}

/// Without what a clawkeeper that runs writes at the end of each minute, and the folder in which the first such write makes a file.
fn but_for_the_history(mut snapshot: Vec<String>) -> Vec<String> {
    snapshot
        .retain(|entry| !entry.contains("/clawkeeper/history ") && !entry.contains("/clawkeeper "));
    snapshot
}

/// True when a file below the folder has the text in its name or its content.
fn find(folder: &Path, needle: &str) -> bool {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.path()).any(|path| {
        path.display().to_string().contains(needle)
            || if path.is_dir() {
                find(&path, needle)
            } else {
                read_lossy(&path).contains(needle)
            }
    })
}

fn start_ticks(pid: i32) -> u64 {
    let stat = read_lossy(Path::new(&format!("/proc/{pid}/stat")));
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    rest.split_whitespace()
        .nth(19)
        .and_then(|ticks| ticks.parse().ok())
        .expect("a tick")
}

fn kill(pid: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

/// Waits for a text as often, in logs that are no JSON.
fn wait_for_text(kept: &Kept, text: &str, times: usize) {
    poll_until(PATIENCE, text, || {
        let said = kept.text();
        if said.matches(text).count() >= times {
            Ok(())
        } else {
            Err(said)
        }
    });
}
