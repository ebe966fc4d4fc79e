//! The command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::subject::Subject;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Start,
    Respawn,
    Stop,
    Oom,
    Idle,
    Orphans,
    Output,
}

impl Measure {
    const ALL: [Self; 7] = [
        Self::Start,
        Self::Respawn,
        Self::Stop,
        Self::Oom,
        Self::Idle,
        Self::Orphans,
        Self::Output,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Respawn => "respawn",
            Self::Stop => "stop",
            Self::Oom => "oom",
            Self::Idle => "idle",
            Self::Orphans => "orphans",
            Self::Output => "output",
        }
    }
}

/// Compares clawkeeper with tini, dumb-init, s6 and supervisord, interleaved, and prints ratios.
#[derive(Debug, Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --", version)]
pub(crate) struct Options {
    /// Measure only these: start, respawn, stop, oom, idle, orphans, output, or a supervisor's name.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = known_name)]
    only: Vec<String>,
    /// Samples per supervisor, for every measure but idle [default: 40 to 3, by the measure].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// Fewer samples, 10 s of idling and 0.3 GB of output: for a look, not for the record.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write every sample into this file as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The clawkeeper to measure [default: the one cargo built for this run].
    #[arg(long, value_name = "PATH")]
    pub(crate) clawkeeper: Option<PathBuf>,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Reads the arguments; ends the process on `--help` and on mistakes.
    pub(crate) fn from_command_line() -> Self {
        Self::parse()
    }

    /// The measures asked for; all of them if only supervisors were named.
    pub(crate) fn measures(&self) -> Vec<Measure> {
        self.chosen(&Measure::ALL, Measure::name)
    }

    /// The supervisors asked for; all of them if only measures were named.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.chosen(&Subject::ALL, Subject::name)
    }

    fn chosen<T: Copy>(&self, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
        let named = |one: &T| self.only.iter().any(|only| only == name(*one));
        let some: Vec<T> = all.iter().copied().filter(named).collect();
        if some.is_empty() { all.to_vec() } else { some }
    }

    /// Samples per supervisor. Idling is one long sample by nature.
    pub(crate) fn samples(&self, measure: Measure) -> u32 {
        let (full, quick) = match measure {
            Measure::Start => (40, 10),
            Measure::Stop => (20, 6),
            Measure::Respawn | Measure::Oom => (10, 3),
            Measure::Orphans => (5, 2),
            Measure::Output => (3, 1),
            Measure::Idle => return 1,
        };
        self.samples
            .unwrap_or(if self.quick { quick } else { full })
    }
}

/// How long the machine is watched at rest.
pub(crate) const fn idle_window(quick: bool) -> Duration {
    Duration::from_secs(if quick { 10 } else { 60 })
}

fn known_name(name: &str) -> Result<String, String> {
    let measures = Measure::ALL.map(Measure::name);
    let subjects = Subject::ALL.map(Subject::name);
    if measures.contains(&name) || subjects.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "one of: {}; or: {}",
        measures.join(", "),
        subjects.join(", ")
    ))
}
