//! Brings signals in, with whoever sent them. Decides nothing about them.

use super::{early, log};
use crate::core::event::{Event, Request};
use crate::render::LogLine;
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use std::os::unix::net::UnixStream as StdStream;
use tokio::net::UnixStream;

const HANDLED: [i32; 7] = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// What is waiting.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Some child changed its state.
    pub child: bool,
    /// Signals the core decides about.
    pub events: Vec<Event>,
}

/// The signals of this process, as a stream for the loop.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
}

impl Signals {
    /// Sets the handlers up and lets signals in that were blocked since before `main`.
    pub fn open() -> std::io::Result<Self> {
        let (read, write) = StdStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let read = UnixStream::from_std(read)?;
        let delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), HANDLED)?;
        // SAFETY: ignoring SIGPIPE touches no memory; a log reader that is gone must not end us.
        unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigIgn) }
            .map_err(std::io::Error::from)?;
        early::accept_only(&HANDLED);
        Ok(Self { delivery })
    }

    /// Waits for any.
    pub async fn wait(&mut self) -> Arrived {
        loop {
            // The stream lives as long as we do, so it cannot fail.
            let _ = self.delivery.get_read().readable().await;
            let mut buffer = [0; 256];
            while matches!(self.delivery.get_read().try_read(&mut buffer), Ok(count) if count == buffer.len())
            {
            }
            let arrived = self.take();
            if arrived.child || !arrived.events.is_empty() {
                return arrived;
            }
        }
    }

    fn take(&mut self) -> Arrived {
        let mut arrived = Arrived::default();
        for origin in self.delivery.pending() {
            let name = Signal::try_from(origin.signal).map_or("a signal", Signal::as_str);
            let request = match origin.signal {
                SIGCHLD => {
                    arrived.child = true;
                    continue;
                }
                // Some versions of the gateway restart at one of them, others die or open a debugger.
                SIGUSR1 | SIGUSR2 => {
                    let ignored = LogLine::info("nothing is done at this signal");
                    let restart = "clawkeeper restart";
                    log::emit(&ignored.field("signal", name).field("to_restart", restart));
                    continue;
                }
                SIGHUP => Request::Look,
                _ => Request::Stop,
            };
            let sender = origin
                .process
                .map(|process| process.pid)
                .filter(|pid| *pid > 0);
            arrived.events.push(Event::SignalReceived {
                signal: request,
                name: name.to_owned(),
                sender,
            });
        }
        arrived
    }
}
