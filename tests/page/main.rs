//! The page in a real browser, drawn from a real clawkeeper: its states, its updates, its shape, and whom it asks.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and write files"
)]

#[path = "../support/mod.rs"]
mod support;

mod screenshots;

use clawkeeper::core::history::Minute;
use clawkeeper::host::{folder::Folder, history, state};
use nix::libc;
use serde_json::Value;
use std::time::SystemTime;
use support::browser::{self, Page};
use support::health::{Answer, Listener};
use support::keeper::{CONFIG, Kept, Plan};
use support::{PATIENCE, Place, poll_until};

/// A wait that no test survives: where it is set, nothing may wait.
const FOR_EVER: [&str; 4] = ["--backoff-min", "1h", "--backoff-max", "1h"];

fn plan() -> (Listener, Plan) {
    let listener = Listener::new();
    (listener, listener.on(Plan::new(Place::Subreaper)))
}

/// A gateway that is ready, and the page of its clawkeeper.
fn ready() -> (Listener, Plan, Kept, Page) {
    let (listener, plan) = plan();
    let kept = plan.start();
    kept.wait_until_ready();
    let page = Page::open(listener.port, 1000, "light");
    page.wait_for_phase("ready");
    (listener, plan, kept, page)
}

/// In one line, and without what counts while one looks.
fn flat(text: &str) -> String {
    let text = text.replace(|it: char| it.is_ascii_digit(), "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The page, `/readyz`, `/v1/status` and `clawkeeper status` say the same of this phase in the same words, and the
/// timeline has this kind of event for it.
fn agrees(page: &Page, listener: Listener, plan: &Plan, phase: &str, kind: &str) {
    let word = poll_until(2 * PATIENCE, "the same words", || {
        let health = listener.get("/readyz").json();
        let status = listener.get("/v1/status").json();
        let command = flat(&String::from_utf8_lossy(&plan.ask(["status"]).stdout));
        let word = if status["ready"] == true {
            "ready"
        } else {
            phase
        };
        let of = |json: &Value, name: &str| flat(json[name].as_str().unwrap_or(""));
        let is_same = ["why", "fix"].iter().all(|name| {
            let said = of(&status, name);
            said == of(&health, name) && said == flat(&page.text(name)) && command.contains(&said)
        });
        let is_so = health["phase"] == phase
            && status["phase"] == phase
            && page.text("phase") == word
            && command.contains(word);
        if is_so && is_same {
            Ok(word)
        } else {
            let shown = (page.text("phase"), page.text("why"), page.text("fix"));
            Err(format!("{shown:?} {health} {command}"))
        }
    });
    assert_eq!(page.value("document.title"), format!("{word} – clawkeeper"));
    let has_fix = page.value("document.getElementById('fix').textContent !== ''");
    let advises = page.value("!document.getElementById('todo').hidden");
    assert_eq!(advises, has_fix, "advice is shown where there is some");
    page.wait_for(&format!(
        "[...document.querySelectorAll('#events li')].some(it => it.dataset.kind === '{kind}')"
    ));
    let lines = plan.ask(["events", "--json"]).stdout;
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let of_kind = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["kind"] == kind;
    assert!(lines.lines().any(of_kind), "{kind}: {lines}");
}

#[test]
fn a_hold_shows_its_reason_and_what_to_do_and_a_mended_config_shows_without_a_reload() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    plan.write_config("{\n  gateway: { mode: 'local' }\n  planted: 4711.0815\n}");
    let kept = plan
        .clone()
        .env("OPENCLAW_GATEWAY_TOKEN", "tok-0123456789-planted")
        .start();
    kept.wait_until_held();
    let page = Page::open(listener.port, 1000, "light");
    agrees(&page, listener, &plan, "held", "held");
    assert!(page.text("why").contains("openclaw.json:3:3"));
    assert!(page.text("fix").starts_with("correct it"));
    assert!(page.text("since").contains("next start in"));
    page.wait_for("document.querySelector('#events li.day')");
    let shown = page.value("document.documentElement.outerHTML").to_string();
    for path in [
        "/v1/status",
        "/v1/events",
        "/v1/incidents",
        "/v1/history?span=week",
    ] {
        let text = listener.get(path).body + &shown;
        assert!(
            !text.contains("planted") && !text.contains("4711.0815"),
            "{path}: {text}"
        );
    }
    page.value("window.marker = 1");
    plan.write_config(CONFIG);
    agrees(&page, listener, &plan, "running", "ready");
    assert_eq!(page.value("window.marker"), 1, "the same document");
    page.wait_for("[...document.querySelectorAll('#events p')].some(it => it.textContent.startsWith('gateway ready'))");
    page.close();
    kept.stop();
}

#[test]
fn a_start_and_a_stop_are_shown_and_a_clawkeeper_that_is_gone_is_said_to_be() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    let plan = plan.gateway(["--ready", "600000", "--drain", "12000"]);
    let plan = plan.options(["--startup-timeout", "1h"]);
    let kept = plan.start();
    listener.wait_for("starting");
    let page = Page::open(listener.port, 1000, "dark");
    agrees(&page, listener, &plan, "starting", "started");
    kept.signal(libc::SIGTERM);
    agrees(&page, listener, &plan, "stopping", "stopping");
    kept.end();
    page.wait_for("!document.getElementById('lost').hidden");
    assert!(
        page.text("lost")
            .starts_with("clawkeeper cannot be reached since ")
    );
    assert_eq!(page.text("phase"), "stopping", "what was said last stays");
    let passed = "document.getElementById('link').textContent";
    is_quiet_while_changes(&page, passed, 3);
    let complaints = page.console();
    let is_absence = |it: &String| it.contains("ERR_CONNECTION") || it.contains("ERR_EMPTY");
    assert!(complaints.iter().all(is_absence), "{complaints:?}");
    page.close_with_complaints();
}

#[test]
fn a_crash_is_a_state_an_entry_and_an_incident() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    let plan = plan.options(FOR_EVER).gateway(["--end", "exit:7"]);
    let kept = plan.start();
    listener.wait_for("backoff");
    let page = Page::open(listener.port, 1000, "light");
    agrees(&page, listener, &plan, "backoff", "backing-off");
    page.wait_for("[...document.querySelectorAll('#events li')].some(it => it.textContent.includes('class crash'))");
    page.wait_for("document.querySelector('#incidents b')?.textContent === 'crash'");
    assert!(
        page.text("facts").contains("code 7"),
        "{}",
        page.text("facts")
    );
    page.close();
    kept.stop();
}

/// What a screen reader says by itself stays as it is while the value of this expression changes this often.
fn is_quiet_while_changes(page: &Page, shown: &str, times: usize) {
    page.value(
        "window.spoken = []; {
         const watch = new MutationObserver(list => spoken.push(...list.map(it => it.target.textContent)));
         for (const it of document.querySelectorAll('[role=alert], [role=status], [aria-live]')) {
             watch.observe(it, { subtree: true, childList: true, characterData: true });
         } }",
    );
    for _ in 0..times {
        page.value(&format!("window.before = {shown}; 0"));
        page.wait_for(&format!("{shown} !== before"));
    }
    assert_eq!(page.value("spoken.join()"), "");
}

/// How often this page has asked for the status.
const LOOKS: &str =
    "performance.getEntriesByName(location.origin + '/v1/status', 'resource').length";

#[test]
fn a_kill_is_shown_with_its_evidence_and_a_countdown_is_no_news_to_a_screen_reader() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    let plan = plan.options(FOR_EVER).gateway(["--end", "signal:9"]);
    let kept = plan.start();
    listener.wait_for("backoff");
    let page = Page::open(listener.port, 1000, "light");
    agrees(&page, listener, &plan, "backoff", "backing-off");
    let exit = listener.get("/v1/status").json()["last_exit"].clone();
    let evidence = exit["evidence"].as_str().expect("evidence");
    assert!(evidence.contains("kill"), "{exit}");
    assert!(
        page.text("facts").contains(evidence),
        "{}",
        page.text("facts")
    );
    let told = flat(&String::from_utf8_lossy(&plan.ask(["status"]).stdout));
    assert!(told.contains(&flat(evidence)), "{told}");
    is_quiet_while_changes(&page, "document.getElementById('since').textContent", 3);
    is_quiet_while_changes(&page, LOOKS, 2);
    page.close();
    kept.stop();
}

#[test]
fn a_volume_without_an_answer_is_said_to_be_that_and_the_state_is_shown() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    let kept = plan.start();
    kept.wait_until_ready();
    let private = plan.state().join("clawkeeper");
    let timeline = private.join("timeline.ndjson");
    poll_until(PATIENCE, "an event", || {
        let answer = listener.get("/v1/events").body;
        if answer.contains("gateway ready") {
            Ok(())
        } else {
            Err(answer)
        }
    });
    // Folders in the place of both files: each read of them fails.
    let aside = private.join("aside");
    std::fs::rename(&timeline, &aside).expect("moved away");
    let folders = [timeline.clone(), private.join("history")];
    for folder in &folders {
        std::fs::create_dir(folder).expect("a folder");
    }
    let page = Page::open(listener.port, 1000, "light");
    page.wait_for_phase("ready");
    page.wait_for("!document.getElementById('unread').hidden");
    assert!(page.text("unread").contains("volume gives no answer"));
    page.press("Tab");
    page.press("ArrowRight");
    page.wait_for(&format!("{LOOKS} > 2"));
    for (shown, state) in [
        ("document.getElementById('lost').hidden", "true"),
        ("document.getElementById('unread').hidden", "false"),
        ("document.body.classList.contains('lost')", "false"),
    ] {
        assert_eq!(page.value(shown).to_string(), state, "{shown}");
    }
    assert_eq!(page.text("link"), "live");
    for folder in folders {
        std::fs::remove_dir(folder).expect("removed");
    }
    std::fs::rename(&aside, &timeline).expect("moved back");
    page.wait_for("document.getElementById('unread').hidden");
    page.wait_for("document.querySelector('#events li[data-kind=ready]')");
    page.wait_for("document.getElementById('sum').textContent");
    let complaints = page.console();
    let is_of_volume = |it: &String| it.contains("503");
    assert!(complaints.iter().all(is_of_volume), "{complaints:?}");
    page.close_with_complaints();
    kept.stop();
}

#[test]
fn a_gateway_that_hangs_is_no_green_page() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    let kept = plan.options(["--liveness-timeout", "20s"]).start();
    kept.wait_until_ready();
    let page = Page::open(listener.port, 1000, "light");
    page.wait_for("document.getElementById('now').dataset.tone === 'ok'");
    let gateway = kept.gateway_pid();
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(gateway, libc::SIGSTOP) }, 0);
    page.wait_for("document.getElementById('now').dataset.tone === 'bad'");
    assert_eq!(page.text("why"), "the gateway does not answer");
    assert!(page.text("since").contains("; no answer for "));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(gateway, libc::SIGCONT) }, 0);
    page.wait_for("document.getElementById('now').dataset.tone === 'ok'");
    page.close();
    kept.stop();
}

#[test]
fn a_pause_and_its_end_are_shown() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan, kept, page) = ready();
    page.wait_for("document.getElementById('facts').textContent.includes('MB available')");
    assert!(plan.ask(["pause", "--for", "50m"]).status.success());
    agrees(&page, listener, &plan, "paused", "paused");
    assert!(
        !page.text("facts").contains("MB available"),
        "of a gateway that has ended: {}",
        page.text("facts")
    );
    assert_eq!(
        page.value("document.getElementById('now').dataset.tone"),
        "still"
    );
    assert!(
        page.text("facts").contains("ends in"),
        "{}",
        page.text("facts")
    );
    assert!(plan.ask(["resume"]).status.success());
    agrees(&page, listener, &plan, "running", "resumed");
    page.close();
    kept.stop();
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(now.as_millis()).expect("a time")
}

/// Minutes since 1970.
fn minute_now() -> u32 {
    u32::try_from(now_ms() / 60_000).expect("before 10136")
}

/// A past of this many minutes, with a hole and a fall.
fn write_past(plan: &Plan, minutes: u32) {
    let private = Folder::open(&plan.state()).and_then(|folder| state::open_private(&folder));
    let private = private.expect("our folder");
    let now = minute_now();
    for ago in (1..=minutes).rev().filter(|ago| !(30..35).contains(ago)) {
        let minute = Minute {
            number: now - ago,
            tree_mb: 1_800 - u16::try_from(ago % 400).expect("small"),
            main_mb: 1_500 - u16::try_from(ago % 400).expect("small"),
            limit_mb: 2_048,
            heap_full_mb: 1_537,
            ready_secs: if ago == 20 { 15 } else { 60 },
            starts: u8::from(ago == 20),
            phase: if ago == 20 { b'b' } else { b'r' },
        };
        history::write(&private, minute).expect("written");
    }
}

#[test]
fn the_history_is_drawn_and_read_by_keys_and_as_a_table() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    write_past(&plan, 3_000);
    let kept = plan.start();
    kept.wait_until_ready();
    let page = Page::open(listener.port, 1000, "light");
    page.wait_for("document.querySelectorAll('#chart .curve').length === 2");
    assert!(
        page.text("sum").starts_with("The gateway served 9"),
        "{}",
        page.text("sum")
    );
    // From the top of the page by keys alone: the tabs, then the chart, then the table.
    let focused = || page.value("document.activeElement.id");
    page.press("Tab");
    assert_eq!(focused(), "tab-hour");
    page.press("ArrowRight");
    assert_eq!(focused(), "tab-day");
    page.wait_for("document.getElementById('sum').textContent.includes('the last day')");
    page.press("End");
    assert_eq!(focused(), "tab-week");
    page.wait_for("document.getElementById('sum').textContent.includes('the last week')");
    assert_eq!(
        page.value("document.getElementById('tab-week').ariaSelected"),
        "true"
    );
    page.press("Home");
    page.wait_for("document.getElementById('sum').textContent.includes('the last hour')");
    page.press("Tab");
    assert_eq!(focused(), "chart");
    page.press("End");
    page.press("ArrowLeft");
    page.press("ArrowLeft");
    let read = page.text("read");
    assert!(
        read.contains("served 100 %, memory 1,79") && read.contains("of 2,048 MB"),
        "{read}"
    );
    page.press("Tab");
    page.press("Enter");
    page.wait_for("document.querySelectorAll('#table tbody tr').length > 40");
    let table = page.text("table");
    assert!(table.contains("25 %") && table.contains("1,537"), "{table}");
    // The hole is no line along the floor: the curve is cut, and begins anew.
    let pieces = page
        .value("document.querySelector('#chart .curve').getAttribute('d').split('M').length - 1");
    assert!(pieces.as_u64() >= Some(2), "{pieces}");
    page.close();
    kept.stop();
}

/// Where an element reaches beyond the window, if one does.
const TOO_WIDE: &str = "(document.documentElement.scrollWidth > innerWidth)
    ? [...document.querySelectorAll('body *')].filter(it => it.getBoundingClientRect().right > innerWidth + 1)
        .map(it => it.tagName + '#' + it.id).join() : ''";

/// Texts whose colour has too little contrast with what is behind them (WCAG 2.2, 1.4.3), and what is not labelled.
const HARD_TO_READ: &str = r#"(() => {
    const parts = colour => colour.match(/[\d.]+/g).map(Number);
    const light = colour => {
        const [r, g, b] = parts(colour).map(it => (it /= 255) <= .04045 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const behind = it => {
        for (; it; it = it.parentElement) {
            const colour = getComputedStyle(it).backgroundColor;
            if (parts(colour)[3] !== 0) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const bad = [];
    for (const it of document.querySelectorAll("body *")) {
        const own = [...it.childNodes].some(it => it.nodeType === 3 && it.data.trim());
        if (!own || !it.getClientRects().length) continue;
        const style = getComputedStyle(it), one = light(it instanceof SVGElement ? style.fill : style.color), other = light(behind(it));
        const contrast = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
        if (contrast < 4.5) bad.push(`${it.tagName} ${it.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    for (const it of document.querySelectorAll("button, summary, [tabindex='0'], section")) {
        const label = it.getAttribute("aria-label") || document.getElementById(it.getAttribute("aria-labelledby"))?.textContent || it.textContent;
        if (!label.trim()) bad.push(`${it.tagName} has no name`);
    }
    const ids = [...document.querySelectorAll("[id]")].map(it => it.id);
    if (new Set(ids).size !== ids.length) bad.push("an id twice");
    if (document.querySelectorAll("h1").length !== 1 || !document.documentElement.lang || !document.querySelector("main")) bad.push("no landmarks");
    return bad.join("; ");
})()"#;

#[test]
fn it_can_be_read_on_any_window_in_light_and_dark() {
    if !browser::is_there() {
        return;
    }
    let (listener, plan) = plan();
    write_past(&plan, 600);
    let long = "an_unusually_long_folder_name_that_breaks_nowhere".repeat(3);
    std::fs::create_dir(plan.state().join(&long)).expect("a folder");
    let config = plan.state().join(&long).join("openclaw.json");
    std::fs::write(&config, "{").expect("written");
    let plan = plan.env("OPENCLAW_CONFIG_PATH", config.to_str().expect("text"));
    let kept = plan.start();
    kept.wait_until_held();
    let page = Page::open(listener.port, 360, "light");
    page.wait_for(
        "document.querySelector('#chart .curve') && document.querySelector('#events li.day')",
    );
    assert!(page.text("why").contains("unusually_long"));
    for scheme in ["light", "dark"] {
        page.prefer(scheme);
        for width in [320, 360, 768, 1400] {
            page.resize(width, 700);
            assert_eq!(page.value(TOO_WIDE), "", "{width}");
        }
        assert_eq!(page.value(HARD_TO_READ), "", "{scheme}");
        let page_colour = page.value("getComputedStyle(document.body).backgroundColor");
        let is_dark = page_colour == "rgb(20, 23, 26)";
        assert_eq!(is_dark, scheme == "dark", "{page_colour}");
    }
    page.close();
    kept.stop();
}

#[test]
fn nothing_that_is_not_its_own_runs_in_it_or_frames_it() {
    if !browser::is_there() {
        return;
    }
    let (listener, _, kept, page) = ready();
    let policy = page.headers["content-security-policy"].as_str();
    assert!(policy.is_some_and(|it| it.starts_with("default-src 'none'; script-src 'self';")));
    for (header, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        for path in [
            "/",
            "/app.js",
            "/style.css",
            "/v1/status",
            "/v1/events",
            "/v1/history",
        ] {
            let answer = page_answer(listener, path, "localhost:9180");
            assert_eq!(answer.code, 200, "{path}");
            assert!(
                answer.head.contains(&format!("{header}: {value}")),
                "{path}: {}",
                answer.head
            );
        }
    }
    page.value(
        "window.blocked = []; addEventListener('securitypolicyviolation', it => blocked.push(it.effectiveDirective));
         const script = document.createElement('script'); script.textContent = 'window.ran = 1'; document.body.append(script);
         const image = new Image(); image.src = 'http://192.0.2.1/'; document.body.append(image); 0",
    );
    page.wait_for("blocked.length === 2");
    assert_eq!(page.value("window.ran ?? null"), Value::Null);
    assert!(!page.console().is_empty(), "the browser says so itself");
    kept.stop();
}

/// The answer to a browser that believes to talk to this host.
fn page_answer(listener: Listener, path: &str, host: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
    Answer::of(&listener.send(request.as_bytes()))
}

#[test]
fn a_web_site_whose_name_points_here_is_shown_nothing() {
    let (listener, plan) = plan();
    let kept = plan.start();
    kept.wait_until_ready();
    for path in [
        "/",
        "/app.js",
        "/v1/status",
        "/v1/events",
        "/v1/history",
        "/v1/incidents",
    ] {
        for host in [
            "evil.example",
            "evil.example:9180",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a b",
            "[::1",
            "",
        ] {
            let answer = page_answer(listener, path, host);
            assert!(
                matches!(answer.code, 400 | 403),
                "{path} for {host:?}: {answer:?}"
            );
        }
        for host in [
            "localhost:9180",
            "LOCALHOST",
            "127.0.0.1:9180",
            "[::1]:9180",
            "[fdaa:0:1::3]:9180",
            "app.internal:9180",
            "4d891.vm.app.internal",
            "app.flycast",
            "clawkeeper:9180",
            "gateway.default.svc.cluster.local",
        ] {
            assert_eq!(
                page_answer(listener, path, host).code,
                200,
                "{path} for {host:?}"
            );
        }
    }
    // Probes come by any name.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(page_answer(listener, path, "probe.example").code, 200);
    }
    kept.stop();
}

#[test]
fn the_history_outlives_clawkeeper() {
    let (_, plan) = plan();
    let kept = plan.start();
    kept.wait_until_ready();
    kept.stop();
    let kept = plan.start();
    kept.wait_until_boot_is_ready(1);
    kept.stop();
    // The minute that both ended in is part of it.
    let now = clawkeeper::core::time::WallMs(u64::from(minute_now() + 1) * 60_000);
    let seen = history::read(&plan.state(), clawkeeper::core::history::Span::Hour, now);
    let seen = seen.expect("it can be read");
    let starts: u16 = seen.iter().map(|it| it.starts).sum();
    assert_eq!(starts, 2, "{seen:?}");
}
