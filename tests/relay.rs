//! The output relay against real pipes, files, terminals and sockets.
#![allow(clippy::disallowed_methods)] // Tests wait, with the clock, for what threads do.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clawkeeper::core::output::LineEnd;
use clawkeeper::host::relay::{Drain, Drained, LineEvent, Relay, Sinks, Stream};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe;

const PATIENCE: Duration = Duration::from_secs(20);
const NOTICE: &[u8] = b"clawkeeper: ";

type Seen = Arc<Mutex<Vec<(u64, Vec<u8>, LineEnd)>>>;

#[test]
fn a_pipe_gets_every_byte() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let got = read_all(reader);
    let sent = text(20_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
}

#[test]
fn a_file_gets_every_byte_after_what_it_held() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut file = path.reopen().unwrap();
    file.write_all(b"before\n").unwrap();
    let (relay, _) = relay_to(file.try_clone().unwrap().into());
    let sent = text(20_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    // The offset is shared with whoever else holds the description, as with an inherited one.
    file.write_all(b"after\n").unwrap();
    let got = std::fs::read(path.path()).unwrap();
    assert_same(&got, &[&b"before\n"[..], &sent, b"after\n"].concat());
}

#[test]
fn a_file_open_for_appending_gets_every_byte() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let file = OpenOptions::new().append(true).open(path.path()).unwrap();
    let (relay, _) = relay_to(file.into());
    let sent = text(20_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    assert_same(&std::fs::read(path.path()).unwrap(), &sent);
}

#[test]
fn a_terminal_gets_every_byte() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let got = read_all(pty.master);
    let (relay, _) = relay_to(pty.slave);
    let sent = text(5_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    let got = String::from_utf8(got.join().unwrap()).unwrap();
    // The terminal itself turns newlines into carriage return and newline.
    assert_same(got.replace("\r\n", "\n").as_bytes(), &sent);
}

#[test]
fn a_socket_gets_every_byte() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let got = read_all(ours.into());
    let (relay, _) = relay_to(theirs.into());
    let sent = text(20_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
}

#[test]
fn dev_null_takes_everything_and_the_lines_are_still_seen() {
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let (relay, seen) = relay_to(null.into());
    let mut sent = text(50_000);
    sent.extend_from_slice(b"the last words\n");
    write_child(&relay, 3, &sent);
    assert_eq!(relay.drained(3, Drain::Passed, PATIENCE), Drained::Passed);
    let last = seen.lock().unwrap().last().cloned();
    assert_eq!(
        last,
        Some((3, b"the last words".to_vec(), LineEnd::Newline))
    );
    assert!(relay.tail().ends_with(b"\nthe last words\n"));
}

#[test]
fn a_million_lines_reach_a_reader_that_reads() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let got = read_all(reader);
    let sent = text(1_000_000);
    write_child(&relay, 1, &sent);
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
}

#[test]
fn stdout_and_stderr_of_one_object_keep_their_order() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let got = read_all(reader);
    let child = relay.attach(1).unwrap();
    let (mut out, mut err) = (File::from(child.stdout), File::from(child.stderr));
    let mut sent = Vec::new();
    for number in 0..5_000 {
        let line = format!("line {number}\n").into_bytes();
        let file = if number % 2 == 0 { &mut out } else { &mut err };
        file.write_all(&line).unwrap();
        sent.extend(line);
    }
    drop((out, err));
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
}

#[test]
fn stdout_and_stderr_of_two_objects_stay_apart() {
    let (out_reader, out_writer) = pipe().unwrap();
    let (err_reader, err_writer) = pipe().unwrap();
    let sinks = Sinks {
        stdout: out_writer,
        stderr: err_writer,
    };
    let streams = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&streams);
    let on_line = move |event: LineEvent<'_>| kept.lock().unwrap().push(event.stream);
    let relay = Relay::start(sinks, Box::new(on_line)).unwrap();
    let (out, err) = (read_all(out_reader), read_all(err_reader));
    let child = relay.attach(1).unwrap();
    File::from(child.stdout).write_all(b"out\n").unwrap();
    File::from(child.stderr).write_all(b"err\n").unwrap();
    assert!(relay.shutdown(PATIENCE));
    assert_eq!(out.join().unwrap(), b"out\n");
    assert_eq!(err.join().unwrap(), b"err\n");
    let streams = streams.lock().unwrap();
    assert!(streams.contains(&Stream::Stdout) && streams.contains(&Stream::Stderr));
}

#[test]
fn the_inherited_description_keeps_its_flags() {
    let (reader, writer) = pipe().unwrap();
    let ours = writer.try_clone().unwrap();
    let (relay, _) = relay_to(writer);
    let got = read_all(reader);
    write_child(&relay, 1, &text(10_000));
    assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
    let flags = OFlag::from_bits_retain(fcntl(&ours, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "{flags:?}");
    assert!(relay.shutdown(PATIENCE));
    drop(ours);
    got.join().unwrap();
}

#[test]
fn a_reader_that_stops_costs_whole_lines_and_one_notice() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let sent = text(200_000);
    let began = Instant::now();
    write_child(&relay, 1, &sent);
    // The credit is one second; an inherited descriptor would never have returned.
    let blocked = began.elapsed();
    assert!(blocked < Duration::from_secs(8), "blocked for {blocked:?}");
    let got = read_all(reader);
    wait_until("the drop is told", || {
        (relay.stats().notices > 0).then_some(())
    });
    write_child(&relay, 2, b"and on it goes\n");
    assert_eq!(relay.drained(2, Drain::Passed, PATIENCE), Drained::Passed);
    let stats = relay.stats();
    assert!(relay.shutdown(PATIENCE));
    let got = got.join().unwrap();
    let missing = check_whole_lines(&got, &sent, b"and on it goes\n");
    assert_eq!(missing.notices, 1);
    assert_eq!(missing.lines, stats.dropped_lines);
    assert_eq!(missing.bytes, stats.dropped_bytes);
    assert_eq!(missing.told_lines, stats.dropped_lines);
}

#[test]
fn a_shutdown_right_after_a_stall_tells_what_was_dropped() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let sent = text(200_000);
    write_child(&relay, 1, &sent);
    let got = read_all(reader);
    // Less than the reader would need to earn credit again.
    assert!(relay.shutdown(Duration::from_millis(500)));
    let missing = check_whole_lines(&got.join().unwrap(), &sent, b"");
    assert!(missing.lines > 0 && missing.notices == 1);
    assert_eq!(missing.lines, missing.told_lines);
}

#[test]
fn a_slow_reader_costs_whole_lines_only() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let slow = std::thread::spawn(move || {
        let mut file = File::from(reader);
        let mut got = Vec::new();
        let mut piece = [0; 3000];
        let mut turns = 0;
        loop {
            let count = file.read(&mut piece).unwrap();
            if count == 0 {
                return got;
            }
            got.extend_from_slice(&piece[..count]);
            turns += 1;
            if turns < 1200 {
                // The reader is slow; this is what is tested, not a wait for something.
                std::thread::park_timeout(Duration::from_millis(3));
            }
        }
    });
    let sent = text(150_000);
    write_child(&relay, 1, &sent);
    assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
    wait_until("it flows again", || {
        (relay.stats().notices > 0).then_some(())
    });
    let stats = relay.stats();
    assert!(relay.shutdown(PATIENCE));
    let missing = check_whole_lines(&slow.join().unwrap(), &sent, b"");
    assert_eq!(missing.lines, missing.told_lines);
    assert_eq!(missing.lines, stats.dropped_lines);
    assert!(missing.notices >= 1);
}

#[test]
fn a_short_pause_of_the_reader_costs_nothing() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let sent = text(40_000);
    let writer = {
        let child = relay.attach(1).unwrap();
        let sent = sent.clone();
        std::thread::spawn(move || File::from(child.stdout).write_all(&sent).unwrap())
    };
    wait_until("the pipes are full", || {
        (relay.stats().read_bytes > 500_000).then_some(())
    });
    let got = read_all(reader);
    writer.join().unwrap();
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
}

#[test]
fn a_closed_reader_neither_ends_the_relay_nor_holds_up_the_gateway() {
    let (reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    drop(reader);
    let mut sent = text(100_000);
    sent.extend_from_slice(b"fatal: the reason\n");
    write_child(&relay, 1, &sent);
    assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
    assert!(has_line(&seen, b"fatal: the reason"));
    assert!(relay.shutdown(PATIENCE));
}

#[test]
fn a_full_disk_neither_ends_the_relay_nor_holds_up_the_gateway() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (relay, seen) = relay_to(full.into());
    let mut sent = text(100_000);
    sent.extend_from_slice(b"fatal: the reason\n");
    write_child(&relay, 1, &sent);
    assert_ne!(relay.drained(1, Drain::Seen, PATIENCE), Drained::Late);
    assert!(has_line(&seen, b"fatal: the reason"));
}

#[test]
fn a_last_line_without_newline_is_seen_when_the_output_ends() {
    let (reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    let got = read_all(reader);
    write_child(&relay, 7, b"first\nFATAL ERROR: Reached heap limit");
    assert_eq!(relay.drained(7, Drain::Passed, PATIENCE), Drained::Passed);
    let expected = [
        (7, b"first".to_vec(), LineEnd::Newline),
        (
            7,
            b"FATAL ERROR: Reached heap limit".to_vec(),
            LineEnd::Unfinished,
        ),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert!(relay.mid_line());
    assert!(relay.shutdown(PATIENCE));
    assert_eq!(
        got.join().unwrap(),
        b"first\nFATAL ERROR: Reached heap limit"
    );
}

#[test]
fn a_descendant_that_holds_the_pipe_does_not_delay_the_drain() {
    let (_reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    let child = relay.attach(1).unwrap();
    let descendant = child.stdout.try_clone().unwrap();
    File::from(child.stdout).write_all(b"dying, half").unwrap();
    assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
    assert!(has_line(&seen, b"dying, half"));
    // What the descendant adds to that line is not taken for a line of its own.
    File::from(descendant)
        .write_all(b" a line\nnext\n")
        .unwrap();
    wait_until("the next line", || has_line(&seen, b"next").then_some(()));
    assert!(!has_line(&seen, b" a line"));
}

#[test]
fn the_reason_of_death_is_seen_while_the_reader_is_stopped() {
    let (_reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    let mut sent = text(15_000);
    sent.extend_from_slice(b"fatal: the reason\n");
    write_child(&relay, 1, &sent);
    assert_eq!(relay.drained(1, Drain::Seen, PATIENCE), Drained::Seen);
    assert!(has_line(&seen, b"fatal: the reason"));
    assert!(relay.tail().ends_with(b"fatal: the reason\n"));
}

#[test]
fn a_line_split_over_writes_is_one_line() {
    let (_reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    let mut child = File::from(relay.attach(1).unwrap().stdout);
    for part in ["list", "ening on", " 3000\nx"] {
        child.write_all(part.as_bytes()).unwrap();
        wait_for_bytes(&relay, part.len());
    }
    wait_until("the line", || {
        has_line(&seen, b"listening on 3000").then_some(())
    });
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn under_flood_only_whole_lines_are_seen_and_the_last_ones_always() {
    let (reader, writer) = pipe().unwrap();
    let (relay, seen) = relay_to(writer);
    let got = read_all(reader);
    let sent = text(1_000_000);
    write_child(&relay, 1, &sent);
    assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
    assert!(relay.shutdown(PATIENCE));
    assert_same(&got.join().unwrap(), &sent);
    let seen = seen.lock().unwrap();
    let last = format!("{:>99}", 999_999);
    assert_eq!(
        seen.last().map(|(_, line, _)| &line[..]),
        Some(last.as_bytes())
    );
    // Where the numbers jump, and nowhere else, a gap is told.
    let mut next = 0;
    let mut is_gap = false;
    for (_, line, end) in seen.iter() {
        if *end == LineEnd::Gap {
            is_gap = true;
            continue;
        }
        assert_eq!((line.len(), *end), (99, LineEnd::Newline));
        let number: u64 = String::from_utf8_lossy(line).trim().parse().unwrap();
        assert!(
            number == next || (is_gap && number > next),
            "{number} after {next}"
        );
        (next, is_gap) = (number + 1, false);
    }
}

#[test]
fn our_own_line_never_breaks_a_line_of_the_gateway() {
    let (reader, writer) = pipe().unwrap();
    let (relay, _) = relay_to(writer);
    let got = read_all(reader);
    let sent = text(300_000);
    let child = relay.attach(1).unwrap();
    let flood = {
        let sent = sent.clone();
        std::thread::spawn(move || File::from(child.stdout).write_all(&sent).unwrap())
    };
    for _ in 0..20 {
        assert!(relay.say(b"clawkeeper: 0 lines, it says\n"));
        wait_for_bytes(&relay, 100_000);
    }
    flood.join().unwrap();
    assert!(relay.shutdown(PATIENCE));
    let missing = check_whole_lines(&got.join().unwrap(), &sent, b"");
    assert_eq!((missing.lines, missing.notices), (0, 20));
}

#[test]
fn at_rest_the_thread_does_not_wake_up() {
    let (reader, writer) = pipe().unwrap();
    let tid = Arc::new(AtomicI32::new(0));
    let on_line = {
        let tid = Arc::clone(&tid);
        move |_: LineEvent<'_>| tid.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst)
    };
    let relay = Relay::start(both(writer), Box::new(on_line)).unwrap();
    let mut child = File::from(relay.attach(1).unwrap().stdout);
    let got = read_all(reader);
    child.write_all(&text(30_000)).unwrap();
    let tid = wait_until("a line", || {
        Some(tid.load(Ordering::SeqCst)).filter(|&tid| tid != 0)
    });
    let path = format!("/proc/self/task/{tid}/status");
    let switches = || {
        let status = std::fs::read_to_string(&path).unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt"));
        line.unwrap().to_owned()
    };
    // At rest means: a whole second without a switch, which has to come within the patience.
    wait_until("a second without a wake-up", || {
        let before = switches();
        std::thread::park_timeout(Duration::from_secs(1));
        (before == switches()).then_some(())
    });
    drop(child);
    assert!(relay.shutdown(PATIENCE));
    got.join().unwrap();
}

/// Throughput and CPU per GB of the relay alone: writer and reader are processes of their own.
/// `cargo test --release --test relay -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure_throughput() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = |append| {
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(append);
        OwnedFd::from(options.open(scratch.path().join("log")).unwrap())
    };
    let null = || OwnedFd::from(OpenOptions::new().write(true).open("/dev/null").unwrap());
    let (socket, socket_reader) = UnixStream::pair().unwrap();
    let block = text(650);
    for (name, bytes, block, (sink, reader)) in [
        (
            "cat, 65,000-byte writes",
            4_000_000_000,
            &block[..],
            pipe_pair(),
        ),
        (
            "cat, 4,000-byte writes",
            2_000_000_000,
            &block[..4000],
            pipe_pair(),
        ),
        (
            "cat, 100-byte writes",
            500_000_000,
            &block[..100],
            pipe_pair(),
        ),
        ("/dev/null", 4_000_000_000, &block, (null(), None)),
        (
            "socket",
            2_000_000_000,
            &block,
            (socket.into(), Some(socket_reader.into())),
        ),
        ("file", 300_000_000, &block, (file(false), None)),
        ("append file", 300_000_000, &block, (file(true), None)),
    ] {
        let mut cat = reader.map(|reader: OwnedFd| {
            let mut cat = std::process::Command::new("cat");
            cat.stdin(reader).stdout(null()).spawn().unwrap()
        });
        let relay = Relay::start(both(sink), Box::new(|_| {})).unwrap();
        let child = relay.attach(1).unwrap();
        let (cpu_before, began) = (own_cpu_seconds(), Instant::now());
        write_from_process(child.stdout, block, bytes);
        drop(child.stderr);
        assert_eq!(relay.drained(1, Drain::Passed, PATIENCE), Drained::Passed);
        let (took, cpu) = (began.elapsed(), own_cpu_seconds() - cpu_before);
        let stats = relay.stats();
        assert!(relay.shutdown(PATIENCE));
        if let Some(cat) = &mut cat {
            cat.wait().unwrap();
        }
        println!(
            "{name}: {:.0} MB/s, {:.3} CPU-s/GB, {} lines dropped",
            bytes as f64 / 1e6 / took.as_secs_f64(),
            cpu / (bytes as f64 / 1e9),
            stats.dropped_lines,
        );
        assert_eq!(stats.read_bytes, bytes as u64);
    }
}

/// What a start costs: new pipes, and the wait for the last words of the gateway before.
#[test]
#[ignore = "a measurement"]
fn measure_attach_and_drain() {
    let (reader, writer) = pipe().unwrap();
    let got = read_all(reader);
    let (relay, _) = relay_to(writer);
    let (mut attach_us, mut drain_us) = (Vec::new(), Vec::new());
    for attempt in 0..1000 {
        let began = Instant::now();
        let child = relay.attach(attempt).unwrap();
        attach_us.push(began.elapsed().as_micros());
        drop(child.stderr);
        File::from(child.stdout)
            .write_all(b"some\nlast words")
            .unwrap();
        let began = Instant::now();
        assert_ne!(relay.drained(attempt, Drain::Seen, PATIENCE), Drained::Late);
        drain_us.push(began.elapsed().as_micros());
    }
    attach_us.sort_unstable();
    drain_us.sort_unstable();
    println!(
        "attach: median {} us, 99 % {} us",
        attach_us[500], attach_us[990]
    );
    println!(
        "drained: median {} us, 99 % {} us",
        drain_us[500], drain_us[990]
    );
    assert!(relay.shutdown(PATIENCE));
    got.join().unwrap();
}

fn pipe_pair() -> (OwnedFd, Option<OwnedFd>) {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    (writer, Some(reader))
}

/// Writes `block` until `bytes` are written, in a process of its own, so that it does not count.
fn write_from_process(to: OwnedFd, block: &[u8], bytes: usize) {
    use nix::unistd::{ForkResult, fork, write};
    // SAFETY: the forked child only writes to a descriptor and leaves by _exit.
    let forked = unsafe { fork() }.unwrap();
    match forked {
        ForkResult::Child => {
            let mut left = bytes;
            while left > 0 {
                match write(&to, &block[..left.min(block.len())]) {
                    Ok(count) => left -= count,
                    Err(_) => break,
                }
            }
            // SAFETY: _exit runs no handlers, which belong to the parent.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(to);
            nix::sys::wait::waitpid(child, None).unwrap();
        }
    }
}

fn own_cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    us as f64 / 1e6
}

struct Missing {
    lines: u64,
    bytes: u64,
    notices: u64,
    told_lines: u64,
}

/// `got` is `sent` without some whole lines, with lines of ours in between, and then `after`.
fn check_whole_lines(got: &[u8], sent: &[u8], after: &[u8]) -> Missing {
    let mut missing = Missing {
        lines: 0,
        bytes: 0,
        notices: 0,
        told_lines: 0,
    };
    let mut expected = sent
        .split_inclusive(|&b| b == b'\n')
        .chain((!after.is_empty()).then_some(after));
    for line in got.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(NOTICE) {
            missing.notices += 1;
            let text = String::from_utf8_lossy(line);
            missing.told_lines += text.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            continue;
        }
        loop {
            let next = expected.next();
            let Some(next) = next else {
                panic!("not a whole line: {:?}", String::from_utf8_lossy(line))
            };
            if next == line {
                break;
            }
            missing.lines += 1;
            missing.bytes += next.len() as u64;
        }
    }
    for line in expected {
        missing.lines += 1;
        missing.bytes += line.len() as u64;
    }
    missing
}

fn relay_to(sink: OwnedFd) -> (Relay, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let on_line = move |event: LineEvent<'_>| {
        let mut kept = kept.lock().unwrap();
        kept.push((event.attempt, event.line.to_vec(), event.end));
    };
    (Relay::start(both(sink), Box::new(on_line)).unwrap(), seen)
}

fn both(sink: OwnedFd) -> Sinks {
    Sinks {
        stdout: sink.as_fd().try_clone_to_owned().unwrap(),
        stderr: sink,
    }
}

fn write_child(relay: &Relay, attempt: u64, bytes: &[u8]) {
    let child = relay.attach(attempt).unwrap();
    drop(child.stderr);
    File::from(child.stdout).write_all(bytes).unwrap();
}

fn read_all(reader: OwnedFd) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut got = Vec::new();
        // A terminal ends with EIO instead of an end of file.
        let _ = File::from(reader).read_to_end(&mut got);
        got
    })
}

/// Lines of 100 bytes, each with its number.
fn text(lines: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines * 100);
    for number in 0..lines {
        writeln!(text, "{number:>99}").unwrap();
    }
    text
}

fn has_line(seen: &Seen, wanted: &[u8]) -> bool {
    seen.lock()
        .unwrap()
        .iter()
        .any(|(_, line, _)| line == wanted)
}

/// Until the relay has taken so many bytes more.
fn wait_for_bytes(relay: &Relay, more: usize) {
    let before = relay.stats().read_bytes;
    let began = Instant::now();
    // Some may have been taken before we looked: a pause is enough then.
    while relay.stats().read_bytes < before + more as u64
        && began.elapsed() < Duration::from_millis(50)
    {
        std::thread::yield_now();
    }
}

fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn assert_same(got: &[u8], sent: &[u8]) {
    if got != sent {
        let differs = got.iter().zip(sent).position(|(a, b)| a != b);
        panic!(
            "{} bytes of {}, first difference at {differs:?}",
            got.len(),
            sent.len()
        );
    }
}
