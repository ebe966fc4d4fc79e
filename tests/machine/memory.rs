//! The memory of a whole machine, and of a group in it: the gateway is killed, clawkeeper lives, and says by whose word.

use super::site::{BOOT, Machine, REAL_BOOT, Site, field};

/// Takes all memory there is once, at its first boot.
const EATER: [&str; 8] = [
    "--end",
    "eat",
    "--end-after",
    "1500",
    "--only-first",
    "1",
    "--diary",
    "/data/diary",
];

/// Runs the eater, and returns what its machine printed until the gateway was ready again.
fn eat(memory: &str, cgroups: &str) -> Option<String> {
    let site = Site::with_fake_gateway(&EATER)?
        .option("--memory", memory)
        .option("--cgroups", cgroups)
        // Otherwise it may be restarted in time.
        .option("--env", "CLAWKEEPER_MEMORY_RESTART=off");
    let mut machine = site.boot();
    machine.wait_for(BOOT, "the eater's start", |log| {
        log.contains("gateway ready")
    });
    let log = machine.wait_until_ready(BOOT, 2);
    assert_clawkeeper_lived(&machine, &log);
    Some(log)
}

/// The first and only one is there.
fn assert_clawkeeper_lived(machine: &Machine, log: &str) {
    let (pid, _) = machine.run("cat /run/main.pid");
    let (alive, code) = machine.run(&format!("cat /proc/{}/comm", pid.trim()));
    assert_eq!((alive.trim(), code), ("clawkeeper", 0), "{log}");
    assert_eq!(log.matches("clawkeeper starts").count(), 1, "{log}");
}

#[test]
fn a_machine_out_of_memory_loses_the_gateway_and_gets_it_back() {
    // As Fly mounts them, and without any.
    for cgroups in ["fly", "none"] {
        let Some(log) = eat("256", cgroups) else {
            return;
        };
        assert_eq!(
            field(&log, "gateway exited", "class"),
            Some("oom-kernel"),
            "{cgroups}: {log}"
        );
        let evidence = field(&log, "gateway exited", "evidence").unwrap_or_default();
        assert!(
            evidence.contains("out of the machine's memory"),
            "{evidence}"
        );
        let limit = field(&log, "clawkeeper starts", "memory_limit_from");
        assert_eq!(limit, Some("machine"), "{log}");
    }
}

#[test]
fn a_cgroup_v2_out_of_memory_is_told_by_its_own_counter() {
    let Some(log) = eat("512", "v2=160") else {
        return;
    };
    assert_eq!(
        field(&log, "gateway exited", "class"),
        Some("oom-kernel"),
        "{log}"
    );
    let evidence = field(&log, "gateway exited", "evidence").unwrap_or_default();
    assert!(evidence.contains("memory.events"), "{evidence}");
    let limit = field(&log, "clawkeeper starts", "memory_limit_from");
    assert_eq!(limit, Some("cgroup v2"), "{log}");
}

#[test]
fn a_leak_is_drained_and_started_anew_before_the_kernel_kills_it_on_a_machine_and_in_a_cgroup_v2() {
    // So many KiB a second fill what there is within two minutes, and a leak is seen after one.
    for (memory, cgroups, limit_from) in
        [("320", "none", "machine"), ("512", "v2=200", "cgroup v2")]
    {
        let leak = [
            "--leak",
            "1300",
            "--leak-in-boot",
            "1",
            "--diary",
            "/data/diary",
        ];
        let Some(site) = Site::with_fake_gateway(&leak) else {
            return;
        };
        let site = site
            .option("--memory", memory)
            .option("--cgroups", cgroups)
            .option("--clock", "leaping")
            .option("--env", "CLAWKEEPER_STOP_TIMEOUT=10s");
        let mut machine = site.boot();
        let log = machine.wait_until_ready(BOOT, 2);
        let restarts = "the gateway leaks and is restarted, drained, before the kernel kills it";
        assert_eq!(log.matches(restarts).count(), 1, "{cgroups}: {log}");
        assert_eq!(
            field(&log, restarts, "limit_from"),
            Some(limit_from),
            "{log}"
        );
        let cause = field(&log, "gateway exited", "cause");
        assert_eq!(cause, Some("memory"), "{cgroups}: {log}");
        let (diary, _) = machine.run("cat /data/diary");
        assert_eq!(
            diary.matches("drained").count(),
            1,
            "nothing was cut off: {diary}"
        );
    }
}

/// Takes all memory there is once, at the first boot: loaded by Node before the gateway's own code.
const EATER_IN_NODE: &str = "\
const fs = require('node:fs');
if (!fs.existsSync('/data/eaten')) {
    fs.writeFileSync('/data/eaten', '');
    const kept = [];
    setInterval(() => kept.push(Buffer.alloc(32 << 20, 1)), 50);
}
";

#[test]
#[ignore = "an emulated processor takes minutes for the real gateway: cargo test --test machine -- --ignored"]
fn a_machine_that_the_real_gateway_fills_is_told_of_and_gets_it_back() {
    let Some(site) = Site::with_real_gateway() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let eater = folder.path().join("eater.cjs");
    std::fs::write(&eater, EATER_IN_NODE).expect("our file");
    let site = site
        .option("--memory", "1024")
        .option("--add", &eater.display().to_string())
        .option("--env", "NODE_OPTIONS=--require /run/eater.cjs");
    let mut machine = site.boot();
    let log = machine.wait_for(REAL_BOOT, "the start after the death", |log| {
        log.matches("gateway started").count() > 1
    });
    assert_clawkeeper_lived(&machine, &log);
    let of = |name| field(&log, "gateway exited", name).unwrap_or_default();
    assert_eq!(of("class"), "oom-kernel", "{log}");
    assert!(
        of("evidence").contains("out of the machine's memory"),
        "{log}"
    );
    assert!(of("fix").contains("--vm-memory 2048"), "{log}");
}

#[test]
#[ignore = "an emulated processor takes minutes for the real gateway: cargo test --test machine -- --ignored"]
fn a_machine_too_small_for_the_real_gateway_is_told_of_while_it_starts_and_when_that_is_given_up() {
    let Some(site) = Site::with_real_gateway() else {
        return;
    };
    // It is not killed: it reads its program over and over, and is given up after four times as long.
    let site = site
        .option("--memory", "280")
        .option("--env", "CLAWKEEPER_STARTUP_TIMEOUT=30s");
    let mut machine = site.boot();
    let given_up = "restarting the gateway: it was not ready in time";
    let log = machine.wait_for(REAL_BOOT, "the end of a start", |log| {
        log.contains(given_up)
    });
    assert_clawkeeper_lived(&machine, &log);
    for told in ["gateway still starting", given_up] {
        let of = |name| field(&log, told, name).unwrap_or_default();
        assert!(of("why").starts_with("memory is short"), "{told}: {log}");
        assert!(of("fix").contains("--vm-memory 2048"), "{told}: {log}");
    }
}
