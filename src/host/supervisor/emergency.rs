//! A defect in clawkeeper must not take the gateway down without warning: a panic drains it first.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// The gateway's pid; 0 when none runs.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Fly kills a machine 5 s after its stop signal unless told otherwise.
const DRAIN: Duration = Duration::from_secs(5);

/// The loop panicked; the gateway has been ended.
#[derive(Debug)]
pub(super) struct Panicked;

pub(super) fn remember_child(pid: Pid) {
    CHILD.store(pid.as_raw(), Ordering::Relaxed);
}

pub(super) fn forget_child() {
    CHILD.store(0, Ordering::Relaxed);
}

/// Runs the loop; a panic in it ends the gateway in order.
pub(super) fn guard<T>(live: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(live)).map_err(|_| {
        let pid = CHILD.swap(0, Ordering::Relaxed);
        if pid > 0 {
            drain(Pid::from_raw(pid));
        }
        Panicked
    })
}

fn drain(pid: Pid) {
    let _ = kill(pid, Signal::SIGTERM);
    let until = Instant::now() + DRAIN;
    while Instant::now() < until {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(20)),
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_panic_in_the_loop_ends_the_gateway_in_order() {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep is everywhere");
        remember_child(Pid::from_raw(
            i32::try_from(child.id()).expect("a pid fits"),
        ));
        let ended = guard(|| -> () { panic!("a defect, for the test") });
        assert!(ended.is_err());
        // It was told, waited for and reaped: nothing is left for us to wait for.
        assert!(
            child
                .try_wait()
                .is_err_and(|error| error.raw_os_error() == Some(nix::libc::ECHILD))
        );
        assert!(guard(|| 7).is_ok_and(|value| value == 7));
    }
}
