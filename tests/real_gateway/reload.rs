//! Edits of the config while a real gateway runs, and a broken one before it starts.

use crate::support::health::Listener;
use crate::support::real::{
    BEFORE_8_2, GOOD_CONFIG, NEWEST, READY, Running, Site, for_each_version,
};
use std::fs;
use std::time::Duration;

const APPLIED: &str = "config accepted and applied";
const REFUSED: &str = "config refused; the gateway runs on with the one before";
const AGAIN: &str = "config can be used again";
const OWN_RESTART: &str = "the gateway restarts itself for the config";
const OUR_RESTART: &str = "restarting the gateway, drained, for an edit of its config";

fn with(more: &str) -> String {
    format!(r#"{{"gateway":{{"mode":"local"}},{more}}}"#)
}

fn gateway_with(more: &str) -> String {
    format!(r#"{{"gateway":{{"mode":"local",{more}}}}}"#)
}

/// A gateway that is ready, as clawkeeper sees it.
fn ready(site: &Site, flags: &[&str]) -> Running {
    let keeper = site.keep(flags);
    keeper.wait_for_line(READY, "gateway ready");
    keeper
}

/// Waits until this was said so often.
fn said(keeper: &Running, text: &str, times: usize) {
    keeper.poll(READY, text, || match keeper.count(text) {
        count if count >= times => Ok(()),
        _ => Err(keeper.own_log()),
    });
}

#[test]
fn edits_are_applied_or_refused_and_only_one_that_needs_it_restarts() {
    for_each_version(|version| {
        let site = Site::new(version);
        site.write_config(GOOD_CONFIG);
        let listener = Listener::new();
        let address = format!("127.0.0.1:{}", listener.port);
        let mut keeper = ready(&site, &["--health-listen", &address]);

        // In place, by rename, cut and written slowly, removed and made again.
        site.write_config(&with(r#""logging":{"level":"debug"}"#));
        said(&keeper, APPLIED, 1);
        let new = site.file("new-config");
        fs::write(&new, with(r#""logging":{"level":"warn"}"#)).expect("our file");
        fs::rename(&new, site.config()).expect("our file");
        said(&keeper, APPLIED, 2);
        site.write_config("");
        site.write_config(&with(r#""logging":{"level":"error"}"#));
        said(&keeper, APPLIED, 3);
        // While this is open, the file system cannot give the new file the number of the old one.
        let old = fs::File::open(site.config()).expect("our file");
        fs::remove_file(site.config()).expect("our file");
        site.write_config(&with(r#""agents":{"defaults":{"maxConcurrent":3}}"#));
        said(&keeper, APPLIED, 4);
        drop(old);

        site.write_config("{\"gateway\": {\n  \"mode\" \"local\"}}");
        said(&keeper, REFUSED, 1);
        assert!(
            keeper.count("openclaw.json:2:10: ") >= 1,
            "{:#?}",
            keeper.own_log()
        );
        site.write_config(&with(r#""agents":{"defaults":{"maxConcurrent":3}}"#));
        said(&keeper, AGAIN, 1);

        // Only the gateway knows that this is wrong, and it quotes it.
        site.write_config(&with(
            r#""agents":{"defaults":{"heartbeat":{"target":"+4915112345678"}}}"#,
        ));
        said(&keeper, REFUSED, 2);
        let refused = keeper.own_log().concat();
        assert!(refused.contains("+4915112345678"), "{refused}");
        let events = keeper.poll(READY, "the refusal among the events", || {
            let events = listener.get("/v1/events").body;
            if events.contains("finds it invalid") {
                Ok(events)
            } else {
                Err(events)
            }
        });
        for path in ["/readyz", "/v1/status", "/v1/incidents", "/metrics"] {
            let shown = listener.get(path).body + &events;
            assert!(!shown.contains("+4915112345678"), "{path}: {shown}");
        }
        site.write_config(&with(r#""agents":{"defaults":{"maxConcurrent":3}}"#));
        said(&keeper, AGAIN, 2);
        assert_eq!(site.starts().len(), 1, "{:#?}", keeper.own_log());
        assert_eq!(keeper.count(OUR_RESTART) + keeper.count(OWN_RESTART), 0);

        // The gateway restarts itself: as a new process, or 7.1 in place.
        site.write_config(&gateway_with(r#""controlUi":{"basePath":"/ui"}"#));
        said(&keeper, OWN_RESTART, 1);
        let starts = if version == BEFORE_8_2 { 1 } else { 2 };
        keeper.poll(READY, "the new gateway", || {
            let ready = keeper.count("gateway ready");
            if ready == starts && site.is_ready() {
                Ok(())
            } else {
                Err(keeper.own_log())
            }
        });

        // Its reload off, what changed is one restart of ours.
        site.write_config(&gateway_with(
            r#""controlUi":{"basePath":"/other"},"reload":{"mode":"off"}"#,
        ));
        said(&keeper, "gateway ready", starts + 1);
        keeper.stays(
            Duration::from_secs(5),
            "one restart for one edit",
            || match site.starts().len() {
                count if count == starts + 1 => Ok(()),
                _ => Err(keeper.own_log()),
            },
        );
        assert_eq!(
            (keeper.count(OUR_RESTART), keeper.count(OWN_RESTART)),
            (1, 1)
        );
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn an_edit_of_an_included_file_reaches_every_version_without_a_restart() {
    for_each_version(|version| {
        let site = Site::new(version);
        site.write_config(&with(r#""$include":"./more.json5""#));
        fs::write(site.state("more.json5"), "{logging: {level: 'info'}}").expect("our file");
        let mut keeper = ready(&site, &[]);
        // 7.1 watches the config alone and is pointed to it.
        fs::write(site.state("more.json5"), "{logging: {level: 'debug'}}").expect("our file");
        said(&keeper, APPLIED, 1);
        assert_eq!(site.starts().len(), 1, "{:#?}", keeper.own_log());
        assert_eq!(keeper.stop().0, Some(0));
    });
}

/// ext4 gives the new file the number of the old one at once, other file systems never: the gateway then hears of
/// no later edit, or of each.
#[test]
fn an_edit_after_the_file_was_made_anew_is_in_effect_whatever_the_gateway_hears() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let mut keeper = ready(&site, &[]);
    fs::remove_file(site.config()).expect("our file");
    site.write_config(&with(r#""logging":{"level":"warn"}"#));
    said(&keeper, APPLIED, 1);
    site.write_config(&with(r#""logging":{"level":"debug"}"#));
    keeper.poll(READY, "the second edit in effect", || {
        let is_in_effect = keeper.count(APPLIED) == 2
            || (keeper.count("the gateway did not notice the edit") == 1
                && keeper.count("gateway ready") == 2);
        if is_in_effect {
            Ok(())
        } else {
            Err(keeper.own_log())
        }
    });
    let restarts = keeper.count(OUR_RESTART);
    // A gateway that was started anew hears again.
    site.write_config(&with(r#""logging":{"level":"error"}"#));
    said(&keeper, APPLIED, 3 - restarts);
    assert_eq!(site.starts().len(), 1 + restarts, "{:#?}", keeper.own_log());
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn a_broken_config_is_rolled_back_at_the_start_and_kept() {
    let site = Site::new(NEWEST);
    let good = with(r#""logging":{"level":"debug"}"#);
    site.write_config(&good);
    let flags = ["--config-rollback", "--config-good-after", "1s"];
    let mut keeper = ready(&site, &flags);
    let mark = site.state("clawkeeper/config/last-good.json");
    keeper.poll(READY, "the last good config", || {
        if mark.exists() {
            Ok(())
        } else {
            Err(keeper.own_log())
        }
    });
    assert_eq!(keeper.stop().0, Some(0));
    let kept = fs::read_to_string(site.config()).expect("text");

    site.write_config("{\"gateway\": {\"mode\"");
    let mut keeper = ready(&site, &flags);
    assert_eq!(keeper.count("the last good one was put in its place"), 1);
    assert_eq!(keeper.stop().0, Some(0));
    assert_eq!(fs::read_to_string(site.config()).expect("text"), kept);
    assert_eq!(
        fs::read_to_string(site.state("openclaw.json.broken")).expect("text"),
        "{\"gateway\": {\"mode\""
    );
}
