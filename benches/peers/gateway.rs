//! The least that a supervisor takes for a healthy gateway: three health paths over HTTP/1.1.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::child::die;

/// Answers until SIGTERM.
pub(crate) fn serve(port: u16) -> ! {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        die(1);
    };
    loop {
        // A caller that is gone or says nothing costs its own request only.
        if let Ok((stream, _)) = listener.accept() {
            let _ = answer(stream);
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = [0; 4096];
    let mut len = 0;
    while len < request.len() && !request[..len].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[len..])? {
            0 => return Ok(()),
            read => len += read,
        }
    }
    let (status, body) = match path(&request[..len]) {
        "/startupz" => ("200 OK", r#"{"ok":true,"status":"started"}"#),
        "/readyz" => ("200 OK", r#"{"ready":true}"#),
        "/healthz" | "/health" => ("200 OK", r#"{"ok":true,"status":"live"}"#),
        _ => ("404 Not Found", r#"{"ok":false}"#),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(answer.as_bytes())
}

fn path(request: &[u8]) -> &str {
    std::str::from_utf8(request)
        .ok()
        .and_then(|text| text.split(' ').nth(1))
        .unwrap_or("")
}
