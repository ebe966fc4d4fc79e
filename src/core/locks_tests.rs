use super::*;
use proptest::prelude::*;

fn lock(content: LockContent, owner: Option<OwnerFacts>) -> LockFacts {
    LockFacts {
        path: "/data/tmp/openclaw-1000/gateway.state.lock".into(),
        seen: Seen {
            device: 1,
            inode: 2,
            mtime_ns: 3,
            size: 4,
        },
        kind: LockKind::Gateway,
        content,
        owner,
        age: Some(Millis::from_secs(3600)),
        before_this_boot: false,
        kernel_lock: KernelLock::Free,
    }
}

fn claim(pid: i32, start_ticks: Option<u64>, created: Option<u64>) -> LockContent {
    LockContent::Claim(Claim {
        pid,
        start_ticks,
        created: created.map(WallMs),
    })
}

fn dead() -> OwnerFacts {
    OwnerFacts {
        alive: false,
        start_ticks: None,
        started: None,
        is_gateway: false,
        is_us: false,
        name: String::new(),
    }
}

fn alive(start_ticks: Option<u64>, is_gateway: bool, name: &str) -> OwnerFacts {
    OwnerFacts {
        alive: true,
        start_ticks,
        is_gateway,
        name: name.into(),
        ..dead()
    }
}

#[test]
fn the_coming_gateways_own_pid_and_tick_are_stale_because_nobody_has_that_pid_yet() {
    let facts = lock(claim(7, Some(404_278), None), Some(dead()));
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Stale(StaleWhy::OwnerDead)
    );
}

#[test]
fn a_live_gateway_with_the_same_tick_keeps_its_lock() {
    let facts = lock(
        claim(7, Some(99), None),
        Some(alive(Some(99), true, "openclaw-gateway")),
    );
    assert_eq!(judge(&facts, true), LockVerdict::Live { pid: 7 });
}

#[test]
fn a_gateway_lock_without_a_tick_is_live_only_if_its_owner_was_there_first() {
    let mut owner = alive(Some(99), true, "openclaw-gateway");
    owner.started = Some(WallMs(1_000_000));
    let older = lock(claim(7, None, Some(500_000)), Some(owner.clone()));
    assert_eq!(judge(&older, true), LockVerdict::Stale(StaleWhy::PidReused));
    let younger = lock(claim(7, None, Some(1_000_500)), Some(owner));
    assert_eq!(judge(&younger, true), LockVerdict::Live { pid: 7 });
}

#[test]
fn a_pid_that_now_belongs_to_clawkeeper_proves_nothing_lives() {
    let owner = OwnerFacts {
        is_us: true,
        ..alive(Some(5), false, "clawkeeper")
    };
    assert_eq!(
        judge(&lock(claim(1, Some(5), None), Some(owner)), false),
        LockVerdict::Stale(StaleWhy::OwnerIsUs)
    );
}

#[test]
fn a_nameless_lock_needs_age_or_an_earlier_boot() {
    for content in [
        LockContent::Empty,
        LockContent::Corrupt,
        LockContent::Directory,
        LockContent::Unreadable { errno: 5 },
    ] {
        let old = lock(content, None);
        assert_eq!(
            judge(&old, false),
            LockVerdict::Stale(StaleWhy::NamesNobody)
        );
        assert_eq!(
            judge(&old, true),
            LockVerdict::Unknown(UnknownWhy::OwnerHidden)
        );
        let young = LockFacts {
            age: Some(Millis(29_999)),
            kernel_lock: KernelLock::Absent,
            ..old.clone()
        };
        assert_eq!(
            judge(&young, false),
            LockVerdict::Unknown(UnknownWhy::Young)
        );
        let future = LockFacts {
            age: None,
            kernel_lock: KernelLock::Absent,
            ..old.clone()
        };
        assert_eq!(
            judge(&future, false),
            LockVerdict::Unknown(UnknownWhy::Young)
        );
        let earlier = LockFacts {
            before_this_boot: true,
            ..young
        };
        assert_eq!(
            judge(&earlier, false),
            LockVerdict::Stale(StaleWhy::BeforeThisBoot)
        );
    }
}

#[test]
fn a_young_empty_lock_is_stale_once_the_kernel_lock_of_its_writer_is_free() {
    let mut facts = lock(LockContent::Empty, None);
    facts.age = Some(Millis(3));
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Stale(StaleWhy::WriterGone)
    );
    for kernel_lock in [KernelLock::Absent, KernelLock::Held, KernelLock::Unknown] {
        facts.kernel_lock = kernel_lock;
        assert!(matches!(judge(&facts, false), LockVerdict::Unknown(_)));
    }
}

#[test]
fn a_session_lock_of_an_unknown_live_helper_stays() {
    let mut facts = lock(claim(7, None, None), Some(alive(Some(9), false, "node")));
    facts.kind = LockKind::Session;
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Unknown(UnknownWhy::OwnerHidden)
    );
}

#[test]
fn a_special_file_is_never_removed_but_chromiums_own_link_is_judged_by_its_pid() {
    let mut facts = lock(LockContent::Special, None);
    facts.before_this_boot = true;
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Unknown(UnknownWhy::SpecialFile)
    );
    let mut singleton = lock(claim(7, None, None), Some(dead()));
    singleton.kind = LockKind::ChromiumSingleton;
    assert_eq!(
        judge(&singleton, false),
        LockVerdict::Stale(StaleWhy::OwnerDead)
    );
}

#[test]
fn a_coordinator_database_is_touched_only_when_it_is_corrupt() {
    let mut facts = lock(LockContent::Corrupt, None);
    facts.kind = LockKind::Coordinator;
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Stale(StaleWhy::NamesNobody)
    );
    facts.content = LockContent::Empty;
    assert_eq!(
        judge(&facts, false),
        LockVerdict::Unknown(UnknownWhy::HealthyDatabase)
    );
}

fn any_facts() -> impl Strategy<Value = LockFacts> {
    let kind = prop_oneof![
        Just(LockKind::Gateway),
        Just(LockKind::LegacyOnVolume),
        Just(LockKind::Session),
        Just(LockKind::RuntimeDeps),
        Just(LockKind::ChromiumSingleton),
        Just(LockKind::Coordinator)
    ];
    let kernel = prop_oneof![
        Just(KernelLock::Absent),
        Just(KernelLock::Free),
        Just(KernelLock::Held),
        Just(KernelLock::Unknown)
    ];
    let content = prop_oneof![
        (
            1..5i32,
            proptest::option::of(0..3u64),
            proptest::option::of(0..9_000u64)
        )
            .prop_map(|(pid, ticks, created)| claim(pid, ticks, created)),
        Just(LockContent::Empty),
        Just(LockContent::Corrupt),
        Just(LockContent::Directory),
        Just(LockContent::Special),
        Just(LockContent::Unreadable { errno: 13 }),
    ];
    let owner = (
        any::<bool>(),
        proptest::option::of(0..3u64),
        proptest::option::of(0..9_000u64),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(""), Just("node")],
    )
        .prop_map(
            |(alive, start_ticks, started, is_gateway, is_us, name)| OwnerFacts {
                alive,
                start_ticks,
                started: started.map(WallMs),
                is_gateway,
                is_us: is_us && !is_gateway,
                name: name.into(),
            },
        );
    (
        content,
        owner,
        kind,
        kernel,
        proptest::option::of(0..60_000u64),
        any::<bool>(),
    )
        .prop_map(
            |(content, owner, kind, kernel_lock, age, before_this_boot)| LockFacts {
                kind,
                kernel_lock,
                age: age.map(Millis),
                before_this_boot,
                owner: matches!(content, LockContent::Claim(_)).then_some(owner),
                ..lock(content, None)
            },
        )
}

proptest! {
    #[test]
    fn invariant_a_lock_whose_owner_may_live_is_never_stale(facts in any_facts(), gateway_alive: bool) {
        let stale = matches!(judge(&facts, gateway_alive), LockVerdict::Stale(_));
        prop_assert!(!(stale && facts.kernel_lock == KernelLock::Held));
        if let (LockContent::Claim(claim), Some(owner)) = (&facts.content, &facts.owner) {
            let same = claim.start_ticks.is_some() && claim.start_ticks == owner.start_ticks;
            prop_assert!(!(stale && owner.alive && owner.is_gateway && same));
        }
    }

    #[test]
    fn invariant_only_chromiums_links_are_judged_at_all(facts in any_facts(), gateway_alive: bool) {
        if facts.content == LockContent::Special && facts.kind != LockKind::ChromiumSingleton {
            prop_assert_eq!(judge(&facts, gateway_alive), LockVerdict::Unknown(UnknownWhy::SpecialFile));
        }
    }
}
