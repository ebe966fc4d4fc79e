//! Volumes that are missing, full, out of inodes or read-only, and mended while we hold.

use crate::support::real::{GOOD_CONFIG, NEWEST, Running, Site, kill};
use crate::support::skip;
use nix::libc;
use nix::unistd::Uid;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A hold looks again at a volume by itself every five seconds.
const PROMPTLY: Duration = Duration::from_secs(8);

/// A state folder of its own on a small file system that only clawkeeper and its gateway see.
struct Volume {
    keeper: Running,
    site: Site,
}

impl Volume {
    /// `None` where nothing may be mounted.
    fn new(options: &str, spoil: &str, flags: &[&str]) -> Option<Self> {
        if !Uid::effective().is_root() {
            skip("only root may mount");
            return None;
        }
        let site = Site::new(NEWEST);
        let state = site.file("state");
        let mounts = format!(
            "state={}\nmount -t tmpfs -o {options} tmpfs $state\necho '{GOOD_CONFIG}' >$state/openclaw.json\n{spoil}",
            state.display(),
        );
        let keeper = site.keep_with_mounts(flags, &mounts);
        Some(Self { keeper, site })
    }

    /// A path on the volume, as seen from here.
    fn path(&mut self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper.pid());
        let state = self.site.state(name);
        PathBuf::from(root).join(state.strip_prefix("/").expect("an absolute path"))
    }

    /// Runs a command among clawkeeper's mounts; `$state` is the state folder.
    fn inside(&mut self, script: &str) {
        let pid = self.keeper.pid().to_string();
        let status = Command::new("nsenter")
            .args(["--target", &pid, "--mount", "/bin/sh", "-ec", script])
            .env("state", self.site.file("state"))
            .status();
        assert!(status.expect("nsenter").success(), "{script}");
    }

    /// It holds: nothing is started, and it stays.
    fn holds(&mut self, starts: usize) {
        self.keeper.wait_for_line(PROMPTLY, "holding");
        let site = &self.site;
        self.keeper.stays(Duration::from_secs(6), "it holds", || {
            let found = site.starts();
            if found.len() == starts {
                Ok(())
            } else {
                Err(found)
            }
        });
        assert!(self.keeper.is_running());
    }

    /// The gateway is started soon after the volume was mended.
    fn heals(&mut self, mend: impl FnOnce(&mut Self)) {
        let number = self.site.starts().len() + 1;
        let mended = Instant::now();
        mend(self);
        self.site.wait_for_start(number, &self.keeper);
        assert!(mended.elapsed() < PROMPTLY, "{:?}", mended.elapsed());
    }

    fn stop(mut self) {
        assert_eq!(self.keeper.stop().0, Some(0));
        self.site.wait_until_empty(&self.keeper);
    }
}

#[test]
fn a_full_volume_is_held_for_and_the_gateway_starts_once_there_is_room() {
    let fill = "cat /dev/zero >$state/ballast 2>/dev/null || true";
    let Some(mut volume) = Volume::new("size=256m", fill, &[]) else {
        return;
    };
    volume.holds(0);
    volume.heals(|volume| fs::remove_file(volume.path("ballast")).expect("our ballast"));
    volume.site.wait_until_ready(&volume.keeper);
    volume.stop();
}

#[test]
fn a_volume_that_fills_up_under_a_running_gateway_is_held_for_at_its_next_start() {
    let Some(mut volume) = Volume::new("size=256m", "", &[]) else {
        return;
    };
    volume.site.wait_until_ready(&volume.keeper);
    volume.inside("cat /dev/zero >$state/ballast 2>/dev/null || true");
    kill(volume.site.starts()[0], libc::SIGKILL);
    // It may find out by itself or by the gateway's refusal; it must not try for ever.
    volume
        .keeper
        .wait_for_line(Duration::from_secs(60), "holding");
    let starts = volume.site.starts().len();
    assert!(starts <= 2, "{starts} starts on a full volume");
    volume.holds(starts);
    volume.heals(|volume| fs::remove_file(volume.path("ballast")).expect("our ballast"));
    volume.site.wait_until_ready(&volume.keeper);
    volume.stop();
}

#[test]
fn a_volume_without_inodes_is_held_for() {
    let fill = "while touch $state/file-$((n=n+1)) 2>/dev/null; do :; done";
    let Some(mut volume) = Volume::new("nr_inodes=30", fill, &[]) else {
        return;
    };
    volume.holds(0);
    volume.heals(|volume| volume.inside("mount -o remount,nr_inodes=100k $state"));
    volume.stop();
}

#[test]
fn a_read_only_volume_is_held_for() {
    let spoil = "mount -o remount,ro $state";
    let Some(mut volume) = Volume::new("size=256m", spoil, &[]) else {
        return;
    };
    volume.holds(0);
    volume.heals(|volume| volume.inside("mount -o remount,rw $state"));
    volume.stop();
}

#[test]
fn a_missing_volume_is_held_for_when_the_setting_says_so() {
    let missing = "umount $state";
    let flags = ["--no-mount", "hold"];
    let Some(mut volume) = Volume::new("size=256m", missing, &flags) else {
        return;
    };
    volume.holds(0);
    volume.heals(|volume| volume.inside("mount -t tmpfs tmpfs $state"));
    volume.stop();
}
