//! Alerts end to end: what the command of `--on-event` gets, what it is, and that no fault of its is the gateway's.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes, write files and read the clock"
)]

mod support;

use clawkeeper::host::hook::POSTER;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::cgroup::Cgroup;
use support::keeper::{A_WHILE, CONFIG, Kept, Plan};
use support::{PATIENCE, Place, poll_until, real, skip};

/// What must be seen nowhere but in the command's own environment.
const SECRET: &str = "https://hooks.invalid/services/T0/B0/dGhpcyBpcyBhIHNlY3JldA";

/// The command's time is 20 s, and a gateway that is back has served for a minute.
const LONG: Duration = Duration::from_secs(120);

const NOT_DELIVERED: &str = "an alert was not delivered";

/// Writes the alert into a file, whole lines only.
const KEEP: &str = "cat >> \"$CLAWKEEPER_ALERT_OUT\"";

/// A plan with a shell script as its command.
fn told(plan: Plan, script: &str) -> Plan {
    let (hook, out) = (plan.file("hook.sh"), plan.file("alerts"));
    fs::write(&hook, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::write(&out, "").expect("a file");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).expect("for everybody");
    plan.env("CLAWKEEPER_ON_EVENT", hook.to_str().expect("text"))
        .env("CLAWKEEPER_ALERT_OUT", out.to_str().expect("text"))
        .env("CLAWKEEPER_ALERT_WEBHOOK", SECRET)
}

fn alerts(plan: &Plan) -> Vec<Value> {
    let text = fs::read_to_string(plan.file("alerts")).expect("the file");
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// Waits for the n-th alert.
fn wait_for(n: usize, patience: Duration, plan: &Plan, kept: &Kept) -> Value {
    poll_until(patience, "an alert", || {
        let mut all = alerts(plan);
        if all.len() >= n {
            Ok(all.swap_remove(n - 1))
        } else {
            Err((all, kept.text()))
        }
    })
}

fn crashing(place: Place) -> Plan {
    Plan::new(place)
        .options(["--backoff-min", "50ms", "--backoff-max", "200ms"])
        .gateway(["--end", "exit:1", "--end-after", "20"])
}

#[test]
fn a_hold_is_told_once_over_a_restart_of_the_container_and_so_is_its_end() {
    let plan = told(Plan::new(Place::Pid1), KEEP);
    plan.write_config("{");
    let kept = plan.start();
    let why = kept.wait_until_held();
    let alert = wait_for(1, PATIENCE, &plan, &kept);
    assert_eq!(
        (&alert["v"], &alert["kind"]),
        (&1.into(), &"trouble".into())
    );
    assert_eq!(alert["trouble"], "held");
    let (before_the_config, _) = why.split_once(" | ").expect("a line of it");
    assert_eq!(
        alert["lines"][0]["why"], *before_the_config,
        "as in the log"
    );
    assert_eq!(alert["fix"], alert["lines"][0]["fix"]);
    let noted = plan.state().join("clawkeeper/alerts");
    poll_until(PATIENCE, "the note", || {
        fs::read_to_string(&noted)
            .ok()
            .filter(|text| text.starts_with("told held "))
            .ok_or(())
    });
    kept.stop();

    let kept = plan.start();
    kept.wait_until_held();
    plan.write_config(CONFIG);
    kept.wait_until_ready();
    let back = wait_for(2, LONG, &plan, &kept);
    assert_eq!(back["kind"], "back", "the hold had been told: {back}");
    assert_eq!(back["incidents"][0]["id"], alert["incidents"][0]["id"]);
    assert_eq!(back["incidents"][0]["count"], 2);
    kept.stop();
    assert_eq!(alerts(&plan).len(), 2);
}

#[test]
fn a_crash_loop_is_told_once_and_no_secret_leaves_the_command() {
    let plan = told(
        crashing(Place::Subreaper).env("OPENCLAW_GATEWAY_TOKEN", "a-token-for-this-test"),
        &format!("{KEEP}; env > \"$CLAWKEEPER_ALERT_OUT.env\"; echo \"cannot post to $CLAWKEEPER_ALERT_WEBHOOK\" >&2; exit 1"),
    )
    .gateway(["--only-first", "6"]);
    let kept = plan.start();
    let alert = wait_for(1, PATIENCE, &plan, &kept);
    assert_eq!(alert["trouble"], "crash-loop");
    assert_eq!(alert["lines"][0]["class"], "crash");
    assert_eq!(alert["lines"][1]["crashes_in_a_row"], "3");
    let failed = kept.wait_for(NOT_DELIVERED);
    let why = failed["why"].as_str().expect("a reason");
    assert!(why.contains("cannot post to ***"), "{why}");
    kept.wait_until_boot_is_ready(7);
    assert_eq!(alerts(&plan).len(), 1, "{}", kept.text());

    let own = fs::read_to_string(plan.file("alerts.env")).expect("its environment");
    assert!(own.contains(SECRET), "it has what it needs");
    assert!(
        !own.contains("a-token-for-this-test"),
        "and no key of the gateway"
    );
    assert!(
        !own.contains("CLAWKEEPER_GATEWAY="),
        "it is none of its processes"
    );
    let gateway = fs::read(format!("/proc/{}/environ", kept.gateway_pid())).expect("environ");
    assert!(!String::from_utf8_lossy(&gateway).contains("CLAWKEEPER_ALERT"));
    let ended = kept.stop();
    assert!(!ended.text.contains(SECRET), "{}", ended.text);
    assert_no_secret_below(&plan.state());
}

fn assert_no_secret_below(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_no_secret_below(&path);
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !text.contains("dGhpcyBpcyBhIHNlY3JldA"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_kernel_oom_kill_is_told_with_its_evidence_and_the_command_that_mends_it() {
    let Some(group) = Cgroup::new(96 << 20) else {
        return skip("no memory cgroup can be made here");
    };
    let plan = told(
        Plan::new(Place::Subreaper)
            .prepare(&group.enter())
            .env("FLY_MACHINE_ID", "3d8d9014b32d68")
            .env("FLY_APP_NAME", "app")
            .env("FLY_REGION", "iad")
            .env("FLY_VM_MEMORY_MB", "512")
            .env("OPENCLAW_GATEWAY_TOKEN", "a-token-for-this-test")
            .gateway(["--end", "eat", "--end-after", "100", "--only-first", "1"]),
        KEEP,
    );
    let kept = plan.start();
    // In so small a place the command waits for room, in vain, before it is run all the same.
    let alert = wait_for(1, LONG, &plan, &kept);
    assert_eq!(alert["trouble"], "out-of-memory");
    assert_eq!(alert["title"], "the gateway ran out of memory");
    let line = kept.wait_for("gateway exited");
    for field in ["class", "evidence", "limit", "pid", "uptime"] {
        assert_eq!(
            alert["lines"][0][field], line[field],
            "{field}: as in the log"
        );
    }
    let fix = alert["fix"].as_str().expect("a fix");
    assert!(
        fix.starts_with("fly machine update 3d8d9014b32d68"),
        "{fix}"
    );
    assert_eq!(
        (&alert["app"], &alert["region"]),
        (&"app".into(), &"iad".into())
    );
    kept.wait_until_boot_is_ready(2);
    kept.stop();
}

#[test]
fn a_command_that_hangs_is_killed_with_its_group_and_the_next_alert_gets_its_turn() {
    let script = "read -r line; echo \"$line\" >> \"$CLAWKEEPER_ALERT_OUT\"
sleep 1000 & echo $! >> \"$CLAWKEEPER_ALERT_OUT.pids\"; wait";
    let plan = told(crashing(Place::Pid1), script);
    let kept = plan.start();
    wait_for(1, PATIENCE, &plan, &kept);
    // While it hangs: a second trouble. A broken config holds the next start.
    plan.write_config("{");
    kept.wait_until_held();
    let failed = poll_until(LONG, "its end", || {
        let mut log = kept.log();
        let found = log.iter().position(|line| line["message"] == NOT_DELIVERED);
        found.map(|at| log.swap_remove(at)).ok_or(())
    });
    assert!(
        failed["why"]
            .as_str()
            .is_some_and(|why| why.contains("was killed"))
    );
    let second = wait_for(2, PATIENCE, &plan, &kept);
    assert_eq!(second["trouble"], "held");
    let sleepers = poll_until(PATIENCE, "the second one's child", || {
        let text = fs::read_to_string(plan.file("alerts.pids")).unwrap_or_default();
        let pids: Vec<_> = text.lines().map(str::to_owned).collect();
        if pids.len() == 2 { Ok(pids) } else { Err(pids) }
    });
    // The first one's child is gone; the second one's runs, and ends with clawkeeper.
    kept.enter(&format!("! kill -0 {}", sleepers[0]));
    kept.enter(&format!("kill -0 {}", sleepers[1]));
    kept.stop();
}

#[test]
fn a_command_that_fails_is_said_once() {
    let plan = told(crashing(Place::Subreaper), &format!("{KEEP}; exit 3"));
    let kept = plan.start();
    wait_for(1, PATIENCE, &plan, &kept);
    let failed = kept.wait_for(NOT_DELIVERED);
    let why = failed["why"].as_str().expect("a reason");
    assert!(why.contains("exit status: 3"), "{why}");
    plan.write_config("{");
    kept.wait_until_held();
    wait_for(2, PATIENCE, &plan, &kept);
    poll_until(PATIENCE, "the second one's end", || {
        let children = kept.children();
        if children.is_empty() {
            Ok(())
        } else {
            Err(children)
        }
    });
    std::thread::sleep(A_WHILE);
    let ended = kept.stop();
    assert_eq!(ended.lines(NOT_DELIVERED).len(), 1, "{}", ended.text);
    assert_eq!(ended.status, "exit 0");
}

#[test]
fn a_command_that_leaves_a_daemon_or_says_a_gigabyte_costs_the_gateway_nothing() {
    let script = format!(
        "{KEEP}
setsid sleep 1000 > /dev/null < /dev/null & echo $! > \"$CLAWKEEPER_ALERT_OUT.daemon\"
head -c 1000000000 /dev/zero
head -c 1000000000 /dev/zero >&2
echo done > \"$CLAWKEEPER_ALERT_OUT.done\"
exit 1"
    );
    let plan = told(
        crashing(Place::Subreaper).gateway(["--only-first", "4"]),
        &script,
    );
    let kept = plan.start();
    wait_for(1, PATIENCE, &plan, &kept);
    kept.wait_for(NOT_DELIVERED);
    kept.wait_until_boot_is_ready(5);
    let done = fs::read_to_string(plan.file("alerts.done")).expect("it came to its end");
    assert_eq!(done, "done\n");
    let status = fs::read_to_string(format!("/proc/{}/status", kept.pid())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .and_then(|it| it.split_whitespace().next()?.parse().ok())
        .expect("a size in kB");
    assert!(peak < 64 * 1024, "{peak} kB");
    let daemon = fs::read_to_string(plan.file("alerts.daemon")).expect("its pid");
    let daemon = format!("/proc/{}", daemon.trim());
    assert!(Path::new(&daemon).exists(), "it may live");
    let ended = kept.stop();
    assert!(!Path::new(&daemon).exists(), "until clawkeeper ends");
    assert!(
        ended.text.len() < 100_000,
        "{} bytes of log",
        ended.text.len()
    );
}

#[test]
fn it_runs_as_the_gateways_user_and_outlives_the_end_of_the_gateways_processes() {
    // In most containers root cannot read another user's environment. Without one to read, the command could by its user
    // alone be taken for a helper of the gateway, which crashes on meanwhile.
    let script = "{ id -u; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj; ls -l /proc/self/fd; } > \"$CLAWKEEPER_ALERT_OUT.who\"
exec env -i /bin/sh -c \"until test -e '$CLAWKEEPER_ALERT_OUT.go'; do sleep 0.05; done; cat >> '$CLAWKEEPER_ALERT_OUT'\"";
    let plan = crashing(Place::Subreaper)
        .options(["--user", "65534:65534"])
        .programs_for_everybody();
    fs::set_permissions(plan.file(""), fs::Permissions::from_mode(0o755)).expect("a way in");
    for name in ["diary", "alerts.who"] {
        fs::write(plan.file(name), "").expect("a file");
        let mode = fs::Permissions::from_mode(0o666);
        fs::set_permissions(plan.file(name), mode).expect("for everybody");
    }
    let plan = told(plan, script);
    let kept = plan.start();
    // What each of these left behind was ended while the command ran.
    kept.wait_for_note("boot", 6);
    fs::write(plan.file("alerts.go"), "").expect("a file");
    wait_for(1, PATIENCE, &plan, &kept);
    let who = fs::read_to_string(plan.file("alerts.who")).expect("who it was");
    let lines: Vec<_> = who.lines().collect();
    assert_eq!(lines[..3], ["65534", "NoNewPrivs:\t1", "1000"]);
    let ours = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
    let ours = String::from_utf8(ours.expect("ls").stdout).expect("text");
    for entry in &lines[3..] {
        let Some((before, target)) = entry.split_once(" -> ") else {
            continue;
        };
        let is_stdio = [" 0", " 1", " 2"].iter().any(|it| before.ends_with(it));
        // What this test was started with, every process below it has.
        let is_known = target.starts_with("/proc/") || ours.contains(target);
        assert!(is_stdio || is_known, "{entry} of clawkeeper's");
    }
    let ended = kept.stop();
    assert!(ended.lines(NOT_DELIVERED).is_empty(), "{}", ended.text);
}

#[test]
fn a_stop_does_not_wait_for_a_command_that_runs() {
    let plan = told(crashing(Place::Pid1), &format!("{KEEP}; exec sleep 1000"));
    let kept = plan.start();
    wait_for(1, PATIENCE, &plan, &kept);
    let ended = kept.stop();
    assert_eq!(ended.status, "exit 0");
    assert!(ended.lines(NOT_DELIVERED).is_empty(), "an end is no alert");
}

#[test]
fn a_command_that_cannot_run_is_said_at_the_start_and_by_check_and_the_gateway_runs() {
    let plan = told(Plan::new(Place::Subreaper), KEEP);
    let hook = plan.file("hook.sh");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o644)).expect("not executable");
    for (setting, said) in [
        (hook.to_str().expect("text"), "cannot be executed"),
        ("/nowhere/at-all", "is not found"),
        ("curl https://x | sh", "put it into a script"),
        (
            "auto",
            "there is no /usr/local/lib/clawkeeper/post-alert.mjs",
        ),
    ] {
        let plan = plan.clone().env("CLAWKEEPER_ON_EVENT", setting);
        let kept = plan.start();
        kept.wait_until_ready();
        let line = kept.wait_for("alerts cannot go out");
        assert!(
            line["why"].as_str().is_some_and(|why| why.contains(said)),
            "{line}"
        );
        kept.stop();
        let check = plan.ask(["check", "node", "dist/index.js", "gateway"]);
        let text = String::from_utf8(check.stdout).expect("text");
        assert!(text.contains(said), "{text}");
        let tested = plan.ask(["test-alert"]);
        assert_eq!(tested.status.code(), Some(1));
    }
    let off = plan.clone().env("CLAWKEEPER_ON_EVENT", "off");
    let kept = off.start();
    kept.wait_until_ready();
    assert!(kept.stop().lines("alerts cannot go out").is_empty());
}

#[test]
fn a_test_goes_the_way_of_an_alert() {
    let plan = told(
        Plan::new(Place::Subreaper),
        &format!("{KEEP}; exit ${{CODE:-0}}"),
    );
    let output = plan.ask(["test-alert"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let all = alerts(&plan);
    assert_eq!((all.len(), &all[0]["kind"]), (1, &"test".into()));
    let plan = told(plan, "echo 'the service said no' >&2; exit 4");
    let output = plan.ask(["test-alert"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(
        said.contains("the service said no") && said.contains("it ended with 4"),
        "{said}"
    );
    let none = Plan::new(Place::Subreaper).ask(["test-alert"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("nobody is told"));
}

/// The Node of the real gateways, or any.
fn node() -> PathBuf {
    let installed = real::cache_folder().join("gateways/node-24/node_modules/node/bin/node");
    if installed.exists() {
        installed
    } else {
        "node".into()
    }
}

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_images_poster_passes_its_own_tests() {
    let output = Command::new(node())
        .args(["--test", "tests/alert_poster/post-alert.test.mjs"])
        .current_dir(CHECKOUT)
        // Set by a test runner for those that it starts itself.
        .env_remove("NODE_TEST_CONTEXT")
        .output();
    let Ok(output) = output else {
        return skip("there is no node here");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("pass 0"), "{said}");
}

#[test]
fn the_documents_the_image_and_the_poster_name_the_same_things() {
    let read = |name: &str| fs::read_to_string(Path::new(CHECKOUT).join(name)).expect("a file");
    let poster = read("docker/post-alert.mjs");
    let names = |text: &str| -> BTreeSet<String> {
        let after = text.split("CLAWKEEPER_ALERT_").skip(1);
        let is_name = |letter: char| letter.is_ascii_uppercase() || letter == '_';
        let names = after.map(|rest| rest.chars().take_while(|it| is_name(*it)).collect());
        names.filter(|name: &String| !name.is_empty()).collect()
    };
    let known = poster.split_once("const SETTINGS = [").expect("its list").1;
    let known = known.split_once(']').expect("its end").0;
    let known: BTreeSet<_> = known
        .split('"')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect();
    assert_eq!(names(&read("docs/alerts.md")), known);
    for file in ["docs/fly.md", "docker/gateway.env.example"] {
        let named = names(&read(file));
        assert!(
            !named.is_empty() && named.is_subset(&known),
            "{file}: {named:?}"
        );
    }
    let (folder, name) = POSTER.rsplit_once('/').expect("a path");
    for file in ["docker/Dockerfile", "docker/official.Dockerfile"] {
        let copied = format!("docker/{name} {folder}/");
        assert!(read(file).contains(&copied), "{file}");
    }
}

/// Takes one request of HTTP, answers 204, and returns all that was sent.
fn serve_once(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).expect("bytes");
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            length.is_some_and(|length: usize| body.len() >= length)
        });
        if whole || count == 0 {
            let answer = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).expect("an answer");
            return text.into_owned();
        }
    }
}

#[test]
fn a_hold_reaches_discord_through_the_images_poster() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let webhook = format!("http://{address}/api/webhooks/1/a-secret-17");
    let node = node();
    if Command::new(&node).arg("--version").output().is_err() {
        return skip("there is no node here");
    }
    let command = format!("{} {CHECKOUT}/docker/post-alert.mjs", node.display());
    let plan = Plan::new(Place::Subreaper)
        .env("CLAWKEEPER_ON_EVENT", &command)
        .env("CLAWKEEPER_ALERT_DISCORD_WEBHOOK", &webhook);
    plan.write_config("{");
    let (sender, sent) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(serve_once(&listener)));
    let kept = plan.start();
    let request = sent.recv_timeout(PATIENCE).expect("a message");
    assert!(
        request.starts_with("POST /api/webhooks/1/a-secret-17 "),
        "{request}"
    );
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let embed = &body["embeds"][0];
    assert!(
        embed["title"]
            .as_str()
            .is_some_and(|title| title.contains("holding"))
    );
    assert!(
        embed["description"]
            .as_str()
            .is_some_and(|text| text.contains("openclaw.json"))
    );
    let ended = kept.stop();
    assert!(ended.lines(NOT_DELIVERED).is_empty() && !ended.text.contains("a-secret-17"));
}
