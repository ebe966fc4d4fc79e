//! The loop: turns what happens into events, and the core's actions into deeds.
//!
//! One thread decides, starts and reaps. What may hang (the volume) runs on a thread that may hang with it;
//! the gateway's output and what is recorded have threads of their own.
#![allow(
    clippy::disallowed_methods,
    reason = "this module drives the operating system"
)]

mod act;
mod alert;
mod belonging;
mod channels;
mod child;
mod heap;
mod incident;
mod lines;
mod outset;
mod reload;
mod validate;

use super::clock::{self, Clock};
use super::defect;
use super::dumps::Prepared;
use super::early::SignalSet;
use super::footprint;
use super::http::{self, Desk, Listening, Question, Socket};
use super::journal::Journal;
use super::launch::Launch;
use super::log;
use super::memory::{self, Sampler};
use super::oom::OomWatch;
use super::proc::Proc;
use super::reap::{self, Leftovers, Next};
use super::records::{Record, Records};
use super::relay::{Relay, RelayError, Sinks};
use super::signals::Signals;
use super::state::InstanceLock;
use super::timeline;
use crate::core::action::Ending;
use crate::core::control::Answer;
use crate::core::event::{Attempt, Event, Instance};
use crate::core::exit_class::ExitStatus;
use crate::core::history::Recorder;
use crate::core::machine::Core;
use crate::core::time::WallMs;
use crate::core::timeline::Kind;
use crate::exit::Exit;
use crate::render::LogLine;
use crate::settings::Settings;
use belonging::Belonging;
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Events from other threads that wait for the loop. Every sender sends at most a handful per attempt.
const CHANNEL: usize = 256;
/// Time for the last output once the gateway is gone: a reader that does not read must not keep us.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

const SIGKILL: i32 = 9;
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Time for the last records.
const LAST_RECORDS: Duration = Duration::from_millis(200);

/// Everything the loop holds.
pub(super) struct Supervisor {
    core: Core,
    clock: Clock,
    settings: Arc<Settings>,
    launch: Arc<Launch>,
    proc: Proc,
    relay: Arc<Relay>,
    records: Arc<Records>,
    journal: Journal,
    /// The minute that is not over yet.
    history: Recorder,
    queue: VecDeque<Event>,
    sender: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
    /// What the health listener wants to know.
    questions: mpsc::Receiver<Question>,
    health: Option<Listening>,
    /// For the control socket, until that is opened.
    control: Option<Desk>,
    /// Requests so far.
    requests: u64,
    /// The one that is being answered.
    asked: Option<(u64, oneshot::Sender<Answer>)>,
    instance: Arc<Mutex<InstanceLock>>,
    /// True while a look at the volume has not come back: a hanging disk gets one thread, not many.
    volume_is_busy: Arc<AtomicBool>,
    child: Option<child::Child>,
    tree: Option<Tree>,
    sampler: Option<Sampler>,
    /// What the kernel has said of out-of-memory kills up to the last look.
    oom: Option<OomWatch>,
    /// The config as the running gateway has it.
    config: Arc<reload::ConfigFiles>,
    /// When its files were last looked at by their stamps.
    poll: reload::Poll,
    ending: Option<Ending>,
    /// What the next gateway is told to leave behind when it runs out of heap.
    dumps: Arc<Mutex<Prepared>>,
    /// The incident that is being written.
    incident: Option<JoinHandle<()>>,
    /// Children beside the gateway whose end somebody waits for.
    calls: channels::Calls,
    /// `None` when nobody is to be told of anything.
    alerting: Option<Box<alert::Alerting>>,
    /// Which of our children are the gateway's.
    belonging: Belonging,
    /// The command that an alert was handed to.
    alert_group: alert::Group,
}

/// Processes that are being ended.
struct Tree {
    attempt: Attempt,
    leftovers: Leftovers,
    look_at: Instant,
}

/// Why the supervisor could not begin. There is nothing to hold for: the machine itself refuses.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The event loop.
    #[error("failed to set up the event loop")]
    Loop(#[source] std::io::Error),
    /// The output relay.
    #[error("failed to set up the output relay")]
    Relay(#[source] RelayError),
}

/// Keeps a gateway running until told to stop.
#[must_use]
pub fn run(settings: Settings, unknown_settings: &[String], launch: Launch) -> Exit {
    match begin(settings, unknown_settings, launch) {
        Ok(exit) => exit,
        Err(error) => {
            log::emit(
                &LogLine::error("cannot begin").field("why", super::config_file::chain(&error)),
            );
            Exit::Host
        }
    }
}

fn begin(
    settings: Settings,
    unknown_settings: &[String],
    mut launch: Launch,
) -> Result<Exit, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(5)
        .thread_name(defect::DISK_THREAD)
        .thread_stack_size(512 * 1024)
        // A waiting thread costs some kilobytes; making one anew would delay every restart.
        .thread_keep_alive(FOR_EVER)
        // Signals are for the loop's thread; the watch's thread, started by one of these, takes the mask over.
        .on_thread_start(|| {
            SignalSet::ALL.block();
        })
        .build()
        .map_err(StartError::Loop)?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let sinks = Sinks::inherited().map_err(StartError::Relay)?;
    let records = Arc::new(Records::open(&launch.state_dir));
    let on_line = lines::on_line(sender.clone(), Arc::clone(&records));
    let relay = Relay::start(sinks, on_line).map_err(StartError::Relay)?;
    let relay = Arc::new(relay);
    log::use_relay(Arc::clone(&relay));
    let limit = memory::limit(Path::new("/"));
    let heap = heap::Sized::fit(&mut launch, &settings, &limit);
    let first_line = outset::first_line(&launch, &limit, &heap);
    log::emit(&first_line);
    let policy = outset::policy(&settings, &launch, &limit, &heap);
    heap.warn(&policy.how_to_grow);
    for name in unknown_settings {
        log::emit(&LogLine::warn("unknown setting; is it misspelt?").field("name", name));
    }
    // As PID 1 every orphan is ours anyway.
    if !reap::is_pid_1()
        && let Err(errno) = reap::become_subreaper()
    {
        log::emit(
            &LogLine::warn("orphans of the gateway cannot be adopted").field("why", errno.desc()),
        );
    }
    let (clock, core) = (Clock::start(), Core::new(policy));
    let launch = Arc::new(launch);
    let (desk, questions) = Desk::new(Arc::clone(&launch));
    if settings.keep_output_mb > 0 {
        records.keep_output(Arc::clone(&launch), settings.keep_output_mb << 20);
    }
    let began = clock::wall();
    records.send(timeline::record(&timeline::entry(
        began,
        Kind::Begun,
        &first_line,
    )));
    let alert_group = alert::Group::default();
    let alerting = alert::Alerting::begin(&settings, &launch, alert_group.clone());
    let proc = Proc::default();
    let mut supervisor = Supervisor {
        belonging: Belonging::new(proc.clone(), launch.account.uid),
        journal: Journal::begin(Arc::clone(&records), &core, clock.now(), began),
        records,
        core,
        clock,
        history: Recorder::default(),
        proc,
        settings: Arc::new(settings),
        launch,
        relay: Arc::clone(&relay),
        queue: VecDeque::from([Event::Begun]),
        sender,
        receiver,
        questions,
        health: None,
        control: Some(desk.clone()),
        requests: 0,
        asked: None,
        instance: Arc::default(),
        volume_is_busy: Arc::default(),
        child: None,
        tree: None,
        oom: None,
        sampler: None,
        config: Arc::default(),
        poll: reload::Poll::new(Instant::now()),
        ending: None,
        dumps: Arc::default(),
        incident: None,
        calls: channels::Calls::default(),
        alerting: alerting.map(Box::new),
        alert_group,
    };
    let ended = runtime.block_on(supervisor.live(desk));
    if let Some(minute) = supervisor.history.finish(clock::wall()) {
        supervisor.records.send(Record::Minute(minute));
    }
    // Unsent output is worth a moment; a thread that hangs on a dead disk is left behind.
    let _ = relay.shutdown(LAST_OUTPUT);
    supervisor.records.close(LAST_RECORDS);
    // Threads may hang with the disk; they end with the process. So does the watch, whose own thread an exit would wait for.
    std::mem::forget((runtime, supervisor));
    let exit = ended.map(exit_of).map_err(StartError::Loop)?;
    Ok(if defect::is_why_we_end() {
        Exit::Internal
    } else {
        exit
    })
}

const fn exit_of(ending: Ending) -> Exit {
    match ending {
        Ending::Stopped => Exit::Stopped,
        Ending::StopForced => Exit::StopForced,
        Ending::AlreadyRunning => Exit::AlreadyRunning,
    }
}

impl Supervisor {
    async fn live(&mut self, desk: Desk) -> std::io::Result<Ending> {
        let mut signals = Signals::open()?;
        if let Some(address) = self.settings.health_listen {
            self.health = Some(Listening::start(address, desk));
        }
        loop {
            while let Some(event) = self.queue.pop_front() {
                self.take_in(event);
            }
            if let Some(ending) = self.ending {
                self.finish_incident().await;
                return Ok(ending);
            }
            self.send_alerts();
            let alert_look = self.alerting.as_ref().and_then(|it| it.look_at());
            let core_deadline = self.core.next_deadline().map(|at| self.clock.instant(at));
            let tree_look = self.tree.as_ref().map(|tree| tree.look_at);
            let wake_at = [
                core_deadline,
                tree_look,
                self.poll_at(),
                self.minute_at(),
                alert_look,
            ]
            .into_iter()
            .flatten()
            .min();
            tokio::select! {
                biased;
                arrived = signals.wait() => {
                    if arrived.child {
                        self.reap();
                    }
                    self.queue.extend(arrived.events);
                }
                Some(event) = self.receiver.recv() => self.queue.push_back(event),
                () = sleep_until(wake_at) => {
                    self.step_tree();
                    self.poll_config();
                    self.note_history(clock::wall());
                    if core_deadline.is_some_and(|at| Instant::now() >= at) {
                        self.queue.push_back(Event::DeadlinePassed);
                    }
                }
                done = alert::finished(&mut self.alerting) => self.alert_finished(done),
                // Last, so that nobody's questions keep the loop from its work.
                Some(question) = self.questions.recv() => self.hear(question),
            }
        }
    }

    /// Once, and only by whoever holds the instance lock.
    fn open_control(&mut self) {
        if let Some(desk) = self.control.take() {
            http::answer_at(Socket::of(&self.launch.state_dir), desk);
        }
    }

    fn hear(&mut self, question: Question) {
        match question {
            Question::Status(reply) => {
                let _ = reply.send(self.core.status(self.clock.now()));
            }
            Question::Request { op, peer, reply } => {
                self.requests += 1;
                let id = self.requests;
                self.asked = Some((id, reply));
                // Answered within this very step, so that there is never a second one.
                self.take_in(Event::Requested { id, op, peer });
            }
        }
    }

    fn take_in(&mut self, event: Event) {
        let now = self.clock.now();
        tracing::debug!("event {event:?}");
        if matches!(
            event,
            Event::VolumeChecked {
                instance: Instance::Ours,
                ..
            }
        ) {
            self.records.begin();
            self.open_control();
            if let Some(alerting) = &mut self.alerting {
                alerting.state_is_ours();
            }
        }
        let was_quiet = self.core.is_at_rest();
        for action in self.core.step(now, event.clone()) {
            self.act(action);
        }
        let wall = clock::wall();
        self.note_history(wall);
        self.journal.record(was_quiet, &self.core, now, wall, event);
        if !was_quiet && self.core.is_at_rest() {
            footprint::shrink();
        }
    }

    fn note_history(&mut self, now: WallMs) {
        if let Some(minute) = self.history.note(now, self.core.glance()) {
            // A disk that hangs costs minutes of a chart.
            self.records.send(Record::Minute(minute));
            // What only this minute needed: a look of somebody's, an edit, a warning.
            if self.core.is_at_rest() {
                footprint::shrink();
            }
        }
    }

    /// When a minute is closed that nothing else has closed.
    fn minute_at(&self) -> Option<Instant> {
        let wait = self.history.due()?.0.saturating_sub(clock::wall().0);
        Some(Instant::now() + Duration::from_millis(wait))
    }

    /// Takes every child that has ended; the gateway's own end becomes an event.
    fn reap(&mut self) {
        let mut helper_killed = None;
        for waited in reap::reap_all() {
            self.calls.ended(waited);
            if waited.status.signal() == Some(SIGKILL) {
                helper_killed = self.child.map(|child| child.attempt);
            }
            if let Some(child) = self.child.take_if(|child| child.pid == waited.pid) {
                defect::release();
                let status = match waited.status.signal() {
                    Some(signal) => ExitStatus::Signal(signal),
                    None => ExitStatus::Code(waited.status.code().unwrap_or(0)),
                };
                self.queue.push_back(Event::ChildExited {
                    attempt: child.attempt,
                    status,
                });
            }
        }
        self.step_tree();
        if let Some(attempt) = helper_killed.filter(|_| self.child.is_some()) {
            self.look_for_oom(attempt);
        }
    }

    /// Goes on ending a tree, if one is being ended.
    fn step_tree(&mut self) {
        let Some(tree) = &mut self.tree else { return };
        let survivors = match tree.leftovers.step(Instant::now()) {
            Next::WaitUntil(at) => {
                tree.look_at = at;
                return;
            }
            Next::Done => Vec::new(),
            Next::GivenUp(_) => tree.leftovers.remaining().unwrap_or_default(),
        };
        let ended = tree.leftovers.told().saturating_sub(survivors.len());
        let event = Event::TreeEnded {
            attempt: tree.attempt,
            ended: u32::try_from(ended).unwrap_or(u32::MAX),
            survivors: survivors.into_iter().map(Pid::as_raw).collect(),
        };
        self.tree = None;
        self.queue.push_back(event);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
