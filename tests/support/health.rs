//! A probe of clawkeeper's health listener that shares no code with it: plain bytes on a socket.

use super::keeper::{Plan, free_port};
use super::{PATIENCE, poll_until};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Where a clawkeeper under test answers.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) port: u16,
}

/// An answer, taken apart by its blank line.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self { port: free_port() }
    }

    /// The plan with this listener.
    pub(crate) fn on(self, plan: Plan) -> Plan {
        plan.env(
            "CLAWKEEPER_HEALTH_LISTEN",
            &format!("127.0.0.1:{}", self.port),
        )
    }

    /// Opens a connection, as soon as there is a listener.
    pub(crate) fn connect(self) -> TcpStream {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = poll_until(PATIENCE, "the health listener", || {
            TcpStream::connect_timeout(&address, PATIENCE)
        });
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends bytes and reads all that comes back; an abrupt end counts as an end.
    pub(crate) fn send(self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // It may have closed already, by what came first.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Asks for a path.
    pub(crate) fn get(self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        Answer::of(&self.send(request.as_bytes()))
    }

    /// Asks `/readyz` until it names this phase.
    pub(crate) fn wait_for(self, phase: &str) -> Answer {
        self.wait_until(phase, |answer| answer.json()["phase"] == phase)
    }

    /// Asks `/readyz` until the answer fits.
    pub(crate) fn wait_until(self, what: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
        poll_until(Duration::from_secs(60), what, || {
            let answer = self.get("/readyz");
            if fits(&answer) {
                Ok(answer)
            } else {
                Err(answer)
            }
        })
    }
}

impl Answer {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Self {
            code: code.unwrap_or_else(|| panic!("no status: {head:?}")),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What a command of clawkeeper said, in one line, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) line: String,
}

/// Runs a command of clawkeeper in the surroundings of a plan.
pub(crate) fn ask(plan: &Plan, args: &[&str]) -> Said {
    let output = plan.ask(args.iter().copied());
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.strip_suffix('\n').unwrap_or(&text);
    assert!(!line.contains('\n'), "one line: {text}");
    Said {
        code: output.status.code().expect("it returned"),
        line: line.to_owned(),
    }
}
