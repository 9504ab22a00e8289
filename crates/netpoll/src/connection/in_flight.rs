// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work under way on a connection, counted: requests that a server has taken and not answered, calls
//! of a client that wait for their answers, the user of a pooled connection.
//!
//! A poller sees what its handler waits for, and not what runs elsewhere for the connection. So
//! whoever begins such work takes an [`InFlight`] on the link and says how many pieces are under way.
//! While there are any the connection is not idle, and a drain waits for them.
//!
//! Counting takes no lock and rings nobody, unless a drain has [asked](Link::watch_in_flight) to hear
//! when the last piece is done. The count lies in what only few connections have, and an [`InFlight`]
//! keeps neither the connection nor its descriptor.

use std::sync::Weak;

use super::handle::ConnectionHandle;
use super::link::Link;
use super::rare::Rare;
use crate::moment::Moment;
use crate::poll::bell::Signal;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// The poller wants to hear when nothing is under way any more.
const WATCHED: usize = 1;

/// One piece of work, as it is counted.
const ONE: usize = 2;

/// How much is under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Workload {
    /// Pieces of work, in units of [`ONE`], and [`WATCHED`].
    count: AtomicUsize,
    /// When somebody's work was last done, as the bits of a [`Moment`].
    done: AtomicU64,
}

impl Workload {
    pub(super) fn len(&self) -> usize {
        // Acquire: pairs with `finish`, so that whoever sees no work sees when it was done.
        self.count.load(Ordering::Acquire) / ONE
    }

    /// When work was last done.
    pub(super) fn done(&self) -> Moment {
        // Relaxed: `len` comes first, and orders it.
        Moment::from_bits(self.done.load(Ordering::Relaxed))
    }

    fn begin(&self, pieces: usize) {
        // Relaxed: who begins has the connection in his hands, or the poller does.
        self.count.fetch_add(pieces * ONE, Ordering::Relaxed);
    }

    /// Whether nothing is under way now, and somebody waits for that.
    fn finish(&self, pieces: usize) -> bool {
        // Relaxed: the subtraction below publishes it.
        self.done.fetch_max(Moment::now().bits(), Ordering::Relaxed);
        // AcqRel: pairs with `len`, and with `watch` on either side: one of the two sees the other.
        let before = self.count.fetch_sub(pieces * ONE, Ordering::AcqRel);
        before - pieces * ONE == WATCHED
    }

    /// From now on the last piece to be done is told. How many are under way.
    fn watch(&self) -> usize {
        // AcqRel: pairs with `finish`.
        self.count.fetch_or(WATCHED, Ordering::AcqRel) / ONE
    }
}

/// Somebody's work on a connection: none at first, and none again when this is dropped.
pub(crate) struct InFlight {
    link: Weak<Link>,
    rare: Arc<Rare>,
    pieces: usize,
}

impl InFlight {
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
            self.rare.workload.begin(pieces - before);
        } else {
            self.finish(before - pieces);
        }
    }

    /// One piece more is under way, for whoever counts by himself: each is to be
    /// [finished](Self::finish_one). One atomic operation.
    #[inline]
    pub(crate) fn begin_one(&self) {
        self.rare.workload.begin(1);
    }

    /// One that was begun so is done. Under no lock that the end of a connection takes.
    pub(crate) fn finish_one(&self) {
        self.finish(1);
    }

    fn finish(&self, pieces: usize) {
        if self.rare.workload.finish(pieces)
            && let Some(link) = self.link.upgrade()
        {
            link.bell.mark(Signal::Clock);
        }
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlight").field(&self.pieces).finish()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl ConnectionHandle {
    /// As [`Link::in_flight`]; `None` if nothing is left of the connection.
    pub(crate) fn in_flight(&self) -> Option<InFlight> {
        self.link().map(|link| link.in_flight())
    }
}

impl Link {
    /// A count of somebody's work on this connection, which has not begun. Two allocations, the first
    /// time.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlight {
        InFlight {
            link: Arc::downgrade(self),
            rare: Arc::clone(self.rare.get_or_make()),
            pieces: 0,
        }
    }

    /// How many pieces of work are under way. No lock.
    pub(super) fn work_in_flight(&self) -> usize {
        self.rare.get().map_or(0, |rare| rare.workload.len())
    }

    /// When work was last done.
    pub(super) fn work_done(&self) -> Moment {
        let never = Moment::from_bits(0);
        self.rare.get().map_or(never, |rare| rare.workload.done())
    }

    /// Rings the session's bell, from now on, when the last piece of work is done. How many are under
    /// way: if that is none, there is nothing to wait for.
    pub(super) fn watch_in_flight(&self) -> usize {
        self.rare.get().map_or(0, |rare| rare.workload.watch())
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
        let before = Moment::now();
        load.finish(1);
        assert!(load.done() >= before);
    }
}
