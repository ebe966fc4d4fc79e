//! Locks that an earlier life left behind, in every shape that stops a real gateway.

use crate::support::read_lossy;
use crate::support::real::{
    BEFORE_8_2, GOOD_CONFIG, NEWEST, READY, Running, SOON, Site, for_each_version, kill,
};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Older than any writer needs, for a lock that names nobody.
const LONG_AGO: Duration = Duration::from_secs(120);

/// Leaves the locks of a gateway that was killed with everything around it, as its only start.
fn leave_locks(site: &Site) -> Vec<PathBuf> {
    for _ in 0..5 {
        let locks = kill_with_locks(site);
        // A start lets go of a lock and takes it again; killed in between it leaves fewer.
        if site.locks() == locks {
            return locks;
        }
        fs::write(site.file("starts"), "").expect("our file");
    }
    panic!("no killed gateway left its locks");
}

fn kill_with_locks(site: &Site) -> Vec<PathBuf> {
    let mut keeper = site.keep(&[]);
    // One by its config, and since 2026.8.2 another one by its state folder.
    let expected = if site.version == NEWEST { 2 } else { 1 };
    let locks = keeper.poll(READY, "the gateway's locks", || {
        let locks = site.locks();
        let written = locks.iter().all(|path| !read_lossy(path).is_empty());
        if locks.len() == expected && written {
            Ok(locks)
        } else {
            Err(locks)
        }
    });
    keeper.signal(libc::SIGKILL);
    keeper.end();
    site.wait_until_empty(&keeper);
    locks
}

fn age(path: &Path) {
    let file = fs::File::open(path).expect("it is there");
    file.set_modified(SystemTime::now() - LONG_AGO)
        .expect("our file");
}

/// What the lock says, without the bytes that follow its JSON.
fn payload(lock: &Path) -> serde_json::Value {
    let text = read_lossy(lock);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next().expect("a payload").expect("JSON")
}

fn quarantined(site: &Site) -> usize {
    let folder = fs::read_dir(site.state("clawkeeper/quarantine"));
    folder.map_or(0, Iterator::count)
}

/// The locks name the pid that the coming gateway will have, as on a machine that boots alike every time.
/// They are rewritten by `change`, and a gateway is started as a child of process 1 until it gets that very pid.
fn starts_over_locks_with_its_own_pid(version: &'static str, change: fn(&mut serde_json::Value)) {
    let site = Site::new(version);
    site.write_config(GOOD_CONFIG);
    let locks = leave_locks(&site);
    assert!(!locks.is_empty());
    // What it gets depends on the threads before it; most often it is the same.
    let mut coming = 7;
    for _ in 0..20 {
        for lock in &locks {
            let mut claim = if lock.exists() {
                payload(lock)
            } else {
                serde_json::json!({})
            };
            claim["pid"] = coming.into();
            change(&mut claim);
            fs::write(lock, claim.to_string()).expect("our file");
        }
        // clawkeeper's own note of the gateway before, by which it would see to it that the next has another pid.
        let _ = fs::remove_file(site.state("clawkeeper/child.json"));
        let start = site.starts().len() + 1;
        let keeper = site.keep_as_pid_1(&[], "");
        let got = site.wait_for_start(start, &keeper);
        if got == coming {
            site.wait_until_ready(&keeper);
            assert_eq!(
                site.starts().len(),
                start,
                "it was ready at the first start"
            );
            assert_eq!(keeper.count(&format!(" pid={coming} why=")), locks.len());
            assert!(quarantined(&site) > 0 || version != NEWEST);
            return;
        }
        coming = got;
        drop(keeper);
        site.end_all();
    }
    panic!("no gateway got the pid that its locks name");
}

#[test]
fn locks_with_the_coming_pid_and_a_start_tick_do_not_stop_it() {
    for_each_version(|version| starts_over_locks_with_its_own_pid(version, |_| {}));
}

#[test]
fn locks_with_the_coming_pid_and_no_start_tick_do_not_stop_it() {
    starts_over_locks_with_its_own_pid(NEWEST, |claim| {
        claim
            .as_object_mut()
            .expect("an object")
            .remove("startTime");
    });
}

/// Why the above matters: the gateway alone refuses over a lock that names itself, and stays refused.
#[test]
fn without_clawkeeper_a_lock_with_its_own_pid_and_tick_stops_it() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let locks = leave_locks(&site);
    // The process that becomes the gateway writes its own pid and tick into its locks first.
    let mut hook = String::from("tick=$(cut -d' ' -f22 /proc/$$/stat)\n");
    for lock in &locks {
        let mut claim = payload(lock);
        claim["pid"] = "PID".into();
        claim["startTime"] = "TICK".into();
        let text = claim.to_string();
        hook += &format!(
            "echo '{text}' | sed \"s/\\\"PID\\\"/$$/; s/\\\"TICK\\\"/$tick/\" >{}\n",
            lock.display()
        );
    }
    site.hook(&hook);
    let mut alone = site.raw_as_external();
    assert_eq!(alone.end().code(), Some(78), "{:?}", alone.log());
}

#[test]
fn empty_directory_and_corrupt_locks_do_not_stop_it() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let locks = leave_locks(&site);
    let [by_config, state] = &locks[..] else {
        panic!("2026.9.6 has two locks, not {locks:?}");
    };
    fs::write(by_config, "").expect("our file");
    age(by_config);
    fs::remove_file(state).expect("our file");
    fs::create_dir(state).expect("our folder");
    age(state);
    let coordinator = by_config.with_extension("lock.sqlite");
    fs::write(&coordinator, "this is no database, however long it is").expect("our file");
    age(&coordinator);

    let keeper = site.keep(&[]);
    site.wait_until_ready(&keeper);
    assert_eq!(site.starts().len(), 2, "the second life starts once");
    assert_eq!(quarantined(&site), 3);
}

#[test]
fn a_lock_that_its_killed_writer_left_empty_delays_nothing() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    for lock in leave_locks(&site) {
        fs::write(lock, "").expect("our file");
    }
    let keeper = site.keep(&[]);
    let started = Instant::now();
    site.wait_for_start(2, &keeper);
    assert!(started.elapsed() < SOON / 3, "{:?}", started.elapsed());
    site.wait_until_ready(&keeper);
    assert_eq!(site.starts().len(), 2);
}

/// As a gateway in another container on the same volume: it has no pid here, but the kernel knows its lock.
#[test]
fn a_lock_whose_database_somebody_holds_is_left_alone() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let locks = leave_locks(&site);
    let database = fs::File::options()
        .write(true)
        .open(locks[1].with_extension("lock.sqlite"))
        .expect("2026.9.6 has one beside each lock");
    let range = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        // The bytes that SQLite locks.
        l_start: 0x4000_0000,
        l_len: 512,
        l_pid: 0,
    };
    fcntl(&database, FcntlArg::F_SETLK(&range)).expect("nobody holds it");

    let mut keeper = site.keep(&[]);
    keeper.stays(Duration::from_secs(7), "it is left alone", || {
        let starts = site.starts();
        if locks.iter().all(|lock| lock.exists()) && starts.len() == 1 {
            Ok(())
        } else {
            Err(starts)
        }
    });
    assert!(keeper.is_running());
    drop(database);
    site.wait_for_start(2, &keeper);
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn an_older_releases_young_empty_lock_is_left_to_its_writer_first() {
    let site = Site::new(BEFORE_8_2);
    site.write_config(GOOD_CONFIG);
    let locks = leave_locks(&site);
    fs::write(&locks[0], "").expect("our file");
    // Twelve seconds short of the time that a writer is given.
    let file = fs::File::open(&locks[0]).expect("our file");
    file.set_modified(SystemTime::now() - Duration::from_secs(18))
        .expect("our file");
    let mut keeper = site.keep(&[]);
    keeper.stays(Duration::from_secs(8), "it is left in place", || {
        let starts = site.starts();
        if locks[0].exists() && starts.len() == 1 {
            Ok(())
        } else {
            Err(starts)
        }
    });
    site.wait_for_start(2, &keeper);
    assert_eq!(keeper.stop().0, Some(0));
}

#[test]
fn legacy_locks_in_the_state_folder_are_cleared_and_others_files_are_not() {
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let dead = site.state("gateway.0badcafe.lock");
    let ours = site.state("gateway.1badcafe.lock");
    let other = site.state("gateway.lock.txt");
    fs::write(
        &dead,
        r#"{"pid":4194303,"createdAt":"2026-01-01T00:00:00Z"}"#,
    )
    .expect("our file");
    // A live process, but one that is no gateway: this test.
    fs::write(&ours, format!(r#"{{"pid":{}}}"#, std::process::id())).expect("our file");
    fs::write(&other, "not a lock").expect("our file");
    let target = site.file("precious");
    fs::write(&target, "").expect("our file");
    let link = site.state("gateway.2badcafe.lock");
    std::os::unix::fs::symlink(&target, &link).expect("our link");

    let keeper: Running = site.keep(&[]);
    site.wait_for_start(1, &keeper);
    assert!(!dead.exists());
    assert!(!ours.exists());
    assert_eq!(read_lossy(&other), "not a lock");
    assert!(
        link.is_symlink() && target.exists(),
        "a link is neither followed nor removed"
    );
    assert_eq!(quarantined(&site), 2);
    site.wait_until_ready(&keeper);
    kill(site.starts()[0], libc::SIGTERM);
    keeper.wait_for_line(SOON, "class=relaunch");
}
