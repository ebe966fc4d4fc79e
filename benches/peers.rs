//! Compares clawkeeper with the supervisors people use today, in one run and as ratios.
//!
//! `cargo bench --bench peers -- --help` tells the flags.
//! The supervisors are started as PID 1 of a fresh pid namespace, as in a container, and all of them
//! start the same child: this very binary, with a hidden first argument.
//! Samples are interleaved, so that the machine's noise hits everybody alike.
//! Wall time is reported, never asserted.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks and files and starts processes; it decides nothing"
)]

#[path = "peers/bed.rs"]
mod bed;
#[path = "peers/child.rs"]
mod child;
#[path = "peers/clawkeeper.rs"]
mod clawkeeper;
#[path = "peers/facts.rs"]
mod facts;
#[path = "peers/gateway.rs"]
mod gateway;
#[path = "peers/idle.rs"]
mod idle;
#[path = "peers/latency.rs"]
mod latency;
#[path = "peers/lines.rs"]
mod lines;
#[path = "peers/namespace.rs"]
mod namespace;
#[path = "peers/oom.rs"]
mod oom;
#[path = "peers/options.rs"]
mod options;
#[path = "peers/orphans.rs"]
mod orphans;
#[path = "peers/output.rs"]
mod output;
#[path = "peers/proc.rs"]
mod proc;
#[path = "peers/report.rs"]
mod report;
#[path = "peers/role.rs"]
mod role;
#[path = "peers/series.rs"]
mod series;
#[path = "peers/subject.rs"]
mod subject;
#[path = "peers/targets.rs"]
mod targets;
#[path = "peers/wire.rs"]
mod wire;

use std::process::ExitCode;

use bed::Bed;
use options::{Measure, Options};
use report::Report;
use subject::Subject;

fn main() -> ExitCode {
    let first_instruction_ns = wire::now_ns();
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|first| first == role::CHILD) {
        child::main(first_instruction_ns, args);
    }
    // `cargo test --all-targets` starts benchmarks without an argument; cargo bench passes --bench.
    if std::env::args_os().len() == 1 {
        println!("peers: nothing measured; run `cargo bench --bench peers -- --help`");
        return ExitCode::SUCCESS;
    }
    match compare(&Options::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peers: {why}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), bed::Failure> {
    let bed = Bed::new(options)?;
    let mut report = Report::new(facts::machine(&bed));
    let mut subjects = Vec::new();
    for subject in options.subjects() {
        match subject.missing(&bed) {
            None => subjects.push(subject),
            Some(why) => report.skipped.push((subject, why)),
        }
    }
    report.print_head();
    for measure in options.measures() {
        let metrics = run(measure, &bed, options, &subjects);
        for metric in metrics {
            report.add(metric);
        }
    }
    report.finish(targets::judge(&report.metrics, &bed));
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(())
}

fn run(
    measure: Measure,
    bed: &Bed,
    options: &Options,
    subjects: &[Subject],
) -> Vec<series::Metric> {
    eprintln!("peers: measuring {} ...", measure.name());
    let chosen: Vec<Subject> = subjects
        .iter()
        .copied()
        .filter(|subject| subject.takes_part_in(measure))
        .collect();
    let samples = options.samples(measure);
    match measure {
        Measure::Start => latency::start(bed, &chosen, samples),
        Measure::Respawn => latency::respawn(bed, &chosen, samples),
        Measure::Stop => latency::stop(bed, &chosen, samples),
        Measure::Oom => oom::measure(bed, &chosen, samples),
        Measure::Idle => idle::measure(bed, &chosen, options.quick),
        Measure::Orphans => orphans::measure(bed, &chosen, samples, options.quick),
        Measure::Output => output::measure(bed, &chosen, samples, options.quick),
    }
}
