// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only few connections have, in one place that the others do not pay for.

use std::fmt;
use std::net::SocketAddr;

use super::close_notify::CloseNotify;
use super::close_watcher::CloseWatcherSlot;
use super::drain_notify::DrainNotify;
use super::in_flight::Workload;
use super::replacement::Replacement;
use super::reply_tracker::ReplyTracker;
use super::write_queue::WaitQueue;
use crate::addr::Addr;
use crate::error::CloseReason;
use crate::sync::{Arc, AtomicUsize, Mutex, OnceBox, OnceLock, lock};
use crate::timeouts::Timeouts;

/// What a connection has that was asked for something rare.
#[derive(Default)]
pub(crate) struct Extensions {
    /// What stands in place of the options' timeouts, once that was changed.
    pub(super) timeouts: Mutex<Option<Timeouts>>,
    pub(super) close_notify: CloseNotify,
    pub(super) workload: Workload,
    pub(super) reply_tracker: ReplyTracker,
    pub(super) drain_notify: DrainNotify,
    pub(super) close_watcher: OnceLock<CloseWatcherSlot>,
    pub(super) replacement: Mutex<Option<Replacement>>,
    /// Who waits on its write queue, once it has one.
    pub(super) wait_queue: OnceLock<Arc<WaitQueue>>,
    /// Who the peer is, where that is another one than was dialed.
    pub(super) peer: OnceLock<Box<Addr>>,
    /// How many bytes came after its end had begun, and were thrown away.
    pub(super) late_bytes: AtomicUsize,
    /// Where this end was when it was reset.
    pub(super) local_addr: OnceLock<SocketAddr>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rare")
            .field("timeouts", &self.timeouts)
            .field("notices", &self.close_notify)
            .finish_non_exhaustive()
    }
}

/// A link's place for it: empty until something is asked for, and then never again.
#[derive(Debug, Default)]
pub(super) struct LazyExtensions(OnceBox<Arc<Extensions>>);

impl LazyExtensions {
    /// What there is. No lock.
    #[inline]
    pub(super) fn get(&self) -> Option<&Arc<Extensions>> {
        self.0.get()
    }

    /// What there is; two allocations if that is nothing.
    pub(super) fn get_or_make(&self) -> &Arc<Extensions> {
        self.0.get_or_init(Box::default)
    }

    /// The timeouts, if they were changed.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        self.get()
            .and_then(|extensions| *lock(&extensions.timeouts))
    }
}

impl Drop for LazyExtensions {
    /// A connection that no poller has brought to its end has had one all the same.
    fn drop(&mut self) {
        if let Some(extensions) = self.get() {
            if let Some(line) = extensions.wait_queue.get() {
                line.close(CloseReason::Forgotten);
            }
            extensions.drain_notify.notify();
            extensions.close_notify.notify_end(CloseReason::Forgotten);
            extensions
                .close_notify
                .run_callbacks(CloseReason::Forgotten);
        }
    }
}
