//! Memory curves, generated and recorded, run against the watch in virtual time.

use super::{HeapBounds, Kib, LimitFrom, MemoryPolicy, Sample, Verdict, Watch};
use crate::core::time::{Millis, Mono};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// Curves of each kind.
pub(super) const CASES: u32 = 24;

const LIMIT: Kib = Kib::of_mb(2_048);

pub(super) const POLICY: MemoryPolicy = MemoryPolicy {
    restarts_per_hour: Some(4),
    drain: Millis::from_secs(330),
    heap: HeapBounds {
        size: None,
        fits: None,
        beside: Kib(0),
        beside_at_most: Kib(0),
    },
};

/// Where the gateway is all that uses 2 GB.
pub(super) fn sample(at: u64, used_mb: u32) -> Sample {
    of_used(at, Kib::of_mb(used_mb))
}

fn of_used(at: u64, used: Kib) -> Sample {
    Sample {
        at: Mono(at),
        main: used.percent(80),
        tree: used,
        processes: 3,
        available: LIMIT.less(used),
        limit: LIMIT,
        limit_from: LimitFrom::CgroupV2,
        usage: used,
        stalled: None,
    }
}

/// What a gateway uses over time: a base, and what comes on top of it. Times in milliseconds, amounts in MB.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    base: f64,
    per_hour: f64,
    noise: f64,
    saw: Option<(f64, u64)>,
    approach: Option<(f64, f64)>,
    steps: Vec<(u64, f64)>,
    spikes: Vec<Spike>,
    is_new_after_restart: bool,
}

#[derive(Debug, Clone)]
struct Spike {
    at: u64,
    rise: u64,
    hold: u64,
    height: f64,
}

impl Curve {
    pub(super) fn plateau(base: u32) -> Self {
        Self {
            base: base.into(),
            per_hour: 0.0,
            noise: 0.0,
            saw: None,
            approach: None,
            steps: vec![],
            spikes: vec![],
            is_new_after_restart: false,
        }
    }

    pub(super) fn leak(base: u32, per_hour: u32) -> Self {
        Self {
            per_hour: per_hour.into(),
            ..Self::plateau(base)
        }
    }

    /// Up to this much more at random.
    pub(super) fn with_noise(self, noise: u32) -> Self {
        Self {
            noise: noise.into(),
            ..self
        }
    }

    /// Garbage: rises by this much and falls back, each time in this long.
    pub(super) fn with_saw(self, height: u32, period: u64) -> Self {
        Self {
            saw: Some((height.into(), period)),
            ..self
        }
    }

    pub(super) fn step(mut self, at: u64, height: u32) -> Self {
        self.steps.push((at, height.into()));
        self
    }

    /// Goes from the base to a plateau, two thirds of what is left in each such time.
    pub(super) fn approaching(self, plateau: u32, time: u64) -> Self {
        Self {
            approach: Some((plateau.into(), time as f64)),
            ..self
        }
    }

    pub(super) fn spike(mut self, at: u64, rise: u64, hold: u64, height: i32) -> Self {
        self.spikes.push(Spike {
            at,
            rise,
            hold,
            height: height.into(),
        });
        self
    }

    pub(super) fn anew_on_restart(self) -> Self {
        Self {
            is_new_after_restart: true,
            ..self
        }
    }

    /// What is used at this time after the start of the gateway.
    fn at(&self, at: u64) -> Kib {
        let hours = at as f64 / 3_600_000.0;
        let mut used = self.base + self.per_hour * hours;
        if let Some((plateau, time)) = self.approach {
            used += (plateau - self.base) * (1.0 - (-(at as f64) / time).exp());
        }
        if let Some((height, period)) = self.saw {
            used += height * (at % period) as f64 / period as f64;
        }
        used += self.noise * random(at / 250);
        for (from, height) in &self.steps {
            used += if at >= *from { *height } else { 0.0 };
        }
        let spikes = self.spikes.iter().map(|spike| {
            let age = at.saturating_sub(spike.at) as f64;
            let (rise, hold) = (spike.rise as f64, spike.hold as f64);
            let part = if age <= 0.0 {
                0.0
            } else if age < rise {
                age / rise
            } else if age < rise + hold {
                1.0
            } else {
                (1.0 - (age - rise - hold) / rise).max(0.0)
            };
            spike.height * part
        });
        // Spikes that meet do not add up: the taller is what the work at hand needs.
        used += spikes.fold(0.0, |tallest: f64, it| {
            if it.abs() > tallest.abs() {
                it
            } else {
                tallest
            }
        });
        Kib((used.max(0.0) * 1024.0) as u32)
    }
}

/// From 0 to 1, the same for the same number; a product alone would drift slowly where looks come evenly (SplitMix64).
fn random(number: u64) -> f64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 33) as f64 / (1_u64 << 31) as f64
}

/// Where a curve is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home {
    pub(super) limit: Kib,
    pub(super) policy: MemoryPolicy,
    /// What of the tree is not the main process's; a fifth, where it is not said.
    pub(super) helpers: Option<Kib>,
}

impl Home {
    fn sample(&self, at: u64, used: Kib) -> Sample {
        let main = self.helpers.map(|helpers| used.less(helpers));
        Sample {
            main: main.unwrap_or(used.percent(80)),
            available: self.limit.less(used),
            limit: self.limit,
            ..of_used(at, used)
        }
    }
}

/// As [`run_in`], with 2 GB.
pub(super) fn run(curve: &Curve, policy: MemoryPolicy, until: u64) -> Vec<(Mono, Verdict)> {
    let home = Home {
        limit: LIMIT,
        policy,
        helpers: None,
    };
    run_in(&home, curve, until)
}

/// Everything but [`Verdict::Calm`], with its time.
///
/// Ends with the first restart, or when memory or the heap is full, unless the curve begins anew then.
pub(super) fn run_in(home: &Home, curve: &Curve, until: u64) -> Vec<(Mono, Verdict)> {
    let mut watch = Watch::default();
    let (mut started, mut told) = (0, vec![]);
    watch.begin(Mono(0));
    while let Some(Mono(now)) = watch.look_at().filter(|at| at.0 <= until) {
        watch.look(Mono(now));
        let sample = home.sample(now, curve.at(now - started).min(home.limit));
        let verdict = watch.take(Mono(now), sample, Some(Mono(started)), &home.policy);
        if verdict != Verdict::Calm {
            told.push((Mono(now), verdict));
        }
        let restarts = matches!(verdict, Verdict::Restart(_));
        if restarts || home.policy.room(&sample) == Kib(0) {
            if !curve.is_new_after_restart {
                break;
            }
            started = now;
            watch.begin(Mono(now));
        }
    }
    told
}

/// A watch that has seen nothing but a plateau until then.
pub(super) fn at_rest(used_mb: u32, until: u64) -> Watch {
    let mut watch = Watch::default();
    watch.begin(Mono(0));
    while let Some(now) = watch.look_at().filter(|at| at.0 <= until) {
        watch.look(now);
        watch.take(now, sample(now.0, used_mb), Some(Mono(0)), &POLICY);
    }
    watch
}

/// The verdicts on a recorded series, with their times, up to the first restart.
///
/// `steady_since` is in seconds, as is the first field of each line.
fn replay(recorded: &str, policy: MemoryPolicy, steady_since: u64) -> Vec<(Mono, Verdict)> {
    let mut watch = Watch::default();
    let mut told = vec![];
    watch.begin(Mono(0));
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<u32> = line
            .split(' ')
            .map(|it| it.parse().expect("a number"))
            .collect();
        let [seconds, main, tree, available] = fields[..] else {
            panic!("four fields: {line}");
        };
        let now = Mono(u64::from(seconds) * 1_000);
        let sample = Sample {
            main: Kib(main),
            tree: Kib(tree),
            available: Kib(available),
            ..of_used(now.0, Kib(tree))
        };
        let verdict = watch.take(now, sample, Some(Mono(steady_since * 1_000)), &policy);
        told.push((now, verdict));
        if matches!(verdict, Verdict::Restart(_)) {
            break;
        }
    }
    told
}

/// As clawkeeper sets it for 2026.9.6 in 2 GB.
const FITTED: MemoryPolicy = MemoryPolicy {
    heap: HeapBounds {
        size: Some(Kib::of_mb(1_337)),
        fits: Some(Kib::of_mb(1_337)),
        beside: Kib::of_mb(300),
        beside_at_most: Kib::of_mb(546),
    },
    ..POLICY
};

#[test]
fn a_real_gateway_at_its_own_work_for_half_an_hour_causes_nothing() {
    let recorded = include_str!("fixtures/2026.9.6-2048mb.series");
    let told = replay(recorded, FITTED, 60);
    let heard = told.iter().find(|(_, it)| *it != Verdict::Calm);
    assert_eq!(heard, None);
    let (end, _) = told.last().expect("it has lines");
    assert!(*end > Mono(1_800_000), "{end:?}");
}

#[test]
fn a_real_leak_is_warned_of_and_ended_long_before_v8_gives_up() {
    // When the gateway had settled, and when it answered no more.
    for (recorded, settled, hung) in [
        (include_str!("fixtures/2026.9.6-leak-240.series"), 147, 340),
        (include_str!("fixtures/2026.9.6-leak-30.series"), 147, 2_400),
    ] {
        let mut told = replay(recorded, FITTED, settled);
        told.retain(|(_, it)| *it != Verdict::Calm);
        let [
            (warned, Verdict::Warn(_)),
            (restarted, Verdict::Restart(outlook)),
        ] = told[..]
        else {
            panic!("{told:?}");
        };
        println!("warned {warned:?}, restarted {restarted:?}");
        assert!(warned < restarted, "{told:?}");
        assert!(restarted < Mono((hung - 60) * 1_000), "{told:?}");
        assert!(FITTED.left(&outlook.sample) > Kib::of_mb(20), "{outlook:?}");
    }
}

pub(super) fn is_restart((_, verdict): &(Mono, Verdict)) -> bool {
    matches!(verdict, Verdict::Restart(_))
}

pub(super) fn spikes() -> impl Strategy<Value = Vec<(u64, u64, u64, i32)>> {
    let spike = (
        0..14_400_000_u64,
        250..20_000_u64,
        0..1_800_000_u64,
        0..1_100_i32,
    );
    prop::collection::vec(spike, 0..12)
}

/// Height in MB and period of the garbage collector's saw.
pub(super) fn saw(highest: u32) -> impl Strategy<Value = (u32, u64)> {
    (prop_oneof![Just(0_u32), 10..highest], 5_000..1_200_000_u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn every_leak_is_ended_before_memory_is_full(
        base in 500..1_200_u32,
        // MB an hour, from a slow one to one that has filled memory within two minutes.
        pace in prop_oneof![20..100_u32, 100..2_000_u32, 2_000..25_000_u32],
        noise in 0..40_u32,
        saw in saw(80),
    ) {
        let curve = Curve::leak(base, pace).with_noise(noise).with_saw(saw.0, saw.1);
        let told = run(&curve, POLICY, 100 * 3_600_000);
        prop_assert!(told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn a_leak_behind_growth_that_ends_is_ended_before_memory_is_full(
        base in 500..900_u32,
        plateau in 900..1_500_u32,
        time in 60_000..3_600_000_u64,
        pace in prop_oneof![50..500_u32, 500..5_000_u32],
        noise in 0..40_u32,
    ) {
        let curve = Curve::leak(base, pace).approaching(plateau, time).with_noise(noise);
        let told = run(&curve, POLICY, 40 * 3_600_000);
        prop_assert!(told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn no_plateau_is_restarted_however_full_and_uneasy_it_is(
        base in 500..2_040_u32,
        noise in 0..45_u32,
        saw in saw(60),
    ) {
        let curve = Curve::plateau(base.min(2_044 - noise - saw.0)).with_noise(noise).with_saw(saw.0, saw.1);
        let told = run(&curve, POLICY, 3 * 3_600_000);
        prop_assert!(!told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn growth_towards_a_plateau_below_the_limit_is_not_restarted(
        base in 500..1_200_u32,
        // Up to 96 % of the limit with what comes on top.
        top in 1_700..1_966_u32,
        // What is nearly full within some minutes of the start cannot be told from a leak in time.
        time in 300_000..3_600_000_u64,
        noise in 0..15_u32,
        saw in saw(15),
    ) {
        let curve = Curve::plateau(base).approaching(top - noise - saw.0, time).with_noise(noise).with_saw(saw.0, saw.1);
        let told = run(&curve, POLICY, 6 * time);
        prop_assert!(!told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn spikes_of_any_height_and_length_restart_nothing(
        base in 500..1_000_u32,
        noise in 0..30_u32,
        spikes in spikes(),
    ) {
        let curve = spikes.into_iter().fold(
            Curve::plateau(base).with_noise(noise),
            |curve, (at, rise, hold, height)| {
                let room = i32::try_from(2_040 - base - noise).expect("small");
                curve.spike(at, rise, hold, height.min(room))
            },
        );
        let told = run(&curve, POLICY, 4 * 3_600_000);
        prop_assert!(!told.iter().any(is_restart), "{told:?}");
    }
}

/// Up to 99 % of the limit, where a saw as long as the window can look like a rise that goes on.
#[test]
fn growth_towards_a_plateau_just_below_the_limit_is_hardly_ever_restarted() {
    const CURVES: usize = 100;
    let curves = (
        500..1_200_u32,
        1_966..2_028_u32,
        300_000..3_600_000_u64,
        0..15_u32,
        saw(15),
    );
    let mut runner = TestRunner::deterministic();
    let is_restarted = |_: &usize| {
        let tree = curves.new_tree(&mut runner).expect("it has no filter");
        let (base, top, time, noise, saw) = tree.current();
        let curve = Curve::plateau(base)
            .approaching(top - noise - saw.0, time)
            .with_noise(noise)
            .with_saw(saw.0, saw.1);
        run(&curve, POLICY, 6 * time).iter().any(is_restart)
    };
    let restarted = (0..CURVES).filter(is_restarted).count();
    assert!(restarted * 50 <= CURVES, "{restarted} of {CURVES}");
}
