//! A burst of crashes, and the gateway's own crash breaker behind it.

use crate::support::real::{
    GOOD_CONFIG, NEWEST, READY, Running, Site, fake_telegram, for_each_version, free_port, kill,
};
use nix::libc;
use std::time::{Duration, Instant};

/// The breaker alone keeps channels off for five minutes (2026.9.6) or for good (2026.7.1).
const CHANNELS_BACK: Duration = Duration::from_secs(120);

/// How often the gateway has asked for news.
fn polls(telegram: &Running) -> usize {
    telegram.count("getUpdates")
}

#[test]
fn after_five_crashes_in_a_minute_it_is_up_with_its_channels() {
    for_each_version(|version| {
        let site = Site::new(version);
        let api = free_port();
        let telegram = fake_telegram(api);
        site.write_config(&format!(
            r#"{{"gateway":{{"mode":"local"}},"channels":{{"telegram":{{"enabled":true,"apiRoot":"http://127.0.0.1:{api}"}}}}}}"#
        ));
        let mut keeper = site.keep_with(&[], |command| {
            command.env(
                "TELEGRAM_BOT_TOKEN",
                "123456789:fake-token-of-the-test-0123456789abc",
            )
        });
        site.wait_until_ready(&keeper);
        keeper.poll(READY, "the channel to connect", || match polls(&telegram) {
            0 => Err(telegram.log()),
            polls => Ok(polls),
        });

        let first_crash = Instant::now();
        for crash in 1..=5 {
            let pid = site.wait_for_start(crash, &keeper);
            // Its row among the boots is written by the time it answers.
            keeper.poll(READY, "an answer", || site.get("/healthz").ok_or("none"));
            kill(pid, libc::SIGKILL);
            site.wait_for_start(crash + 1, &keeper);
        }
        println!("{version}: five crashes in {:?}", first_crash.elapsed());
        let (last_crash, polls_before) = (Instant::now(), polls(&telegram));
        site.wait_until_ready(&keeper);
        keeper.poll(CHANNELS_BACK, "the channel to be back", || {
            let suppressed = site
                .get("/readyz")
                .map(|body| body["suppressed"].to_string());
            if polls(&telegram) > polls_before {
                Ok(())
            } else {
                Err(suppressed)
            }
        });
        println!(
            "{version}: channels back {:?} after the last crash",
            last_crash.elapsed()
        );
        assert!(last_crash.elapsed() < CHANNELS_BACK);
        assert!(
            keeper.count("restart-loop breaker tripped") > 0,
            "nothing to come back from"
        );
        assert_eq!(site.starts().len(), 6, "no further restart was needed");
        assert_eq!(keeper.count("class=signal"), 5);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

/// As a container that is made anew has another host name: the database's lease names a host where nobody can look
/// whether the process lives. It ends after five minutes.
#[test]
fn after_a_kill_under_another_host_name_it_holds_with_the_reason() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let named = |name: &str| {
        format!(
            "exec unshare --uts /bin/sh -ec 'hostname {name}; exec \"$0\" \"$@\"' \"$0\" \"$@\""
        )
    };
    let mut first = site.keep_with_mounts(&[], &named("first"));
    site.wait_until_ready(&first);
    first.signal(libc::SIGKILL);
    first.end();
    site.wait_until_empty(&first);

    let mut second = site.keep_with_mounts(&[], &named("second"));
    let line = second.wait_for_line(READY, "has not run out");
    assert!(
        line.contains("ERROR") && line.contains("wait: it ends within five minutes"),
        "{line}"
    );
    let holds = "holding";
    second.poll(READY, holds, || match second.count(holds) {
        0 => Err(second.own_log()),
        count => Ok(count),
    });
    println!("{:#?}", second.own_log());
    assert_eq!(site.starts().len(), 2, "it is not tried over and over");
    assert_eq!(second.stop().0, Some(0));
}
