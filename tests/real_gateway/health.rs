//! What clawkeeper's own listener says of a real gateway.

use crate::support::health::Listener;
use crate::support::metrics;
use crate::support::real::{READY, Site, for_each_version, kill};
use nix::libc;

#[test]
fn readiness_follows_the_gateway_from_its_start_through_a_hang_to_its_stop() {
    for_each_version(|version| {
        let site = Site::new(version);
        let listener = Listener::new();
        let address = format!("127.0.0.1:{}", listener.port);
        // A silence is noticed within a quarter of it and one probe's timeout.
        let flags = ["--liveness-timeout", "40s", "--health-listen", &address];
        let mut keeper = site.keep(&flags);
        let starting = listener.wait_for("starting");
        assert_eq!(starting.code, 503);
        let ready = keeper.poll(READY, "readiness", || {
            let answer = listener.get("/readyz");
            if answer.code == 200 {
                Ok(answer)
            } else {
                Err(answer)
            }
        });
        site.wait_until_ready(&keeper);
        let pid = site.wait_for_start(1, &keeper);
        assert_eq!(ready.json()["gateway"]["pid"], pid);
        let measured = metrics::read(&listener.get("/metrics").body);
        assert_eq!(measured["clawkeeper_gateway_ready"], 1.0);
        let named = format!("clawkeeper_gateway_info{{version=\"{version}\"}}");
        assert_eq!(measured[&named], 1.0);

        kill(pid, libc::SIGSTOP);
        let hung = listener.wait_until("silence", |answer| answer.code == 503);
        assert_eq!(hung.json()["phase"], "running");
        assert_eq!(listener.get("/livez").code, 200);
        kill(pid, libc::SIGCONT);
        listener.wait_until("an answer", |answer| answer.code == 200);
        assert_eq!(site.starts(), [pid], "it was not restarted");

        assert_eq!(keeper.stop().0, Some(0));
    });
}
