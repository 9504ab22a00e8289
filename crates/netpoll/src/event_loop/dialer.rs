// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dialing connections on the pollers of a loop.

use super::handle::LoopHandle;
use crate::dialer::Dialer;

impl Dialer {
    /// Dials on the pollers of the loop of `handle`.
    ///
    /// A connection goes to the poller with the fewest connections. A dial on a poller of the loop,
    /// or by a handler of that poller, uses that poller. Without this setting, connections use the
    /// caller's poller, or a poller that the whole process shares if the caller has none.
    ///
    /// The connections end with the loop: those still open then are aborted. They do not count as
    /// connections of the loop, and its shutdown does not wait for them. A dial before
    /// [`EventLoop::run`](crate::EventLoop::run) waits for that call, within its timeout. A dial
    /// after `run` has returned fails with
    /// [`ErrorKind::NotRunning`](crate::error::ErrorKind::NotRunning) (`ConnectionAborted`).
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
