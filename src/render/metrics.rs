//! The metrics, in the text format 0.0.4 of Prometheus.
//! Base units, one HELP and TYPE a family, and every series of a family from the beginning, so that a rate has no gap.

use super::report::cause_word;
use crate::core::status::{PHASES, RestartClass, Status};
use crate::core::time::{Millis, WallMs};
use crate::core::volume::Space;
use std::fmt::{Display, Write as _};

/// What is known beside the machine.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The gateway's version, `None` when there is none to be found.
    pub gateway_version: Option<String>,
    /// clawkeeper's own pid.
    pub pid: u32,
    /// Room on the volume, as it is now.
    pub space: Option<Space>,
}

/// The body of `/metrics`.
#[must_use]
pub fn metrics(status: &Status, around: &Surroundings, now: WallMs) -> String {
    let mut page = Page::new();
    let ago = |age: Millis| Seconds(Millis(now.0.saturating_sub(age.0)));
    page.family(
        "clawkeeper_build_info",
        GAUGE,
        "The running clawkeeper; always 1.",
    );
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(version) = &around.gateway_version {
        page.family(
            "clawkeeper_gateway_info",
            GAUGE,
            "The OpenClaw that is kept running; always 1.",
        );
        page.sample(&[("version", version)], 1);
    }
    page.one(
        "clawkeeper_start_time_seconds",
        GAUGE,
        "When clawkeeper started, in Unix time.",
        ago(status.uptime),
    );
    phase(&mut page, status, ago(status.phase_for));
    gateway(&mut page, status, ago);
    restarts(&mut page, status, ago);
    memory(&mut page, status);
    volume(&mut page, status, around.space);
    if let Some(usable) = status.config_usable {
        page.one(
            "clawkeeper_config_usable",
            GAUGE,
            "1 if the gateway could start with the config as it was last seen.",
            u8::from(usable),
        );
        page.one(
            "clawkeeper_config_generation",
            GAUGE,
            "Counts the contents the config was seen to have while a gateway ran.",
            status.config_generation,
        );
    }
    page.text
}

fn phase(page: &mut Page, status: &Status, since: Seconds) {
    page.family(
        "clawkeeper_phase",
        GAUGE,
        "1 for the phase clawkeeper is in, 0 for the others.",
    );
    for phase in PHASES {
        page.sample(&[("phase", phase)], u8::from(phase == status.phase));
    }
    page.one(
        "clawkeeper_phase_start_time_seconds",
        GAUGE,
        "When this phase began, in Unix time.",
        since,
    );
}

fn gateway(page: &mut Page, status: &Status, ago: impl Fn(Millis) -> Seconds) {
    page.one(
        "clawkeeper_gateway_ready",
        GAUGE,
        "1 while the gateway serves, as /readyz says.",
        u8::from(status.is_ready()),
    );
    page.one(
        "clawkeeper_gateway_starts_total",
        COUNTER,
        "Gateways started since clawkeeper started.",
        status.starts,
    );
    let Some(gateway) = &status.gateway else {
        return;
    };
    page.one(
        "clawkeeper_gateway_start_time_seconds",
        GAUGE,
        "When the gateway that runs was started, in Unix time.",
        ago(gateway.up_for),
    );
    if let Some(ready_for) = gateway.ready_for {
        page.one(
            "clawkeeper_gateway_startup_duration_seconds",
            GAUGE,
            "From the start of the gateway that runs until it was ready.",
            Seconds(Millis(gateway.up_for.0.saturating_sub(ready_for.0))),
        );
    }
    if let Some(took) = gateway.probe_took {
        page.one(
            "clawkeeper_gateway_probe_duration_seconds",
            GAUGE,
            "How long the gateway's last answer to a probe took.",
            Seconds(took),
        );
    }
    page.one(
        "clawkeeper_gateway_silent_seconds",
        GAUGE,
        "For how long the gateway has left probes unanswered; 0 while it answers.",
        Seconds(gateway.silent_for.unwrap_or_default()),
    );
    page.one(
        "clawkeeper_gateway_channels_suppressed",
        GAUGE,
        "1 while the gateway's crash breaker keeps every channel off.",
        u8::from(gateway.channels_suppressed),
    );
}

fn restarts(page: &mut Page, status: &Status, ago: impl Fn(Millis) -> Seconds) {
    page.family(
        "clawkeeper_gateway_restarts_total",
        COUNTER,
        "Starts that followed an exit, by the class of that exit and what clawkeeper had asked for.",
    );
    for (class, count) in RestartClass::ALL.into_iter().zip(status.restarts) {
        page.sample(&labels(class), count);
    }
    page.one(
        "clawkeeper_gateway_crashes_in_a_row",
        GAUGE,
        "Crashes in a row; they lengthen the wait before the next start.",
        status.crashes,
    );
    if let Some(exit) = &status.last_exit
        && let Some(class) = RestartClass::of(&exit.class)
    {
        page.family(
            "clawkeeper_gateway_last_exit_time_seconds",
            GAUGE,
            "When the last gateway ended, in Unix time, by the class of its exit.",
        );
        page.sample(&labels(class), ago(exit.ago));
    }
}

fn memory(page: &mut Page, status: &Status) {
    let Some(sample) = &status.memory else {
        return;
    };
    page.family(
        "clawkeeper_memory_limit_bytes",
        GAUGE,
        "The smallest memory limit, and who sets it.",
    );
    let from = sample.limit_from.words();
    page.sample(&[("from", from)], sample.limit.bytes());
    page.one(
        "clawkeeper_memory_used_bytes",
        GAUGE,
        "What counts against that limit, file caches included.",
        sample.usage.bytes(),
    );
    page.one(
        "clawkeeper_memory_available_bytes",
        GAUGE,
        "What can still be had before the kernel kills.",
        sample.available.bytes(),
    );
    if status.gateway.is_none() {
        return;
    }
    page.one(
        "clawkeeper_gateway_memory_bytes",
        GAUGE,
        "Memory of the gateway and all its processes.",
        sample.tree.bytes(),
    );
    page.one(
        "clawkeeper_gateway_main_memory_bytes",
        GAUGE,
        "Resident memory of the gateway's main process.",
        sample.main.bytes(),
    );
    page.one(
        "clawkeeper_gateway_processes",
        GAUGE,
        "Processes of the gateway.",
        sample.processes,
    );
}

fn volume(page: &mut Page, status: &Status, now: Option<Space>) {
    if let Some(space) = now.or(status.volume.and_then(|it| it.space)) {
        page.one(
            "clawkeeper_volume_free_bytes",
            GAUGE,
            "Bytes that may still be written to the state folder's file system.",
            space.free_bytes,
        );
        page.one(
            "clawkeeper_volume_size_bytes",
            GAUGE,
            "Size of the state folder's file system.",
            space.total_bytes,
        );
        if let Some(free) = space.free_inodes {
            page.one(
                "clawkeeper_volume_free_inodes",
                GAUGE,
                "Files that may still be created on the state folder's file system.",
                free,
            );
        }
    }
    if let Some(took) = status.volume.and_then(|it| it.write_took) {
        page.one(
            "clawkeeper_volume_write_duration_seconds",
            GAUGE,
            "How long a write and its fsync took at the last look at the volume.",
            Seconds(took),
        );
    }
}

/// The class as logs have it, and the cause of a stop that clawkeeper had asked for.
const fn labels(class: RestartClass) -> [(&'static str, &'static str); 2] {
    let cause = match class.cause() {
        Some(cause) => cause_word(cause),
        None => "",
    };
    [("class", class.word()), ("cause", cause)]
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Milliseconds, written in the base unit.
struct Seconds(Millis);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Millis(ms) = self.0;
        write!(f, "{}.{:03}", ms / 1000, ms % 1000)
    }
}

/// The text so far, and the family its samples belong to.
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn new() -> Self {
        Self {
            text: String::with_capacity(6 * 1024),
            family: "",
        }
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", Escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }
}

/// The value of a label: backslash, quote and line feed are written with a backslash.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|it| match it {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::exit_class::{ExitClass, ExitStatus};
    use crate::core::memory::{Kib, LimitFrom, Sample};
    use crate::core::oom::OomEvidence;
    use crate::core::status::{GatewayStatus, LastExit, VolumeSeen};
    use crate::core::time::Mono;
    use std::collections::BTreeSet;

    #[test]
    fn the_value_of_a_label_cannot_end_its_line() {
        let mut page = Page::new();
        page.family("a_b", GAUGE, "Words.");
        page.sample(&[("x", "1\"\\\n2"), ("y", "")], 3);
        assert_eq!(
            page.text,
            "# HELP a_b Words.\n# TYPE a_b gauge\na_b{x=\"1\\\"\\\\\\n2\",y=\"\"} 3\n"
        );
    }

    /// A status in which everything is known.
    fn full() -> Status {
        let ended = LastExit {
            class: ExitClass::OomHeap,
            status: ExitStatus::Signal(6),
            oom: OomEvidence::default(),
            after: Millis(9),
            ago: Millis(8),
        };
        let space = Space {
            free_bytes: 1,
            total_bytes: 2,
            free_inodes: Some(3),
        };
        Status {
            phase_for: Millis(1_500),
            starts: 2,
            restarts: [1; RestartClass::ALL.len()],
            gateway: Some(GatewayStatus {
                pid: 7,
                up_for: Millis(3_000),
                ready_for: Some(Millis(1_500)),
                waits_for: None,
                silent_for: None,
                probe_took: Some(Millis(2)),
                channels_suppressed: false,
            }),
            last_exit: Some(ended),
            crashes: 1,
            memory: Some(Sample {
                at: Mono(0),
                main: Kib(1),
                tree: Kib(2),
                processes: 3,
                available: Kib(4),
                limit: Kib(5),
                limit_from: LimitFrom::CgroupV2,
                usage: Kib(6),
                stalled: None,
            }),
            config_usable: Some(true),
            config_generation: 3,
            config_verdict: "accepted",
            volume: Some(VolumeSeen {
                space: Some(space),
                write_took: Some(Millis(4)),
            }),
            ..Status::bare("running")
        }
    }

    #[test]
    fn the_document_lists_every_metric_with_its_labels_and_no_other() {
        let around = Surroundings {
            gateway_version: Some("2026.9.6".to_owned()),
            ..Surroundings::default()
        };
        let page = metrics(&full(), &around, WallMs(1_000_000));
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let told: BTreeSet<String> = samples.map(without_values).collect();
        let document = include_str!("../../docs/health.md");
        let rows = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `clawkeeper_")?.split_once('`'));
        let listed: BTreeSet<String> = rows.map(|(name, _)| format!("clawkeeper_{name}")).collect();
        assert_eq!(told, listed);
    }

    /// `name{label,label}` of a sample.
    fn without_values(line: &str) -> String {
        let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
        let mut quoted = name.split('"');
        let mut plain = String::new();
        while let Some(outside) = quoted.next() {
            plain += outside.trim_end_matches('=');
            quoted.next();
        }
        plain
    }

    #[test]
    fn milliseconds_are_written_as_seconds() {
        assert_eq!(Seconds(Millis(61_007)).to_string(), "61.007");
    }
}
