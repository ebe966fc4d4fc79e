//! What is kept of a real gateway's life: its transitions, and its own words without its token.

use crate::support::clawkeeper;
use crate::support::real::{GOOD_CONFIG, NEWEST, READY, Site, TOKEN};

fn ask(site: &Site, words: &[&str]) -> String {
    let mut command = site.command(clawkeeper());
    let output = command.args(words).output().expect("clawkeeper");
    assert_eq!(output.status.code(), Some(0), "{words:?} {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_start_an_edit_and_a_restart_are_in_the_timeline_and_between_the_gateways_own_lines() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let mut keeper = site.keep(&[]);
    keeper.wait_for_line(READY, "gateway ready");
    site.write_config(r#"{"gateway":{"mode":"local"},"logging":{"level":"debug"}}"#);
    keeper.wait_for_line(READY, "config accepted and applied");
    ask(&site, &["restart"]);
    keeper.stop();

    let events = ask(&site, &["events"]);
    let mut kinds = events
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    for kind in [
        "begun",
        "started",
        "ready",
        "config-accepted",
        "config-applied",
        "requested",
        "stopping",
        "exited-requested",
        "started",
        "ready",
        "stopping",
        "exited-requested",
        "ended",
    ] {
        assert!(kinds.any(|it| it == kind), "{kind}, in its place: {events}");
    }
    let logs = ask(&site, &["logs", "-n", "9999"]);
    let mut lines = logs.lines();
    for mark in [
        "clawkeeper: gateway started",
        "[gateway]",
        "clawkeeper: gateway ready",
        "clawkeeper: config accepted and applied",
        "clawkeeper: gateway exited class=requested",
        "clawkeeper: gateway started",
        "[gateway]",
    ] {
        assert!(lines.any(|it| it.contains(mark)), "{mark}: {logs}");
    }
    assert!(!logs.contains(TOKEN) && !events.contains(TOKEN));
}
