// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run of a load, from the first connect to the totals.
//!
//! The threads do not communicate. They share a clock, a counter for the progress display, and the
//! interrupt. The thread that started them sleeps, samples the server's processor time at the
//! beginning and the end of the measured interval, and adds up the results.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::CliError;
use crate::measurement::process::stats;
use crate::signal::Interrupt;

use super::allowance::Allowance;
use super::churn::ChurnWorker;
use super::client_load;
use super::connect::connect_all;
use super::live::{LiveLatency, PUBLISH_INTERVAL};
use super::pacing::{Pacer, RateShare};
use super::plan::{CallIds, LoadMode, LoadPlan};
use super::recorder::{Recorder, empty_histogram};
use super::requests::RequestPattern;
use super::schedule::{RunClock, Schedule, nanos};
use super::worker::{RunContext, SteadyWorker, WorkerCounts, WorkerMode};

/// The result of a run.
#[derive(Clone, Debug)]
pub(crate) struct LoadResult {
    /// Responses within the measured interval.
    pub(crate) requests: u64,
    /// Requests that will have no response.
    pub(crate) errors: u64,
    /// The cause of the first error.
    pub(crate) cause: Option<String>,
    /// The length of the measured interval in seconds.
    pub(crate) seconds: f64,
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The processor time of the server, if requested and if the process lived to the end.
    pub(crate) server: Option<ServerTime>,
}

impl LoadResult {
    /// Creates the result of an interval without requests.
    #[cfg(test)]
    pub(crate) fn empty(seconds: f64) -> Self {
        Self {
            requests: 0,
            errors: 0,
            cause: None,
            seconds,
            latency: empty_histogram(),
            server: None,
        }
    }

    /// Returns the requests per second; 0 for an empty interval.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.requests as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Adds the result of another run of the same plan, as if both were one run.
    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.cause = self.cause.take().or(other.cause);
        self.seconds += other.seconds;
        self.latency += other.latency;
        self.server = match (self.server, other.server) {
            (Some(one), Some(two)) => Some(ServerTime {
                used: one.used + two.used,
                passed: one.passed + two.passed,
            }),
            _ => None,
        };
    }
}

/// The processor time of a server over an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerTime {
    /// Processor time used.
    pub(crate) used: Duration,
    /// The elapsed time.
    pub(crate) passed: Duration,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadProgress {
    /// Time since all connections were open, warm-up included.
    pub(crate) elapsed: Duration,
    /// Responses in the measured interval so far.
    pub(crate) answered: u64,
    /// The latency that 99 % of them did not exceed, in microseconds.
    pub(crate) p99_us: Option<f64>,
}

/// Runs `plan` and calls `watch` about twenty times a second. An interrupt ends the run early, with
/// the result up to then.
///
/// # Errors
///
/// A server that cannot be connected to, or whose processor time cannot be read.
pub(crate) fn run(
    plan: &LoadPlan,
    interrupt: &Interrupt,
    watch: &mut dyn FnMut(LoadProgress),
) -> Result<LoadResult, CliError> {
    if let Some(pid) = plan.server_pid {
        stats::processor_time(pid).map_err(|error| {
            CliError::io(
                format_args!("read the processor time of process {pid}"),
                &error,
            )
        })?;
    }
    // If this fails, a connect that runs into the limit reports it.
    netpoll_sys::process::raise_descriptor_limit().ok();
    if let LoadMode::Closed(depth) = plan.mode
        && (plan.ids == CallIds::First || plan.pool.is_some())
    {
        return client_load::run(plan, depth, interrupt, watch);
    }
    let schedule = Schedule::new(plan.warm_up, plan.duration);
    let workers = workers(plan, schedule, interrupt)?;
    let answered = AtomicU64::new(0);
    let live = LiveLatency::new(workers.len());
    let shared = RunContext {
        clock: RunClock::start(),
        interrupt,
        answered: &answered,
        live: &live,
        busy_poll: plan.busy_poll,
    };
    thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(index, worker)| {
                let pin = plan.threads.pin.map(|first| first + index);
                scope.spawn(move || {
                    if let Some(processor) = pin {
                        netpoll_sys::process::pin_thread(processor)?;
                    }
                    worker.run(index, shared)
                })
            })
            .collect();
        let mut sampler = ServerTimeSampler::new(plan.server_pid, schedule);
        sampler.watch(&shared.clock, (&answered, &live), watch, || {
            running.iter().any(|thread| !thread.is_finished())
        });
        let mut totals = LoadTotals::new();
        for thread in running {
            let (recorder, counts) = thread
                .join()
                .map_err(|_| CliError::new("a load thread panicked"))?
                .map_err(|error| CliError::io("continue measuring", &error))?;
            totals.add(&recorder, counts);
        }
        Ok(totals.result(schedule, sampler))
    })
}

/// The work of one thread.
enum LoadWorker {
    /// Long-lived connections.
    Steady(SteadyWorker),
    /// A connection for each request.
    Churn(ChurnWorker),
}

impl LoadWorker {
    fn run(self, thread: usize, shared: RunContext<'_>) -> io::Result<(Recorder, WorkerCounts)> {
        match self {
            Self::Steady(worker) => worker.run(thread, shared),
            Self::Churn(churn) => churn.run(thread, shared),
        }
    }
}

/// Opens the long-lived connections and distributes them over the threads.
fn workers(
    plan: &LoadPlan,
    schedule: Schedule,
    interrupt: &Interrupt,
) -> Result<Vec<LoadWorker>, CliError> {
    let mut sockets = match plan.mode {
        LoadMode::Churn => Vec::new(),
        _ => connect_all(plan.addr, plan.connections, interrupt)?,
    };
    let count = plan.threads.count.clamp(1, plan.connections);
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        let before = plan.connections * index / count;
        let own = plan.connections * (index + 1) / count - before;
        let share = RateShare {
            before,
            own,
            all: plan.connections,
        };
        let part = sockets.split_off(sockets.len().saturating_sub(own));
        workers.push(worker(plan, schedule, part, share)?);
    }
    Ok(workers)
}

fn worker(
    plan: &LoadPlan,
    schedule: Schedule,
    sockets: Vec<OwnedFd>,
    share: RateShare,
) -> Result<LoadWorker, CliError> {
    let requests = |batch| RequestPattern::new(plan.protocol, plan.size, batch);
    let allowance = Allowance::of_thread(plan.requests, share);
    let steady = |drive, batch| {
        SteadyWorker::new(sockets, requests(batch), drive, (schedule, allowance))
            .map(LoadWorker::Steady)
    };
    let worker = match plan.mode {
        LoadMode::Closed(depth) => steady(WorkerMode::Closed(depth), depth),
        LoadMode::Open(rate) => steady(WorkerMode::Open(Pacer::new(rate, share)), OPEN_BATCH),
        LoadMode::Churn => ChurnWorker::new(plan.addr, share, requests(1), (schedule, allowance))
            .map(LoadWorker::Churn),
    };
    worker.map_err(|error| CliError::io("watch the connections", &error))
}

/// Samples the server's processor time at the beginning and the end of the measured interval.
#[derive(Debug)]
pub(super) struct ServerTimeSampler {
    pid: Option<u32>,
    schedule: Schedule,
    /// The time and the value of the first sample.
    first: Option<(u64, Duration)>,
    last: Option<(u64, Duration)>,
}

impl ServerTimeSampler {
    pub(super) fn new(pid: Option<u32>, schedule: Schedule) -> Self {
        Self {
            pid,
            schedule,
            first: None,
            last: None,
        }
    }

    /// Sleeps until the interval is over or `is_running` returns false, and calls `watch` with the
    /// progress meanwhile.
    pub(super) fn watch(
        &mut self,
        clock: &RunClock,
        (answered, live): (&AtomicU64, &LiveLatency),
        watch: &mut dyn FnMut(LoadProgress),
        mut is_running: impl FnMut() -> bool,
    ) {
        let mut p99_us = None;
        let mut p99_at = 0;
        while self.sample(clock.now()) && is_running() {
            let now = clock.now();
            if now >= p99_at {
                p99_us = live.p99_us();
                p99_at = now + PUBLISH_INTERVAL;
            }
            watch(LoadProgress {
                elapsed: Duration::from_nanos(now),
                answered: answered.load(Ordering::Relaxed),
                p99_us,
            });
            thread::sleep(self.until_next(now));
        }
        // The requests are all answered, or the run was interrupted.
        if self.last.is_none() {
            self.last = self.read(clock.now());
        }
    }

    /// Takes a sample if one is due. Returns false after the end of the interval.
    fn sample(&mut self, now: u64) -> bool {
        if now >= self.schedule.to {
            self.last = self.read(now);
            return false;
        }
        if now >= self.schedule.from && self.first.is_none() {
            self.first = self.read(now);
        }
        true
    }

    fn read(&self, now: u64) -> Option<(u64, Duration)> {
        let used = stats::processor_time(self.pid?).ok()?;
        Some((now, used))
    }

    /// Returns the time until the next sample or the next call of `watch`.
    fn until_next(&self, now: u64) -> Duration {
        let next = if now < self.schedule.from {
            self.schedule.from
        } else {
            self.schedule.to
        };
        Duration::from_nanos(next.saturating_sub(now)).min(WATCH_INTERVAL)
    }

    fn server(&self) -> Option<ServerTime> {
        let ((begin, before), (end, after)) = (self.first?, self.last?);
        Some(ServerTime {
            used: after.saturating_sub(before),
            passed: Duration::from_nanos(end - begin),
        })
    }
}

/// The totals of the threads' results.
#[derive(Debug)]
pub(super) struct LoadTotals {
    requests: u64,
    errors: u64,
    cause: Option<String>,
    ended: u64,
    latency: Histogram<u64>,
}

impl LoadTotals {
    pub(super) fn new() -> Self {
        Self {
            requests: 0,
            errors: 0,
            cause: None,
            ended: 0,
            latency: empty_histogram(),
        }
    }

    pub(super) fn add(&mut self, recorder: &Recorder, counts: WorkerCounts) {
        self.requests += recorder.answers();
        self.errors += counts.errors;
        self.ended = self.ended.max(counts.ended);
        if let Some(cause) = counts.cause {
            self.cause.get_or_insert(cause);
        }
        self.latency += recorder.latency();
    }

    pub(super) fn result(self, schedule: Schedule, sampler: ServerTimeSampler) -> LoadResult {
        let measured = self.ended.saturating_sub(schedule.from);
        debug_assert!(measured <= nanos(Duration::from_secs(7 * 24 * 3600)));
        LoadResult {
            requests: self.requests,
            errors: self.errors,
            cause: self.cause,
            seconds: Duration::from_nanos(measured).as_secs_f64(),
            latency: self.latency,
            server: sampler.server(),
        }
    }
}

/// The number of requests that an open loop can send on a connection in one call. It seldom owes
/// more.
const OPEN_BATCH: usize = 64;

/// The interval between calls of `watch`.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
