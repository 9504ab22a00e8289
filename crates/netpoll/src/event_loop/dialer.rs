// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that are dialed elsewhere and belong to a loop.

use super::LoopHandle;
use crate::dialer::Dialer;

impl Dialer {
    /// Has its connections belong to the loop of `handle`: each to the poller with the fewest, or
    /// to the one that the dial is made on, or by a handler of, if that is the loop's. Without this
    /// they belong to the caller's poller, and where there is none to one that the whole process
    /// shares.
    ///
    /// They end with the loop: what is left of them then is cut. They are not counted among the loop's
    /// connections, and its shutdown does not wait for them. A dial before
    /// [`EventLoop::run`](crate::EventLoop::run) is called waits for that, within its timeout; one
    /// after it has returned fails with [`NotRunning`](crate::NotRunning) (`ConnectionAborted`).
    ///
    /// ```no_run
    /// # async fn example(handle: netpoll::LoopHandle) -> std::io::Result<()> {
    /// let dialer = netpoll::Dialer::new().on(&handle);
    /// let upstream = dialer.dial("127.0.0.1:8080").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on(self, handle: &LoopHandle) -> Self {
        self.on_pollers(handle.control.pollers().clone())
    }
}
