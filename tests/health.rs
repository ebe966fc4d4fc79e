//! What clawkeeper says of itself and its gateway over HTTP, to those who ask in order and to those who do not.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use support::Place;
use support::health::{Listener, ask};
use support::keeper::Plan;

#[test]
fn a_start_is_not_ready_until_the_gateway_is() {
    for place in Place::ALL {
        let listener = Listener::new();
        let plan = Plan::new(place).gateway(["--ready", "700"]);
        let plan = listener.on(plan);
        let kept = plan.start();
        let starting = listener.wait_for("starting");
        assert_eq!(
            (starting.code, &starting.json()["ready"]),
            (503, &false.into())
        );
        kept.wait_until_ready();
        let ready = listener.get("/readyz");
        assert_eq!((ready.code, &ready.json()["ready"]), (200, &true.into()));
        assert_eq!(ready.json()["phase"], "running");
        assert_eq!(ready.json().get("why"), None);
        kept.stop();
    }
}

#[test]
fn health_asks_without_curl_and_ends_with_0_or_1() {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper).gateway(["--ready", "1500"]));
    let nobody = ask(&plan, &["health"]);
    assert_eq!(nobody.code, 1);
    assert!(
        nobody
            .line
            .starts_with("no clawkeeper answers at 127.0.0.1:"),
        "{nobody:?}"
    );
    let kept = plan.start();
    listener.wait_for("starting");
    let starting = ask(&plan, &["health"]);
    assert_eq!(starting.code, 1);
    assert!(
        starting.line.starts_with("not ready (starting): "),
        "{starting:?}"
    );
    assert_eq!(
        ask(&plan, &["health", "--live"]).code,
        0,
        "whatever the gateway does"
    );
    kept.wait_until_ready();
    let ready = ask(&plan, &["health"]);
    assert_eq!(ready.code, 0);
    assert!(ready.line.starts_with("ready since 20"), "{ready:?}");
    let json = ask(&plan, &["health", "--json"]).line;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["phase"], "running");
    kept.stop();
}
