//! What clawkeeper answers to those who ask: one small HTTP server with two doors, on the loop's own thread.
//!
//! A TCP port that only reads (the page, `/livez`, `/readyz`, `/metrics`, `/v1/status`), and a Unix socket in the state
//! folder that takes requests as well (`POST /v1/restart`, `/v1/pause`, `/v1/resume`).
//! Every answer is made from what the loop itself hands over, so an answer proves that the loop turns.

mod control;
mod page;
mod routes;
mod server;
mod tcp;

pub use control::{Socket, answer as answer_at};
pub use tcp::Listening;

use super::launch::Launch;
use super::volume;
use crate::core::control::{Answer, Op, Peer};
use crate::core::status::Status;
use crate::core::volume::Space;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// The loop answers within microseconds unless something is very wrong.
const LOOP_TIME: Duration = Duration::from_secs(1);
/// A local file system answers within microseconds; a dead one never.
const SPACE_TIME: Duration = Duration::from_millis(300);

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
    /// Whoever reads files for the page waits for the one before.
    reading: Arc<Semaphore>,
}

impl Desk {
    /// The desk, and where the loop finds the questions.
    #[must_use]
    pub fn new(launch: Arc<Launch>) -> (Self, mpsc::Receiver<Question>) {
        // Each connection of either door has one at most.
        let (questions, receiver) = mpsc::channel(2 * server::CONNECTIONS);
        let desk = Self {
            questions,
            launch,
            space_is_busy: Arc::default(),
            reading: Arc::new(Semaphore::new(1)),
        };
        (desk, receiver)
    }

    async fn status(&self) -> Option<Status> {
        self.ask(Question::Status).await
    }

    async fn request(&self, op: Op, peer: Peer) -> Option<Answer> {
        self.ask(|reply| Question::Request { op, peer, reply })
            .await
    }

    /// `None` when the loop gives no answer.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.questions.send(question(reply)).await.ok()?;
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
}
