//! The control socket: `<state>/clawkeeper-control/control.sock`, for root and the gateway's user.
//!
//! The folder belongs to us and nobody else may write in it, so that nobody can put a socket of his own in its place;
//! who connects is asked of the kernel (`SO_PEERCRED`, unix(7)), not of him.
#![allow(
    clippy::disallowed_methods,
    reason = "this module makes and opens the control socket"
)]

use super::Desk;
use super::routes::Door;
use super::server::{ACCEPT_RETRY, Connections};
use crate::core::control::Peer;
use crate::host::folder::{FileError, Folder, errno_of, is_kind};
use crate::host::log;
use crate::render::LogLine;
use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat};
use nix::unistd::{Gid, fchown, geteuid};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

const FOLDER: &str = "clawkeeper-control";
const SOCKET: &str = "control.sock";
/// From one try to open it to the next.
const RETRY: Duration = Duration::from_secs(10);

/// Where the socket stands, or is to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    state_dir: PathBuf,
}

/// The two users beside root who may ask: clawkeeper's own and the gateway's.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    us: u32,
    gateway: u32,
}

impl Allowed {
    const fn has(self, uid: u32) -> bool {
        uid == 0 || uid == self.us || uid == self.gateway
    }
}

/// Answers at the socket until clawkeeper ends. To be called within the runtime, by whoever holds the instance lock:
/// a socket that stands there is a dead clawkeeper's.
pub fn answer(socket: Socket, desk: Desk) {
    let allowed = Allowed {
        us: geteuid().as_raw(),
        gateway: desk.launch.account.uid,
    };
    let gateway = (desk.launch.account.uid, desk.launch.account.gid);
    tokio::spawn(async move {
        if let Some(listener) = listener(socket, gateway).await {
            serve(&listener, allowed, desk).await;
        }
    });
}

/// A socket that cannot be had is said once and tried again: a volume is mended while clawkeeper holds. `None` when
/// the runtime ends.
async fn listener(socket: Socket, gateway: (u32, u32)) -> Option<UnixListener> {
    let mut was_said = false;
    loop {
        let socket = socket.clone();
        // A dead disk hangs whoever touches it.
        let opened = tokio::task::spawn_blocking(move || open(&socket, gateway)).await;
        match opened.ok()? {
            Ok(listener) => {
                if was_said {
                    log::emit(&LogLine::info("control socket is up"));
                }
                return Some(listener);
            }
            Err(error) if !was_said => {
                was_said = true;
                log::emit(
                    &LogLine::warn(
                        "no control socket: status, restart and pause cannot reach clawkeeper",
                    )
                    .field("why", error),
                );
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

fn open(socket: &Socket, gateway: (u32, u32)) -> Result<UnixListener, FileError> {
    let folder = own_folder(&Folder::open(&socket.state_dir)?, gateway)?;
    let fail = |operation, errno| FileError {
        operation,
        path: folder.path().join(SOCKET),
        errno,
    };
    if folder.stat_of(OsStr::new(SOCKET)).is_ok() {
        folder.remove(OsStr::new(SOCKET))?;
    }
    let bind = || {
        let listener = StdListener::bind(within(&folder))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let listener = bind().map_err(|error| fail("bind", errno_of(&error)))?;
    // Who may reach it is a matter of its folder.
    let mode = Mode::from_bits_truncate(0o666);
    fchmodat(folder.fd(), SOCKET, mode, FchmodatFlags::FollowSymlink)
        .map_err(|errno| fail("change the mode of", errno))?;
    Ok(listener)
}

/// Ours, and to be entered by the gateway's group beside us. The gateway's own (as after `chown -R`) is made anew.
fn own_folder(state: &Folder, (uid, gid): (u32, u32)) -> Result<Folder, FileError> {
    let (name, us) = (OsStr::new(FOLDER), geteuid().as_raw());
    let mut folder = state.child_or_create(name, 0o700)?;
    let fail = |operation, errno| FileError {
        operation,
        path: state.path().join(FOLDER),
        errno,
    };
    // With more in it than a socket it may be our private folder, which the gateway can have moved here.
    let is_for_this = folder.names(2)?.iter().all(|name| name == SOCKET);
    if is_for_this && folder.stat()?.st_uid == uid && uid != us {
        // It may be empty.
        let _ = folder.remove(OsStr::new(SOCKET));
        state.remove(name)?;
        folder = state.child_or_create(name, 0o700)?;
    }
    if !is_for_this || folder.stat()?.st_uid != us {
        return Err(fail("trust", Errno::EPERM));
    }
    let mode = if geteuid().is_root() {
        fchown(folder.fd(), None, Some(Gid::from_raw(gid)))
            .map_err(|errno| fail("change the group of", errno))?;
        0o750
    } else {
        0o700
    };
    fchmod(folder.fd(), Mode::from_bits_truncate(mode))
        .map_err(|errno| fail("change the mode of", errno))?;
    Ok(folder)
}

/// A path through the open folder: of any length, and not to be led elsewhere (`sun_path` takes 107 bytes).
fn within(folder: &Folder) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(folder.fd().as_raw_fd().to_string())
        .join(SOCKET)
}

async fn serve(listener: &UnixListener, allowed: Allowed, desk: Desk) {
    let mut connections = Connections::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_RETRY).await;
            continue;
        };
        let Some(peer) = peer(&stream).filter(|peer| allowed.has(peer.uid)) else {
            continue;
        };
        if let Ok(stream) = as_stream(stream.into_std()) {
            connections.make_room().await;
            connections.add(stream, Door::Control(peer), desk.clone());
        }
    }
}

fn peer(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    Some(Peer {
        pid: credentials.pid().unwrap_or(0),
        uid: credentials.uid(),
    })
}

/// A stream of one family is read, written and polled like one of the other, and one type of connection is half the code.
fn as_stream(stream: std::io::Result<StdStream>) -> std::io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(stream?)))
}

impl Socket {
    /// The socket of a state folder.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
        }
    }

    /// Connects to the clawkeeper that answers there.
    ///
    /// # Errors
    /// `ENOENT` and `ECONNREFUSED` where none does.
    pub fn connect(&self) -> Result<TcpStream, FileError> {
        let folder = Folder::open(&self.state_dir)?.child(OsStr::new(FOLDER))?;
        let fail = |errno| FileError {
            operation: "connect to",
            path: folder.path().join(SOCKET),
            errno,
        };
        let stat = folder.stat_of(OsStr::new(SOCKET))?;
        if !is_kind(&stat, SFlag::S_IFSOCK) {
            return Err(fail(Errno::ENOTSOCK));
        }
        let connect = || {
            let stream = StdStream::connect(within(&folder))?;
            stream.set_nonblocking(true)?;
            as_stream(Ok(stream))
        };
        connect().map_err(|error| fail(errno_of(&error)))
    }
}
