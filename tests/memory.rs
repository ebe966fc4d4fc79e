//! A gateway that uses more and more memory, or a lot of it, in a memory cgroup. On the fake gateway.
//!
//! The numbers of the limits and paces: of 200 MB, 64 count as short and 40 as tight, and a leak is seen after a minute.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes, write files and read the clock"
)]

mod support;

use std::time::Duration;
use support::cgroup::Cgroup;
use support::keeper::{Kept, Plan};
use support::{Place, poll_until, skip};

const NO_CGROUP: &str = "no memory cgroup can be made here";
const SHORT: &str = "memory is short";
const RESTARTS: &str = "the gateway leaks and is restarted, drained, before the kernel kills it";
/// A leak takes a minute and a half to fill the limit of these tests.
const LEAKED: Duration = Duration::from_secs(240);

fn in_group(group: &Cgroup) -> Plan {
    Plan::new(Place::Subreaper)
        .prepare(&group.enter())
        .options(["--stop-timeout", "10s"])
}

fn count(kept: &Kept, message: &str) -> usize {
    let log = kept.log();
    log.iter().filter(|line| line["message"] == message).count()
}

#[test]
fn a_leak_is_warned_of_and_then_drained_and_started_anew_before_the_kernel_kills_it() {
    let Some(group) = Cgroup::new(200 << 20) else {
        return skip(NO_CGROUP);
    };
    let plan = in_group(&group).gateway(["--leak", "1800", "--leak-in-boot", "1"]);
    let kept = plan.start();
    poll_until(LEAKED, "the restart", || match count(&kept, RESTARTS) {
        0 => Err(kept.text()),
        _ => Ok(()),
    });
    kept.wait_until_boot_is_ready(2);
    assert_eq!(plan.diary("drained").len(), 1, "nothing was cut off");
    assert_eq!(count(&kept, SHORT), 1, "{}", kept.text());
    assert_eq!(count(&kept, "waiting before the next start"), 0);
    let line = kept.wait_for(RESTARTS);
    assert_eq!(line["limit"], "200MB", "{line}");
    assert_eq!(line["limit_from"], "cgroup v1", "{line}");
    assert!(
        line["leak"]
            .as_str()
            .is_some_and(|it| it.ends_with("MB per hour")),
        "{line}"
    );
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["requested", "requested"]);
    let exited = &ended.lines("gateway exited")[0];
    assert_eq!(exited["cause"], "memory");
    for told in ["memory", "available", "limit", "leak", "uptime"] {
        assert!(exited[told].is_string(), "{told}: {exited}");
    }
    let fix = exited["fix"].as_str().unwrap_or_default();
    assert!(fix.starts_with("it leaks: "), "{exited}");
}

#[test]
fn a_plateau_close_to_the_limit_and_spikes_restart_nothing() {
    let Some(group) = Cgroup::new(200 << 20) else {
        return skip(NO_CGROUP);
    };
    let plan = in_group(&group).gateway(["--weight", "100", "--spikes", "60"]);
    let kept = plan.start();
    kept.wait_until_ready();
    let began = std::time::Instant::now();
    poll_until(LEAKED, "two minutes", || {
        assert_eq!(count(&kept, RESTARTS), 0, "{}", kept.text());
        if began.elapsed() < Duration::from_secs(100) {
            Err(())
        } else {
            Ok(())
        }
    });
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["requested"]);
    assert_eq!(ended.lines("gateway exited")[0]["cause"], "shutdown");
}
