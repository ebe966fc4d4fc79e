//! `clawkeeper config`: what is applied, what is refused, what is kept, and what is never shown.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::keeper::{Plan, snapshot};
use support::{Place, clawkeeper, skip};

const FIRST: &str = "// first, by hand\n{ gateway: { mode: 'local' }, /* port */ }\n";
const SECOND: &str =
    "{\n\t// tabs, 'quotes', a trailing comma\r\n  gateway: { mode: \"local\", port: +3000., },\n}";

fn plan() -> Plan {
    let plan = Plan::new(Place::Subreaper).env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken");
    plan.write_config(FIRST);
    plan
}

/// Runs a config command with this on its standard input.
fn config(plan: &Plan, args: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(clawkeeper());
    finish(plan.surround(&mut command), args, stdin)
}

fn finish(command: &mut Command, args: &[&str], stdin: &[u8]) -> Output {
    let mut child = command
        .arg("config")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("clawkeeper");
    // Whoever refuses early does not read it all.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    child.wait_with_output().expect("it ends")
}

fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn ends_with(output: Output, code: i32) -> String {
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn content(plan: &Plan) -> String {
    fs::read_to_string(plan.config()).expect("a config")
}

fn history(plan: &Plan) -> Vec<serde_json::Value> {
    let output = config(plan, &["history", "--json"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn put_writes_the_bytes_it_was_given_and_keeps_those_it_replaces() {
    let plan = plan();
    let said = ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    assert!(said.contains("+ gateway.port: 3000"), "{said}");
    assert!(said.contains("clawkeeper config rollback 1"), "{said}");
    assert_eq!(content(&plan), SECOND);
    let mode = fs::metadata(plan.config()).expect("there").mode() & 0o777;
    assert_eq!(mode, 0o600);
    let sources: Vec<_> = history(&plan)
        .iter()
        .map(|row| (row["number"].clone(), row["source"].clone()))
        .collect();
    assert_eq!(
        sources,
        [(2.into(), "put".into()), (1.into(), "found".into())]
    );
    ends_with(config(&plan, &["rollback"], b""), 0);
    assert_eq!(content(&plan), FIRST, "comments and layout come back");
    ends_with(config(&plan, &["rollback", "2"], b""), 0);
    assert_eq!(content(&plan), SECOND);
    let same = ends_with(config(&plan, &["put", "-"], SECOND.as_bytes()), 0);
    assert!(same.contains("nothing to do"), "{same}");
    assert_eq!(history(&plan).len(), 4);
}

#[test]
fn a_first_config_may_come_before_the_state_folder() {
    let plan = plan();
    fs::remove_dir_all(plan.state()).expect("it was there");
    ends_with(config(&plan, &["put", "--dry-run"], SECOND.as_bytes()), 0);
    assert!(!plan.state().exists());
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    assert_eq!(content(&plan), SECOND);
}

#[test]
fn put_takes_a_file_from_wherever_the_user_stands() {
    let plan = plan();
    fs::write(plan.file("new.json5"), SECOND).expect("written");
    let mut command = Command::new(clawkeeper());
    plan.surround(&mut command)
        .current_dir(plan.file(".").canonicalize().expect("a folder"));
    ends_with(finish(&mut command, &["put", "new.json5"], b""), 0);
    assert_eq!(content(&plan), SECOND);
    ends_with(config(&plan, &["put", "/nonexistent"], b""), 66);
}

#[test]
fn whatever_the_gateway_would_refuse_is_refused_and_nothing_changes() {
    let plan = plan();
    // A store that was made before, so that its own folder is no change.
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    let before = snapshot(&plan.state());
    let huge = format!("{{a: '{}'}}", "x".repeat(9 << 20));
    let deep = "[".repeat(100_000);
    for (stdin, expected) in [
        (
            "{\n  gateway: {\n  mode 'local'",
            "<stdin>:3:8: expected a ':' after the key",
        ),
        ("", "nothing came in"),
        (" // nothing\n", "holds no value"),
        ("[]", "error"),
        (huge.as_str(), "more than 8388608"),
        (deep.as_str(), "nested deeper"),
    ] {
        let said = ends_with(config(&plan, &["put"], stdin.as_bytes()), 2);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(said.contains("is as it was"), "{said}");
        assert_eq!(snapshot(&plan.state()), before, "{expected}");
    }
    ends_with(config(&plan, &["put", "--force"], b"{"), 2);
    assert_eq!(
        snapshot(&plan.state()),
        before,
        "what does not parse is never forced"
    );
}

#[test]
fn an_error_points_at_its_place_and_shows_no_value() {
    let plan = plan();
    let broken = "{gateway: {auth: {token: 'QZXsecret' 'QZXother'}}}";
    let said = ends_with(config(&plan, &["put"], broken.as_bytes()), 2);
    assert!(said.contains("<stdin>:1:38"), "{said}");
    assert!(said.lines().any(|line| line.trim() == "^"), "{said}");
    assert!(!said.contains("QZX"), "{said}");
}

#[test]
fn many_at_once_are_applied_one_after_the_other_and_none_is_lost() {
    let plan = plan();
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    let text_of = |number: usize| format!("{{gateway: {{mode: 'local'}}}} // {number}\n");
    let start = |number: usize| {
        let mut command = Command::new(clawkeeper());
        let mut child = plan
            .surround(&mut command)
            .args(["config", "put"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(text_of(number).as_bytes())
            .expect("it reads");
        child
    };
    let children: Vec<_> = (0..12).map(start).collect();
    for child in children {
        ends_with(child.wait_with_output().expect("it ends"), 0);
    }
    let folder = plan.state().join("clawkeeper/config");
    let kept: Vec<String> = fs::read_dir(folder)
        .expect("listed")
        .flatten()
        .map(|entry| fs::read_to_string(entry.path()).expect("whole"))
        .collect();
    for number in 0..12 {
        assert!(kept.contains(&text_of(number)), "{number} is lost");
    }
    assert!(kept.contains(&content(&plan)));
    let mut numbers: Vec<_> = history(&plan)
        .iter()
        .map(|row| row["number"].as_u64())
        .collect();
    let count = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "each version has a number of its own");
    let beside = fs::read_dir(plan.state()).expect("listed").count();
    assert_eq!(beside, 2, "the config and our own folder");
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let plan = plan();
    let before = snapshot(&plan.state());
    let said = ends_with(config(&plan, &["put", "--dry-run"], SECOND.as_bytes()), 0);
    assert!(said.contains("+ gateway.port: 3000"), "{said}");
    assert_eq!(snapshot(&plan.state()), before);
}

#[test]
fn force_applies_what_a_rule_refuses() {
    // The image's gateway listens to the network, and nothing here gives it a secret.
    let plan = Plan::new(Place::Subreaper);
    let odd = "{gateway: {mode: 'local', port: 3000}}";
    let said = ends_with(config(&plan, &["put"], odd.as_bytes()), 2);
    assert!(said.contains("fix: "), "{said}");
    ends_with(config(&plan, &["put", "--force"], odd.as_bytes()), 0);
    assert_eq!(content(&plan), odd);
}

#[test]
fn a_broken_config_is_replaced_and_kept_and_a_roll_back_passes_it_over() {
    let plan = plan();
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    plan.write_config("{broken");
    ends_with(config(&plan, &["get"], b""), 2);
    let said = ends_with(config(&plan, &["rollback"], b""), 0);
    assert!(said.contains("does not parse"), "{said}");
    assert_eq!(content(&plan), SECOND);
    assert_eq!(history(&plan).len(), 4, "the broken one is kept too");
    let said = ends_with(config(&plan, &["rollback"], b""), 0);
    assert!(said.contains("version 3"), "it was looked at: {said}");
    assert_eq!(content(&plan), FIRST);
}

#[test]
fn get_finds_values_and_says_what_is_there_instead() {
    let plan = plan();
    plan.write_config(
        "{gateway: {mode: 'local', port: 3000}, agents: {list: [{id: 'main'}]}, 'a.b': {c: null}}",
    );
    for (args, expected) in [
        (&["get", "gateway.mode"][..], "local\n"),
        (&["get", "--json", "gateway.mode"], "\"local\"\n"),
        (&["get", "gateway.port"], "3000\n"),
        (&["get", "agents.list[0].id"], "main\n"),
        (&["get", "a.b.c"], "null\n"),
    ] {
        assert_eq!(ends_with(config(&plan, args, b""), 0), expected);
    }
    let said = ends_with(config(&plan, &["get", "gateway.prot"], b""), 1);
    assert!(said.contains("it holds mode, port"), "{said}");
    ends_with(config(&plan, &["get", "gateway..x"], b""), 64);
    assert_eq!(
        ends_with(config(&plan, &["path"], b""), 0),
        format!("{}\n", plan.config().display())
    );
}

#[test]
fn no_command_shows_a_secret() {
    let plan = plan();
    let with = |secret: &str, port: u16| {
        format!(
            "{{ // QZXcomment\n gateway: {{mode: 'local', port: {port}, auth: {{token: '{secret}'}}}},\
             env: {{ANY: '{secret}'}}, list: ['sk-{secret}'], args: ['--token', '{secret}'],\
             url: 'https://u:{secret}@h/?token={secret}', 'ghp_{secret}': 1}}"
        )
    };
    let mut said = String::new();
    let (one, two) = (with("QZXone", 1), with("QZXtwo", 2));
    for text_in in [&one, &two] {
        // The rules refuse a port of the gateway that nobody reaches; that is not the point here.
        said += &ends_with(config(&plan, &["put", "--force"], text_in.as_bytes()), 0);
    }
    for args in [
        &["get"][..],
        &["get", "--json"],
        &["get", "gateway.auth.token"],
        &["get", "env"],
        &["get", "nothing.there"],
        &["diff"],
        &["diff", "1"],
        &["diff", "1", "2"],
        &["history"],
        &["history", "--json"],
        &["validate"],
        &["rollback", "--force"],
        &["rollback", "--dry-run"],
    ] {
        said += &text(&config(&plan, args, b""));
    }
    let broken = two.replace("args:", "args");
    said += &text(&config(&plan, &["put"], broken.as_bytes()));
    assert!(
        said.contains("***") && said.contains("gateway.port"),
        "{said}"
    );
    assert!(!said.contains("QZX"), "{said}");
    assert!(!said.contains(&plan.file("state/clawkeeper/config/0").display().to_string()));
}

#[test]
fn diff_compares_what_is_asked_for() {
    let plan = plan();
    ends_with(config(&plan, &["diff"], b""), 66);
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    let third = SECOND.replace("3000", "4000");
    ends_with(config(&plan, &["put", "--force"], third.as_bytes()), 0);
    let said = |args: &[&str]| ends_with(config(&plan, args, b""), 0);
    assert!(said(&["diff"]).contains("~ gateway.port: 3000 -> 4000"));
    assert!(said(&["diff", "1"]).contains("+ gateway.port: 4000"));
    assert!(said(&["diff", "2", "1"]).contains("- gateway.port: 3000"));
    assert!(said(&["diff", "2", "2"]).contains("the same"));
    ends_with(config(&plan, &["diff", "77"], b""), 66);
    ends_with(config(&plan, &["rollback", "77"], b""), 66);
    // A broken edit that was replaced is a version as well.
    fs::write(plan.file("state/openclaw.json"), "{ gateway: ").expect("our file");
    let fourth = SECOND.replace("3000", "5000");
    ends_with(config(&plan, &["put", "--force"], fourth.as_bytes()), 0);
    let said = ends_with(config(&plan, &["diff"], b""), 0);
    assert!(
        said.contains("4000 -> 5000") || said.contains("3000 -> 5000"),
        "{said}"
    );
}

/// Runs `config edit` with a line of shell for an editor; `$1` is the file.
fn edit(plan: &Plan, args: &[&str], editor: &str) -> Output {
    let mut command = Command::new(clawkeeper());
    plan.surround(&mut command)
        .env("EDITOR", format!("sh -c '{editor}' editor"));
    finish(&mut command, &[&["edit"], args].concat(), b"")
}

#[test]
fn edit_applies_what_is_good_and_keeps_the_draft_of_what_is_not() {
    let plan = plan();
    let good = "sed -i s/first/edited/ \"$1\"";
    ends_with(edit(&plan, &[], good), 0);
    assert_eq!(content(&plan), FIRST.replace("first", "edited"));
    let edited = content(&plan);
    let said = ends_with(edit(&plan, &[], "sed -i s/gateway:/gateway/ \"$1\""), 2);
    assert!(said.contains("the draft is kept"), "{said}");
    assert_eq!(content(&plan), edited);
    // The next edit goes on where the last one was refused.
    let said = ends_with(
        edit(
            &plan,
            &[],
            "sed -i \"s/gateway /gateway: /;s/edited/mended/\" \"$1\"",
        ),
        0,
    );
    assert!(said.contains("going on with the draft"), "{said}");
    assert_eq!(content(&plan), edited.replace("edited", "mended"));
    let unchanged = ends_with(edit(&plan, &[], "true"), 0);
    assert!(
        unchanged.contains("unchanged") && !unchanged.contains("draft"),
        "{unchanged}"
    );
    // And not when it is thrown away.
    ends_with(edit(&plan, &[], "echo { > \"$1\""), 2);
    ends_with(edit(&plan, &["--discard"], "grep -q mended \"$1\""), 0);
    let left: Vec<_> = fs::read_dir(plan.file("."))
        .expect("listed")
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("edit")),
        "no copy is left: {left:?}"
    );
}

#[test]
fn edit_overwrites_nothing_that_came_meanwhile() {
    let plan = plan();
    let config_path = plan.config().display().to_string();
    let meanwhile = format!(
        "sed -i s/first/mine/ \"$1\"; echo \"{{gateway: {{mode: 1}}}}\" > \"{config_path}\""
    );
    let said = ends_with(edit(&plan, &[], &meanwhile), 2);
    assert!(said.contains("somebody else"), "{said}");
    assert!(said.contains("the draft is kept"), "{said}");
    assert_eq!(content(&plan), "{gateway: {mode: 1}}\n");
}

#[test]
fn an_editor_that_fails_or_is_missing_changes_nothing() {
    let plan = plan();
    for (editor, code) in [("exit 3", 2), ("exit 127", 127)] {
        let said = ends_with(
            edit(&plan, &[], &format!("echo {{ > \"$1\"; {editor}")),
            code,
        );
        assert!(said.contains("nothing was changed"), "{said}");
        assert_eq!(content(&plan), FIRST);
    }
    let mut command = Command::new(clawkeeper());
    let none = plan.surround(&mut command).env("PATH", "/nonexistent");
    let said = ends_with(finish(none, &["edit"], b""), 127);
    assert!(said.contains("set EDITOR"), "{said}");
}

#[test]
fn what_root_writes_is_the_gateways_and_what_root_keeps_is_not() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root");
    }
    let plan = plan();
    chown(plan.state(), Some(1000), Some(1000)).expect("given away");
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    let of = |path: &Path| {
        let about = fs::metadata(path).expect("there");
        (about.uid(), about.gid(), about.mode() & 0o777)
    };
    assert_eq!(of(&plan.config()), (1000, 1000, 0o600));
    assert_eq!(of(&plan.state().join("clawkeeper/config")), (0, 0, 0o700));
}

#[test]
fn the_gateways_own_user_can_use_every_command() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return skip("needs root and setpriv");
    }
    let plan = plan().programs_for_everybody();
    let home = plan.file(".");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).expect("ours");
    for path in [plan.state(), plan.config()] {
        chown(path, Some(1000), Some(1000)).expect("given away");
    }
    let as_1000 = |args: &[&str], stdin: &[u8]| {
        let mut command = Command::new("/usr/bin/setpriv");
        plan.surround(&mut command);
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        command.arg(plan.file("clawkeeper"));
        finish(&mut command, args, stdin)
    };
    ends_with(as_1000(&["put"], SECOND.as_bytes()), 0);
    assert_eq!(content(&plan), SECOND);
    ends_with(as_1000(&["history"], b""), 0);
    ends_with(as_1000(&["rollback"], b""), 0);
    assert_eq!(content(&plan), FIRST);
    // Root has kept versions of its own; each finds its own, and neither is in the other's way.
    ends_with(config(&plan, &["put"], SECOND.as_bytes()), 0);
    ends_with(as_1000(&["put"], FIRST.as_bytes()), 0);
    assert_eq!(content(&plan), FIRST);
}

#[test]
fn a_bare_shell_beside_a_running_clawkeeper_finds_its_config() {
    let plan = Plan::new(Place::Pid1).env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken");
    let kept = plan.start();
    kept.wait_until_ready();
    let out = plan.file("out");
    let line = |command: &str| {
        format!(
            "cd / && printf '%s' '{SECOND}' | env -i PATH=/usr/bin:/bin {} config {command} > '{}' 2>&1",
            clawkeeper().display(),
            out.display()
        )
    };
    kept.enter(&line("path"));
    let said = fs::read_to_string(&out).expect("its output");
    assert_eq!(said, format!("{}\n", plan.config().display()));
    let second_without_quotes = SECOND.replace('\'', "");
    let put = line("put").replace(SECOND, &second_without_quotes);
    kept.enter(&put);
    assert_eq!(content(&plan), second_without_quotes);
    let said = fs::read_to_string(&out).expect("its output");
    assert!(said.contains("clawkeeper (pid "), "{said}");
    kept.stop();
}
