//! What holds after every step, whatever the world does. Each claim is one function, which knows the machine's
//! past only by the events and actions that went by.

use super::facts::{attempt_of, belongs_to_a_live_gateway, grace, is_spawn, question_of, reports};
use crate::core::action::{Action, HoldWhy, Report};
use crate::core::config::{self, ConfigVerdict};
use crate::core::control::{Answer, Op};
use crate::core::event::{Attempt, Event, Instance, Request};
use crate::core::exit_class::StopCause;
use crate::core::leftovers::{self, ProcessVerdict};
use crate::core::locks::{self, LockVerdict};
use crate::core::machine::{Core, Phase, Policy};
use crate::core::reload::{Apply, Digest};
use crate::core::time::{Millis, Mono};
use crate::core::volume::{self, VolumeVerdict};
use std::collections::VecDeque;

/// One step as the shell sees it.
pub(super) struct Moment<'a> {
    pub(super) now: Mono,
    pub(super) event: &'a Event,
    pub(super) actions: &'a [Action],
    pub(super) before: &'a Core,
    pub(super) after: &'a Core,
    /// Gateways alive after the actions were executed.
    pub(super) alive: usize,
    pub(super) is_probe_out: bool,
    /// True when SIGKILL does not end the gateway.
    pub(super) is_unkillable: bool,
}

/// What went by so far.
pub(super) struct Witness {
    policy: Policy,
    told: Told,
    stop: Option<Stop>,
    stop_asked: Option<Mono>,
    owed: Option<Attempt>,
    held: Option<HoldWhy>,
    edits: Edits,
    is_over: bool,
    is_end_announced: bool,
    is_paused: bool,
    last_steps: VecDeque<Mono>,
    /// Samples in a row, of one gateway, with less than a tenth of memory left.
    tight_samples: u32,
    memory_restarts: Vec<Mono>,
}

/// What the last looks said; a start needs all of it.
#[derive(Default)]
struct Told {
    volume: bool,
    leftovers: bool,
    locks: bool,
    config: bool,
}

/// The contents a running gateway's config had.
#[derive(Default)]
struct Edits {
    seen: Option<Digest>,
    is_bad: bool,
    is_gateways_own: bool,
    changes: u64,
    /// How many changes there had been at the last restart for one.
    restarted_at: Option<u64>,
}

/// The stop of a gateway, counted independently of the machine.
#[derive(Clone, Copy)]
struct Stop {
    cause: StopCause,
    kill_from: Mono,
    signals: u32,
    asked_at: Mono,
}

/// A dead gateway's last output and helpers, twice a deadline of ending what is left, and the shell's lateness.
const AFTER_THE_GATEWAY: Millis = Millis(15_000 + 10_000 + 2_000);
/// Past SIGKILL a process may take a moment.
const DYING: Millis = Millis::from_secs(2);
/// Far more than any story needs, far less than a loop without a pause.
const STEPS_PER_SECOND: usize = 250;

impl Witness {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            policy: policy.clone(),
            told: Told::default(),
            stop: None,
            stop_asked: None,
            owed: None,
            held: None,
            edits: Edits::default(),
            is_over: false,
            is_end_announced: false,
            is_paused: false,
            last_steps: VecDeque::new(),
            tight_samples: 0,
            memory_restarts: vec![],
        }
    }

    /// Checks every claim against this step.
    pub(super) fn check(&mut self, moment: &Moment<'_>) {
        self.hear(moment);
        invariant_at_most_one_gateway_lives(moment);
        invariant_answers_of_earlier_attempts_change_nothing(moment);
        invariant_only_proven_locks_are_cleared(moment);
        invariant_every_phase_ends_by_itself(moment, &self.policy);
        invariant_a_deadline_never_lies_behind_what_it_led_to(moment);
        invariant_questions_belong_to_the_present_attempt(moment);
        invariant_clawkeeper_ends_without_a_gateway_behind_it(moment);
        invariant_a_stop_cause_only_grows(moment);
        invariant_each_request_is_answered_at_once_and_only_once(moment);
        self.invariant_nothing_is_spawned_in_a_pause(moment);
        self.invariant_nothing_is_spawned_after_a_stop_request(moment);
        self.invariant_a_start_needs_a_clean_look(moment);
        self.invariant_each_exit_is_reported_exactly_once(moment);
        self.invariant_a_restart_for_an_edit_is_the_only_one_and_for_a_good_one(moment);
        self.invariant_a_kill_waits_for_its_grace(moment);
        self.invariant_a_stop_request_ends_in_time(moment);
        self.invariant_the_same_hold_is_not_said_again(moment);
        self.invariant_memory_restarts_follow_several_samples_and_keep_their_budget(moment);
        self.invariant_nothing_follows_the_exit(moment);
        self.invariant_the_end_is_announced_once(moment);
        self.invariant_steps_are_bounded(moment);
    }

    fn hear(&mut self, moment: &Moment<'_>) {
        let now = moment.now;
        if let Event::SignalReceived {
            signal: Request::Stop,
            ..
        } = moment.event
        {
            self.stop_asked.get_or_insert(now);
            self.hear_stop(now);
        }
        self.told.hear(moment, &self.policy);
        self.edits.hear(moment);
        let exited = matches!(moment.event, Event::ChildExited { .. });
        if exited {
            self.stop = None;
        }
        if let Phase::Stopping { cause, .. } = moment.after.phase
            && self.stop.is_none()
        {
            self.stop = Some(Stop {
                cause,
                kill_from: now.plus(grace(&self.policy, cause)),
                signals: u32::from(cause == StopCause::Shutdown),
                asked_at: now,
            });
        }
    }

    /// The second signal leaves three seconds, the third none; two within half a second are one.
    fn hear_stop(&mut self, now: Mono) {
        let Some(stop) = &mut self.stop else { return };
        if stop.cause < StopCause::Shutdown {
            stop.cause = StopCause::Shutdown;
            (stop.signals, stop.asked_at) = (1, now);
        } else if now.since(stop.asked_at) >= Millis(500) {
            (stop.signals, stop.asked_at) = (stop.signals + 1, now);
            let left = if stop.signals == 2 { 3_000 } else { 0 };
            stop.kill_from = stop.kill_from.min(now.plus(Millis(left)));
        }
    }

    fn invariant_nothing_is_spawned_after_a_stop_request(&self, moment: &Moment<'_>) {
        let spawns = moment.actions.iter().any(is_spawn);
        assert!(
            !(spawns && self.stop_asked.is_some()),
            "spawned after a stop"
        );
    }

    /// But for a spawn that was under way when the pause was asked for.
    fn invariant_nothing_is_spawned_in_a_pause(&mut self, moment: &Moment<'_>) {
        let spawns = moment.actions.iter().any(is_spawn);
        if let Event::Requested {
            op: Op::Pause { .. },
            ..
        } = moment.event
            && is_accepted(moment)
        {
            self.is_paused = true;
        }
        for report in reports(moment.actions) {
            self.is_paused &= !matches!(report, Report::Resumed { .. });
        }
        assert!(!(spawns && self.is_paused), "spawned in a pause");
        let says_so = moment.after.status(moment.now).pause.is_some();
        let ends = self.stop_asked.is_some();
        assert!(says_so == self.is_paused || ends, "the status of a pause");
    }

    fn invariant_a_start_needs_a_clean_look(&self, moment: &Moment<'_>) {
        if moment.actions.iter().any(is_spawn) {
            let told = &self.told;
            assert!(told.volume, "spawned on a volume that was not found usable");
            assert!(told.leftovers, "spawned beside another gateway");
            assert!(told.locks, "spawned in spite of a lock");
            assert!(told.config, "spawned with a config that holds");
        }
    }

    fn invariant_each_exit_is_reported_exactly_once(&mut self, moment: &Moment<'_>) {
        if let Event::ChildExited { attempt, .. } = moment.event
            && *attempt == moment.before.attempt
        {
            assert_eq!(self.owed, None, "two exits of one attempt");
            self.owed = Some(*attempt);
        }
        for report in reports(moment.actions) {
            if let Report::Exited { attempt, .. } = report {
                assert_eq!(self.owed.take(), Some(*attempt), "an exit nobody saw");
            }
        }
        let is_settled = !matches!(moment.after.phase, Phase::Classifying { .. });
        assert!(
            self.owed.is_none() || !is_settled,
            "an exit was left without a class"
        );
    }

    /// No broken edit and no rewrite of the gateway's own leads to a restart, and no edit to two.
    fn invariant_a_restart_for_an_edit_is_the_only_one_and_for_a_good_one(
        &mut self,
        moment: &Moment<'_>,
    ) {
        let stopping = |core: &Core| {
            matches!(
                core.phase,
                Phase::Stopping {
                    cause: StopCause::Reload,
                    ..
                }
            )
        };
        if !stopping(moment.after) || stopping(moment.before) {
            return;
        }
        let edits = &mut self.edits;
        assert!(!edits.is_bad, "restarted for a config that cannot be used");
        assert!(!edits.is_gateways_own, "restarted for the gateway's own");
        let is_second = edits.restarted_at == Some(edits.changes);
        assert!(!is_second, "restarted twice for one edit");
        edits.restarted_at = Some(edits.changes);
        assert_ne!(self.policy.apply, Apply::Gateway, "against the setting");
    }

    fn invariant_a_kill_waits_for_its_grace(&self, moment: &Moment<'_>) {
        if moment.actions.contains(&Action::Kill) {
            let stop = self.stop.as_ref().expect("a kill without a stop");
            assert!(
                moment.now >= stop.kill_from,
                "killed {} early",
                stop.kill_from.since(moment.now)
            );
        }
    }

    fn invariant_a_stop_request_ends_in_time(&self, moment: &Moment<'_>) {
        let Some(asked) = self.stop_asked else { return };
        let bound = Millis(self.policy.stop_timeout.0 + DYING.0 + AFTER_THE_GATEWAY.0);
        assert!(
            moment.now <= asked.plus(bound) || moment.is_unkillable || moment.after.is_over(),
            "told to stop {} ago and still {}",
            moment.now.since(asked),
            moment.after.phase_word()
        );
    }

    fn invariant_the_same_hold_is_not_said_again(&mut self, moment: &Moment<'_>) {
        for report in reports(moment.actions) {
            if matches!(report, Report::Ready { .. } | Report::Paused { .. }) {
                self.held = None;
            }
            if let Report::Held(why) = report {
                assert_ne!(self.held.as_ref(), Some(why), "said twice");
                self.held = Some(why.clone());
            }
        }
    }

    fn invariant_memory_restarts_follow_several_samples_and_keep_their_budget(
        &mut self,
        moment: &Moment<'_>,
    ) {
        if matches!(moment.event, Event::Spawned { .. }) {
            self.tight_samples = 0;
        }
        if let Event::MemorySampled { attempt, sample } = moment.event
            && *attempt == moment.before.attempt
        {
            let is_tight = sample.available < sample.limit.percent(10);
            self.tight_samples = if is_tight { self.tight_samples + 1 } else { 0 };
        }
        let restarts = reports(moment.actions).any(|it| matches!(it, Report::MemoryRestart(_)));
        if !restarts {
            return;
        }
        assert!(self.tight_samples >= 4, "{} samples", self.tight_samples);
        assert_eq!(moment.before.phase, Phase::Running);
        let hour = Millis::from_secs(3_600);
        self.memory_restarts
            .retain(|at| moment.now.since(*at) < hour);
        self.memory_restarts.push(moment.now);
        let most = self.policy.memory.restarts_per_hour.unwrap_or(0);
        assert!(
            self.memory_restarts.len() <= most as usize,
            "{:?}",
            self.memory_restarts
        );
    }

    fn invariant_nothing_follows_the_exit(&mut self, moment: &Moment<'_>) {
        if self.is_over {
            assert_eq!(moment.actions, [], "after the end");
            assert!(moment.after.is_over(), "it came back");
        }
        let exits = |action: &&Action| matches!(action, Action::Exit(_));
        if moment.actions.iter().any(|action| exits(&action)) {
            assert_eq!(moment.actions.iter().filter(exits).count(), 1);
            assert!(matches!(moment.actions.last(), Some(Action::Exit(_))));
            assert!(moment.after.is_over());
            self.is_over = true;
        }
    }

    /// However many signals ask for it, and whatever it is doing then.
    fn invariant_the_end_is_announced_once(&mut self, moment: &Moment<'_>) {
        for report in reports(moment.actions) {
            let announces = matches!(
                report,
                Report::Stopping {
                    cause: StopCause::Shutdown,
                    ..
                }
            );
            assert!(!(announces && self.is_end_announced), "announced twice");
            self.is_end_announced |= announces;
        }
    }

    fn invariant_steps_are_bounded(&mut self, moment: &Moment<'_>) {
        self.last_steps.push_back(moment.now);
        if self.last_steps.len() > STEPS_PER_SECOND {
            let oldest = self.last_steps.pop_front().unwrap_or(moment.now);
            assert!(
                moment.now.since(oldest) >= Millis(1_000),
                "{STEPS_PER_SECOND} steps within {}: a loop without a pause, in {}",
                moment.now.since(oldest),
                moment.after.phase_word()
            );
        }
    }
}

impl Edits {
    fn hear(&mut self, moment: &Moment<'_>) {
        let Event::ConfigSeen { attempt, look, .. } = moment.event else {
            return;
        };
        if *attempt != moment.before.attempt || self.seen == Some(look.bytes) {
            return;
        }
        self.seen = Some(look.bytes);
        self.changes += 1;
        self.is_gateways_own = look.is_gateways_own;
        self.is_bad = config::judge(&look.state, false, false) == ConfigVerdict::Hold;
    }
}

impl Told {
    fn hear(&mut self, moment: &Moment<'_>, policy: &Policy) {
        if attempt_of(moment.event).is_some_and(|attempt| attempt != moment.before.attempt) {
            return;
        }
        match moment.event {
            Event::VolumeChecked {
                instance, facts, ..
            } => {
                let verdict = volume::judge(facts, policy.no_mount);
                self.volume =
                    *instance == Instance::Ours && matches!(verdict, VolumeVerdict::Usable(_));
            }
            Event::LeftoversFound {
                processes,
                port_busy,
                ..
            } => {
                let is_clean = |it| leftovers::judge(it) == ProcessVerdict::Unrelated;
                self.leftovers = !port_busy && processes.iter().all(is_clean);
            }
            Event::LocksFound { locks, .. } => {
                self.locks = locks.iter().all(|lock| !belongs_to_a_live_gateway(lock));
            }
            Event::ConfigRead { facts, .. } => {
                let verdict = config::judge(&facts.state, false, policy.allow_unconfigured);
                self.config = verdict == ConfigVerdict::Use;
            }
            Event::Begun
            | Event::DeadlinePassed
            | Event::SignalReceived { .. }
            | Event::ProcessesEnded { .. }
            | Event::LocksCleared { .. }
            | Event::ConfigSeeded { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::LineSeen { .. }
            | Event::ProbeFinished { .. }
            | Event::ListenersFound { .. }
            | Event::ChildExited { .. }
            | Event::EvidenceCollected { .. }
            | Event::OomSeen { .. }
            | Event::TreeEnded { .. }
            | Event::ChannelsStarted { .. }
            | Event::MemorySampled { .. }
            | Event::ConfigSeen { .. }
            | Event::ReloadSaid { .. }
            | Event::ConfigValidated { .. }
            | Event::ConfigRolledBack { .. }
            | Event::Requested { .. }
            | Event::CauseChanged => {}
        }
        if moment.after.attempt != moment.before.attempt {
            (self.locks, self.config) = (false, false);
        }
        // Whatever held, the next start begins with the whole look.
        if matches!(moment.after.phase, Phase::Held { .. }) {
            *self = Self::default();
        }
    }
}

pub(super) fn invariant_at_most_one_gateway_lives(moment: &Moment<'_>) {
    assert!(moment.alive <= 1, "{} gateways at once", moment.alive);
}

pub(super) fn invariant_answers_of_earlier_attempts_change_nothing(moment: &Moment<'_>) {
    if attempt_of(moment.event).is_some_and(|attempt| attempt != moment.before.attempt) {
        assert_eq!(moment.actions, [], "a late answer led to something");
        assert_eq!(
            moment.after, moment.before,
            "a late answer changed something"
        );
    }
}

pub(super) fn invariant_only_proven_locks_are_cleared(moment: &Moment<'_>) {
    for action in moment.actions {
        let Action::ClearLocks { locks, .. } = action else {
            continue;
        };
        assert!(!locks.is_empty(), "asked to clear nothing");
        for (facts, why) in locks {
            assert!(!belongs_to_a_live_gateway(facts), "{facts:?}");
            let verdict = locks::judge(facts, moment.after.unknown_gateway);
            assert_eq!(verdict, LockVerdict::Stale(*why), "{facts:?}");
        }
    }
}

/// `Held` has a time for its next look, `Paused` one if it has a limit. `Running` may wait for a probe, which has a timeout of its own.
pub(super) fn invariant_every_phase_ends_by_itself(moment: &Moment<'_>, policy: &Policy) {
    let has_deadline = moment.after.next_deadline().is_some();
    let excused = match moment.after.phase {
        Phase::New | Phase::Exited => {
            assert!(!has_deadline, "nothing is to come");
            true
        }
        // A person ends it, or the limit that the person set.
        Phase::Paused { until } => until.is_none(),
        Phase::Running => moment.is_probe_out || policy.liveness_timeout.is_none(),
        Phase::Preflight { .. }
        | Phase::Starting
        | Phase::Stopping { .. }
        | Phase::Classifying { .. }
        | Phase::Backoff { .. }
        | Phase::Held { .. }
        | Phase::Closing { .. } => false,
    };
    assert!(
        has_deadline || excused,
        "no way out of {}",
        moment.after.phase_word()
    );
}

pub(super) fn invariant_a_deadline_never_lies_behind_what_it_led_to(moment: &Moment<'_>) {
    if *moment.event == Event::DeadlinePassed
        && let Some(deadline) = moment.after.next_deadline()
    {
        assert!(
            deadline >= moment.now,
            "{} behind in {}",
            moment.now.since(deadline),
            moment.after.phase_word()
        );
    }
}

pub(super) fn invariant_questions_belong_to_the_present_attempt(moment: &Moment<'_>) {
    for action in moment.actions {
        if let Some(attempt) = question_of(action) {
            assert_eq!(attempt, moment.after.attempt, "{action:?}");
        }
    }
}

pub(super) fn invariant_clawkeeper_ends_without_a_gateway_behind_it(moment: &Moment<'_>) {
    if moment.after.is_over() {
        assert_eq!(moment.alive, 0, "clawkeeper ended before its gateway");
    }
}

pub(super) fn invariant_a_stop_cause_only_grows(moment: &Moment<'_>) {
    if let (Phase::Stopping { cause: old, .. }, Phase::Stopping { cause: new, .. }) =
        (&moment.before.phase, &moment.after.phase)
    {
        assert!(new >= old, "{old:?} became {new:?}");
    }
}

fn is_accepted(moment: &Moment<'_>) -> bool {
    moment.actions.iter().any(|action| {
        matches!(
            action,
            Action::Reply {
                answer: Answer::Accepted { .. },
                ..
            }
        )
    })
}

pub(super) fn invariant_each_request_is_answered_at_once_and_only_once(moment: &Moment<'_>) {
    let answered: Vec<_> = moment
        .actions
        .iter()
        .filter_map(|action| {
            if let Action::Reply { id, .. } = action {
                Some(*id)
            } else {
                None
            }
        })
        .collect();
    let asked = if let Event::Requested { id, .. } = moment.event {
        vec![*id]
    } else {
        vec![]
    };
    assert_eq!(answered, asked);
    if !asked.is_empty() && !is_accepted(moment) {
        assert_eq!(moment.after, moment.before, "refused, and yet");
    }
}
