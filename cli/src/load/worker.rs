// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread of a load: its connections, its epoll instance, and the phases of a run.
//!
//! ```text
//! 0 ────── from ─────────────── to ─────── give_up
//!  warm-up       measured          drained
//! ```
//!
//! The first two phases differ only in what the recorder keeps. From `to` on nothing new is sent;
//! the thread waits until what is in flight has been answered, so that the server sees connections
//! that end between requests and not in the middle of one, and ends at `give_up` at the latest.
//!
//! A connection that fails is not opened again: what was in flight on it are errors, and the others
//! go on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netpoll_sys::{Epoll, Events, Interest, Readiness};

use crate::busy_poll;
use crate::signal::Interrupt;

use super::connection::LoadConnection;
use super::pacing::Pacer;
use super::recorder::Recorder;
use super::requests::RequestPattern;
use super::schedule::{RunClock, Schedule};
use super::unanswered::UnexpectedResponse;

/// One thread's part of a load.
#[derive(Debug)]
pub(crate) struct SteadyWorker {
    epoll: Epoll,
    /// A connection's index is its token; `None` are those that failed.
    connections: Vec<Option<LoadConnection>>,
    requests: RequestPattern,
    mode: WorkerMode,
    schedule: Schedule,
    recorder: Recorder,
    /// Where answers land, of all connections.
    scratch: Vec<u8>,
    counts: WorkerCounts,
}

/// What makes this thread send.
#[derive(Debug)]
pub(crate) enum WorkerMode {
    /// An answer, with so many requests in flight on each connection.
    Closed(usize),
    /// The clock.
    Open(Pacer),
}

/// What all threads of a run look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunContext<'a> {
    pub(crate) clock: RunClock,
    pub(crate) interrupt: &'a Interrupt,
    /// Answers so far, for whoever watches.
    pub(crate) answered: &'a AtomicU64,
    /// For how long they stay awake before they sleep.
    pub(crate) busy_poll: Duration,
}

/// What one thread did besides measuring.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    /// Connections that work.
    open: usize,
    /// Requests unanswered on them.
    in_flight: usize,
    /// The connection whose turn the next request of an open loop is.
    turn: usize,
    /// Requests that will have no answer.
    pub(crate) errors: u64,
    /// Why, for the first of them.
    pub(crate) cause: Option<String>,
    /// When the thread stopped measuring.
    pub(crate) ended: u64,
}

impl SteadyWorker {
    /// A worker for connections that stand.
    pub(crate) fn new(
        sockets: Vec<OwnedFd>,
        requests: RequestPattern,
        drive: WorkerMode,
        schedule: Schedule,
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
            recorder: Recorder::new(schedule),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Runs through all phases, on the calling thread.
    pub(crate) fn run(mut self, shared: RunContext<'_>) -> io::Result<(Recorder, WorkerCounts)> {
        let mut events = Events::with_capacity(1024);
        let mut now = shared.clock.now();
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
            // Relaxed: a figure for the eye.
            shared.answered.fetch_add(answers, Ordering::Relaxed);
        }
        self.counts.ended = now.min(self.schedule.to);
        Ok((self.recorder, self.counts))
    }

    /// A closed loop begins by filling every connection.
    fn fill_connections(&mut self, now: u64) {
        if let WorkerMode::Closed(depth) = self.mode {
            for index in 0..self.connections.len() {
                self.request(index, now, depth);
                self.send(index);
            }
        }
    }

    /// Whether there is nothing left to do. At the end of the measured interval it counts what an
    /// open loop has not got answered.
    fn is_over(&mut self, now: u64, interrupt: &Interrupt) -> bool {
        if self.counts.open == 0 || interrupt.is_set() {
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

    /// How long epoll may sleep: until something has to be done, and never so long that an
    /// interrupt goes unnoticed.
    fn wait_timeout(&self, now: u64) -> Duration {
        let wake = match &self.mode {
            // A request that is due within a millisecond, the finest that epoll can sleep, is
            // waited for awake.
            WorkerMode::Open(pace) => pace.next_due().min(self.schedule.to).saturating_sub(MS),
            WorkerMode::Closed(_) if now < self.schedule.to => self.schedule.to,
            WorkerMode::Closed(_) => self.schedule.drain_until,
        };
        Duration::from_nanos(wake.saturating_sub(now)).min(MAX_WAIT)
    }

    /// Reads a connection, records its answers, sends what follows from them. One `recv`, one look
    /// at the clock, one `send`. Returns the time.
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
        let settled = completed.and_then(|answers| {
            let recorder = &mut self.recorder;
            connection
                .in_flight
                .complete(answers, |since, count| recorder.answered(now, since, count))
                .map_err(|UnexpectedResponse| String::from("an answer came that nobody asked for"))
        });
        let answered = before - connection.in_flight.len();
        self.counts.in_flight -= answered;
        match settled {
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

    /// Hands out what an open loop owes, and sends it: all requests of a connection together.
    fn send_due(&mut self, now: u64) {
        let WorkerMode::Open(mut pace) = self.mode else {
            return;
        };
        let first = self.counts.turn;
        let mut touched = 0;
        // What is due at the end or later is no longer part of the run.
        while let Some(due) = pace.take_due(now.min(self.schedule.to - 1)) {
            let index = self.counts.turn;
            self.counts.turn = (index + 1) % self.connections.len();
            self.request(index, due, 1);
            touched += 1;
        }
        self.mode = WorkerMode::Open(pace);
        for offset in 0..touched.min(self.connections.len()) {
            let index = (first + offset) % self.connections.len();
            if let Some(connection) = &self.connections[index]
                && !connection.is_blocked()
            {
                self.send(index);
            }
        }
    }

    #[inline]
    fn request(&mut self, index: usize, since: u64, count: usize) {
        match &mut self.connections[index] {
            Some(connection) if count > 0 => {
                connection.request(&self.requests, since, count);
                self.counts.in_flight += count;
            }
            Some(_) => {}
            None => self.counts.errors += count as u64,
        }
    }

    /// Sends what a connection has unsent, and keeps epoll in step.
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

    /// Gives a connection up. It counts as one error even if nothing was in flight on it.
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

/// A quarter of a megabyte: large answers come in few reads, and it stays in the cache.
const SCRATCH: usize = 256 << 10;

/// How late an interrupt may be noticed.
const MAX_WAIT: Duration = Duration::from_millis(50);

const MS: u64 = 1_000_000;
