// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection of a pool, whether it can be reused, and the watch for its close.
//!
//! The watch is registered once, when the connection is created, and stays with it. When the
//! connection's poller sees the close, it wakes the watch at once. The watch first sets its
//! `closed` flag and then removes the connection from the idle ones, if it is among them. A
//! check-in reads the flag under the same lock. A closed connection is therefore idle at most until
//! its watch has run.

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

/// A connection of a pool, idle or in use.
pub(super) struct PooledEntry {
    pub(super) connection: Connection,
    /// The time from which on it is too old to be reused.
    pub(super) expires_at: Option<Instant>,
    /// Set while the connection is in use: a connection in use is not idle.
    in_flight: InFlightGuard,
    watch: EntryWatch,
}

/// The source of a connection's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessCheck {
    /// The last state that its poller saw.
    Cached,
    /// The kernel, too, with a system call.
    Kernel,
}

/// The positions of a connection's two streams. If both are unchanged, the connection was not used
/// in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPositions {
    /// Identifies the connection: the user may have put another in its place.
    connection_id: usize,
    consumed: usize,
    written: u64,
}

impl StreamPositions {
    /// Returns whether both belong to the same connection.
    pub(super) fn is_same_connection(self, other: Self) -> bool {
        self.connection_id == other.connection_id
    }
}

/// The registered watch for a connection's close.
struct EntryWatch {
    waker: Arc<EntryCloseWaker>,
    /// Polled once, which registers the waker; dropping it deregisters the waker.
    _closed: Pin<Box<dyn Future<Output = CloseReason> + Send + Sync>>,
}

/// Removes a connection from its pool when it closes.
struct EntryCloseWaker {
    pool: Weak<PoolShared>,
    host: Weak<HostPool>,
    id: u64,
    closed: OnceLock<()>,
}

impl Wake for EntryCloseWaker {
    fn wake(self: Arc<Self>) {
        self.closed.get_or_init(|| ());
        if let (Some(pool), Some(host)) = (self.pool.upgrade(), self.host.upgrade()) {
            pool.remove_closed(&host, self.id);
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
    /// Creates the entry of a new connection to `host`. Costs a few allocations, for the watch.
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
            expires_at: max_age.and_then(|age| Instant::now().checked_add(age)),
            connection,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.watch.waker.id
    }

    /// Marks the connection as in use.
    pub(super) fn mark_checked_out(&mut self) {
        self.in_flight.set(1);
    }

    /// Marks the connection as returned.
    pub(super) fn mark_returned(&mut self) {
        self.in_flight.set(0);
    }

    /// Returns whether the watch has seen the close.
    pub(super) fn is_closed(&self) -> bool {
        self.watch.waker.closed.get().is_some()
    }

    /// Returns whether the connection can be reused, or why not. Reads no data. Costs three locks,
    /// and one system call if the kernel is asked.
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

    /// Returns the positions of its streams. Costs a lock.
    pub(super) fn positions(&self) -> StreamPositions {
        let shared = self.connection.shared();
        let written = lock(&shared.output_buffer).total_put();
        StreamPositions {
            connection_id: Arc::as_ptr(shared).addr(),
            consumed: self.connection.consumed(),
            written,
        }
    }

    /// Resets the settings that its user may have changed: timeouts and paused reads.
    pub(super) fn restore_settings(&self) {
        let shared = self.connection.shared();
        shared.reset_timeouts();
        if shared.are_reads_paused() {
            shared.resume_reads();
        }
    }
}
