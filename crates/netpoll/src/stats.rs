// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event loop and its connections have done so far, as numbers.
//!
//! Each poller counts for itself, in [`counters`] that no other thread writes; a snapshot adds
//! them up when somebody asks. So counting costs a request a few additions in memory that its
//! poller has at hand, and asking costs a read of it. A snapshot is taken while the pollers go on:
//! each number is right for some moment of the call, and two of them need not fit to the last
//! request.
//!
//! All counts begin with the making of the loop, and stay readable after its end.

pub(crate) mod counters;

use std::time::Duration;

use crate::admission::AcceptStats;
pub use counters::{ClosedStats, PollerStats};

/// What an event loop has done so far: a snapshot, made by
/// [`LoopHandle::stats`](crate::LoopHandle::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// Connections that its listeners brought, and that are open.
    pub connections: usize,
    /// What has become of the connections that came.
    pub accept: AcceptStats,
    /// How many connections ended, and for which reasons.
    pub closed: ClosedStats,
    /// What each poller has done.
    pub pollers: Vec<PollerStats>,
}

impl LoopStats {
    /// What all pollers have done together.
    #[must_use]
    pub fn total(&self) -> PollerStats {
        let mut total = PollerStats::default();
        self.pollers.iter().for_each(|poller| total.add(poller));
        total
    }
}

/// What one connection has done so far: a snapshot, made by
/// [`Connection::stats`](crate::Connection::stats) and
/// [`ConnectionHandle::stats`](crate::ConnectionHandle::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// Bytes that have come from the kernel.
    pub received: u64,
    /// Bytes that the kernel has taken.
    pub sent: u64,
    /// Requests of bursts that are over: see [`PollerStats::requests`].
    pub requests: u64,
    /// Bytes that have come and that the handler has not read. Asked through a handle, what the
    /// connection itself holds of them is not among these.
    pub waiting: usize,
    /// Bytes that were put and that the kernel has not taken.
    pub unsent: usize,
    /// How long ago its poller last moved bytes of it, either way.
    pub idle: Duration,
}
