// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of a load: its connections, its epoll instance, and the phases of a run.
//!
//! ```text
//! 0 ────── from ─────────────── to ────── drain_until
//!  warm-up       measured          drained
//! ```
//!
//! The first two phases differ only in what the recorder keeps. From `to` on, nothing new is sent.
//! The thread of a closed loop waits for the responses in flight, at most until `drain_until`: the
//! server then sees connections that close between requests, not in the middle of one.
//!
//! A failed connection is not reopened. Its requests in flight count as errors, and the other
//! connections continue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netpoll_sys::{Epoll, Events, Interest, Readiness};

use crate::busy_poll;
use crate::signal::Interrupt;

use super::allowance::Allowance;
use super::connection::LoadConnection;
use super::live::{LiveLatency, PUBLISH_INTERVAL};
use super::pacing::Pacer;
use super::recorder::Recorder;
use super::requests::RequestPattern;
use super::schedule::{RunClock, Schedule};
use super::unanswered::UnexpectedResponse;

/// One thread of a load with long-lived connections.
#[derive(Debug)]
pub(crate) struct SteadyWorker {
    epoll: Epoll,
    /// A connection's index is its token; `None` if it failed.
    connections: Vec<Option<LoadConnection>>,
    requests: RequestPattern,
    mode: WorkerMode,
    schedule: Schedule,
    /// The requests that may still start.
    allowance: Allowance,
    recorder: Recorder,
    /// The receive buffer of all connections.
    scratch: Vec<u8>,
    counts: WorkerCounts,
}

/// What triggers a send.
#[derive(Debug)]
pub(crate) enum WorkerMode {
    /// A response; this many requests are in flight on each connection.
    Closed(usize),
    /// The clock: a request that is due.
    Open(Pacer),
}

/// The state that all threads of a run share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunContext<'a> {
    pub(crate) clock: RunClock,
    pub(crate) interrupt: &'a Interrupt,
    /// Responses so far, for the progress display.
    pub(crate) answered: &'a AtomicU64,
    /// Latencies so far, for the progress display.
    pub(crate) live: &'a LiveLatency,
    /// The time that a thread busy-polls before it sleeps.
    pub(crate) busy_poll: Duration,
}

/// The counters of one thread, apart from latencies.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    /// Open connections.
    open: usize,
    /// Unanswered requests on open connections.
    in_flight: usize,
    /// The connection for the next request of an open loop.
    turn: usize,
    /// Requests that will have no response.
    pub(crate) errors: u64,
    /// The cause of the first error.
    pub(crate) cause: Option<String>,
    /// The time at which the thread stopped measuring.
    pub(crate) ended: u64,
}

impl SteadyWorker {
    /// Creates a worker for open connections.
    pub(crate) fn new(
        sockets: Vec<OwnedFd>,
        requests: RequestPattern,
        drive: WorkerMode,
        (schedule, allowance): (Schedule, Allowance),
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        for (index, fd) in sockets.iter().enumerate() {
            epoll.add(fd.as_fd(), index as u64, Interest::READABLE)?;
        }
        Ok(Self {
            epoll,
            counts: WorkerCounts {
                open: sockets.len(),
                ..WorkerCounts::default()
            },
            connections: sockets
                .into_iter()
                .map(|fd| Some(LoadConnection::new(fd)))
                .collect(),
            requests,
            mode: drive,
            schedule,
            allowance,
            recorder: Recorder::new(schedule),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Runs all phases on the calling thread, the `thread`th of the run.
    pub(crate) fn run(
        mut self,
        thread: usize,
        shared: RunContext<'_>,
    ) -> io::Result<(Recorder, WorkerCounts)> {
        let mut events = Events::with_capacity(1024);
        let mut now = shared.clock.now();
        let mut publish_at = now + PUBLISH_INTERVAL;
        self.fill_connections(now);
        while !self.is_over(now, shared.interrupt) {
            let pause = Some(self.wait_timeout(now));
            let count = busy_poll::wait(&self.epoll, &mut events, shared.busy_poll, pause)?;
            let before = self.recorder.answers();
            for (token, readiness) in (0..count).filter_map(|index| events.get(index)) {
                now = self.serve(token as usize, readiness, shared.clock);
            }
            if count == 0 || matches!(self.mode, WorkerMode::Open(_)) {
                now = shared.clock.now();
            }
            self.send_due(now);
            let answers = self.recorder.answers() - before;
            // Relaxed: progress only.
            shared.answered.fetch_add(answers, Ordering::Relaxed);
            if now >= publish_at {
                shared.live.publish(thread, self.recorder.latency());
                publish_at = now + PUBLISH_INTERVAL;
            }
        }
        self.counts.ended = now.min(self.schedule.to);
        Ok((self.recorder, self.counts))
    }

    /// Sends the first requests of a closed loop: `depth` on each connection.
    fn fill_connections(&mut self, now: u64) {
        if let WorkerMode::Closed(depth) = self.mode {
            for index in 0..self.connections.len() {
                self.request(index, now, depth);
                self.send(index);
            }
        }
    }

    /// Returns whether the run is over. At the end of the measured interval of an open loop,
    /// records the unanswered requests.
    fn is_over(&mut self, now: u64, interrupt: &Interrupt) -> bool {
        if self.counts.open == 0 || interrupt.is_set() {
            return true;
        }
        if self.allowance.is_spent() && self.counts.in_flight == 0 {
            return true;
        }
        if now < self.schedule.to {
            return false;
        }
        if matches!(self.mode, WorkerMode::Open(_)) {
            for connection in self.connections.iter_mut().flatten() {
                let recorder = &mut self.recorder;
                connection
                    .in_flight
                    .drain(|since, count| recorder.unanswered(since, count));
            }
            return true;
        }
        self.counts.in_flight == 0 || now >= self.schedule.drain_until
    }

    /// Returns the time that epoll may sleep: until the next action, at most [`MAX_WAIT`].
    fn wait_timeout(&self, now: u64) -> Duration {
        let wake = match &self.mode {
            // Epoll sleeps in whole milliseconds. The last millisecond before a request is due is
            // busy-polled.
            WorkerMode::Open(_) if self.allowance.is_spent() => self.schedule.to,
            WorkerMode::Open(pacer) => pacer.next_due().min(self.schedule.to).saturating_sub(MS),
            WorkerMode::Closed(_) if now < self.schedule.to => self.schedule.to,
            WorkerMode::Closed(_) => self.schedule.drain_until,
        };
        Duration::from_nanos(wake.saturating_sub(now)).min(MAX_WAIT)
    }

    /// Reads a connection, records its responses, and sends the requests that follow. One `recv`,
    /// one clock read, one `send`. Returns the time.
    #[inline]
    fn serve(&mut self, index: usize, readiness: Readiness, clock: RunClock) -> u64 {
        let Some(connection) = self.connections[index].as_mut() else {
            return clock.now();
        };
        let mut completed = Ok(0);
        if readiness.is_readable() || readiness.may_have_ended() {
            completed = connection.receive(&self.requests, &mut self.scratch);
        }
        let now = clock.now();
        let before = connection.in_flight.len();
        let recorded = completed.and_then(|answers| {
            let recorder = &mut self.recorder;
            connection
                .in_flight
                .complete(answers, |since, count| recorder.answered(now, since, count))
                .map_err(|UnexpectedResponse| String::from("received a response without a request"))
        });
        let answered = before - connection.in_flight.len();
        self.counts.in_flight -= answered;
        match recorded {
            Ok(()) => {
                if matches!(self.mode, WorkerMode::Closed(_)) && now < self.schedule.to {
                    self.request(index, now, answered);
                }
                self.send(index);
            }
            Err(cause) => self.fail_connection(index, cause),
        }
        now
    }

    /// Queues the due requests of an open loop and sends them, all requests of a connection in one
    /// call.
    fn send_due(&mut self, now: u64) {
        let WorkerMode::Open(mut pacer) = self.mode else {
            return;
        };
        let first = self.counts.turn;
        let mut queued = 0;
        // A request that is due at the end or later is not part of the run.
        while !self.allowance.is_spent()
            && let Some(due) = pacer.take_due(now.min(self.schedule.to - 1))
        {
            let index = self.counts.turn;
            self.counts.turn = (index + 1) % self.connections.len();
            self.request(index, due, 1);
            queued += 1;
        }
        self.mode = WorkerMode::Open(pacer);
        for offset in 0..queued.min(self.connections.len()) {
            let index = (first + offset) % self.connections.len();
            if let Some(connection) = &self.connections[index]
                && !connection.is_blocked()
            {
                self.send(index);
            }
        }
    }

    /// Queues up to `count` requests, as many as the allowance has.
    #[inline]
    fn request(&mut self, index: usize, since: u64, count: usize) {
        let count = self.allowance.take(count);
        match &mut self.connections[index] {
            Some(connection) if count > 0 => {
                connection.request(&self.requests, since, count);
                self.counts.in_flight += count;
            }
            Some(_) => {}
            None => self.counts.errors += count as u64,
        }
    }

    /// Sends the unsent bytes of a connection and updates its interest.
    #[inline]
    fn send(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        let sent =
            connection
                .send(&self.requests)
                .and_then(|()| match connection.changed_interest() {
                    Some(interest) => self
                        .epoll
                        .modify(connection.as_fd(), index as u64, interest)
                        .map_err(|error| error.to_string()),
                    None => Ok(()),
                });
        if let Err(cause) = sent {
            self.fail_connection(index, cause);
        }
    }

    /// Drops a failed connection. It counts as at least one error, even without requests in flight.
    fn fail_connection(&mut self, index: usize, cause: String) {
        if let Some(connection) = self.connections[index].take() {
            let lost = connection.in_flight.len();
            self.counts.open -= 1;
            self.counts.in_flight -= lost;
            self.counts.errors += lost.max(1) as u64;
            self.counts.cause.get_or_insert(cause);
        }
    }
}

/// A quarter of a megabyte: large responses take few reads, and the buffer stays in the cache.
const SCRATCH: usize = 256 << 10;

/// The longest delay until an interrupt is noticed.
const MAX_WAIT: Duration = Duration::from_millis(50);

const MS: u64 = 1_000_000;
