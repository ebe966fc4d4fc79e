use super::*;
use crate::core::memory::LimitFrom;
use crate::core::time::Mono;

/// A whole minute of the epoch.
const BEGIN: u64 = 29_000_000 * MINUTE_MS;

fn sample(at: u64, tree_mb: u32) -> Sample {
    Sample {
        at: Mono(at),
        main: Kib::of_mb(tree_mb - 100),
        tree: Kib::of_mb(tree_mb),
        processes: 3,
        available: Kib::of_mb(500),
        limit: Kib::of_mb(2_048),
        limit_from: LimitFrom::Machine,
        usage: Kib::of_mb(tree_mb),
        stalled: None,
    }
}

fn glance(phase: &'static str, starts: u64) -> Glance {
    Glance {
        phase,
        is_ready: phase == "running",
        starts,
        memory: None,
        heap_full: None,
    }
}

/// Notes what happened at these milliseconds after [`BEGIN`]; returns the minutes that came of it.
fn record(seen: &[(u64, Glance)]) -> Vec<Minute> {
    let mut recorder = Recorder::default();
    seen.iter()
        .filter_map(|(at, glance)| recorder.note(WallMs(BEGIN + at), *glance))
        .collect()
}

#[test]
fn every_phase_has_a_letter_of_its_own() {
    for phase in PHASES {
        assert_eq!(phase_of(letter_of(phase)), Some(phase));
    }
    let mut letters = LETTERS.map(|(_, letter)| letter);
    letters.sort_unstable();
    assert!(letters.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_minute_comes_back_as_it_was_written_and_nothing_else_does() {
    let minute = Minute {
        number: 29_000_001,
        tree_mb: 904,
        main_mb: 763,
        limit_mb: u16::MAX,
        heap_full_mb: 1_537,
        ready_secs: 60,
        starts: 2,
        phase: b'r',
    };
    let bytes = minute.to_bytes();
    assert_eq!(Minute::of_bytes(&bytes), Some(minute));
    assert_eq!(Minute::of_bytes(&[0; 16]), None, "a hole");
    assert_eq!(Minute::of_bytes(&[0xff; 16]), None, "foreign");
    for at in 0..MINUTE_BYTES {
        for bit in 0..8 {
            let mut bad = bytes;
            bad[at] ^= 1 << bit;
            assert_eq!(Minute::of_bytes(&bad), None, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn seconds_of_service_are_counted_to_the_end_of_each_minute() {
    let minutes = record(&[
        (10_000, glance("starting", 1)),
        (30_000, glance("running", 1)),
        (75_000, glance("running", 1)),
        (100_000, glance("backoff", 1)),
        (125_000, glance("running", 2)),
        (190_000, glance("running", 2)),
    ]);
    let seen: Vec<_> = minutes
        .iter()
        .map(|it| (it.number - 29_000_000, it.ready_secs, it.starts, it.phase))
        .collect();
    assert_eq!(
        seen,
        [
            (0, 30, 1, b's'),
            (1, 40, 0, b'b'),
            // The back-off reached into it.
            (2, 55, 1, b'b'),
        ]
    );
}

#[test]
fn a_minute_keeps_the_peak_and_a_gateway_that_is_gone_leaves_none() {
    let at = |ms, tree| {
        let memory = Some(sample(ms, tree));
        let heap_full = Some(Kib::of_mb(1_537));
        (
            ms,
            Glance {
                memory,
                heap_full,
                ..glance("running", 1)
            },
        )
    };
    let last = at(66_000, 850).1;
    let minutes = record(&[
        at(1_000, 700),
        at(20_000, 1_500),
        at(66_000, 850),
        // No new look: the sample of the gateway that has ended says nothing of this minute.
        (130_000, last),
        (190_000, last),
    ]);
    let seen: Vec<_> = minutes.iter().map(|it| (it.tree_mb, it.main_mb)).collect();
    assert_eq!(seen, [(1_500, 1_400), (850, 750), (0, 0)]);
    assert_eq!(
        (minutes[0].limit_mb, minutes[0].heap_full_mb),
        (2_048, 1_537)
    );
}

#[test]
fn sleep_and_a_clock_that_jumps_leave_a_gap_and_count_nothing() {
    let running = glance("running", 1);
    let minutes = record(&[
        (0, running),
        (60_500, running),
        // Asleep for an hour.
        (3_700_000, running),
        (3_725_000, running),
        // Set back.
        (600_000, running),
        (660_000, running),
    ]);
    let seen: Vec<_> = minutes
        .iter()
        .map(|it| (it.number - 29_000_000, it.ready_secs))
        .collect();
    assert_eq!(seen, [(0, 60), (61, 20), (10, 60)]);
}

#[test]
fn at_rest_a_minute_is_closed_by_what_comes_anyway_or_shortly_after_its_end() {
    let mut recorder = Recorder::default();
    assert_eq!(recorder.due(), None);
    recorder.note(WallMs(BEGIN + 59_999), glance("held", 0));
    let due = recorder.due().expect("a minute has begun");
    assert_eq!(due, WallMs(BEGIN + 75_000));
    let over = recorder.note(due, glance("held", 0)).expect("it is over");
    assert_eq!((over.phase, over.ready_secs), (b'h', 0));
    assert_eq!(recorder.due(), Some(WallMs(BEGIN + 135_000)));
    let last = recorder.finish(WallMs(BEGIN + 80_000)).expect("the last");
    assert_eq!(last.number, 29_000_001);
    assert_eq!(recorder.finish(WallMs(BEGIN + 80_000)), None);
}

#[test]
fn minutes_fold_to_stretches_that_begin_where_the_clocks_do() {
    let mut fold = Fold::new(Span::Day);
    for number in 1_003..1_013 {
        if number == 1_007 {
            continue;
        }
        fold.add(Minute {
            number,
            tree_mb: u16::try_from(number).expect("small"),
            limit_mb: 2_048,
            ready_secs: 60,
            starts: 1,
            phase: if number == 1_004 { b'h' } else { b'r' },
            ..Minute::default()
        });
    }
    let stretches = fold.stretches();
    let seen: Vec<_> = stretches
        .iter()
        .map(|it| (it.first, it.known, it.ready_secs, it.tree_mb, it.phase))
        .collect();
    assert_eq!(
        seen,
        [
            (1_000, 2, 120, 1_004, b'h'),
            (1_005, 4, 240, 1_009, b'r'),
            (1_010, 3, 180, 1_012, b'r'),
        ]
    );
}

#[test]
fn a_span_never_reaches_further_than_what_is_kept() {
    for (word, minutes) in [("hour", 60), ("day", 1_440), ("week", 10_080)] {
        let span = Span::of(word).expect("a span");
        for ms in [0, 1, 59_999, 60_000, 3_599_999] {
            let range = span.minutes(WallMs(BEGIN + ms));
            assert_eq!(range.end - range.start, minutes);
            assert!(minutes <= MINUTES);
            assert!(range.end >= number_of(WallMs(BEGIN + ms)));
        }
    }
    assert_eq!(Span::of("year"), None);
    assert!(Span::Week.minutes(WallMs(0)).is_empty());
}
