//! State folders that fail.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use nix::libc;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::health::Listener;
use support::keeper::{CONFIG, Ended, Kept, Plan};
use support::{Place, poll_until, skip};

const PLACES: [Place; 2] = [Place::Pid1, Place::Subreaper];
/// So that a repair is seen soon.
const SOON: [&str; 2] = ["--hold-retry", "100ms"];

#[test]
fn a_missing_state_folder_is_made_with_a_first_config_in_it() {
    let plan = Plan::new(Place::Subreaper);
    fs::remove_dir_all(plan.state()).expect("it was there");
    let kept = plan.start();
    kept.wait_until_ready();
    let mode = fs::metadata(plan.state()).expect("a state folder").mode() & 0o777;
    assert_eq!(mode, 0o700);
    assert!(plan.config().is_file());
    let ended = kept.stop();
    ended.line("no config was there; a first one was written");
}

#[test]
fn a_state_folder_that_vanishes_under_a_gateway_is_made_anew_for_the_next() {
    let plan = Plan::new(Place::Subreaper).options(SOON).gateway([
        "--end",
        "signal:9",
        "--end-after",
        "600",
        "--only-first",
        "1",
    ]);
    let kept = plan.start();
    kept.wait_until_ready();
    fs::remove_dir_all(plan.state()).expect("it was there");
    kept.wait_for_nth("gateway ready", 2);
    assert!(plan.config().is_file());
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn without_a_mount_it_warns_or_holds_as_told_and_a_mount_ends_the_hold() {
    let plan = Plan::new(Place::Pid1)
        .env("FLY_APP_NAME", "app")
        .options(SOON);
    if !is_on_root(&plan.state()) {
        return skip("the folder for temporary files is itself a mount");
    }
    let kept = plan.start();
    kept.wait_until_ready();
    let warning = kept.wait_for("volume")["why"].to_string();
    assert!(warning.contains("STATE WILL BE LOST"), "{warning}");
    kept.stop();

    let plan = plan.options(["--no-mount", "hold"]);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("not on a volume"), "{why}");
    assert_eq!(plan.diary("boot").len(), 1, "only the one before");
    kept.enter(&format!(
        "mount -t tmpfs tmpfs '{}'",
        plan.state().display()
    ));
    kept.wait_until_ready();
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_file_in_the_state_folders_place_is_no_failing_disk() {
    let plan = Plan::new(Place::Subreaper).options(SOON);
    let aside = plan.file("aside");
    fs::rename(plan.state(), &aside).expect("moved away");
    fs::write(plan.state(), "mine").expect("a file");
    let kept = plan.start();
    let line = kept.wait_for("holding: the gateway is not started until this is mended");
    assert!(
        line["fix"].to_string().contains("names no folder"),
        "{line}"
    );
    assert_eq!(fs::read_to_string(plan.state()).expect("it stays"), "mine");
    fs::remove_file(plan.state()).expect("removed");
    fs::rename(aside, plan.state()).expect("moved back");
    kept.wait_until_ready();
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_read_only_volume_holds_and_the_gateway_starts_when_it_is_writable_again() {
    for place in PLACES {
        let plan = Plan::new(place).options(SOON).mounted("-t tmpfs tmpfs");
        let state = plan.state().display().to_string();
        let plan = plan.prepare(&format!("mount -o remount,ro '{state}'"));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("read-only"), "{why}");
        kept.heals(|kept| kept.enter(&format!("mount -o remount,rw '{state}'")));
    }
}

#[test]
fn a_full_volume_holds_and_room_starts_the_gateway() {
    for place in PLACES {
        let (plan, fill) = on_a_full_volume(place);
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("the volume is full"), "{why}");
        kept.heals(|kept| fs::remove_file(kept.inside(&fill)).expect("removed"));
    }
}

#[test]
fn a_journal_that_a_full_volume_refused_replays_from_when_there_is_room() {
    let (plan, fill) = on_a_full_volume(Place::Pid1);
    let kept = plan.start();
    kept.wait_until_held();
    fs::remove_file(kept.inside(&fill)).expect("removed");
    kept.wait_until_ready();
    let journal = kept.inside(&plan.state().join("clawkeeper/journal.ndjson"));
    let journal = journal.display().to_string();
    poll_until(support::PATIENCE, "the start in the journal", || {
        let replay = plan.ask(["replay", &journal]);
        let text = String::from_utf8_lossy(&replay.stdout).into_owned();
        let is_there = replay.status.success() && text.contains("gateway ready");
        if is_there { Ok(()) } else { Err(replay) }
    });
    kept.stop();
}

#[test]
fn a_volume_out_of_inodes_holds_and_one_removed_file_starts_the_gateway() {
    let plan = Plan::new(Place::Pid1)
        .options(SOON)
        .mounted("-t tmpfs -o nr_inodes=16 tmpfs");
    let many = plan.state().join("many");
    let line = format!(
        "mkdir '{0}' && {{ for n in $(seq 20); do touch '{0}'/$n; done 2>&-; true; }}",
        many.display()
    );
    let plan = plan.prepare(&line);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("no inode left"), "{why}");
    kept.heals(|kept| fs::remove_dir_all(kept.inside(&many)).expect("removed"));
}

#[test]
fn an_io_error_on_fsync_holds_although_every_write_succeeds() {
    if !Path::new("/usr/bin/strace").exists() {
        return skip("strace is not installed");
    }
    let plan = Plan::new(Place::Subreaper).options(SOON).under([
        "/usr/bin/strace",
        "-DD",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EIO:when=1",
    ]);
    let kept = plan.start();
    let why = kept.wait_until_held();
    assert!(why.contains("fsync") && why.contains("I/O error"), "{why}");
    // The second fsync of a thread succeeds.
    kept.wait_until_ready();
    kept.wait_for("hold is over");
    assert_eq!(kept.stop().status, "exit 0");
}

#[test]
fn a_volume_that_hangs_holds_with_that_reason_and_heals() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    let kept = frozen.kept();
    kept.wait_for_line("the hold for the disk", 1, |line| {
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("no answer"))
    });
    frozen.thaw();
    fs::write(kept.inside(&frozen.plan.config()), CONFIG).expect("a config");
    kept.wait_until_ready();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn health_is_answered_while_the_volume_hangs() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    assert_eq!(frozen.listener.get("/livez").code, 200);
    let held = frozen
        .listener
        .wait_until("the hold for the disk", |answer| {
            answer.body.contains("gave no answer")
        });
    assert_eq!(held.code, 503);
    assert!(held.json()["fix"].is_string(), "{held:?}");
    // Its look at the room on the volume must not wait for the disk.
    let metrics = support::metrics::read(&frozen.listener.get("/metrics").body);
    assert_eq!(metrics["clawkeeper_gateway_ready"], 0.0);
    assert_eq!(frozen.listener.get("/livez").code, 200);
    frozen.thaw();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn a_death_while_the_disk_hangs_is_told_and_the_next_gateway_starts_without_its_incident() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    let kept = frozen.kept();
    frozen.thaw();
    fs::write(kept.inside(&frozen.plan.config()), CONFIG).expect("a config");
    kept.wait_until_ready();
    frozen.call(FREEZE);
    send(kept.gateway_pid(), libc::SIGKILL);
    kept.wait_for("gateway exited");
    kept.wait_for_nth("gateway started", 2);
    // Its output passes, though what is to be kept of it waits for the disk.
    poll_until(support::PATIENCE, "the output of the second", || {
        let text = kept.text();
        let count = text.matches("[gateway] starting...").count();
        if count == 2 { Ok(()) } else { Err(text) }
    });
    let line = kept.wait_for("incident not kept");
    assert!(
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("no answer")),
        "{line}"
    );
    frozen.thaw();
    assert_eq!(frozen.stop().status, "exit 0");
}

#[test]
fn sigterm_is_answered_while_the_volume_hangs() {
    let Some(frozen) = Frozen::start() else {
        return;
    };
    frozen.kept().signal(libc::SIGTERM);
    // The kernel keeps a process whose thread waits for the disk; what clawkeeper can do is done.
    frozen.kept().wait_for("stopped");
    frozen.thaw();
    let ended = frozen.end();
    assert_eq!(ended.status, "exit 0");
    assert_eq!(
        ended
            .lines("holding: the gateway is not started until this is mended")
            .len(),
        1,
        "it did not wait for the disk"
    );
}

/// A state folder that one file fills.
fn on_a_full_volume(place: Place) -> (Plan, PathBuf) {
    let plan = Plan::new(place)
        .options(SOON)
        .mounted("-t tmpfs -o size=256k tmpfs");
    let fill = plan.state().join("fill");
    let plan = plan.prepare(&format!(
        "{{ cat /dev/zero > '{}' 2>&-; true; }}",
        fill.display()
    ));
    (plan, fill)
}

/// True when nothing but `/` is mounted above a path.
fn is_on_root(path: &Path) -> bool {
    let output = Command::new("findmnt")
        .args(["-n", "-o", "TARGET", "-T"])
        .arg(path)
        .output()
        .expect("findmnt of util-linux");
    output.stdout == b"/\n"
}

/// clawkeeper looking at a volume that froze while it held for another reason.
struct Frozen {
    plan: Plan,
    listener: Listener,
    kept: Option<Kept>,
    /// Keeps the file system reachable, so that it is thawed whatever happens.
    root: fs::File,
}

const FREEZE: libc::Ioctl = 0xC004_5877u32 as libc::Ioctl;
const THAW: libc::Ioctl = 0xC004_5878u32 as libc::Ioctl;

impl Frozen {
    fn start() -> Option<Self> {
        if !Path::new("/dev/loop-control").exists() || !nix::unistd::getuid().is_root() {
            skip("no loop devices: a volume cannot be frozen");
            return None;
        }
        let listener = Listener::new();
        let plan = listener.on(Plan::new(Place::Subreaper).options(SOON));
        let image = plan.file("image");
        fs::File::create(&image)
            .and_then(|file| file.set_len(128 << 20))
            .expect("an image");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status();
        assert!(made.expect("mkfs.ext4").success());
        let plan = plan.mounted(&format!("-o loop '{}'", image.display()));
        let config = plan.config();
        let plan = plan.prepare(&format!("echo '{{' > '{}'", config.display()));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains("openclaw.json"), "{why}");
        let root = fs::File::open(kept.inside(&plan.state())).expect("the volume");
        let frozen = Self {
            plan,
            listener,
            kept: Some(kept),
            root,
        };
        frozen.call(FREEZE);
        // Its next look at the volume is the one that hangs: a thread of its waits in the kernel.
        poll_until(
            support::PATIENCE,
            "a thread that waits for the disk",
            || {
                let states = frozen.kept().thread_states();
                if states.contains(&'D') {
                    Ok(())
                } else {
                    Err(states)
                }
            },
        );
        Some(frozen)
    }

    fn kept(&self) -> &Kept {
        self.kept.as_ref().expect("it has not ended")
    }

    fn call(&self, what: libc::Ioctl) {
        // SAFETY: both requests take a number that they ignore.
        let answer = unsafe { libc::ioctl(self.root.as_raw_fd(), what, 0) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    fn thaw(&self) {
        self.call(THAW);
    }

    fn stop(self) -> Ended {
        self.kept().signal(libc::SIGTERM);
        self.end()
    }

    fn end(mut self) -> Ended {
        self.kept.take().expect("it has not ended").end()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // EINVAL: it was thawed. SAFETY: as above.
        unsafe { libc::ioctl(self.root.as_raw_fd(), THAW, 0) };
    }
}

fn send(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
