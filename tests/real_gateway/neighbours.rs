//! Others on the same state folder or the same port.

use crate::support::real::{
    GOOD_CONFIG, NEWEST, SOON, Site, fake_telegram, for_each_version, free_port, is_alive,
    start_tick,
};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// What could be told apart had a file been replaced or written.
fn identity(path: &Path) -> (u64, i64, i64) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

#[test]
fn a_live_second_gateway_is_left_alone_and_waited_for() {
    for_each_version(|version| {
        let mut site = Site::for_two(version);
        site.write_config(GOOD_CONFIG);
        let mut by_hand = site.raw();
        site.wait_until_ready(&by_hand);
        let locks = site.locks();
        assert!(!locks.is_empty());
        let before: Vec<_> = locks.iter().map(|path| identity(path)).collect();

        // Another port is free, so the gateway itself would not notice on every release.
        site.port = free_port();
        let mut keeper = site.keep(&[]);
        let pid = by_hand.pid();
        keeper.wait_for_line(SOON, &format!("pid {pid}"));
        keeper.stays(Duration::from_secs(7), "it stands aside", || {
            if site.starts() == [pid] && is_alive(pid) {
                Ok(())
            } else {
                Err(site.starts())
            }
        });
        assert!(keeper.is_running());
        let after: Vec<_> = locks.iter().map(|path| identity(path)).collect();
        assert_eq!(before, after, "its locks were touched");

        by_hand.stop();
        site.wait_for_start(2, &keeper);
        site.wait_until_ready(&keeper);
        assert_eq!(keeper.stop().0, Some(0));
    });
}

#[test]
fn an_orphan_gateway_that_holds_the_port_is_ended() {
    let site = Site::for_two(NEWEST);
    let go = site.file("go");
    // As after a detached respawn: its parent is process 1, which becomes clawkeeper.
    let orphan = format!(
        "node {} & until [ -e {} ]; do sleep 0.05; done",
        site.gateway_args().join(" "),
        go.display()
    );
    let mut keeper = site.keep_as_pid_1(&[], &orphan);
    site.wait_until_ready(&keeper);
    let mut orphan = site.processes();
    orphan.retain(|(_, line)| !line.starts_with("/bin/sh"));
    assert!(!orphan.is_empty());
    fs::write(&go, "").expect("our file");

    site.wait_for_start(2, &keeper);
    let left: Vec<_> = orphan.iter().filter(|(pid, _)| is_alive(*pid)).collect();
    assert!(left.is_empty(), "beside the second gateway: {left:?}");
    site.wait_until_ready(&keeper);
    assert!(keeper.is_running());
}

#[test]
fn a_port_held_by_a_stranger_is_waited_for() {
    let site = Site::new(NEWEST);
    let mut stranger = fake_telegram(site.port);
    stranger.poll(SOON, "the stranger to listen", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, site.port))
    });
    let mut keeper = site.keep(&[]);
    let line = keeper.wait_for_line(SOON, &format!("pid {}", stranger.pid()));
    assert!(line.contains(&site.port.to_string()), "{line}");
    keeper.stays(Duration::from_secs(6), "it waits", || {
        if site.starts().is_empty() {
            Ok(())
        } else {
            Err(site.starts())
        }
    });
    assert!(keeper.is_running());
    stranger.stop();
    site.wait_for_start(1, &keeper);
    site.wait_until_ready(&keeper);
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn a_second_clawkeeper_is_refused_and_touches_nothing() {
    let site = Site::new(NEWEST);
    let mut keeper = site.keep(&[]);
    site.wait_until_ready(&keeper);
    let gateway = site.starts()[0];
    let tick = start_tick(gateway);
    let files = [
        "clawkeeper/instance.json",
        "clawkeeper/child.json",
        "openclaw.json",
    ];
    let paths: Vec<_> = files
        .iter()
        .map(|name| site.state(name))
        .chain(site.locks())
        .collect();
    let before: Vec<_> = paths.iter().map(|path| identity(path)).collect();

    let mut second = site.keep(&[]);
    assert_eq!(second.end().code(), Some(75));
    second.wait_for_line(SOON, &format!("pid {}", keeper.pid()));

    let after: Vec<_> = paths.iter().map(|path| identity(path)).collect();
    assert_eq!(before, after);
    assert_eq!(site.starts(), [gateway]);
    assert_eq!(start_tick(gateway), tick);
    assert!(site.is_ready());
    assert_eq!(keeper.stop().0, Some(0));
}
