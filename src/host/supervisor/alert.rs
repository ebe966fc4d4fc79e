//! Hands alerts to the command of `--on-event`: one at a time, beside everything else.
//!
//! Whatever it does, and however it fails, the gateway is kept as if it were not there.

use super::super::folder::Folder;
use super::super::hook::{Hook, TIMEOUT, too_late};
use super::super::launch::Launch;
use super::super::{clock, gateway_call, log, state};
use super::Supervisor;
use super::channels::{Calls, Priority};
use crate::core::action::Report;
use crate::core::alert::{Alert, Alerts};
use crate::render::LogLine;
use crate::settings::Settings;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid, pipe2};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// What the image's poster takes, with some room for the gateway.
const MEMORY_NEEDED: u64 = 96 << 20;
/// For so long it is waited for; then the command runs all the same, and the kernel may kill it.
const SHORT_OF_MEMORY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Time for the file that tells the next clawkeeper what was said.
const DISK: Duration = Duration::from_secs(5);
/// A command that has said so much of its errors is not listened to any longer.
const ERRORS_MAX_BYTES: usize = 1 << 20;
/// Its last words are in here.
const ERRORS_KEPT_BYTES: usize = 1024;
const LINE_MAX_CHARS: usize = 300;

/// The process group of the command that runs; 0 when none does.
#[derive(Debug, Clone, Default)]
pub(super) struct Group(Arc<AtomicI32>);

impl Group {
    /// True for a process of the command: it is no helper of the gateway.
    pub(super) fn has(&self, pid: Pid) -> bool {
        let group = self.0.load(Ordering::Relaxed);
        group > 0 && getpgid(Some(pid)).is_ok_and(|it| it.as_raw() == group)
    }

    fn is(&self, group: i32) {
        self.0.store(group, Ordering::Relaxed);
    }
}

/// Alerts, and what becomes of them.
#[derive(Debug)]
pub(super) struct Alerting {
    alerts: Alerts,
    hook: Arc<Hook>,
    group: Group,
    earlier: Earlier,
    task: Option<JoinHandle<Done>>,
    look_at: Option<Instant>,
    short_since: Option<Instant>,
    has_failed: bool,
}

/// What an earlier clawkeeper noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Earlier {
    /// The state folder is not ours, so far.
    OutOfReach,
    /// It can be read.
    Unread,
    /// It is known, as far as it can be.
    Known,
}

#[derive(Debug)]
enum Done {
    Recalled(Option<String>),
    HandedOver(Result<(), String>),
}

impl Alerting {
    /// `None` when nobody is to be told, or cannot be, which is said.
    pub(super) fn begin(settings: &Settings, launch: &Launch, group: Group) -> Option<Self> {
        let hook = match Hook::find(settings, launch) {
            Ok(hook) => hook?,
            Err(error) => {
                log::emit(&LogLine::warn("alerts cannot go out").field("why", error));
                return None;
            }
        };
        Some(Self {
            alerts: Alerts::default(),
            hook: Arc::new(hook),
            group,
            earlier: Earlier::OutOfReach,
            task: None,
            look_at: None,
            short_since: None,
            has_failed: false,
        })
    }

    pub(super) fn see(&mut self, report: &Report) {
        self.alerts.see(clock::wall(), report);
    }

    /// The state folder is ours.
    pub(super) fn state_is_ours(&mut self) {
        if self.earlier == Earlier::OutOfReach {
            self.earlier = Earlier::Unread;
        }
    }

    /// When to come back without a reason.
    pub(super) const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    fn take_in(&mut self, done: Done) {
        match done {
            Done::Recalled(text) => {
                self.alerts.recall(&text.unwrap_or_default());
            }
            Done::HandedOver(Ok(())) => self.has_failed = false,
            // Once is enough: it is most likely the same each time.
            Done::HandedOver(Err(_)) if self.has_failed => {}
            Done::HandedOver(Err(why)) => {
                self.has_failed = true;
                let line = LogLine::warn("an alert was not delivered")
                    .field("command", self.hook.name())
                    .field("why", why);
                log::emit(&line.field("fix", "try it: clawkeeper test-alert"));
            }
        }
    }

    /// True while there is hardly any memory, for a while at most.
    fn waits_for_memory(&mut self, now: Instant) -> bool {
        if gateway_call::has_room(MEMORY_NEEDED).is_ok() {
            return false;
        }
        let since = *self.short_since.get_or_insert(now);
        now.duration_since(since) < SHORT_OF_MEMORY
    }
}

impl Supervisor {
    /// Tells what is to be told, if the command is free for it.
    pub(super) fn send_alerts(&mut self) {
        let Some(alerting) = &mut self.alerting else {
            return;
        };
        let (now, wall) = (self.clock.now(), clock::wall());
        if !alerting.alerts.is_quiet() {
            alerting.alerts.serves(now, self.core.serves());
        }
        alerting.look_at = None;
        if alerting.task.is_some() || self.core.is_ending() {
            return;
        }
        if alerting.earlier == Earlier::Unread {
            alerting.earlier = Earlier::Known;
            let launch = Arc::clone(&self.launch);
            alerting.task = Some(tokio::spawn(recall(launch)));
            return;
        }
        let Some(at) = alerting.alerts.look_at(now, wall) else {
            return;
        };
        if at > now {
            alerting.look_at = Some(self.clock.instant(at));
            return;
        }
        let instant = self.clock.instant(now);
        if alerting.waits_for_memory(instant) {
            alerting.look_at = Some(instant + LOOK_AGAIN);
            return;
        }
        alerting.short_since = None;
        let Some(alert) = alerting.alerts.next(now, wall) else {
            return;
        };
        let noted = (alerting.earlier == Earlier::Known).then(|| alerting.alerts.to_text());
        let launch = Arc::clone(&self.launch);
        let hook = Arc::clone(&alerting.hook);
        let (calls, group) = (self.calls.clone(), alerting.group.clone());
        alerting.task = Some(tokio::spawn(async move {
            let noted = noted.map(|text| tokio::task::spawn_blocking(move || note(&launch, &text)));
            let result = hand_over(&hook, &alert, &calls, &group).await;
            group.is(0);
            if let Some(noted) = noted {
                // A disk that hangs keeps one thread, and this is the only alert that waits for it.
                let _ = tokio::time::timeout(DISK, noted).await;
            }
            Done::HandedOver(result)
        }));
    }

    pub(super) fn alert_finished(&mut self, done: Option<Finished>) {
        if let (Some(alerting), Some(Finished(done))) = (&mut self.alerting, done) {
            alerting.task = None;
            if let Some(done) = done {
                alerting.take_in(done);
            }
        }
    }
}

/// What was being done is done; nothing came of it when it panicked.
#[derive(Debug)]
pub(super) struct Finished(Option<Done>);

/// Waits for what is being done, for ever when that is nothing.
pub(super) async fn finished(alerting: &mut Option<Box<Alerting>>) -> Option<Finished> {
    match alerting.as_mut().and_then(|it| it.task.as_mut()) {
        Some(task) => Some(Finished(task.await.ok())),
        None => std::future::pending().await,
    }
}

async fn recall(launch: Arc<Launch>) -> Done {
    let read = tokio::task::spawn_blocking(move || {
        let state = Folder::open(&launch.state_dir).ok()?;
        state::read_alerts(&state::existing_private(&state).ok()?)
    });
    let read = tokio::time::timeout(DISK, read).await;
    Done::Recalled(read.ok().and_then(Result::ok).flatten())
}

/// Not worth an error: what is lost is a word to the next clawkeeper.
fn note(launch: &Launch, text: &str) {
    let private = Folder::open(&launch.state_dir).and_then(|state| state::open_private(&state));
    if let Err(error) = private.and_then(|private| state::write_alerts(&private, text)) {
        tracing::debug!("alerts not noted: {error}");
    }
}

async fn hand_over(hook: &Hook, alert: &Alert, calls: &Calls, group: &Group) -> Result<(), String> {
    let chain = |errno: nix::Error| format!("failed to make a pipe for its errors: {errno}");
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(chain)?;
    let mut errors = Errors::new(reader)?;
    let (pid, mut ended) = calls.start(hook.spec(alert, Some(writer))?, Priority::Low)?;
    group.is(pid.as_raw());
    let end = async {
        loop {
            tokio::select! {
                biased;
                status = &mut ended => return status,
                () = errors.more() => {}
            }
        }
    };
    let Ok(status) = tokio::time::timeout(TIMEOUT, end).await else {
        // It has not been reaped, so its group is its own.
        let _ = killpg(pid, Signal::SIGKILL);
        return Err(too_late());
    };
    errors.read();
    match status.map(|status: ExitStatus| (status, status.success())) {
        Ok((_, true)) => Ok(()),
        Ok((status, false)) => {
            let said = hook.masked(&errors.last_line());
            Err(format!("it ended with {status}: {said}"))
        }
        Err(_) => Err("its end was not seen".to_owned()),
    }
}

/// The end of what the command says on its standard error.
struct Errors {
    pipe: Option<pipe::Receiver>,
    taken: usize,
    last: Vec<u8>,
}

impl Errors {
    fn new(reader: std::os::fd::OwnedFd) -> Result<Self, String> {
        let pipe = pipe::Receiver::from_owned_fd(reader)
            .map_err(|error| format!("failed to listen to its errors: {error}"))?;
        Ok(Self {
            pipe: Some(pipe),
            taken: 0,
            last: Vec::new(),
        })
    }

    /// Waits for more and takes it in; for ever when no more can come.
    async fn more(&mut self) {
        let Some(pipe) = &self.pipe else {
            return std::future::pending().await;
        };
        if pipe.readable().await.is_err() {
            self.pipe = None;
        }
        self.read();
    }

    /// Takes in what there is. A daemon that was left behind may keep the pipe open: nobody waits for its end.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &self.pipe {
            match pipe.try_read(&mut buffer) {
                Ok(count) if count > 0 && self.taken < ERRORS_MAX_BYTES => {
                    self.taken += count;
                    self.last.extend_from_slice(&buffer[..count]);
                    let beyond = self.last.len().saturating_sub(ERRORS_KEPT_BYTES);
                    self.last.drain(..beyond);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Its end; or too much, and closing it ends whoever writes on.
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.last);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        line.unwrap_or("it said nothing")
            .chars()
            .take(LINE_MAX_CHARS)
            .collect()
    }
}
