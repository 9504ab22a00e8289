// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the session of a client's connection tells its client: when the connection takes no more
//! requests, and when no more answers come.
//!
//! Neither is the moment at which the connection is over, for which its linger may have to pass. The end
//! begins when the peer's stream has ended, a send has failed, the connection drains, or either side
//! closes it; from then on a request would be lost. No answer can come once what was received is read
//! and nothing more will be.
//!
//! A connection has one watch at most, in what only few have. It is weak: the client keeps it.

use std::fmt;
use std::sync::Weak;

use super::shared::Shared;
use crate::error::CloseReason;
use crate::sync::Arc;

/// Is told how a connection ends. On its poller, under no lock.
pub(crate) trait CloseWatcher: Send + Sync {
    /// The end has begun: a request that is not sent yet has to go another way.
    fn on_closing(&self, reason: &CloseReason);

    /// No more answers come.
    fn on_input_closed(&self, reason: &CloseReason);
}

/// The place of a watch.
pub(super) struct CloseWatcherSlot(pub(super) Weak<dyn CloseWatcher>);

impl fmt::Debug for CloseWatcherSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").finish_non_exhaustive()
    }
}

impl Shared {
    /// Has `watch` told of the end. Only before the session is: it looks for none in vain.
    pub(crate) fn set_close_watcher(&self, watch: &Arc<impl CloseWatcher + 'static>) {
        let weak: Weak<dyn CloseWatcher> = Arc::downgrade(watch) as Weak<dyn CloseWatcher>;
        // Set once, by the client that has the connection for itself.
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

    /// The end has begun.
    pub(super) fn notify_closing(&self, reason: &CloseReason) {
        if let Some(watch) = self.close_watcher() {
            watch.on_closing(reason);
        }
    }

    /// No more input is handled.
    pub(super) fn notify_input_closed(&self, reason: &CloseReason) {
        if let Some(watch) = self.close_watcher() {
            watch.on_input_closed(reason);
        }
    }
}
