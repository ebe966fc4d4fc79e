//! The wording of what is said about memory while the gateway lives.

use super::death;
use super::log_line::LogLine;
use crate::core::incident::Advice;
use crate::core::memory::{Outlook, Sample, Shortage};

pub(super) fn short(outlook: &Outlook, may_restart: bool, how_to_grow: &str) -> LogLine {
    let message = match (outlook.rise, outlook.heap_left) {
        (Some(_), Some(_)) => "memory is short: the gateway's heap is filling up",
        (Some(_) | None, _) => "memory is short",
    };
    let line = looked_ahead(LogLine::warn(message), outlook);
    match outlook.rise {
        Some(_) if may_restart => {
            let what = match outlook.heap_left {
                Some(_) => "its heap",
                None => "memory",
            };
            line.field(
                "fix",
                format!("the gateway leaks, and is to be restarted, drained, before {what} is full; a plugin or channel added lately is the likeliest cause"),
            )
        }
        Some(_) => line.field("fix", leaks(how_to_grow)),
        None => line.field("fix", how_to_grow),
    }
}

pub(super) fn eased(sample: &Sample) -> LogLine {
    numbers(LogLine::info("memory is no longer short"), sample)
}

pub(super) fn restart(outlook: &Outlook) -> LogLine {
    let message = match outlook.heap_left {
        Some(_) => "the gateway leaks and is restarted, drained, before its heap is full",
        None => "the gateway leaks and is restarted, drained, before the kernel kills it",
    };
    looked_ahead(LogLine::warn(message), outlook)
}

pub(super) fn spent(outlook: &Outlook, restarts: u32, how_to_grow: &str) -> LogLine {
    let message =
        "no memory restart is left within this hour: the gateway leaks faster than they help";
    looked_ahead(LogLine::error(message), outlook)
        .field("restarts", restarts)
        .field("fix", leaks(how_to_grow))
}

fn leaks(how_to_grow: &str) -> String {
    let how = how_to_grow.to_owned();
    death::advice(&Advice::Leak { how })
}

/// Adds why a gateway is slow, where memory is.
pub(super) fn slowed(line: LogLine, short: Option<&Shortage>) -> LogLine {
    let Some(short) = short else { return line };
    let why =
        "memory is short: what its program needs is given up and read from the disk over and over";
    numbers(line.field("why", why), &short.sample)
        .field("disk_faults", format!("{}/s", short.faults_per_s))
        .field("fix", &short.how_to_grow)
}

fn looked_ahead(line: LogLine, outlook: &Outlook) -> LogLine {
    let line = numbers(line, &outlook.sample);
    match &outlook.rise {
        Some(rise) => line
            .maybe("heap_left", outlook.heap_left)
            .field("leak", format!("{} per hour", rise.per_hour))
            .field("seen_for", rise.over)
            .maybe("lasts", outlook.lasts),
        None => line,
    }
}

fn numbers(line: LogLine, sample: &Sample) -> LogLine {
    line.field("available", sample.available)
        .field("limit", sample.limit)
        .field("limit_from", sample.limit_from.words())
        .field("gateway", sample.main)
        .field("with_helpers", sample.tree)
        .maybe(
            "stalled",
            sample
                .stalled
                .filter(|share| *share > 0)
                .map(|share| format!("{}.{:02}%", share / 100, share % 100)),
        )
}
