use super::*;
use crate::core::event::{Attempt, SpawnFailure, SpawnFault};
use crate::core::exit_class::{ExitStatus, Refusal};
use crate::core::incident::MemoryStory;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MINUTE: u64 = 60_000;
/// Any afternoon.
const THEN: u64 = 1_763_700_000_000;

fn held() -> Report {
    Report::Held(HoldWhy::Refused(Refusal::Unexplained))
}

fn exited(class: ExitClass) -> Report {
    Report::Exited {
        attempt: Attempt(1),
        pid: 7,
        status: ExitStatus::Code(1),
        class,
        uptime: Millis(1),
        memory: Box::default(),
    }
}

fn backing_off(crashes: u32) -> Report {
    Report::BackingOff {
        delay: Millis(1),
        crashes,
    }
}

fn hung() -> Report {
    Report::Stopping {
        short: None,
        cause: StopCause::Hung,
        signal: None,
        timeout: Millis(1),
    }
}

fn beside() -> Report {
    Report::KilledBeside {
        kills: 1,
        memory: Box::new(MemoryStory::default()),
    }
}

/// Alerts with a clock, and a hook that is always free.
#[derive(Default)]
struct Teller {
    alerts: Alerts,
    now: u64,
    told: Vec<Alert>,
}

impl Teller {
    fn wall(&self) -> WallMs {
        WallMs(THEN + self.now)
    }

    fn see(&mut self, report: &Report) {
        self.alerts.see(self.wall(), report);
        self.tell();
    }

    fn tell(&mut self) {
        while let Some(alert) = self.alerts.next(Mono(self.now), self.wall()) {
            self.told.push(alert);
        }
    }

    /// Goes on for so long, coming back whenever it was asked to.
    fn pass(&mut self, length: u64, serves: bool) {
        let end = self.now + length;
        loop {
            self.alerts.serves(Mono(self.now), serves);
            self.tell();
            match self.alerts.look_at(Mono(self.now), self.wall()) {
                Some(at) if at.0 < end => {
                    assert!(at.0 > self.now, "it asks for a look that shows nothing");
                    self.now = at.0;
                }
                Some(_) | None => break,
            }
        }
        self.now = end;
        self.alerts.serves(Mono(self.now), serves);
        self.tell();
    }

    /// One word for each message.
    fn words(&self) -> Vec<&'static str> {
        let word = |alert: &Alert| match &alert.news {
            News::Trouble { incident, .. } => incident.trouble.word(),
            News::Back(_) => "back",
            News::Test => "test",
        };
        self.told.iter().map(word).collect()
    }
}

#[test]
fn a_hold_is_told_once_however_its_reason_changes_and_its_end_once() {
    let mut teller = Teller::default();
    teller.see(&held());
    teller.see(&Report::Held(HoldWhy::CannotStart(SpawnFailure {
        fault: SpawnFault::Command,
        error: "x".into(),
    })));
    teller.pass(30 * MINUTE, false);
    teller.see(&Report::HoldOver { after: Millis(1) });
    teller.pass(CALM.0 - 1, true);
    assert_eq!(teller.words(), ["held"]);
    teller.pass(30 * MINUTE, true);
    assert_eq!(teller.words(), ["held", "back"]);
    let News::Back(incidents) = &teller.told[1].news else {
        panic!("it is back");
    };
    let since = WallMs(THEN);
    let trouble = Trouble::Held;
    let count = 2;
    assert_eq!(
        *incidents,
        [Incident {
            trouble,
            since,
            count
        }]
    );
    assert!(teller.alerts.is_quiet());
}

#[test]
fn the_third_crash_in_a_row_is_a_loop_and_is_told_with_the_last_end() {
    let mut teller = Teller::default();
    for crashes in 1..=5 {
        teller.see(&exited(ExitClass::Crash {
            code: i32::try_from(crashes).expect("small"),
        }));
        teller.see(&backing_off(crashes));
    }
    assert_eq!(teller.words(), ["crash-loop"]);
    let News::Trouble { reports, .. } = &teller.told[0].news else {
        panic!("it is a trouble");
    };
    let expected = [exited(ExitClass::Crash { code: 3 }), backing_off(3)];
    assert_eq!(*reports, expected);
}

#[test]
fn what_heals_within_seconds_or_was_asked_for_is_not_told() {
    let mut teller = Teller::default();
    teller.see(&Report::Held(HoldWhy::Lock {
        path: "/data/lock".into(),
        verdict: LockVerdict::Unknown(UnknownWhy::Young),
    }));
    for cause in [StopCause::Shutdown, StopCause::Reload] {
        teller.see(&exited(ExitClass::Requested(cause)));
    }
    teller.see(&exited(ExitClass::Crash { code: 1 }));
    teller.see(&exited(ExitClass::Relaunch));
    teller.pass(MINUTE, true);
    assert!(teller.told.is_empty() && teller.alerts.is_quiet());
}

#[test]
fn a_gateway_that_flaps_is_said_to_be_back_ever_later() {
    let mut teller = Teller::default();
    for _ in 0..30 {
        teller.see(&exited(ExitClass::OomHeap));
        teller.pass(10_000, false);
        teller.pass(5 * MINUTE, true);
    }
    // Back after 1, 2 and 4 minutes; the fourth time 8 would be needed, until the first hour has passed.
    let pair = ["out-of-memory", "back"];
    let mut expected = pair.repeat(3);
    expected.push("out-of-memory");
    assert_eq!(teller.words()[..7], expected);
    assert!(teller.told.len() <= 20, "{:?}", teller.words());
}

#[test]
fn a_helper_killed_beside_a_gateway_that_serves_on_is_over_after_a_calm_minute() {
    let mut teller = Teller::default();
    teller.pass(60 * MINUTE, true);
    teller.see(&beside());
    assert_eq!(teller.words(), ["out-of-memory"]);
    teller.pass(CALM.0, true);
    assert_eq!(teller.words(), ["out-of-memory", "back"]);
}

#[test]
fn the_gravest_is_told_first_and_one_back_ends_them_all() {
    let mut teller = Teller::default();
    for report in [hung(), exited(ExitClass::OomHeap), held()] {
        teller.alerts.see(teller.wall(), &report);
    }
    teller.pass(1, false);
    teller.pass(5 * MINUTE, true);
    assert_eq!(
        teller.words(),
        ["held", "out-of-memory", "not-answering", "back"]
    );
}

#[test]
fn what_is_over_before_it_could_be_told_is_not_told() {
    let mut alerts = Alerts::default();
    alerts.see(WallMs(THEN), &hung());
    alerts.serves(Mono(0), true);
    // The hook was busy for all that time.
    assert_eq!(alerts.next(Mono(CALM.0), WallMs(THEN + CALM.0)), None);
    assert!(alerts.is_quiet());
}

#[test]
fn an_incident_outlives_a_restart_of_the_container() {
    let mut before = Teller::default();
    before.see(&held());
    let mut after = Teller {
        now: 5 * MINUTE,
        ..Teller::default()
    };
    after.alerts.recall(&before.alerts.to_text());
    after.see(&held());
    after.pass(5 * MINUTE, true);
    assert_eq!(after.words(), ["back"], "it had been told");
    let News::Back(incidents) = &after.told[0].news else {
        panic!("it is back");
    };
    assert_eq!(incidents[0].id(), format!("held-{THEN}"));
    assert_eq!(incidents[0].count, 2);
}

#[test]
fn a_file_of_nonsense_is_passed_over_line_by_line() {
    let mut alerts = Alerts::default();
    alerts.recall("told\ntold what 1 1\ntold held x 1\nsent back y\n\u{0}\ntold held 5 1\n");
    assert_eq!(alerts.to_text(), "told held 5 1\n");
    let many = "sent trouble 9\n".repeat(50);
    alerts.recall(&many);
    assert_eq!(alerts.sent.len(), ALERTS_PER_HOUR);
}

#[derive(Debug, Clone)]
enum Step {
    See(usize),
    Pass(u64, bool),
    /// The container starts anew.
    Restart,
}

fn reports() -> [Report; 6] {
    let oom = exited(ExitClass::OomHeap);
    let crash = exited(ExitClass::Crash { code: 1 });
    [held(), oom, crash, backing_off(3), hung(), beside()]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = prop_oneof![
        Just(1u64),
        Just(1_000),
        Just(70_000),
        Just(10 * MINUTE),
        Just(50 * MINUTE)
    ];
    let step = prop_oneof![
        6 => (0..6usize).prop_map(Step::See),
        6 => (lengths, any::<bool>()).prop_map(|(length, serves)| Step::Pass(length, serves)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn one_message_for_an_incident_one_for_its_end_and_never_more_than_the_hour_allows(steps in steps()) {
        let mut teller = Teller::default();
        let reports = reports();
        for step in steps {
            match step {
                Step::See(index) => {
                    teller.pass(1, false);
                    teller.see(&reports[index]);
                }
                Step::Pass(length, serves) => teller.pass(length, serves),
                Step::Restart => {
                    let text = teller.alerts.to_text();
                    teller.alerts = Alerts::default();
                    teller.alerts.recall(&text);
                    prop_assert_eq!(teller.alerts.to_text(), text);
                }
            }
        }
        teller.pass(3 * 60 * MINUTE, true);
        prop_assert!(teller.alerts.is_quiet(), "a gateway that serves for hours is back");
        let mut open = BTreeSet::new();
        let mut ever = BTreeSet::new();
        for alert in &teller.told {
            match &alert.news {
                News::Trouble { incident, reports } => {
                    prop_assert!(!reports.is_empty());
                    prop_assert!(ever.insert(incident.id()), "told twice: {incident:?}");
                    prop_assert!(open.insert(incident.id()));
                }
                News::Back(incidents) => {
                    prop_assert!(!incidents.is_empty());
                    for incident in incidents {
                        prop_assert!(open.remove(&incident.id()), "back without trouble: {incident:?}");
                    }
                }
                News::Test => prop_assert!(false, "nobody asked for one"),
            }
        }
        prop_assert!(open.is_empty(), "never back: {open:?}");
        for (index, alert) in teller.told.iter().enumerate() {
            let within = |other: &&Alert| other.at.0 - alert.at.0 < HOUR.0;
            prop_assert!(teller.told[index..].iter().filter(within).count() <= ALERTS_PER_HOUR);
            if let (Some(until), Some(next)) = (alert.quiet_until, teller.told.get(index + 1)) {
                prop_assert!(next.at >= until, "it had said that it would be quiet");
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_wrong_silences_nobody_for_longer_than_an_hour(
        times in prop::collection::vec(0..2 * THEN, 0..20),
    ) {
        let mut teller = Teller::default();
        let text: String = times.iter().map(|at| format!("sent back {at}\n")).collect();
        teller.alerts.recall(&text);
        teller.pass(HOUR.0, false);
        teller.see(&held());
        prop_assert_eq!(teller.words(), ["held"]);
    }
}
