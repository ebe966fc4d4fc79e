//! A leak in the real gateway.

use crate::support::cgroup::Cgroup;
use crate::support::real::{GOOD_CONFIG, NEWEST, Site};
use crate::support::skip;
use std::path::Path;
use std::time::Duration;

#[test]
#[ignore = "a leak that is slow enough takes five minutes: cargo test --test real_gateway -- --ignored a_leak"]
fn a_leak_ends_in_a_drained_restart_before_the_kernel_or_v8_ends_it() {
    let Some(group) = Cgroup::new(2048 << 20) else {
        return skip("no memory cgroup can be made here");
    };
    let site = Site::new(NEWEST);
    site.write_config(GOOD_CONFIG);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateways/leak.js");
    site.hook(&format!(
        "export LEAK_MB_PER_MINUTE=240 LEAK_ONCE={}\nset -- --require {} \"$@\"",
        site.file("leaked").display(),
        script.display()
    ));
    let mut keeper = site.keep_with_mounts(&[], &group.enter());
    site.wait_until_ready(&keeper);
    let told = keeper.wait_for_line(
        Duration::from_secs(900),
        "the gateway leaks and is restarted",
    );
    println!("{told}");
    site.wait_for_start(2, &keeper);
    site.wait_until_ready(&keeper);
    let log = keeper.own_log();
    assert_eq!(keeper.count("class=oom"), 0, "{log:?}");
    assert_eq!(keeper.count("cause=memory"), 1, "{log:?}");
    assert_eq!(keeper.count("is killed"), 0, "it drained: {log:?}");
    assert_eq!(keeper.count("memory is no longer short"), 0, "{log:?}");
    assert_eq!(keeper.stop().0, Some(0));
}
