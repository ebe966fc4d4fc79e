//! Random worlds: whatever they do, the invariants hold at every step, the machine can be stopped, and it
//! serves once its world has healed.

use super::fake_host::{FakeHost, POLICY};
use super::world::{
    Answer, Config, FakeLock, FakeProcess, Life, LockOwner, Memory, Newest, OnEdit, OnTerm,
    Process, Seeding, Timeline, Volume, World,
};
use crate::core::control::Op;
use crate::core::event::{Event, Request, SpawnFault};
use crate::core::exit_class::{ExitStatus, Marker, Refusal};
use crate::core::locks::LockKind;
use crate::core::machine::{Core, Policy};
use crate::core::readiness::ProbeTarget;
use crate::core::reload::{Apply, Validation};
use crate::core::time::Millis;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// By then nothing in the world is wrong any more.
const HEALED: u64 = 1_200_000;
/// The longest life, give-up, backoff and hold may still lie ahead of a healed world.
const SERVED: u64 = HEALED + 7_200_000;
/// A stop request may come at any time until then.
const STOPPED: u64 = HEALED + 600_000;

fn times() -> BoxedStrategy<u64> {
    prop_oneof![0..100u64, 0..10_000u64, 0..HEALED].boxed()
}

fn lengths() -> BoxedStrategy<u64> {
    prop_oneof![Just(0u64), 0..1_000u64, 0..40_000u64, 0..400_000u64].boxed()
}

fn volumes() -> impl Strategy<Value = Timeline<Volume>> {
    let state = prop_oneof![
        4 => Just(Volume::Good),
        1 => Just(Volume::ReadOnly),
        1 => Just(Volume::Hung),
        1 => Just(Volume::NoInstanceLock),
    ];
    timelines(state.boxed(), Volume::Good)
}

fn configs() -> impl Strategy<Value = Timeline<Config>> {
    let state = prop_oneof![
        3 => Just(Config::Good),
        2 => Just(Config::Edited),
        1 => Just(Config::Rewritten),
        1 => Just(Config::Missing),
        1 => Just(Config::Broken),
    ];
    timelines(state.boxed(), Config::Good)
}

fn timelines<T: Clone + std::fmt::Debug + 'static>(
    state: BoxedStrategy<T>,
    healed: T,
) -> impl Strategy<Value = Timeline<T>> {
    (state.clone(), vec((times(), state), 0..3)).prop_map(move |(first, mut changes)| {
        changes.sort_by_key(|(at, _)| *at);
        let line = std::iter::once((0, first)).chain(changes);
        Timeline(line.collect()).then(HEALED, healed.clone())
    })
}

fn fake_locks() -> impl Strategy<Value = FakeLock> {
    let kind = prop_oneof![
        Just(LockKind::Gateway),
        Just(LockKind::LegacyOnVolume),
        Just(LockKind::Session),
        Just(LockKind::ChromiumSingleton),
    ];
    let owner = prop_oneof![
        Just(LockOwner::Dead),
        times().prop_map(LockOwner::AliveUntil),
        times().prop_map(|written| LockOwner::Nobody { written }),
        Just(LockOwner::Special),
    ];
    (kind, owner, any::<bool>()).prop_map(|(kind, owner, is_removable)| FakeLock {
        kind,
        owner,
        is_removable,
    })
}

fn fake_processes() -> impl Strategy<Value = FakeProcess> {
    let what = prop_oneof![
        Just(Process::Orphan),
        Just(Process::Unkillable),
        Just(Process::Undying),
        Just(Process::LiveGateway),
        Just(Process::Stranger),
    ];
    (what, times(), times()).prop_map(|(what, from, until)| FakeProcess { what, from, until })
}

fn statuses() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        Just(ExitStatus::Code(0)),
        Just(ExitStatus::Code(1)),
        Just(ExitStatus::Code(78)),
        Just(ExitStatus::Signal(9)),
        Just(ExitStatus::Signal(6)),
    ]
}

fn markers() -> impl Strategy<Value = Marker> {
    prop_oneof![
        Just(Marker::Ready),
        Just(Marker::Listening),
        Just(Marker::HeapOom),
        Just(Marker::BreakerTripped),
        Just(Marker::BreakerRecovered),
        Just(Marker::Refusal(Refusal::PermissionDenied)),
        Just(Marker::Refusal(Refusal::PortInUse)),
        Just(Marker::Refusal(Refusal::InvalidConfig)),
    ]
}

/// `dies_of_kill_in` is never `None` here: a gateway that nothing ends is a story of its own.
fn lives() -> impl Strategy<Value = Life> {
    let on_term = prop_oneof![
        3 => lengths().prop_map(OnTerm::Drains),
        1 => Just(OnTerm::Ignores),
    ];
    let newest = prop_oneof![
        Just(Newest::Startupz),
        Just(Newest::Readyz),
        Just(Newest::Healthz),
    ];
    let begins = (
        option::weighted(
            0.05,
            prop::sample::select(vec![SpawnFault::Command, SpawnFault::Resources]),
        ),
        option::weighted(0.8, lengths()),
        lengths(),
        newest,
        vec((lengths(), markers()), 0..3),
    );
    let ends = (
        option::weighted(0.7, (lengths(), statuses())),
        option::weighted(0.2, (lengths(), lengths())),
        on_term,
        0..1_500u64,
        0..3u32,
        prop::bool::weighted(0.1),
        prop_oneof![
            4 => (300..2_000u32).prop_map(Memory::Flat),
            1 => (1..30u32).prop_map(Memory::Leaks),
        ],
    );
    let on_edit = prop::sample::select(vec![
        OnEdit::Applies,
        OnEdit::RestartsItself,
        OnEdit::RestartsUnheard,
        OnEdit::RestartsInPlace,
        OnEdit::LeavesIt,
        OnEdit::Refuses,
        OnEdit::Fails,
        OnEdit::Misses,
        OnEdit::NeedsNudge,
    ]);
    (begins, ends, on_edit).prop_map(|(begins, ends, on_edit)| Life {
        on_edit,
        fault: begins.0,
        ready_after: begins.1,
        works_until: begins.2,
        answers_to: begins.3,
        says: begins.4,
        ends: ends.0,
        deaf: ends.1,
        on_term: ends.2,
        dies_of_kill_in: Some(ends.3),
        helpers: ends.4,
        helpers_survive: ends.5,
        memory: ends.6,
    })
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        20 => (0..50u64).prop_map(Answer::After),
        2 => (0..60_000u64).prop_map(Answer::After),
        1 => Just(Answer::Never),
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    let validation = prop_oneof![
        Just(Validation::Valid),
        Just(Validation::Invalid(vec!["a: b".to_owned()])),
        Just(Validation::Skipped("none".to_owned())),
    ];
    let seeding = prop_oneof![
        Just(Seeding::Works),
        Just(Seeding::Fails),
        Just(Seeding::Vanishes)
    ];
    (
        (volumes(), configs(), seeding, validation),
        vec(fake_locks(), 0..3),
        vec(fake_processes(), 0..3),
        vec(lives(), 0..8),
        vec(answers(), 1..12),
        (0..40u64, prop_oneof![Just(0u64), 0..3_000u64]),
    )
        .prop_map(
            |(
                (volume, config, seeding, validation),
                locks,
                processes,
                lives,
                answers,
                lateness,
            )| World {
                volume,
                config,
                seeding,
                validation,
                locks,
                processes,
                lives,
                answers,
                answers_heal_at: HEALED,
                wake_late: lateness.0,
                spawn_takes: lateness.1,
            },
        )
}

fn applies() -> impl Strategy<Value = Apply> {
    prop::sample::select(vec![Apply::Auto, Apply::Gateway, Apply::Restart])
}

fn policies() -> impl Strategy<Value = Policy> {
    let probe = prop_oneof![
        Just(ProbeTarget::Startupz),
        Just(ProbeTarget::Readyz),
        Just(ProbeTarget::Healthz),
    ];
    let liveness = prop_oneof![3 => Just(Some(Millis(60_000))), 1 => Just(None)];
    let stops = prop_oneof![Just(0u64), Just(5_000), Just(30_000), Just(330_000)];
    (
        probe,
        liveness,
        stops,
        any::<[bool; 4]>(),
        (any::<u64>(), applies()),
        1..300u64,
    )
        .prop_map(
            |(start_probe, liveness, stop, flags, (seed, apply), hold)| Policy {
                apply,
                roll_back: flags[3],
                start_probe,
                liveness_timeout: liveness,
                stop_timeout: Millis(stop),
                may_seed: flags[0],
                recovers_channels: flags[1],
                allow_unconfigured: flags[2],
                seed,
                hold_retry: Millis(hold * 1_000),
                ..POLICY
            },
        )
}

/// What nobody planned.
#[derive(Debug, Clone)]
enum Disturbance {
    Change,
    Look,
    Asked(Op),
}

/// Every pause has an end.
fn disturbances() -> impl Strategy<Value = Vec<(u64, Disturbance)>> {
    let limits = (0..600_000u64).prop_map(|limit| Some(Millis(limit)));
    let what = prop_oneof![
        2 => Just(Disturbance::Change),
        2 => Just(Disturbance::Look),
        1 => Just(Disturbance::Asked(Op::Restart)),
        1 => limits.prop_map(|limit| Disturbance::Asked(Op::Pause { limit })),
        1 => Just(Disturbance::Asked(Op::Resume)),
    ];
    vec((times(), what), 0..6)
}

fn host(policy: Policy, world: World, disturbances: Vec<(u64, Disturbance)>) -> FakeHost {
    let mut host = FakeHost::new(policy, world);
    for (at, what) in disturbances {
        match what {
            Disturbance::Change => host.send(at, Event::CauseChanged),
            Disturbance::Look => host.signal(at, Request::Look),
            Disturbance::Asked(op) => host.request(at, op),
        }
    }
    host
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_the_invariants_hold_and_a_stop_request_ends_it(
        policy in policies(),
        world in worlds(),
        disturbances in disturbances(),
        stops in vec(prop_oneof![times(), 0..STOPPED], 1..4),
    ) {
        let mut host = host(policy, world, disturbances);
        for at in stops {
            host.signal(at, Request::Stop);
            host.signal(at + 200, Request::Stop);
        }
        host.run_until(SERVED);
        prop_assert!(host.ending.is_some(), "never ended, but {}", host.core.phase_word());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn a_world_that_heals_is_served_again_without_a_hand(
        policy in policies(),
        world in worlds(),
        disturbances in disturbances(),
    ) {
        let mut host = host(policy, world, disturbances);
        host.run_until(SERVED);
        prop_assert_eq!(host.core.phase_word(), "running", "{:?}", host.reports.last());
        prop_assert_eq!(host.alive(), 1);
    }

    #[test]
    fn a_machine_read_back_from_its_journal_decides_the_same(
        policy in policies(),
        world in worlds(),
        disturbances in disturbances(),
        stop in times(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut host = host(policy.clone(), world, disturbances);
        host.signal(stop, Request::Stop);
        host.run_until(SERVED);
        let cut = cut.index(host.journal.len());
        let mut core = Core::new(policy);
        for (at, event) in &host.journal[..cut] {
            core.step(*at, event.clone());
        }
        let text = serde_json::to_string(&core).expect("a core is JSON");
        let mut twin: Core = serde_json::from_str(&text).expect("and reads back");
        prop_assert_eq!(&twin, &core);
        for (at, event) in &host.journal[cut..] {
            let text = serde_json::to_string(event).expect("an event is JSON");
            let read: Event = serde_json::from_str(&text).expect("and reads back");
            prop_assert_eq!(&read, event);
            prop_assert_eq!(twin.step(*at, read), core.step(*at, event.clone()));
        }
        prop_assert_eq!(&twin, &host.core);
    }
}
