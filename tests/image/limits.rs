//! A memory limit of the container, and a gateway that goes beyond it.

use crate::container::{Container, LONG, image};
use crate::support::{self, example, poll_until};

#[test]
fn a_kill_by_the_containers_memory_limit_is_told_as_the_kernel_counts_it() {
    let Some(image) = image() else { return };
    let gateway = example("fake-gateway");
    let mount = format!("{}:/fake/openclaw:ro", gateway.display());
    let options = [
        "--volume",
        &mount,
        "--memory",
        "96m",
        "--memory-swap",
        "96m",
        "--health-interval=disable",
        "--env",
        "OPENCLAW_GATEWAY_TOKEN=x",
    ];
    let command = [
        "/fake/openclaw",
        "gateway",
        "--port",
        "3000",
        "--end",
        "eat",
        "--end-after",
        "100",
    ];
    let container = Container::start(&options, image, &command);
    if !container
        .line("clawkeeper starts")
        .contains("memory_limit=96MB")
    {
        return support::skip("no memory cgroup for a container here");
    }
    poll_until(LONG, "a kill by the kernel", || {
        let logs = container.logs();
        if logs.contains("gateway exited") {
            Ok(())
        } else {
            Err(logs)
        }
    });
    let line = container.line("gateway exited");
    assert!(line.contains("class=oom-kernel"), "{line}");
    assert!(line.contains("rose by"), "{line}");
    // The kernel's own count, asked past clawkeeper, and not by a process in there: it would need memory too.
    let root = format!(
        "/proc/{}/root/sys/fs/cgroup",
        container.inspect("{{.State.Pid}}")
    );
    let counted: String = ["memory/memory.oom_control", "memory.events"]
        .iter()
        .filter_map(|counter| std::fs::read_to_string(format!("{root}/{counter}")).ok())
        .collect();
    let kills = counted
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "));
    assert!(kills.into_iter().any(|count| count != "0"), "{counted}");
    container.assert_running();
}
