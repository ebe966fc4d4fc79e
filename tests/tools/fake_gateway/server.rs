//! How the fake gateway answers over HTTP.

use super::say;
use super::script::Script;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) const STARTING: u8 = 0;
pub(crate) const READY: u8 = 1;
pub(crate) const DRAINING: u8 = 2;
pub(crate) const HUNG: u8 = 3;

/// What the server answers by.
pub(crate) static STATE: AtomicU8 = AtomicU8::new(STARTING);

pub(crate) fn listen(script: &Script) {
    let address = if script.bind == "lan" {
        "0.0.0.0"
    } else {
        "127.0.0.1"
    };
    let (port, old) = (script.port, script.old);
    let Ok(listener) = TcpListener::bind((address, port)) else {
        eprintln!("Error: listen EADDRINUSE: address already in use {address}:{port}");
        std::process::exit(1);
    };
    if old {
        let us = std::process::id();
        say(&format!("listening on ws://{address}:{port} (PID {us})"));
    } else {
        say("http server listening (0 plugins, 0.1s)");
    }
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            while STATE.load(Ordering::Relaxed) == HUNG {
                std::thread::park();
            }
            if let Ok(stream) = stream {
                // A client that left has its own reasons.
                let _ = answer(stream, old);
            }
        }
    });
}

pub(crate) fn answer(mut stream: TcpStream, old: bool) -> std::io::Result<()> {
    let mut request = [0; 1024];
    let read = stream.read(&mut request)?;
    let request = String::from_utf8_lossy(&request[..read]);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let state = STATE.load(Ordering::Relaxed);
    let ready = state == READY;
    let code = if ready {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let (code, body) = match path {
        _ if old => ("200 OK", "<!doctype html><title>OpenClaw Control</title>"),
        "/healthz" | "/health" => ("200 OK", r#"{"ok":true,"status":"live"}"#),
        "/startupz" if ready => (code, r#"{"ok":true,"status":"started"}"#),
        "/startupz" if state == DRAINING => (code, r#"{"ok":false,"status":"draining"}"#),
        "/startupz" => (
            code,
            r#"{"ok":false,"status":"starting","pendingReason":"startup-sidecars"}"#,
        ),
        "/readyz" if ready => (code, r#"{"ready":true,"failing":[]}"#),
        "/readyz" => (code, r#"{"ready":false,"failing":["startup-sidecars"]}"#),
        _ => ("200 OK", "<!doctype html><title>OpenClaw Control</title>"),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
