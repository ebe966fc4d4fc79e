//! Follows one edit at a time until the gateway has answered for it, helps where it did not notice, and restarts last.

use super::super::action::ConfigProblem;
use super::super::time::{Millis, Mono};
use super::edit::{
    Apply, Deed, Digest, Look, RestartWhy, Setting, Sign, Told, Unapplied, Validation, Verdict,
    judge,
};
use serde::{Deserialize, Serialize};

/// Several writes of one edit are one change.
const DEBOUNCE: Millis = Millis(150);
/// A file that is bad may be half written, or about to be put back: it is looked at again before anything is said.
const SETTLE: Millis = Millis(700);
/// The gateway needs 0.7 s from an edit to its first word (7.1 and 9.6); a loaded one some more.
const NOTICE: Millis = Millis::from_secs(6);
/// The same once its file was touched, on a machine that is busy.
const NOTICE_LATE: Millis = Millis::from_secs(15);
/// After its first word it may say more: that it restarts, or that it will not. Then it is asked whether it answers.
const TAKEN: Millis = Millis(1_500);
/// An edit whose gateway gives no answer is left to the liveness probes.
const ANSWER: Millis = Millis::from_secs(60);
/// A gateway drains for up to 330 s before it restarts itself.
const OWN_RESTART: Millis = Millis::from_secs(600);
/// A word of the gateway this much older than our own look belongs to the same edit.
const STRAY: Millis = Millis::from_secs(90);
/// A word of the gateway this much younger than our look belongs to what we saw.
const BELONGS: Millis = Millis::from_secs(30);
/// The validator has a deadline of its own, which is shorter.
const VALIDATION: Millis = Millis::from_secs(120);
/// Follows the edits of one config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// How many contents were seen.
    generation: u64,
    /// The one counted last: what the next gateway begins with is most often the same.
    #[serde(default)]
    counted: Option<Digest>,
    /// The bytes judged last.
    known: Option<Digest>,
    /// Bad bytes that are given time to become good.
    settling: Option<Digest>,
    /// What the running gateway's config means, as far as is known.
    running: Option<Digest>,
    /// The last word was that it is bad.
    is_bad: bool,
    look_at: Option<Mono>,
    is_looking: bool,
    edit: Option<Edit>,
    /// When another content was last judged.
    judged: Option<Mono>,
    /// What the gateway said last that belonged to no change that we had seen.
    stray: Option<(Mono, Sign)>,
    keep_at: Option<Mono>,
    is_ready: bool,
}

/// An edit on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Edit {
    meaning: Digest,
    since: Mono,
    stage: Stage,
    /// When the stage ends by itself; `None` until the gateway is ready.
    until: Option<Mono>,
    reload_is_off: bool,
    can_be_heard: bool,
    /// What the gateway said of it before it was ready, or while another look was due.
    said_early: Option<Sign>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Nobody has said anything yet.
    Waiting,
    /// The config was touched.
    Nudged,
    /// The gateway has taken it and may say more.
    Taken,
    /// It is to answer.
    Asked,
    /// The gateway restarts itself.
    Restarting,
    /// The validator is asked: before a restart, or for the sake of its word alone.
    Validating(Option<RestartWhy>),
    /// The gateway refused it; the validator is asked where.
    Refused,
}

impl Reload {
    /// A gateway was started: it reads what stands there now, and that is the first thing to know.
    pub fn began(&mut self) -> Vec<Deed> {
        *self = Self {
            generation: self.generation,
            counted: self.counted,
            is_looking: true,
            ..Self::default()
        };
        vec![Deed::Look]
    }

    /// The gateway ended; whatever was on its way, the next one reads it.
    pub fn ended(&mut self) {
        self.edit = None;
        self.look_at = None;
        self.keep_at = None;
        self.stray = None;
        self.is_ready = false;
    }

    /// The gateway is ready: what became of an edit made during its start is followed from now on.
    pub fn ready(&mut self, now: Mono, setting: Setting) -> Vec<Deed> {
        self.is_ready = true;
        let Some(edit) = &mut self.edit else {
            if !self.is_bad {
                self.keep_later(now, setting);
            }
            return vec![];
        };
        edit.until = Some(now.plus(NOTICE));
        edit.can_be_heard |= setting.speaks;
        match edit.said_early.take() {
            Some(sign) => self.heard(now, sign, setting),
            None => vec![],
        }
    }

    /// A watched file may have changed.
    pub fn stirred(&mut self, now: Mono) {
        let at = now.plus(DEBOUNCE);
        self.look_at = Some(self.look_at.map_or(at, |sooner| sooner.min(at)));
    }

    /// Counts the contents seen in this life of clawkeeper.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// `accepted`, `refused`, or `pending` while the gateway has not answered for an edit.
    #[must_use]
    pub const fn verdict_word(&self) -> &'static str {
        if self.is_bad {
            "refused"
        } else if self.edit.is_some() {
            "pending"
        } else {
            "accepted"
        }
    }

    /// True when what stands there by now may be another config, and a broken one.
    const fn is_outdated(&self) -> bool {
        self.settling.is_some() || self.look_at.is_some() || self.is_looking
    }

    /// When [`Reload::due`] is to be called next.
    #[must_use]
    pub fn next(&self) -> Option<Mono> {
        let look = self.look_at.filter(|_| !self.is_looking);
        let edit = self.edit.as_ref().and_then(|edit| edit.until);
        [look, edit, self.keep_at].into_iter().flatten().min()
    }

    /// What a look found.
    pub fn looked(&mut self, now: Mono, look: Look, setting: Setting) -> Vec<Deed> {
        self.is_looking = false;
        let verdict = judge(&look, self.known, self.running);
        if verdict == Verdict::Bad && self.settling != Some(look.bytes) {
            self.settling = Some(look.bytes);
            self.look_at = Some(now.plus(SETTLE));
            return vec![];
        }
        self.settling = None;
        if verdict == Verdict::Same {
            return self.looked_again(now, &look, setting);
        }
        self.known = Some(look.bytes);
        self.judged = (self.running.is_some() && verdict != Verdict::Edit).then_some(now);
        self.keep_at = None;
        let was_bad = std::mem::replace(&mut self.is_bad, verdict == Verdict::Bad);
        let is_first = self.running.is_none() && verdict == Verdict::Equal;
        if self.counted.replace(look.bytes) != Some(look.bytes) {
            self.generation += 1;
        }
        let generation = self.generation;
        let mut deeds = vec![];
        match verdict {
            Verdict::Same => {}
            Verdict::Bad => {
                self.edit = None;
                self.stray = None;
                let problem = ConfigProblem::of(look.state);
                deeds.push(Deed::Tell(Told::Refused {
                    generation,
                    problem,
                }));
            }
            Verdict::Equal => {
                self.running = Some(look.meaning);
                self.edit = None;
                self.keep_later(now, setting);
                let changed = vec![];
                if was_bad {
                    deeds.push(Deed::Tell(Told::Restored));
                } else if !is_first && !look.is_gateways_own {
                    let told = Told::Accepted {
                        generation,
                        changed,
                    };
                    deeds.push(Deed::Tell(told));
                }
            }
            Verdict::Own => {
                self.running = Some(look.meaning);
                self.edit = None;
                self.stray = None;
                self.keep_later(now, setting);
                let changed = look.changed;
                deeds.push(Deed::Tell(Told::Rewritten { changed }));
            }
            Verdict::Edit => self.follow(now, look, setting, &mut deeds),
        }
        deeds
    }

    /// The same bytes as before; the gateway may have taken them meanwhile without a word.
    fn looked_again(&mut self, now: Mono, look: &Look, setting: Setting) -> Vec<Deed> {
        if self.is_ready
            && let Some(edit) = &mut self.edit
            && let Some(sign) = edit.said_early.take()
        {
            return self.heard(now, sign, setting);
        }
        if self.is_ready
            && let Some(edit) = &mut self.edit
        {
            edit.until.get_or_insert(now.plus(NOTICE));
        }
        match &self.edit {
            Some(edit) if look.is_taken && matches!(edit.stage, Stage::Waiting | Stage::Nudged) => {
                self.take(now)
            }
            Some(_) | None => vec![],
        }
    }

    fn follow(&mut self, now: Mono, look: Look, setting: Setting, deeds: &mut Vec<Deed>) {
        let generation = self.generation;
        deeds.push(Deed::Tell(Told::Accepted {
            generation,
            changed: look.changed,
        }));
        self.edit = Some(Edit {
            meaning: look.meaning,
            since: now,
            stage: Stage::Waiting,
            until: self.is_ready.then(|| now.plus(NOTICE)),
            reload_is_off: look.reload_is_off,
            can_be_heard: setting.speaks && !look.log_is_quiet,
            said_early: None,
        });
        if let Some((at, sign)) = self.stray.take()
            && now.since(at) <= STRAY
        {
            deeds.extend(self.heard(now, sign, setting));
        }
    }

    /// The gateway said something of a reload.
    pub fn heard(&mut self, now: Mono, sign: Sign, setting: Setting) -> Vec<Deed> {
        let generation = self.generation;
        let is_outdated = self.is_outdated();
        let Some(edit) = &mut self.edit else {
            // Right after a change that is no edit it belongs to that one, and otherwise to one that we are to see yet.
            let belongs = |at: Mono| now.since(at) <= BELONGS;
            let is_settling = self.settling.is_some();
            if !is_settling && !self.judged.is_some_and(belongs) {
                self.stray = Some((now, sign));
            }
            return vec![];
        };
        if !self.is_ready || is_outdated {
            edit.said_early = Some(sign);
            return vec![];
        }
        if edit.stage == Stage::Restarting {
            return vec![];
        }
        match sign {
            Sign::Noticed | Sign::Applied if setting.apply == Apply::Restart => {
                self.restart(RestartWhy::Asked, setting)
            }
            Sign::Noticed | Sign::Applied => self.take(now),
            Sign::Restarting => {
                edit.stage = Stage::Restarting;
                edit.until = Some(now.plus(OWN_RESTART));
                vec![Deed::Tell(Told::GatewayRestarts { generation })]
            }
            Sign::Off => self.restart(RestartWhy::ReloadOff, setting),
            Sign::NeedsRestart => self.restart(RestartWhy::NeedsRestart, setting),
            Sign::Refused if edit.stage == Stage::Refused => vec![],
            Sign::Refused => {
                edit.stage = Stage::Refused;
                edit.until = Some(now.plus(VALIDATION));
                vec![Deed::Validate { generation }]
            }
            Sign::Failed => self.owe(now, RestartWhy::Failed, setting),
        }
    }

    /// The gateway's validator answered for the content of this generation.
    pub fn validated(
        &mut self,
        now: Mono,
        of: u64,
        validation: Validation,
        setting: Setting,
    ) -> Vec<Deed> {
        let generation = self.generation;
        let Some(edit) = self.edit.as_ref().filter(|_| of == generation) else {
            return vec![];
        };
        match (edit.stage, validation) {
            (Stage::Validating(_) | Stage::Refused, Validation::Invalid(issues)) => {
                self.refused(issues)
            }
            (Stage::Refused, Validation::Valid | Validation::Skipped(_)) => self.refused(vec![]),
            (Stage::Validating(Some(why)), Validation::Valid) => self.restart(why, setting),
            (Stage::Validating(Some(why)), Validation::Skipped(_))
                if setting.apply == Apply::Restart =>
            {
                self.restart(why, setting)
            }
            (Stage::Validating(Some(why)), Validation::Skipped(reason)) => {
                let because = Unapplied::NotValidated(reason);
                self.unapplied(why, because)
            }
            (Stage::Validating(None), Validation::Valid | Validation::Skipped(_)) => {
                self.settled(now, setting, Told::Unverified { generation })
            }
            (
                Stage::Waiting | Stage::Nudged | Stage::Taken | Stage::Asked | Stage::Restarting,
                _,
            ) => vec![],
        }
    }

    /// The gateway answered a question that was asked at this time.
    pub fn answered(&mut self, now: Mono, probed: Mono, setting: Setting) -> Vec<Deed> {
        let generation = self.generation;
        let Some(edit) = &self.edit else {
            return vec![];
        };
        let asked_at = edit.until.map(|until| until.0.saturating_sub(ANSWER.0));
        if edit.stage != Stage::Asked || asked_at.is_none_or(|asked_at| probed.0 < asked_at) {
            return vec![];
        }
        let took = now.since(edit.since);
        self.settled(now, setting, Told::Applied { generation, took })
    }

    /// A time that [`Reload::next`] named has come.
    pub fn due(&mut self, now: Mono, setting: Setting) -> Vec<Deed> {
        let mut deeds = vec![];
        if !self.is_looking && self.look_at.is_some_and(|at| now >= at) {
            self.look_at = None;
            self.is_looking = true;
            deeds.push(Deed::Look);
        }
        if self.keep_at.is_some_and(|at| now >= at) {
            self.keep_at = None;
            deeds.extend(self.known.map(Deed::Keep));
        }
        let is_due = |edit: &Edit| edit.until.is_some_and(|until| now >= until);
        if self.edit.as_ref().is_some_and(is_due) {
            self.give_up_waiting(now, setting, &mut deeds);
        }
        deeds
    }

    fn give_up_waiting(&mut self, now: Mono, setting: Setting, deeds: &mut Vec<Deed>) {
        let generation = self.generation;
        let Some(edit) = &mut self.edit else { return };
        match edit.stage {
            Stage::Waiting if setting.apply == Apply::Restart => {
                deeds.extend(self.owe(now, RestartWhy::Asked, setting));
            }
            Stage::Waiting if edit.reload_is_off => {
                deeds.extend(self.owe(now, RestartWhy::ReloadOff, setting));
            }
            Stage::Waiting => {
                edit.stage = Stage::Nudged;
                edit.until = Some(now.plus(NOTICE_LATE));
                self.is_looking = true;
                deeds.push(Deed::Nudge);
            }
            Stage::Nudged if edit.can_be_heard => {
                deeds.extend(self.owe(now, RestartWhy::Missed, setting));
            }
            Stage::Nudged => deeds.extend(self.validate(now, None)),
            Stage::Taken => {
                edit.stage = Stage::Asked;
                edit.until = Some(now.plus(ANSWER));
                deeds.push(Deed::Probe);
            }
            Stage::Asked | Stage::Restarting => {
                deeds.extend(self.settled(now, setting, Told::Unverified { generation }));
            }
            Stage::Validating(_) | Stage::Refused => {
                let no_answer = Validation::Skipped("it gave no answer in time".to_owned());
                deeds.extend(self.validated(now, generation, no_answer, setting));
            }
        }
    }

    fn take(&mut self, now: Mono) -> Vec<Deed> {
        if let Some(edit) = &mut self.edit
            && !matches!(edit.stage, Stage::Taken | Stage::Asked)
        {
            edit.stage = Stage::Taken;
            edit.until = self.is_ready.then(|| now.plus(TAKEN));
        }
        vec![]
    }

    fn validate(&mut self, now: Mono, then: Option<RestartWhy>) -> Vec<Deed> {
        let generation = self.generation;
        let Some(edit) = &mut self.edit else {
            return vec![];
        };
        edit.stage = Stage::Validating(then);
        edit.until = Some(now.plus(VALIDATION));
        vec![Deed::Validate { generation }]
    }

    /// A restart is called for, and the gateway has not said that the config is valid.
    fn owe(&mut self, now: Mono, why: RestartWhy, setting: Setting) -> Vec<Deed> {
        if setting.apply == Apply::Gateway {
            self.unapplied(why, Unapplied::Setting)
        } else {
            self.validate(now, Some(why))
        }
    }

    /// The end of an edit that is known to be valid: one restart, or a word that there is none.
    fn restart(&mut self, why: RestartWhy, setting: Setting) -> Vec<Deed> {
        if setting.apply == Apply::Gateway {
            return self.unapplied(why, Unapplied::Setting);
        }
        if self.is_outdated()
            && let Some(edit) = &mut self.edit
        {
            // Once it has been looked at the edit goes on, or another has taken its place.
            edit.stage = Stage::Waiting;
            edit.until = None;
            return vec![];
        }
        self.edit = None;
        let generation = self.generation;
        vec![
            Deed::Tell(Told::Restarts { generation, why }),
            Deed::Restart,
        ]
    }

    fn unapplied(&mut self, why: RestartWhy, because: Unapplied) -> Vec<Deed> {
        let generation = self.generation;
        if let Some(edit) = self.edit.take() {
            self.running = Some(edit.meaning);
        }
        vec![Deed::Tell(Told::NotApplied {
            generation,
            why,
            because,
        })]
    }

    fn refused(&mut self, issues: Vec<String>) -> Vec<Deed> {
        let generation = self.generation;
        self.edit = None;
        self.is_bad = true;
        vec![Deed::Tell(Told::RefusedByGateway { generation, issues })]
    }

    fn settled(&mut self, now: Mono, setting: Setting, told: Told) -> Vec<Deed> {
        if let Some(edit) = self.edit.take() {
            self.running = Some(edit.meaning);
        }
        self.keep_later(now, setting);
        vec![Deed::Tell(told)]
    }

    fn keep_later(&mut self, now: Mono, setting: Setting) {
        if self.is_ready {
            self.keep_at = Some(now.plus(setting.good_after));
        }
    }
}
