//! docker/official.Dockerfile, on a stand-in of the official image: /app, the user node, tini before the gateway.

use crate::container::{Container, LONG, build, image, podman, text};
use crate::support::real;

#[test]
fn the_official_image_with_clawkeeper_added_keeps_the_gateway() {
    let Some(image) = image() else { return };
    let _turn = real::Turn::wait(1);
    // The same OpenClaw in the same places; entry point, user and variables as the official image has them.
    let stand_in = "localhost/clawkeeper-test-stand-in";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("Dockerfile");
    let lines = format!(
        "FROM {image}\nRUN rm /usr/local/bin/clawkeeper && rmdir /data\nUSER node\nENV OPENCLAW_STATE_DIR= CLAWKEEPER_HEALTH_LISTEN=\nENTRYPOINT [\"tini\", \"-s\", \"--\"]\n\
         CMD [\"node\", \"openclaw.mjs\", \"gateway\", \"--allow-unconfigured\"]\n"
    );
    std::fs::write(&file, lines).expect("a Dockerfile");
    let context = folder.path().display().to_string();
    let made = podman(&["build", "--tag", stand_in, &context]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let argument = format!("OPENCLAW_IMAGE={stand_in}");
    let added = build(&["docker/official.Dockerfile", "--build-arg", &argument]);
    let added = added.expect("containers can be had, as the first image shows");

    let options = [
        "--env",
        "OPENCLAW_GATEWAY_TOKEN=x",
        "--health-interval=disable",
    ];
    let container = Container::start(&options, &added, &[]);
    container.wait_until_ready();
    assert!(container.line("gateway ready").contains("attempt=1"));
    assert!(
        container
            .line("clawkeeper starts")
            .contains("gateway_user=1000:1000")
    );
    // The official image's own port is another one; a console finds the gateway all the same.
    let devices = container.exec(&["openclaw", "devices", "list"]);
    assert!(devices.contains("pairing"), "{devices}");
    assert_eq!(container.stop(LONG), "0", "{}", container.logs());
}
