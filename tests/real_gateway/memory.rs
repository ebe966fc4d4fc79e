//! Memory of a real gateway: a leak in it, and the size of its heap.

use crate::support::cgroup::Cgroup;
use crate::support::real::{NEWEST, Running, Site};
use crate::support::skip;
use std::fs;
use std::time::Duration;

const NO_CGROUP: &str = "no memory cgroup can be made here";
const RESTARTS: &str = "the gateway leaks and is restarted, drained, before the kernel kills it";

/// Leaks JavaScript objects at the pace of a bad plugin in a hurry, in the first gateway only.
const LEAK: &str = r#"
const fs = require("fs");
const mark = process.env.LEAK_MARK;
if (process.argv.includes("gateway") && !process.argv.includes("call") && !fs.existsSync(mark)) {
    fs.writeFileSync(mark, "");
    const kept = [];
    setInterval(() => kept.push(Array.from({ length: 100000 }, (_, i) => ({ i }))), 1000).unref();
}
"#;

fn keep_in(site: &Site, group: &Cgroup, flags: &[&str], options: &str) -> Running {
    site.keep_inside(flags, &group.enter(), |command| {
        command
            .env("NODE_OPTIONS", options)
            .env("LEAK_MARK", site.file("leaked"))
    })
}

#[test]
fn a_slow_leak_in_the_real_gateway_ends_in_a_drained_restart_and_the_heap_is_not_what_ends_it() {
    let Some(group) = Cgroup::new(1_100 << 20) else {
        return skip(NO_CGROUP);
    };
    let site = Site::new(NEWEST);
    let script = site.file("leak.js");
    fs::write(&script, LEAK).expect("our file");
    let options = format!("--require={}", script.display());
    let mut keeper = keep_in(&site, &group, &[], &options);
    site.wait_until_ready(&keeper);
    keeper.wait_for_line(Duration::from_secs(900), RESTARTS);
    site.wait_for_start(2, &keeper);
    site.wait_until_ready(&keeper);
    assert_eq!(keeper.count("class=oom"), 0, "{:?}", keeper.own_log());
    assert_eq!(keeper.count("cause=memory"), 1);
    assert_eq!(keeper.count("is killed"), 0, "it drained");
    assert_eq!(keeper.stop().0, Some(0));
}
