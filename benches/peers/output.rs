//! How fast the child's output passes, what that costs the supervisor, and whether a line is lost.

use std::io::{PipeReader, Read};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Failure, Run, preparing};
use crate::lines::{Checker, LINE_BYTES};
use crate::proc::{Usage, supervisors};
use crate::role::Role;
use crate::series::{Heading, Metric, interleave};
use crate::subject::Subject;
use crate::wire::{Kind, ms_between, now_ns, readable};

const HEADINGS: [Heading; 3] = [
    (
        "output.rate",
        "output: through to the supervisor's stdout",
        "MB/s",
    ),
    (
        "output.cpu",
        "output: the supervisor's own CPU time",
        "s/GB",
    ),
    ("output.lost", "output: lines lost", "lines"),
];
/// A stream that is quiet for so long has nothing more to give.
const QUIET: Duration = Duration::from_secs(3);

/// Passes numbered lines through every subject.
pub(crate) fn measure(bed: &Bed, subjects: &[Subject], samples: u32, quick: bool) -> Vec<Metric> {
    let bytes: u64 = if quick { 300_000_000 } else { 2_000_000_000 };
    let count = bytes / LINE_BYTES as u64;
    let mut metrics = interleave(HEADINGS, subjects, samples, |subject| {
        pass(bed, subject, count)
    });
    if let Some(rate) = metrics.first_mut() {
        rate.more_is_better = true;
        rate.notes.push(format!(
            "{:.1} GB in lines of {LINE_BYTES} bytes, into a pipe of the kernel's usual size; s6 by way of s6-log",
            bytes_in_gb(bytes)
        ));
    }
    metrics
}

fn pass(bed: &Bed, subject: Subject, count: u64) -> Result<[f64; 3], Failure> {
    // std closes both ends on exec; a supervisor that inherited the reading one would never see it close.
    let (reading, writing) = std::io::pipe().map_err(preparing("a pipe"))?;
    let run = bed.launch_into(subject, Role::Lines(count), &writing, true)?;
    // The supervisor's is the only writing end left, so that its death ends the stream.
    drop(writing);
    run.wait_for(Kind::Started, Duration::from_secs(15))?;
    // Its own start is not part of what the output costs.
    std::thread::sleep(Duration::from_millis(200));
    let pids = supervisors(run.namespace.pid, &bed.me);
    let before = Usage::of(&pids);
    let received = receive(&run, reading, count)?;
    let cpu_ns = Usage::of(&pids).since(before).cpu_ns;
    let gb = bytes_in_gb(received.bytes).max(f64::MIN_POSITIVE);
    let cpu_s = cpu_ns as f64 / 1e9;
    let lost = (count - received.good) as f64;
    Ok([gb * 1e3 / (received.ms / 1e3), cpu_s / gb, lost])
}

struct Received {
    good: u64,
    bytes: u64,
    ms: f64,
}

/// Gives the word and reads until every line is there, or nothing comes any more.
fn receive(run: &Run, mut stream: PipeReader, count: u64) -> Result<Received, Failure> {
    let mut checker = Checker::new();
    let mut buffer = vec![0; 1 << 20];
    run.go();
    let begun_ns = now_ns();
    let mut last_ns = begun_ns;
    while checker.good < count {
        let [ready] = readable([&stream], Instant::now() + QUIET);
        if !ready {
            break;
        }
        match stream.read(&mut buffer).map_err(preparing("the output"))? {
            0 => break,
            read => checker.feed(&buffer[..read]),
        }
        last_ns = now_ns();
    }
    Ok(Received {
        good: checker.good,
        bytes: checker.bytes,
        ms: ms_between(begun_ns, last_ns),
    })
}

fn bytes_in_gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}
