// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handlers of a [`Builder`], and the [`Service`] that is built from them.
//!
//! The type of a handler is known only in the method that takes it. That method stores a closure
//! that creates the [`Service`] when the loop is built. By then the runner is known, and whether it
//! can run this handler.

use std::any::type_name;
use std::future::Future;
use std::pin::pin;

use super::builder::Builder;
use crate::connection::Connection;
use crate::connection::dispatcher::HandlerMode;
use crate::connection::handler::Handler;
use crate::connection::request_batch::{
    CallOutcome, HandlerStage, Handlers, OnConnect, OnConnectSend, SharedHandlers, connection_task,
    connection_task_send, run_batch, run_batch_send,
};
use crate::connection::service::{
    HandlerProvider, PerThreadHandler, PinnedHandlers, Service, ServiceConfig, SharedHandler,
    on_spawner,
};
use crate::error::{BoxError, CloseReason, InvalidConfig};
use crate::foreign::UserFuture;
use crate::runner::{PreparedRunner, Spawn};
use crate::sync::Arc;

/// Creates the service of a handler, when the loop is built.
pub(super) type ServiceFactory =
    Box<dyn FnOnce(HandlerSetup) -> Result<Arc<dyn Service>, InvalidConfig> + Send>;

/// The parts that a service is built from.
pub(super) struct HandlerSetup {
    pub(super) config: ServiceConfig,
    pub(super) connect_handler: Option<ConnectHandler>,
    pub(super) runner: PreparedRunner,
}

/// The handler that was given to `on_connect` or `on_connect_send`.
#[derive(Clone)]
pub(super) enum ConnectHandler {
    Pinned(Arc<OnConnect>),
    Movable(Arc<OnConnectSend>),
}

impl Builder {
    /// Calls `handler` for each request of a connection.
    ///
    /// A call starts when the connection has input and no call is running. It repeats while input
    /// remains and the last call consumed some. The handler may await more input at any point: no
    /// thread waits. If it returns without consuming input, it is called again when *more* input
    /// arrives, and once more at the peer's FIN. Output is sent when the handler returns or awaits.
    ///
    /// Its future need not be `Send`: it is created, polled and dropped on one thread. That is the
    /// connection's poller, where a blocking call delays all other connections, or a thread of
    /// [`Runner::Threads`](crate::Runner::Threads).
    ///
    /// An `Err` or a panic ends that connection with the matching [`CloseReason`], and nothing
    /// else.
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
        self.with_handler(service_factory::<H, _>(|setup| {
            setup.pinned_service(provider, run_batch::<H>, HandlerMode::PerRequest)
        }))
    }

    /// Calls `handler` for each request, as [`on_request`](Self::on_request), on any
    /// [`Runner`](crate::Runner): its futures are `Send`, and different threads may poll them.
    pub fn on_request_send<H: Handler>(self, handler: H) -> Self {
        self.with_handler(request_service_send(handler))
    }

    /// Calls `handler` once with each connection, which it then owns; dropping it calls
    /// [`Connection::close`]. For conversational protocols. Replaces a handler of
    /// [`on_request`](Self::on_request); the rules for futures and errors are the same.
    pub fn on_connection<H>(self, handler: H) -> Self
    where
        H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let provider = SharedHandler(Arc::new(handler));
        self.with_handler(service_factory::<H, _>(|setup| {
            setup.pinned_service(provider, connection_task::<H>, HandlerMode::PerConnection)
        }))
    }

    /// Calls `handler` once with each connection, as [`on_connection`](Self::on_connection), on any
    /// [`Runner`](crate::Runner): its futures are `Send`, and different threads may poll them.
    pub fn on_connection_send<H, F>(self, handler: H) -> Self
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.with_handler(service_factory::<H, _>(|setup| {
            if setup.moves_tasks() {
                setup.movable_service(
                    handler,
                    connection_task_send::<H, F>,
                    HandlerMode::PerConnection,
                )
            } else {
                let handler = move |conn: Connection| handler(conn);
                setup.pinned_service(
                    SharedHandler(Arc::new(handler)),
                    connection_task,
                    HandlerMode::PerConnection,
                )
            }
        }))
    }

    /// Calls `handler` once for each connection, before its first request, on the same runner.
    ///
    /// It may read and write, and attach values for later requests ([`Connection::attach`]). An
    /// `Err` or a panic ends the connection. If a connection ends before this handler has returned
    /// `Ok`, [`on_disconnect`](Self::on_disconnect) is not called for it. One allocation for each
    /// connection.
    pub fn on_connect<H>(mut self, handler: H) -> Self
    where
        H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let connect_handler: Arc<OnConnect> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some((*handler)(conn)))).await })
        });
        self.connect_handler = Some(ConnectHandler::Pinned(connect_handler));
        self
    }

    /// Calls `handler` once for each connection, as [`on_connect`](Self::on_connect), on any
    /// [`Runner`](crate::Runner). A runner that moves tasks between threads requires this one.
    pub fn on_connect_send<H: Handler>(mut self, handler: H) -> Self {
        let handler = Arc::new(handler);
        let connect_handler: Arc<OnConnectSend> = Arc::new(move |conn| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { UserFuture::new(pin!(Some(handler.call(conn)))).await })
        });
        self.connect_handler = Some(ConnectHandler::Movable(connect_handler));
        self
    }

    /// Calls `observer` once for each connection that has ended, after its last handler call has
    /// returned, with the first cause.
    ///
    /// Runs on the connection's poller, so it must not block. If a handler call blocks a thread
    /// that the loop does not control, the loop waits for it until a second after the deadline of a
    /// shutdown.
    pub fn on_disconnect<O>(mut self, observer: O) -> Self
    where
        O: Fn(&mut Connection, &CloseReason) + Send + Sync + 'static,
    {
        self.observer = Some(Arc::new(observer));
        self
    }

    fn with_handler(mut self, factory: ServiceFactory) -> Self {
        self.handler = Some(factory);
        self
    }
}

/// Returns the factory of a service that serves with `H`.
fn service_factory<H, G>(make_service: G) -> ServiceFactory
where
    G: FnOnce(HandlerSetup) -> Result<Arc<dyn Service>, InvalidConfig> + Send + 'static,
{
    Box::new(|mut setup: HandlerSetup| {
        setup.config.handler_name = type_name::<H>();
        make_service(setup)
    })
}

/// Returns the factory of a service that calls `handler` for each request.
pub(super) fn request_service<H>(handler: H) -> ServiceFactory
where
    H: AsyncFn(&mut Connection) -> Result<(), BoxError> + Send + Sync + 'static,
{
    let provider = SharedHandler(Arc::new(handler));
    service_factory::<H, _>(|setup| {
        setup.pinned_service(provider, run_batch::<H>, HandlerMode::PerRequest)
    })
}

/// Returns the factory of a service that calls `handler` for each request, on any runner.
pub(super) fn request_service_send<H: Handler>(handler: H) -> ServiceFactory {
    service_factory::<H, _>(|setup| {
        if setup.moves_tasks() {
            setup.movable_service(handler, run_batch_send::<H>, HandlerMode::PerRequest)
        } else {
            let handler = async move |conn: &mut Connection| {
                UserFuture::new(pin!(Some(handler.call(conn)))).await
            };
            setup.pinned_service(
                SharedHandler(Arc::new(handler)),
                run_batch,
                HandlerMode::PerRequest,
            )
        }
    })
}

impl HandlerSetup {
    /// Returns whether calls run as tasks that move between threads.
    fn moves_tasks(&self) -> bool {
        match (&self.runner, &self.connect_handler) {
            (PreparedRunner::Spawn(_), _) => true,
            (PreparedRunner::Threads(_), connect) => {
                !matches!(connect, Some(ConnectHandler::Pinned(_)))
            }
            (PreparedRunner::Inline, _) => false,
        }
    }

    /// Builds the service of a handler whose futures stay on one thread.
    fn pinned_service<O, M, F>(
        self,
        provider: O,
        make: M,
        mode: HandlerMode,
    ) -> Result<Arc<dyn Service>, InvalidConfig>
    where
        O: HandlerProvider,
        M: Fn(SharedHandlers<O::Handler>, Connection, HandlerStage) -> F
            + Copy
            + Send
            + Sync
            + 'static,
        F: Future<Output = CallOutcome> + 'static,
    {
        let pinned = PinnedHandlers {
            provider: Arc::new(provider),
            on_connect: self.connect_handler.map(ConnectHandler::into_pinned),
            make,
            mode,
            config: Arc::new(self.config),
        };
        match self.runner {
            PreparedRunner::Inline => Ok(pinned.on_pollers()),
            PreparedRunner::Threads(threads) => Ok(pinned.on_threads(threads)),
            PreparedRunner::Spawn(_) => {
                let expected = "must be Inline or Threads for a handler whose futures stay on one thread; \
                                use on_request_send or on_connection_send for any runner";
                Err(InvalidConfig::new("runner", expected))
            }
        }
    }

    /// Builds the service of a handler whose futures may move.
    fn movable_service<H, M, F>(
        self,
        handler: H,
        make: M,
        mode: HandlerMode,
    ) -> Result<Arc<dyn Service>, InvalidConfig>
    where
        H: Send + Sync + 'static,
        M: Fn(Arc<Handlers<H, OnConnectSend>>, Connection, HandlerStage) -> F
            + Copy
            + Send
            + Sync
            + 'static,
        F: Future<Output = CallOutcome> + Send + 'static,
    {
        let spawn: Arc<dyn Spawn> = match self.runner {
            PreparedRunner::Spawn(spawn) => spawn,
            PreparedRunner::Threads(threads) => threads,
            PreparedRunner::Inline => {
                return Err(InvalidConfig::new("runner", "must be able to run tasks"));
            }
        };
        let connect_handler = match self.connect_handler {
            None => None,
            Some(ConnectHandler::Movable(on_connect)) => Some(on_connect),
            Some(ConnectHandler::Pinned(_)) => {
                let expected = "must be on_connect_send with this runner";
                return Err(InvalidConfig::new("on_connect", expected));
            }
        };
        let handlers = Handlers {
            handler: Arc::new(handler),
            on_connect: connect_handler,
        };
        Ok(on_spawner(
            handlers,
            (make, mode),
            Arc::new(self.config),
            spawn,
        ))
    }
}

impl ConnectHandler {
    fn into_pinned(self) -> Arc<OnConnect> {
        match self {
            Self::Pinned(on_connect) => on_connect,
            Self::Movable(on_connect) => Arc::new(move |conn| on_connect(conn)),
        }
    }
}
