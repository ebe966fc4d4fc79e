//! A gateway that does what it is told: it speaks like the real one (2026.9.6) at the boundary that
//! clawkeeper sees, and fails on demand.
//!
//! `fake-gateway gateway --port P [flags]`; the flags are the fields of [`script::Script`].
//! It owns no behaviour of OpenClaw beyond that boundary: no channels, no config, no state but its locks.

#![allow(
    clippy::disallowed_methods,
    reason = "a test tool that reads the clock, files and the environment"
)]

mod config;
mod deeds;
mod script;
mod server;

use clap::Parser as _;
use clawkeeper::host::early::SignalSet;
use nix::libc;
use script::{End, Script};
use server::{DRAINING, HUNG, READY, STARTING, STATE};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often it looks at its script.
const TICK: Duration = Duration::from_millis(5);

fn main() {
    let script = Script::parse();
    let stops = SignalSet::of(&[libc::SIGTERM, libc::SIGINT]);
    stops.block();
    if script.role == "helper" {
        return deeds::help(&script, stops);
    }
    let began = Instant::now();
    script.note("boot");
    say("loading configuration…");
    if script.locks {
        deeds::take_locks(&script);
    }
    say("starting...");
    let ends_by_itself = script
        .only_first
        .is_none_or(|first| script.boots() <= first);
    let mut life = Life {
        end: script.end.clone().filter(|_| ends_by_itself),
        said_at: began,
        began,
        term_at: None,
        listens: false,
        config: config::Config::default(),
    };
    if script.helper || script.stubborn_helper || script.eating_helper.is_some() {
        deeds::start_helper(&script);
    }
    loop {
        life.look(&script);
        if stops.wait(Some(TICK)).is_some() {
            script.note("term");
            if !script.ignore_term {
                say("signal SIGTERM received");
                STATE.store(DRAINING, Ordering::Relaxed);
                life.term_at.get_or_insert_with(Instant::now);
            }
        }
    }
}

struct Life {
    began: Instant,
    said_at: Instant,
    term_at: Option<Instant>,
    listens: bool,
    config: config::Config,
    end: Option<End>,
}

impl Life {
    /// Does what is due.
    fn look(&mut self, script: &Script) {
        let age = self.began.elapsed();
        if self
            .term_at
            .is_some_and(|asked| asked.elapsed() >= script.drain)
        {
            deeds::remove_locks(script);
            script.note("drained");
            std::process::exit(0);
        }
        if age >= script.end_after
            && let Some(end) = self.end.take()
        {
            script.note("end");
            end.happen();
        }
        let hangs = script.hang_after.is_some_and(|at| age >= at)
            || script.hang_when.as_deref().is_some_and(Path::exists);
        if hangs {
            STATE.store(HUNG, Ordering::Relaxed);
            script.note("hang");
            loop {
                std::thread::park();
            }
        }
        if self.term_at.is_none()
            && let Some(reload) = script.reload
            && self.config.look(reload)
        {
            std::process::exit(0);
        }
        if STATE.load(Ordering::Relaxed) != STARTING {
            return;
        }
        if !self.listens && age >= script.listen {
            self.listens = true;
            server::listen(script);
        }
        if self.listens && script.ready.is_some_and(|at| age >= at) {
            STATE.store(READY, Ordering::Relaxed);
            if !script.old {
                say("ready");
            }
            script.note("ready");
            deeds::run_errands(script);
        } else if script
            .progress_every
            .is_some_and(|every| self.said_at.elapsed() >= every)
        {
            self.said_at = Instant::now();
            say("starting channels and sidecars...");
        }
    }
}

/// A log line as 2026.9.6 prints it without colours.
fn say(text: &str) {
    println!("2026-11-20T04:14:16.284+00:00 [gateway] {text}");
}
