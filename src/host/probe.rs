//! Asks the gateway over HTTP, from loopback, without proxy headers, one connection a question.

use crate::core::readiness::{HealthBody, ProbeOutcome, ProbeTarget};
use crate::core::time::Millis;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// A health answer is a few hundred bytes; a Control UI page is more, and not read to its end.
const BODY_MAX_BYTES: usize = 16 * 1024;

/// Asks once. Never fails: not answering is an answer.
pub async fn ask(address: IpAddr, port: u16, target: ProbeTarget, timeout: Millis) -> ProbeOutcome {
    let question = ask_without_limit(SocketAddr::new(address, port), target);
    tokio::time::timeout(timeout.to_duration(), question)
        .await
        .unwrap_or(ProbeOutcome::TimedOut)
}

/// A peer that takes the connection and then answers something that is not HTTP, as a TLS server does, is alive.
const NOT_HTTP: ProbeOutcome = ProbeOutcome::Answered {
    status: 0,
    body: None,
};

async fn ask_without_limit(address: SocketAddr, target: ProbeTarget) -> ProbeOutcome {
    match get(address, target.path()).await {
        Ok(Answer { status, body }) => ProbeOutcome::Answered {
            status,
            body: body.and_then(|body| parse(&body)),
        },
        Err(NoAnswer::Refused) => ProbeOutcome::Refused,
        Err(NoAnswer::NotHttp) => NOT_HTTP,
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body; `None` when it is too long or was cut off.
    pub body: Option<Bytes>,
}

/// Why there is no HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// There is no connection to be had.
    #[error("nobody listens there")]
    Refused,
    /// Something else than HTTP came back, or nothing before the connection was closed.
    #[error("what listens there does not speak HTTP")]
    NotHttp,
}

/// A runtime to ask with, for a command that does nothing else.
///
/// # Errors
/// The system refuses an epoll descriptor.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

/// Asks for a path once, without a limit of time.
///
/// # Errors
/// Why there is no answer.
pub async fn get(address: SocketAddr, path: &'static str) -> Result<Answer, NoAnswer> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|_| NoAnswer::Refused)?;
    exchange(stream, &address.to_string(), Method::GET, path).await
}

/// Asks once over a connection, without a limit of time.
///
/// # Errors
/// Why there is no answer.
pub async fn exchange(
    stream: TcpStream,
    host: &str,
    method: Method,
    path: &str,
) -> Result<Answer, NoAnswer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| NoAnswer::NotHttp)?;
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, host)
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a request of our own is well-formed");
    // The connection is driven beside the request and ends with it.
    let connection = tokio::spawn(connection);
    let answer = match sender.send_request(request).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), BODY_MAX_BYTES)
                .collect()
                .await;
            Ok(Answer {
                status,
                body: body.ok().map(http_body_util::Collected::to_bytes),
            })
        }
        Err(_) => Err(NoAnswer::NotHttp),
    };
    connection.abort();
    answer
}

/// Only a JSON object counts: older versions answer any path with a page.
fn parse(body: &[u8]) -> Option<HealthBody> {
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// Serves one connection with the given bytes, then closes it.
    fn answer_once(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 512];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        });
        port
    }

    fn ask_blocking(port: u16, timeout: Millis) -> ProbeOutcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(ask(
            [127, 0, 0, 1].into(),
            port,
            ProbeTarget::Startupz,
            timeout,
        ))
    }

    #[test]
    fn json_is_read_and_a_page_is_an_answer_without_a_body() {
        let json = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 53\r\n\r\n{\"ok\":false,\"pendingReason\":\"startup-sidecars\",\"x\":1}";
        let ProbeOutcome::Answered {
            status: 503,
            body: Some(body),
        } = ask_blocking(answer_once(json), Millis(2000))
        else {
            panic!("it answered with JSON")
        };
        assert_eq!(
            (body.ok, body.pending_reason.as_deref()),
            (Some(false), Some("startup-sidecars"))
        );
        let page = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
        assert_eq!(
            ask_blocking(answer_once(page), Millis(2000)),
            ProbeOutcome::Answered {
                status: 200,
                body: None
            }
        );
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_alive() {
        assert_eq!(
            ask_blocking(answer_once(b"\x15\x03\x01\x00\x02\x02\x46"), Millis(2000)),
            NOT_HTTP
        );
    }

    #[test]
    fn nobody_there_is_refused_and_a_silent_listener_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(ask_blocking(port, Millis(50)), ProbeOutcome::TimedOut);
        drop(listener);
        assert_eq!(ask_blocking(port, Millis(2000)), ProbeOutcome::Refused);
    }
}
