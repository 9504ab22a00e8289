// SPDX-License-Identifier: MIT OR Apache-2.0
//! State that only few connections need, allocated on first use.

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

/// The state of a connection that uses a rare feature.
#[derive(Default)]
pub(crate) struct Extensions {
    /// The timeouts that replace those of the options, if they were changed.
    pub(super) timeouts: Mutex<Option<Timeouts>>,
    pub(super) close_notify: CloseNotify,
    pub(super) workload: Workload,
    pub(super) reply_tracker: ReplyTracker,
    pub(super) drain_notify: DrainNotify,
    pub(super) close_watcher: OnceLock<CloseWatcherSlot>,
    pub(super) replacement: Mutex<Option<Replacement>>,
    /// The waiters for its write queue, if it has one.
    pub(super) wait_queue: OnceLock<Arc<WaitQueue>>,
    /// The address of the peer, if it differs from the dialed one.
    pub(super) peer: OnceLock<Box<Addr>>,
    /// How many bytes arrived after the end began, and were discarded.
    pub(super) late_bytes: AtomicUsize,
    /// The local address of a connection that was reset.
    pub(super) local_addr: OnceLock<SocketAddr>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions")
            .field("timeouts", &self.timeouts)
            .field("close_notify", &self.close_notify)
            .finish_non_exhaustive()
    }
}

/// The place of the extensions in the shared state: empty until the first use, and never emptied
/// again.
#[derive(Debug, Default)]
pub(super) struct LazyExtensions(OnceBox<Arc<Extensions>>);

impl LazyExtensions {
    /// Returns the extensions, if there are any. Takes no lock.
    #[inline]
    pub(super) fn get(&self) -> Option<&Arc<Extensions>> {
        self.0.get()
    }

    /// Returns the extensions. The first call costs two allocations.
    pub(super) fn get_or_make(&self) -> &Arc<Extensions> {
        self.0.get_or_init(Box::default)
    }

    /// Returns the timeouts, if they were changed.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        self.get()
            .and_then(|extensions| *lock(&extensions.timeouts))
    }
}

impl Drop for LazyExtensions {
    /// Notifies the waiters and runs the callbacks of a connection that no poller has closed.
    fn drop(&mut self) {
        if let Some(extensions) = self.get() {
            if let Some(wait_queue) = extensions.wait_queue.get() {
                wait_queue.close(CloseReason::Forgotten);
            }
            extensions.drain_notify.notify();
            extensions.close_notify.notify_end(CloseReason::Forgotten);
            extensions
                .close_notify
                .run_callbacks(CloseReason::Forgotten);
        }
    }
}
