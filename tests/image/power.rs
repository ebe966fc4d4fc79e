//! Power cuts below the real gateway: the volume is a disk of its own that stops taking writes at one instant, then
//! everything is killed. The next container is a new one, on what had reached the disk.

use crate::container::{Container, LONG, image, text};
use crate::moments::{Moment, WRITING, assert_came_up_at_once, cuts, moment};
use crate::support::{self, poll_until, real};
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// `CLAWKEEPER_IMAGE_CUTS` is how many cuts in a row there are (3; each is half a start of the gateway or a whole one).
#[test]
fn the_gateway_is_ready_after_power_cuts_in_a_row_unaided() {
    let Some(image) = image() else { return };
    let Some(mut disk) = Disk::new() else { return };
    let _turn = real::Turn::wait(1);
    let cuts = cuts("CLAWKEEPER_IMAGE_CUTS", 3);
    for cut in 0..cuts {
        let container = disk.container(image);
        let how = match moment(cut) {
            Moment::Starting(word) => {
                wait_for(&container, word);
                word
            }
            Moment::Running => {
                assert_ready(&container, cut);
                let_run(cut);
                "running"
            }
            Moment::Writing => {
                assert_ready(&container, cut);
                container.exec(&["sh", "-c", WRITING]);
                let_run(cut);
                "writing the config"
            }
        };
        disk.cut(container);
        println!("power cut {} of {cuts}: {how}", cut + 1);
    }
    let container = disk.container(image);
    assert_ready(&container, cuts);
    container.exec(&[
        "sh",
        "-c",
        "clawkeeper replay /data/clawkeeper/journal.ndjson >/dev/null",
    ]);
    let mode = container.exec(&["clawkeeper", "config", "get", "gateway.mode"]);
    assert_eq!(mode.trim_matches('"'), "local");
    assert_eq!(container.stop(LONG), "0", "{}", container.logs());
}

/// Lets it run for a while that differs each time: the moment of the cut is what is tested.
fn let_run(cut: usize) {
    // ext4 commits every 5 s: these fall after, before and between commits.
    let milliseconds = [5_600, 1_700, 300, 3_100, 0];
    std::thread::sleep(Duration::from_millis(
        milliseconds[cut / 2 % milliseconds.len()],
    ));
}

fn wait_for(container: &Container, word: &str) -> String {
    poll_until(LONG, word, || {
        let logs = container.logs();
        container.assert_running();
        assert!(!logs.contains("holding"), "it waits for a person: {logs}");
        if logs.contains(word) {
            Ok(logs)
        } else {
            Err(logs)
        }
    })
}

fn assert_ready(container: &Container, cuts: usize) {
    let logs = wait_for(container, "clawkeeper: gateway ready");
    assert_came_up_at_once(&logs, cuts);
}

/// A file system in a file, and a copy of it for each life after a cut.
struct Disk {
    folder: tempfile::TempDir,
    life: usize,
}

/// `EXT4_IOC_SHUTDOWN`: no byte more reaches the disk; with this flag, not even what the journal holds.
const SHUTDOWN: libc::Ioctl = 0x8004_587Du32 as libc::Ioctl;
const WITHOUT_THE_JOURNAL: u32 = 2;

impl Disk {
    fn new() -> Option<Self> {
        if !Path::new("/dev/loop-control").exists() || !nix::unistd::getuid().is_root() {
            support::skip("no loop devices: a disk cannot lose its power");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for the test");
        let disk = Self { folder, life: 0 };
        let file = File::create(disk.image()).expect("a disk");
        file.set_len(1 << 30).expect("a disk");
        run("mkfs.ext4", &["-q".as_ref(), &disk.image()]);
        disk.mount();
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join(format!("image-{}", self.life))
    }

    fn mounted_at(&self) -> PathBuf {
        self.folder.path().join(format!("data-{}", self.life))
    }

    fn mount(&self) {
        std::fs::create_dir(self.mounted_at()).expect("a folder");
        run(
            "mount",
            &["-oloop".as_ref(), &self.image(), &self.mounted_at()],
        );
    }

    fn unmount(&self) {
        // Lazily: a container of a test that failed may be about for a moment.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.mounted_at())
            .output();
    }

    /// A new container with it as its volume, on Fly by what it is told.
    fn container(&self, image: &str) -> Container {
        let volume = format!("{}:/data", self.mounted_at().display());
        let options = [
            "--volume",
            &volume,
            "--env",
            "OPENCLAW_GATEWAY_TOKEN=a-token-for-the-image-test",
            "--env",
            "FLY_APP_NAME=my-openclaw",
            "--hostname=148e21",
            "--health-interval=disable",
        ];
        Container::start(&options, image, &[])
    }

    /// Nothing that was not on the disk before is there afterwards.
    ///
    /// Life goes on with a copy: whoever made a mount namespace meanwhile, another test for one, still has this one
    /// mounted, and the kernel would hand out the same dead file system again.
    fn cut(&mut self, container: Container) {
        let root = File::open(self.mounted_at()).expect("the volume");
        // SAFETY: reads one number.
        let answer = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &WITHOUT_THE_JOURNAL) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        drop(root);
        container.kill();
        drop(container);
        self.unmount();
        let dead = self.image();
        self.life += 1;
        run("cp", &["--sparse=always".as_ref(), &dead, &self.image()]);
        std::fs::remove_file(dead).expect("the disk of before");
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        text(&output.stderr)
    );
}
