// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers whose futures stay on one thread: the methods of a builder of [`EventLoop::builder`].
//!
//! [`EventLoop::builder`]: crate::EventLoop::builder

use std::future::Future;
use std::pin::pin;

use super::builder::Builder;
use super::handler_kind::LocalHandlers;
use super::handlers::{HandlerSetup, ServiceFactory, service_factory};
use crate::connection::Connection;
use crate::connection::dispatcher::HandlerMode;
use crate::connection::request_batch::{
    CallOutcome, HandlerStage, OnConnect, SharedHandlers, connection_task, run_batch,
};
use crate::connection::service::{
    HandlerProvider, PerThreadHandler, PinnedHandlers, Service, SharedHandler,
};
use crate::error::BoxError;
use crate::foreign::UserFuture;
use crate::listener::Listener;
use crate::sync::Arc;

/// Handlers whose futures stay on one thread, and need not be `Send`: each is created, polled and
/// dropped on the connection's poller, or on one of [`handler_threads`](Self::handler_threads).
/// The handlers themselves are shared by these threads, so their captures are `Send` and `Sync`.
impl Builder<LocalHandlers> {
    /// Runs handlers on `count` threads of the loop's own, 1 to 4096, instead of the connection's
    /// poller. For handlers that block or compute.
    ///
    /// A call stays on the thread that it started on, and a handler that awaits occupies none.
    /// Costs a hand-off between two threads for each request batch. Threads that continue any call
    /// are those of [`EventLoop::builder_on`](crate::EventLoop::builder_on), which requires `Send`
    /// futures.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use netpoll::{Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// EventLoop::builder()
    ///     .handler_threads(8)
    ///     .on_request(async |conn: &mut Connection| {
    ///         conn.reader().skip(1).await?;
    ///         // May block: this is no poller's thread.
    ///         std::thread::sleep(Duration::from_millis(10));
    ///         conn.writer().put_u8(1);
    ///         Ok(())
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn handler_threads(mut self, count: usize) -> Self {
        self.runner = Some(count);
        self
    }

    /// Calls `handler` for each request of a connection.
    ///
    /// A call starts when the connection has input and no call is running. It repeats while input
    /// remains and the last call consumed some. The handler may await more input at any point: no
    /// thread waits. If it returns without consuming input, it is called again when *more* input
    /// arrives, and once more at the peer's FIN. Output is sent when the handler returns or awaits.
    ///
    /// On the connection's poller, where handlers run by default, a blocking call delays all other
    /// connections of the poller.
    ///
    /// An `Err` or a panic ends that connection with the matching
    /// [`CloseReason`](crate::CloseReason), and nothing else. Errors of any type are returned with
    /// `?`; a function with an error type of its own is called as `Ok(handler(conn).await?)`.
    pub fn on_request<H>(self, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.with_handler(request_service(handler))
    }

    /// Calls a handler for each request, as [`on_request`](Self::on_request), with one handler for
    /// each thread.
    ///
    /// `make` is called once on each thread that runs handlers, before the first request there. So
    /// the state of the handler needs no lock and need not be `Send`. A panic of `make` ends the
    /// connection that it was called for.
    ///
    /// ```no_run
    /// use std::cell::Cell;
    /// use netpoll::{Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// EventLoop::builder()
    ///     .on_request_with(|| {
    ///         let lines = Cell::new(0);
    ///         async move |conn: &mut Connection| {
    ///             conn.reader().until(b'\n', 1024).await?;
    ///             lines.set(lines.get() + 1);
    ///             conn.writer().put_str(&format!("{} on this thread\n", lines.get()));
    ///             Ok(())
    ///         }
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn on_request_with<W, H>(self, make: W) -> Self
    where
        W: Fn() -> H + Send + Sync + 'static,
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + 'static,
    {
        let provider = PerThreadHandler(make);
        self.with_handler(service_factory::<_, H>(|setup| {
            local_service(setup, provider, run_batch::<H>, HandlerMode::PerRequest)
        }))
    }

    /// Calls `handler` once with each connection, which it then owns; dropping it calls
    /// [`Connection::close`]. For conversational protocols. Replaces a handler of
    /// [`on_request`](Self::on_request); the rules for futures and errors are the same.
    pub fn on_connection<H>(self, handler: H) -> Self
    where
        H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.with_handler(connection_service(handler))
    }

    /// Calls a handler once with each connection, as [`on_connection`](Self::on_connection), with
    /// one handler for each thread. `make` is called as by
    /// [`on_request_with`](Self::on_request_with).
    pub fn on_connection_with<W, H>(self, make: W) -> Self
    where
        W: Fn() -> H + Send + Sync + 'static,
        H: AsyncFn(Connection) -> Result<(), BoxError> + 'static,
    {
        let provider = PerThreadHandler(make);
        self.with_handler(service_factory::<_, H>(|setup| {
            let make = connection_task::<H>;
            local_service(setup, provider, make, HandlerMode::PerConnection)
        }))
    }

    /// Calls `handler` once for each connection, before its first request, where its other handler
    /// runs.
    ///
    /// It may read and write, and attach values for later requests ([`Connection::attach`]). An
    /// `Err` or a panic ends the connection. If a connection ends before this handler has returned
    /// `Ok`, [`on_disconnect`](Self::on_disconnect) is not called for it. It need not consume
    /// anything. One allocation for each connection.
    pub fn on_connect<H>(mut self, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let on_connect: Arc<OnConnect> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some((*handler)(conn)))).await })
        });
        self.on_connect = Some(on_connect);
        self
    }

    /// Adds a listener whose connections are served by `handler`, for example an admin port beside
    /// the service.
    ///
    /// `handler` is called as one of [`on_request`](Self::on_request), which keeps serving the
    /// listeners of [`listen`](Self::listen). All else is common to all listeners: pollers, handler
    /// threads, limits, options, statistics, `on_accept`, `on_connect` and `on_disconnect`.
    ///
    /// ```
    /// use netpoll::{Connection, EventLoop, Listener};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let builder = EventLoop::builder();
    /// let handle = builder.handle();
    /// let event_loop = builder
    ///     .on_request(async |conn: &mut Connection| {
    ///         let (mut reader, mut writer) = conn.split();
    ///         writer.put_slice(reader.until(b'\n', 1024).await?);
    ///         Ok(())
    ///     })
    ///     .listen(Listener::bind("127.0.0.1:0")?)
    ///     .listen_with(Listener::bind("127.0.0.1:0")?, async move |conn: &mut Connection| {
    ///         let (mut reader, mut writer) = conn.split();
    ///         reader.until(b'\n', 1024).await?;
    ///         writer.put_str(&format!("{} connections\n", handle.connections()));
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// assert_eq!(event_loop.local_addrs().len(), 2);
    /// # Ok(()) }
    /// ```
    pub fn listen_with<H>(self, listener: impl Into<Listener>, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.add_listener(listener.into(), Some(request_service(handler)))
    }
}

/// Returns the factory of a service that calls `handler` for each request.
fn request_service<H>(handler: H) -> ServiceFactory<LocalHandlers>
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
{
    let provider = SharedHandler(Arc::new(handler));
    service_factory::<_, H>(|setup| {
        local_service(setup, provider, run_batch::<H>, HandlerMode::PerRequest)
    })
}

/// Returns the factory of a service that calls `handler` once with each connection.
fn connection_service<H>(handler: H) -> ServiceFactory<LocalHandlers>
where
    H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
{
    let provider = SharedHandler(Arc::new(handler));
    service_factory::<_, H>(|setup| {
        let make = connection_task::<H>;
        local_service(setup, provider, make, HandlerMode::PerConnection)
    })
}

/// Builds the service of a handler whose futures stay on one thread.
fn local_service<O, M, F>(
    setup: HandlerSetup<LocalHandlers>,
    provider: O,
    make: M,
    mode: HandlerMode,
) -> Arc<dyn Service>
where
    O: HandlerProvider,
    M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = CallOutcome> + 'static,
{
    let pinned = PinnedHandlers {
        provider: Arc::new(provider),
        on_connect: setup.on_connect,
        make,
        mode,
        config: Arc::new(setup.config),
    };
    match setup.runner {
        None => pinned.on_pollers(),
        Some(threads) => pinned.on_threads(threads),
    }
}
