//! When is a person told? Troubles become incidents; each is told once, and so is that all is well again.
//!
//! ```text
//!  reported ──► open, untold ── there is room in the hour ──► told
//!                    │                                          │
//!                    └── served long enough: forgotten          └── served long enough: back
//! ```
//!
//! "Long enough" is a minute, and twice as long after each "back" within the last hour, so that what comes and
//! goes becomes one incident. Nothing queues up: what waits is at most one incident of each kind.

use super::action::{HoldWhy, Report};
use super::exit_class::{ExitClass, StopCause};
use super::locks::{LockVerdict, UnknownWhy};
use super::time::{Millis, Mono, WallMs};
use std::fmt::Write as _;

/// More messages in an hour than a person reads.
pub const ALERTS_PER_HOUR: usize = 10;
/// So many crashes in a row are no accident; the gateway's own crash breaker counts to three as well.
pub const CRASHES: u32 = 3;
/// All is well once the gateway has served for this long.
pub const CALM: Millis = Millis::from_secs(60);
/// Doublings of [`CALM`]: 32 minutes at most.
const DOUBLINGS: usize = 5;
const HOUR: Millis = Millis::from_secs(3_600);

/// What a person is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It answered nothing, or its start came to a halt, and it is restarted.
    NotAnswering,
    /// Memory ran out, or was about to.
    OutOfMemory,
    /// It ended [`CRASHES`] times in a row.
    CrashLoop,
    /// No gateway is started until something changes.
    Held,
}

impl Trouble {
    /// All of them, the gravest last.
    pub const ALL: [Self; 4] = [
        Self::NotAnswering,
        Self::OutOfMemory,
        Self::CrashLoop,
        Self::Held,
    ];

    /// One word, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotAnswering => "not-answering",
            Self::OutOfMemory => "out-of-memory",
            Self::CrashLoop => "crash-loop",
            Self::Held => "held",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }

    /// What a report is the beginning of, or more of.
    #[must_use]
    pub const fn of(report: &Report) -> Option<Self> {
        match report {
            // Within half a minute it is judged again, and the gateway starts by itself.
            Report::Held(HoldWhy::Lock {
                verdict: LockVerdict::Unknown(UnknownWhy::Young),
                ..
            }) => None,
            Report::Held(_) => Some(Self::Held),
            Report::BackingOff { crashes, .. } if *crashes >= CRASHES => Some(Self::CrashLoop),
            Report::Exited { class, .. } => match class {
                ExitClass::OomKernel(_) | ExitClass::OomHeap => Some(Self::OutOfMemory),
                ExitClass::Requested(_)
                | ExitClass::Relaunch
                | ExitClass::Refused(_)
                | ExitClass::Crash { .. }
                | ExitClass::Signal { .. } => None,
            },
            Report::KilledBeside { .. }
            | Report::MemoryRestart(_)
            | Report::MemoryRestartsSpent { .. } => Some(Self::OutOfMemory),
            Report::Stopping { cause, .. } => match cause {
                StopCause::Hung | StopCause::StartTimeout => Some(Self::NotAnswering),
                StopCause::ChannelsOff
                | StopCause::Reload
                | StopCause::Memory
                | StopCause::Restart
                | StopCause::Pause
                | StopCause::Shutdown => None,
            },
            Report::AlreadyRunning { .. }
            | Report::Volume(_)
            | Report::OwnersMended { .. }
            | Report::LeftoverFound { .. }
            | Report::LockCleared { .. }
            | Report::LockNotCleared { .. }
            | Report::LockLeft { .. }
            | Report::Config(_)
            | Report::ConfigSeeded { .. }
            | Report::Unconfigured
            | Report::Started { .. }
            | Report::StillStarting { .. }
            | Report::Ready { .. }
            | Report::Unreachable { .. }
            | Report::ChannelsOff { .. }
            | Report::ChannelsStarted { .. }
            | Report::ChannelsStayOff { .. }
            | Report::NotAnswering { .. }
            | Report::AnsweringAgain { .. }
            | Report::MemoryShort { .. }
            | Report::MemoryEased(_)
            | Report::StopShortened { .. }
            | Report::Killing
            | Report::TreeEnded { .. }
            | Report::BackingOff { .. }
            | Report::HoldOver { .. }
            | Report::ConfigFine
            | Report::ConfigNotFine(_)
            | Report::Edit { .. }
            | Report::RolledBack { .. }
            | Report::NotRolledBack { .. }
            | Report::StillRolledBack { .. }
            // A person's own doing.
            | Report::Requested { .. }
            | Report::Paused { .. }
            | Report::Resumed { .. }
            | Report::Ending(_) => None,
        }
    }
}

/// One trouble, from its first report until the gateway has served for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incident {
    /// Its kind; no two of a kind are open at once.
    pub trouble: Trouble,
    /// Its first report.
    pub since: WallMs,
    /// Reports so far.
    pub count: u32,
}

impl Incident {
    /// The same in every message about it, and in no other: `held-1763737965123`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.trouble.word(), self.since.0)
    }
}

/// One message to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// When it was made.
    pub at: WallMs,
    /// What it is about.
    pub news: News,
    /// Set on the last message of a full hour: none follows before this time.
    pub quiet_until: Option<WallMs>,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A trouble has begun.
    Trouble {
        /// The incident.
        incident: Incident,
        /// What was reported, oldest first: the end of the gateway before its back-off, where that is the trouble.
        reports: Vec<Report>,
    },
    /// The gateway serves, and has for some time.
    Back(Vec<Incident>),
    /// Somebody tries whether messages arrive.
    Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    incident: Incident,
    /// Empty once it has been told.
    reports: Vec<Report>,
}

impl Open {
    const fn is_told(&self) -> bool {
        self.reports.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    at: WallMs,
    is_back: bool,
}

/// The incidents that are open, and what was said within the last hour. Bounded by the kinds of trouble and by
/// [`ALERTS_PER_HOUR`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    open: Vec<Open>,
    sent: Vec<Sent>,
    serves_since: Option<Mono>,
    /// How the last gateway ended.
    last_exit: Option<Report>,
}

impl Alerts {
    /// Takes in what was reported.
    pub fn see(&mut self, wall: WallMs, report: &Report) {
        let trouble = Trouble::of(report);
        if let Some(trouble) = trouble {
            // The gateway may go on serving beside it, as when the kernel killed a helper.
            self.serves_since = None;
            match self
                .open
                .iter_mut()
                .find(|it| it.incident.trouble == trouble)
            {
                Some(open) => open.incident.count = open.incident.count.saturating_add(1),
                None => {
                    let before = self.last_exit.clone();
                    let before = before.filter(|_| trouble == Trouble::CrashLoop);
                    self.open.push(Open {
                        incident: Incident {
                            trouble,
                            since: wall,
                            count: 1,
                        },
                        reports: before.into_iter().chain([report.clone()]).collect(),
                    });
                }
            }
        }
        if matches!(report, Report::Exited { .. }) {
            self.last_exit = Some(report.clone());
        }
    }

    /// Takes in whether the gateway serves: it is ready, answers, and has its channels.
    pub const fn serves(&mut self, now: Mono, serves: bool) {
        if !serves {
            self.serves_since = None;
        } else if self.serves_since.is_none() {
            self.serves_since = Some(now);
        }
    }

    /// True when there is nothing to tell, now or later.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// What is to be told now; it counts as told.
    pub fn next(&mut self, now: Mono, wall: WallMs) -> Option<Alert> {
        let is_back = self.back_at(wall).is_some_and(|at| now >= at);
        if is_back {
            // What nobody was told of is over.
            self.open.retain(Open::is_told);
        }
        if self.open.is_empty() || self.room_at(wall) > wall {
            return None;
        }
        let news = if is_back {
            News::Back(self.open.drain(..).map(|it| it.incident).collect())
        } else {
            let untold = self.open.iter_mut().filter(|it| !it.is_told());
            let gravest = untold.max_by_key(|it| it.incident.trouble)?;
            News::Trouble {
                incident: gravest.incident,
                reports: std::mem::take(&mut gravest.reports),
            }
        };
        self.sent.push(Sent { at: wall, is_back });
        let room_at = self.room_at(wall);
        Some(Alert {
            at: wall,
            news,
            quiet_until: (room_at > wall).then_some(room_at),
        })
    }

    /// When [`Alerts::next`] may have something to say although nothing more was reported.
    #[must_use]
    pub fn look_at(&mut self, now: Mono, wall: WallMs) -> Option<Mono> {
        if self.open.is_empty() {
            return None;
        }
        let room_at = now.plus(Millis(self.room_at(wall).0.saturating_sub(wall.0)));
        let untold = (!self.open.iter().all(Open::is_told)).then_some(room_at);
        let back = self.back_at(wall).map(|at| at.max(room_at));
        untold.into_iter().chain(back).min()
    }

    /// When the gateway will have served for long enough.
    fn back_at(&mut self, wall: WallMs) -> Option<Mono> {
        self.forget_old(wall);
        let backs = self.sent.iter().filter(|it| it.is_back).count();
        let calm = Millis(CALM.0 << backs.min(DOUBLINGS));
        self.serves_since.map(|since| since.plus(calm))
    }

    /// When the next message may be sent.
    fn room_at(&mut self, wall: WallMs) -> WallMs {
        self.forget_old(wall);
        match self.sent.first() {
            Some(first) if self.sent.len() >= ALERTS_PER_HOUR => {
                WallMs(first.at.0.saturating_add(HOUR.0))
            }
            Some(_) | None => wall,
        }
    }

    fn forget_old(&mut self, wall: WallMs) {
        for sent in &mut self.sent {
            // A clock that was set back must neither lift the bound nor stretch it.
            sent.at = sent.at.min(wall);
        }
        self.sent
            .retain(|it| wall.0.saturating_sub(it.at.0) < HOUR.0);
    }

    /// What the next clawkeeper has to know to go on: the incidents that were told, and when messages were sent.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Open { incident, .. } in self.open.iter().filter(|it| it.is_told()) {
            let (word, since) = (incident.trouble.word(), incident.since.0);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "told {word} {since} {}", incident.count);
        }
        for Sent { at, is_back } in &self.sent {
            let word = if *is_back { "back" } else { "trouble" };
            let _ = writeln!(text, "sent {word} {}", at.0);
        }
        text
    }

    /// Goes on where an earlier clawkeeper ended. A line that makes no sense is passed over.
    pub fn recall(&mut self, text: &str) {
        let mut sent = Vec::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["told", word, since, count] => {
                    if let (Some(trouble), Ok(since), Ok(count)) =
                        (Trouble::of_word(word), since.parse(), count.parse())
                    {
                        self.recall_told(Incident {
                            trouble,
                            since: WallMs(since),
                            count,
                        });
                    }
                }
                ["sent", word, at] => {
                    if let Ok(at) = at.parse() {
                        sent.push(Sent {
                            at: WallMs(at),
                            is_back: word == "back",
                        });
                    }
                }
                _ => {}
            }
        }
        sent.append(&mut self.sent);
        sent.sort_unstable_by_key(|it| it.at.0);
        let beyond = sent.len().saturating_sub(ALERTS_PER_HOUR);
        self.sent = sent.split_off(beyond);
    }

    /// A trouble that goes on was told already, by us or by the one before.
    fn recall_told(&mut self, mut incident: Incident) {
        let now = self
            .open
            .iter()
            .position(|it| it.incident.trouble == incident.trouble)
            .map(|index| self.open.swap_remove(index));
        if let Some(now) = now {
            incident.count = incident.count.saturating_add(now.incident.count);
        }
        self.open.push(Open {
            incident,
            reports: Vec::new(),
        });
    }
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
