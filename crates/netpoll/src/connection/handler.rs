// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Handler`] and [`ConnectionHandler`]: handlers whose futures may move between threads.
//!
//! On stable Rust no bound says "the future of this closure is `Send`" of an async closure that
//! borrows its captures. The future of a *consumed* async closure owns them, and its type is the
//! output of `FnOnce`, which a bound can name. So a closure is cloned for each call, and the clone
//! is consumed. A function, or a closure without captures, is cloned for free. The bound `AsyncFn`
//! rejects closures that change or consume their captures, which a clone would lose.

use std::future::Future;

use super::Connection;
use crate::error::BoxError;

/// Handles requests with `Send` futures, so that any [`Runner`](crate::Runner) can run them. The
/// handlers of [`EventLoop::builder_on`](crate::EventLoop::builder_on) are of this type.
///
/// Every `async fn(&mut Connection) -> Result<(), BoxError>` is a `Handler`, and so is every async
/// closure of this signature, if its captures are `Clone`, `Send` and `Sync`:
///
/// ```no_run
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use netpoll::{Connection, EventLoop, Runner};
///
/// # fn main() -> std::io::Result<()> {
/// let lines = Arc::new(AtomicU64::new(0));
/// EventLoop::builder_on(Runner::Threads(4))
///     .on_request(async move |conn: &mut Connection| {
///         let (mut reader, mut writer) = conn.split();
///         reader.until(b'\n', 1024).await?;
///         let number = lines.fetch_add(1, Ordering::Relaxed);
///         writer.put_str(&format!("{number}\n"));
///         Ok(())
///     })
///     .serve("127.0.0.1:8080")
/// # }
/// ```
///
/// Each call gets a clone of the closure. The clone of an `Arc` changes a counter that all threads
/// share, twice a call. A type that implements the trait has its state at no cost for each call:
///
/// ```no_run
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use netpoll::{BoxError, Connection, EventLoop, Handler, Runner};
/// #[derive(Default)]
/// struct Numbered(AtomicU64);
///
/// impl Handler for Numbered {
///     async fn call(&self, conn: &mut Connection) -> Result<(), BoxError> {
///         let (mut reader, mut writer) = conn.split();
///         reader.until(b'\n', 1024).await?;
///         let number = self.0.fetch_add(1, Ordering::Relaxed);
///         writer.put_str(&format!("{number}\n"));
///         Ok(())
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// EventLoop::builder_on(Runner::Threads(4))
///     .on_request(Numbered::default())
///     .serve("127.0.0.1:8080")
/// # }
/// ```
///
/// # What a call does
///
/// The loop calls a request handler when the connection has input and no call is running.
///
/// - A call reads one request, or several, and **consumes** them. The loop calls again while input
///   remains.
/// - A call that needs more input awaits it. No thread waits meanwhile.
/// - A call that returns without consuming anything says "there is no whole request yet". The loop
///   calls again when *more* input has arrived, and once more at the peer's FIN. What was there
///   stays there.
/// - Output is sent when the call returns or awaits.
/// - An `Err` or a panic ends this connection, with [`CloseReason::Handler`] or
///   [`CloseReason::HandlerPanic`], and nothing else. Output that was written before it is sent.
///
/// [`CloseReason::Handler`]: crate::CloseReason::Handler
/// [`CloseReason::HandlerPanic`]: crate::CloseReason::HandlerPanic
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of requests",
    label = "not an async function of `&mut Connection`",
    note = "a handler is an `async fn(&mut Connection) -> Result<(), BoxError>`, an async closure of \
            that signature, or a type that implements `Handler`",
    note = "handlers that `on_connection` takes get a `Connection`, not `&mut Connection`"
)]
pub trait Handler: Send + Sync + 'static {
    /// Handles a request, or several. See [What a call does](Handler#what-a-call-does).
    fn call(&self, conn: &mut Connection) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<F> Handler for F
where
    F: AsyncFn(&mut Connection) -> Result<(), BoxError>,
    F: Clone,
    F: Send + Sync + 'static,
    F: for<'a> HandlerFn<'a>,
{
    fn call(&self, conn: &mut Connection) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.clone().start(conn)
    }
}

/// A function that is a [`Handler`]. Its future borrows the connection, which no bound on `FnOnce`
/// alone can express.
///
/// Functions and closures implement it; a type with state implements [`Handler`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function of `&mut Connection` with a `Send` future",
    label = "not an async function of `&mut Connection`",
    note = "a type with state of its own implements `Handler`"
)]
pub trait HandlerFn<'a> {
    /// The future of one call.
    type Future: Future<Output = Result<(), BoxError>> + Send + 'a;

    /// Calls the function.
    fn start(self, conn: &'a mut Connection) -> Self::Future;
}

impl<'a, F, R> HandlerFn<'a> for F
where
    F: FnOnce(&'a mut Connection) -> R,
    R: Future<Output = Result<(), BoxError>> + Send + 'a,
{
    type Future = R;

    fn start(self, conn: &'a mut Connection) -> R {
        self(conn)
    }
}

/// Owns connections with `Send` futures, so that any [`Runner`](crate::Runner) can run them. Passed
/// to [`on_connection`](crate::Builder::on_connection) of a builder of
/// [`EventLoop::builder_on`](crate::EventLoop::builder_on).
///
/// Every `async fn(Connection) -> Result<(), BoxError>` is one, and so is every async closure of
/// this signature, if its captures are `Clone`, `Send` and `Sync`. [`mux::serve_on`] returns one.
/// The closure is cloned for each connection. A type with state of its own implements the trait.
///
/// The call has the connection until it drops it, which [closes](Connection::close) it. An `Err` or
/// a panic ends the connection with the matching [`CloseReason`](crate::CloseReason).
///
/// [`mux::serve_on`]: crate::mux::serve_on
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of connections with `Send` futures",
    label = "not an async function of `Connection` with a `Send` future",
    note = "a handler is an `async fn(Connection) -> Result<(), BoxError>`, an async closure of \
            that signature, or a type that implements `ConnectionHandler`",
    note = "the handlers of `mux::serve` and `mux::serve_with` stay on one thread: use \
            `EventLoop::builder()`, or `mux::serve_on`"
)]
pub trait ConnectionHandler: Send + Sync + 'static {
    /// Serves the connection until it returns.
    fn serve(&self, conn: Connection) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<F, R> ConnectionHandler for F
where
    F: AsyncFn(Connection) -> Result<(), BoxError>,
    F: Clone,
    F: Send + Sync + 'static,
    F: FnOnce(Connection) -> R,
    R: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    fn serve(&self, conn: Connection) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.clone()(conn)
    }
}
