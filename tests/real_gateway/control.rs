//! A person restarts and pauses a real gateway.

use crate::support::clawkeeper;
use crate::support::real::{GOOD_CONFIG, NEWEST, READY, Site};
use std::process::Output;

fn ask(site: &Site, words: &[&str]) -> Output {
    let mut command = site.command(clawkeeper());
    command.args(words).output().expect("clawkeeper")
}

fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_gateway_is_drained_for_a_restart_and_for_a_pause_and_serves_again() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let mut keeper = site.keep(&[]);
    keeper.wait_for_line(READY, "gateway ready");

    let restarted = ask(&site, &["restart"]);
    assert_eq!(restarted.status.code(), Some(0), "{}", said(&restarted));
    assert!(site.is_ready());
    assert_eq!(site.starts().len(), 2);

    let paused = ask(&site, &["pause"]);
    assert_eq!(paused.status.code(), Some(0), "{}", said(&paused));
    assert_eq!(site.processes(), [], "nothing of the gateway is left");
    let status = ask(&site, &["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(said(&status).starts_with("‖ paused"), "{}", said(&status));
    // What a pause is for: the gateway's own tools have the state folder to themselves.
    let validated = ask(&site, &["config", "validate"]);
    assert_eq!(validated.status.code(), Some(0), "{}", said(&validated));

    let resumed = ask(&site, &["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert!(site.is_ready());
    let classes = keeper.count("class=requested code=0 cause=restart")
        + keeper.count("class=requested code=0 cause=pause");
    assert_eq!(classes, 2, "{:?}", keeper.own_log());
    keeper.stop();
}
