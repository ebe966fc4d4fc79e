use super::*;
use crate::core::memory::simulation::{Curve, POLICY, at_rest, run, sample};
use crate::core::memory::{HeapBounds, LimitFrom};

#[test]
fn at_rest_it_looks_five_times_a_minute_and_a_fast_rise_is_looked_at_closely() {
    let look = |last: Option<Sample>, now: Sample| next_look(last.as_ref(), &now, now.available);
    let resting = sample(0, 1_000);
    assert_eq!(look(None, resting), AT_REST);
    assert_eq!(look(Some(resting), sample(12_000, 1_000)), AT_REST);
    assert_eq!(look(Some(resting), sample(12_000, 1_020)), AT_REST);
    // 9 MB a second with 940 MB left: 104 seconds.
    let rising = look(Some(resting), sample(12_000, 1_108));
    assert!((Millis(2_000)..Millis(3_000)).contains(&rising), "{rising}");
    assert_eq!(look(Some(resting), sample(1_000, 2_040)), CLOSEST);
    let short = sample(0, 1_900);
    assert_eq!(look(Some(short), sample(5_000, 1_900)), SHORT_AND_STEADY);
    // The heap has less room than memory.
    let heap = next_look(Some(&resting), &sample(12_000, 1_108), Kib::of_mb(200));
    assert_eq!(heap, Millis(555));
}

#[test]
fn one_look_is_out_at_a_time_and_processes_are_counted_once_a_minute() {
    let mut watch = Watch::default();
    assert_eq!(watch.look(Mono(0)), None, "no gateway runs");
    watch.begin(Mono(0));
    assert_eq!(watch.look(Mono(999)), None);
    assert_eq!(watch.look(Mono(1_000)), Some(true));
    assert_eq!(watch.look(Mono(90_000)), None, "one is out");
    let mut counted = 0;
    for minute in 0..10 {
        for look in 0..5 {
            let now = Mono(100_000 + minute * 60_000 + look * 12_000);
            watch.take(now, sample(now.0, 1_000), None, &POLICY);
            counted += u32::from(watch.look(now.plus(AT_REST)) == Some(true));
        }
    }
    assert_eq!(counted, 10);
    watch.end();
    assert_eq!(watch.look(Mono(u64::MAX)), None);
    assert!(watch.series().last().is_some());
}

#[test]
fn a_process_that_is_ending_is_no_sample() {
    let mut watch = Watch::default();
    watch.begin(Mono(0));
    let gone = Sample {
        main: Kib(0),
        ..sample(1_000, 1_000)
    };
    assert_eq!(
        watch.take(Mono(1_000), gone, Some(Mono(0)), &POLICY),
        Verdict::Calm
    );
    assert_eq!(watch.series().last(), None);
    assert!(watch.look_at().is_some());
}

#[test]
fn one_sample_never_leads_to_anything() {
    for used in [1_700, 1_900, 2_047, 2_048] {
        let mut watch = at_rest(900, 3_600_000);
        let now = watch.look_at().expect("it looks");
        let verdict = watch.take(now, sample(now.0, used), Some(Mono(0)), &POLICY);
        assert_eq!(verdict, Verdict::Calm, "{used}");
    }
}

#[test]
fn a_leak_is_warned_of_and_then_ended_before_it_can_fill_memory() {
    // MB an hour: from a slow leak to one that fills 2 GB in three minutes.
    for pace in [20, 60, 200, 1_000, 6_000, 25_000] {
        let told = run(&Curve::leak(900, pace), POLICY, 60 * 3_600_000);
        let [
            (warned, Verdict::Warn(_)),
            (restarted, Verdict::Restart(outlook)),
            ..,
        ] = &told[..]
        else {
            panic!("{pace} MB an hour: {told:?}");
        };
        assert!(warned < restarted, "{pace}");
        assert!(
            outlook.sample.available > Kib::of_mb(30),
            "{pace}: {outlook:?}"
        );
        let rise = outlook.rise.expect("it is one").per_hour.mb();
        assert!(
            (pace * 7 / 10..pace * 13 / 10).contains(&rise),
            "{pace}: {rise}"
        );
    }
}

#[test]
fn a_plateau_close_to_the_limit_is_warned_of_once_and_left_alone() {
    let told = run(
        &Curve::plateau(1_880).with_noise(30),
        POLICY,
        24 * 3_600_000,
    );
    assert!(matches!(told[..], [(_, Verdict::Warn(_))]), "{told:?}");
}

#[test]
fn a_step_to_just_below_the_limit_is_no_leak() {
    let told = run(&Curve::plateau(900).step(600_000, 1_000), POLICY, 7_200_000);
    assert!(matches!(told[..], [(_, Verdict::Warn(_))]), "{told:?}");
}

#[test]
fn growth_that_only_approaches_its_plateau_is_left_alone() {
    for plateau in [1_850, 1_900, 1_950] {
        let curve = Curve::plateau(900).approaching(plateau, 600_000);
        let told = run(&curve, POLICY, 24 * 3_600_000);
        assert!(
            told.iter().all(|(_, it)| matches!(it, Verdict::Warn(_))),
            "{plateau}: {told:?}"
        );
    }
}

#[test]
fn a_short_spike_causes_nothing_at_all() {
    let curve = Curve::plateau(900)
        .spike(600_000, 5_000, 15_000, 1_100)
        .spike(900_000, 1_000, 20_000, 1_140);
    assert_eq!(run(&curve, POLICY, 3_600_000), []);
}

#[test]
fn a_leak_under_the_saw_of_the_garbage_collector_is_still_a_leak() {
    let told = run(
        &Curve::leak(900, 120).with_saw(80, 240_000),
        POLICY,
        24 * 3_600_000,
    );
    assert!(
        matches!(
            told[..],
            [(_, Verdict::Warn(_)), (_, Verdict::Restart(_)), ..]
        ),
        "{told:?}"
    );
}

#[test]
fn the_budget_of_an_hour_ends_the_restarts_and_that_is_said_once_an_hour() {
    let policy = MemoryPolicy {
        restarts_per_hour: Some(3),
        ..POLICY
    };
    // Fills memory within four minutes, over and over.
    let told = run(
        &Curve::leak(900, 18_000).anew_on_restart(),
        policy,
        3_500_000,
    );
    let restarts = told
        .iter()
        .filter(|(_, it)| matches!(it, Verdict::Restart(_)));
    assert_eq!(restarts.count(), 3, "{told:?}");
    let spent: Vec<_> = told
        .iter()
        .filter(|(_, it)| matches!(it, Verdict::Spent { restarts: 3, .. }))
        .collect();
    assert_eq!(spent.len(), 1, "{told:?}");
}

#[test]
fn without_leave_to_restart_it_only_warns() {
    let policy = MemoryPolicy {
        restarts_per_hour: None,
        ..POLICY
    };
    let told = run(&Curve::leak(900, 1_000), policy, 2 * 3_600_000);
    assert!(matches!(told[..], [(_, Verdict::Warn(_))]), "{told:?}");
}

#[test]
fn memory_that_is_no_longer_short_is_said_and_a_short_relief_is_not() {
    let curve = Curve::plateau(1_850)
        .spike(600_000, 1_000, 30_000, -400)
        .spike(1_200_000, 1_000, 600_000, -400);
    let told = run(&curve, POLICY, 1_700_000);
    let [(_, Verdict::Warn(_)), (eased, Verdict::Eased(_))] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(*eased >= Mono(1_260_000), "{eased:?}");
}

#[test]
fn while_it_starts_or_stops_nothing_is_done() {
    let mut watch = Watch::default();
    watch.begin(Mono(0));
    for second in 0..600_u64 {
        let now = Mono(second * 1_000);
        let used = 900 + u32::try_from(second * 2).expect("small");
        let verdict = watch.take(now, sample(now.0, used.min(2_040)), None, &POLICY);
        assert_eq!(verdict, Verdict::Calm);
    }
}

#[test]
fn a_gateway_has_settled_after_three_times_its_start_within_bounds() {
    let settled = |ready| Watch::settled_at(Mono(1_000), Mono(1_000 + ready)).0 - 1_000 - ready;
    assert_eq!(settled(100), 15_000);
    assert_eq!(settled(9_000), 27_000);
    assert_eq!(settled(240_000), 300_000);
}

#[test]
fn a_leak_is_ended_before_the_heap_is_full_where_that_comes_first() {
    // The main process has four fifths of the tree, as the samples have it.
    let policy = MemoryPolicy {
        heap: HeapBounds {
            size: Some(Kib::of_mb(700)),
            fits: None,
            beside: Kib::of_mb(300),
            beside_at_most: Kib::of_mb(546),
        },
        ..POLICY
    };
    // At rest for two hours, and then 1000 MB an hour.
    let curve = Curve::plateau(700).spike(7_200_000, 3_600_000, 3_600_000, 1_000);
    let told = run(&curve, policy, 4 * 3_600_000);
    let eased = |(_, verdict): &(Mono, Verdict)| matches!(verdict, Verdict::Eased(_));
    assert!(
        !told.iter().any(eased),
        "the heap has no more room: {told:?}"
    );
    let restart = told.iter().find_map(|(_, verdict)| match verdict {
        Verdict::Restart(outlook) => Some(outlook),
        Verdict::Calm | Verdict::Warn(_) | Verdict::Eased(_) | Verdict::Spent { .. } => None,
    });
    let outlook = restart.expect("it is restarted");
    assert!(outlook.heap_left > Some(Kib(0)), "{outlook:?}");
    assert!(
        outlook.sample.available > Kib::of_mb(700),
        "memory itself is not short"
    );
    let plateau = run(&Curve::plateau(1_240).with_noise(40), policy, 8 * 3_600_000);
    assert_eq!(
        plateau,
        [],
        "a heap that stays nearly full is V8's own affair"
    );
}

/// With 512 MB of swap beside 1 GB: what is swapped out counts as the gateway's and as used.
#[test]
fn a_leak_of_helpers_that_goes_to_swap_is_ended_before_swap_is_full_and_never_said_to_have_eased() {
    let (ram, swap) = (Kib::of_mb(960), Kib::of_mb(512));
    let mut watch = Watch::default();
    let mut told = vec![];
    watch.begin(Mono(0));
    while let Some(now) = watch.look_at() {
        watch.look(now);
        // 600 MB at rest, and 300 MB an hour of helpers.
        let used =
            Kib(Kib::of_mb(600).0 + u32::try_from(now.0 * 300 * 1_024 / 3_600_000).expect("small"));
        let sample = Sample {
            main: Kib::of_mb(540),
            tree: used,
            available: Kib(ram.0 + swap.0).less(used),
            limit: ram,
            limit_from: LimitFrom::Machine,
            ..sample(now.0, 0)
        };
        let verdict = watch.take(now, sample, Some(Mono(0)), &POLICY);
        if verdict != Verdict::Calm {
            told.push(verdict);
        }
        if matches!(verdict, Verdict::Restart(_)) || sample.available == Kib(0) {
            break;
        }
    }
    assert!(
        matches!(told[..], [Verdict::Warn(_), Verdict::Restart(_)]),
        "{told:?}"
    );
}
