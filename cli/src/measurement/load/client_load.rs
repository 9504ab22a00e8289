// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load through netpoll's own client: a number of callers, each with one call in flight.
//!
//! The other loads measure a server and are as cheap as possible. This one measures a client too,
//! used as a program would use it. All callers are tasks of one poller, and so are their
//! connections.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use netpoll::codec::LengthField;
use netpoll::mux::{Client, Message, Numbered};
use netpoll::pool::{ConnPool, ConnPoolOptions};
use netpoll::task::JoinHandle;
use netpoll::{Addr, Dialer};

use super::live::{LiveLatency, PUBLISH_INTERVAL};
use super::plan::{CallIds, LoadPlan};
use super::recorder::Recorder;
use super::run::{LoadProgress, LoadResult, LoadTotals, ServerTimeSampler};
use super::schedule::{RunClock, Schedule};
use super::worker::WorkerCounts;
use crate::error::CliError;
use crate::signal::Interrupt;

/// Length in bytes of the call id at the start of a payload.
pub(crate) const ID_LEN: usize = 8;

/// The state that all callers share.
struct ClientLoad {
    clock: RunClock,
    schedule: Schedule,
    recorder: Mutex<Recorder>,
    answered: AtomicU64,
    /// Calls begun so far.
    begun: AtomicU64,
    /// The most calls.
    most: u64,
    /// Callers that have not ended.
    callers: AtomicUsize,
    live: LiveLatency,
    /// The time of the next copy for the progress display.
    publish_at: AtomicU64,
    errors: AtomicU64,
    cause: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// Runs `plan`: either one mux client per connection, with `depth` callers each; or one caller per
/// requested connection, all with one pool.
///
/// # Errors
///
/// A server that cannot be connected to.
pub(super) fn run(
    plan: &LoadPlan,
    depth: usize,
    interrupt: &Interrupt,
    watch: &mut dyn FnMut(LoadProgress),
) -> Result<LoadResult, CliError> {
    let failed = |error: io::Error| {
        let what = format!("open connections to {}", plan.addr);
        CliError::io(what, &error)
    };
    let paths = call_paths(plan, depth).map_err(failed)?;
    let schedule = Schedule::new(plan.warm_up, plan.duration);
    let run = Arc::new(ClientLoad {
        clock: RunClock::start(),
        schedule,
        recorder: Mutex::new(Recorder::new(schedule)),
        answered: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        most: plan.requests.unwrap_or(u64::MAX),
        callers: AtomicUsize::new(paths.len()),
        live: LiveLatency::new(1),
        publish_at: AtomicU64::new(PUBLISH_INTERVAL),
        errors: AtomicU64::new(0),
        cause: Mutex::new(None),
        stop: AtomicBool::new(false),
    });
    // The client prepends the id to the payload.
    let size = plan.size
        - if plan.ids == CallIds::First {
            ID_LEN
        } else {
            0
        };
    let payload: Arc<[u8]> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
    let callers: Vec<JoinHandle<()>> = paths
        .into_iter()
        .map(|path| {
            let (run, payload) = (Arc::clone(&run), Arc::clone(&payload));
            netpoll::spawn(async move {
                run.call(&path, &payload).await;
                run.callers.fetch_sub(1, Ordering::Relaxed);
            })
        })
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut sampler = ServerTimeSampler::new(plan.server_pid, schedule);
    sampler.watch(&run.clock, (&run.answered, &run.live), watch, || {
        let interrupted = interrupt.is_set();
        run.stop.store(interrupted, Ordering::Relaxed);
        !interrupted && run.callers.load(Ordering::Relaxed) > 0
    });
    let ended = run.clock.now().min(schedule.to);
    for caller in callers {
        caller.wait().map_err(failed)?;
    }
    Ok(run.result(ended, sampler))
}

/// How a caller sends its calls.
#[derive(Clone)]
enum CallPath {
    /// Over a connection shared with other callers.
    Mux(Client<Numbered<LengthField>>),
    /// Over a connection of the pool, checked out for each call.
    Pool(ConnPool, Addr),
}

/// Returns a path for each caller.
fn call_paths(plan: &LoadPlan, depth: usize) -> io::Result<Vec<CallPath>> {
    if let Some(processor) = plan.threads.pin {
        // Pins the poller's thread, which runs everything here.
        netpoll::spawn(async move { netpoll_sys::process::pin_thread(processor) })?.wait()??;
    }
    let addr = plan.addr;
    if let Some(size) = plan.pool {
        let options = ConnPoolOptions::default()
            .max_connections(size)
            .max_idle(size)
            .max_waiting(plan.connections)
            .wait_timeout(None);
        let pool = ConnPool::with_options(Dialer::new(), options)?;
        return Ok(vec![CallPath::Pool(pool, addr); plan.connections]);
    }
    let dialing: Vec<_> = (0..plan.connections)
        .map(|_| netpoll::spawn(async move { Dialer::new().dial(addr).await }))
        .collect::<io::Result<_>>()?;
    let mut paths = Vec::new();
    for conn in dialing {
        let client = Client::new(conn.wait()??, Numbered::new(LengthField::new()));
        paths.extend(vec![CallPath::Mux(client); depth]);
    }
    Ok(paths)
}

impl CallPath {
    /// Sends `payload` and returns the length of the response's payload.
    async fn call(&self, payload: &[u8]) -> io::Result<usize> {
        match self {
            Self::Mux(client) => Ok(client.call(Message::new(payload)).await?.body.len()),
            Self::Pool(pool, addr) => {
                let mut conn = pool.get(*addr).await?;
                let (mut reader, mut writer) = conn.split();
                let length = payload.len() as u32;
                writer.put_slices(&[&length.to_be_bytes(), payload]);
                let length = reader.read_u32().await? as usize;
                reader.skip(length).await?;
                conn.recycle();
                Ok(length)
            }
        }
    }
}

impl ClientLoad {
    /// Runs one caller: calls until the time is up or a call fails.
    async fn call(&self, path: &CallPath, payload: &[u8]) {
        loop {
            let since = self.clock.now();
            if since >= self.schedule.to || self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.begun.fetch_add(1, Ordering::Relaxed) >= self.most {
                return;
            }
            match path.call(payload).await {
                Ok(length) if length == payload.len() => {
                    let now = self.clock.now();
                    let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
                    recorder.answered(now, since, 1);
                    self.answered.store(recorder.answers(), Ordering::Relaxed);
                    // Under the lock, so one caller at a time.
                    if now >= self.publish_at.load(Ordering::Relaxed) {
                        self.live.publish(0, recorder.latency());
                        self.publish_at
                            .store(now + PUBLISH_INTERVAL, Ordering::Relaxed);
                    }
                }
                Ok(_) => return self.fail("a response has another length than its request"),
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }

    fn fail(&self, cause: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut first = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| cause.to_owned());
    }

    fn result(&self, ended: u64, sampler: ServerTimeSampler) -> LoadResult {
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = LoadTotals::new();
        let mut counts = WorkerCounts::default();
        counts.errors = self.errors.load(Ordering::Relaxed);
        counts.cause.clone_from(&cause);
        // Callers that ran out of calls ended before the run was seen to be over.
        counts.ended = match self.begun.load(Ordering::Relaxed) > self.most {
            true => recorder.last_answer(),
            false => ended,
        };
        totals.add(&recorder, counts);
        totals.result(self.schedule, sampler)
    }
}
