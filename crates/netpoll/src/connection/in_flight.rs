// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work under way on a connection, counted: requests that a server has taken and not answered, calls
//! of a client that wait for their answers, the user of a pooled connection.
//!
//! A poller sees what its handler waits for, and not what runs elsewhere for the connection. So
//! whoever begins such work takes an [`InFlightGuard`] on the link and says how many pieces are under way.
//! While there are any the connection is not idle, and a drain waits for them.
//!
//! Counting takes no lock and rings nobody, unless a drain has [asked](Shared::watch_in_flight) to hear
//! when the last piece is done. The count lies in what only few connections have, and an [`InFlightGuard`]
//! keeps neither the connection nor its descriptor.

use std::sync::Weak;

use super::extensions::Extensions;
use super::handle::ConnectionHandle;
use super::shared::Shared;
use crate::poll::notifier::Notice;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};
use crate::timestamp::Timestamp;

/// The poller wants to hear when nothing is under way any more.
const WATCHED: usize = 1;

/// One piece of work, as it is counted.
const UNIT: usize = 2;

/// How much is under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Workload {
    /// Pieces of work, in units of [`UNIT`], and [`WATCHED`].
    count: AtomicUsize,
    /// When somebody's work was last done, as the bits of a [`Timestamp`].
    last_done: AtomicU64,
}

impl Workload {
    pub(super) fn len(&self) -> usize {
        // Acquire: pairs with `finish`, so that whoever sees no work sees when it was done.
        self.count.load(Ordering::Acquire) / UNIT
    }

    /// When work was last done.
    pub(super) fn last_done(&self) -> Timestamp {
        // Relaxed: `len` comes first, and orders it.
        Timestamp::from_bits(self.last_done.load(Ordering::Relaxed))
    }

    fn begin(&self, pieces: usize) {
        // Relaxed: who begins has the connection in his hands, or the poller does.
        self.count.fetch_add(pieces * UNIT, Ordering::Relaxed);
    }

    /// Whether nothing is under way now, and somebody waits for that.
    fn finish(&self, pieces: usize) -> bool {
        // Relaxed: the subtraction below publishes it.
        self.last_done
            .fetch_max(Timestamp::now().bits(), Ordering::Relaxed);
        // AcqRel: pairs with `len`, and with `watch` on either side: one of the two sees the other.
        let before = self.count.fetch_sub(pieces * UNIT, Ordering::AcqRel);
        before - pieces * UNIT == WATCHED
    }

    /// From now on the last piece to be done is told. How many are under way.
    fn watch(&self) -> usize {
        // AcqRel: pairs with `finish`.
        self.count.fetch_or(WATCHED, Ordering::AcqRel) / UNIT
    }
}

/// Somebody's work on a connection: none at first, and none again when this is dropped.
pub(crate) struct InFlightGuard {
    shared: Weak<Shared>,
    extensions: Arc<Extensions>,
    pieces: usize,
}

impl InFlightGuard {
    /// So many pieces are under way now. A comparison, and an atomic operation if that is news.
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

    /// One piece more is under way, for whoever counts by himself: each is to be
    /// [finished](Self::finish_one). One atomic operation.
    #[inline]
    pub(crate) fn begin_one(&self) {
        self.extensions.workload.begin(1);
    }

    /// One that was begun so is done. Under no lock that the end of a connection takes.
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
        f.debug_tuple("InFlight").field(&self.pieces).finish()
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl ConnectionHandle {
    /// As [`Shared::in_flight`]; `None` if nothing is left of the connection.
    pub(crate) fn in_flight(&self) -> Option<InFlightGuard> {
        self.shared().map(|shared| shared.in_flight())
    }
}

impl Shared {
    /// A count of somebody's work on this connection, which has not begun. Two allocations, the first
    /// time.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlightGuard {
        InFlightGuard {
            shared: Arc::downgrade(self),
            extensions: Arc::clone(self.extensions.get_or_make()),
            pieces: 0,
        }
    }

    /// How many pieces of work are under way. No lock.
    pub(super) fn work_in_flight(&self) -> usize {
        self.extensions
            .get()
            .map_or(0, |extensions| extensions.workload.len())
    }

    /// When work was last done.
    pub(super) fn work_done(&self) -> Timestamp {
        let never = Timestamp::from_bits(0);
        self.extensions
            .get()
            .map_or(never, |extensions| extensions.workload.last_done())
    }

    /// Rings the session's bell, from now on, when the last piece of work is done. How many are under
    /// way: if that is none, there is nothing to wait for.
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
    fn the_last_piece_of_work_is_told_to_who_watches_and_no_other() {
        let load = Workload::default();
        load.begin(1);
        assert!(!load.finish(1), "nobody watches");
        load.begin(2);
        load.begin(1);
        assert_eq!(load.watch(), 3);
        assert!(!load.finish(2));
        assert_eq!(load.len(), 1);
        assert!(load.finish(1));
        assert_eq!((load.len(), load.watch()), (0, 0));
        load.begin(1);
        assert!(load.finish(1), "it is watched from then on");
    }

    #[test]
    fn when_work_was_done_is_known_once_it_is() {
        let load = Workload::default();
        load.begin(1);
        let before = Timestamp::now();
        load.finish(1);
        assert!(load.last_done() >= before);
    }
}
