// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface of a listener without an event loop.

use std::io;

use super::Listener;
use super::filter::{Accept, ConnInfo, IncomingConnection};
use super::incoming::{AcceptFuture, Incoming};
use super::standalone::BoundLoop;
use crate::admission::AcceptStats;
use crate::block_on::block_on;
use crate::budget::Budget;
use crate::connection::Connection;
use crate::connection::blocking_stream::reject_on_poller;
use crate::options::ConnOptions;
use crate::poll::poller_registry::PollerRegistry;
use crate::sync::Arc;

/// # Without an event loop
///
/// [`accept`](Self::accept) and [`incoming`](Self::incoming) return connections that the caller
/// owns, as a [`Dialer`](crate::Dialer) does. They work in any executor. The connections belong to
/// pollers that the whole process shares; [`on`](Self::on) selects those of a loop.
///
/// Accepting starts with the first poll of either, and takes another descriptor. From then on, up
/// to 16 connections are accepted ahead of their callers; the kernel queues the others, up to the
/// backlog. The options below take effect if they are set before that poll. An event loop ignores
/// them: it has its own. A listener that is passed to a loop closes the connections that were
/// accepted and that no caller took. One of [`bind_per_poller`](Self::bind_per_poller) accepts from
/// a single socket.
///
/// ```
/// use netpoll::{Connection, Dialer, Listener};
///
/// async fn echo(mut conn: Connection) -> std::io::Result<()> {
///     let (mut reader, mut writer) = conn.split();
///     let line = reader.until(b'\n', 1024).await?;
///     writer.put_slice(line);
///     Ok(())
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// let listener = Listener::bind("127.0.0.1:0")?;
/// let mut client = Dialer::new().dial(listener.local_addr()?).await?;
/// let (conn, info) = listener.accept().await?;
/// println!("{} connected", info.peer_addr());
/// netpoll::spawn(echo(conn))?;
/// client.writer().put_str("hello\n");
/// assert_eq!(client.reader().until(b'\n', 1024).await?, b"hello\n");
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
impl Listener {
    /// Returns the next connection. The caller owns it; dropping it closes it.
    ///
    /// Concurrent callers get connections in the order of their first poll. Costs `accept(2)`, the
    /// registration with a poller, one hop to it, and a few allocations.
    ///
    /// While the limit of connections is reached, or descriptors or kernel memory are exhausted,
    /// the call waits and no error is returned. Accepting continues when a connection ends. If a
    /// resource is exhausted, it also retries after 10 ms, then after twice that, up to a second.
    /// Connections that are aborted before they are accepted are skipped.
    /// [`accept_stats`](Self::accept_stats) counts all of these.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) (`InvalidInput`),
    ///   with the name of the option: invalid [`options`](Self::options), a limit of zero.
    /// - The errors of starting to accept: `EMFILE` and the like, for the descriptor of the
    ///   acceptor, or for the pollers that the process shares. A later call tries again.
    /// - [`ErrorKind::NotRunning`](crate::error::ErrorKind::NotRunning) (`ConnectionAborted`) if
    ///   the listener is bound to a loop that has ended or stopped accepting.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection: the next caller gets it.
    pub async fn accept(&self) -> io::Result<(Connection, ConnInfo)> {
        AcceptFuture::new(self).await
    }

    /// As [`accept`](Self::accept), but blocks the calling thread until a connection has arrived.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlockingOnPoller`](crate::error::ErrorKind::BlockingOnPoller) (`WouldBlock`) on
    /// a poller's thread; otherwise as [`accept`](Self::accept).
    pub fn accept_blocking(&self) -> io::Result<(Connection, ConnInfo)> {
        reject_on_poller()?;
        block_on(self.accept())
    }

    /// Returns the connections as a `futures_core::Stream`.
    ///
    /// ```no_run
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    ///
    /// use futures_core::Stream;
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let listener = netpoll::Listener::bind("127.0.0.1:8080")?;
    /// let mut incoming = pin!(listener.incoming());
    /// // With the `StreamExt` of the crate `futures`: `incoming.next().await`.
    /// while let Some(accepted) = poll_fn(|context| incoming.as_mut().poll_next(context)).await {
    ///     let (conn, info) = accepted?;
    ///     println!("{} connected", info.peer_addr());
    ///     drop(conn);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self)
    }

    /// Sets the limits, timeouts and socket options of the connections that
    /// [`accept`](Self::accept) returns. The default is [`ConnOptions::default`].
    #[must_use]
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.standalone.config.options = options;
        self
    }

    /// Sets the most connections of [`accept`](Self::accept) that are open at once. The default and
    /// the meaning are those of [`Builder::max_connections`](crate::Builder::max_connections), for
    /// this listener alone.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.standalone.config.max_connections = Some(count);
        self
    }

    /// Sets the most new connections of [`accept`](Self::accept) a second, as
    /// [`Builder::accept_rate`](crate::Builder::accept_rate) does. The default is `None`: no limit.
    #[must_use]
    pub fn accept_rate(mut self, per_second: impl Into<Option<u32>>) -> Self {
        self.standalone.config.accept_rate = per_second.into();
        self
    }

    /// Calls `filter` for each connection before [`accept`](Self::accept) can return it, as
    /// [`Builder::on_accept`](crate::Builder::on_accept) does. It runs on a poller and must not
    /// block.
    #[must_use]
    pub fn on_accept<A>(mut self, filter: A) -> Self
    where
        A: Fn(&IncomingConnection<'_>) -> Accept + Send + Sync + 'static,
    {
        self.standalone.config.filter = Some(Arc::new(filter));
        self
    }

    /// Returns the counters of the connections that arrived for [`accept`](Self::accept). One lock,
    /// held for a few instructions.
    #[must_use]
    pub fn accept_stats(&self) -> AcceptStats {
        self.standalone.stats()
    }

    /// Binds the listener to the pollers of a loop, whose connections share `budget`.
    pub(crate) fn on_pollers(mut self, pollers: PollerRegistry, budget: Budget) -> Self {
        self.standalone.config.bound_loop = Some(BoundLoop { pollers, budget });
        self
    }
}
