// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Server`] and its [`Builder`].

use std::fmt;
use std::io;
use std::time::Duration;

use hyper::{Request, Response};
use netpoll::{BoxError, Connection, EventLoop, Listener, LoopHandle};
use tower_service::Service;

use crate::body::Body;
use crate::conn_info::ConnInfo;
use crate::connection::serve;
use crate::settings::{FIRST_BYTE, Settings};

/// An HTTP server. Configured and started by its [`Builder`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Server;

impl Server {
    /// Returns a builder with the default limits.
    pub fn builder() -> Builder {
        let event_loop = EventLoop::builder()
            .first_byte_timeout(FIRST_BYTE)
            // hyper always waits for input, and the server measures what it waits for.
            .idle_timeout(None)
            .min_rate(None);
        Builder {
            event_loop,
            settings: Settings::default(),
            handler: None,
        }
    }
}

/// Sets the handler of a loop.
type SetHandler = Box<dyn FnOnce(netpoll::Builder, Settings) -> netpoll::Builder>;

/// Configures and starts a [`Server`].
#[must_use]
pub struct Builder {
    event_loop: netpoll::Builder,
    settings: Settings,
    handler: Option<SetHandler>,
}

impl Builder {
    /// Serves requests with `service`, which is cloned for each request: any tower service, an axum
    /// `Router`, or a [`service_fn`](crate::service_fn()).
    ///
    /// A request waits until the clone is ready. An error of the service ends the connection
    /// (HTTP/1) or the stream (HTTP/2).
    pub fn service<S, B>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        self.service_per_connection(move |_info: &ConnInfo| service.clone())
    }

    /// Serves each connection with a service of its own. `make` is called on the poller of the
    /// connection, after its first bytes have arrived; the service need not be `Send`.
    pub fn service_per_connection<M, S, B>(mut self, make: M) -> Self
    where
        M: Fn(&ConnInfo) -> S + Send + Sync + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        self.handler = Some(Box::new(move |event_loop, settings| {
            event_loop
                .on_connection(async move |conn: Connection| serve(conn, &make, settings).await)
        }));
        self
    }

    /// Serves all connections of a poller with one service. `make` is called once on each poller's
    /// thread; the service, its clones and their shared state need not be `Send`.
    ///
    /// ```no_run
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use hyper::{Request, Response};
    /// use netpoll::{BoxError, Listener};
    /// use netpoll_http::{Body, Server, service_fn};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// Server::builder()
    ///     .service_per_poller(|| {
    ///         let requests = Rc::new(Cell::new(0));
    ///         service_fn(async move |_request: Request<Body>| {
    ///             requests.set(requests.get() + 1);
    ///             Ok::<_, BoxError>(Response::new(format!("{} on this thread\n", requests.get())))
    ///         })
    ///     })
    ///     .listen(Listener::bind("127.0.0.1:8080")?)
    ///     .serve()
    /// # }
    /// ```
    pub fn service_per_poller<M, S, B>(mut self, make: M) -> Self
    where
        M: Fn() -> S + Send + Sync + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body + 'static,
        B::Error: Into<BoxError>,
    {
        self.handler = Some(Box::new(move |event_loop, settings| {
            event_loop.on_connection_with(move || {
                let service = make();
                async move |conn: Connection| serve(conn, |_info| service.clone(), settings).await
            })
        }));
        self
    }

    /// Adds a listener. Can be called repeatedly.
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.event_loop = self.event_loop.listen(listener);
        self
    }

    /// Sets options of the event loop: pollers, limits of connections and memory, socket options.
    /// The handler that `configure` sets, if any, is replaced by the service.
    ///
    /// ```
    /// use netpoll_http::Server;
    ///
    /// let builder = Server::builder()
    ///     .event_loop(|event_loop| event_loop.pollers(2).max_connections(10_000));
    /// # drop(builder);
    /// ```
    pub fn event_loop(
        mut self,
        configure: impl FnOnce(netpoll::Builder) -> netpoll::Builder,
    ) -> Self {
        self.event_loop = configure(self.event_loop);
        self
    }

    /// Limits the time from the first byte of a request's head to its last: 10 seconds by default.
    /// A connection that exceeds it is closed. For HTTP/2 this limits the first bytes alone.
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.settings.head_timeout = time;
        self
    }

    /// Sets how long a connection may have no request in flight: 75 seconds by default. It is then
    /// closed in order.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.settings.keep_alive = time;
        self
    }

    /// Sets the lowest rate of a body, in bytes per second on the average of each `over` in which
    /// the service waits for the body: 240 over 30 seconds by default. Zero switches it off. A
    /// slower body fails, and the peer gets 408.
    pub fn min_body_rate(mut self, bytes_per_second: u32, over: Duration) -> Self {
        let rate = (bytes_per_second, over);
        self.settings.min_body_rate = (bytes_per_second > 0).then_some(rate);
        self
    }

    /// Limits the size of a body, in bytes. None by default. The service is not called for a request
    /// that announces a larger one, and a body without a length fails where it exceeds the limit;
    /// the peer gets 413.
    pub fn max_body(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.settings.max_body = bytes.into();
        self
    }

    /// Builds the event loop.
    ///
    /// # Errors
    ///
    /// Those of [`netpoll::Builder::build`]; `InvalidInput` if no service is set.
    pub fn build(self) -> io::Result<EventLoop> {
        let Some(set_handler) = self.handler else {
            let error = "service: must be set with service, service_per_connection or \
                service_per_poller";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        };
        set_handler(self.event_loop, self.settings).build()
    }

    /// Serves until the loop is shut down. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build) and [`EventLoop::run`].
    pub fn serve(self) -> io::Result<()> {
        self.build()?.run()
    }

    /// Serves on threads of the loop's own.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build) and [`EventLoop::spawn`].
    pub fn spawn(self) -> io::Result<LoopHandle> {
        self.build()?.spawn()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .field("has_service", &self.handler.is_some())
            .finish_non_exhaustive()
    }
}
