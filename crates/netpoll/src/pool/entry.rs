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

use super::host::HostPool;
use super::shared::PoolShared;
use super::stats::DiscardReason;
use crate::connection::Connection;
use crate::connection::in_flight::InFlightGuard;
use crate::connection::liveness::Liveness;
use crate::connection::shared::CloseRequest;
use crate::error::CloseReason;
use crate::sync::{Arc, OnceLock, lock};

/// A connection that is in a pool, or out of it for a while.
pub(super) struct PooledEntry {
    pub(super) connection: Connection,
    /// From then on it is too old.
    pub(super) expires_at: Option<Instant>,
    /// Of the one who has it: a connection that is out is not idle.
    in_flight: InFlightGuard,
    watch: EntryWatch,
}

/// Who is asked how a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessCheck {
    /// Its poller: what that has seen.
    Cached,
    /// The kernel, too.
    Kernel,
}

/// How far the two streams of a connection are. One of which both are where they were has been used
/// for nothing meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPositions {
    /// Which connection: its user may have put another in its place.
    connection_id: usize,
    consumed: usize,
    written: u64,
}

impl StreamPositions {
    /// Whether both are of one connection.
    pub(super) fn is_same_connection(self, other: Self) -> bool {
        self.connection_id == other.connection_id
    }
}

/// Keeps the watcher awake.
struct EntryWatch {
    waker: Arc<EntryCloseWaker>,
    /// Polled once: it wakes the watcher, and its drop sends him home.
    _closed: Pin<Box<dyn Future<Output = CloseReason> + Send + Sync>>,
}

/// Takes a connection that ends out of its pool.
struct EntryCloseWaker {
    pool: Weak<PoolShared>,
    host: Weak<HostPool>,
    id: u64,
    closed: OnceLock<()>,
}

impl Wake for EntryCloseWaker {
    fn wake(self: Arc<Self>) {
        self.closed.get_or_init(|| ());
        if let (Some(pool), Some(site)) = (self.pool.upgrade(), self.host.upgrade()) {
            pool.remove_closed(&site, self.id);
        }
    }
}

impl EntryWatch {
    fn new(connection: &Connection, pool: &Arc<PoolShared>, host: &Arc<HostPool>, id: u64) -> Self {
        let close_waker = Arc::new(EntryCloseWaker {
            pool: Arc::downgrade(pool),
            host: Arc::downgrade(host),
            id,
            closed: OnceLock::new(),
        });
        let waker = Waker::from(Arc::clone(&close_waker));
        let mut closed = Box::pin(connection.closed());
        let polled = closed.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            close_waker.closed.get_or_init(|| ());
        }
        Self {
            waker: close_waker,
            _closed: closed,
        }
    }
}

impl PooledEntry {
    /// One that was made for `site`. A few allocations, for the watch.
    pub(super) fn new(
        connection: Connection,
        pool: &Arc<PoolShared>,
        host: &Arc<HostPool>,
        id: u64,
    ) -> Self {
        let max_age = pool.options.random_max_age();
        Self {
            watch: EntryWatch::new(&connection, pool, host, id),
            in_flight: connection.shared().in_flight(),
            expires_at: max_age.and_then(|lifespan| Instant::now().checked_add(lifespan)),
            connection,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.watch.waker.id
    }

    /// Somebody has it now.
    pub(super) fn mark_checked_out(&mut self) {
        self.in_flight.set(1);
    }

    /// Nobody has it any more.
    pub(super) fn mark_returned(&mut self) {
        self.in_flight.set(0);
    }

    /// Whether its end was told.
    pub(super) fn is_closed(&self) -> bool {
        self.watch.waker.closed.get().is_some()
    }

    /// Whether it may be used by another, or why not. Reads nothing: three locks, and a system call
    /// if the kernel is asked.
    pub(super) fn check_reusable(&self, check: LivenessCheck) -> Result<(), DiscardReason> {
        let shared = self.connection.shared();
        if shared.close_request() == CloseRequest::HalfClose {
            return Err(DiscardReason::HalfClosed);
        }
        let liveness = match check {
            LivenessCheck::Cached => self.connection.liveness_seen(),
            LivenessCheck::Kernel => self.connection.liveness(),
        };
        match liveness {
            Liveness::Alive => {}
            Liveness::DataPending => return Err(DiscardReason::Unread),
            Liveness::Closed => return Err(DiscardReason::Closed),
        }
        let output = lock(&shared.output_buffer);
        let (unsent, is_draining) = (
            output.unsent() + output.uncommitted_len(),
            shared.is_draining(),
        );
        drop(output);
        if unsent > 0 {
            return Err(DiscardReason::Unsent);
        }
        if is_draining || self.expires_at.is_some_and(|at| at <= Instant::now()) {
            return Err(DiscardReason::Expired);
        }
        Ok(())
    }

    /// How far its streams are. A lock.
    pub(super) fn positions(&self) -> StreamPositions {
        let shared = self.connection.shared();
        let written = lock(&shared.output_buffer).total_put();
        StreamPositions {
            connection_id: Arc::as_ptr(shared).addr(),
            consumed: self.connection.consumed(),
            written,
        }
    }

    /// Takes back what its user has set for himself.
    pub(super) fn restore_settings(&self) {
        let shared = self.connection.shared();
        shared.reset_timeouts();
        if shared.are_reads_paused() {
            shared.resume_reads();
        }
    }
}
