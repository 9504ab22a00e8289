// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of the counters of an event loop and of its connections.
//!
//! All counts are always on. They start when the loop is built, and stay readable after it has
//! ended.
//!
//! ```
//! use netpoll::stats::LoopStats;
//! use netpoll::{Connection, EventLoop, Listener};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = EventLoop::builder()
//!     .on_request(async |_: &mut Connection| Ok(()))
//!     .listen(Listener::bind("127.0.0.1:0")?)
//!     .build()?;
//! let stats: LoopStats = server.handle().stats();
//! assert_eq!((stats.connections, stats.total().opened), (0, 0));
//! # Ok(()) }
//! ```

// # Implementation
//
// Each poller counts in `counters` of its own that no other thread writes. A snapshot adds them
// up on demand. Counting costs a request a few additions in memory that its poller has in cache; a
// snapshot costs a read of it. Pollers continue while a snapshot is taken: each number was correct
// at some moment of the call, and two numbers may differ by the requests of that moment.
//
// All counts start when the loop is built, and stay readable after it has ended.

pub(crate) mod counters;

use std::time::Duration;

pub use crate::admission::AcceptStats;
pub use counters::{ClosedStats, PollerStats};

/// Counters of an event loop, returned by [`LoopHandle::stats`](crate::LoopHandle::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// Open connections that were accepted by the listeners of the loop.
    pub connections: usize,
    /// Accepted and rejected connections, and pauses of accepting.
    pub accept: AcceptStats,
    /// How many connections ended, by reason.
    pub closed: ClosedStats,
    /// The counters of each poller.
    pub pollers: Vec<PollerStats>,
}

impl LoopStats {
    /// Returns the sums of the counters of all pollers.
    #[must_use]
    pub fn total(&self) -> PollerStats {
        let mut total = PollerStats::default();
        self.pollers.iter().for_each(|poller| total.add(poller));
        total
    }
}

/// Counters of one connection, returned by [`Connection::stats`](crate::Connection::stats) and
/// [`ConnectionHandle::stats`](crate::connection::ConnectionHandle::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// Bytes received from the kernel.
    pub received: u64,
    /// Bytes that the kernel accepted for sending.
    pub sent: u64,
    /// Requests of completed batches; see [`PollerStats::requests`].
    pub requests: u64,
    /// Received bytes that the handler has not consumed. A snapshot from a handle does not include
    /// the bytes in the connection's own buffer.
    pub waiting: usize,
    /// Bytes that were written and that the kernel has not accepted yet.
    pub unsent: usize,
    /// Time since its poller last sent or received bytes of it.
    pub idle: Duration,
}
