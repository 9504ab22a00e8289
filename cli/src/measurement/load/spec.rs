// SPDX-License-Identifier: MIT OR Apache-2.0
//! The load of a measurement: one thread on its own processor, with the server's processor time.

use std::time::Duration;

use super::{CallIds, LoadMode, LoadPlan, LoadThreads};
use crate::arguments::Protocol;

use crate::measurement::process::server::{LOAD_PROCESSOR, ServerProcess};

/// The requests of a load and its mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadSpec {
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Payload bytes of a request.
    pub(crate) size: usize,
    pub(crate) mode: LoadMode,
}

/// Plans a load on `server`, with `warm_up` before a measured interval of `duration`.
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
        mode: requests.mode,
        warm_up,
        duration,
        requests: None,
        busy_poll: Duration::ZERO,
        threads: LoadThreads {
            count: 1,
            pin: Some(LOAD_PROCESSOR),
        },
        server_pid: Some(server.pid()),
    }
}
