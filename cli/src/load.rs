// SPDX-License-Identifier: MIT OR Apache-2.0
//! `netpoll load`: drives a server and says how fast it answered.
//!
//! There are two questions one can ask a server, and they are not the same:
//!
//! * *How much can it do?* The **closed loop** keeps a fixed number of requests in flight on each
//!   connection and sends a new one for each answer. A slow server is asked less.
//! * *How long do users wait?* The **open loop** sends at a fixed rate, whatever is still
//!   unanswered, and counts the latency of a request from the moment it was meant to be sent. When
//!   the server stalls for a second, a second's worth of requests has waited, and shows in the
//!   percentiles. Counting from the actual send would omit just those.
//!
//! The load must never be what is measured. It has an epoll loop of its own on each thread, sends
//! the requests that fall due together in one call from bytes that were built beforehand, reads
//! answers into one buffer for all, looks at the clock once for each wake of a connection, and
//! allocates nothing while it runs.
//!
//! ```text
//! session   connects, starts the threads, watches, sums up
//!   worker     one thread: epoll, the connections, the phases of a run
//!     connection   bytes out, bytes in, requests in flight
//!       requests     what goes out        answers   what must come back
//!       in_flight    when each was sent   pace      when each is due (open loop)
//!   churn      another thread, whose connections are for one request each
//!     recorder     latencies of the measured interval
//! report    what is said about it
//! ```
//!
//! The load of [`callers`] is another: it calls through netpoll's client, which is measured, too.

mod churn;
mod client_load;
pub(crate) mod connect;
mod connection;
mod pacing;
mod plan;
mod recorder;
mod report;
mod requests;
mod responses;
mod run;
mod schedule;
mod unanswered;
mod worker;

pub(crate) use client_load::ID_LEN;
pub(crate) use plan::{CallIds, LoadMode, LoadPlan, LoadThreads};
pub(crate) use report::{Report, latency, thousands};
pub(crate) use run::{LoadResult, run as drive};

use crate::arguments::LoadArgs;
use crate::error::CliError;
use crate::progress::ProgressDisplay;
use crate::signal::Interrupt;
use crate::{duration, output};

/// Runs one load and prints what came out.
///
/// # Errors
///
/// A server that cannot be reached, that failed requests or answered none; an interrupt. What was
/// measured until then has been printed.
pub(crate) fn run(arguments: &LoadArgs) -> Result<(), CliError> {
    let plan = LoadPlan::from_arguments(arguments)?;
    let interrupt =
        Interrupt::on_signals().map_err(|error| CliError::io("listen for signals", &error))?;
    let progress = ProgressDisplay::new(plan.warm_up + plan.duration, plan.to_string());
    let outcome = drive(&plan, &interrupt, &mut |moment| {
        progress.update(
            moment.elapsed,
            format_args!("{} answers", thousands(moment.answered)),
        );
    });
    progress.finish();
    let outcome = outcome?;
    let report = Report::of(&outcome);
    if arguments.output.json {
        output::result(report.json())?;
    } else {
        output::result(report.table(&plan))?;
    }
    check_result(&plan, &outcome, &interrupt)
}

/// Whether a run was what it was meant to be.
fn check_result(
    plan: &LoadPlan,
    outcome: &LoadResult,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let failed = if outcome.errors > 0 {
        let cause = outcome.cause.as_deref().unwrap_or("for no known reason");
        format!("{} requests failed: {cause}", outcome.errors)
    } else if interrupt.is_set() {
        String::from("interrupted before the end")
    } else if outcome.requests == 0 {
        let duration = duration::display(plan.duration);
        format!("no answer came from {} within {duration}", plan.addr)
    } else {
        return Ok(());
    };
    Err(CliError::new(failed))
}
