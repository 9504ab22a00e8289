// SPDX-License-Identifier: MIT OR Apache-2.0
//! The load of a measurement: one thread on a processor of its own, which asks for the processor time
//! of the server.

use std::time::Duration;

use crate::arguments::Protocol;
use crate::load::{CallIds, LoadMode, LoadPlan, LoadThreads};

use super::server_process::{LOAD_PROCESSOR, ServerProcess};

/// What a load sends, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadSpec {
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Payload bytes of each.
    pub(crate) size: usize,
    pub(crate) pressure: LoadMode,
}

/// A load on `server` that runs for `warm_up` before it is measured for `duration`.
pub(crate) fn plan(
    server: &ServerProcess,
    requests: LoadSpec,
    warm_up: Duration,
    duration: Duration,
) -> LoadPlan {
    LoadPlan {
        protocol: requests.protocol,
        ids: CallIds::None,
        pool: None,
        addr: server.addr().into(),
        connections: requests.connections,
        size: requests.size,
        mode: requests.pressure,
        warm_up,
        duration,
        busy_poll: Duration::ZERO,
        threads: LoadThreads {
            count: 1,
            pin: Some(LOAD_PROCESSOR),
        },
        server_pid: Some(server.pid()),
    }
}
