//! The tables for people, and the record for machines.

use std::path::Path;

use serde_json::{Value, json};

use crate::bed::{Failure, preparing};
use crate::series::{Metric, Row};
use crate::subject::Subject;
use crate::targets::Target;

/// Everything a run has to tell.
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    pub(crate) skipped: Vec<(Subject, String)>,
    pub(crate) metrics: Vec<Metric>,
    targets: Vec<Target>,
}

impl Report {
    pub(crate) fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self {
            machine,
            skipped: Vec::new(),
            metrics: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Prints what is known before anything is measured.
    pub(crate) fn print_head(&self) {
        for (name, value) in &self.machine {
            println!("{name:<12} {value}");
        }
        for (subject, why) in &self.skipped {
            println!("{:<12} {}: {why}", "skipped", subject.name());
        }
    }

    /// Prints a metric as soon as it is there, and keeps it.
    pub(crate) fn add(&mut self, metric: Metric) {
        print_metric(&metric);
        self.metrics.push(metric);
    }

    /// Prints the targets.
    pub(crate) fn finish(&mut self, targets: Vec<Target>) {
        println!("\ntargets (printed, not asserted)");
        for target in &targets {
            let sign = if target.at_least { ">=" } else { "<=" };
            let value = target.value.map_or_else(|| "-".into(), number);
            println!(
                "  {:<60} {value:>8} {sign} {:>6} {:<6}  {}",
                target.claim,
                number(target.limit),
                target.unit,
                target.verdict(),
            );
        }
        self.targets = targets;
    }

    /// Writes the machine, every sample and the targets' verdicts.
    pub(crate) fn write_json(&self, path: &Path) -> Result<(), Failure> {
        let skipped =
            |(subject, why): &(Subject, String)| json!({ "subject": subject.name(), "why": why });
        let target = |target: &Target| {
            json!({
                "claim": target.claim,
                "limit": target.limit,
                "unit": target.unit,
                "at_least": target.at_least,
                "value": target.value,
                "verdict": target.verdict(),
            })
        };
        let record = json!({
            "machine": self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect::<serde_json::Map<String, Value>>(),
            "skipped": self.skipped.iter().map(skipped).collect::<Vec<_>>(),
            "metrics": self.metrics.iter().map(metric_record).collect::<Vec<_>>(),
            "targets": self.targets.iter().map(target).collect::<Vec<_>>(),
        });
        let what = path.display().to_string();
        std::fs::write(path, format!("{record:#}\n")).map_err(preparing(&what))
    }
}

fn metric_record(metric: &Metric) -> Value {
    let row = |row: &Row| {
        json!({
            "subject": row.subject.name(),
            "median": row.median(),
            "p95": row.p95(),
            "clawkeeper_ratio": ratio_to(metric, Subject::Clawkeeper, row.subject),
            "clawkeeper_init_ratio": ratio_to(metric, Subject::ClawkeeperInit, row.subject),
            "samples": row.samples,
        })
    };
    json!({
        "key": metric.key,
        "title": metric.title,
        "unit": metric.unit,
        "more_is_better": metric.more_is_better,
        "rows": metric.rows.iter().map(row).collect::<Vec<_>>(),
        "notes": metric.notes,
    })
}

fn print_metric(metric: &Metric) {
    let better = if metric.more_is_better {
        "more"
    } else {
        "less"
    };
    println!("\n{}, {} ({better} is better)", metric.title, metric.unit);
    println!(
        "  {:<16} {:>10} {:>10} {:>4} {:>16} {:>21}",
        "", "median", "p95", "n", "clawkeeper/peer", "clawkeeper-init/peer"
    );
    for row in &metric.rows {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), number);
        let ratio = |ours| ratio_to(metric, ours, row.subject).map_or_else(|| "-".into(), times);
        println!(
            "  {:<16} {:>10} {:>10} {:>4} {:>16} {:>21}",
            row.subject.name(),
            shown(row.median()),
            // Of one sample there is no spread to tell.
            shown(row.p95().filter(|_| row.samples.len() > 1)),
            row.samples.len(),
            ratio(Subject::Clawkeeper),
            ratio(Subject::ClawkeeperInit),
        );
    }
    for note in &metric.notes {
        println!("  note: {note}");
    }
}

fn ratio_to(metric: &Metric, ours: Subject, peer: Subject) -> Option<f64> {
    if peer.is_clawkeeper() {
        return None;
    }
    metric.ratio(ours, peer)
}

/// As many places as tell values apart that differ by a few percent.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn times(ratio: f64) -> String {
    format!("{}x", number(ratio))
}
