// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection costs both servers of a demo while nothing happens on it.

use serde::Serialize;

/// What idle connections cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IdleCost {
    /// How many there should have been.
    #[serde(skip)]
    pub(crate) wanted: usize,
    /// How many there were.
    pub(crate) connections: usize,
    /// Bytes of the framework's process for each.
    pub(crate) netpoll_bytes: f64,
    /// Bytes of the bare loop's process for each.
    pub(crate) bare_loop_bytes: f64,
}
