//! The same curves where V8's heap is full before memory is, as on machines of 1 and of 2 GB with a fitted heap.

use super::simulation::{CASES, Curve, Home, POLICY, is_restart, run_in, saw, spikes};
use super::{HeapBounds, Kib, MemoryPolicy};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// What the main process of a gateway that does nothing has (2026.9.6), in MB.
const AT_REST: u32 = 560;
/// What its spawn broker has, in MB.
const HELPERS: u32 = 68;
const HOUR: u64 = 3_600_000;

/// As clawkeeper fits it to so many MB: the old generation, and what may be beside it at most.
const fn home(limit: u32, size: u32, beside_at_most: u32) -> Home {
    Home {
        limit: Kib::of_mb(limit),
        policy: MemoryPolicy {
            heap: HeapBounds {
                size: Some(Kib::of_mb(size)),
                fits: Some(Kib::of_mb(size)),
                beside: Kib::of_mb(300),
                beside_at_most: Kib::of_mb(beside_at_most),
            },
            ..POLICY
        },
        helpers: Some(Kib::of_mb(HELPERS)),
    }
}

/// A Fly machine of 1 GB, a container of 1 GB, and 2 GB.
const HOMES: [Home; 3] = [
    home(960, 320, 495),
    home(1_024, 361, 498),
    home(2_048, 1_337, 546),
];

/// The tree of a gateway whose heap is full for certain, in MB.
fn full(home: &Home) -> u32 {
    let heap = home.policy.heap;
    heap.size.unwrap_or_default().mb() + heap.beside_at_most.mb() + HELPERS
}

fn homes() -> impl Strategy<Value = Home> {
    prop::sample::select(&HOMES)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_plateau_is_restarted_however_full_the_heap_may_be(
        home in homes(),
        // Of what lies between rest and a full heap.
        part in 0..100_u32,
        noise in 0..45_u32,
        saw in saw(60),
    ) {
        let least = AT_REST + HELPERS;
        let base = least + (full(&home) - least) * part / 100;
        let base = base.min(full(&home) - 4 - noise - saw.0);
        let curve = Curve::plateau(base).with_noise(noise).with_saw(saw.0, saw.1);
        let told = run_in(&home, &curve, 3 * HOUR);
        prop_assert!(!told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn spikes_of_any_height_and_length_restart_nothing_where_the_heap_decides(
        home in homes(),
        noise in 0..30_u32,
        spikes in spikes(),
    ) {
        let base = AT_REST + HELPERS;
        let curve = spikes.into_iter().fold(
            Curve::plateau(base).with_noise(noise),
            |curve, (at, rise, hold, height)| {
                let room = i32::try_from(full(&home) - 4 - base - noise).expect("small");
                curve.spike(at, rise, hold, height.min(room))
            },
        );
        let told = run_in(&home, &curve, 4 * HOUR);
        prop_assert!(!told.iter().any(is_restart), "{told:?}");
    }

    #[test]
    fn every_leak_is_ended_before_the_heap_is_full_for_certain(
        home in homes(),
        // MB an hour: the fastest has filled what a small machine has within four minutes.
        pace in prop_oneof![20..100_u32, 100..2_000_u32, 2_000..4_000_u32],
        noise in 0..20_u32,
    ) {
        let curve = Curve::leak(AT_REST + HELPERS - noise, pace).with_noise(noise);
        let told = run_in(&home, &curve, 100 * HOUR);
        prop_assert!(told.iter().any(is_restart), "{told:?}");
    }
}

/// Growth of a gateway that fills its caches, of any height that its heap may have room for.
#[test]
fn growth_towards_a_plateau_below_a_full_heap_is_hardly_ever_restarted() {
    const CURVES: usize = 100;
    let curves = (homes(), 0..=100_u32, 300_000..2 * HOUR, 0..15_u32);
    let mut runner = TestRunner::deterministic();
    let is_restarted = |_: &usize| {
        let tree = curves.new_tree(&mut runner).expect("it has no filter");
        let (home, part, time, noise) = tree.current();
        let base = AT_REST + HELPERS - 60;
        let most = full(&home) * 96 / 100;
        let top = base + (most - base) * part / 100;
        let curve = Curve::plateau(base)
            .approaching(top - noise, time)
            .with_noise(noise);
        let is_restarted = run_in(&home, &curve, 4 * time).iter().any(is_restart);
        if is_restarted {
            println!("{} MB, {base} to {top} MB, {time} ms", home.limit.mb());
        }
        is_restarted
    };
    let restarted = (0..CURVES).filter(is_restarted).count();
    assert!(restarted * 50 <= CURVES, "{restarted} of {CURVES}");
}

/// A gateway warms up after a start; on a small machine its heap is never far from full.
#[test]
fn a_gateway_of_a_small_machine_that_warms_up_steadily_is_left_alone() {
    for minutes in [10, 30, 60, 240] {
        let base = Curve::plateau(AT_REST + HELPERS - 60).with_noise(10);
        let curve = base.spike(0, minutes * 60_000, 100 * HOUR, 100);
        let told = run_in(&HOMES[0], &curve, 12 * HOUR);
        assert!(!told.iter().any(is_restart), "{minutes} minutes: {told:?}");
    }
}
