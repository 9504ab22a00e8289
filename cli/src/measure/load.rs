// SPDX-License-Identifier: MIT OR Apache-2.0
//! The load of a measurement: one thread on a processor of its own, which asks for the processor time
//! of the server.

use std::time::Duration;

use crate::arguments::Protocol;
use crate::load::{Ids, Plan, Pressure, Threads};

use super::child::{LOAD_PROCESSOR, Server};

/// What a load sends, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Payload bytes of each.
    pub(crate) size: usize,
    pub(crate) pressure: Pressure,
}

/// A load on `server` that runs for `warm_up` before it is measured for `duration`.
pub(crate) fn plan(
    server: &Server,
    requests: Requests,
    warm_up: Duration,
    duration: Duration,
) -> Plan {
    Plan {
        protocol: requests.protocol,
        ids: Ids::None,
        pool: None,
        addr: server.addr().into(),
        connections: requests.connections,
        size: requests.size,
        pressure: requests.pressure,
        warm_up,
        duration,
        busy_poll: Duration::ZERO,
        threads: Threads {
            count: 1,
            pin: Some(LOAD_PROCESSOR),
        },
        server_pid: Some(server.pid()),
    }
}
