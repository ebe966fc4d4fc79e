//! Runs the machine as the shell does, in virtual time: events in the order of their times, actions into a
//! simulated [`World`], and back with `DeadlinePassed` when the machine asked for it.

use super::invariants::{Moment, Witness};
use super::world::{Answer, Config, LockOwner, Newest, OnEdit, OnTerm, Process, Seeding, World};
use super::world::{FakeProcess, Life, PORT};
use crate::core::action::{Action, Ending, Report};
use crate::core::control::{self, Op, Peer};
use crate::core::event::{Attempt, Event, Request, SpawnFailure};
use crate::core::exit_class::{ExitStatus, Marker};
use crate::core::incident::Incident;
use crate::core::leftovers::{self, ProcessVerdict};
use crate::core::machine::{Core, Policy};
use crate::core::memory::{HeapBounds, Kib, MemoryPolicy};
use crate::core::oom::OomEvidence;
use crate::core::readiness::{HealthBody, ProbeOutcome, ProbeTarget, Progress};
use crate::core::reload::Apply;
use crate::core::restart::Pace;
use crate::core::time::{Millis, Mono};
use crate::core::volume::NoMountPolicy;
use std::collections::BTreeMap;

/// The settings of the stories; times are short so that each bound is met.
pub(super) const POLICY: Policy = Policy {
    pace: Pace {
        backoff_min: Millis::from_secs(1),
        backoff_max: Millis::from_secs(60),
        reset_after: Millis::from_secs(600),
    },
    stop_timeout: Millis::from_secs(30),
    startup_timeout: Millis::from_secs(120),
    liveness_timeout: Some(Millis::from_secs(60)),
    liveness_interval: Millis::from_secs(15),
    hold_retry: Millis::from_secs(300),
    no_mount: NoMountPolicy::Warn,
    how_to_grow: String::new(),
    how_to_fit_heap: String::new(),
    may_seed: true,
    apply: Apply::Auto,
    good_after: Millis::from_secs(60),
    roll_back: false,
    recovers_channels: false,
    allow_unconfigured: false,
    start_probe: ProbeTarget::Startupz,
    expected: None,
    memory: MemoryPolicy {
        restarts_per_hour: Some(2),
        drain: Millis::from_secs(30),
        heap: HeapBounds {
            size: None,
            fits: None,
            beside: Kib(0),
            beside_at_most: Kib(0),
        },
    },
    seed: 7,
};

const SIGKILL: i32 = 9;

/// The shell, the kernel and the world in one.
pub(super) struct FakeHost {
    pub(super) core: Core,
    pub(super) world: World,
    pub(super) now: Mono,
    pub(super) reports: Vec<(Mono, Report)>,
    pub(super) spawns: Vec<Mono>,
    pub(super) incidents: Vec<Incident>,
    /// What the kernel says when it is asked after a death.
    pub(super) oom: OomEvidence,
    /// Every event the machine took in, for a replay.
    pub(super) journal: Vec<(Mono, Event)>,
    pub(super) ending: Option<(Mono, Ending)>,
    pub(super) mends: usize,
    pub(super) nudges: Vec<Mono>,
    pub(super) replies: Vec<control::Answer>,
    pub(super) kept: Vec<Mono>,
    pub(super) witness: Witness,
    coming: BTreeMap<(Mono, u64), Coming>,
    sequence: u64,
    questions: usize,
    gateways: Vec<Gateway>,
    pub(super) is_watching: bool,
    is_seeded: bool,
    pub(super) is_probe_out: bool,
    /// Only the last tree being ended is reported, as in the shell.
    tree_asked: u64,
}

enum Coming {
    Event(Event),
    /// A question whose answer is found when it comes due.
    Answer(Action, u64),
    GatewayEnds(Attempt, ExitStatus),
    CauseChanges,
}

struct Gateway {
    attempt: Attempt,
    started: Mono,
    life: Life,
    is_alive: bool,
}

impl FakeHost {
    pub(super) fn new(policy: Policy, world: World) -> Self {
        let mut host = Self {
            witness: Witness::new(&policy),
            core: Core::new(policy),
            now: Mono(0),
            reports: vec![],
            spawns: vec![],
            incidents: vec![],
            oom: OomEvidence::default(),
            journal: vec![],
            ending: None,
            mends: 0,
            nudges: vec![],
            replies: vec![],
            kept: vec![],
            coming: BTreeMap::new(),
            sequence: 0,
            questions: 0,
            gateways: vec![],
            is_watching: false,
            is_seeded: false,
            is_probe_out: false,
            tree_asked: 0,
            world,
        };
        let world = &host.world;
        let changes = world.volume.changes().chain(world.config.changes());
        for at in changes.collect::<Vec<_>>() {
            host.at(at, Coming::CauseChanges);
        }
        host.at(Mono(0), Coming::Event(Event::Begun));
        host
    }

    pub(super) fn send(&mut self, at: u64, event: Event) {
        self.at(Mono(at), Coming::Event(event));
    }

    pub(super) fn signal(&mut self, at: u64, signal: Request) {
        let name = match signal {
            Request::Stop => "SIGTERM",
            Request::Look => "SIGHUP",
        };
        let event = Event::SignalReceived {
            signal,
            name: name.into(),
            sender: None,
        };
        self.send(at, event);
    }

    pub(super) fn request(&mut self, at: u64, op: Op) {
        let peer = Peer { pid: 40, uid: 0 };
        let id = self.sequence;
        self.send(at, Event::Requested { id, op, peer });
    }

    /// Lets time pass until `end`, or until the machine is over.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.ending.is_none() {
            let event_at = self.coming.keys().next().map(|(at, _)| *at);
            let late = Millis(self.world.wake_late);
            let deadline = self.core.next_deadline().map(|at| at.plus(late));
            let Some(next) = [event_at, deadline].into_iter().flatten().min() else {
                break;
            };
            if next.0 > end {
                break;
            }
            self.now = self.now.max(next);
            // As in the shell, what has happened goes before a timer.
            if event_at == Some(next) {
                if let Some((_, coming)) = self.coming.pop_first() {
                    self.meet(coming);
                }
            } else {
                self.step(Event::DeadlinePassed);
            }
        }
        self.now = self.now.max(Mono(end));
    }

    /// Lets time pass until the machine is in this phase, for a day at most.
    pub(super) fn run_until_phase(&mut self, word: &str) {
        let give_up = self.now.0 + 86_400_000;
        while self.core.phase_word() != word {
            assert!(
                self.now.0 < give_up && self.ending.is_none(),
                "never {word}, but {:?} at {}: {:?}",
                self.core.phase_word(),
                self.now.0,
                self.reports.last()
            );
            let event_at = self.coming.keys().next().map(|(at, _)| at.0);
            let late = self.world.wake_late;
            let deadline = self.core.next_deadline().map(|at| at.0 + late);
            let next = [event_at, deadline].into_iter().flatten().min();
            self.run_until(next.unwrap_or(give_up));
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.gateways.iter().filter(|it| it.is_alive).count()
    }

    /// True when a gateway lives that not even SIGKILL ends.
    pub(super) fn has_unkillable_gateway(&self) -> bool {
        self.gateways
            .iter()
            .any(|it| it.is_alive && it.life.dies_of_kill_in.is_none())
    }

    pub(super) fn said(&self, matches: impl Fn(&Report) -> bool) -> usize {
        self.reports.iter().filter(|(_, it)| matches(it)).count()
    }

    fn at(&mut self, at: Mono, coming: Coming) {
        self.sequence += 1;
        self.coming.insert((at, self.sequence), coming);
    }

    fn meet(&mut self, coming: Coming) {
        match coming {
            Coming::Event(event) => self.step(event),
            Coming::Answer(question, asked) => {
                if let Some(answer) = self.answer(question, asked) {
                    self.step(answer);
                }
            }
            Coming::CauseChanges => {
                self.is_seeded = false;
                self.let_gateway_react(|on_edit| on_edit != OnEdit::NeedsNudge);
                if self.is_watching {
                    self.step(Event::CauseChanged);
                }
            }
            Coming::GatewayEnds(attempt, status) => {
                let mut gateways = self.gateways.iter_mut();
                if let Some(gateway) = gateways.find(|it| it.attempt == attempt && it.is_alive) {
                    gateway.is_alive = false;
                    self.step(Event::ChildExited { attempt, status });
                }
            }
        }
    }

    fn step(&mut self, event: Event) {
        self.journal.push((self.now, event.clone()));
        let before = self.core.clone();
        if matches!(event, Event::ProbeFinished { .. }) {
            self.is_probe_out = false;
        }
        let actions = self.core.step(self.now, event.clone());
        for action in actions.clone() {
            self.act(action);
        }
        let moment = Moment {
            now: self.now,
            event: &event,
            actions: &actions,
            before: &before,
            after: &self.core,
            alive: self.alive(),
            is_probe_out: self.is_probe_out,
            is_unkillable: self.has_unkillable_gateway(),
        };
        self.witness.check(&moment);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { attempt } => self.spawn(attempt),
            Action::Terminate => self.terminate(),
            Action::Kill => self.kill(),
            Action::Watch => self.is_watching = true,
            Action::Unwatch => self.is_watching = false,
            Action::KeepIncident(incident) => self.incidents.push(*incident),
            Action::KeepConfig { .. } => self.kept.push(self.now),
            Action::Reply { answer, .. } => self.replies.push(answer),
            Action::Report(report) => self.reports.push((self.now, report)),
            Action::Exit(ending) => self.ending = Some((self.now, ending)),
            Action::Probe { timeout, .. } => {
                self.is_probe_out = true;
                let is_deaf = |it: &Gateway| it.life.is_deaf(self.now.since(it.started).0);
                let waits = self.gateways.iter().any(|it| it.is_alive && is_deaf(it));
                self.ask_answered_after(action, if waits { timeout.0 } else { 1 });
            }
            Action::FindListeners { .. } => self.ask_answered_after(action, 1),
            Action::LookAtConfig { .. } => self.ask_answered_after(action, 2),
            // Reading /proc does not hang.
            Action::SampleMemory { .. } => self.ask_answered_after(action, 0),
            Action::EndTree { .. } => {
                self.tree_asked += 1;
                self.ask(action);
            }
            Action::CheckVolume { mend_all, .. } => {
                self.mends += usize::from(mend_all);
                self.ask(action);
            }
            Action::FindLeftovers { .. }
            | Action::EndProcesses { .. }
            | Action::FindLocks { .. }
            | Action::ClearLocks { .. }
            | Action::ReadConfig { .. }
            | Action::SeedConfig { .. }
            | Action::CollectEvidence { .. }
            | Action::StartChannels { .. }
            | Action::ValidateConfig { .. }
            | Action::RollBackConfig { .. } => self.ask(action),
            Action::NudgeConfig { .. } => {
                self.nudges.push(self.now);
                self.let_gateway_react(|on_edit| on_edit == OnEdit::NeedsNudge);
                self.ask_answered_after(action, 2);
            }
        }
    }

    fn ask(&mut self, action: Action) {
        let answer = if self.now.0 >= self.world.answers_heal_at && self.world.answers_heal_at > 0 {
            Answer::After(1)
        } else {
            self.world.answers[self.questions % self.world.answers.len()]
        };
        self.questions += 1;
        match answer {
            Answer::After(delay) => self.ask_answered_after(action, delay),
            Answer::Never => {}
        }
    }

    fn ask_answered_after(&mut self, action: Action, delay: u64) {
        let asked = self.tree_asked;
        self.at(self.now.plus(Millis(delay)), Coming::Answer(action, asked));
    }

    fn spawn(&mut self, attempt: Attempt) {
        let index = self.spawns.len();
        let started = self.now.plus(Millis(self.world.spawn_takes));
        self.spawns.push(started);
        let life = self.world.lives.get(index).cloned();
        let life = life.unwrap_or(Life::HEALTHY);
        if let Some(fault) = life.fault {
            let error = format!("{fault:?}");
            let failure = SpawnFailure { fault, error };
            let failed = Event::SpawnFailed { attempt, failure };
            return self.at(started, Coming::Event(failed));
        }
        let pid = 100 + i32::try_from(index).unwrap_or(0);
        self.at(started, Coming::Event(Event::Spawned { attempt, pid }));
        for (after, marker) in life.says.clone() {
            let seen = Event::LineSeen { attempt, marker };
            self.at(started.plus(Millis(after)), Coming::Event(seen));
        }
        if let Some((after, status)) = life.ends {
            let at = started.plus(Millis(after));
            self.at(at, Coming::GatewayEnds(attempt, status));
        }
        if let Some(after) = life.memory.ends_after() {
            let killed = Coming::GatewayEnds(attempt, ExitStatus::Signal(SIGKILL));
            self.at(started.plus(Millis(after)), killed);
        }
        self.gateways.push(Gateway {
            attempt,
            started,
            life,
            is_alive: true,
        });
    }

    /// The gateway says within a second what it makes of its config.
    fn let_gateway_react(&mut self, does: impl Fn(OnEdit) -> bool) {
        let runs = |it: &&Gateway| it.is_alive && it.started <= self.now;
        let Some(gateway) = self.gateways.iter().find(runs) else {
            return;
        };
        let (attempt, on_edit) = (gateway.attempt, gateway.life.on_edit);
        if !does(on_edit) {
            return;
        }
        let ends_in = match on_edit {
            OnEdit::RestartsItself => Some(1_200),
            OnEdit::RestartsUnheard => Some(600),
            OnEdit::Applies
            | OnEdit::RestartsInPlace
            | OnEdit::LeavesIt
            | OnEdit::Refuses
            | OnEdit::Fails
            | OnEdit::Misses
            | OnEdit::NeedsNudge => None,
        };
        if let Some(ends_in) = ends_in {
            let ends = Coming::GatewayEnds(attempt, ExitStatus::Code(0));
            self.at(self.now.plus(Millis(ends_in)), ends);
        }
        for sign in on_edit.signs() {
            let said = Event::ReloadSaid {
                attempt,
                sign: *sign,
            };
            self.at(self.now.plus(Millis(600)), Coming::Event(said));
        }
    }

    fn terminate(&mut self) {
        let now = self.now;
        let Some(gateway) = self.gateways.iter().find(|it| it.is_alive) else {
            return;
        };
        let is_deaf = gateway.life.is_deaf(now.since(gateway.started).0);
        match gateway.life.on_term {
            OnTerm::Drains(delay) if !is_deaf => {
                let ends = Coming::GatewayEnds(gateway.attempt, ExitStatus::Code(0));
                self.at(now.plus(Millis(delay)), ends);
            }
            OnTerm::Drains(_) | OnTerm::Ignores => {}
        }
    }

    fn kill(&mut self) {
        let Some(gateway) = self.gateways.iter().find(|it| it.is_alive) else {
            return;
        };
        if let Some(delay) = gateway.life.dies_of_kill_in {
            let ends = Coming::GatewayEnds(gateway.attempt, ExitStatus::Signal(SIGKILL));
            self.at(self.now.plus(Millis(delay)), ends);
        }
    }
}

mod answers;
