//! Memory runs out: in a cgroup, in V8's heap, beside the gateway, and at somebody else's. On the fake gateway.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes, write files and read the clock"
)]

mod support;

use nix::libc;
use serde_json::Value;
use std::fs;
use support::cgroup::{Cgroup, killed_at_us};
use support::health::Listener;
use support::keeper::{Kept, Plan};
use support::{Place, poll_until, skip};

const NO_CGROUP: &str = "no memory cgroup can be made here";

const EXITED: &str = "gateway exited";

/// What `clawkeeper incidents` lists, as JSON.
fn incidents(plan: &Plan) -> Vec<Value> {
    let output = plan.ask(["incidents", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("an array")
}

/// Waits until so many incidents are kept, and returns what `show` says of the newest.
fn newest_of(count: usize, kept: &Kept, plan: &Plan) -> Value {
    poll_until(support::PATIENCE, "the incident", || {
        let found = incidents(plan);
        if found.len() == count {
            Ok(())
        } else {
            Err((found, kept.text()))
        }
    });
    let output = plan.ask(["incidents", "show", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("an incident")
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field}: {line}"))
}

#[test]
fn a_kernel_oom_kill_is_told_with_the_kernels_own_count_and_log_and_kept() {
    let Some(group) = Cgroup::new(96 << 20) else {
        return skip(NO_CGROUP);
    };
    let listener = Listener::new();
    let plan = listener
        .on(Plan::new(Place::Subreaper))
        .prepare(&group.enter())
        .env("FLY_MACHINE_ID", "3d8d9014b32d68")
        .env("FLY_APP_NAME", "app")
        .env("FLY_VM_MEMORY_MB", "512")
        .env("OPENCLAW_GATEWAY_TOKEN", "a-token-for-this-test")
        .gateway(["--end", "eat", "--end-after", "100", "--only-first", "1"]);
    let kept = plan.start();
    let clawkeeper = kept.pid();
    kept.wait_until_boot_is_ready(2);
    let metrics = support::metrics::read(&listener.get("/metrics").body);
    let counted = "clawkeeper_gateway_restarts_total{class=\"oom-kernel\",cause=\"\"}";
    assert_eq!(metrics[counted], 1.0);
    let line = kept.wait_for(EXITED);
    assert_eq!(line["class"], "oom-kernel", "{line}");
    let evidence = text(&line, "evidence");
    let counted = format!("{} rose by 1", group.counter().display());
    assert!(evidence.contains(&counted), "{line}");
    let pid: i32 = text(&line, "pid").parse().expect("a pid");
    if killed_at_us(pid).is_some() {
        assert!(
            evidence.contains(&format!("/dev/kmsg: killed process {pid} (")),
            "{line}"
        );
    }
    assert!(
        text(&line, "fix").starts_with("fly machine update 3d8d9014b32d68 --vm-memory 2048"),
        "{line}"
    );
    let incident = newest_of(1, &kept, &plan);
    assert_eq!(incident["class"], "oom-kernel");
    assert_eq!(incident["pid"], pid);
    assert!(text(&incident, "line").contains(&counted));
    let output = incident["output"].as_array().expect("lines");
    assert!(output.iter().any(|it| {
        it.as_str()
            .is_some_and(|it| it.contains("loading configuration"))
    }));
    assert_eq!(kept.pid(), clawkeeper);
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["oom-kernel", "requested"]);
    assert_eq!(ended.line("clawkeeper starts")["memory_limit"], "96MB");
    let shown = plan.ask(["incidents", "show", "1"]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(
        shown.contains("rose by 1") && shown.contains("last"),
        "{shown}"
    );
}

#[test]
fn a_helper_that_the_kernel_kills_is_told_while_the_gateway_lives_on() {
    let Some(group) = Cgroup::new(96 << 20) else {
        return skip(NO_CGROUP);
    };
    let plan = Plan::new(Place::Subreaper)
        .prepare(&group.enter())
        .gateway(["--eating-helper", "500"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let gateway = kept.gateway_pid();
    let line = kept.wait_for_line("the helper's death", 1, |line| {
        line["class"] == "oom-beside"
    });
    assert_eq!(line["count"], "1", "{line}");
    assert!(text(&line, "evidence").contains("rose by 1"), "{line}");
    let incident = newest_of(1, &kept, &plan);
    assert_eq!(
        (&incident["class"], &incident["pid"]),
        (&"oom-beside".into(), &gateway.into())
    );
    assert_eq!(kept.gateway_pid(), gateway, "the gateway was left alone");
    // The helper's kill is told and done with: it does not explain another one.
    send(gateway, libc::SIGKILL);
    kept.wait_until_boot_is_ready(2);
    assert_eq!(kept.stop().classes(), ["signal", "requested"]);
}

#[test]
fn a_strangers_oom_kill_is_not_claimed_for_a_gateway_that_somebody_killed() {
    for place in [Place::Subreaper, Place::Pid1] {
        let (Some(theirs), Some(ours)) = (Cgroup::new(48 << 20), Cgroup::new(512 << 20)) else {
            return skip(NO_CGROUP);
        };
        let plan = Plan::new(place).prepare(&ours.enter());
        let kept = plan.start();
        kept.wait_until_ready();
        theirs.kill_a_stranger();
        send(kept.gateway_pid(), libc::SIGKILL);
        kept.wait_until_boot_is_ready(2);
        let line = kept.wait_for(EXITED);
        assert_eq!(line["class"], "signal", "{place:?}: {line}");
        assert!(
            text(&line, "evidence").contains("somebody sent it"),
            "{line}"
        );
        assert_eq!(kept.stop().classes(), ["signal", "requested"]);
    }
}

#[test]
fn a_stranger_in_our_own_cgroup_is_told_apart_by_the_kernels_log() {
    let Some(group) = Cgroup::new(96 << 20) else {
        return skip(NO_CGROUP);
    };
    let plan = Plan::new(Place::Subreaper).prepare(&group.enter());
    let kept = plan.start();
    kept.wait_until_ready();
    let gateway = kept.gateway_pid();
    group.kill_a_stranger();
    send(gateway, libc::SIGKILL);
    kept.wait_until_boot_is_ready(2);
    let line = kept.wait_for(EXITED);
    if killed_at_us(1).is_none() && fs::File::open("/dev/kmsg").is_err() {
        drop(kept.stop());
        return skip("the kernel's log cannot be read here");
    }
    assert_eq!(line["class"], "signal", "{line}");
    assert_eq!(kept.stop().classes(), ["signal", "requested"]);
}

#[test]
fn v8s_last_words_and_its_abort_are_a_heap_oom_even_after_a_flood() {
    for place in [Place::Pid1, Place::Subreaper] {
        let flags = [
            "--lines",
            "50000",
            "--end",
            "heap-oom",
            "--end-after",
            "1",
            "--only-first",
            "1",
        ];
        let plan = Plan::new(place).gateway(flags);
        let kept = plan.start();
        kept.wait_until_boot_is_ready(2);
        let line = kept.wait_for(EXITED);
        assert_eq!(
            (&line["class"], &line["signal"]),
            (&"oom-heap".into(), &"SIGABRT".into())
        );
        assert!(text(&line, "fix").contains("max-old-space-size"), "{line}");
        let incident = newest_of(1, &kept, &plan);
        assert_eq!(incident["class"], "oom-heap");
        let output = incident["output"].as_array().expect("lines");
        let has = |words: &str| {
            output
                .iter()
                .any(|it| it.as_str().is_some_and(|it| it.contains(words)))
        };
        assert!(
            has("FATAL ERROR: Reached heap limit") && has("Mark-Compact"),
            "{output:?}"
        );
        assert!(output.len() <= 200, "{}", output.len());
        kept.stop();
    }
}

#[test]
fn the_kernel_is_offered_the_gateway_and_its_helpers_before_clawkeeper() {
    let plan = Plan::new(Place::Subreaper).gateway(["--helper"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let helper = poll_until(support::PATIENCE, "the helper", || {
        plan.diary("helper").first().copied().ok_or(())
    });
    let of = |pid: i32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it runs");
        text.trim().parse().expect("a number")
    };
    let own = of(kept.pid());
    let offered = (own + 300).min(1_000);
    assert_eq!(of(kept.gateway_pid()), offered);
    assert_eq!(of(helper.0), offered, "in a session of its own");
    // The kernel counts what a process has besides: nothing as small as clawkeeper comes before those.
    let score = |pid: i32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score")).expect("it runs");
        text.trim().parse().expect("a number")
    };
    for process in [kept.gateway_pid(), helper.0] {
        assert!(score(process) > score(kept.pid()), "of {process}");
    }
    kept.stop();
}

#[test]
fn an_end_by_a_signal_is_no_oom_without_evidence() {
    for signal in ["9", "6", "11"] {
        let end = format!("signal:{signal}");
        let plan = Plan::new(Place::Pid1).gateway(["--end", &end, "--only-first", "1"]);
        let kept = plan.start();
        kept.wait_until_boot_is_ready(2);
        assert_eq!(
            kept.stop().classes(),
            ["signal", "requested"],
            "signal {signal}"
        );
    }
}

#[test]
fn on_a_volume_that_is_nearly_full_no_incident_is_kept_and_the_gateway_is_started_again() {
    let plan = Plan::new(Place::Pid1)
        .mounted("-t tmpfs -o size=20m tmpfs")
        .gateway(["--end", "signal:9", "--only-first", "1"]);
    let kept = plan.start();
    kept.wait_until_boot_is_ready(2);
    let line = kept.wait_for("incident not kept");
    assert!(text(&line, "why").contains("left to the gateway"), "{line}");
    let folder = kept.inside(&plan.state().join("clawkeeper/incidents"));
    assert!(!folder.exists(), "nothing was written");
    kept.stop();
}

#[test]
fn an_asked_for_stop_and_a_restart_request_leave_no_incident() {
    let plan = Plan::new(Place::Pid1).gateway(["--end", "exit:0", "--only-first", "1"]);
    let kept = plan.start();
    kept.wait_until_boot_is_ready(2);
    kept.stop();
    assert_eq!(incidents(&plan), [Value::Null; 0]);
    let text = plan.ask(["incidents"]);
    assert_eq!(String::from_utf8_lossy(&text.stdout), "no incidents\n");
    assert_eq!(plan.ask(["incidents", "show"]).status.code(), Some(66));
}

fn send(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
