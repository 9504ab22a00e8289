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

use super::link::Link;
use crate::error::CloseReason;
use crate::sync::Arc;

/// Is told how a connection ends. On its poller, under no lock.
pub(crate) trait EndWatch: Send + Sync {
    /// The end has begun: a request that is not sent yet has to go another way.
    fn takes_no_more(&self, reason: &CloseReason);

    /// No more answers come.
    fn has_ended(&self, reason: &CloseReason);
}

/// The place of a watch.
pub(super) struct Watched(pub(super) Weak<dyn EndWatch>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").finish_non_exhaustive()
    }
}

impl Link {
    /// Has `watch` told of the end. Only before the session is: it looks for none in vain.
    pub(crate) fn watch_end(&self, watch: &Arc<impl EndWatch + 'static>) {
        let weak: Weak<dyn EndWatch> = Arc::downgrade(watch) as Weak<dyn EndWatch>;
        // Set once, by the client that has the connection for itself.
        let _first = self.rare.get_or_make().watch.set(Watched(weak)).is_ok();
    }

    fn end_watch(&self) -> Option<Arc<dyn EndWatch>> {
        self.rare.get()?.watch.get()?.0.upgrade()
    }

    /// The end has begun.
    pub(super) fn tell_end_begun(&self, reason: &CloseReason) {
        if let Some(watch) = self.end_watch() {
            watch.takes_no_more(reason);
        }
    }

    /// No more input is handled.
    pub(super) fn tell_input_over(&self, reason: &CloseReason) {
        if let Some(watch) = self.end_watch() {
            watch.has_ended(reason);
        }
    }
}
