//! What clawkeeper is meant to reach. Printed with every run, never asserted.

use crate::bed::Bed;
use crate::series::Metric;
use crate::subject::Subject;

/// A target and what was measured.
pub(crate) struct Target {
    pub(crate) claim: &'static str,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
    /// True means that the value has to be at least the limit.
    pub(crate) at_least: bool,
    /// None means that something it needs was not measured.
    pub(crate) value: Option<f64>,
}

impl Target {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.value {
            None => "not measured",
            Some(value) if self.at_least && value >= self.limit => "met",
            Some(value) if !self.at_least && value <= self.limit => "met",
            Some(_) => "missed",
        }
    }
}

/// Holds the medians against the targets.
pub(crate) fn judge(metrics: &[Metric], bed: &Bed) -> Vec<Target> {
    let metric = |key: &str| metrics.iter().find(|metric| metric.key == key);
    let ratio = |key: &str, peer| metric(key)?.ratio(Subject::Clawkeeper, peer);
    let median = |key: &str| metric(key)?.median(Subject::Clawkeeper);
    let at_most = |claim, limit, unit, value| Target {
        claim,
        limit,
        unit,
        at_least: false,
        value,
    };
    let binary_mb = std::fs::metadata(&bed.clawkeeper)
        .ok()
        .map(|binary| binary.len() as f64 / 1e6);
    vec![
        at_most(
            "start with the whole preflight (volume's fsync apart) / s6",
            1.0,
            "x",
            ratio("start.first_instruction", Subject::S6),
        ),
        at_most("respawn after a crash", 2.0, "ms", median("respawn.crash")),
        at_most("respawn after a SIGKILL", 2.0, "ms", median("respawn.kill")),
        at_most(
            "respawn after an exit 0",
            2.0,
            "ms",
            median("respawn.exit0"),
        ),
        at_most(
            "respawn / the fastest peer's, at its worst",
            1.0,
            "x",
            worst_respawn(metrics),
        ),
        at_most(
            "stop, to the child / tini",
            2.0,
            "x",
            ratio("stop.child", Subject::Tini),
        ),
        at_most(
            "stop, to its own end / tini",
            2.0,
            "x",
            ratio("stop.gone", Subject::Tini),
        ),
        at_most(
            "out of memory, to the report",
            50.0,
            "ms",
            median("oom.report"),
        ),
        at_most(
            "out of memory, to the next child",
            60.0,
            "ms",
            median("oom.respawn"),
        ),
        at_most("idle PSS", 3072.0, "KB", median("idle.pss")),
        at_most("idle CPU", 10.0, "ms/min", median("idle.cpu")),
        Target {
            claim: "output",
            limit: 1000.0,
            unit: "MB/s",
            at_least: true,
            value: median("output.rate"),
        },
        at_most("output, own CPU", 0.3, "s/GB", median("output.cpu")),
        at_most(
            "output, lines lost in the worst sample",
            0.0,
            "lines",
            most_lost(metrics),
        ),
        at_most(
            "10,000 orphans / tini",
            1.2,
            "x",
            ratio("orphans.reaped", Subject::Tini),
        ),
        at_most("binary", 3.5, "MB", binary_mb),
    ]
}

/// The largest ratio to the fastest peer over all kinds of death.
fn worst_respawn(metrics: &[Metric]) -> Option<f64> {
    metrics
        .iter()
        .filter(|metric| metric.key.starts_with("respawn."))
        .flat_map(|metric| {
            let peers = metric.rows.iter().map(|row| row.subject);
            peers
                .filter(|peer| !peer.is_clawkeeper())
                .filter_map(|peer| metric.ratio(Subject::Clawkeeper, peer))
        })
        .max_by(f64::total_cmp)
}

fn most_lost(metrics: &[Metric]) -> Option<f64> {
    let lost = metrics.iter().find(|metric| metric.key == "output.lost")?;
    let row = lost
        .rows
        .iter()
        .find(|row| row.subject == Subject::Clawkeeper)?;
    row.samples.iter().copied().max_by(f64::total_cmp)
}
