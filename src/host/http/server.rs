//! The connections of both doors. What a client may cost is bounded: [`CONNECTIONS`] at once, one request each, small,
//! and [`WHOLE_TIME`] in all; between two of its steps the loop has its turn, because it is the runtime's main future.

use super::Desk;
use super::routes::{self, Door};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Out of descriptors: until then some have been closed.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(250);
/// Open at once; a further one takes the place of the oldest.
pub(super) const CONNECTIONS: usize = 16;
/// A connection this young keeps its place: a request follows its handshake at once. Sixteen places for so long
/// are 800 turns a second, so that a hundred clients that never finish cost a probe a tenth of a second.
const YOUNG: Duration = Duration::from_millis(20);
/// For the head of a request to arrive.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// From accept to the last byte of the answer.
const WHOLE_TIME: Duration = Duration::from_secs(5);
/// The smallest that hyper allows; a probe sends some hundred bytes.
const HEAD_MAX_BYTES: usize = 8 * 1024;
const HEADERS: usize = 32;

/// Those that are open, oldest first.
#[derive(Default)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    open: VecDeque<(Instant, AbortHandle)>,
}

impl Connections {
    pub(super) fn add(&mut self, stream: TcpStream, door: Door, desk: Desk) {
        let task = self.tasks.spawn(async move {
            // Too slow: closed without an answer.
            let _ = timeout(WHOLE_TIME, one_request(stream, door, desk)).await;
        });
        self.open.push_back((Instant::now(), task));
    }

    /// Waits until one more may be open; whoever has said nothing for a while makes room.
    pub(super) async fn make_room(&mut self) {
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
async fn one_request(stream: TcpStream, door: Door, desk: Desk) {
    let service = service_fn(|request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(routes::answer(&desk, door, &request).await) }
    });
    // What goes wrong with a connection is the client's affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        // Whoever has said all that he has to say may close his half: nc and socat do.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
