//! The health listener: `/livez`, `/readyz`, `/metrics`. Read-only, on the loop's own thread.
//!
//! Every answer is made from what the loop itself hands over, so an answer proves that the loop turns.
//! What a client may cost is bounded: [`CONNECTIONS`] at once, one request each, small, and [`WHOLE_TIME`] in all;
//! between two of its steps the loop has its turn, because it is the runtime's main future.
#![allow(
    clippy::disallowed_methods,
    reason = "this module waits for a port to be free"
)]

use super::clock;
use super::launch::Launch;
use super::log;
use super::volume;
use crate::core::control::{Answer, Op, Peer};
use crate::core::status::Status;
use crate::core::volume::Space;
use crate::gateway::Version;
use crate::render::{self, LogLine, Surroundings};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt,
    socket, sockopt,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Open at once; a further one takes the place of the oldest.
const CONNECTIONS: usize = 16;
/// A connection this young keeps its place: a request follows its handshake at once. Sixteen places for so long
/// are 800 turns a second, so that a hundred clients that never finish cost a probe a tenth of a second.
const YOUNG: Duration = Duration::from_millis(20);
/// Out of descriptors: until then some have been closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(250);
/// For the head of a request to arrive.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// From accept to the last byte of the answer.
const WHOLE_TIME: Duration = Duration::from_secs(5);
/// The smallest that hyper allows; a probe sends some hundred bytes.
const HEAD_MAX_BYTES: usize = 8 * 1024;
const HEADERS: usize = 32;
/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 256;
/// The loop answers within microseconds unless something is very wrong.
const LOOP_TIME: Duration = Duration::from_secs(1);
/// A local file system answers within microseconds; a dead one never.
const SPACE_TIME: Duration = Duration::from_millis(300);

/// An earlier owner of the port may be about to end: only a second failure is worth a line.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LATER_RETRY: Duration = Duration::from_secs(10);

/// The loop, which frees the port, has more to do.
const GIVE_WAY_TIME: Duration = Duration::from_secs(1);

const FIX: &str = "set CLAWKEEPER_HEALTH_LISTEN to another ADDRESS:PORT, or to off";

/// A question to the loop. Whoever asked may have gone when the answer comes.
#[derive(Debug)]
pub enum Question {
    /// How things stand.
    Status(oneshot::Sender<Status>),
    /// Something is to be done.
    Request {
        /// What.
        op: Op,
        /// Who asks.
        peer: Peer,
        /// For the answer.
        reply: oneshot::Sender<Answer>,
    },
}

/// What an answer is made from.
#[derive(Debug, Clone)]
pub struct Desk {
    questions: mpsc::Sender<Question>,
    launch: Arc<Launch>,
    /// True while a question about the room on the volume has not come back.
    space_is_busy: Arc<AtomicBool>,
}

impl Desk {
    /// The desk, and where the loop finds the questions.
    #[must_use]
    pub fn new(launch: Arc<Launch>) -> (Self, mpsc::Receiver<Question>) {
        // Each connection has one at most.
        let (questions, receiver) = mpsc::channel(CONNECTIONS);
        let desk = Self {
            questions,
            launch,
            space_is_busy: Arc::default(),
        };
        (desk, receiver)
    }

    async fn status(&self) -> Option<Status> {
        let (question, answer) = oneshot::channel();
        let ask = async {
            self.questions.send(Question::Status(question)).await.ok()?;
            answer.await.ok()
        };
        timeout(LOOP_TIME, ask).await.ok().flatten()
    }

    /// As it is now, unless the file system takes its time.
    async fn space(&self) -> Option<Space> {
        if self.space_is_busy.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (launch, busy) = (Arc::clone(&self.launch), Arc::clone(&self.space_is_busy));
        let look = tokio::task::spawn_blocking(move || {
            let space = volume::room(&launch.state_dir);
            busy.store(false, Ordering::Release);
            space
        });
        timeout(SPACE_TIME, look).await.ok()?.ok()?
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/livez" | "/readyz" | "/metrics") {
            return text(StatusCode::NOT_FOUND, render::PATHS);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let methods = hyper::header::HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, methods);
            return answer;
        }
        if path == "/" {
            return text(StatusCode::OK, render::PATHS);
        }
        let Some(status) = self.status().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, render::NOT_LIVE);
        };
        match path {
            "/livez" => text(StatusCode::OK, render::LIVE),
            "/readyz" => {
                let code = if status.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let body = render::readiness(&status, clock::wall());
                respond(code, "application/json", body)
            }
            _ => {
                let around = Surroundings {
                    gateway_version: self.launch.version.as_ref().map(Version::to_string),
                    space: self.space().await,
                };
                let body = render::metrics(&status, &around, clock::wall());
                respond(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    body,
                )
            }
        }
    }
}

fn text(code: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(code, "text/plain; charset=utf-8", body)
}

fn respond(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    let value = hyper::header::HeaderValue::from_static;
    headers.insert(CONTENT_TYPE, value(kind));
    headers.insert(CACHE_CONTROL, value("no-store"));
    answer
}

/// The listener, for the supervisor.
#[derive(Debug, Clone)]
pub struct Listening {
    address: SocketAddr,
    task: AbortHandle,
}

impl Listening {
    /// Answers until clawkeeper ends. To be called within the runtime.
    #[must_use]
    pub fn start(address: SocketAddr, desk: Desk) -> Self {
        let task = tokio::spawn(serve(address, desk)).abort_handle();
        Self { address, task }
    }

    /// Gives its port up if the gateway is to have it: whoever sets both to one port means the gateway.
    /// Waits until it is free, so not to be called from the loop.
    pub fn give_way(&self, port: u16) {
        if self.address.port() != port || self.task.is_finished() {
            return;
        }
        log::emit(
            &LogLine::warn("health listener is off: the gateway is to have its port")
                .field("address", self.address)
                .field("fix", FIX),
        );
        self.task.abort();
        let until = Instant::now() + GIVE_WAY_TIME;
        while !self.task.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A port that cannot be had is said once and tried again.
async fn serve(address: SocketAddr, desk: Desk) {
    let listener = listener(address).await;
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.make_room().await;
                connections.add(stream, desk.clone());
            }
            // Out of descriptors, or the client has gone already: neither gets better by asking at once.
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Those that are open, oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<(Instant, AbortHandle)>,
}

impl Connections {
    fn add(&mut self, stream: TcpStream, desk: Desk) {
        let task = self.tasks.spawn(async move {
            // Too slow: closed without an answer.
            let _ = timeout(WHOLE_TIME, one_request(stream, desk)).await;
        });
        self.open.push_back((Instant::now(), task));
    }

    /// Waits until one more may be open; whoever has said nothing for a while makes room.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.open.retain(|(_, task)| !task.is_finished());
            let oldest = match self.open.front() {
                Some(oldest) if self.open.len() >= CONNECTIONS => oldest,
                Some(_) | None => return,
            };
            let until = oldest.0 + YOUNG;
            if Instant::now() >= until {
                oldest.1.abort();
                self.open.pop_front();
                return;
            }
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

/// One request a connection: a client that wants more connects again, behind the others.
async fn one_request(stream: TcpStream, desk: Desk) {
    let service = service_fn(|request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    // What goes wrong with a connection is the client's affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn listener(address: SocketAddr) -> TcpListener {
    let mut failures = 0_u32;
    loop {
        let error = match listen_on(address) {
            Ok(listener) => {
                if failures > 1 {
                    log::emit(&LogLine::info("health listener is up").field("address", address));
                }
                return listener;
            }
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        if failures == 2 {
            log::emit(
                &LogLine::warn(
                    "health listener cannot have its address; the gateway is unaffected",
                )
                .field("address", address)
                .field("why", error)
                .field(
                    "fix",
                    "set CLAWKEEPER_HEALTH_LISTEN to another ADDRESS:PORT, or to off",
                ),
            );
        }
        let pause = if failures == 1 {
            FIRST_RETRY
        } else {
            LATER_RETRY
        };
        sleep(pause).await;
    }
}

/// `[::]` takes IPv4 as well, whatever the kernel's default, and is `0.0.0.0` where there is no IPv6.
fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    match listen_on_family(address) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if is_any_v6(address) => {
            listen_on_family((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
    .map_err(std::io::Error::from)
    .and_then(TcpListener::from_std)
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn listen_on_family(address: SocketAddr) -> Result<std::net::TcpListener, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // A port whose last connections are still closing down can be had at once.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if is_any_v6(address) {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    match address {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?,
    }
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}
