//! What a reader must know of the machine to judge the figures. No names of hosts or people, no date.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::statfs::statfs;
use nix::sys::utsname::uname;

use crate::bed::Bed;
use crate::proc;

/// Pairs of a name and a value.
pub(crate) fn machine(bed: &Bed) -> Vec<(&'static str, String)> {
    let cpu = proc::read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kb = proc::field(&proc::read("/proc/meminfo"), "MemTotal:");
    let kernel = uname().map_or_else(
        |_| "unknown".into(),
        |names| {
            format!(
                "{} {}",
                names.release().display(),
                names.machine().display()
            )
        },
    );
    let [memory, disk] = bed.folders();
    let mut facts = vec![
        ("kernel", kernel),
        ("cores", format!("{cores} x {model}")),
        ("memory", format!("{} MB", memory_kb / 1024)),
        ("load before", proc::read("/proc/loadavg").trim().to_owned()),
        (
            "scratch",
            format!("{}, disk {}", file_system(memory), file_system(disk)),
        ),
    ];
    facts.extend(versions().map(|versions| ("packages", versions)));
    if let Ok(binary) = std::fs::metadata(&bed.clawkeeper) {
        facts.push(("clawkeeper", format!("{} bytes", binary.len())));
    }
    facts
}

fn file_system(folder: &Path) -> String {
    match statfs(folder).map(|found| found.filesystem_type().0) {
        Ok(0x0102_1994) => "tmpfs".into(),
        Ok(0xef53) => "ext4".into(),
        Ok(0x5846_5342) => "xfs".into(),
        Ok(0x9123_683e) => "btrfs".into(),
        Ok(0x794c_7630) => "overlayfs".into(),
        Ok(other) => format!("file system {other:#x}"),
        Err(why) => why.to_string(),
    }
}

fn versions() -> Option<String> {
    let answer = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${Version}\n"])
        .args(["tini", "dumb-init", "s6", "supervisor"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let versions: Vec<&str> = text.lines().collect();
    (!versions.is_empty()).then(|| versions.join(", "))
}
