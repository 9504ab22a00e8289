// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load through netpoll's own client: so many callers, each with one call under way.
//!
//! The other loads measure a server and are as cheap as they can be; this one measures a client
//! too, as a program would use it. All callers are tasks of one poller, and so are the connections
//! they call over.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use netpoll::codec::LengthField;
use netpoll::mux::{Client, Message, Numbered};
use netpoll::{Addr, ConnPool, ConnPoolOptions, Dialer, JoinHandle};

use super::plan::{CallIds, LoadPlan};
use super::recorder::Recorder;
use super::run::{LoadProgress, LoadResult, LoadTotals, ServerTimeSampler};
use super::schedule::{RunClock, Schedule};
use super::worker::WorkerCounts;
use crate::error::CliError;
use crate::signal::Interrupt;

/// Bytes of the id that a call's payload begins with.
pub(crate) const ID_LEN: usize = 8;

/// What all callers share.
struct ClientLoad {
    clock: RunClock,
    schedule: Schedule,
    recorder: Mutex<Recorder>,
    answered: AtomicU64,
    errors: AtomicU64,
    cause: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// Runs `plan`: with a client for each connection, and as many callers of each as its depth; or with
/// a caller for each connection that was asked for, and a pool for all.
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
    let ways = call_paths(plan, depth).map_err(failed)?;
    let schedule = Schedule::new(plan.warm_up, plan.duration);
    let run = Arc::new(ClientLoad {
        clock: RunClock::start(),
        schedule,
        recorder: Mutex::new(Recorder::new(schedule)),
        answered: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        cause: Mutex::new(None),
        stop: AtomicBool::new(false),
    });
    // What comes with an id has that in front.
    let size = plan.size
        - if plan.ids == CallIds::First {
            ID_LEN
        } else {
            0
        };
    let payload: Arc<[u8]> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
    let callers: Vec<JoinHandle<()>> = ways
        .into_iter()
        .map(|way| {
            let (run, payload) = (Arc::clone(&run), Arc::clone(&payload));
            netpoll::spawn(async move { run.call(&way, &payload).await })
        })
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut witness = ServerTimeSampler::new(plan.server_pid, schedule);
    witness.watch(&run.clock, &run.answered, watch, || {
        let interrupted = interrupt.is_set();
        run.stop.store(interrupted, Ordering::Relaxed);
        !interrupted
    });
    let ended = run.clock.now().min(schedule.to);
    for caller in callers {
        caller.wait().map_err(failed)?;
    }
    Ok(run.outcome(ended, witness))
}

/// How a caller comes to its answer.
#[derive(Clone)]
enum CallPath {
    /// With the others of its connection.
    Mux(Client<Numbered<LengthField>>),
    /// Over a connection of the pool's, which is its own for one call.
    Pool(ConnPool, Addr),
}

/// A way for each caller.
fn call_paths(plan: &LoadPlan, depth: usize) -> io::Result<Vec<CallPath>> {
    if let Some(processor) = plan.threads.pin {
        // The poller's thread, which all of this runs on.
        netpoll::spawn(async move { netpoll_sys::process::pin_thread(processor) })?.wait()??;
    }
    let addr = plan.addr;
    if let Some(size) = plan.pool {
        let mut options = ConnPoolOptions::default();
        (options.max_connections, options.max_idle) = (size, size);
        options.max_waiting = plan.connections;
        options.wait_timeout = None;
        let pool = ConnPool::with_options(Dialer::new(), options)?;
        return Ok(vec![CallPath::Pool(pool, addr); plan.connections]);
    }
    let dialing: Vec<_> = (0..plan.connections)
        .map(|_| netpoll::spawn(async move { Dialer::new().dial(addr).await }))
        .collect::<io::Result<_>>()?;
    let mut ways = Vec::new();
    for conn in dialing {
        let client = Client::new(conn.wait()??, Numbered::new(LengthField::new()));
        ways.extend(vec![CallPath::Mux(client); depth]);
    }
    Ok(ways)
}

impl CallPath {
    /// Calls with `payload`, and says how long the answer is.
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
    /// One caller: calls again and again until the time is up or a call fails.
    async fn call(&self, way: &CallPath, payload: &[u8]) {
        loop {
            let since = self.clock.now();
            if since >= self.schedule.to || self.stop.load(Ordering::Relaxed) {
                return;
            }
            match way.call(payload).await {
                Ok(length) if length == payload.len() => {
                    let now = self.clock.now();
                    let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
                    recorder.answered(now, since, 1);
                    self.answered.store(recorder.answers(), Ordering::Relaxed);
                }
                Ok(_) => return self.fail("an answer has another length than its request"),
                Err(error) => return self.fail(&error.to_string()),
            }
        }
    }

    fn fail(&self, cause: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut first = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| cause.to_owned());
    }

    fn outcome(&self, ended: u64, witness: ServerTimeSampler) -> LoadResult {
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = LoadTotals::new();
        let mut tally = WorkerCounts::default();
        tally.errors = self.errors.load(Ordering::Relaxed);
        tally.cause.clone_from(&cause);
        tally.ended = ended;
        sum.add(&recorder, tally);
        sum.outcome(self.schedule, witness)
    }
}
