//! The gateway in the image: started, killed with everything about it, started again, stopped.

use crate::container::{Container, LONG, Volume, image, podman, text};
use crate::support::{poll_until, real};

const TOKEN: &str = "OPENCLAW_GATEWAY_TOKEN=a-token-for-the-image-test";

#[test]
fn a_killed_container_comes_up_again_on_its_volume_and_stops_in_time() {
    let Some(image) = image() else { return };
    let _turn = real::Turn::wait(1);
    let volume = Volume::new();
    let mount = format!("{}:/data", volume.0);
    // Health checks of the engine need a service manager; the test asks for one itself.
    let options = [
        "--volume",
        &mount,
        "--env",
        TOKEN,
        "--health-interval=disable",
    ];
    let first = Container::start(&options, image, &[]);
    first.wait_until_ready();

    let processes = first.exec(&["sh", "-c", PROCESSES]);
    let pid_1 = processes.lines().find(|line| line.starts_with("1 "));
    assert!(
        pid_1.is_some_and(|line| line.ends_with("clawkeeper")),
        "{processes}"
    );
    // The gateway and its helpers: the image's own user, nothing to gain by a setuid program, no capability.
    let others: Vec<&str> = processes
        .lines()
        .filter(|line| !line.contains(" uid=0 "))
        .collect();
    // Itself, its spawn broker, its database worker.
    assert!(others.len() >= 3, "{processes}");
    for line in others {
        assert!(
            line.contains("uid=1000 nnp=1 cap=0000000000000000 "),
            "{processes}"
        );
    }
    assert!(first.exec(&["clawkeeper", "locks"]).contains(" is live"));
    assert!(
        first
            .exec(&["clawkeeper", "config", "validate"])
            .contains("can start")
    );
    let checked = first.exec(&["clawkeeper", "check"]);
    assert!(checked.contains("the gateway runs: pid "), "{checked}");
    // The console's own command line finds the gateway's port, and its token, without being told.
    let devices = first.exec(&["openclaw", "devices", "list"]);
    assert!(devices.contains("pairing"), "{devices}");
    first.exec(&["sh", "-c", "echo kept >/data/mark"]);
    let checked = podman(&["healthcheck", "run", &first.inspect("{{.Name}}")]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));

    first.kill();
    // The same pids, the same volume, and every lock of the gateway that was killed.
    first.start_again();
    poll_until(LONG, "the second start", || {
        let logs = first.logs();
        let starts = logs.matches("clawkeeper starts").count();
        if starts == 2 { Ok(()) } else { Err(logs) }
    });
    first.wait_until_ready();
    assert!(
        first
            .line("stale lock cleared")
            .contains("/data/tmp/openclaw-1000/gateway.state.lock")
    );
    assert_eq!(first.exec(&["cat", "/data/mark"]), "kept");
    assert_eq!(first.stop(LONG), "0", "{}", first.logs());
    assert!(first.line("gateway exited").contains("class=requested"));
}

#[test]
fn all_of_it_runs_as_uid_1000_on_a_read_only_root_without_capabilities() {
    let Some(image) = image() else { return };
    let _turn = real::Turn::wait(1);
    let volume = Volume::new();
    let mount = format!("{}:/data", volume.0);
    let options = [
        "--user",
        "1000:1000",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--volume",
        &mount,
        "--env",
        TOKEN,
        "--health-interval=disable",
    ];
    let container = Container::start(&options, image, &[]);
    container.wait_until_ready();
    let processes = container.exec(&["sh", "-c", PROCESSES]);
    assert!(
        processes
            .lines()
            .all(|line| line.contains("uid=1000 nnp=1 cap=0000000000000000 ")),
        "{processes}"
    );
    assert!(text(&container.try_exec(&["clawkeeper", "check"]).stdout).contains("ok    volume"));
    assert_eq!(container.stop(LONG), "0", "{}", container.logs());
}

#[test]
fn root_without_capabilities_is_told_to_be_the_gateways_user() {
    let Some(image) = image() else { return };
    let options = [
        "--cap-drop",
        "ALL",
        "--env",
        TOKEN,
        "--health-interval=disable",
    ];
    let container = Container::start(&options, image, &[]);
    poll_until(LONG, "a hold", || {
        let logs = container.logs();
        if logs.contains("holding") {
            Ok(())
        } else {
            Err(logs)
        }
    });
    assert!(container.line("holding").contains("--user UID:GID"));
    assert_eq!(container.stop(LONG), "0");
}

/// A line for each process: pid, user, no_new_privs, effective capabilities, name.
const PROCESSES: &str = r#"for status in /proc/[0-9]*/status; do
    awk '/^Name:/ { name = $2 } /^Pid:/ { pid = $2 } /^Uid:/ { uid = $3 } /^NoNewPrivs:/ { nnp = $2 } /^CapEff:/ { cap = $2 }
        END { print pid, "uid=" uid, "nnp=" nnp, "cap=" cap, name }' "$status" 2>/dev/null
done"#;

#[test]
fn a_channel_of_the_build_argument_is_there_at_the_first_start_and_downloads_nothing() {
    let Some(image) = image() else { return };
    let _turn = real::Turn::wait(1);
    let seed = r#"CLAWKEEPER_CONFIG_SEED={"gateway":{"mode":"local"},"channels":{"discord":{"enabled":true}}}"#;
    let options = [
        "--env",
        TOKEN,
        "--env",
        "DISCORD_BOT_TOKEN=MTQnot.a.token",
        "--env",
        seed,
        "--health-interval=disable",
    ];
    // The container's network reaches nothing: what has to be downloaded cannot be.
    let container = Container::start(&options, image, &[]);
    poll_until(LONG, "the channel's start", || {
        let logs = container.logs();
        assert!(!logs.contains("failed during load"), "{logs}");
        let is_started = logs.contains("[discord] [default] starting provider");
        if is_started { Ok(()) } else { Err(logs) }
    });
    container.wait_until_ready();
    assert_eq!(
        container.exec(&["sh", "-c", "ls -d /data/npm 2>/dev/null || true"]),
        ""
    );
    assert_eq!(container.stop(LONG), "0", "{}", container.logs());
}
