// SPDX-License-Identifier: MIT OR Apache-2.0
//! The statistics of a pool.

/// The statistics of a pool, for one address or for all: an exact snapshot.
///
/// Every connection is counted: `created == idle + in_use + detached + discarded.total()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnPoolStats {
    /// Idle connections.
    pub idle: usize,
    /// Connections in use.
    pub in_use: usize,
    /// Dials in progress.
    pub dialing: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Dials that succeeded.
    pub created: u64,
    /// Dials that failed.
    pub failed: u64,
    /// Checkouts of a connection that had been used before.
    pub reused: u64,
    /// Connections that were [detached](super::Pooled::detach) from the pool.
    pub detached: u64,
    /// Callers that waited longer than [`wait_timeout`](super::ConnPoolOptions::wait_timeout).
    pub timed_out: u64,
    /// Callers that were rejected because too many waited.
    pub rejected: u64,
    /// Connections that the pool closed, by reason.
    pub discarded: DiscardedStats,
}

/// The connections that a pool closed, by reason. If several reasons apply, the first found counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscardedStats {
    /// Their user [discarded](super::Pooled::discard) them, or panicked.
    pub by_user: u64,
    /// This side had shut down its output.
    pub half_closed: u64,
    /// They had closed, or their peer had.
    pub closed: u64,
    /// They had unread input.
    pub unread: u64,
    /// They had output that was not sent or not committed.
    pub unsent: u64,
    /// They were used and not [recycled](super::Pooled::recycle).
    pub not_recycled: u64,
    /// They were older than [`max_age`](super::ConnPoolOptions::max_age), or were draining.
    pub expired: u64,
    /// They were idle for [`idle_timeout`](super::ConnPoolOptions::idle_timeout).
    pub idle: u64,
    /// [`max_idle`](super::ConnPoolOptions::max_idle) was exceeded.
    pub surplus: u64,
    /// The pool was closed.
    pub pool_closed: u64,
}

/// Why the pool closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiscardReason {
    ByUser,
    HalfClosed,
    Closed,
    Unread,
    Unsent,
    NotRecycled,
    Expired,
    Idle,
    Surplus,
    PoolClosed,
}

impl DiscardedStats {
    /// Returns the sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.each().iter().sum()
    }

    fn each(&self) -> [u64; 10] {
        [
            self.by_user,
            self.half_closed,
            self.closed,
            self.unread,
            self.unsent,
            self.not_recycled,
            self.expired,
            self.idle,
            self.surplus,
            self.pool_closed,
        ]
    }

    pub(super) fn count(&mut self, reason: DiscardReason) {
        *match reason {
            DiscardReason::ByUser => &mut self.by_user,
            DiscardReason::HalfClosed => &mut self.half_closed,
            DiscardReason::Closed => &mut self.closed,
            DiscardReason::Unread => &mut self.unread,
            DiscardReason::Unsent => &mut self.unsent,
            DiscardReason::NotRecycled => &mut self.not_recycled,
            DiscardReason::Expired => &mut self.expired,
            DiscardReason::Idle => &mut self.idle,
            DiscardReason::Surplus => &mut self.surplus,
            DiscardReason::PoolClosed => &mut self.pool_closed,
        } += 1;
    }

    fn add(&mut self, other: &Self) {
        self.by_user += other.by_user;
        self.half_closed += other.half_closed;
        self.closed += other.closed;
        self.unread += other.unread;
        self.unsent += other.unsent;
        self.not_recycled += other.not_recycled;
        self.expired += other.expired;
        self.idle += other.idle;
        self.surplus += other.surplus;
        self.pool_closed += other.pool_closed;
    }
}

impl ConnPoolStats {
    pub(super) fn add(&mut self, other: &Self) {
        self.idle += other.idle;
        self.in_use += other.in_use;
        self.dialing += other.dialing;
        self.waiting += other.waiting;
        self.created += other.created;
        self.failed += other.failed;
        self.reused += other.reused;
        self.detached += other.detached;
        self.timed_out += other.timed_out;
        self.rejected += other.rejected;
        self.discarded.add(&other.discarded);
    }
}
