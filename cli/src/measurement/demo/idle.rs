// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory cost of idle connections of both servers of a demo.

use serde::Serialize;

/// The memory cost of idle connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IdleCost {
    /// The intended number of connections.
    #[serde(skip)]
    pub(crate) wanted: usize,
    /// The actual number of connections.
    pub(crate) connections: usize,
    /// Resident bytes per connection of the framework's process.
    pub(crate) netpoll_bytes: f64,
    /// Resident bytes per connection of the bare loop's process.
    pub(crate) bare_loop_bytes: f64,
}
