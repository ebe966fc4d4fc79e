//! Tables and random stories of one config's edits, without a machine around them.

use super::*;
use crate::core::action::ConfigProblem;
use crate::core::config::{ConfigState, Finding, Severity};
use crate::core::time::{Millis, Mono};
use proptest::prelude::*;

const SETTING: Setting = Setting {
    apply: Apply::Auto,
    speaks: true,
    good_after: Millis::from_secs(60),
};

/// A good config of this content and meaning.
fn good(bytes: u64, meaning: u64) -> Look {
    Look {
        path: "/data/openclaw.json".into(),
        state: ConfigState::Parsed { findings: vec![] },
        bytes: Digest(bytes),
        meaning: Digest(meaning),
        reload_is_off: false,
        log_is_quiet: false,
        changed: vec!["agents".into()],
        is_gateways_own: false,
        is_taken: false,
    }
}

fn broken(bytes: u64) -> Look {
    Look {
        state: ConfigState::Broken {
            error: "1:1: expected a key".into(),
        },
        ..good(bytes, bytes)
    }
}

/// One config with its clock.
struct Story {
    reload: Reload,
    setting: Setting,
    now: Mono,
}

impl Story {
    /// A gateway that is ready with content 1.
    fn running() -> Self {
        let mut story = Self {
            reload: Reload::default(),
            setting: SETTING,
            now: Mono(1_000),
        };
        assert_eq!(story.reload.began(), [Deed::Look]);
        assert_eq!(story.sees(good(1, 1)), []);
        assert_eq!(story.reload.ready(story.now, SETTING), []);
        story
    }

    fn with(mut self, apply: Apply) -> Self {
        self.setting.apply = apply;
        self
    }

    fn sees(&mut self, look: Look) -> Vec<Deed> {
        self.reload.looked(self.now, look, self.setting)
    }

    fn hears(&mut self, sign: Sign) -> Vec<Deed> {
        self.reload.heard(self.now, sign, self.setting)
    }

    fn validated(&mut self, validation: Validation) -> Vec<Deed> {
        let generation = self.reload.generation();
        self.reload
            .validated(self.now, generation, validation, self.setting)
    }

    /// Goes to the next time that something is due.
    fn waits(&mut self) -> Vec<Deed> {
        self.now = self.reload.next().expect("something is due");
        self.reload.due(self.now, self.setting)
    }

    fn answers(&mut self) -> Vec<Deed> {
        self.reload.answered(self.now, self.now, self.setting)
    }
}

fn told(deeds: &[Deed]) -> Vec<&'static str> {
    deeds
        .iter()
        .map(|deed| match deed {
            Deed::Tell(Told::Accepted { .. }) => "accepted",
            Deed::Tell(Told::Refused { .. }) => "refused",
            Deed::Tell(Told::RefusedByGateway { .. }) => "refused by gateway",
            Deed::Tell(Told::Restored) => "restored",
            Deed::Tell(Told::Rewritten { .. }) => "rewritten",
            Deed::Tell(Told::Applied { .. }) => "applied",
            Deed::Tell(Told::GatewayRestarts { .. }) => "gateway restarts",
            Deed::Tell(Told::Restarts { .. }) => "restarts",
            Deed::Tell(Told::Unverified { .. }) => "unverified",
            Deed::Tell(Told::NotApplied { .. }) => "not applied",
            Deed::Look => "look",
            Deed::Nudge => "nudge",
            Deed::Validate { .. } => "validate",
            Deed::Probe => "probe",
            Deed::Restart => "RESTART",
            Deed::Keep(_) => "keep",
        })
        .collect()
}

#[test]
fn a_look_is_judged_by_its_bytes_then_its_state_then_its_meaning_then_its_writer() {
    let own = |look: Look| Look {
        is_gateways_own: true,
        ..look
    };
    let hold = Finding {
        severity: Severity::Hold,
        code: "config.mode-missing".into(),
        message: String::new(),
        fix: String::new(),
    };
    let refused = Look {
        state: ConfigState::Parsed {
            findings: vec![hold],
        },
        ..good(2, 2)
    };
    for (look, known, running, verdict) in [
        (good(1, 1), Some(1), Some(1), Verdict::Same),
        (broken(1), Some(1), Some(2), Verdict::Same),
        (broken(2), Some(1), Some(1), Verdict::Bad),
        (own(broken(2)), Some(1), Some(1), Verdict::Bad),
        (refused, Some(1), Some(1), Verdict::Bad),
        (good(2, 1), Some(1), Some(1), Verdict::Equal),
        (good(2, 2), None, None, Verdict::Equal),
        (own(good(2, 2)), Some(1), Some(1), Verdict::Own),
        (good(2, 2), Some(1), Some(1), Verdict::Edit),
    ] {
        let judged = judge(&look, known.map(Digest), running.map(Digest));
        assert_eq!(judged, verdict, "{look:?}");
    }
}

#[test]
fn an_edit_that_the_gateway_takes_is_told_applied_once_it_answers() {
    let mut story = Story::running();
    assert_eq!(told(&story.sees(good(2, 2))), ["accepted"]);
    assert_eq!(story.reload.verdict_word(), "pending");
    assert_eq!(story.hears(Sign::Noticed), []);
    assert_eq!(story.hears(Sign::Applied), []);
    assert_eq!(story.answers(), [], "an answer to an earlier question");
    assert_eq!(told(&story.waits()), ["probe"]);
    assert_eq!(told(&story.answers()), ["applied"]);
    assert_eq!(story.reload.verdict_word(), "accepted");
    assert_eq!(told(&story.waits()), ["keep"]);
    assert_eq!(story.reload.next(), None);
}

#[test]
fn each_word_of_the_gateway_has_its_consequence() {
    for (sign, apply, consequence) in [
        (Sign::Off, Apply::Auto, ["restarts", "RESTART"].as_slice()),
        (Sign::Off, Apply::Gateway, &["not applied"]),
        (Sign::Off, Apply::Restart, &["restarts", "RESTART"]),
        (Sign::NeedsRestart, Apply::Auto, &["restarts", "RESTART"]),
        (Sign::NeedsRestart, Apply::Gateway, &["not applied"]),
        (Sign::Noticed, Apply::Restart, &["restarts", "RESTART"]),
        (Sign::Restarting, Apply::Auto, &["gateway restarts"]),
        (Sign::Restarting, Apply::Restart, &["gateway restarts"]),
        (Sign::Refused, Apply::Auto, &["validate"]),
        (Sign::Refused, Apply::Restart, &["validate"]),
        (Sign::Failed, Apply::Auto, &["validate"]),
        (Sign::Failed, Apply::Gateway, &["not applied"]),
    ] {
        let mut story = Story::running().with(apply);
        story.sees(good(2, 2));
        assert_eq!(told(&story.hears(sign)), consequence, "{sign:?} {apply:?}");
    }
}

#[test]
fn an_edit_nobody_noticed_is_nudged_then_validated_then_restarted_for() {
    let mut story = Story::running();
    story.sees(good(2, 2));
    assert_eq!(told(&story.waits()), ["nudge"]);
    assert_eq!(story.sees(good(2, 2)), []);
    assert_eq!(told(&story.waits()), ["validate"]);
    assert_eq!(
        told(&story.validated(Validation::Valid)),
        ["restarts", "RESTART"]
    );
    assert_eq!(story.reload.next(), None, "nothing is left of it");
}

#[test]
fn a_nudge_that_helps_ends_in_no_restart() {
    let mut story = Story::running();
    story.sees(good(2, 2));
    assert_eq!(told(&story.waits()), ["nudge"]);
    assert_eq!(story.hears(Sign::Noticed), [], "not before the look");
    assert_eq!(story.sees(good(2, 2)), []);
    assert_eq!(told(&story.waits()), ["probe"]);
    assert_eq!(told(&story.answers()), ["applied"]);
}

#[test]
fn a_broken_file_that_follows_a_good_edit_is_not_restarted_onto() {
    let mut story = Story::running();
    story.sees(good(2, 2));
    assert_eq!(story.sees(broken(3)), [], "half written, perhaps");
    assert_eq!(story.hears(Sign::Off), [], "that was about the one before");
    assert_eq!(told(&story.waits()), ["look"]);
    assert_eq!(told(&story.sees(broken(3))), ["refused"]);
    assert_eq!(story.reload.next(), None);
    // A change that was told and not looked at yet holds it up as well.
    let mut story = Story::running();
    story.sees(good(2, 2));
    story.reload.stirred(story.now);
    assert_eq!(story.hears(Sign::Off), []);
    assert_eq!(told(&story.waits()), ["look"]);
    assert_eq!(told(&story.sees(good(2, 2))), ["restarts", "RESTART"]);
}

#[test]
fn what_neither_the_gateway_nor_its_validator_found_valid_is_not_restarted_for() {
    let mut story = Story::running();
    story.sees(good(2, 2));
    story.waits();
    story.sees(good(2, 2));
    story.waits();
    let skipped = Validation::Skipped("less than 400 MB are free".into());
    assert_eq!(told(&story.validated(skipped)), ["not applied"]);
    // Whoever asked for a restart for each edit gets it all the same.
    let mut story = Story::running().with(Apply::Restart);
    story.sees(good(2, 2));
    assert_eq!(told(&story.waits()), ["validate"]);
    let skipped = Validation::Skipped("no such validator".into());
    assert_eq!(told(&story.validated(skipped)), ["restarts", "RESTART"]);
}

#[test]
fn an_edit_the_validator_refuses_is_told_with_its_issues_and_left() {
    for apply in [Apply::Auto, Apply::Gateway, Apply::Restart] {
        let mut story = Story::running().with(apply);
        story.sees(good(2, 2));
        assert_eq!(told(&story.hears(Sign::Refused)), ["validate"]);
        let issues = vec!["<root>: Unrecognized key".to_owned()];
        assert_eq!(
            story.validated(Validation::Invalid(issues.clone())),
            [Deed::Tell(Told::RefusedByGateway {
                generation: 2,
                issues
            })]
        );
        assert_eq!(story.reload.verdict_word(), "refused");
        assert_eq!(told(&story.sees(good(1, 1))), ["restored"]);
    }
}

#[test]
fn a_broken_file_is_told_once_and_only_after_it_had_time_to_become_whole() {
    let mut story = Story::running();
    assert_eq!(story.sees(broken(2)), [], "half written, perhaps");
    assert_eq!(told(&story.waits()), ["look"]);
    let said = story.sees(broken(2));
    assert!(
        matches!(
            said.as_slice(),
            [Deed::Tell(Told::Refused {
                problem: ConfigProblem::Broken(_),
                ..
            })]
        ),
        "{said:?}"
    );
    assert_eq!(story.sees(broken(2)), [], "said already");
    assert_eq!(told(&story.sees(good(1, 1))), ["restored"]);
    // One that becomes whole in time was never broken.
    let mut story = Story::running();
    assert_eq!(story.sees(broken(2)), []);
    assert_eq!(told(&story.sees(good(3, 3))), ["accepted"]);
}

#[test]
fn layout_alone_is_accepted_and_asks_nothing_of_the_gateway() {
    let mut story = Story::running();
    assert_eq!(told(&story.sees(good(2, 1))), ["accepted"]);
    assert_eq!(told(&story.waits()), ["keep"]);
    assert_eq!(story.reload.next(), None);
}

#[test]
fn a_start_with_the_config_of_before_counts_no_content_and_one_with_another_does() {
    let mut story = Story::running();
    for (look, count) in [(good(1, 1), 1), (good(2, 2), 2), (good(1, 1), 3)] {
        story.reload.ended();
        story.reload.began();
        story.sees(look);
        assert_eq!(story.reload.generation(), count);
    }
}

#[test]
fn an_edit_during_the_start_is_followed_once_the_gateway_is_ready() {
    let mut story = Story {
        reload: Reload::default(),
        setting: SETTING,
        now: Mono(1_000),
    };
    story.reload.began();
    story.sees(good(1, 1));
    assert_eq!(told(&story.sees(good(2, 2))), ["accepted"]);
    assert_eq!(story.hears(Sign::Off), [], "not before it is ready");
    assert_eq!(story.reload.next(), None);
    let deeds = story.reload.ready(story.now, story.setting);
    assert_eq!(told(&deeds), ["restarts", "RESTART"]);
}

#[test]
fn a_word_that_comes_before_our_own_look_belongs_to_it() {
    let mut story = Story::running();
    assert_eq!(story.hears(Sign::Off), []);
    story.now = story.now.plus(Millis::from_secs(30));
    assert_eq!(
        told(&story.sees(good(2, 2))),
        ["accepted", "restarts", "RESTART"]
    );
    // One about a change that is no edit does not.
    let mut story = Story::running();
    story.sees(broken(9));
    assert_eq!(story.hears(Sign::Refused), []);
    story.waits();
    story.sees(broken(9));
    assert_eq!(story.hears(Sign::Refused), []);
    assert_eq!(told(&story.sees(good(2, 2))), ["accepted"]);
    let mut story = Story::running();
    let own = Look {
        is_gateways_own: true,
        ..good(5, 5)
    };
    assert_eq!(told(&story.sees(own)), ["rewritten"]);
    assert_eq!(story.hears(Sign::Off), []);
    assert_eq!(told(&story.sees(good(2, 2))), ["accepted"]);
    // One from long ago does not.
    let mut story = Story::running();
    story.hears(Sign::Off);
    story.now = story.now.plus(Millis::from_secs(600));
    assert_eq!(told(&story.sees(good(2, 2))), ["accepted"]);
}

#[test]
fn a_gateway_whose_words_are_hidden_is_not_restarted_for_its_silence() {
    let mut story = Story::running();
    let quiet = Look {
        log_is_quiet: true,
        ..good(2, 2)
    };
    story.sees(quiet.clone());
    assert_eq!(told(&story.waits()), ["nudge"]);
    story.sees(quiet);
    assert_eq!(told(&story.waits()), ["validate"]);
    assert_eq!(told(&story.validated(Validation::Valid)), ["unverified"]);
}

#[test]
fn the_gateways_own_copy_proves_that_it_has_taken_an_edit() {
    let mut story = Story::running();
    story.sees(good(2, 2));
    assert_eq!(told(&story.waits()), ["nudge"]);
    let taken = Look {
        is_taken: true,
        ..good(2, 2)
    };
    assert_eq!(story.sees(taken), []);
    assert_eq!(told(&story.waits()), ["probe"]);
}

#[test]
fn reload_switched_off_is_known_without_a_word() {
    let off = Look {
        reload_is_off: true,
        log_is_quiet: true,
        ..good(2, 2)
    };
    let mut story = Story::running();
    story.sees(off);
    assert_eq!(told(&story.waits()), ["validate"]);
    assert_eq!(
        told(&story.validated(Validation::Valid)),
        ["restarts", "RESTART"]
    );
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Step {
    Sees(u64, u64, Kind),
    Hears(Sign),
    Validated(Validation),
    Waits,
    Answers,
    Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Own,
    Broken,
    Off,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![
        Kind::Good,
        Kind::Good,
        Kind::Own,
        Kind::Broken,
        Kind::Off,
    ]);
    let sign = prop::sample::select(vec![
        Sign::Noticed,
        Sign::Applied,
        Sign::Restarting,
        Sign::Off,
        Sign::NeedsRestart,
        Sign::Refused,
        Sign::Failed,
    ]);
    let validation = prop::sample::select(vec![
        Validation::Valid,
        Validation::Invalid(vec![]),
        Validation::Skipped(String::new()),
    ]);
    let step = prop_oneof![
        4 => (1..5u64, 1..4u64, kind).prop_map(|(bytes, meaning, kind)| Step::Sees(bytes, meaning, kind)),
        3 => sign.prop_map(Step::Hears),
        2 => validation.prop_map(Step::Validated),
        4 => Just(Step::Waits),
        2 => Just(Step::Answers),
        1 => Just(Step::Ends),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever the gateway says and whoever writes: one restart for one edit at most, none for a broken one or the
    /// gateway's own, none against the setting, and nothing waits for ever.
    #[test]
    fn restarts_are_for_edits_one_each_and_never_for_a_bad_one(
        steps in steps(),
        apply in prop::sample::select(vec![Apply::Auto, Apply::Gateway, Apply::Restart]),
    ) {
        let mut story = Story::running().with(apply);
        let (mut last, mut judged, mut owed) = (good(1, 1), Some(1), false);
        for step in steps {
            let deeds = match step {
                Step::Sees(bytes, meaning, kind) => {
                    // The same bytes mean the same.
                    let bytes = bytes * 10 + meaning + 100 * kind as u64;
                    let look = match kind {
                        Kind::Good => good(bytes, meaning),
                        Kind::Own => Look { is_gateways_own: true, ..good(bytes, meaning) },
                        Kind::Broken => broken(bytes),
                        Kind::Off => Look { reload_is_off: true, ..good(bytes, meaning) },
                    };
                    if judged != Some(bytes) {
                        owed = matches!(kind, Kind::Good | Kind::Off);
                        judged = Some(bytes);
                    }
                    last = look.clone();
                    story.sees(look)
                }
                Step::Hears(sign) => story.hears(sign),
                Step::Validated(validation) => story.validated(validation),
                Step::Waits if story.reload.next().is_some() => story.waits(),
                Step::Answers => story.answers(),
                Step::Waits => continue,
                Step::Ends => {
                    story.reload.ended();
                    story.reload.began();
                    owed = false;
                    let look = last.clone();
                    story.sees(look);
                    story.reload.ready(story.now, story.setting)
                }
            };
            if deeds.contains(&Deed::Restart) {
                prop_assert!(owed, "a second restart, or one for nothing: {deeds:?}");
                prop_assert!(apply != Apply::Gateway);
                owed = false;
                story.reload.ended();
                story.reload.began();
                let look = last.clone();
                story.sees(look);
                story.reload.ready(story.now, story.setting);
            }
        }
        // Left alone it comes to rest.
        for _ in 0..20 {
            if story.reload.next().is_none() {
                break;
            }
            let deeds = story.waits();
            if deeds.contains(&Deed::Look) || deeds.contains(&Deed::Nudge) {
                let look = last.clone();
                story.sees(look);
            }
        }
        prop_assert_eq!(story.reload.next(), None);
    }
}
