//! A secret given to a container is in no layer, no log and no answer of ours.

use crate::container::{Container, LONG, image, podman, text};
use crate::support::real;

const PLANTED: [&str; 3] = [
    "OPENCLAW_GATEWAY_TOKEN=planted-gateway-5a0c",
    "ANTHROPIC_API_KEY=sk-ant-planted-5a0c",
    "DISCORD_BOT_TOKEN=MTQplanted-5a0c",
];

#[test]
fn planted_secrets_are_in_no_output_of_ours() {
    let Some(image) = image() else { return };
    let _turn = real::Turn::wait(1);
    let mut options = vec!["--health-interval=disable"];
    for secret in PLANTED {
        options.extend(["--env", secret]);
    }
    let container = Container::start(&options, image, &[]);
    container.wait_until_ready();
    let fetch = "const r = await fetch('http://127.0.0.1:9180' + process.argv[1]); console.log(r.status, await r.text())";
    let mut said = String::new();
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = container.exec(&["node", "--input-type=module", "-e", fetch, path]);
        assert!(answer.starts_with("200 "), "{path}: {answer}");
        said.push_str(&answer);
    }
    // It warns: without a volume. What it says counts, whatever its exit code.
    said.push_str(&text(&container.try_exec(&["clawkeeper", "check"]).stdout));
    said.push_str(&container.exec(&[
        "sh",
        "-c",
        "cat /data/clawkeeper/*.ndjson; cat /proc/[0-9]*/cmdline",
    ]));
    said.push_str(&container.exec(&["cat", "/data/openclaw.json"]));
    assert_eq!(container.stop(LONG), "0");
    said.push_str(&container.logs());
    assert!(!said.contains("5a0c"), "{said}");
}

#[test]
fn the_image_carries_no_token_and_no_leftover_of_its_build() {
    let Some(image) = image() else { return };
    let described = text(&podman(&["inspect", image]).stdout)
        + &text(&podman(&["history", "--no-trunc", image]).stdout);
    for word in ["TOKEN=", "API_KEY", "PASSWORD", "/root/.npm/_", "CARGO"] {
        assert!(!described.contains(word), "{word} in:\n{described}");
    }
    let find = "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o \\( -name .npmrc -o -name .env -not -path '*/node_modules/*' -o -name '_cacache' -o -path '/root/.npm/*' \
        -o -path '/src' -o -name '*.rs' -o -path '/var/cache/apt/*.bin' \\) -print";
    let (code, found, err) = crate::container::run(&[], image, &["sh", "-c", find]);
    assert_eq!((code, found.as_str()), (Some(0), ""), "{err}");
}
