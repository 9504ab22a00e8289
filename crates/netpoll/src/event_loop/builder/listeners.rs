// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listeners of a [`Builder`], the handle of its loop, and the short forms that build and start
//! it.

use std::fmt;
use std::io;

use super::Builder;
use crate::addr::{Addr, ToAddrs};
use crate::error::InvalidConfig;
use crate::event_loop::ServedListener;
use crate::event_loop::handle::LoopHandle;
use crate::event_loop::handler_kind::{Execution, HandlerKind};
use crate::event_loop::handlers::{HandlerSetup, ServiceFactory};
use crate::listener::Listener;
use crate::sync::Arc;

/// The error of a loop with a listener that no handler serves.
const NO_HANDLER: InvalidConfig =
    InvalidConfig::new("handler", "must be set with on_request or on_connection");

/// A listener of a loop that is not built yet.
pub(super) struct ListenerSetup<K: Execution> {
    pub(super) listener: Listener,
    /// Its own handler; `None` is the handler of the loop.
    pub(super) handler: Option<ServiceFactory<K>>,
}

impl<K: Execution> fmt::Debug for ListenerSetup<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
    }
}

impl<K: HandlerKind> Builder<K> {
    /// Adds a listener, whose connections are served by the handler of the loop. Can be called
    /// repeatedly, with listeners of different kinds.
    pub fn listen(self, listener: impl Into<Listener>) -> Self {
        self.add_listener(listener.into(), None)
    }

    /// Adds a listener, with a handler of its own or that of the loop.
    pub(in crate::event_loop) fn add_listener(
        mut self,
        listener: Listener,
        handler: Option<ServiceFactory<K>>,
    ) -> Self {
        self.listeners.push(ListenerSetup { listener, handler });
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
    /// Those of [`Listener::bind`], [`build`](Self::build) and
    /// [`EventLoop::run`](crate::EventLoop::run).
    pub fn serve(self, addr: impl ToAddrs) -> io::Result<()> {
        self.listen(Listener::bind(addr)?).build()?.run()
    }

    /// Listens on `addr` and serves on threads of the loop's own. The short form of
    /// [`EventLoop::spawn`](crate::EventLoop::spawn), as [`serve`](Self::serve) is of
    /// [`EventLoop::run`](crate::EventLoop::run).
    ///
    /// # Errors
    ///
    /// Those of [`Listener::bind`], [`build`](Self::build) and
    /// [`EventLoop::spawn`](crate::EventLoop::spawn).
    pub fn spawn(self, addr: impl ToAddrs) -> io::Result<LoopHandle> {
        self.listen(Listener::bind(addr)?).build()?.spawn()
    }
}

/// Makes the service of each listener, and a listener for each poller where one is needed.
pub(super) fn build<K: Execution>(
    listeners: Vec<ListenerSetup<K>>,
    default_handler: Option<ServiceFactory<K>>,
    pollers: usize,
    setup: impl Fn() -> HandlerSetup<K>,
) -> io::Result<Vec<ServedListener>> {
    let default_service = default_handler.map(|make| make(setup()));
    let mut served = Vec::new();
    for ListenerSetup { listener, handler } in listeners {
        let service = match handler {
            Some(make) => make(setup()),
            None => default_service.clone().ok_or(NO_HANDLER)?,
        };
        let split = listener.split_per_poller(pollers)?.into_iter();
        served.extend(split.map(|(pinned_poller, listener)| ServedListener {
            pinned_poller,
            listener,
            service: Arc::clone(&service),
        }));
    }
    Ok(served)
}

/// Returns the addresses of `listeners`. An address that every poller listens on is listed once.
pub(super) fn local_addrs(listeners: &[ServedListener]) -> io::Result<Vec<Addr>> {
    let is_first = |served: &&ServedListener| served.pinned_poller.unwrap_or(0) == 0;
    let first = listeners.iter().filter(is_first);
    first.map(|served| served.listener.local_addr()).collect()
}
