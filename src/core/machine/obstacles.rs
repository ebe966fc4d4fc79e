//! What an earlier gateway left in the way of a start: processes, and locks.

use super::super::action::{Action, HoldWhy, Report, Stage};
use super::super::leftovers::{self, ProcessFacts, ProcessVerdict, SameFolder};
use super::super::locks::{
    self, KernelLock, LockContent, LockFacts, LockKind, LockVerdict, UnknownWhy,
};
use super::super::time::Mono;
use super::Core;
use std::path::PathBuf;

/// How often leftovers are ended within one look before it holds.
const LEFTOVER_ROUNDS: u32 = 3;

impl Core {
    pub(super) fn on_leftovers(
        &mut self,
        now: Mono,
        processes: &[ProcessFacts],
        port: u16,
        port_busy: bool,
        out: &mut Vec<Action>,
    ) {
        let mut targets = Vec::new();
        let mut stranger = None;
        let mut name = String::new();
        self.unknown_gateway = processes
            .iter()
            .any(|process| process.is_gateway && process.state_folder == SameFolder::Unknown);
        for process in processes {
            match leftovers::judge(process) {
                ProcessVerdict::Leftover(why) => {
                    let target = (process.pid, process.start_ticks);
                    if !self.said.leftovers.contains(&target) {
                        out.push(Action::Report(Report::LeftoverFound {
                            process: process.clone(),
                            why,
                        }));
                    }
                    targets.push(target);
                    if name.is_empty() {
                        name.clone_from(&process.name);
                    }
                }
                ProcessVerdict::LiveGateway => {
                    let why = HoldWhy::LiveGateway {
                        pid: process.pid,
                        ppid: process.ppid,
                        parent_name: process.parent_name.clone(),
                    };
                    out.clear();
                    self.hold(now, why, out);
                    return;
                }
                ProcessVerdict::Stranger => stranger = Some((process.pid, process.name.clone())),
                ProcessVerdict::Unrelated => {}
            }
        }
        self.said.leftovers.clone_from(&targets);
        if !targets.is_empty() && self.rounds.leftovers == LEFTOVER_ROUNDS {
            // Somebody starts them again as often as they are ended.
            out.clear();
            self.hold(now, HoldWhy::LeftoversReturn { name }, out);
        } else if !targets.is_empty() {
            self.rounds.leftovers += 1;
            self.enter(now, Stage::EndingLeftovers, out);
            out.push(Action::EndProcesses {
                attempt: self.attempt,
                targets,
            });
        } else if port_busy || stranger.is_some() {
            self.hold(
                now,
                HoldWhy::PortTaken {
                    port,
                    holder: stranger,
                },
                out,
            );
        } else {
            self.enter(now, Stage::Locks, out);
        }
    }

    pub(super) fn on_locks(&mut self, now: Mono, locks: Vec<LockFacts>, out: &mut Vec<Action>) {
        let (mut stale, mut left) = (Vec::new(), Vec::new());
        for facts in locks {
            let verdict = locks::judge(&facts, self.unknown_gateway);
            match verdict {
                LockVerdict::Stale(why) => stale.push((facts, why)),
                LockVerdict::Live { .. } | LockVerdict::Unknown(_)
                    if forbids_start(&facts, &verdict) =>
                {
                    out.clear();
                    self.hold(
                        now,
                        HoldWhy::Lock {
                            path: facts.path,
                            verdict,
                        },
                        out,
                    );
                    return;
                }
                LockVerdict::Unknown(UnknownWhy::HealthyDatabase) => {}
                LockVerdict::Live { .. } | LockVerdict::Unknown(_) => {
                    left.push((facts.path, verdict));
                }
            }
        }
        let known = std::mem::replace(&mut self.said.locks_left, left);
        for new in &self.said.locks_left {
            if !known.contains(new) {
                let (path, verdict) = new.clone();
                out.push(Action::Report(Report::LockLeft { path, verdict }));
            }
        }
        if stale.is_empty() {
            self.enter(now, Stage::Config, out);
            return;
        }
        self.enter(now, Stage::ClearingLocks, out);
        self.clearing = stale
            .iter()
            .map(|(facts, why)| (facts.path.clone(), named_pid(facts), *why))
            .collect();
        out.push(Action::ClearLocks {
            attempt: self.attempt,
            locks: stale,
        });
    }

    pub(super) fn on_locks_cleared(
        &mut self,
        now: Mono,
        failed: Vec<(PathBuf, String)>,
        out: &mut Vec<Action>,
    ) {
        for (path, pid, why) in std::mem::take(&mut self.clearing) {
            if !failed.iter().any(|(other, _)| *other == path) {
                self.chronicle.note_locks_cleared(1);
                out.push(Action::Report(Report::LockCleared { path, pid, why }));
            }
        }
        let known = std::mem::replace(&mut self.said.locks_not_cleared, failed);
        for new in &self.said.locks_not_cleared {
            if !known.contains(new) {
                let (path, error) = new.clone();
                out.push(Action::Report(Report::LockNotCleared { path, error }));
            }
        }
        self.enter(now, Stage::Config, out);
    }
}

const fn named_pid(facts: &LockFacts) -> Option<i32> {
    match &facts.content {
        LockContent::Claim(claim) => Some(claim.pid),
        LockContent::Empty
        | LockContent::Corrupt
        | LockContent::Directory
        | LockContent::Special
        | LockContent::Unreadable { .. } => None,
    }
}

/// A lock whose owner lives, or may live elsewhere, forbids a second gateway; one of a helper does not.
fn forbids_start(facts: &LockFacts, verdict: &LockVerdict) -> bool {
    let of_a_gateway = match facts.kind {
        LockKind::Gateway | LockKind::LegacyOnVolume => true,
        LockKind::Session
        | LockKind::RuntimeDeps
        | LockKind::ChromiumSingleton
        | LockKind::Coordinator => false,
    };
    match verdict {
        LockVerdict::Stale(_) => false,
        LockVerdict::Live { .. } => of_a_gateway,
        LockVerdict::Unknown(UnknownWhy::Young) => of_a_gateway,
        LockVerdict::Unknown(UnknownWhy::KernelLockHeld) => {
            of_a_gateway && facts.kernel_lock == KernelLock::Held
        }
        // The gateway judges these itself, and refuses when it cannot.
        LockVerdict::Unknown(
            UnknownWhy::OwnerHidden | UnknownWhy::SpecialFile | UnknownWhy::HealthyDatabase,
        ) => false,
    }
}
