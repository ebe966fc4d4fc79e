//! The health listener's port: read-only, and given up when the gateway wants it.
#![allow(
    clippy::disallowed_methods,
    reason = "this module waits for a port to be free"
)]

use super::Desk;
use super::routes::Door;
use super::server::{ACCEPT_RETRY, Connections};
use crate::host::log;
use crate::render::LogLine;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt,
    socket, sockopt,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 256;
/// An earlier owner of the port may be about to end: only a second failure is worth a line.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LATER_RETRY: Duration = Duration::from_secs(10);
/// The loop, which frees the port, has more to do.
const GIVE_WAY_TIME: Duration = Duration::from_secs(1);

const FIX: &str = "set CLAWKEEPER_HEALTH_LISTEN to another ADDRESS:PORT, or to off";

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
                connections.add(stream, Door::Port, desk.clone());
            }
            // Out of descriptors, or the client has gone already: neither gets better by asking at once.
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
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
