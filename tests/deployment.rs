//! The files people deploy with agree with each other, with the image, and with what clawkeeper does.
//!
//! Their syntax and keys are checked against published schemas by `tests/lint/deployment.sh`.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use clawkeeper::gateway;
use clawkeeper::settings::Settings;
use support::Place;
use support::health::Listener;
use support::keeper::Plan;

const FLY: &str = include_str!("../fly.toml");
const PRIVATE: &str = include_str!("../fly.private.toml");
const COMPOSE: &str = include_str!("../docker/compose.yaml");
const KUBERNETES: &str = include_str!("../docker/kubernetes.yaml");
const IMAGE: &str = include_str!("../docker/Dockerfile");

/// The lines that mean something: no comments, no blank ones, no indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Everything after `key` on the lines that begin with it, without quotes.
fn values(text: &'static str, key: &str) -> Vec<&'static str> {
    let rest = |line: &'static str| line.trim_start_matches("- ").strip_prefix(key);
    lines(text)
        .into_iter()
        .filter_map(rest)
        .map(|value| value.trim().trim_matches('"'))
        .collect()
}

/// The one value of a key.
fn value(text: &'static str, key: &str) -> &'static str {
    let found = values(text, key);
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found[0]
}

/// A length of time as these files write it.
fn seconds(text: &str) -> u64 {
    let digits = text.trim_end_matches(['s', 'm']);
    let number: u64 = digits
        .parse()
        .unwrap_or_else(|_| panic!("{text} is no time"));
    if text.ends_with('m') {
        number * 60
    } else {
        number
    }
}

/// A TOML file without its sections of that kind.
fn without<'a>(text: &'a str, section: &str) -> Vec<&'a str> {
    let mut left = Vec::new();
    let mut inside = false;
    for line in lines(text) {
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']);
            inside = name == section || name.starts_with(&format!("{section}."));
        }
        if !inside {
            left.push(line);
        }
    }
    left
}

#[test]
fn the_private_file_is_the_public_one_with_another_service() {
    assert_eq!(without(PRIVATE, "services"), without(FLY, "http_service"));
    let check = |text| {
        let keys = [
            "method = ",
            "path = ",
            "grace_period = ",
            "interval = ",
            "timeout = ",
        ];
        keys.map(|key| values(text, key))
    };
    assert_eq!(check(PRIVATE), check(FLY), "the same checks");
}

#[test]
fn the_private_file_asks_for_nothing_public() {
    let own = Settings::HEALTH_LISTEN.port().to_string();
    let outside = values(PRIVATE, "port =");
    let outside: Vec<_> = outside.into_iter().filter(|port| *port != own).collect();
    // For 80 and 443 flyctl allocates public addresses at a first deploy; for any other port it asks first
    // (internal/appconfig/config.go, DetermineIPType).
    assert_eq!(outside, [value(PRIVATE, "internal_port =")]);
    assert_eq!(
        values(PRIVATE, "handlers ="),
        [r#"["http"]"#],
        "no TLS for the world"
    );
    assert!(!lines(PRIVATE).contains(&"[http_service]"));
}

#[test]
fn a_stop_has_the_time_that_clawkeeper_takes() {
    let drain = Settings::GATEWAY_STOP_TIMEOUT.0 / 1000;
    for fly in [FLY, PRIVATE] {
        let kill: u64 = value(fly, "kill_timeout =").parse().expect("seconds");
        assert!(kill <= 300, "Fly allows no more on shared CPUs");
        let stop = seconds(value(fly, "CLAWKEEPER_STOP_TIMEOUT ="));
        // What is killed must still be reaped, the journal written and the volume unmounted.
        assert!(
            stop + 5 <= kill && stop + 15 >= kill,
            "{stop} against {kill}"
        );
        assert_eq!(value(fly, "kill_signal ="), "SIGTERM");
    }
    assert!(seconds(value(COMPOSE, "stop_grace_period:")) > drain);
    let grace: u64 = value(KUBERNETES, "terminationGracePeriodSeconds:")
        .parse()
        .expect("seconds");
    assert!(grace > drain);
}

#[test]
fn every_file_names_the_port_the_gateway_is_told_to_listen_on() {
    let command = gateway::default_command();
    let words: Vec<_> = command.iter().filter_map(|word| word.to_str()).collect();
    let port = words
        .iter()
        .position(|word| *word == "--port")
        .map(|at| words[at + 1])
        .expect("the default command has a port");
    for fly in [FLY, PRIVATE] {
        assert_eq!(values(fly, "app =")[1], words.join(" "), "after the name");
        assert_eq!(value(fly, "internal_port ="), port);
        assert_eq!(value(fly, "CLAWKEEPER_INTERNAL_PORT ="), port);
        assert_eq!(value(fly, "OPENCLAW_GATEWAY_PORT ="), port);
    }
    // What `openclaw` in a console calls, in every container of either image.
    for image in [IMAGE, include_str!("../docker/official.Dockerfile")] {
        assert!(lines(image).contains(&&*format!("OPENCLAW_GATEWAY_PORT={port} \\")));
    }
    assert!(values(COMPOSE, "").contains(&&*format!("127.0.0.1:{port}:{port}")));
    assert_eq!(
        values(KUBERNETES, "port:"),
        ["clawkeeper", "clawkeeper", "clawkeeper", port],
        "of the probes and the Service"
    );
    assert_eq!(values(KUBERNETES, "containerPort:")[0], port);
}

#[test]
fn the_image_is_what_the_files_take_it_for() {
    let command = gateway::default_command();
    let words: Vec<_> = command.iter().filter_map(|word| word.to_str()).collect();
    assert_eq!(value(IMAGE, "CMD "), format!("{words:?}"));
    assert_eq!(value(IMAGE, "ENTRYPOINT"), r#"["clawkeeper", "run", "--"]"#);
    let port = Settings::HEALTH_LISTEN.port();
    assert_eq!(value(IMAGE, "EXPOSE"), format!("3000 {port}"));
    assert!(IMAGE.contains(&format!("CLAWKEEPER_HEALTH_LISTEN=[::]:{port}")));
    let state = value(FLY, "OPENCLAW_STATE_DIR =");
    assert!(IMAGE.contains(&format!("OPENCLAW_STATE_DIR={state} ")));
    for fly in [FLY, PRIVATE] {
        assert_eq!(value(fly, "dockerfile ="), "docker/Dockerfile");
    }
    assert_eq!(value(COMPOSE, "dockerfile:"), "docker/Dockerfile");
}

#[test]
fn every_file_names_the_port_clawkeeper_itself_listens_on() {
    let port = Settings::HEALTH_LISTEN.port().to_string();
    for fly in [FLY, PRIVATE] {
        let ports = values(fly, "port =");
        let own = ports.iter().filter(|named| **named == port).count();
        assert_eq!(own, 2, "a check and the metrics: {ports:?}");
    }
    assert!(values(COMPOSE, "").contains(&&*format!("127.0.0.1:{port}:{port}")));
    assert_eq!(values(KUBERNETES, "containerPort:")[1], port);
    assert_eq!(value(KUBERNETES, "prometheus.io/port:"), port);
}

#[test]
fn what_is_published_on_a_host_is_for_that_host_only() {
    let published = values(COMPOSE, "").into_iter().filter(|line| {
        line.split(':').count() >= 2
            && line
                .split(':')
                .all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    });
    let published: Vec<_> = published.collect();
    assert_eq!(published.len(), 2);
    for port in published {
        assert!(port.starts_with("127.0.0.1:"), "{port}");
    }
    assert!(!values(KUBERNETES, "type:").contains(&"LoadBalancer"));
}

#[test]
fn the_heap_is_left_to_clawkeeper_and_the_state_to_the_volume() {
    for fly in [FLY, PRIVATE] {
        assert!(values(fly, "NODE_OPTIONS").is_empty());
        let state = value(fly, "OPENCLAW_STATE_DIR =");
        assert_eq!(value(fly, "destination ="), state);
        assert!(values(COMPOSE, "").contains(&&*format!("data:{state}")));
        assert_eq!(values(KUBERNETES, "mountPath:")[0], state);
    }
}

#[test]
fn a_machine_comes_back_however_clawkeeper_ended() {
    for fly in [FLY, PRIVATE] {
        assert_eq!(value(fly, "policy ="), "always");
    }
    assert_eq!(value(COMPOSE, "restart:"), "unless-stopped");
    assert!(
        values(KUBERNETES, "restartPolicy:").is_empty(),
        "a StatefulSet's pods always do"
    );
}

#[test]
fn every_path_of_ours_that_a_file_names_is_answered() {
    let listener = Listener::new();
    let kept = listener.on(Plan::new(Place::Subreaper)).start();
    kept.wait_until_ready();
    // The gateway's own path, on its own port.
    let ours = |path: &&str| *path != "/healthz";
    let mut paths: Vec<_> = values(FLY, "path =").into_iter().filter(ours).collect();
    paths.extend(values(KUBERNETES, "path:"));
    paths.push(value(KUBERNETES, "prometheus.io/path:"));
    assert_eq!(paths.len(), 6, "{paths:?}");
    for path in paths {
        assert_eq!(listener.get(path).code, 200, "{path}");
    }
    assert_eq!(listener.get("/nowhere").code, 404);
    kept.stop();
}

#[test]
fn a_new_container_has_the_host_name_of_the_one_before() {
    // A gateway that was killed left a lease with it; from another host its lease is not judged, only awaited.
    assert!(!value(COMPOSE, "hostname:").is_empty());
    assert_eq!(values(KUBERNETES, "kind:")[0], "StatefulSet");
}

#[test]
fn nothing_that_makes_the_image_is_for_one_architecture() {
    let made_of = [
        ("Dockerfile", IMAGE),
        (
            "official.Dockerfile",
            include_str!("../docker/official.Dockerfile"),
        ),
        (
            "install-plugins.mjs",
            include_str!("../docker/install-plugins.mjs"),
        ),
    ];
    for (name, text) in made_of {
        for word in ["amd64", "arm64", "x86_64", "aarch64", "x64", "--platform"] {
            assert!(!text.contains(word), "{word} in {name}");
        }
        // BuildKit gives one cache to all architectures: a binary of another one must not be found in it.
        if text.contains("cargo build") {
            assert!(
                text.contains("--target-dir \"target/$(uname -m)\""),
                "{name}"
            );
            assert!(!text.contains("target/*"), "{name}");
        }
    }
    // Static on both, or the binary would not run in a base of another C library.
    let cargo = include_str!("../.cargo/config.toml");
    for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let (_, section) = cargo
            .split_once(&format!("[target.{target}]\n"))
            .unwrap_or_else(|| panic!("no {target} in {cargo}"));
        let flags = section.lines().next().unwrap_or_default();
        assert!(flags.contains("target-feature=+crt-static"), "{flags}");
    }
}
