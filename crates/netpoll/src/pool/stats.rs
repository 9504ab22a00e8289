// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a pool has done so far, as numbers that add up.

/// How it is with the connections of a pool, to one address or to all: a snapshot, exact.
///
/// Whatever was made is somewhere: `made == idle + out + detached + discarded.total()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnPoolStats {
    /// Connections that wait to be used again.
    pub idle: usize,
    /// Connections that are handed out.
    pub in_use: usize,
    /// Dials under way.
    pub dialing: usize,
    /// Callers in line.
    pub waiting: usize,
    /// Dials that made a connection.
    pub created: u64,
    /// Dials that failed.
    pub failed: u64,
    /// How often a connection was handed out that had been before.
    pub reused: u64,
    /// Connections that were [taken out](super::Pooled::detach) for good.
    pub detached: u64,
    /// Callers that waited in line for too long.
    pub timed_out: u64,
    /// Callers that found the line full.
    pub rejected: u64,
    /// Connections that were closed, by why.
    pub discarded: DiscardedStats,
}

/// How many connections a pool has closed, by why. The first that holds counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscardedStats {
    /// Whoever had them said so, or panicked.
    pub by_user: u64,
    /// This side's stream was finished.
    pub half_closed: u64,
    /// They had ended, or their peer had.
    pub closed: u64,
    /// There was input that nobody had read.
    pub unread: u64,
    /// There was output that the kernel had not taken.
    pub unsent: u64,
    /// They had been used, and whoever had them did not say that the exchange was complete: see
    /// [`Pooled::recycle`](super::Pooled::recycle).
    pub not_recycled: u64,
    /// They were older than [`max_age`](super::ConnPoolOptions::max_age).
    pub expired: u64,
    /// They had waited for [`idle_timeout`](super::ConnPoolOptions::idle_timeout).
    pub idle: u64,
    /// More than [`max_idle`](super::ConnPoolOptions::max_idle) would have waited.
    pub surplus: u64,
    /// The pool was closed.
    pub pool_closed: u64,
}

/// Why a connection is closed and not used again.
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
    /// How many were closed, whatever the reason.
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

    pub(super) fn count(&mut self, why: DiscardReason) {
        *match why {
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
