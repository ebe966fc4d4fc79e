//! How Fly stops a machine: a signal to the main child, and the volume is unmounted when it has gone.

use super::site::{BOOT, Site};

#[test]
fn a_stop_drains_the_gateway_and_frees_the_volume() {
    // Fly's default, and what fly.toml sets.
    for signal in ["INT", "TERM"] {
        let Some(site) = Site::with_fake_gateway(&["--helper", "--drain", "1500"]) else {
            return;
        };
        let mut machine = site.boot();
        machine.wait_until_ready(BOOT, 1);
        machine.run(&format!("kill -{signal} $(cat /run/main.pid)"));
        let log = machine.wait_until_off();
        assert!(log.contains("class=requested"), "{log}");
        assert!(log.contains("[init] main child exited with 0"), "{log}");
        assert!(
            !log.contains("target is busy"),
            "something kept the volume: {log}"
        );
    }
}
