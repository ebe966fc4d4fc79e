//! What clawkeeper says of itself and its gateway over HTTP, to those who ask in order and to those who do not.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use nix::libc;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use support::health::{Answer, Listener, ask};
use support::keeper::{Kept, Plan};
use support::{PATIENCE, Place, metrics, poll_until, skip};

/// A wait that no test survives: where it is set, nothing may wait.
const FOR_EVER: [&str; 4] = ["--backoff-min", "1h", "--backoff-max", "1h"];

/// A gateway that is ready, and where its clawkeeper answers.
fn ready() -> (Listener, Plan, Kept) {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper));
    let kept = plan.start();
    kept.wait_until_ready();
    (listener, plan, kept)
}

fn send_signal(pid: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn a_start_is_not_ready_until_the_gateway_is() {
    for place in Place::ALL {
        let listener = Listener::new();
        let plan = listener.on(Plan::new(place).gateway(["--ready", "700"]));
        let kept = plan.start();
        let starting = listener.wait_for("starting");
        assert_eq!(starting.code, 503);
        assert_eq!(starting.json()["ready"], false);
        kept.wait_until_ready();
        let ready = listener.get("/readyz");
        assert_eq!((ready.code, &ready.json()["ready"]), (200, &true.into()));
        assert_eq!(ready.json()["phase"], "running");
        assert_eq!(ready.json().get("why"), None);
        kept.stop();
    }
}

#[test]
fn a_hold_is_answered_with_why_and_the_fix_and_no_line_of_the_config() {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper));
    plan.write_config("{\n  gateway: { mode: 'local' }\n  planted: 4711\n}");
    let kept = plan.start();
    kept.wait_until_held();
    let held = listener.get("/readyz");
    assert_eq!(held.code, 503);
    let json = held.json();
    assert_eq!(
        (&json["phase"], &json["ready"]),
        (&"held".into(), &false.into())
    );
    let of = |field: &str| json[field].as_str().expect("text").to_owned();
    assert!(of("why").contains("openclaw.json:3:3: "), "{json}");
    assert!(of("fix").starts_with("correct it"), "{json}");
    assert!(of("next_start") > of("since"), "{json}");
    assert!(!held.body.contains("planted"), "{json}");
    assert_eq!(listener.get("/livez").code, 200);
    let said = ask(&plan, &["health"]);
    assert_eq!(said.code, 1);
    assert!(said.line.starts_with("not ready (held): ") && said.line.contains("; fix: correct it"));
    plan.write_config(support::keeper::CONFIG);
    assert_eq!(listener.wait_for("running").code, 200);
    kept.stop();
}

#[test]
fn a_back_off_is_answered_with_the_last_exit_and_the_next_start() {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper));
    let kept = plan.options(FOR_EVER).gateway(["--end", "exit:7"]).start();
    let answer = listener.wait_for("backoff");
    assert_eq!(answer.code, 503);
    let json = answer.json();
    assert_eq!(json["last_exit"]["class"], "crash");
    assert_eq!(json["last_exit"]["code"], 7);
    assert!(json["next_start"].is_string() && json.get("gateway").is_none());
    assert!(
        json["why"]
            .as_str()
            .is_some_and(|why| why.contains("crash"))
    );
    kept.stop();
}

#[test]
fn a_gateway_that_drains_is_not_ready_any_more() {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper).gateway(["--drain", "2000"]));
    let kept = plan.start();
    kept.wait_until_ready();
    kept.signal(libc::SIGTERM);
    let answer = listener.wait_for("stopping");
    assert_eq!(answer.code, 503);
    assert!(
        answer.json()["why"]
            .as_str()
            .is_some_and(|why| why.contains("shutdown"))
    );
    assert_eq!(kept.end().status, "exit 0");
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port)).is_err(),
        "nobody answers for a clawkeeper that is gone"
    );
}

#[test]
fn a_gateway_that_hangs_is_not_ready_long_before_it_is_restarted() {
    let listener = Listener::new();
    let plan = Plan::new(Place::Subreaper).options(["--liveness-timeout", "20s"]);
    let kept = listener.on(plan).start();
    kept.wait_until_ready();
    let gateway = kept.gateway_pid();
    send_signal(gateway, libc::SIGSTOP);
    let hung = listener.wait_until("silence", |answer| answer.code == 503);
    let json = hung.json();
    assert_eq!(
        (&json["phase"], &json["gateway"]["pid"]),
        (&"running".into(), &gateway.into())
    );
    assert!(
        json["why"]
            .as_str()
            .is_some_and(|why| why.contains("does not answer"))
    );
    assert_eq!(listener.get("/livez").code, 200);
    send_signal(gateway, libc::SIGCONT);
    listener.wait_until("an answer", |answer| answer.code == 200);
    kept.stop();
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
    let alive = ask(&plan, &["health", "--live"]);
    assert_eq!(alive.code, 0, "whatever the gateway does");
    kept.wait_until_ready();
    let ready = ask(&plan, &["health"]);
    assert_eq!(ready.code, 0);
    assert!(ready.line.starts_with("ready since 20"), "{ready:?}");
    let json: Value = serde_json::from_str(&ask(&plan, &["health", "--json"]).line).expect("JSON");
    assert_eq!(json["phase"], "running");
    kept.signal(libc::SIGSTOP);
    let deaf = ask(&plan, &["health", "--live", "--timeout", "300ms"]);
    assert_eq!(deaf.code, 1, "a loop that does not turn answers nothing");
    assert!(deaf.line.contains("no answer within 300ms"), "{deaf:?}");
    kept.signal(libc::SIGCONT);
    kept.stop();
    let off = ask(&plan.env("CLAWKEEPER_HEALTH_LISTEN", "off"), &["health"]);
    assert_eq!(off.code, 1);
    assert!(off.line.contains("is off"), "{off:?}");
}

#[test]
fn health_believes_nobody_who_is_not_clawkeeper() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = server.local_addr().expect("bound").port();
    let answers = [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"ready\":false}",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = server.accept().expect("a client");
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer).expect("it reads");
        }
    });
    let plan = Plan::new(Place::Subreaper);
    let plan = plan.env("CLAWKEEPER_HEALTH_LISTEN", &format!("127.0.0.1:{port}"));
    for answer in answers {
        let said = ask(&plan, &["health"]);
        assert_eq!(
            said.code,
            1,
            "{:?} {said:?}",
            String::from_utf8_lossy(answer)
        );
    }
    server.join().expect("it served all");
}

#[test]
fn only_what_there_is_can_be_asked_for_and_nothing_can_be_changed() {
    let (listener, _, kept) = ready();
    let said = |request: &str| Answer::of(&listener.send(request.as_bytes()));
    assert_eq!(listener.get("/nope").code, 404);
    assert_eq!(listener.get("/readyz/").code, 404);
    assert_eq!(listener.get("/../etc/passwd").code, 404);
    assert_eq!(listener.get("/readyz?verbose=1").code, 200);
    assert!(listener.get("/").body.contains("/metrics"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let answer = said(&format!("{method} /readyz HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(answer.code, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let head = said(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((head.code, head.body.as_str()), (200, ""), "{path}");
        assert!(head.head.contains("content-length: "), "{}", head.head);
        assert!(head.head.contains("cache-control: no-store"));
    }
    assert_eq!(said("GET /livez HTTP/1.0\r\n\r\n").body, "ok\n");
    let two = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    let answers = listener.send(two.as_bytes());
    let answers = String::from_utf8_lossy(&answers);
    assert_eq!(
        answers.matches("HTTP/1.1").count(),
        1,
        "one request a connection: {answers}"
    );
    assert!(answers.contains("connection: close"));
    kept.stop();
}

#[test]
fn requests_out_of_order_are_refused_and_change_nothing() {
    let (listener, _, kept) = ready();
    let large = format!(
        "GET /livez HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let body = format!(
        "POST /livez HTTP/1.1\r\ncontent-length: 4294967296\r\n\r\n{}",
        "a".repeat(1 << 20)
    );
    let bad = [
        large.as_str(),
        &many,
        &long,
        &body,
        "\r\n\r\n",
        "GET",
        "GET /livez\r\n\r\n",
        "GET /livez HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET http://[ HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "GET /livez HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzzz",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
        "\0\0\0\0",
    ];
    for request in bad {
        let answer = listener.send(request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        let seen = &request[..request.len().min(60)];
        assert!(
            !answer.contains("\r\n\r\nok\n") || seen.contains("chunked"),
            "{seen:?}: {answer}"
        );
        assert_eq!(listener.get("/livez").code, 200, "after {seen:?}");
    }
    assert_eq!(kept.stop().classes(), ["requested"]);
}

#[test]
fn a_client_that_closes_its_half_after_the_request_is_answered() {
    let (listener, _, kept) = ready();
    for path in ["/livez", "/readyz", "/metrics", "/v1/status", "/v1/events"] {
        let mut stream = listener.connect();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(Answer::of(&answer).code, 200, "{path}");
    }
    kept.stop();
}

#[test]
fn no_bytes_whatever_take_the_listener_down() {
    let (listener, _, kept) = ready();
    let piece = prop_oneof![
        Just(b"GET ".to_vec()),
        Just(b"/livez".to_vec()),
        Just(b" HTTP/1.1\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"content-length: 5\r\n".to_vec()),
        Just(b"transfer-encoding: chunked\r\n".to_vec()),
        Just(b"expect: 100-continue\r\n".to_vec()),
        Just(b"connection: upgrade\r\nupgrade: h2c\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let requests = prop::collection::vec(piece, 0..12);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&requests, |pieces| {
        let mut stream = listener.connect();
        let _ = stream.write_all(&pieces.concat());
        // No more will come, so that an unfinished request is not waited for.
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
        prop_assert!(is_http, "{}", String::from_utf8_lossy(&answer));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listener.get("/livez").code, 200);
    let ended = kept.stop();
    assert_eq!(
        (ended.status.as_str(), ended.classes()),
        ("exit 0", vec!["requested"])
    );
}

/// Clients that never finish: each sends a byte now and then, and comes back when it is closed.
fn pester(listener: Listener, clients: usize, is_over: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        open.retain_mut(|stream| stream.write_all(b"X").is_ok());
        while open.len() < clients
            && let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port))
        {
            open.push(stream);
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Clients in a hurry: they ask in order, as often as they can.
fn hurry(listener: Listener, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port)) {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
}

/// Kills the gateway and says how long its successor took to start.
fn restart_takes(kept: &Kept, boot: usize) -> Duration {
    let now = || SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    let killed = now();
    send_signal(kept.gateway_pid(), libc::SIGKILL);
    let boots = kept.wait_for_note("boot", boot);
    Duration::from_millis(boots[boot - 1].1).saturating_sub(killed)
}

#[test]
fn a_hundred_slow_clients_keep_neither_a_probe_waiting_nor_a_restart() {
    let (listener, _, kept) = ready();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| pester(listener, 100, &is_over));
        for _ in 0..10 {
            let asked = SystemTime::now();
            assert_eq!(listener.get("/readyz").code, 200);
            let waited = asked.elapsed().expect("time goes on");
            // It is a tenth of a second; without taking turns it would be ten.
            assert!(waited < Duration::from_secs(4), "{waited:?}");
        }
        let took = restart_takes(&kept, 2);
        kept.wait_until_boot_is_ready(2);
        assert_eq!(listener.get("/readyz").code, 200);
        is_over.store(true, Ordering::Relaxed);
        // It is some milliseconds; what is excluded is that it waits for a client.
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
    let open = fs::read_dir(format!("/proc/{}/fd", kept.pid())).expect("its files");
    assert!(open.count() < 64, "connections do not pile up");
    assert_eq!(kept.stop().classes(), ["signal", "requested"]);
}

#[test]
fn clients_in_a_hurry_do_not_hold_up_a_restart_or_a_stop() {
    let (listener, _, kept) = ready();
    let is_over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| hurry(listener, &is_over));
        }
        let took = restart_takes(&kept, 2);
        kept.wait_until_boot_is_ready(2);
        let ended = kept.stop();
        is_over.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(2), "{took:?}");
        ended
    });
    assert_eq!(ended.status, "exit 0");
    assert_eq!(ended.classes(), ["signal", "requested"]);
}

#[test]
fn a_port_that_is_taken_is_one_warning_and_is_had_when_it_is_free() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let listener = Listener {
        port: taken.local_addr().expect("bound").port(),
    };
    let plan = listener.on(Plan::new(Place::Subreaper));
    let kept = plan.start();
    kept.wait_until_ready();
    let warning =
        kept.wait_for("health listener cannot have its address; the gateway is unaffected");
    assert!(
        warning["fix"]
            .as_str()
            .is_some_and(|fix| fix.contains("CLAWKEEPER_HEALTH_LISTEN"))
    );
    drop(taken);
    kept.wait_for("health listener is up");
    assert_eq!(listener.get("/readyz").code, 200);
    let ended = kept.stop();
    ended.line("health listener cannot have its address; the gateway is unaffected");
    assert_eq!(ended.classes(), ["requested"]);
}

#[test]
fn a_port_that_the_gateway_is_to_have_is_the_gateways() {
    let plan = Plan::new(Place::Subreaper);
    let plan = Listener { port: plan.port() }.on(plan);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(Listener { port: plan.port() }.get("/startupz").code, 200);
    let ended = kept.stop();
    ended.line("health listener is off: the gateway is to have its port");
    assert_eq!(plan.diary("boot").len(), 1, "nothing held it");
}

#[test]
fn a_listener_on_every_address_answers_ipv4_and_the_gateway_does_not_inherit_it() {
    let listener = Listener::new();
    let address = format!("[::]:{}", listener.port);
    let plan = Plan::new(Place::Subreaper).env("CLAWKEEPER_HEALTH_LISTEN", &address);
    let kept = plan.start();
    kept.wait_until_ready();
    assert_eq!(listener.get("/readyz").code, 200);
    assert_eq!(ask(&plan, &["health"]).code, 0);
    let sockets = |pid: i32| -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("its files")
            .flatten();
        let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        links
            .map(|link| link.display().to_string())
            .filter(|link| link.starts_with("socket:"))
            .collect()
    };
    let ours = sockets(kept.pid());
    let inherited: Vec<_> = sockets(kept.gateway_pid())
        .into_iter()
        .filter(|socket| ours.contains(socket))
        .collect();
    assert_eq!(inherited, Vec::<String>::new());
    kept.stop();
}

#[test]
fn metrics_count_restarts_by_class_and_are_read_by_a_strict_reader() {
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper).options(["--backoff-min", "0"]));
    let seen = |kept: &Kept, boot| {
        kept.wait_until_boot_is_ready(boot);
        let answer = listener.get("/metrics");
        assert_eq!(answer.code, 200);
        assert!(
            answer
                .head
                .contains("content-type: text/plain; version=0.0.4")
        );
        metrics::read(&answer.body)
    };
    let kept = plan
        .gateway(["--end", "heap-oom", "--only-first", "1"])
        .start();
    let first = seen(&kept, 2);
    send_signal(kept.gateway_pid(), libc::SIGKILL);
    let second = seen(&kept, 3);
    let restarts = |all: &std::collections::BTreeMap<String, f64>, class: &str| {
        all[&format!("clawkeeper_gateway_restarts_total{{class=\"{class}\",cause=\"\"}}")]
    };
    assert_eq!(
        (restarts(&first, "oom-heap"), restarts(&first, "signal")),
        (1.0, 0.0)
    );
    assert_eq!(
        (restarts(&second, "oom-heap"), restarts(&second, "signal")),
        (1.0, 1.0)
    );
    assert_eq!(restarts(&second, "crash"), 0.0);
    assert_eq!(second["clawkeeper_gateway_starts_total"], 3.0);
    assert_eq!(second["clawkeeper_gateway_ready"], 1.0);
    assert_eq!(second["clawkeeper_phase{phase=\"running\"}"], 1.0);
    let phases = second
        .iter()
        .filter(|(name, _)| name.starts_with("clawkeeper_phase{"));
    assert_eq!(phases.map(|(_, value)| value).sum::<f64>(), 1.0);
    assert!(second["clawkeeper_volume_free_bytes"] > 0.0);
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs_f64();
    for name in [
        "clawkeeper_start_time_seconds",
        "clawkeeper_gateway_start_time_seconds",
    ] {
        assert!((now - 120.0..=now + 1.0).contains(&second[name]), "{name}");
    }
    kept.stop();
}

/// Debian's `promtool`, which `scripts/run-tests` puts into the cache.
fn promtool() -> Option<Command> {
    let cached = support::real::cache_folder().join("promtool");
    let places = [cached, "/usr/bin/promtool".into()];
    places
        .into_iter()
        .find(|place| place.exists())
        .map(Command::new)
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let Some(mut promtool) = promtool() else {
        return skip("promtool is not there; scripts/run-tests gets it");
    };
    let listener = Listener::new();
    let plan = listener.on(Plan::new(Place::Subreaper));
    let kept = plan
        .gateway(["--end", "exit:1", "--only-first", "1"])
        .start();
    kept.wait_until_boot_is_ready(2);
    poll_until(PATIENCE, "a look at memory", || {
        let answer = listener.get("/metrics");
        if answer.body.contains("clawkeeper_gateway_memory_bytes") {
            Ok(())
        } else {
            Err(answer)
        }
    });
    let text = listener.get("/metrics").body;
    metrics::read(&text);
    let command = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    kept.stop();
}

#[test]
fn no_answer_holds_a_secret() {
    const SECRETS: [&str; 4] = [
        "t0ken-t0ken-t0ken",
        "sk-ant-PLANTED",
        "PLANTED-password",
        "111:PLANTED",
    ];
    let listener = Listener::new();
    let plan = listener
        .on(Plan::new(Place::Subreaper))
        .env("OPENCLAW_GATEWAY_TOKEN", SECRETS[0])
        .env("ANTHROPIC_API_KEY", SECRETS[1]);
    let config = format!(
        "{{ gateway: {{ mode: 'local', auth: {{ password: '{}' }} }}, channels: {{ telegram: {{ botToken: '{}' }} }} }}",
        SECRETS[2], SECRETS[3]
    );
    let all = |when: &str| {
        for path in ["/", "/livez", "/readyz", "/metrics", "/nope"] {
            let answer = listener.get(path);
            for secret in SECRETS {
                let text = format!("{}{}", answer.head, answer.body);
                assert!(!text.contains(secret), "{secret} in {path} while {when}");
            }
        }
    };
    // Broken right behind a secret, in two ways.
    plan.write_config(&config.replace("' } } }", " } } }"));
    let kept = plan.start();
    kept.wait_until_held();
    all("held");
    plan.write_config(&config.replace("mode: 'local'", "mode: 'PLANTED-password'"));
    listener.wait_until("another reason", |answer| {
        answer.body.contains("gateway.mode")
    });
    all("held for another reason");
    plan.write_config(&config);
    listener.wait_for("running");
    all("running");
    kept.stop();
}
