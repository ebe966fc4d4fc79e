//! What `clawkeeper status` makes of the JSON of a status, for people.

use super::plain;
use crate::core::time::WallMs;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Columns that a status takes at most, but for words that are longer.
const WIDTH: usize = 80;
/// Where the values begin.
const INDENT: usize = 13;

/// How text for people is written.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// With the colours of a terminal.
    pub colour: bool,
}

impl Style {
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// What [`status_json`](super::status_json) made, for people: at most 80 columns. It may come from another version, or from no clawkeeper
/// at all, so nothing is taken for granted.
#[must_use]
pub fn status_text(status: &Value, style: Style, now: WallMs) -> String {
    let see = View { status, now };
    let mut page = Lines {
        text: String::new(),
        style,
    };
    see.headline(&mut page);
    let gateway = see.gateway();
    page.row("gateway", &gateway);
    page.row("restarts", &see.restarts());
    page.row("last exit", &see.last_exit());
    if let Some(memory) = see.memory() {
        page.row("memory", &memory);
        page.row("", &see.course());
    }
    page.row("volume", &see.volume());
    page.row("config", &see.config());
    page.row("locks", &see.locks());
    page.row("clawkeeper", &see.clawkeeper());
    page.text
}

/// What is known while nobody answers: an object with `why`, and what the state folder tells.
#[must_use]
pub fn silence_text(told: &Value, style: Style) -> String {
    let see = View {
        status: told,
        now: WallMs(0),
    };
    let mut page = Lines {
        text: style.paint("1;31", "○ nobody answers") + "\n",
        style,
    };
    page.row("why", &see.text("/why").unwrap_or_default());
    let keeper = see.number("/state_folder_kept_by_pid");
    let keeper = keeper.map(|pid| format!("pid {pid}, which may hang: see its log"));
    page.row("kept by", &keeper.unwrap_or_default());
    let last = [see.text("/last_event/at"), see.text("/last_event/text")];
    let last: Vec<_> = last.into_iter().flatten().collect();
    page.row("last event", &last.join(" "));
    page.row(
        "see also",
        "clawkeeper events, clawkeeper incidents, clawkeeper check",
    );
    page.text
}

struct Lines {
    text: String,
    style: Style,
}

impl Lines {
    /// Nothing to say takes no line; what is long is broken between words.
    fn row(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let mut column = INDENT;
        self.text += &self.style.paint("2", &format!("  {name:<11}"));
        for (index, word) in value.split(' ').enumerate() {
            let length = word.chars().count();
            if index > 0 && column + 1 + length > WIDTH {
                self.text += "\n";
                self.text += &" ".repeat(INDENT);
                column = INDENT;
            } else if index > 0 {
                self.text.push(' ');
                column += 1;
            }
            self.text += word;
            column += length;
        }
        self.text.push('\n');
    }
}

struct View<'a> {
    status: &'a Value,
    now: WallMs,
}

impl View<'_> {
    fn at(&self, path: &str) -> Option<&Value> {
        self.status.pointer(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        self.at(path).and_then(Value::as_str).map(plain)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.at(path).and_then(Value::as_u64)
    }

    /// How long ago, or how far ahead, this time is.
    fn distance(&self, path: &str) -> Option<String> {
        let at = self.at(path)?.as_str()?;
        let at = humantime::parse_rfc3339_weak(at).ok()?;
        let at = at.duration_since(UNIX_EPOCH).ok()?;
        let at = u64::try_from(at.as_millis()).ok()?;
        Some(length(Duration::from_millis(at.abs_diff(self.now.0))))
    }

    fn headline(&self, page: &mut Lines) {
        let phase = self.text("/phase").unwrap_or_else(|| "unknown".to_owned());
        let is_ready = self.at("/ready") == Some(&Value::Bool(true));
        let (mark, colour) = match (is_ready, phase.as_str()) {
            (true, _) => ("●", "1;32"),
            (false, "held") => ("■", "1;31"),
            (false, "paused") => ("‖", "1;33"),
            (false, _) => ("○", "1;33"),
        };
        let word = if is_ready { "ready" } else { &phase };
        page.text += &page.style.paint(colour, &format!("{mark} {word}"));
        let since = if is_ready { "/gateway/ready" } else { "/since" };
        if let Some(age) = self.distance(since) {
            let _ = write!(page.text, " for {age}");
        }
        page.text.push('\n');
        page.row("why", &self.text("/why").unwrap_or_default());
        page.row("fix", &self.text("/fix").unwrap_or_default());
        let next = match (
            self.distance("/paused/resumes"),
            self.distance("/next_start"),
        ) {
            (Some(wait), _) => format!("resumes by itself in {wait}"),
            (None, Some(wait)) => format!("next start in {wait}"),
            (None, None) => String::new(),
        };
        page.row("next", &next);
    }

    fn gateway(&self) -> String {
        let version = self.text("/gateway_version");
        let version = version.map(|it| format!("OpenClaw {it}"));
        let pid = self.number("/gateway/pid").map(|pid| format!("pid {pid}"));
        let up = self.distance("/gateway/started");
        let up = up.map(|age| format!("started {age} ago"));
        let channels = self.text("/gateway/channels");
        let channels = channels.map(|word| format!("its channels are {word}"));
        if pid.is_none() {
            return listed([version, Some("does not run".to_owned())]);
        }
        let silent = self.distance("/gateway/silent_since");
        let silent = silent.map(|age| format!("no answer for {age}"));
        listed([version, pid, up, silent, channels])
    }

    fn restarts(&self) -> String {
        let classes = self.at("/restarts_by_class").and_then(Value::as_array);
        let classes = classes.map(Vec::as_slice).unwrap_or_default();
        let sum = |of: &str| -> u64 {
            let counts = classes.iter().filter_map(|it| it.get(of)?.as_u64());
            counts.sum()
        };
        if sum("day") == 0 {
            return "none in the last day".to_owned();
        }
        let named = classes.iter().filter_map(|it| {
            let word = |of: &str| it.get(of).and_then(Value::as_str).map(plain);
            let name = match (word("class")?, word("cause")) {
                (class, Some(cause)) => format!("{class} ({cause})"),
                (class, None) => class,
            };
            Some(format!("{name} {}", it.get("day")?.as_u64()?))
        });
        let named: Vec<_> = named.collect();
        let crashes = match self.number("/crashes_in_a_row") {
            Some(row) if row > 1 => format!("; {row} crashes in a row"),
            _ => String::new(),
        };
        format!(
            "{} in the last hour, {} in the last day: {}{crashes}",
            sum("hour"),
            sum("day"),
            named.join(", ")
        )
    }

    fn last_exit(&self) -> String {
        let Some(class) = self.text("/last_exit/class") else {
            return String::new();
        };
        let cause = self.text("/last_exit/cause");
        let class = cause.map_or(class.clone(), |cause| format!("{class} ({cause})"));
        let code = self.at("/last_exit/code").and_then(Value::as_i64);
        let code = code.map(|code| format!("code {code}"));
        let ago = self
            .distance("/last_exit/at")
            .map(|age| format!("{age} ago"));
        let signal = self.text("/last_exit/signal");
        let told = listed([Some(class), code, signal, ago]);
        match self.text("/last_exit/evidence") {
            Some(evidence) => format!("{told}: {evidence}"),
            None => told,
        }
    }

    fn memory(&self) -> Option<String> {
        // Without a gateway it is what the last one took.
        self.at("/gateway")?;
        let mb = |of: &str| self.number(&format!("/memory/{of}"));
        let (tree, limit) = (mb("tree_mb")?, mb("limit_mb")?);
        let from = self.text("/memory/limit_from").unwrap_or_default();
        let available = mb("available_mb").map(|mb| format!("{mb} MB can still be had"));
        let leak = mb("leak_mb_per_hour").map(|mb| format!("leaks {mb} MB an hour"));
        Some(listed([
            Some(format!("{tree} of {limit} MB ({from})")),
            available,
            leak,
        ]))
    }

    /// A sparkline between the least and the most of the time it covers.
    fn course(&self) -> String {
        let points = self.at("/memory/course").and_then(Value::as_array);
        let points: Vec<(u64, u64)> = points
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(|it| Some((it.get(0)?.as_u64()?, it.get(1)?.as_u64()?)))
            .take(40)
            .collect();
        let least = points.iter().map(|(_, mb)| *mb).min().unwrap_or(0);
        let most = points.iter().map(|(_, mb)| *mb).max().unwrap_or(0);
        let (Some((oldest, _)), true) = (points.first(), points.len() > 2) else {
            return String::new();
        };
        // A gateway that keeps its size is a flat line, not a mountain range of one MB.
        let range = (most - least).max(most / 16).max(1);
        let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let line: String = points
            .iter()
            .filter_map(|(_, mb)| bars.get(usize::try_from((mb - least) * 7 / range).ok()?))
            .collect();
        let age = length(Duration::from_secs(*oldest));
        format!("{line} {least} to {most} MB in {age}")
    }

    fn volume(&self) -> String {
        let free = self.number("/volume/free_mb");
        let room = free.map(|free| match self.number("/volume/size_mb") {
            Some(size) => format!("{} of {} free", amount(free), amount(size)),
            None => format!("{} free", amount(free)),
        });
        let write = match (self.at("/volume"), self.number("/volume/write_ms")) {
            (Some(_), Some(ms)) => Some(format!("a write and fsync took {ms} ms")),
            (Some(_), None) => Some("the last write to it failed".to_owned()),
            (None, _) => None,
        };
        listed([room, write])
    }

    fn config(&self) -> String {
        let usable = match self.at("/config/usable") {
            Some(Value::Bool(true)) => "can be used",
            Some(Value::Bool(false)) => "cannot be used: clawkeeper config validate",
            _ => return String::new(),
        };
        let generation = self.number("/config/generation").filter(|it| *it > 0);
        let generation = generation.map(|it| format!("generation {it}"));
        let edit = self
            .text("/config/last_edit")
            .filter(|_| generation.is_some());
        let edit = edit.map(|verdict| format!("last edit {verdict}"));
        listed([Some(usable.to_owned()), generation, edit])
    }

    fn locks(&self) -> String {
        let count = |of: &str, words: &str| {
            let count = self.number(&format!("/locks/{of}")).filter(|it| *it > 0)?;
            Some(format!("{count} {words}"))
        };
        let cleared = count("cleared", "stale, cleared");
        let left = count("left", "left in place: clawkeeper locks");
        listed([cleared, left])
    }

    fn clawkeeper(&self) -> String {
        let up = self.distance("/clawkeeper/started");
        listed([
            self.text("/clawkeeper/version"),
            self.number("/clawkeeper/pid")
                .map(|pid| format!("pid {pid}")),
            up.map(|age| format!("started {age} ago")),
        ])
    }
}

fn listed<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

/// `812 MB`, `252.0 GB`.
fn amount(mb: u64) -> String {
    if mb < 10 * 1_024 {
        format!("{mb} MB")
    } else {
        format!("{}.{} GB", mb / 1_024, mb % 1_024 * 10 / 1_024)
    }
}

/// The two largest units: `3h 12m`.
fn length(length: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(length.as_secs())).to_string();
    let text = text.replace("days", "d").replace("day", "d");
    let units: Vec<_> = text.split(' ').take(2).collect();
    units.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::HoldWhy;
    use crate::core::exit_class::{ExitClass, ExitStatus};
    use crate::core::memory::{Kib, LimitFrom, Sample};
    use crate::core::oom::{OomCount, OomEvidence, OomProof};
    use crate::core::status::{
        GatewayStatus, Hold, LastExit, Locks, PHASES, Pause, RestartClass, Status, VolumeSeen,
    };
    use crate::core::time::{Millis, Mono};
    use crate::core::volume::Space;
    use crate::render::{Surroundings, status_json};

    const NOW: WallMs = WallMs(1_795_273_200_000);

    fn read(status: &Status, colour: bool) -> String {
        let around = Surroundings {
            gateway_version: Some("2026.9.6".to_owned()),
            pid: 1,
            space: None,
        };
        let json: Value = serde_json::from_str(&status_json(status, &around, NOW)).expect("JSON");
        assert_eq!(json["v"], 1);
        status_text(&json, Style { colour }, NOW)
    }

    fn full() -> Status {
        let position = RestartClass::OomKernel.position().expect("a place");
        let mut day = [0; RestartClass::ALL.len()];
        day[position] = 2;
        Status {
            gateway: Some(GatewayStatus {
                pid: 42,
                up_for: Millis::from_secs(11_532),
                ready_for: Some(Millis::from_secs(11_520)),
                waits_for: None,
                silent_for: None,
                probe_took: None,
                channels_suppressed: false,
            }),
            restarts_day: day,
            last_exit: Some(LastExit {
                class: ExitClass::OomKernel(OomProof {
                    count: Some(OomCount {
                        source: "/sys/fs/cgroup/memory.events".into(),
                        kills: 1,
                        is_ours: true,
                    }),
                    kill: None,
                }),
                status: ExitStatus::Signal(9),
                oom: OomEvidence::default(),
                after: Millis::from_secs(60),
                ago: Millis::from_secs(11_540),
            }),
            memory: Some(Sample {
                at: Mono(0),
                main: Kib::of_mb(700),
                tree: Kib::of_mb(812),
                processes: 3,
                available: Kib::of_mb(1_180),
                limit: Kib::of_mb(2_048),
                limit_from: LimitFrom::CgroupV2,
                usage: Kib::of_mb(900),
                stalled: None,
            }),
            memory_course: (0..40)
                .map(|step| (Millis((40 - step) * 12_000), Kib::of_mb(700 + step as u32)))
                .collect(),
            leak: Some(Kib::of_mb(290)),
            locks: Locks {
                cleared: 1,
                left: 0,
            },
            config_usable: Some(true),
            config_generation: 3,
            volume: Some(VolumeSeen {
                space: Some(Space {
                    free_bytes: 812 << 20,
                    total_bytes: 1_024 << 20,
                    free_inodes: None,
                }),
                write_took: Some(Millis(2)),
            }),
            ..Status::bare("running")
        }
    }

    #[test]
    fn a_full_status_reads_well_on_80_columns() {
        let text = read(&full(), false);
        assert_eq!(
            text,
            "\
● ready for 3h 12m
  gateway    OpenClaw 2026.9.6, pid 42, started 3h 12m ago
  restarts   0 in the last hour, 2 in the last day: oom-kernel 2
  last exit  oom-kernel, SIGKILL, 3h 12m ago: /sys/fs/cgroup/memory.events rose
             by 1
  memory     812 of 2048 MB (cgroup v2), 1180 MB can still be had, leaks 290 MB
             an hour
             ▁▁▁▁▁▁▁▂▂▂▂▂▂▂▃▃▃▃▃▃▄▄▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▆▆ 700 to 739 MB in 8m
  volume     812 MB of 1024 MB free, a write and fsync took 2 ms
  config     can be used, generation 3, last edit accepted
  locks      1 stale, cleared
  clawkeeper 0.1.0, pid 1, started 1m ago
"
        );
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn what_holds_it_is_said_with_the_fix_and_the_next_try() {
        let why = HoldWhy::PortTaken {
            port: 3000,
            holder: Some((7, "node".into())),
        };
        let text = read(
            &Status {
                hold: Some(Hold {
                    why,
                    held_for: Millis::from_secs(30),
                }),
                next_look_in: Some(Millis::from_secs(12)),
                ..Status::bare("held")
            },
            false,
        );
        assert!(
            text.starts_with("■ held for 30s\n  why        port 3000 "),
            "{text}"
        );
        assert!(text.contains("\n  fix        "), "{text}");
        assert!(
            text.contains("\n  next       next start in 12s\n"),
            "{text}"
        );
        assert!(text.contains("\n  gateway    OpenClaw 2026.9.6, does not run\n"));
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }

    #[test]
    fn a_pause_says_how_long_it_lasts() {
        let pause = |resumes_in| Status {
            pause: Some(Pause {
                paused_for: Millis::from_secs(60),
                resumes_in,
            }),
            ..Status::bare("paused")
        };
        let text = read(&pause(Some(Millis::from_secs(3_000))), false);
        assert!(text.contains("resumes by itself in 50m"), "{text}");
        let text = read(&pause(None), false);
        assert!(text.contains("clawkeeper resume"), "{text}");
        assert!(!text.contains("by itself"), "{text}");
    }

    #[test]
    fn every_phase_has_a_headline_and_colours_change_no_word() {
        for phase in PHASES {
            let plain_text = read(&Status::bare(phase), false);
            assert!(plain_text.contains(phase), "{plain_text}");
            let coloured = read(&Status::bare(phase), true);
            let without: String = coloured.lines().map(|line| plain(line) + "\n").collect();
            assert_eq!(without, plain_text);
        }
    }

    #[test]
    fn what_is_no_status_is_shown_as_far_as_it_goes() {
        for text in [
            "null",
            "[]",
            "{}",
            r#"{"phase":"\u001b[2Jnew","memory":{"course":[[1],[2,3]]}}"#,
        ] {
            let value = serde_json::from_str(text).expect("JSON");
            let shown = status_text(&value, Style { colour: false }, NOW);
            assert!(!shown.contains('\u{1b}'), "{shown:?}");
        }
    }
}
