//! Memory curves, generated and recorded, run against the watch in virtual time.

use super::{Kib, LimitFrom, MemoryPolicy, Sample, Verdict, Watch};
use crate::core::time::{Millis, Mono};
use proptest::prelude::*;

const LIMIT: Kib = Kib::of_mb(2_048);

pub(super) const POLICY: MemoryPolicy = MemoryPolicy {
    restarts_per_hour: Some(4),
    drain: Millis::from_secs(330),
    heap_full: None,
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
        // Any sequence that looks like none will do.
        let random = (at / 250).wrapping_mul(6_364_136_223_846_793_005) >> 33;
        used += self.noise * random as f64 / (1_u64 << 31) as f64;
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

/// Everything but [`Verdict::Calm`], with its time.
///
/// Ends with the first restart, or when memory is full, unless the curve begins anew then.
pub(super) fn run(curve: &Curve, policy: MemoryPolicy, until: u64) -> Vec<(Mono, Verdict)> {
    let mut watch = Watch::default();
    let (mut started, mut told) = (0, vec![]);
    watch.begin(Mono(0));
    while let Some(Mono(now)) = watch.look_at().filter(|at| at.0 <= until) {
        watch.look(Mono(now));
        let used = curve.at(now - started).min(LIMIT);
        let verdict = watch.take(Mono(now), of_used(now, used), Some(Mono(started)), &policy);
        if verdict != Verdict::Calm {
            told.push((Mono(now), verdict));
        }
        let restarts = matches!(verdict, Verdict::Restart(_));
        if restarts || used == LIMIT {
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

/// What a real gateway used in 24 minutes of its own work, its start included.
const RECORDED: &str = include_str!("fixtures/2026.9.6-2048mb.series");

#[test]
fn a_real_gateway_at_its_own_work_causes_nothing() {
    let mut watch = Watch::default();
    watch.begin(Mono(0));
    let mut looks = 0;
    for line in RECORDED.lines().filter(|line| !line.starts_with('#')) {
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
        let told = watch.take(now, sample, Some(Mono(60_000)), &POLICY);
        assert_eq!(told, Verdict::Calm, "{line}");
        looks += 1;
    }
    assert!(looks > 200, "{looks} looks");
}

fn was_restarted(told: &[(Mono, Verdict)]) -> bool {
    told.iter().any(|(_, it)| matches!(it, Verdict::Restart(_)))
}

fn spikes() -> impl Strategy<Value = Vec<(u64, u64, u64, i32)>> {
    let spike = (
        0..14_400_000_u64,
        250..20_000_u64,
        0..1_800_000_u64,
        0..1_100_i32,
    );
    prop::collection::vec(spike, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_leak_is_ended_before_memory_is_full(
        base in 500..1_200_u32,
        // MB an hour, from a slow one to one that has filled memory within two minutes.
        pace in prop_oneof![20..100_u32, 100..2_000_u32, 2_000..25_000_u32],
        noise in 0..40_u32,
        saw in prop_oneof![Just(0_u32), 10..80_u32],
        period in 20_000..600_000_u64,
    ) {
        let curve = Curve::leak(base, pace).with_noise(noise).with_saw(saw, period);
        let told = run(&curve, POLICY, 100 * 3_600_000);
        prop_assert!(was_restarted(&told), "{told:?}");
    }

    #[test]
    fn no_plateau_is_restarted_however_full_and_uneasy_it_is(
        base in 500..2_000_u32,
        noise in 0..45_u32,
        saw in 0..60_u32,
        period in 5_000..1_200_000_u64,
    ) {
        let curve = Curve::plateau(base.min(2_040 - noise - saw)).with_noise(noise).with_saw(saw, period);
        let told = run(&curve, POLICY, 8 * 3_600_000);
        prop_assert!(!was_restarted(&told), "{told:?}");
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
        prop_assert!(!was_restarted(&told), "{told:?}");
    }
}
