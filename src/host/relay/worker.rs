//! The relay thread: one `poll(2)` over the wake-up descriptor, the gateway's pipes and those
//! sinks that have no room. It has no timer while nothing is under way.
#![allow(clippy::disallowed_methods)] // The shell: here the clock is read for the pure parts.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;

use super::handle::{Drained, OnLine, Order, Shared, Sinks, Stream};
use super::sink::{Pressure, Sink};
use super::source::{Capture, LOOK_MAX_BYTES, SMALL_BYTES, Source};
use crate::core::output::Dropped;

/// Pipes of earlier starts that descendants may still hold; the oldest is closed beyond that.
const SOURCES_MAX: usize = 16;
/// Our own line waits this long for the end of a line in which the gateway fell silent.
const SAY_WITHIN_US: u64 = 200_000;

/// Everything the thread owns.
pub(super) struct Worker {
    shared: Arc<Shared>,
    sinks: Vec<Sink>,
    sources: Vec<Source>,
    drains: Vec<DrainWait>,
    capture: Capture,
    buf: Vec<u8>,
    started: Instant,
    next_source: u64,
    stop_at: Option<Instant>,
    /// Since when a line of our own waits while nothing comes.
    said_since_us: Option<u64>,
}

/// A supervisor that waits for the last output of an attempt.
#[derive(Debug)]
struct DrainWait {
    ticket: u64,
    /// Per source, the position that has to be passed.
    targets: Vec<(u64, u64)>,
}

/// Runs until told to stop, and says so however it ends.
pub(super) fn run(mut worker: Worker) {
    // Signals are for the supervision thread. This cannot fail: the set is valid.
    let _ = SigSet::all().thread_block();
    loop {
        worker.take_orders();
        worker.tick();
        worker.serve();
        worker.finish_drains();
        if worker.is_done() {
            break;
        }
        worker.wait();
    }
    let shared = Arc::clone(&worker.shared);
    drop(worker);
    shared.state().stopped = true;
    shared.changed.notify_all();
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, sinks: Sinks, one_pipe: bool, on_line: OnLine) -> Self {
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null");
        let mut all = vec![Sink::new(sinks.stdout, 0)];
        if !one_pipe {
            all.push(Sink::new(sinks.stderr, 0));
        }
        Self {
            capture: Capture {
                shared: Arc::clone(&shared),
                on_line,
                null: null.ok().map(Into::into),
            },
            shared,
            sinks: all,
            sources: Vec::new(),
            drains: Vec::new(),
            buf: Vec::new(),
            started: Instant::now(),
            next_source: 0,
            stop_at: None,
            said_since_us: None,
        }
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn sink_of(&self, stream: Stream) -> usize {
        match stream {
            Stream::Stdout => 0,
            Stream::Stderr => self.sinks.len() - 1,
        }
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| {
            let settled = self.sinks.iter().all(Sink::is_settled)
                && self.sources.iter().all(|source| source.waiting() == 0);
            settled || Instant::now() >= at
        })
    }

    fn take_orders(&mut self) {
        let (orders, said) = {
            let mut inbox = self.shared.inbox();
            let last = self.sinks.len() - 1;
            let room = self.sinks[last].said_room();
            let said = if inbox.said.len() <= room {
                std::mem::take(&mut inbox.said)
            } else {
                Vec::new()
            };
            (std::mem::take(&mut inbox.orders), said)
        };
        if let Some(sink) = self.sinks.last_mut() {
            sink.said.extend_from_slice(&said);
        }
        for order in orders {
            match order {
                Order::Attach {
                    attempt,
                    stream,
                    read,
                } => self.attach(attempt, stream, read),
                Order::Drain { ticket, attempt } => self.start_drain(ticket, attempt),
                Order::Stop { deadline } => {
                    let now_ms = self.now_us() / 1000;
                    for sink in &mut self.sinks {
                        sink.forgive(now_ms);
                    }
                    self.stop_at = Some(self.stop_at.map_or(deadline, |at| at.min(deadline)));
                }
            }
        }
    }

    fn attach(&mut self, attempt: u64, stream: Stream, read: std::os::fd::OwnedFd) {
        if self.sources.len() >= SOURCES_MAX {
            self.need_buf();
            let mut oldest = self.sources.remove(0);
            oldest.look_ahead(&mut self.buf, &mut self.capture, 0);
        }
        self.next_source += 1;
        self.sources
            .push(Source::new(self.next_source, attempt, stream, read));
    }

    fn start_drain(&mut self, ticket: u64, attempt: u64) {
        self.need_buf();
        let now_us = self.now_us();
        let mut targets = Vec::new();
        for source in self.sources.iter_mut().filter(|s| s.attempt == attempt) {
            targets.push((source.id, source.passed + source.waiting() as u64));
            source.look_ahead(&mut self.buf, &mut self.capture, now_us);
            source.not_before_us = 0;
            source.ready = true;
        }
        self.drains.push(DrainWait { ticket, targets });
        self.reached(ticket, Drained::Seen);
    }

    fn reached(&self, ticket: u64, reached: Drained) {
        let mut state = self.shared.state();
        if let Some(entry) = state.tickets.iter_mut().find(|(id, _)| *id == ticket) {
            entry.1 = reached;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn finish_drains(&mut self) {
        let mut drains = std::mem::take(&mut self.drains);
        drains.retain(|drain| {
            let passed = drain.targets.iter().all(|&(id, target)| {
                let source = self.sources.iter().find(|source| source.id == id);
                source.is_none_or(|source| source.passed >= target)
            });
            if passed && self.sinks.iter().all(|sink| !sink.holds_back()) {
                self.reached(drain.ticket, Drained::Passed);
                return false;
            }
            // A ticket that nobody waits for any more.
            let state = self.shared.state();
            state.tickets.iter().any(|&(id, _)| id == drain.ticket)
        });
        self.drains = drains;
    }

    /// How much the gateway needs this sink to take something. A pipe counts as full from a
    /// quarter on, because its pages are not always filled.
    fn pressure(&self, sink: usize) -> Pressure {
        let mut pressure = Pressure::None;
        for source in &self.sources {
            let waiting = source.waiting();
            if self.sink_of(source.stream) != sink || waiting == 0 {
                continue;
            }
            if waiting >= source.capacity / 4 {
                return Pressure::Full;
            }
            pressure = Pressure::Some;
        }
        pressure
    }

    fn pressure_if_blocked(&self, sink: usize) -> Pressure {
        if self.sinks[sink].blocked {
            self.pressure(sink)
        } else {
            Pressure::None
        }
    }

    fn tick(&mut self) {
        let now_ms = self.now_us() / 1000;
        for index in 0..self.sinks.len() {
            let pressure = self.pressure_if_blocked(index);
            self.sinks[index].book(now_ms, pressure);
            self.sinks[index].tick(now_ms);
        }
    }

    fn serve(&mut self) {
        let now_us = self.now_us();
        let mut read_bytes = 0;
        for index in 0..self.sources.len() {
            let sink = self.sink_of(self.sources[index].stream);
            let source = &mut self.sources[index];
            if source.ready && source.not_before_us <= now_us {
                if !self.sinks[sink].holds_back() {
                    read_bytes += self.serve_one(index, sink, now_us);
                } else if source.waiting() == 0 {
                    source.at_end = source.is_at_end();
                    source.ready = false;
                }
            }
            self.look_if_due(index, sink, now_us);
        }
        self.close_ended();
        self.say(now_us);
        self.count(read_bytes);
        let mid_line = self.sinks.last().is_some_and(Sink::mid_line);
        self.shared.mid_line.store(mid_line, Ordering::Relaxed);
    }

    fn count(&self, read_bytes: u64) {
        let dropped = (self.sinks.iter())
            .map(Sink::dropped)
            .fold(Dropped::default(), Dropped::and);
        let mut state = self.shared.state();
        state.stats.read_bytes += read_bytes;
        state.stats.dropped_lines = dropped.lines;
        state.stats.dropped_bytes = dropped.bytes;
        state.stats.notices = self.sinks.iter().map(|sink| sink.notices).sum();
    }

    /// Passes one batch on.
    fn serve_one(&mut self, index: usize, sink: usize, now_us: u64) -> u64 {
        self.need_buf();
        let now_ms = now_us / 1000;
        let source = &mut self.sources[index];
        let sink = &mut self.sinks[sink];
        let before = source.passed;
        let waiting = source.waiting();
        source.ready = false;
        if waiting == 0 {
            source.at_end = source.is_at_end();
            return 0;
        }
        source.gather(waiting, now_us);
        if waiting <= SMALL_BYTES && source.is_caught_up() {
            if let Ok(count) = source.read(SMALL_BYTES, &mut self.buf, &mut self.capture) {
                sink.deliver(&self.buf[..count], now_ms);
            }
            return source.passed - before;
        }
        let batch = source.mirror_batch(&mut self.buf, &mut self.capture);
        if sink.can_splice() {
            let spliced = sink.splice_from(source.id, &source.fd, batch, now_ms);
            source.passed += spliced as u64;
        }
        // What cannot be spliced goes through memory, for as long as there is room.
        while source.batch() > 0 && !sink.can_splice() && !sink.holds_back() {
            match source.read(self.buf.len(), &mut self.buf, &mut self.capture) {
                Ok(count) if count > 0 => sink.deliver(&self.buf[..count], now_ms),
                Ok(_) | Err(_) => break,
            }
        }
        source.passed - before
    }

    fn look_if_due(&mut self, index: usize, sink: usize, now_us: u64) {
        let source = &mut self.sources[index];
        let urgent = !self.sinks[sink].said.is_empty() && source.unseen() <= LOOK_MAX_BYTES;
        if source.unseen() > 0
            && (urgent || source.at_end || source.look_due_us().is_some_and(|due| due <= now_us))
        {
            source.look(&mut self.buf, &mut self.capture, now_us);
        }
        let sink = &mut self.sinks[sink];
        if sink.spliced_from == Some(source.id)
            && let Some(ended) = source.passed_ended_line()
        {
            sink.at_line_start = ended;
        }
    }

    fn close_ended(&mut self) {
        for source in self.sources.iter_mut().filter(|source| source.at_end) {
            source.look_ahead(&mut self.buf, &mut self.capture, 0);
        }
        self.sources.retain(|source| !source.at_end);
    }

    /// Lets our own lines out when no rest of a gateway line is to be waited for. While more of
    /// the gateway's output comes, [`Sink::deliver`] puts them after the first line that ends.
    fn say(&mut self, now_us: u64) {
        let last = self.sinks.len() - 1;
        if self.sinks[last].said.is_empty() {
            self.said_since_us = None;
            return;
        }
        let stopping = self.stop_at.is_some();
        let mut sources = (self.sources.iter()).filter(|s| self.sink_of(s.stream) == last);
        let more_waits = sources.clone().any(|source| source.waiting() > 0);
        let more_may_come = more_waits || (!stopping && sources.next().is_some());
        if more_waits {
            // The time counts from when the gateway fell silent inside its line.
            self.said_since_us = Some(now_us);
        }
        let since_us = *self.said_since_us.get_or_insert(now_us);
        let sink = &mut self.sinks[last];
        let waited = now_us >= since_us + SAY_WITHIN_US;
        if sink.at_line_start || !more_may_come || waited {
            sink.say_now(now_us / 1000);
        }
        if sink.said.is_empty() {
            self.said_since_us = None;
        }
    }

    /// How long nothing has to be done if nothing happens; `None` for ever.
    fn idle_for_us(&mut self, now_us: u64) -> Option<u64> {
        let mut due_us = Vec::new();
        for index in 0..self.sinks.len() {
            let pressure = self.pressure_if_blocked(index);
            let due_ms = self.sinks[index].due_in_ms(pressure);
            due_us.extend(due_ms.map(|due_ms| now_us + due_ms * 1000));
        }
        for source in &self.sources {
            due_us.extend(source.look_due_us());
            due_us.extend(Some(source.not_before_us).filter(|&at_us| at_us > now_us));
        }
        if let (Some(since_us), Some(sink)) = (self.said_since_us, self.sinks.last())
            && sink.is_passing()
            && !sink.blocked
        {
            due_us.push(since_us + SAY_WITHIN_US);
        }
        due_us.extend(self.stop_at.map(|at| {
            let at = at.saturating_duration_since(self.started);
            at.as_micros() as u64
        }));
        let next_us = due_us.into_iter().min()?;
        Some(next_us.saturating_sub(now_us).max(1))
    }

    /// Waits for something to do.
    fn wait(&mut self) {
        let now_us = self.now_us();
        let timeout = self
            .idle_for_us(now_us)
            .map(|us| TimeSpec::from_duration(Duration::from_micros(us)));
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(1 + self.sinks.len() + SOURCES_MAX);
        fds.push(PollFd::new(wake_fd(&self.shared), PollFlags::POLLIN));
        let mut polled_sinks = Vec::with_capacity(2);
        for (index, sink) in self.sinks.iter().enumerate() {
            if sink.wants_room() {
                polled_sinks.push(index);
                fds.push(PollFd::new(sink.fd.as_fd(), PollFlags::POLLOUT));
            }
        }
        let mut polled_sources = Vec::with_capacity(self.sources.len());
        let mut gathering = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            if source.not_before_us > now_us {
                gathering.push(index);
            } else if !self.sinks[self.sink_of(source.stream)].holds_back() || source.waiting() == 0
            {
                polled_sources.push(index);
                fds.push(PollFd::new(source.fd.as_fd(), PollFlags::POLLIN));
            }
        }
        if ppoll(&mut fds, timeout, None).is_err_and(|errno| errno != Errno::EINTR) {
            return;
        }
        let happened: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        let (woken, rest) = happened.split_at(1);
        if woken[0] {
            let _ = self.shared.wake.read();
        }
        let (roomy, readable) = rest.split_at(polled_sinks.len());
        for (&index, &roomy) in polled_sinks.iter().zip(roomy) {
            if roomy {
                let pressure = self.pressure_if_blocked(index);
                let now_ms = self.now_us() / 1000;
                self.sinks[index].book(now_ms, pressure);
                self.sinks[index].blocked = false;
            }
        }
        for (&index, &readable) in polled_sources.iter().zip(readable) {
            self.sources[index].ready |= readable;
        }
        // Served when its time has come, without a poll of its own.
        for index in gathering {
            self.sources[index].ready = true;
        }
    }

    fn need_buf(&mut self) {
        if self.buf.is_empty() {
            self.buf = vec![0; LOOK_MAX_BYTES];
        }
    }
}

fn wake_fd(shared: &Shared) -> BorrowedFd<'_> {
    shared.wake.as_fd()
}
