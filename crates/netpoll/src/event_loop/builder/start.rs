// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listeners of a [`Builder`], the handle of its loop, and the short forms that build and start
//! it.

use std::io;

use super::Builder;
use crate::addr::ToAddrs;
use crate::event_loop::handle::LoopHandle;
use crate::listener::Listener;
use crate::sync::Arc;

impl Builder {
    /// Adds a listener. Can be called repeatedly, with listeners of different kinds.
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Returns a handle of the loop that will be built, for the captures of its handlers.
    ///
    /// A shutdown that is requested before the loop runs takes effect when it does. If the loop is
    /// never built, its shutdowns complete when the builder is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use netpoll::{Connection, EventLoop, Listener};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let builder = EventLoop::builder();
    /// let handle = builder.handle();
    /// let event_loop = builder
    ///     .on_request(async move |conn: &mut Connection| {
    ///         // Any request ends this server.
    ///         conn.reader().skip(1).await?;
    ///         drop(handle.shutdown(Duration::from_secs(10)));
    ///         Ok(())
    ///     })
    ///     .listen(Listener::bind("127.0.0.1:0")?)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        LoopHandle {
            control: Arc::clone(&self.control.0),
        }
    }

    /// Listens on `addr` (`host:port`, `unix:/path`, `unix:@name`) and serves until the loop is
    /// shut down. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// Those of [`Listener::bind`], [`build`](Self::build) and [`EventLoop::run`].
    pub fn serve(self, addr: impl ToAddrs) -> io::Result<()> {
        self.listen(Listener::bind(addr)?).build()?.run()
    }

    /// Listens on `addr` and serves on threads of the loop's own. The short form of
    /// [`EventLoop::spawn`], as [`serve`](Self::serve) is of [`EventLoop::run`].
    ///
    /// # Errors
    ///
    /// Those of [`Listener::bind`], [`build`](Self::build) and [`EventLoop::spawn`].
    pub fn spawn(self, addr: impl ToAddrs) -> io::Result<LoopHandle> {
        self.listen(Listener::bind(addr)?).build()?.spawn()
    }
}
