// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Handler`]: a handler of requests whose futures may move between threads.

use std::future::Future;

use super::Connection;
use crate::error::BoxError;

/// Handles requests with futures that are `Send`, so that any [`Runner`](crate::Runner) can carry
/// them out. Given to [`on_request_send`](crate::Builder::on_request_send).
///
/// An `async fn` is one, and a closure that captures nothing; whatever has state of its own is a
/// type that implements it:
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

/// A function that is a [`Handler`]: what it returns borrows the connection it was given, and no
/// bound on `Fn` alone can say so.
pub trait HandlerFn<'a> {
    /// What it returns.
    type Future: Future<Output = Result<(), BoxError>> + Send + 'a;

    /// Calls it.
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
