// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection of a pool, whether it may be used again, and who watches over it meanwhile.
//!
//! The watch is set once, when the connection is made, and stays with it. When the connection's
//! poller sees the end it is told there and then: first the watcher's mark is set, and then the
//! connection is taken from those that wait, if it is among them. Whoever puts it there looks at
//! the mark under the same lock. So one that has ended is not there for longer than that takes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use super::shared::Shared;
use super::site::Site;
use super::stats::Discard;
use crate::connection::Connection;
use crate::connection::in_flight::InFlight;
use crate::connection::link::Ending;
use crate::connection::liveness::Liveness;
use crate::error::CloseReason;
use crate::sync::{Arc, OnceLock, lock};

/// A connection that is in a pool, or out of it for a while.
pub(super) struct Member {
    pub(super) connection: Connection,
    /// From then on it is too old.
    pub(super) dies_at: Option<Instant>,
    /// Of the one who has it: a connection that is out is not idle.
    in_flight: InFlight,
    watch: Watch,
}

/// Who is asked how a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Its poller: what that has seen.
    Seen,
    /// The kernel, too.
    Kernel,
}

/// How far the two streams of a connection are. One of which both are where they were has been used
/// for nothing meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Which connection: its user may have put another in its place.
    link: usize,
    consumed: usize,
    put: u64,
}

impl Progress {
    /// Whether both are of one connection.
    pub(super) fn is_of_same(self, other: Self) -> bool {
        self.link == other.link
    }
}

/// Keeps the watcher awake.
struct Watch {
    watcher: Arc<Watcher>,
    /// Polled once: it wakes the watcher, and its drop sends him home.
    _end: Pin<Box<dyn Future<Output = CloseReason> + Send + Sync>>,
}

/// Takes a connection that ends out of its pool.
struct Watcher {
    pool: Weak<Shared>,
    site: Weak<Site>,
    id: u64,
    ended: OnceLock<()>,
}

impl Wake for Watcher {
    fn wake(self: Arc<Self>) {
        self.ended.get_or_init(|| ());
        if let (Some(pool), Some(site)) = (self.pool.upgrade(), self.site.upgrade()) {
            pool.take_out(&site, self.id);
        }
    }
}

impl Watch {
    fn over(connection: &Connection, pool: &Arc<Shared>, site: &Arc<Site>, id: u64) -> Self {
        let watcher = Arc::new(Watcher {
            pool: Arc::downgrade(pool),
            site: Arc::downgrade(site),
            id,
            ended: OnceLock::new(),
        });
        let waker = Waker::from(Arc::clone(&watcher));
        let mut end = Box::pin(connection.closed());
        let polled = end.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            watcher.ended.get_or_init(|| ());
        }
        Self { watcher, _end: end }
    }
}

impl Member {
    /// One that was made for `site`. A few allocations, for the watch.
    pub(super) fn new(
        connection: Connection,
        pool: &Arc<Shared>,
        site: &Arc<Site>,
        id: u64,
    ) -> Self {
        let lifespan = pool.options.lifespan();
        Self {
            watch: Watch::over(&connection, pool, site, id),
            in_flight: connection.link().in_flight(),
            dies_at: lifespan.and_then(|lifespan| Instant::now().checked_add(lifespan)),
            connection,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.watch.watcher.id
    }

    /// Somebody has it now.
    pub(super) fn go_out(&mut self) {
        self.in_flight.set(1);
    }

    /// Nobody has it any more.
    pub(super) fn come_back(&mut self) {
        self.in_flight.set(0);
    }

    /// Whether its end was told.
    pub(super) fn has_ended(&self) -> bool {
        self.watch.watcher.ended.get().is_some()
    }

    /// Whether it may be used by another, or why not. Reads nothing: three locks, and a system call
    /// if the kernel is asked.
    pub(super) fn fitness(&self, look: Look) -> Result<(), Discard> {
        let link = self.connection.link();
        if link.ending() == Ending::Finish {
            return Err(Discard::Finished);
        }
        let liveness = match look {
            Look::Seen => self.connection.liveness_seen(),
            Look::Kernel => self.connection.liveness(),
        };
        match liveness {
            Liveness::Alive => {}
            Liveness::DataPending => return Err(Discard::Unread),
            Liveness::Closed => return Err(Discard::Dead),
        }
        let outbox = lock(&link.outbox);
        let (unsent, drains) = (outbox.unsent() + outbox.uncommitted_len(), link.drains());
        drop(outbox);
        if unsent > 0 {
            return Err(Discard::Unsent);
        }
        if drains || self.dies_at.is_some_and(|at| at <= Instant::now()) {
            return Err(Discard::Old);
        }
        Ok(())
    }

    /// How far its streams are. A lock.
    pub(super) fn progress(&self) -> Progress {
        let link = self.connection.link();
        let put = lock(&link.outbox).put_in_all();
        Progress {
            link: Arc::as_ptr(link).addr(),
            consumed: self.connection.consumed(),
            put,
        }
    }

    /// Takes back what its user has set for himself.
    pub(super) fn reset(&self) {
        let link = self.connection.link();
        link.reset_timeouts();
        if link.are_reads_paused() {
            link.resume_reads();
        }
    }
}
