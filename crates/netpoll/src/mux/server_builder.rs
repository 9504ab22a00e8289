// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Server`]: serves calls with handlers that know the connection of their request.

use std::fmt;
use std::future::Future;
use std::pin::pin;

use super::executor_server::serve_requests_on;
use super::message::CallCodec;
use super::server::{DEFAULT_MAX_IN_FLIGHT, serve_requests};
use super::server_connection::ServerConnection;
use crate::connection::Connection;
use crate::connection::handler::ConnectionHandler;
use crate::error::BoxError;
use crate::foreign::UserFuture;
use crate::runner::Spawn;
use crate::sync::Arc;

/// As [`serve`](super::serve), with a handler that also gets the [`ServerConnection`] of its
/// request: the peer's address, and a way to push messages. Short for
/// `Server::new(codec).serve(handler)`; see there for a failing handler.
///
/// ```
/// use netpoll::codec::LengthField;
/// use netpoll::mux::{self, Message, Numbered, ServerConnection};
///
/// let codec = Numbered::new(LengthField::new());
/// let greet = async |request: Message, conn: &ServerConnection<Message>| {
///     conn.push(Message::new(b"a message without a call")).await?;
///     let greeting = format!("hello, {}", conn.peer_addr());
///     Ok(Message::of(request.id, greeting.into_bytes().into()))
/// };
/// let builder = netpoll::EventLoop::builder().on_connection(mux::serve_with(codec, greet));
/// # drop(builder);
/// ```
pub fn serve_with<C, H>(
    codec: C,
    handler: H,
) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static
where
    C: CallCodec,
    H: AsyncFn(C::Frame, &ServerConnection<C::Frame>) -> Result<C::Frame, BoxError>
        + Send
        + Sync
        + 'static,
{
    Server::new(codec).serve(handler)
}

/// The options of a server whose handlers get the [`ServerConnection`] of their request.
///
/// A handler that returns an error answers its call with the codec's
/// [`error_answer`](CallCodec::error_answer), and the connection stays open. Without such a frame
/// the error closes the connection, as with [`serve`](super::serve). So does a panic, and an answer
/// that the codec cannot encode.
///
/// Costs two allocations per connection, and none per request beyond those of `serve`.
///
/// ```
/// use std::cell::Cell;
///
/// use netpoll::codec::LengthField;
/// use netpoll::mux::{Message, Numbered, Server, ServerConnection};
/// use netpoll::EventLoop;
///
/// /// The state of one connection.
/// struct Session {
///     requests: Cell<u64>,
/// }
///
/// let server = Server::new(Numbered::new(LengthField::new()))
///     .max_in_flight(32)
///     .state(|_conn, _handle| Session { requests: Cell::new(0) })
///     .serve(async |request: Message, conn: &ServerConnection<Message, Session>| {
///         let requests = &conn.state().requests;
///         requests.set(requests.get() + 1);
///         Ok(request)
///     });
/// let builder = EventLoop::builder().on_connection(server);
/// # drop(builder);
/// ```
#[must_use = "`serve` makes a connection handler of it"]
pub struct Server<C: CallCodec, S = ()> {
    codec: Arc<C>,
    max_in_flight: usize,
    state: Box<StateFn<C::Frame, S>>,
}

/// Makes the state of a connection.
type StateFn<F, S> = dyn Fn(&mut Connection, &ServerConnection<F>) -> S + Send + Sync;

impl<C: CallCodec> Server<C> {
    /// Creates a server of calls in the format of `codec`, with the default options.
    pub fn new(codec: C) -> Self {
        Self {
            codec: Arc::new(codec),
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            state: Box::new(|_conn, _handle| ()),
        }
    }
}

impl<C: CallCodec, S: 'static> Server<C, S> {
    /// Sets how many requests of a connection are in progress at once; further ones wait in the
    /// kernel. 0 counts as 1. Default: 256.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// Sets the function that makes the [state](ServerConnection::state) of each connection. It
    /// runs once per connection, before the first request, where the connection's handler runs. It
    /// gets the connection itself, for example to take the value that
    /// [`on_connect`](crate::Builder::on_connect) [attached](Connection::attach), and the handle that
    /// the requests get, of which it may keep a clone to push later. A panic closes the connection.
    ///
    /// ```
    /// use netpoll::codec::LengthField;
    /// use netpoll::mux::{Message, Numbered, Server, ServerConnection};
    /// use netpoll::{Connection, EventLoop};
    ///
    /// struct User(String);
    ///
    /// let server = Server::new(Numbered::new(LengthField::new()))
    ///     .state(|conn, _handle| conn.take_attached::<User>())
    ///     .serve(async |request: Message, conn| {
    ///         let user = conn.state().as_ref().ok_or("not logged in")?;
    ///         Ok(Message::of(request.id, user.0.clone().into_bytes().into()))
    ///     });
    /// let builder = EventLoop::builder()
    ///     .on_connect(async |conn: &mut Connection| {
    ///         let name = conn.reader().read_string(8).await?;
    ///         conn.attach(User(name));
    ///         Ok(())
    ///     })
    ///     .on_connection(server);
    /// # drop(builder);
    /// ```
    ///
    /// The state is dropped once the connection's handler has ended and no clone of its
    /// [`ServerConnection`] is left. With [`serve`](Self::serve) it need not be `Send`.
    pub fn state<T: 'static>(
        self,
        state: impl Fn(&mut Connection, &ServerConnection<C::Frame>) -> T + Send + Sync + 'static,
    ) -> Server<C, T> {
        Server {
            codec: self.codec,
            max_in_flight: self.max_in_flight,
            state: Box::new(state),
        }
    }

    /// Returns a connection handler, for [`on_connection`](crate::Builder::on_connection) of a
    /// builder of [`EventLoop::builder`](crate::EventLoop::builder), that calls `handler` for each
    /// request, as [`serve`](super::serve) does.
    pub fn serve<H>(
        self,
        handler: H,
    ) -> impl AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static
    where
        H: AsyncFn(C::Frame, &ServerConnection<C::Frame, S>) -> Result<C::Frame, BoxError>
            + Send
            + Sync
            + 'static,
    {
        async move |mut conn: Connection| {
            let context = self.context(&mut conn);
            let codec = &*self.codec;
            serve_requests(conn, codec, self.max_in_flight, |request| {
                let id = codec.id(&request);
                let running = handler(request, &context);
                answer_or_error(codec, id, running)
            })
            .await
        }
    }

    /// Returns a connection handler, for [`on_connection`](crate::Builder::on_connection) of a
    /// builder of either kind, that runs each request as a task of `executor`, as
    /// [`serve_on`](super::serve_on) does. Each task gets a clone of the connection.
    pub fn serve_on<H, F>(
        self,
        executor: Arc<dyn Spawn>,
        handler: H,
    ) -> impl AsyncFn(Connection) -> Result<(), BoxError> + ConnectionHandler
    where
        S: Send + Sync,
        H: Fn(C::Frame, ServerConnection<C::Frame, S>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<C::Frame, BoxError>> + Send + 'static,
    {
        let (server, handler) = (Arc::new(self), Arc::new(handler));
        move |mut conn: Connection| {
            let context = server.context(&mut conn);
            let (codec, handler) = (Arc::clone(&server.codec), Arc::clone(&handler));
            let start = {
                let codec = Arc::clone(&codec);
                move |request| {
                    let (codec, id) = (Arc::clone(&codec), codec.id(&request));
                    let running = handler(request, context.clone());
                    async move { answer_or_error(&*codec, id, running).await }
                }
            };
            let executor = Arc::clone(&executor);
            serve_requests_on(executor, server.max_in_flight, codec, Arc::new(start), conn)
        }
    }

    fn context(&self, conn: &mut Connection) -> ServerConnection<C::Frame, S> {
        let handle = ServerConnection::new(conn, &self.codec);
        let state = (self.state)(conn, &handle);
        handle.with_state(state)
    }
}

/// Awaits the answer to the call `id`. Returns for an error the frame that the codec has for it.
async fn answer_or_error<C: CallCodec>(
    codec: &C,
    id: u64,
    answer: impl Future<Output = Result<C::Frame, BoxError>>,
) -> Result<C::Frame, BoxError> {
    let answer = UserFuture::new(pin!(Some(answer))).await;
    answer.or_else(|error| codec.error_answer(id, &error).ok_or(error))
}

impl<C: CallCodec, S> fmt::Debug for Server<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}
