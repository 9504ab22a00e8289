// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notification of a client about the end of its connection: when it accepts no more requests, and
//! when no more replies arrive.
//!
//! Neither is the moment at which the connection is closed, which may have to wait for its linger
//! time. The end begins when the peer's stream ends, a send fails, the connection drains, or either
//! side closes it. From then on a request would be lost. No reply can arrive once the received
//! input is read and nothing more will be read.
//!
//! A connection has at most one watcher, in its extensions. The reference is weak: the client owns
//! the watcher.

use std::fmt;
use std::sync::Weak;

use super::shared::Shared;
use crate::error::CloseReason;
use crate::sync::Arc;

/// A watcher of the end of a connection. Its methods run on the connection's poller, under no lock.
pub(crate) trait CloseWatcher: Send + Sync {
    /// The end has begun: requests that are not sent yet need another connection.
    fn on_closing(&self, reason: &CloseReason);

    /// No more replies arrive.
    fn on_input_closed(&self, reason: &CloseReason);
}

/// The slot of a watcher.
pub(super) struct CloseWatcherSlot(pub(super) Weak<dyn CloseWatcher>);

impl fmt::Debug for CloseWatcherSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CloseWatcherSlot").finish_non_exhaustive()
    }
}

impl Shared {
    /// Registers `watcher` for the end. An end that the engine handled before is not reported
    /// again: the caller has to check [`end_reason`](Self::end_reason) afterwards.
    pub(crate) fn set_close_watcher(&self, watcher: &Arc<impl CloseWatcher + 'static>) {
        let weak: Weak<dyn CloseWatcher> = Arc::downgrade(watcher) as Weak<dyn CloseWatcher>;
        // Set once, by the client that alone uses the connection.
        let _first = self
            .extensions
            .get_or_make()
            .close_watcher
            .set(CloseWatcherSlot(weak))
            .is_ok();
    }

    fn close_watcher(&self) -> Option<Arc<dyn CloseWatcher>> {
        self.extensions.get()?.close_watcher.get()?.0.upgrade()
    }

    /// Reports that the end has begun.
    pub(super) fn notify_closing(&self, reason: &CloseReason) {
        if let Some(watcher) = self.close_watcher() {
            watcher.on_closing(reason);
        }
    }

    /// Reports that no more input is handled.
    pub(super) fn notify_input_closed(&self, reason: &CloseReason) {
        if let Some(watcher) = self.close_watcher() {
            watcher.on_input_closed(reason);
        }
    }
}
