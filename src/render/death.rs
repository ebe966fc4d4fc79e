//! How a death is told: what it was, by which evidence, and what to do.

use super::log_line::LogLine;
use super::report::{cause_word, signal_name};
use crate::core::exit_class::{ExitClass, ExitStatus};
use crate::core::incident::{Advice, BESIDE, MemoryStory, MemoryThen};
use crate::core::oom::{Exhausted, KernelKill, OomCount, OomEvidence, OomProof};

/// The line for an exit, without numbers and advice.
pub(super) fn exited(status: ExitStatus, class: &ExitClass, memory: &MemoryStory) -> LogLine {
    let line = match class {
        ExitClass::Requested(_) | ExitClass::Relaunch => LogLine::info("gateway exited"),
        ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. }
        | ExitClass::OomKernel(_)
        | ExitClass::OomHeap => LogLine::error("gateway exited"),
    };
    let line = line.field("class", class.word());
    let line = match status {
        ExitStatus::Code(code) => line.field("code", code),
        ExitStatus::Signal(signal) => line.field("signal", signal_name(signal)),
    };
    let line = line.maybe("evidence", evidence(class, &memory.oom));
    match class {
        ExitClass::OomKernel(_) | ExitClass::OomHeap => seen(line, memory),
        ExitClass::Requested(cause) => {
            let line = line.field("cause", cause_word(*cause));
            match memory.advice {
                Some(_) => seen(line, memory),
                None => line,
            }
        }
        ExitClass::Relaunch
        | ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. } => line,
    }
}

/// By what a class was told, where its code or signal alone does not tell it.
pub(super) fn evidence(class: &ExitClass, oom: &OomEvidence) -> Option<String> {
    match class {
        ExitClass::OomKernel(proof) => Some(proven(proof)),
        ExitClass::OomHeap => Some("V8's own out-of-memory message and its abort".to_owned()),
        ExitClass::Signal { signal: 9 } => Some(not_proven(oom)),
        ExitClass::Requested(_)
        | ExitClass::Relaunch
        | ExitClass::Refused(_)
        | ExitClass::Crash { .. }
        | ExitClass::Signal { .. } => None,
    }
}

/// The line for kills that the gateway's main process outlived, or that did not end it.
pub(super) fn killed_beside(kills: u64, memory: &MemoryStory) -> LogLine {
    let oom = &memory.oom;
    let logged = oom.kills.iter().map(logged);
    let evidence: Vec<_> = oom.count.iter().map(counted).chain(logged).collect();
    let line = LogLine::error(
        "the kernel killed processes beside the gateway's main one for want of memory",
    );
    let line = line
        .field("class", BESIDE)
        .field("count", kills)
        .field("evidence", evidence.join("; "));
    seen(line, memory)
}

/// The last look at memory, and how long before the death it was.
fn seen(line: LogLine, memory: &MemoryStory) -> LogLine {
    let Some(MemoryThen { sample, before }) = &memory.last else {
        return line;
    };
    line.field("memory", sample.tree)
        .field("available", sample.available)
        .field("limit", sample.limit)
        .field("limit_from", sample.limit_from.words())
        .maybe("heap", memory.heap)
        .field("seen_before", before)
        .maybe(
            "leak",
            memory
                .leak
                .as_ref()
                .map(|leak| format!("{} per hour", leak.per_hour)),
        )
}

/// What a person can do.
pub(super) fn advice(advice: &Advice) -> String {
    match advice {
        Advice::Grow { how } => how.clone(),
        Advice::Leak { how } => format!(
            "it leaks: a plugin or channel added lately is the likeliest cause; more memory only delays it: {how}"
        ),
        Advice::RaiseHeap { how } => {
            format!("V8's heap was too small, and there is room: {how}")
        }
        Advice::LowerHeap { how, grow } => {
            format!(
                "V8's heap may take more than there is beside everything else: {how}; or {grow}"
            )
        }
    }
}

fn proven(proof: &OomProof) -> String {
    let parts: Vec<_> = proof
        .count
        .iter()
        .map(counted)
        .chain(proof.kill.iter().map(logged))
        .collect();
    parts.join("; ")
}

fn counted(count: &OomCount) -> String {
    format!("{} rose by {}", count.source, count.kills)
}

fn logged(kill: &KernelKill) -> String {
    let exhausted = match kill.exhausted {
        Exhausted::Machine => "out of the machine's memory",
        Exhausted::Cgroup => "out of its cgroup's memory",
    };
    let with = kill
        .rss_bytes
        .map_or_else(String::new, |bytes| format!(" at {} MB", bytes >> 20));
    format!(
        "/dev/kmsg: killed process {} ({}){with}, {exhausted}",
        kill.pid, kill.name
    )
}

/// Why a SIGKILL does not count as the kernel's.
fn not_proven(oom: &OomEvidence) -> String {
    match &oom.count {
        Some(count) if count.is_ours => {
            "the kernel's log gives every counted out-of-memory kill to another process: somebody sent it".to_owned()
        }
        Some(count) => format!(
            "{}, but it counts the whole host: whether it was this process cannot be told",
            counted(count)
        ),
        None if oom.is_watched => {
            "the kernel counted no out-of-memory kill: somebody sent it".to_owned()
        }
        None => "no counter of out-of-memory kills can be read here: who sent it cannot be told"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "death_tests.rs"]
mod tests;
