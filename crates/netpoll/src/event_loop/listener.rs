// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accepting on the pollers of a loop, without its handlers.

use super::LoopHandle;
use crate::listener::Listener;

impl Listener {
    /// Puts the connections of [`accept`](Self::accept) on the pollers of the loop of `handle`,
    /// each on the one with the fewest. Without this setting, they use pollers that the whole
    /// process shares.
    ///
    /// They share the [budget](crate::Builder::budget) of the loop. They do not count as
    /// connections of the loop, and its shutdown does not wait for them: those still open at its
    /// end are aborted. A call of `accept` before [`EventLoop::run`](crate::EventLoop::run) waits
    /// for that call. When the loop stops accepting, the listener does too, and `accept` fails with
    /// [`ErrorKind::NotRunning`](crate::error::ErrorKind::NotRunning) (`ConnectionAborted`) once it
    /// has returned the connections that were accepted. The socket stays open until the listener is
    /// dropped.
    ///
    /// ```no_run
    /// # async fn example(handle: netpoll::LoopHandle) -> std::io::Result<()> {
    /// let listener = netpoll::Listener::bind("127.0.0.1:8080")?.on(&handle);
    /// let (conn, info) = listener.accept().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on(self, handle: &LoopHandle) -> Self {
        self.on_pollers(handle.control.pollers().clone(), handle.budget())
    }
}
