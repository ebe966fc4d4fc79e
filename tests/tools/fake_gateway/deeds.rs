//! What the fake gateway does besides answering: output, other processes, lock files.

#![allow(
    clippy::disallowed_methods,
    reason = "a test tool that reads the clock, files and the environment"
)]

use super::script::Script;
use clawkeeper::host::early::SignalSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Memory that is really there: every byte is written.
fn take(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

/// Takes the memory that was asked for, on a thread of its own, and never gives a leak back.
fn use_memory(script: &Script) {
    std::mem::forget(take(script.weight << 20));
    let leaks = script
        .leak_in_boot
        .is_none_or(|boot| script.boots() == boot);
    if let Some(kib) = script.leak.filter(|_| leaks) {
        const A_SECOND: u32 = 10;
        std::thread::spawn(move || {
            loop {
                std::mem::forget(take(kib * 1024 / A_SECOND as usize));
                std::thread::sleep(Duration::from_secs(1) / A_SECOND);
            }
        });
    }
    if let Some(mib) = script.spikes {
        const HALF: Duration = Duration::from_secs(5);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(HALF);
                let taken = take(mib << 20);
                std::thread::sleep(HALF);
                drop(taken);
            }
        });
    }
}

/// What was asked for once it is ready.
pub(crate) fn run_errands(script: &Script) {
    use_memory(script);
    if let Some(count) = script.orphans {
        leave_orphans(count);
        script.note("orphans");
    }
    if let Some(name) = &script.say {
        println!("it is {:?}", std::env::var_os(name).unwrap_or_default());
    }
    if script.lines > 0 {
        let (lines, rate) = (script.lines, script.bytes_per_second);
        let longest = print_lines(lines, rate);
        script.note(&format!("printed,longest-wait={}", longest.as_millis()));
    }
}

/// Prints numbered lines and returns the longest time that one write took.
pub(crate) fn print_lines(lines: u64, bytes_per_second: Option<u64>) -> Duration {
    pub(crate) const LINE: usize = 100;
    pub(crate) const BATCH: u64 = 500;
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    let mut stdout = std::io::stdout().lock();
    for first in (0..lines).step_by(usize::try_from(BATCH).expect("small")) {
        let batch: String = (first..lines.min(first + BATCH))
            .map(|number| format!("line {number:0>width$}\n", width = LINE - 6))
            .collect();
        let due = bytes_per_second.map(|rate| {
            began + Duration::from_secs_f64((first * LINE as u64) as f64 / rate as f64)
        });
        if let Some(wait) = due.and_then(|due| due.checked_duration_since(Instant::now())) {
            std::thread::sleep(wait);
        }
        let write = Instant::now();
        stdout.write_all(batch.as_bytes()).expect("stdout");
        stdout.flush().expect("stdout");
        longest = longest.max(write.elapsed());
    }
    longest
}

pub(crate) fn start_helper(script: &Script) {
    let mut command = Command::new(std::env::current_exe().expect("/proc"));
    command.arg("helper");
    if script.stubborn_helper {
        command.arg("--ignore-term");
    }
    if let Some(after) = &script.eating_helper {
        command.args(["--end", "eat", "--end-after", after]);
    }
    if let Some(diary) = &script.diary {
        command.arg("--diary").arg(diary);
    }
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    drop(command.spawn().expect("a helper"));
}

pub(crate) fn help(script: &Script, stops: SignalSet) {
    script.note("helper");
    if let Some(end) = script.end.clone() {
        std::thread::sleep(script.end_after);
        end.happen();
    }
    loop {
        if stops.wait(None).is_some() && !script.ignore_term {
            return;
        }
    }
}

/// Makes processes whose parent ends, so that they are the reaper's, and lets them all end at once.
pub(crate) fn leave_orphans(count: usize) {
    let tool = std::env::current_exe()
        .expect("/proc")
        .with_file_name("pid1");
    let status = Command::new(tool)
        .args(["child", "orphans", &count.to_string()])
        .status()
        .expect("the pid1 tool");
    assert!(status.success(), "{count} orphans: {status}");
}

pub(crate) fn lock_files() -> [PathBuf; 2] {
    let state = PathBuf::from(std::env::var_os("OPENCLAW_STATE_DIR").expect("a state folder"));
    let folder = state
        .join("tmp")
        .join(format!("openclaw-{}", nix::unistd::getuid()));
    fs::create_dir_all(&folder).expect("a folder for locks");
    ["gateway.0a1b2c3d.lock", "gateway.state.lock"].map(|name| folder.join(name))
}

pub(crate) fn start_ticks(pid: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

/// Refuses as 2026.9.6 does when a lock names a process that lives, be it ourselves.
pub(crate) fn take_locks(script: &Script) {
    let us = u64::from(std::process::id());
    for path in lock_files() {
        let old: Option<serde_json::Value> = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str(text.trim()).ok());
        let owner = old.and_then(|lock| Some((lock["pid"].as_u64()?, lock["startTime"].as_u64())));
        if let Some((pid, ticks)) = owner
            && start_ticks(pid).is_some_and(|alive| ticks.is_none_or(|ticks| ticks == alive))
        {
            script.note("locked-out");
            eprintln!(
                "Another gateway (pid {pid}) already owns this state directory; refusing to run"
            );
            std::process::exit(78);
        }
        let lock =
            serde_json::json!({"pid": us, "port": script.port, "startTime": start_ticks(us)});
        // 2026.9.6 writes bytes encoded as white space behind it.
        fs::write(&path, format!("{lock}\n\t  \t \t\t \n")).expect("a lock");
    }
}

pub(crate) fn remove_locks(script: &Script) {
    if script.locks {
        for path in lock_files() {
            // A test may have taken it away.
            let _ = fs::remove_file(path);
        }
    }
}
