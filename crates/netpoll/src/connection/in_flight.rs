// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the work in flight on a connection: requests that a server has taken and not answered,
//! calls of a client that wait for replies, the user of a pooled connection.
//!
//! A poller sees what the handler awaits, and does not see work that runs elsewhere for the
//! connection. Such work therefore takes an [`InFlightGuard`] and sets how many pieces are in
//! flight. While there are any, the connection is not idle and a drain waits for them.
//!
//! Counting takes no lock. It notifies the poller only if a drain has
//! [subscribed](Shared::watch_in_flight) to the completion of the last piece. The count lives in
//! the extensions of the connection. An [`InFlightGuard`] keeps neither the connection nor its
//! descriptor open.

use std::sync::Weak;

use super::extensions::Extensions;
use super::handle::ConnectionHandle;
use super::shared::Shared;
use crate::poll::notifier::Notice;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};
use crate::timestamp::Timestamp;

/// The flag that asks for a notification of the poller when no work is in flight any more.
const WATCHED: usize = 1;

/// The count of one piece of work.
const UNIT: usize = 2;

/// The work in flight on one connection.
#[derive(Debug, Default)]
pub(super) struct Workload {
    /// Pieces of work, in units of [`UNIT`], plus the flag [`WATCHED`].
    count: AtomicUsize,
    /// When a piece of work last completed, as the bits of a [`Timestamp`].
    last_done: AtomicU64,
}

impl Workload {
    pub(super) fn len(&self) -> usize {
        // Acquire: pairs with `finish`, so that a reader that sees no work sees when it completed.
        self.count.load(Ordering::Acquire) / UNIT
    }

    /// Returns when a piece of work last completed.
    pub(super) fn last_done(&self) -> Timestamp {
        // Relaxed: the caller reads `len` first, which orders this load.
        Timestamp::from_bits(self.last_done.load(Ordering::Relaxed))
    }

    fn begin(&self, pieces: usize) {
        // Relaxed: the caller has the connection, or runs on its poller.
        self.count.fetch_add(pieces * UNIT, Ordering::Relaxed);
    }

    /// Removes `pieces`. Returns whether no work is left and the poller waits for that.
    fn finish(&self, pieces: usize) -> bool {
        // Relaxed: the subtraction below publishes it.
        self.last_done
            .fetch_max(Timestamp::now().bits(), Ordering::Relaxed);
        // AcqRel: pairs with `len`, and with `watch` both ways, so that one of the two sees the
        // other.
        let before = self.count.fetch_sub(pieces * UNIT, Ordering::AcqRel);
        before - pieces * UNIT == WATCHED
    }

    /// Requests a notification for the last piece of work. Returns how many pieces are in flight.
    fn watch(&self) -> usize {
        // AcqRel: pairs with `finish`.
        self.count.fetch_or(WATCHED, Ordering::AcqRel) / UNIT
    }
}

/// A count of the work of one user on a connection. It starts at zero and returns to zero on drop.
pub(crate) struct InFlightGuard {
    shared: Weak<Shared>,
    extensions: Arc<Extensions>,
    pieces: usize,
}

impl InFlightGuard {
    /// Sets how many pieces are in flight. Costs a comparison, and an atomic operation if the
    /// number changes.
    #[inline]
    pub(crate) fn set(&mut self, pieces: usize) {
        if pieces != self.pieces {
            self.change(pieces);
        }
    }

    fn change(&mut self, pieces: usize) {
        let before = std::mem::replace(&mut self.pieces, pieces);
        if pieces > before {
            self.extensions.workload.begin(pieces - before);
        } else {
            self.finish(before - pieces);
        }
    }

    /// Adds one piece, for users that keep their own count. Each needs a call of
    /// [`finish_one`](Self::finish_one). Costs one atomic operation.
    #[inline]
    pub(crate) fn begin_one(&self) {
        self.extensions.workload.begin(1);
    }

    /// Removes a piece that `begin_one` added. Call it under no lock that the end of a connection
    /// takes.
    pub(crate) fn finish_one(&self) {
        self.finish(1);
    }

    fn finish(&self, pieces: usize) {
        if self.extensions.workload.finish(pieces)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.notifier.notify_unless_running(Notice::Deadline);
        }
    }
}

impl std::fmt::Debug for InFlightGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlightGuard").field(&self.pieces).finish()
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl ConnectionHandle {
    /// Returns a guard as [`Shared::in_flight`] does, or `None` if the connection was dropped.
    pub(crate) fn in_flight(&self) -> Option<InFlightGuard> {
        self.shared().map(|shared| shared.in_flight())
    }
}

impl Shared {
    /// Returns a guard with no work in flight. Costs two allocations the first time.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlightGuard {
        InFlightGuard {
            shared: Arc::downgrade(self),
            extensions: Arc::clone(self.extensions.get_or_make()),
            pieces: 0,
        }
    }

    /// Returns how many pieces of work are in flight. Takes no lock.
    pub(super) fn work_in_flight(&self) -> usize {
        self.extensions
            .get()
            .map_or(0, |extensions| extensions.workload.len())
    }

    /// Returns when a piece of work last completed.
    pub(super) fn work_done(&self) -> Timestamp {
        let never = Timestamp::from_bits(0);
        self.extensions
            .get()
            .map_or(never, |extensions| extensions.workload.last_done())
    }

    /// Requests, from now on, a notification of the poller when the last piece of work completes.
    /// Returns how many are in flight; with zero there is nothing to wait for.
    pub(super) fn watch_in_flight(&self) -> usize {
        self.extensions
            .get()
            .map_or(0, |extensions| extensions.workload.watch())
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_piece_of_work_notifies_the_watcher() {
        let load = Workload::default();
        load.begin(1);
        assert!(!load.finish(1), "no watcher is registered");
        load.begin(2);
        load.begin(1);
        assert_eq!(load.watch(), 3);
        assert!(!load.finish(2));
        assert_eq!(load.len(), 1);
        assert!(load.finish(1));
        assert_eq!((load.len(), load.watch()), (0, 0));
        load.begin(1);
        assert!(load.finish(1), "the watcher stays registered");
    }

    #[test]
    fn time_of_the_last_finished_work_is_recorded() {
        let load = Workload::default();
        load.begin(1);
        let before = Timestamp::now();
        load.finish(1);
        assert!(load.last_done() >= before);
    }
}
