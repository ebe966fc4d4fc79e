//! Configs that are missing, broken, refused or unreadable, and repaired while we hold.

use crate::support::real::{GOOD_CONFIG, NEWEST, Running, SOON, Site, for_each_version};
use crate::support::skip;
use nix::unistd::{Uid, chown};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

/// A repair is acted on within this, although the config is the only thing that is watched.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Waits for the start that follows a repair, and checks that it came soon.
fn started_promptly(site: &Site, keeper: &Running, number: usize, repaired: Instant) {
    site.wait_for_start(number, keeper);
    let took = repaired.elapsed();
    assert!(
        took < PROMPTLY,
        "start {number} came {took:?} after the repair"
    );
}

#[test]
fn a_broken_config_is_held_for_and_the_gateway_starts_once_it_is_repaired() {
    for_each_version(|version| {
        let site = Site::new(version);
        site.write_config("{\"gateway\": {\n\"mode\": \"local\"");
        let mut keeper = site.keep(&[]);
        keeper.wait_for_line(SOON, "openclaw.json:2:");
        // Each of these is as bad, and none is tried on the gateway.
        for broken in ["", "{\"gateway\": {\"mode\": local}}", "[]"] {
            site.write_config(broken);
            keeper.stays(Duration::from_secs(1), "it holds", || {
                if site.starts().is_empty() {
                    Ok(())
                } else {
                    Err(site.starts())
                }
            });
        }
        assert!(keeper.is_running());
        let repaired = Instant::now();
        site.write_config(GOOD_CONFIG);
        started_promptly(&site, &keeper, 1, repaired);
        site.wait_until_ready(&keeper);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn an_unknown_key_is_refused_once_and_the_gateway_starts_once_it_is_gone() {
    for_each_version(|version| {
        let site = Site::new(version);
        site.write_config(r#"{"gateway":{"mode":"local"},"foo":1}"#);
        let mut keeper = site.keep(&[]);
        site.wait_for_start(1, &keeper);
        keeper.wait_for_line(crate::support::real::READY, "class=refused");
        keeper.stays(Duration::from_secs(3), "it holds", || {
            if site.starts().len() == 1 {
                Ok(())
            } else {
                Err(site.starts())
            }
        });
        assert!(keeper.is_running());
        let repaired = Instant::now();
        site.write_config(GOOD_CONFIG);
        started_promptly(&site, &keeper, 2, repaired);
        site.wait_until_ready(&keeper);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn without_a_mode_or_any_config_it_holds_until_there_is_one() {
    let mut site = Site::new(NEWEST);
    site.allow_unconfigured = false;
    let mut keeper = site.keep(&["--config-seed", "off"]);
    keeper.wait_for_line(SOON, "openclaw.json: ");
    site.write_config("{}");
    keeper.wait_for_line(SOON, "gateway.mode");
    assert!(site.starts().is_empty(), "{:?}", keeper.own_log());
    assert!(keeper.is_running());
    let repaired = Instant::now();
    site.write_config(GOOD_CONFIG);
    started_promptly(&site, &keeper, 1, repaired);
    site.wait_until_ready(&keeper);
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn bind_lan_without_a_token_is_held_for_until_the_config_has_one() {
    for_each_version(|version| {
        let mut site = Site::new(version);
        site.bind = "lan";
        site.write_config(GOOD_CONFIG);
        let mut keeper =
            site.keep_with(&[], |command| command.env_remove("OPENCLAW_GATEWAY_TOKEN"));
        keeper.wait_for_line(SOON, "OPENCLAW_GATEWAY_TOKEN");
        assert!(site.starts().is_empty(), "{:?}", keeper.own_log());
        assert!(keeper.is_running());
        let repaired = Instant::now();
        site.write_config(
            r#"{"gateway":{"mode":"local","auth":{"mode":"token","token":"a-token-of-the-config"}}}"#,
        );
        started_promptly(&site, &keeper, 1, repaired);
        site.wait_until_ready(&keeper);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn what_a_root_shell_wrote_is_given_to_the_gateways_user() {
    if !Uid::effective().is_root() {
        return skip("only root can leave root's files behind");
    }
    let site = Site::new(NEWEST);
    let user = Some(1000.into());
    for name in ["state", "home", "tmp"] {
        chown(&site.file(name), user, Some(1000.into())).expect("we are root");
    }
    site.write_config(GOOD_CONFIG);
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(site.config(), private).expect("our file");
    for name in ["agents", "agents/main", "agents/main/sessions"] {
        fs::create_dir(site.state(name)).expect("our folder");
        fs::set_permissions(site.state(name), fs::Permissions::from_mode(0o700)).expect("ours");
    }

    // The cache may lie below a home that only its owner may enter.
    let mut keeper = site.keep_readable_by_all(&[]);
    site.wait_until_ready(&keeper);
    // The config and what a console writes to are mended before the first start; the sessions once the gateway
    // complains, because that means a walk.
    let starts = site.starts();
    assert_eq!(starts.len(), 2, "{:#?}", keeper.own_log());
    let gateway = fs::metadata(format!("/proc/{}", starts[1])).expect("it runs");
    assert_eq!(gateway.uid(), 1000);
    assert_eq!(
        fs::metadata(site.config()).expect("it is there").uid(),
        1000
    );
    assert_eq!(
        fs::read_to_string(site.config()).expect("text"),
        GOOD_CONFIG
    );
    assert_eq!(keeper.stop().0, Some(0));
}
