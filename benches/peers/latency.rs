//! The three delays a deployment feels: start, respawn, stop.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bed::{Bed, Failure};
use crate::role::Role;
use crate::series::{Metric, interleave};
use crate::subject::Subject;
use crate::wire::{Kind, ms_between, now_ns};

/// Longer than the slowest peer takes for anything measured here.
const LIMIT: Duration = Duration::from_secs(15);
/// s6 and runit hold back a service that lived less than a second: give them none to hold back.
const LIVED_MS: u64 = 1200;
/// What the supervisor gets after its child's start before the stop signal comes; no multiple of its probes' pace.
const SETTLE: Duration = Duration::from_millis(330);

/// Exec of the supervisor to the first instruction of its child.
pub(crate) fn start(bed: &Bed, subjects: &[Subject], samples: u32) -> Vec<Metric> {
    let heading = (
        "start.first_instruction",
        "start: exec of the supervisor to its child's first instruction",
        "ms",
    );
    let mut metrics = interleave([heading], subjects, samples, |subject| {
        let run = bed.launch(subject, Role::Wait)?;
        let started = run.wait_for(Kind::Started, LIMIT)?;
        let exec_ns = run.namespace.exec_ns().map_err(Failure::Exec)?;
        Ok([ms_between(exec_ns, started.at_ns)])
    });
    for metric in &mut metrics {
        let in_memory = metric.median(Subject::Clawkeeper);
        let on_disk = metric.median(Subject::ClawkeeperDisk);
        if let (Some(in_memory), Some(on_disk)) = (in_memory, on_disk) {
            metric.notes.push(format!(
                "clawkeeper's state folder is on tmpfs; on the disk its fsync adds {:.2} ms",
                on_disk - in_memory
            ));
        }
    }
    metrics
}

/// Death of the child to the first instruction of the next one.
pub(crate) fn respawn(bed: &Bed, subjects: &[Subject], samples: u32) -> Vec<Metric> {
    let cases = [
        (
            Role::Crash,
            (
                "respawn.crash",
                "respawn: exit 1 in the first millisecond to the next child",
                "ms",
            ),
        ),
        (
            Role::Killed(LIVED_MS),
            (
                "respawn.kill",
                "respawn: SIGKILL after 1.2 s of life to the next child",
                "ms",
            ),
        ),
        (
            Role::Done(LIVED_MS),
            (
                "respawn.exit0",
                "respawn: exit 0 after 1.2 s of life to the next child",
                "ms",
            ),
        ),
    ];
    let one = |(role, heading)| {
        interleave([heading], subjects, samples, |subject| {
            let run = bed.launch(subject, role)?;
            let dying = run.wait_for(Kind::Dying, LIMIT)?;
            let started = run.wait_for(Kind::Started, LIMIT)?;
            Ok([ms_between(dying.at_ns, started.at_ns)])
        })
    };
    cases.into_iter().flat_map(one).collect()
}

/// SIGTERM at the supervisor to the child's handler, and to the end of both.
pub(crate) fn stop(bed: &Bed, subjects: &[Subject], samples: u32) -> Vec<Metric> {
    let headings = [
        (
            "stop.child",
            "stop: SIGTERM at the supervisor to its child's handler",
            "ms",
        ),
        (
            "stop.gone",
            "stop: SIGTERM at the supervisor until it is gone, its child with it",
            "ms",
        ),
    ];
    interleave(headings, subjects, samples, |subject| {
        let run = bed.launch(subject, Role::Wait)?;
        run.wait_for(Kind::Started, LIMIT)?;
        std::thread::sleep(SETTLE);
        let asked_ns = now_ns();
        run.namespace.signal(Signal::SIGTERM);
        // The record waits in the pipe: reading it now would take a core from the supervisor.
        let gone_ns = run.wait_gone(LIMIT)?;
        let handled = run.wait_for(Kind::Terminated, Duration::ZERO)?;
        Ok([
            ms_between(asked_ns, handled.at_ns),
            ms_between(asked_ns, gone_ns),
        ])
    })
}
