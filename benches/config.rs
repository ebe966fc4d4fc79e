//! From the bytes of an edited config to our own verdict on it, in microseconds: `cargo bench --bench config`.
//!
//! The aim is 10 ms for a config of up to 100 KB; the gateway's own validator takes a hundred times that.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use clawkeeper::gateway::config::{content_hash, diff, examine, masked, parse};
use clawkeeper::gateway::{self, Command, Env, Launch};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn main() {
    let argv = gateway::default_command();
    let Command::Gateway(command) = gateway::recognise(&argv) else {
        unreachable!("the default command is a gateway's")
    };
    for kilobytes in [20, 100] {
        let text = config(kilobytes * 1024);
        let verdict = |text: &str| {
            let hash = content_hash(text.as_bytes());
            let parsed = parse(text.as_bytes()).expect("it is sound");
            let launch = Launch {
                command: &command,
                env: Env::new(&|_| None),
                config: Some(&parsed.value),
                version: None,
            };
            black_box((hash, examine(Some(&parsed), launch, None)));
        };
        report(kilobytes, "edit to verdict", || verdict(&text));
        let broken = &text[..text.len() - 2];
        report(kilobytes, "edit to error with its line", || {
            black_box(parse(broken.as_bytes()).expect_err("it is cut short"));
        });
        let parsed = parse(text.as_bytes()).expect("it is sound").value;
        let mut other = parsed.clone();
        other["gateway"]["port"] = 1.into();
        report(kilobytes, "masked", || drop(black_box(masked(&parsed))));
        report(kilobytes, "difference", || {
            drop(black_box(diff(&parsed, &other)));
        });
    }
}

fn report(kilobytes: usize, what: &str, work: impl Fn()) {
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    took.sort();
    let us = |index: usize| took[index].as_micros();
    println!(
        "{kilobytes:>4} KB  {what:<28} least {:>6} us  median {:>6} us  99% {:>6} us",
        us(0),
        us(ROUNDS / 2),
        us(ROUNDS * 99 / 100)
    );
}

/// A config as people have it, comments and all, repeated to a size.
fn config(bytes: usize) -> String {
    let mut text = String::from(
        "// openclaw.json\n{\n  gateway: { mode: 'local', port: 3000, bind: 'lan', auth: { mode: 'token', token: '${OPENCLAW_GATEWAY_TOKEN}' } },\n  agents: {\n    defaults: { model: { primary: 'anthropic/claude-sonnet-4-5', fallbacks: ['openai/gpt-5'] }, workspace: '/data/workspace' },\n    list: [\n",
    );
    let mut number = 0;
    while text.len() < bytes {
        number += 1;
        text.push_str(&format!(
            "      // agent {number}: answers in one room\n      {{ id: 'agent-{number}', name: \"Agent {number}\", identity: {{ emoji: '\\ud83e\\udd9e', theme: 'plain, short' }},\n        tools: {{ allow: ['read', 'exec', 'web_search'], deny: [] }}, maxTokens: {}, sandbox: {{ mode: 'off' }}, /* more to come */ }},\n",
            4096 + number
        ));
    }
    text.push_str("    ],\n  },\n}\n");
    text
}
