// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ClientStats`]: the counts of a mux client.

/// The statistics of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Calls in progress on the connection.
    pub in_flight: usize,
    /// Calls that wait for a permit.
    pub waiting: usize,
    /// Frames on the current connection that matched no call and were dropped: late, duplicate, of
    /// an unknown id, or pushes to a client without [`on_push`](super::ClientBuilder::on_push).
    pub unmatched_answers: u64,
    /// Connections that were opened.
    pub connections: u64,
}
