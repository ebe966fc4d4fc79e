//! What a supervisor costs while nothing happens.
//!
//! All of them rest at the same time: resting ones do not disturb each other, and the run is shorter.

use std::time::Duration;

use crate::bed::{Bed, Failure, Run, free_port, preparing};
use crate::options::idle_window;
use crate::proc::{Memory, Usage, supervisors};
use crate::role::Role;
use crate::series::{Heading, Metric, interleave};
use crate::subject::Subject;
use crate::wire::Kind;

const HEADINGS: [Heading; 4] = [
    ("idle.pss", "idle: proportional memory (PSS)", "KB"),
    ("idle.private_dirty", "idle: private dirty memory", "KB"),
    ("idle.cpu", "idle: CPU time per minute", "ms/min"),
    (
        "idle.switches",
        "idle: context switches per minute",
        "1/min",
    ),
];

/// Rests once with every subject.
pub(crate) fn measure(bed: &Bed, subjects: &[Subject], quick: bool) -> Vec<Metric> {
    let (settle, window) = (
        Duration::from_secs(if quick { 3 } else { 10 }),
        idle_window(quick),
    );
    let resting: Vec<_> = subjects
        .iter()
        .map(|subject| (*subject, rest(bed, *subject)))
        .collect();
    std::thread::sleep(settle);
    let resting: Vec<_> = resting
        .into_iter()
        .map(|(subject, run)| (subject, run.map(|run| Resting::now(bed, run))))
        .collect();
    std::thread::sleep(window);
    let minutes = window.as_secs_f64() / 60.0;
    // All are read before the first one ends: its end would leave the others a larger share of libc.
    let (mut values, mut held) = (Vec::new(), Vec::new());
    for (subject, resting) in resting {
        match resting {
            Ok(resting) => {
                values.push((subject, Ok(resting.values(minutes))));
                held.push(resting);
            }
            Err(why) => values.push((subject, Err(why))),
        }
    }
    drop(held);
    let mut metrics = interleave(HEADINGS, subjects, 1, |subject| {
        match values.iter().position(|(one, _)| *one == subject) {
            Some(at) => values.swap_remove(at).1,
            None => unreachable!("every subject rested once, and one sample is taken"),
        }
    });
    if let Some(metric) = metrics.first_mut() {
        metric.notes.push(format!(
            "over {} s after {} s to settle; clawkeeper's child answers its health requests",
            window.as_secs(),
            settle.as_secs(),
        ));
    }
    metrics
}

fn rest(bed: &Bed, subject: Subject) -> Result<Run, Failure> {
    let role = match subject {
        Subject::Clawkeeper => Role::Gateway(free_port().map_err(preparing("a free port"))?),
        _ => Role::Wait,
    };
    let run = bed.launch(subject, role)?;
    run.wait_for(Kind::Started, Duration::from_secs(15))?;
    Ok(run)
}

struct Resting {
    // Held, because its drop ends the supervisor.
    _run: Run,
    pids: Vec<nix::unistd::Pid>,
    usage: Usage,
}

impl Resting {
    fn now(bed: &Bed, run: Run) -> Self {
        let pids = supervisors(run.namespace.pid, &bed.me);
        Self {
            usage: Usage::of(&pids),
            pids,
            _run: run,
        }
    }

    fn values(&self, minutes: f64) -> [f64; 4] {
        let used = Usage::of(&self.pids).since(self.usage);
        let memory = Memory::of(&self.pids);
        [
            memory.pss_kb as f64,
            memory.private_dirty_kb as f64,
            used.cpu_ns as f64 / 1e6 / minutes,
            used.switches as f64 / minutes,
        ]
    }
}
