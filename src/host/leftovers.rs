//! Finds processes an earlier gateway left behind, and ends them.
#![allow(
    clippy::disallowed_methods,
    reason = "this module waits for processes to end"
)]

use super::launch::{Launch, state_dir_of};
use super::proc::{ListeningSocket, Proc, Stat};
use super::state::ChildRecord;
use crate::core::leftovers::{ProcessFacts, SameFolder};
use crate::gateway::{self, Command, GatewayCommand};
use crate::settings::MARK;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the gateway calls itself; the kernel keeps 15 characters of it.
const TITLE: &str = "openclaw-gateway";

/// Programs that start services as their own children, also as process 1 of a container. Outside of containers it is
/// taken for one whatever it is called; in a container it is an init that adopts orphans only.
const SERVICE_MANAGERS: [&str; 3] = ["systemd", "supervisord", "dinit"];

/// From SIGTERM to SIGKILL for a process that nobody waits for any more.
pub const GRACE: Duration = Duration::from_secs(5);
/// A killed process that is still there after this hangs in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Threads of ours, and who else starts now, take fewer pids than this before the gateway gets its own.
const PIDS_NEARBY: i32 = 32;

/// Sees to it that the next process does not get this pid, which a gateway had that is gone.
///
/// A machine and a container boot alike every time, and the gateway tells processes apart by pid and start tick
/// (10 ms). One that gets both of the one that lost its power takes itself for that one, and does not start until the
/// lease that it finds in its own name has run out (2026.9.6).
pub fn pass_over(proc: &Proc, pid: i32) {
    let last = proc.last_pid().unwrap_or(pid);
    if pid.saturating_sub(last) > PIDS_NEARBY {
        return;
    }
    for _ in last..pid {
        // A thread takes a number as a process does.
        let thread = std::thread::Builder::new().spawn(|| {});
        let _ = thread.map(std::thread::JoinHandle::join);
    }
}

/// Whether a process is a gateway, by its title or its command line.
#[must_use]
pub fn is_gateway(proc: &Proc, pid: i32) -> bool {
    let argv = proc.command_line(pid);
    is_gateway_line(&argv)
}

fn is_gateway_line(argv: &[OsString]) -> bool {
    let titled = argv
        .first()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.trim_end() == TITLE);
    titled || matches!(gateway::recognise(argv), Command::Gateway(_))
}

/// Whether any gateway runs that works on this state folder, or may.
#[must_use]
pub fn any_gateway(launch: &Launch, proc: &Proc) -> bool {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (processes, _) = find(launch, proc, nowhere, None);
    processes
        .iter()
        .any(|process| process.is_gateway && process.state_folder != SameFolder::No)
}

/// Every process that could stand in the way, and whether the address is taken; port 0 is never.
#[must_use]
pub fn find(
    launch: &Launch,
    proc: &Proc,
    address: SocketAddr,
    record: Option<&ChildRecord>,
) -> (Vec<ProcessFacts>, bool) {
    let us = i32::try_from(std::process::id()).unwrap_or(0);
    let lineage = proc.lineage(us);
    // Reading /proc/net/tcp walks the kernel's whole table of connections: milliseconds on a large machine.
    let port_busy = is_taken(address);
    let holders: HashSet<u64> = if port_busy {
        let is_in_the_way = |socket: &ListeningSocket| {
            let theirs = &socket.listener;
            let meet = theirs.address.is_unspecified() || address.ip().is_unspecified();
            theirs.port == address.port() && (meet || theirs.address == address.ip())
        };
        proc.listening()
            .into_iter()
            .filter(is_in_the_way)
            .map(|socket| socket.inode)
            .collect()
    } else {
        HashSet::new()
    };
    let boot_id = record.and_then(|_| proc.boot_id());
    let recorded = record.filter(|record| Some(&record.boot_id) == boot_id.as_ref());
    let search = Search {
        launch,
        proc,
        us,
        holders: &holders,
        recorded,
    };
    let found = proc
        .pids()
        .filter(|pid| !lineage.contains(pid))
        .filter_map(|pid| search.look_at(pid))
        .collect();
    (found, port_busy)
}

/// Whether somebody listens there: binding to it is what the gateway will do too.
///
/// Not being allowed to bind (a port below 1024) says nothing about others.
fn is_taken(address: SocketAddr) -> bool {
    address.port() != 0
        && TcpListener::bind(address)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

struct Search<'a> {
    launch: &'a Launch,
    proc: &'a Proc,
    us: i32,
    holders: &'a HashSet<u64>,
    recorded: Option<&'a ChildRecord>,
}

impl Search<'_> {
    /// `None` for the many processes that are none of our business.
    fn look_at(&self, pid: i32) -> Option<ProcessFacts> {
        let stat = self.proc.stat(pid).filter(Stat::is_alive)?;
        let is_recorded_child = self
            .recorded
            .is_some_and(|record| record.pid == pid && record.start_ticks == stat.start_ticks);
        let is_orphan = stat.ppid == 1 || stat.ppid == self.us;
        let argv = self.proc.command_line(pid);
        let is_gateway = is_gateway_line(&argv);
        let holds_port = !self.holders.is_empty()
            && self
                .proc
                .socket_inodes(pid)
                .is_some_and(|inodes| !inodes.is_disjoint(self.holders));
        // The environment of every process is more than a start should read.
        if !(is_recorded_child || is_gateway || holds_port || (is_orphan && !argv.is_empty())) {
            return None;
        }
        let environment = self.proc.environment(pid);
        let is_marked = environment
            .as_ref()
            .is_some_and(|env| env.iter().any(|(name, _)| name == MARK));
        if !(is_recorded_child || is_gateway || holds_port || is_marked) {
            return None;
        }
        let state_folder = self.state_folder(pid, environment.as_deref(), &argv);
        if state_folder == SameFolder::No && !(is_recorded_child || holds_port) {
            return None;
        }
        let parent = self.proc.stat(stat.ppid);
        let parent_name = parent.map(|parent| parent.name).unwrap_or_default();
        let may_be_service = stat.ppid == 1
            && self.us != 1
            && (!self.launch.in_container || SERVICE_MANAGERS.contains(&parent_name.as_str()));
        Some(ProcessFacts {
            pid,
            ppid: stat.ppid,
            parent_name,
            start_ticks: stat.start_ticks,
            name: stat.name,
            is_gateway,
            state_folder,
            is_marked,
            is_recorded_child,
            is_orphan,
            may_be_service,
            holds_port,
        })
    }

    fn state_folder(
        &self,
        pid: i32,
        environment: Option<&[(OsString, OsString)]>,
        argv: &[OsString],
    ) -> SameFolder {
        let Some(environment) = environment else {
            return SameFolder::Unknown;
        };
        let command = match gateway::recognise(argv) {
            Command::Gateway(command) => command,
            // A retitled gateway shows no arguments; its environment is what counts.
            Command::Other => GatewayCommand::default(),
        };
        let working_dir = self.proc.working_folder(pid).unwrap_or_else(|| "/".into());
        let theirs = state_dir_of(environment, &command, &working_dir);
        if is_same_folder(&theirs, &self.launch.state_dir) {
            SameFolder::Yes
        } else {
            SameFolder::No
        }
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// SIGTERM, a grace, SIGKILL; returns those that even that did not end. Blocks.
///
/// A pid is signalled only while it still has the start tick it was judged by.
#[must_use]
pub fn end(proc: &Proc, targets: &[(i32, u64)]) -> Vec<i32> {
    let alive = |(pid, ticks): &(i32, u64)| {
        proc.stat(*pid)
            .is_some_and(|stat| stat.is_alive() && stat.start_ticks == *ticks)
    };
    let send = |targets: &[(i32, u64)], signal| {
        for target in targets.iter().filter(|target| alive(target)) {
            // ESRCH: it ended in between. EPERM: it will be among the survivors.
            let _ = kill(Pid::from_raw(target.0), signal);
        }
    };
    let wait = |limit: Duration| {
        let until = Instant::now() + limit;
        while targets.iter().any(alive) && Instant::now() < until {
            std::thread::sleep(LOOK_AGAIN);
        }
    };
    send(targets, Signal::SIGTERM);
    send(targets, Signal::SIGCONT);
    wait(GRACE);
    send(targets, Signal::SIGKILL);
    wait(KILL_WAIT);
    targets
        .iter()
        .filter(|target| alive(target))
        .map(|target| target.0)
        .collect()
}
