// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll load`: drives a server and reports throughput and latency.
//!
//! There are two questions about a server, and each has its own loop:
//!
//! * *How much can it do?* The **closed loop** keeps a fixed number of requests in flight on each
//!   connection; each response triggers a new request. A slow server receives fewer requests.
//! * *How long do users wait?* The **open loop** sends at a fixed rate, even while earlier requests
//!   are unanswered. The latency of a request counts from the time it was due. When the server
//!   stalls for a second, a second's worth of requests has waited, and the percentiles show it. A
//!   latency from the actual send would omit exactly these requests (coordinated omission).
//!
//! The load must not be the bottleneck. Each thread has its own epoll loop. It sends the due
//! requests of a connection in one call from prebuilt bytes, reads responses into one shared
//! buffer, reads the clock once per readiness event of a connection, and allocates nothing in the
//! steady state.
//!
//! ```text
//! run         connects, starts the threads, samples the server, adds up the results
//!   worker      one thread: epoll, the connections, the phases of a run
//!     connection   output, input, requests in flight
//!       requests     the bytes to send        responses  the bytes to expect
//!       unanswered   when each was sent       pacing     when each is due (open loop)
//!       allowance    how many may still start (--requests)
//!   churn       a thread whose connections carry one request each
//!     recorder     the latencies of the measured interval
//! live        rate and latency of a run that is under way
//! report      the results as JSON and as text, with a description of what was run
//! ```
//!
//! [`client_load`] is the exception: it calls through netpoll's client and so measures the client,
//! too.

mod allowance;
mod churn;
mod client_load;
pub(crate) mod connect;
mod connection;
mod description;
mod live;
mod pacing;
mod plan;
mod recorder;
mod report;
mod requests;
mod responses;
mod run;
mod schedule;
pub(crate) mod spec;
mod unanswered;
mod worker;

pub(crate) use client_load::ID_LEN;
pub(crate) use plan::{CallIds, LoadMode, LoadPlan, LoadThreads};
pub(crate) use report::{Report, latency, thousands};
pub(crate) use run::LoadResult;
use run::{LoadProgress, run as drive};

use std::time::Duration;

use crate::arguments::LoadArgs;
use crate::arguments::duration;
use crate::error::CliError;
use crate::measurement::progress::ProgressDisplay;
use crate::output;
use crate::signal::Interrupt;

use live::LiveRate;

/// Runs one load and prints the results.
///
/// # Errors
///
/// A server that cannot be reached, failed requests, no response at all, or an interrupt. The
/// results up to then have been printed.
pub(crate) fn run(arguments: &LoadArgs) -> Result<(), CliError> {
    let plan = LoadPlan::from_arguments(arguments)?;
    let interrupt =
        Interrupt::on_signals().map_err(|error| CliError::io("listen for signals", &error))?;
    let progress = ProgressDisplay::new(plan.warm_up + plan.duration, plan.to_string());
    let mut rate = LiveRate::after(plan.warm_up);
    let result = drive(&plan, &interrupt, &mut |state| {
        let (rate, p99) = (thousands(rate.at(state) as u64), latency(state.p99_us));
        progress.update_share(
            plan.done(state.elapsed, state.answered),
            state.elapsed,
            format_args!("{rate} requests/s, p99 {p99}"),
        );
    });
    progress.finish();
    let result = result?;
    let report = Report::of(&result);
    if arguments.output.json {
        output::result(report.json(&plan, &result))?;
    } else {
        output::result(report.table(&plan))?;
    }
    check_result(&plan, &result, &interrupt)
}

/// The most runs of a plan that one figure may take.
const MAX_ATTEMPTS: u32 = 10;

/// Runs `plan` for a figure, and returns a result without errors.
///
/// On a machine with other work, a server may answer nothing within a short interval. Such a run is
/// repeated, at most [`MAX_ATTEMPTS`] times in all. An interrupt ends it with the result up to then.
///
/// # Errors
///
/// Failed requests, no response in any run, or an error of the load.
pub(crate) fn drive_until_answered(
    plan: &LoadPlan,
    interrupt: &Interrupt,
    watch: &mut dyn FnMut(LoadProgress),
) -> Result<LoadResult, CliError> {
    for _ in 0..MAX_ATTEMPTS {
        let result = drive(plan, interrupt, watch)?;
        if let Some(cause) = &result.cause {
            let failed = format!("{} requests failed: {cause}", result.errors);
            return Err(CliError::new(failed));
        }
        if result.requests > 0 || interrupt.is_set() {
            return Ok(result);
        }
    }
    Err(CliError::new(format!(
        "the server answered no request in {MAX_ATTEMPTS} runs"
    )))
}

/// Returns an error if the run failed requests, was interrupted or got no response.
fn check_result(
    plan: &LoadPlan,
    result: &LoadResult,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let failed = if result.errors > 0 {
        let cause = result.cause.as_deref().unwrap_or("unknown cause");
        format!("{} requests failed: {cause}", result.errors)
    } else if interrupt.is_set() {
        String::from("interrupted")
    } else if result.requests == 0 {
        let seconds = Duration::from_secs_f64(result.seconds);
        format!(
            "no response from {} within {}",
            plan.addr,
            duration::display(seconds)
        )
    } else {
        return Ok(());
    };
    Err(CliError::new(failed))
}
