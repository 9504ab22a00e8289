// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load through netpoll's own client: so many callers, each with one call under way.
//!
//! The other loads measure a server and are as cheap as they can be; this one measures a client
//! too, as a program would use it. All callers are tasks of one poller, and so are the connections
//! they call over.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use netpoll::codec::LengthField;
use netpoll::mux::{Client, Message, Numbered};
use netpoll::{Dialer, Task};

use super::plan::Plan;
use super::recorder::Recorder;
use super::schedule::{Clock, Schedule};
use super::session::{Moment, Outcome, Sum, Witness};
use super::worker::Tally;
use crate::failure::Failure;
use crate::signal::Interrupt;

/// Bytes of the id that a call's payload begins with.
pub(crate) const ID: usize = 8;

/// What all callers share.
struct Run {
    clock: Clock,
    schedule: Schedule,
    recorder: Mutex<Recorder>,
    answered: AtomicU64,
    errors: AtomicU64,
    cause: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// Runs `plan` with a client for each connection and as many callers of each as its depth.
///
/// # Errors
///
/// A server that cannot be connected to.
pub(super) fn run(
    plan: &Plan,
    depth: usize,
    interrupt: &Interrupt,
    watch: &mut dyn FnMut(Moment),
) -> Result<Outcome, Failure> {
    let failed = |error: io::Error| {
        let what = format!("open {} connections to {}", plan.connections, plan.addr);
        Failure::while_trying(what, &error)
    };
    let clients = clients(plan).map_err(failed)?;
    let schedule = Schedule::new(plan.warm_up, plan.duration);
    let run = Arc::new(Run {
        clock: Clock::start(),
        schedule,
        recorder: Mutex::new(Recorder::new(schedule)),
        answered: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        cause: Mutex::new(None),
        stop: AtomicBool::new(false),
    });
    let payload: Arc<[u8]> = (ID..plan.size)
        .map(|at| (at * 7 + at / 251) as u8)
        .collect();
    let callers = clients
        .iter()
        .flat_map(|client| (0..depth).map(move |_| client));
    let callers: Vec<Task<()>> = callers
        .map(|client| {
            let (client, run) = (client.clone(), Arc::clone(&run));
            let payload = Arc::clone(&payload);
            netpoll::spawn(async move { run.call(&client, &payload).await })
        })
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut witness = Witness::new(plan.server_pid, schedule);
    while witness.goes_on(run.clock.now()) && !run.stop.load(Ordering::Relaxed) {
        if interrupt.came() {
            run.stop.store(true, Ordering::Relaxed);
        }
        watch(Moment {
            elapsed: Duration::from_nanos(run.clock.now()),
            answered: run.answered.load(Ordering::Relaxed),
        });
        thread::sleep(witness.until_next(run.clock.now()));
    }
    let ended = run.clock.now().min(schedule.to);
    for caller in callers {
        caller.wait().map_err(failed)?;
    }
    Ok(run.outcome(ended, witness))
}

/// A connected client for each connection.
fn clients(plan: &Plan) -> io::Result<Vec<Client<Numbered<LengthField>>>> {
    let (addr, pin) = (plan.addr, plan.threads.pin);
    let dialing: Vec<_> = (0..plan.connections)
        .map(|_| {
            netpoll::spawn(async move {
                if let Some(processor) = pin {
                    // The poller's thread, which all of this runs on.
                    netpoll_sys::process::pin_thread(processor)?;
                }
                Dialer::new().dial(addr).await
            })
        })
        .collect::<io::Result<_>>()?;
    let connected = dialing.into_iter().map(|dialing| {
        let codec = Numbered::new(LengthField::new());
        Ok(Client::new(dialing.wait()??, codec))
    });
    connected.collect()
}

impl Run {
    /// One caller: calls again and again until the time is up or a call fails.
    async fn call(&self, client: &Client<Numbered<LengthField>>, payload: &[u8]) {
        loop {
            let since = self.clock.now();
            if since >= self.schedule.to || self.stop.load(Ordering::Relaxed) {
                return;
            }
            match client.call(Message::new(payload)).await {
                Ok(answer) if answer.body.len() == payload.len() => {
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

    fn outcome(&self, ended: u64, witness: Witness) -> Outcome {
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Sum::new();
        let mut tally = Tally::default();
        tally.errors = self.errors.load(Ordering::Relaxed);
        tally.cause.clone_from(&cause);
        tally.ended = ended;
        sum.add(&recorder, tally);
        sum.outcome(self.schedule, witness)
    }
}
