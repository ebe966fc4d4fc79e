//! What counts as evidence that the kernel killed a process for want of memory, and of whom.
//!
//! Three sources, each named where it is used: the counter of a cgroup, the counter of the machine, and the
//! kernel's log. A counter says how many were killed and not who; the log says who, by a pid that means
//! something only in the kernel's first PID namespace.

use serde::{Deserialize, Serialize};

/// A rise of a kernel counter of out-of-memory kills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomCount {
    /// The file that counts, e.g. `/sys/fs/cgroup/memory.events`.
    pub source: String,
    /// By how much it rose.
    pub kills: u64,
    /// True when the counter covers our own container or machine only, not other tenants of a host.
    pub is_ours: bool,
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// The memory of the machine.
    Machine,
    /// The limit of a cgroup.
    Cgroup,
}

/// One kill as the kernel logged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelKill {
    /// The process, numbered as in the kernel's first PID namespace, which is ours.
    pub pid: i32,
    /// The name of its main thread: `MainThread` for Node 24, `node` for Node 22.
    pub name: String,
    /// What ran out.
    pub exhausted: Exhausted,
    /// What it had in memory, anonymous, file and shared pages together; `None` where the line does not say.
    pub rss_bytes: Option<u64>,
}

/// Everything the kernel said since it was asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomEvidence {
    /// A counter that rose.
    pub count: Option<OomCount>,
    /// Kills in the kernel's log; empty where it cannot be read, and at most [`KILLS_MAX`].
    pub kills: Vec<KernelKill>,
    /// True when the log was read from the last look to its end, so that a kill that it does not name has not been logged.
    pub log_is_complete: bool,
    /// True when a counter of ours or the log could be read: then silence says that nothing was killed.
    pub is_watched: bool,
}

/// Why an exit counts as the kernel's out-of-memory kill: at least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomProof {
    /// The counter that rose.
    pub count: Option<OomCount>,
    /// The line of the log that names the process.
    pub kill: Option<KernelKill>,
}

/// The kernel kills one process, now and then two; more are counted and not kept.
pub const KILLS_MAX: usize = 8;

impl OomEvidence {
    /// True when nothing was killed, as far as can be seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.is_none() && self.kills.is_empty()
    }

    /// Both looks together, this one being the earlier.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        if self == Self::default() {
            return later;
        }
        self.count = match (self.count, later.count) {
            (Some(one), Some(other)) if one.source == other.source => Some(OomCount {
                kills: one.kills.saturating_add(other.kills),
                ..one
            }),
            // Ours tells more than a host's.
            (Some(one), Some(other)) => Some(if one.is_ours { one } else { other }),
            (one, other) => one.or(other),
        };
        self.kills.extend(later.kills);
        self.kills.truncate(KILLS_MAX);
        self.log_is_complete &= later.log_is_complete;
        self.is_watched |= later.is_watched;
        self
    }

    /// The proof that the kernel killed this process, which SIGKILL ended, if there is one.
    ///
    /// The log proves it by the pid. Without it a counter of ours does, unless we sent a SIGKILL ourselves, or
    /// the log was read whole and gives each counted kill to another process.
    #[must_use]
    pub fn proof(&self, pid: i32, we_killed: bool) -> Option<OomProof> {
        let kill = self.kills.iter().find(|kill| kill.pid == pid).cloned();
        let count = self.count.clone().filter(|count| count.is_ours);
        if kill.is_some() {
            return Some(OomProof { count, kill });
        }
        let of_others = if self.log_is_complete {
            self.kills.len() as u64
        } else {
            0
        };
        let count = count.filter(|count| count.kills > of_others && !we_killed)?;
        Some(OomProof {
            count: Some(count),
            kill: None,
        })
    }

    /// How many processes of ours other than this one were killed: a counter of ours says how many.
    #[must_use]
    pub fn beside(&self, proof: Option<&OomProof>) -> u64 {
        let counted = self.count.as_ref().filter(|count| count.is_ours);
        let counted = counted.map_or(0, |count| count.kills);
        counted.saturating_sub(u64::from(proof.is_some()))
    }
}

/// Reads one record of `/dev/kmsg`: `priority,sequence,microseconds,flags;text`.
///
/// Only the kernel's own are looked at: the kernel gives whatever a program writes there another facility
/// (printk.c, `devkmsg_write`), so a gateway cannot forge one. The two sentences are those of kernels since 5.1
/// (oom_kill.c, `__oom_kill_process`).
#[must_use]
pub fn parse_record(record: &[u8]) -> Option<KernelKill> {
    let record = std::str::from_utf8(record).ok()?;
    let (head, text) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let is_kernels = priority >> 3 == 0;
    is_kernels.then(|| parse_text(text.lines().next()?))?
}

fn parse_text(text: &str) -> Option<KernelKill> {
    const SENTENCES: [(&str, Exhausted); 3] = [
        ("Memory cgroup out of memory", Exhausted::Cgroup),
        (
            "Out of memory (oom_kill_allocating_task)",
            Exhausted::Machine,
        ),
        ("Out of memory", Exhausted::Machine),
    ];
    let (exhausted, rest) = SENTENCES.iter().find_map(|(start, exhausted)| {
        let rest = text
            .strip_prefix(start)?
            .strip_prefix(": Killed process ")?;
        Some((*exhausted, rest))
    })?;
    let (pid, rest) = rest.split_once(" (")?;
    // The name is the process's own choice and may hold anything, so the last of these is the kernel's.
    let (name, numbers) = rest.rsplit_once(") total-vm:")?;
    let of_kind = |kind: &str| -> Option<u64> {
        let (_, after) = numbers.split_once(kind)?;
        after.split_once("kB")?.0.parse().ok()
    };
    let rss = ["anon-rss:", "file-rss:", "shmem-rss:"].map(of_kind);
    let rss = rss.into_iter().flatten().reduce(u64::saturating_add);
    Some(KernelKill {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        exhausted,
        rss_bytes: rss.map(|kilobytes| kilobytes.saturating_mul(1024)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As captured on Linux 6.18 and 6.1, Node 24 and 22.
    const CGROUP: &str = "3,1203,840840304,-;Memory cgroup out of memory: Killed process 13940 (MainThread) total-vm:1463644kB, anon-rss:64572kB, file-rss:28352kB, shmem-rss:0kB, UID:0 pgtables:616kB oom_score_adj:0\n";
    const MACHINE: &str = "3,407,9811234,-;Out of memory: Killed process 311 (node) total-vm:1071452kB, anon-rss:171272kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1816kB oom_score_adj:300\n SUBSYSTEM=x\n";

    fn count(kills: u64, is_ours: bool) -> Option<OomCount> {
        Some(OomCount {
            source: "/sys/fs/cgroup/memory.events".into(),
            kills,
            is_ours,
        })
    }

    fn evidence(count: Option<OomCount>, pids: &[i32], log_is_complete: bool) -> OomEvidence {
        let kill = |pid: &i32| KernelKill {
            pid: *pid,
            name: "node".into(),
            exhausted: Exhausted::Cgroup,
            rss_bytes: None,
        };
        OomEvidence {
            count,
            kills: pids.iter().map(kill).collect(),
            log_is_complete,
            is_watched: true,
        }
    }

    #[test]
    fn both_sentences_of_the_kernel_are_read() {
        let cgroup = parse_record(CGROUP.as_bytes()).expect("a kill");
        assert_eq!((cgroup.pid, cgroup.name.as_str()), (13940, "MainThread"));
        assert_eq!(cgroup.exhausted, Exhausted::Cgroup);
        assert_eq!(cgroup.rss_bytes, Some((64_572 + 28_352) * 1024));
        let machine = parse_record(MACHINE.as_bytes()).expect("a kill");
        assert_eq!((machine.pid, machine.name.as_str()), (311, "node"));
        assert_eq!(machine.exhausted, Exhausted::Machine);
    }

    #[test]
    fn a_name_cannot_pass_for_the_kernels_words() {
        let named = |name: &str| {
            format!("3,1,1,-;Out of memory: Killed process 7 ({name}) total-vm:1kB, anon-rss:4kB\n")
        };
        let found = parse_record(named("a) total-vm:9kB").as_bytes()).expect("a kill");
        assert_eq!((found.pid, found.rss_bytes), (7, Some(4096)));
        assert_eq!(found.name, "a) total-vm:9kB");
    }

    #[test]
    fn what_a_program_wrote_into_the_log_is_no_evidence() {
        for (record, why) in [
            (CGROUP.replacen("3,", "11,", 1), "facility user"),
            (CGROUP.replacen("Memory", "x: Memory", 1), "not at the start"),
            (
                "3,1,1,-;Out of memory: OOM victim 7 (node) is already exiting. Skip killing the task\n".into(),
                "nobody was killed",
            ),
            ("3,1,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=node,pid=7,uid=0\n".into(), "no kill"),
            ("3,1,1,-;Out of memory: Killed process -x (a) total-vm:1kB\n".into(), "no pid"),
            ("garbage".into(), "no record"),
        ] {
            assert_eq!(parse_record(record.as_bytes()), None, "{why}: {record}");
        }
    }

    #[test]
    fn the_log_proves_by_the_pid_and_a_counter_only_what_the_log_leaves_open() {
        let cases = [
            (None, &[][..], true, false, false, "nothing was said"),
            (count(1, true), &[], false, false, true, "a counter of ours"),
            (
                count(1, false),
                &[],
                false,
                false,
                false,
                "a host's counter",
            ),
            (None, &[7], true, false, true, "the log names it"),
            (count(1, false), &[7], true, false, true, "the log names it"),
            (None, &[8], true, false, false, "the log names another"),
            (
                count(1, true),
                &[8],
                true,
                false,
                false,
                "another explains the count",
            ),
            (
                count(2, true),
                &[8],
                true,
                false,
                true,
                "one more than the other",
            ),
            (
                count(1, true),
                &[8],
                false,
                false,
                true,
                "the log has a gap",
            ),
            (
                count(1, true),
                &[],
                false,
                true,
                false,
                "we sent the SIGKILL",
            ),
            (
                count(1, true),
                &[7],
                true,
                true,
                true,
                "we did, and the kernel before us",
            ),
        ];
        for (count, pids, complete, we_killed, is_proven, why) in cases {
            let proof = evidence(count, pids, complete).proof(7, we_killed);
            assert_eq!(proof.is_some(), is_proven, "{why}");
            if let Some(proof) = proof {
                assert!(proof.count.is_some() || proof.kill.is_some(), "{why}");
                let counted = proof.count.as_ref().is_none_or(|count| count.is_ours);
                assert!(counted, "{why}: a host's count is no evidence");
            }
        }
    }

    #[test]
    fn two_looks_add_up_and_stay_bounded() {
        let one = evidence(count(1, true), &[1, 2, 3, 4, 5], true);
        let both = one
            .clone()
            .and(evidence(count(2, true), &[6, 7, 8, 9], false));
        assert_eq!(both.count, count(3, true));
        assert_eq!((both.kills.len(), both.log_is_complete), (KILLS_MAX, false));
        assert_eq!(both.beside(None), 3);
        assert_eq!(one.beside(one.proof(3, false).as_ref()), 0);
        assert!(OomEvidence::default().is_empty() && !one.is_empty());
    }
}
