use super::super::tests::tree;
use super::*;

const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal:        2097152 kB\nMemFree:  1 kB\nMemAvailable:    1048576 kB\nSwapTotal: 0 kB\nSwapFree:              0 kB\n",
);

fn stat(pid: i32, ppid: i32) -> (String, String) {
    let zeros = "0 ".repeat(17);
    (
        format!("proc/{pid}/stat"),
        format!("{pid} (node) S {ppid} {zeros} 77 0"),
    )
}

fn statm(pid: i32, resident_mb: u64, shared_mb: u64) -> (String, String) {
    let pages = |mb: u64| mb * 256;
    (
        format!("proc/{pid}/statm"),
        format!(
            "999999 {} {} 1 0 1 0\n",
            pages(resident_mb),
            pages(shared_mb)
        ),
    )
}

fn machine(files: &[(String, String)]) -> tempfile::TempDir {
    let mut all = vec![MEMINFO, ("proc/self/cgroup", "0::/\n")];
    all.extend(
        files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str())),
    );
    tree(&all)
}

#[test]
fn the_tree_is_the_descendants_and_the_orphans_that_are_ours() {
    let dir = machine(&[
        stat(10, 1),
        statm(10, 700, 60),
        // A helper in a session of its own, and its child.
        stat(11, 10),
        statm(11, 70, 50),
        stat(12, 11),
        statm(12, 100, 55),
        // An orphan of the gateway, its child, and somebody's shell.
        stat(13, 1),
        statm(13, 40, 10),
        stat(14, 13),
        statm(14, 30, 10),
        stat(15, 1),
        statm(15, 900, 10),
        stat(16, 15),
        statm(16, 900, 10),
    ]);
    let mut sampler = Sampler::new(dir.path(), 10);
    sampler.count(1, |pid| pid == 13);
    let seen = sampler.sample(Mono(5));
    assert_eq!((seen.processes, seen.main), (5, Kib::of_mb(700)));
    let private = 640 + 20 + 45 + 30 + 20;
    assert_eq!(seen.tree, Kib::of_mb(private + 60), "files count once");
}

#[test]
fn a_main_process_that_is_gone_has_no_memory() {
    let dir = machine(&[]);
    let seen = Sampler::new(dir.path(), 10).sample(Mono(5));
    assert_eq!((seen.main, seen.processes), (Kib(0), 0));
    assert_eq!(seen.available, Kib::of_mb(1024));
    assert_eq!(
        (seen.limit, seen.limit_from),
        (Kib::of_mb(2048), LimitFrom::Machine)
    );
}

#[test]
fn what_is_left_is_the_least_of_the_machine_and_each_cgroup_above_us() {
    let mb = |mb: u64| (mb << 20).to_string();
    let v1 = "sys/fs/cgroup/memory";
    let file = |path: &str, text: String| (path.to_owned(), text);
    let dir = machine(&[
        file("proc/self/cgroup", "4:memory:/a/b\n0::/\n".into()),
        file(
            &format!("{v1}/a/b/memory.oom_control"),
            "oom_kill 0\n".into(),
        ),
        file(&format!("{v1}/a/b/memory.limit_in_bytes"), mb(512)),
        file(&format!("{v1}/a/b/memory.usage_in_bytes"), mb(400)),
        file(
            &format!("{v1}/a/b/memory.stat"),
            format!(
                "inactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}\n",
                mb(30),
                mb(20)
            ),
        ),
        file(&format!("{v1}/a/memory.limit_in_bytes"), mb(700)),
        file(&format!("{v1}/a/memory.usage_in_bytes"), mb(680)),
        file(
            &format!("{v1}/a/memory.stat"),
            "total_inactive_file 0\n".into(),
        ),
        file(
            &format!("{v1}/memory.limit_in_bytes"),
            "9223372036854771712\n".into(),
        ),
        file(&format!("{v1}/memory.usage_in_bytes"), mb(1)),
    ]);
    let seen = Sampler::new(dir.path(), 10).sample(Mono(5));
    assert_eq!(
        (seen.limit, seen.limit_from),
        (Kib::of_mb(512), LimitFrom::CgroupV1)
    );
    assert_eq!(seen.usage, Kib::of_mb(400));
    assert_eq!(
        seen.available,
        Kib::of_mb(20),
        "the parent's neighbours use its rest"
    );
    std::fs::write(dir.path().join(v1).join("a/memory.usage_in_bytes"), mb(500)).expect("written");
    let seen = Sampler::new(dir.path(), 10).sample(Mono(5));
    assert_eq!(
        seen.available,
        Kib::of_mb(512 - 400 + 50),
        "file pages are given up first"
    );
}

#[test]
fn swap_counts_as_far_as_the_cgroup_may_use_it() {
    let mb = |mb: u64| (mb << 20).to_string();
    let group = |name: &str| format!("sys/fs/cgroup/{name}");
    let mut files = vec![
        (
            "proc/meminfo".to_owned(),
            "MemTotal: 4194304 kB\nMemAvailable: 2097152 kB\nSwapFree: 1048576 kB\n".to_owned(),
        ),
        (group("memory.events"), "oom_kill 0\n".into()),
        (group("memory.max"), mb(512)),
        (group("memory.current"), mb(500)),
        (
            group("memory.stat"),
            "inactive_file 0\nactive_file 0\n".into(),
        ),
        (group("memory.swap.max"), mb(100)),
        (group("memory.swap.current"), mb(90)),
        (
            group("memory.pressure"),
            "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00\n".into(),
        ),
    ];
    let seen = Sampler::new(machine(&files).path(), 10).sample(Mono(5));
    assert_eq!(seen.available, Kib::of_mb(12 + 10));
    assert_eq!(seen.stalled, Some(1_234));
    files.retain(|(path, _)| !path.contains("memory.max"));
    files.push((group("memory.max"), "max\n".into()));
    let seen = Sampler::new(machine(&files).path(), 10).sample(Mono(5));
    assert_eq!(
        seen.available,
        Kib::of_mb(2048 + 1024),
        "no limit: the machine's"
    );
}

#[test]
fn what_is_swapped_out_of_a_process_is_still_its_own() {
    let status = |pid: i32, swapped_mb: u64| {
        (
            format!("proc/{pid}/status"),
            format!(
                "Name:\tnode\nVmRSS:\t1 kB\nVmSwap:\t   {} kB\nThreads:\t11\n",
                swapped_mb << 10
            ),
        )
    };
    let files = |swap_free: &str| {
        let meminfo = format!(
            "MemTotal: 1048576 kB\nMemAvailable: 102400 kB\nSwapTotal: 524288 kB\nSwapFree: {swap_free} kB\n"
        );
        vec![
            ("proc/meminfo".to_owned(), meminfo),
            stat(10, 1),
            statm(10, 700, 60),
            status(10, 150),
            stat(11, 10),
            statm(11, 70, 50),
            status(11, 100),
        ]
    };
    let look = |swap_free| {
        let dir = machine(&files(swap_free));
        let mut sampler = Sampler::new(dir.path(), 10);
        sampler.count(1, |_| false);
        sampler.sample(Mono(5))
    };
    let seen = look("268288");
    assert_eq!(seen.main, Kib::of_mb(700 + 150));
    assert_eq!(seen.tree, Kib::of_mb(640 + 150 + 20 + 100 + 60));
    assert_eq!(seen.available, Kib(102_400 + 268_288), "swap can be had");
    let at_rest = look("524288");
    assert_eq!(
        at_rest.main,
        Kib::of_mb(700),
        "no swap is in use: one file a process"
    );
}

#[test]
fn our_own_tree_is_seen_in_the_real_proc() {
    let us = i32::try_from(std::process::id()).expect("a pid fits");
    let mut child = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep is everywhere");
    let mut sampler = Sampler::new(Path::new("/"), us);
    sampler.count(us, |_| false);
    let seen = sampler.sample(Mono(1));
    child.kill().and_then(|()| child.wait()).expect("it ends");
    assert!(
        seen.processes >= 2 && seen.main > Kib(1_000) && seen.tree >= seen.main,
        "{seen:?}"
    );
    assert!(
        seen.available > Kib(0) && seen.available <= seen.limit,
        "{seen:?}"
    );
}
