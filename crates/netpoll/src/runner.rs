// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where handlers run.

/// Where handlers run.
///
/// Today there is one place. Executors of several threads, tokio's among them, will be further
/// ones; a handler's type says which it may have, because a future that is not `Send` must stay on
/// the thread that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runner {
    /// On the connection's poller: no hand-off, no lock. A handler that blocks holds up every
    /// connection of that poller; one that awaits holds up nobody.
    #[default]
    Inline,
}
