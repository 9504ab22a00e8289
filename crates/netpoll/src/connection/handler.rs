// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Handler`]: a request handler whose futures may move between threads.

use std::future::Future;

use super::Connection;
use crate::error::BoxError;

/// Handles requests with `Send` futures, so that any [`Runner`](crate::Runner) can run them. Passed
/// to [`on_request_send`](crate::Builder::on_request_send).
///
/// Every `async fn` and every closure without captures of the right signature is a `Handler`. A
/// handler with state of its own is a type that implements the trait:
///
/// ```no_run
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use netpoll::{BoxError, Connection, EventLoop, Handler, Runner};
///
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
/// EventLoop::builder()
///     .on_request_send(Numbered::default())
///     .runner(Runner::Threads(4))
///     .serve("127.0.0.1:8080")
/// # }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one request, as a handler of [`on_request`](crate::Builder::on_request) does.
    fn call(&self, conn: &mut Connection) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<F> Handler for F
where
    F: for<'a> HandlerFn<'a> + Send + Sync + 'static,
{
    fn call(&self, conn: &mut Connection) -> impl Future<Output = Result<(), BoxError>> + Send {
        self.start(conn)
    }
}

/// A function that is a [`Handler`]. Its future borrows the connection, which no bound on `Fn`
/// alone can express.
pub trait HandlerFn<'a> {
    /// The future of one call.
    type Future: Future<Output = Result<(), BoxError>> + Send + 'a;

    /// Calls the function.
    fn start(&self, conn: &'a mut Connection) -> Self::Future;
}

impl<'a, F, R> HandlerFn<'a> for F
where
    F: Fn(&'a mut Connection) -> R,
    R: Future<Output = Result<(), BoxError>> + Send + 'a,
{
    type Future = R;

    fn start(&self, conn: &'a mut Connection) -> R {
        self(conn)
    }
}
