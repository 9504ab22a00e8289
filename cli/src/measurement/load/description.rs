// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was run, for the JSON of a load: with it, a reader of the figures can run it again.

use std::env;

use serde::Serialize;

use crate::measurement::process::machine::Machine;

use super::plan::{CallIds, LoadMode, LoadPlan};

/// The parameters of a run, its program and its machine.
#[derive(Debug, Serialize)]
pub(super) struct RunDescription {
    version: &'static str,
    command: Vec<String>,
    protocol: &'static str,
    address: String,
    connections: usize,
    payload_bytes: usize,
    threads: usize,
    /// `closed`, `open` or `churn`.
    mode: &'static str,
    in_flight_per_connection: Option<usize>,
    offered_requests_per_second: Option<u64>,
    call_ids: bool,
    pool_connections: Option<usize>,
    warm_up_seconds: f64,
    /// The longest measured interval; `null` if only the requests are limited.
    duration_seconds: Option<f64>,
    /// The most requests; `null` if only the time is limited.
    requests: Option<u64>,
    machine: Machine,
}

impl RunDescription {
    pub(super) fn of(plan: &LoadPlan) -> Self {
        let (mode, in_flight, offered) = match plan.mode {
            LoadMode::Closed(depth) => ("closed", Some(depth), None),
            LoadMode::Open(rate) => ("open", None, Some(rate)),
            LoadMode::Churn => ("churn", Some(1), None),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            command: env::args().collect(),
            protocol: plan.protocol.name(),
            address: plan.addr.to_string(),
            connections: plan.connections,
            payload_bytes: plan.size,
            threads: plan.threads.count,
            mode,
            in_flight_per_connection: in_flight,
            offered_requests_per_second: offered,
            call_ids: plan.ids == CallIds::First,
            pool_connections: plan.pool,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            duration_seconds: plan.has_duration().then_some(plan.duration.as_secs_f64()),
            requests: plan.requests,
            machine: Machine::this(),
        }
    }
}
