//! Edits of the config while a gateway runs, with a fake gateway that takes them, misses them, or leaves them.

#![allow(
    clippy::disallowed_methods,
    reason = "tests write files and read the clock"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;
use support::keeper::{CONFIG, Ended, Kept, Plan};
use support::{Place, poll_until, skip};

const PATIENCE: Duration = Duration::from_secs(60);
const BROKEN: &str = "{\"gateway\": {\n  \"mode\" \"local\"}}";
const OFF: &str = r#"{"gateway":{"mode":"local","reload":{"mode":"off"}},"agents":{"n":9}}"#;

const SOUND: &str = "config edited and found sound; the gateway is to take it";
const APPLIED: &str = "config accepted and applied";
const REFUSED: &str = "config refused; the gateway runs on with the one before";
const AGAIN: &str = "config can be used again";
const GONE: &str = "the config is gone; the gateway runs on with what it has read";
const ROLLED_BACK: &str = "the config cannot be used; the last good one was put in its place";
const STILL: &str = "starting with the last good config: the broken one was not repaired";

fn edited(n: u32) -> String {
    format!(r#"{{"gateway":{{"mode":"local"}},"agents":{{"n":{n}}}}}"#)
}

fn plan(reload: &str) -> Plan {
    Plan::new(Place::Subreaper).gateway(["--reload", reload])
}

fn ready(plan: &Plan) -> Kept {
    let kept = plan.start();
    kept.wait_until_ready();
    kept
}

/// Replaces a file as editors do.
fn rename_over(plan: &Plan, text: &str) {
    let new = plan.file("new-config");
    fs::write(&new, text).expect("written");
    fs::rename(&new, plan.config()).expect("renamed");
}

fn count(ended: &Ended, message: &str) -> usize {
    ended.lines(message).len()
}

#[test]
fn an_edit_is_applied_by_the_gateway_however_the_file_is_written() {
    let plan = plan("applies");
    let kept = ready(&plan);
    // In place, as `cat >` does it.
    plan.write_config(&edited(1));
    kept.wait_for_nth(APPLIED, 1);
    // By rename, as editors and the gateway do it.
    rename_over(&plan, &edited(2));
    kept.wait_for_nth(APPLIED, 2);
    // Cut first and written slowly, as `tee` and sftp do it.
    let text = edited(3);
    let mut file = fs::File::create(plan.config()).expect("cut");
    let (head, tail) = text.split_at(20);
    file.write_all(head.as_bytes()).expect("the first half");
    std::thread::sleep(Duration::from_millis(100));
    file.write_all(tail.as_bytes()).expect("the other half");
    drop(file);
    kept.wait_for_nth(APPLIED, 3);
    // Removed and made again.
    fs::remove_file(plan.config()).expect("removed");
    plan.write_config(&edited(4));
    kept.wait_for_nth(APPLIED, 4);
    let ended = kept.stop();
    assert_eq!(plan.diary("boot").len(), 1, "{}", ended.text);
    assert_eq!((count(&ended, SOUND), count(&ended, APPLIED)), (4, 4));
    assert_eq!((count(&ended, REFUSED), count(&ended, GONE)), (0, 0));
    assert_eq!(ended.lines(SOUND)[0]["changed"], "agents");
}

#[test]
fn a_broken_edit_is_told_once_with_its_place_and_the_gateway_runs_on() {
    let plan = plan("applies");
    let kept = ready(&plan);
    plan.write_config(BROKEN);
    let line = kept.wait_for(REFUSED);
    let why = line["why"].as_str().expect("a reason");
    assert!(why.contains("openclaw.json:2:10: "), "{why}");
    // The same again is nothing new.
    rename_over(&plan, BROKEN);
    plan.write_config(CONFIG);
    kept.wait_for(AGAIN);
    plan.write_config(&edited(1));
    kept.wait_for(APPLIED);
    let ended = kept.stop();
    assert_eq!(count(&ended, REFUSED), 1, "{}", ended.text);
    assert_eq!(plan.diary("boot").len(), 1);
    assert_eq!(ended.classes(), ["requested"]);
}

#[test]
fn a_removed_config_is_told_once_and_restarts_nothing() {
    let plan = plan("applies");
    let kept = ready(&plan);
    fs::remove_file(plan.config()).expect("removed");
    kept.wait_for(GONE);
    plan.write_config(CONFIG);
    kept.wait_for(AGAIN);
    // What changes no byte is no edit.
    rename_over(&plan, CONFIG);
    plan.write_config(&edited(1));
    kept.wait_for(APPLIED);
    let ended = kept.stop();
    assert_eq!((count(&ended, GONE), count(&ended, SOUND)), (1, 1));
    assert_eq!(plan.diary("boot").len(), 1);
}

#[test]
fn a_gateway_that_restarts_itself_for_an_edit_is_relaunched_once() {
    let plan = plan("restarts");
    let kept = ready(&plan);
    plan.write_config(&edited(1));
    kept.wait_for("the gateway restarts itself for the config");
    kept.wait_until_boot_is_ready(2);
    let ended = kept.stop();
    assert_eq!(plan.diary("boot").len(), 2, "{}", ended.text);
    assert_eq!(ended.classes(), ["relaunch", "requested"]);
    assert_eq!(
        plan.diary("term").len(),
        1,
        "only the last was told to stop"
    );
}

#[test]
fn where_its_reload_is_off_an_edit_is_one_drained_restart() {
    let plan = plan("applies");
    let kept = ready(&plan);
    plan.write_config(OFF);
    kept.wait_until_boot_is_ready(2);
    // The next is another edit, and another restart.
    plan.write_config(&OFF.replace('9', "8"));
    kept.wait_until_boot_is_ready(3);
    let ended = kept.stop();
    assert_eq!(plan.diary("boot").len(), 3, "{}", ended.text);
    assert_eq!(plan.diary("drained").len(), 3, "each was asked, not killed");
    let causes: Vec<_> = ended.lines("gateway exited");
    let causes: Vec<_> = causes.iter().map(|line| &line["cause"]).collect();
    assert_eq!(causes, ["reload", "reload", "shutdown"]);
}

#[test]
fn an_edit_the_gateway_missed_is_pointed_out_and_not_restarted_for() {
    let plan = plan("misses");
    let kept = ready(&plan);
    plan.write_config(&edited(1));
    kept.wait_for(APPLIED);
    let ended = kept.stop();
    assert_eq!(plan.diary("boot").len(), 1, "{}", ended.text);
    assert_eq!(
        fs::read_to_string(plan.config()).expect("text"),
        edited(1),
        "a touch changes nothing in it"
    );
}

#[test]
fn an_edit_that_nobody_found_valid_is_not_restarted_for_unless_that_was_asked_for() {
    // The fake one has no validator.
    let plan = plan("blind");
    let kept = ready(&plan);
    plan.write_config(&edited(1));
    let line = kept.wait_for("config not applied until the next start");
    assert!(
        line["because"]
            .as_str()
            .is_some_and(|it| it.contains("validator")),
        "{line}"
    );
    assert_eq!(kept.stop().classes(), ["requested"]);
    assert_eq!(plan.diary("boot").len(), 1);

    let plan = Plan::new(Place::Subreaper)
        .options(["--config-apply", "restart"])
        .gateway(["--reload", "blind"]);
    let kept = ready(&plan);
    plan.write_config(&edited(1));
    kept.wait_until_boot_is_ready(2);
    assert_eq!(kept.stop().classes(), ["requested", "requested"]);
    assert_eq!(plan.diary("boot").len(), 2);
}

#[test]
fn with_the_gateway_policy_nothing_is_restarted() {
    let plan = plan("applies").options(["--config-apply", "gateway"]);
    let kept = ready(&plan);
    plan.write_config(OFF);
    kept.wait_for("config not applied until the next start");
    let ended = kept.stop();
    assert_eq!(plan.diary("boot").len(), 1, "{}", ended.text);
}

#[test]
fn an_included_file_is_watched_and_its_errors_are_named() {
    let plan = plan("applies");
    let config = r#"{"gateway":{"mode":"local"},"$include":"./more/agents.json5"}"#;
    fs::create_dir(plan.state().join("more")).expect("a folder");
    let included = plan.state().join("more/agents.json5");
    fs::write(&included, "{agents: {n: 1}}").expect("written");
    plan.write_config(config);
    let kept = ready(&plan);
    fs::write(&included, "{agents: {n: 2}}").expect("written");
    let line = kept.wait_for(SOUND);
    assert_eq!(line["changed"], "agents.n");
    fs::write(&included, "{agents: {n: 2}").expect("written");
    let line = kept.wait_for(REFUSED);
    let why = line["why"].as_str().expect("a reason");
    assert!(why.contains("more/agents.json5:1:16: "), "{why}");
    kept.stop();
    assert_eq!(plan.diary("boot").len(), 1);
}

/// Runs until the config is kept as the last good one.
fn make_good(plan: &Plan) {
    let kept = ready(plan);
    let mark = plan.state().join("clawkeeper/config/last-good.json");
    poll_until(PATIENCE, "the last good config", || {
        if mark.exists() {
            Ok(())
        } else {
            Err(kept.text())
        }
    });
    kept.stop();
}

fn broken_copy(plan: &Plan) -> String {
    fs::read_to_string(plan.state().join("openclaw.json.broken")).unwrap_or_default()
}

#[test]
fn a_broken_config_is_rolled_back_at_the_start_and_said_until_it_is_repaired() {
    let plan =
        Plan::new(Place::Subreaper).options(["--config-good-after", "200ms", "--config-rollback"]);
    plan.write_config(&edited(7));
    make_good(&plan);

    plan.write_config(BROKEN);
    let kept = ready(&plan);
    let ended = kept.stop();
    assert_eq!((count(&ended, ROLLED_BACK), count(&ended, STILL)), (1, 0));
    assert_eq!(broken_copy(&plan), BROKEN);
    assert_eq!(fs::read_to_string(plan.config()).expect("text"), edited(7));

    let ended = ready(&plan).stop();
    assert_eq!((count(&ended, ROLLED_BACK), count(&ended, STILL)), (0, 1));

    plan.write_config(&edited(8));
    let ended = ready(&plan).stop();
    assert_eq!((count(&ended, ROLLED_BACK), count(&ended, STILL)), (0, 0));
    assert_eq!(
        broken_copy(&plan),
        BROKEN,
        "the user's file is the user's to remove"
    );
}

#[test]
fn a_config_the_gateway_refuses_is_rolled_back_as_well() {
    let plan =
        Plan::new(Place::Subreaper).options(["--config-good-after", "200ms", "--config-rollback"]);
    make_good(&plan);
    // Nothing that we know is wrong with it; the gateway knows better, once.
    plan.write_config(&edited(1));
    let plan = plan.gateway(["--end", "refuse:unknown-key", "--only-first", "2"]);
    let kept = ready(&plan);
    let ended = kept.stop();
    assert_eq!(ended.classes(), ["refused", "requested"], "{}", ended.text);
    assert_eq!(count(&ended, ROLLED_BACK), 1);
    assert_eq!(broken_copy(&plan), edited(1));
    assert_eq!(fs::read_to_string(plan.config()).expect("text"), CONFIG);
}

#[test]
fn without_a_good_one_or_the_setting_a_broken_config_is_held_for() {
    let plan = Plan::new(Place::Subreaper).options(["--config-rollback"]);
    plan.write_config(BROKEN);
    let kept = plan.start();
    kept.wait_until_held();
    let line = kept.wait_for("the config could not be rolled back");
    assert_eq!(line["why"], "no config is known to be good yet");
    assert_eq!(fs::read_to_string(plan.config()).expect("text"), BROKEN);
    plan.write_config(CONFIG);
    kept.wait_until_ready();
    kept.stop();

    let plan = Plan::new(Place::Subreaper).options(["--config-good-after", "200ms"]);
    make_good(&plan);
    plan.write_config(BROKEN);
    let kept = plan.start();
    kept.wait_until_held();
    assert_eq!(fs::read_to_string(plan.config()).expect("text"), BROKEN);
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_file_that_root_wrote_while_it_runs_is_given_to_the_gateways_user() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can leave root's files behind");
    }
    let plan = Plan::new(Place::Subreaper)
        .programs_for_everybody()
        .options(["--user", "1000:1000"])
        .gateway(["--reload", "applies"]);
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    open(&plan.file(""), 0o755);
    fs::write(plan.file("diary"), "").expect("a diary");
    open(&plan.file("diary"), 0o666);
    let kept = ready(&plan);
    let owner = || fs::metadata(plan.config()).expect("it is there").uid();
    let new = plan.file("new-config");
    fs::write(&new, edited(1)).expect("written");
    open(&new, 0o600);
    fs::rename(&new, plan.config()).expect("renamed");
    kept.wait_for(APPLIED);
    assert_eq!(owner(), 1000);
    // With a second name it could be any file of root's.
    fs::write(&new, edited(2)).expect("written");
    open(&new, 0o600);
    fs::hard_link(&new, plan.state().join("second-name")).expect("a second name");
    fs::rename(&new, plan.config()).expect("renamed");
    kept.wait_for_nth(SOUND, 2);
    assert_eq!(owner(), 0);
    kept.stop();
}
