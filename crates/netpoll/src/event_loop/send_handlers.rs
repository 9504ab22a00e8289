// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers whose futures may move between threads: the methods of a builder of
//! [`EventLoop::builder_on`].
//!
//! With [`Runner::Inline`](crate::Runner::Inline) no future moves, and the handlers are served as
//! those of `local_handlers`.
//!
//! When a handler does not fit, the compiler says why, and quotes the line of the bound in the method
//! with its comment, which says what to do (`tests/diagnostics.rs`).
//!
//! [`EventLoop::builder_on`]: crate::EventLoop::builder_on

use std::future::Future;
use std::pin::pin;

use super::builder::Builder;
use super::handler_kind::SendHandlers;
use super::handlers::{HandlerSetup, ServiceFactory, service_factory};
use crate::connection::Connection;
use crate::connection::dispatcher::HandlerMode;
use crate::connection::handler::{ConnectionHandler, Handler};
use crate::connection::request_batch::{
    CallOutcome, HandlerStage, Handlers, OnConnect, OnConnectSend, SharedHandlers, connection_task,
    connection_task_send, run_batch, run_batch_send,
};
use crate::connection::service::{PinnedHandlers, Service, SharedHandler, on_spawner};
use crate::foreign::UserFuture;
use crate::listener::Listener;
use crate::runner::{PreparedRunner, Spawn};
use crate::sync::Arc;

/// Handlers whose futures are `Send`, which run where the [`Runner`](crate::Runner) of the builder
/// says: different threads may poll them. See [`Handler`] for what these handlers may capture.
impl Builder<SendHandlers> {
    /// Calls `handler` for each request of a connection.
    ///
    /// See [What a call does](Handler#what-a-call-does). A handler that returns without consuming
    /// input is called again when more input arrives.
    ///
    /// ```no_run
    /// use std::sync::{Arc, Mutex};
    /// use netpoll::{Connection, EventLoop, Runner};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let last = Arc::new(Mutex::new(String::new()));
    /// EventLoop::builder_on(Runner::Threads(4))
    ///     .on_request(async move |conn: &mut Connection| {
    ///         let line = conn.reader().until(b'\n', 1024).await?.to_vec();
    ///         let line = String::from_utf8(line)?;
    ///         // A lock that is held across an await would not compile: its guard is not `Send`.
    ///         let before = std::mem::replace(&mut *last.lock().unwrap(), line);
    ///         conn.writer().put_str(&before);
    ///         Ok(())
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn on_request<H>(self, handler: H) -> Self
    where
        H: Handler, // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
    {
        self.with_handler(request_service(handler))
    }

    /// Calls `handler` once with each connection, which it then owns; dropping it calls
    /// [`Connection::close`]. For conversational protocols. Replaces a handler of
    /// [`on_request`](Self::on_request).
    pub fn on_connection<H>(self, handler: H) -> Self
    where
        H: ConnectionHandler, // `Send` futures, `Clone` captures: else `EventLoop::builder()`
    {
        self.with_handler(connection_service(handler))
    }

    /// Calls `handler` once for each connection, before its first request, on the same runner.
    ///
    /// It may read and write, and attach values for later requests ([`Connection::attach`]). An
    /// `Err` or a panic ends the connection. If a connection ends before this handler has returned
    /// `Ok`, [`on_disconnect`](Self::on_disconnect) is not called for it. It need not consume
    /// anything. One allocation for each connection.
    pub fn on_connect<H>(mut self, handler: H) -> Self
    where
        H: Handler, // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
    {
        let handler = Arc::new(handler);
        let on_connect: Arc<OnConnectSend> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some(handler.call(conn)))).await })
        });
        self.on_connect = Some(on_connect);
        self
    }

    /// Adds a listener whose connections are served by `handler`, for example an admin port beside
    /// the service.
    ///
    /// `handler` is called as one of [`on_request`](Self::on_request), which keeps serving the
    /// listeners of [`listen`](Self::listen). All else is common to all listeners: pollers, runner,
    /// limits, options, statistics, `on_accept`, `on_connect` and `on_disconnect`.
    pub fn listen_with<H>(self, listener: impl Into<Listener>, handler: H) -> Self
    where
        H: Handler, // `Send` futures, `Clone` captures (`Arc`): `EventLoop::builder()` needs neither
    {
        self.add_listener(listener.into(), Some(request_service(handler)))
    }
}

/// Returns the factory of a service that calls `handler` for each request.
fn request_service<H: Handler>(handler: H) -> ServiceFactory<SendHandlers> {
    service_factory::<_, H>(|setup| match spawner(&setup.runner) {
        Some(spawn) => {
            let make = run_batch_send::<H>;
            spawned_service(setup, spawn, handler, make, HandlerMode::PerRequest)
        }
        None => {
            let handler = async move |conn: &mut Connection| {
                UserFuture::new(pin!(Some(handler.call(conn)))).await
            };
            inline_service(setup, handler, run_batch, HandlerMode::PerRequest)
        }
    })
}

/// Returns the factory of a service that calls `handler` once with each connection.
fn connection_service<H: ConnectionHandler>(handler: H) -> ServiceFactory<SendHandlers> {
    service_factory::<_, H>(|setup| match spawner(&setup.runner) {
        Some(spawn) => {
            let make = connection_task_send::<H>;
            spawned_service(setup, spawn, handler, make, HandlerMode::PerConnection)
        }
        None => {
            let handler = async move |conn: Connection| {
                UserFuture::new(pin!(Some(handler.serve(conn)))).await
            };
            inline_service(setup, handler, connection_task, HandlerMode::PerConnection)
        }
    })
}

/// Returns where calls run as tasks; `None` is on the connection's poller.
fn spawner(runner: &PreparedRunner) -> Option<Arc<dyn Spawn>> {
    match runner {
        PreparedRunner::Inline => None,
        PreparedRunner::Threads(threads) => Some(Arc::clone(threads) as Arc<dyn Spawn>),
        PreparedRunner::Spawn(spawn) => Some(Arc::clone(spawn)),
    }
}

/// Builds the service of a handler whose calls are tasks of `spawn`.
fn spawned_service<H, M, F>(
    setup: HandlerSetup<SendHandlers>,
    spawn: Arc<dyn Spawn>,
    handler: H,
    make: M,
    mode: HandlerMode,
) -> Arc<dyn Service>
where
    H: Send + Sync + 'static,
    M: Fn(Arc<Handlers<H, OnConnectSend>>, Connection, HandlerStage) -> F
        + Copy
        + Send
        + Sync
        + 'static,
    F: Future<Output = CallOutcome> + Send + 'static,
{
    let handlers = Handlers {
        handler: Arc::new(handler),
        on_connect: setup.on_connect,
    };
    on_spawner(handlers, (make, mode), Arc::new(setup.config), spawn)
}

/// Builds the service of a handler whose calls run on the connection's poller.
fn inline_service<H, M, F>(
    setup: HandlerSetup<SendHandlers>,
    handler: H,
    make: M,
    mode: HandlerMode,
) -> Arc<dyn Service>
where
    H: Send + Sync + 'static,
    M: Fn(SharedHandlers<H>, Connection, HandlerStage) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = CallOutcome> + 'static,
{
    let on_connect = setup.on_connect.map(|on_connect| {
        let local: Arc<OnConnect> = Arc::new(move |conn| on_connect(conn));
        local
    });
    let pinned = PinnedHandlers {
        provider: Arc::new(SharedHandler(Arc::new(handler))),
        on_connect,
        make,
        mode,
        config: Arc::new(setup.config),
    };
    pinned.on_pollers()
}
