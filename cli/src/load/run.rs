// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run of a load, from the first connect to the sums.
//!
//! The threads do not speak with each other: they share a clock, a counter for whoever watches, and
//! the interrupt. The thread that started them sleeps, looks at the server's processor time when
//! the measured interval begins and ends, and adds up what they bring back.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::CliError;
use crate::process_stats;
use crate::signal::Interrupt;

use super::churn::ChurnWorker;
use super::client_load;
use super::connect::connect_all;
use super::pacing::{Pacer, RateShare};
use super::plan::{CallIds, LoadMode, LoadPlan};
use super::recorder::{Recorder, empty_histogram};
use super::requests::RequestPattern;
use super::schedule::{RunClock, Schedule, nanos};
use super::worker::{RunContext, SteadyWorker, WorkerCounts, WorkerMode};

/// What came out of a run.
#[derive(Clone, Debug)]
pub(crate) struct LoadResult {
    /// Answers that came within the measured interval.
    pub(crate) requests: u64,
    /// Requests that will have no answer.
    pub(crate) errors: u64,
    /// Why, for the first of them.
    pub(crate) cause: Option<String>,
    /// The length of the measured interval.
    pub(crate) seconds: f64,
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// What the server's process used, if it was asked for and lived to the end.
    pub(crate) server: Option<ServerTime>,
}

impl LoadResult {
    /// What comes out of an interval in which nothing happens.
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

    /// Requests per second; 0 for no time at all.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.requests as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// Adds what another run of the same plan brought, as if the two were one run.
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
    /// The time that passed meanwhile.
    pub(crate) passed: Duration,
}

/// How a run stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadProgress {
    /// Time since all connections stood, warm-up included.
    pub(crate) elapsed: Duration,
    /// Answers in the measured interval so far.
    pub(crate) answered: u64,
}

/// Runs `plan` and calls `watch` about twenty times a second meanwhile. An interrupt ends the run
/// early; what was measured until then is the outcome.
///
/// # Errors
///
/// A server that cannot be connected to or asked for its processor time.
pub(crate) fn run(
    plan: &LoadPlan,
    interrupt: &Interrupt,
    watch: &mut dyn FnMut(LoadProgress),
) -> Result<LoadResult, CliError> {
    if let Some(pid) = plan.server_pid {
        process_stats::processor_time(pid).map_err(|error| {
            CliError::io(format_args!("read the times of process {pid}"), &error)
        })?;
    }
    // If it cannot be raised, connecting tells what is missing.
    netpoll_sys::process::raise_descriptor_limit().ok();
    if let LoadMode::Closed(depth) = plan.mode
        && (plan.ids == CallIds::First || plan.pool.is_some())
    {
        return client_load::run(plan, depth, interrupt, watch);
    }
    let schedule = Schedule::new(plan.warm_up, plan.duration);
    let workers = workers(plan, schedule, interrupt)?;
    let answered = AtomicU64::new(0);
    let shared = RunContext {
        clock: RunClock::start(),
        interrupt,
        answered: &answered,
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
                    worker.run(shared)
                })
            })
            .collect();
        let mut witness = ServerTimeSampler::new(plan.server_pid, schedule);
        witness.watch(&shared.clock, &answered, watch, || {
            running.iter().any(|thread| !thread.is_finished())
        });
        let mut sum = LoadTotals::new();
        for thread in running {
            let (recorder, tally) = thread
                .join()
                .map_err(|_| CliError::new("a load thread panicked"))?
                .map_err(|error| CliError::io("go on measuring", &error))?;
            sum.add(&recorder, tally);
        }
        Ok(sum.outcome(schedule, witness))
    })
}

/// What one thread does.
enum LoadWorker {
    /// Its connections stay.
    Steady(SteadyWorker),
    /// Its connections come and go.
    Churn(ChurnWorker),
}

impl LoadWorker {
    fn run(self, shared: RunContext<'_>) -> io::Result<(Recorder, WorkerCounts)> {
        match self {
            Self::Steady(worker) => worker.run(shared),
            Self::Churn(churn) => churn.run(shared),
        }
    }
}

/// Connects everything that is to stay, and deals the connections out.
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
    let requests = |burst| RequestPattern::new(plan.protocol, plan.size, burst);
    let steady = |drive, burst| {
        SteadyWorker::new(sockets, requests(burst), drive, schedule).map(LoadWorker::Steady)
    };
    let hand = match plan.mode {
        LoadMode::Closed(depth) => steady(WorkerMode::Closed(depth), depth),
        LoadMode::Open(rate) => steady(WorkerMode::Open(Pacer::new(rate, share)), OPEN_BURST),
        LoadMode::Churn => {
            ChurnWorker::new(plan.addr, share, requests(1), schedule).map(LoadWorker::Churn)
        }
    };
    hand.map_err(|error| CliError::io("watch the connections", &error))
}

/// Takes the server's processor time when measuring begins and when it ends.
#[derive(Debug)]
pub(super) struct ServerTimeSampler {
    pid: Option<u32>,
    schedule: Schedule,
    /// When it was asked for the first time, and what was said.
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

    /// Sleeps until the interval is over, or the run is `under_way` no more, and has `watch` see
    /// meanwhile how it stands.
    pub(super) fn watch(
        &mut self,
        clock: &RunClock,
        answered: &AtomicU64,
        watch: &mut dyn FnMut(LoadProgress),
        mut under_way: impl FnMut() -> bool,
    ) {
        while self.sample(clock.now()) && under_way() {
            watch(LoadProgress {
                elapsed: Duration::from_nanos(clock.now()),
                answered: answered.load(Ordering::Relaxed),
            });
            thread::sleep(self.until_next(clock.now()));
        }
    }

    /// Looks if it is time to, and says whether the interval goes on.
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
        let used = process_stats::processor_time(self.pid?).ok()?;
        Some((now, used))
    }

    /// Until the interval begins or ends, or the watcher wants to see something.
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

/// What the threads brought back so far.
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

    pub(super) fn add(&mut self, recorder: &Recorder, tally: WorkerCounts) {
        self.requests += recorder.answers();
        self.errors += tally.errors;
        self.ended = self.ended.max(tally.ended);
        if let Some(cause) = tally.cause {
            self.cause.get_or_insert(cause);
        }
        self.latency += recorder.latency();
    }

    pub(super) fn outcome(self, schedule: Schedule, witness: ServerTimeSampler) -> LoadResult {
        let measured = self.ended.saturating_sub(schedule.from);
        debug_assert!(measured <= nanos(Duration::from_secs(7 * 24 * 3600)));
        LoadResult {
            requests: self.requests,
            errors: self.errors,
            cause: self.cause,
            seconds: Duration::from_nanos(measured).as_secs_f64(),
            latency: self.latency,
            server: witness.server(),
        }
    }
}

/// What an open loop may send to one connection at once without a second call: it seldom owes more.
const OPEN_BURST: usize = 64;

/// How often the watcher sees something.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
