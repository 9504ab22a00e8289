// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dialed connections that are reused: the [`ConnPool`], with limits for each address.
//!
//! ```no_run
//! use netpoll::pool::{ConnPool, ConnPoolOptions};
//! use netpoll::{Addr, Dialer};
//!
//! # async fn example(addr: Addr) -> std::io::Result<()> {
//! let options = ConnPoolOptions::default().max_connections(8);
//! let pool = ConnPool::with_options(Dialer::new(), options)?;
//! let mut conn = pool.get(addr).await?;
//! conn.writer().put_str("PING\n");
//! conn.writer().flush().await?;
//! println!("{:?}", pool.stats(addr));
//! # Ok(()) }
//! ```

// # Implementation
//
// A connection is handed out with a permit. Each address has as many permits as it may have
// connections; without a free permit the caller queues. A caller with a permit
// takes the connection that was returned last, and dials only if none is idle. So there are never
// more connections, in use and idle, than permits.
//
// * `checkout`: a caller from the queue to its connection, which is a `Pooled`;
// * `entry`: a connection, whether it can be reused, and the watch for its close;
// * `host`: the pool of one address; `shared`: all addresses, and the sweep of expired
//   connections;
// * `options`: the limits; `error`: the errors; `stats`: the counters.

mod checkout;
mod entry;
mod host;
mod options;
mod shared;
mod stats;

use std::fmt;
use std::io;

pub use checkout::Pooled;
pub use options::ConnPoolOptions;
pub use stats::{ConnPoolStats, DiscardedStats};

use crate::addr::Addr;
use crate::block_on::block_on;
use crate::connection::blocking_stream::reject_on_poller;
use crate::dialer::Dialer;
use crate::fairness;
use crate::sync::Arc;
use shared::PoolShared;

/// A pool of client connections to any number of addresses, with limits for each address.
///
/// A connection returns to the pool by [`Pooled::recycle`]. One that was used and is dropped is
/// closed, for example when `?` returns an error between a request and its answer.
///
/// Clones share one pool, on any threads. Dropping the last clone [closes](Self::close) the pool.
/// Idle resources are freed: an idle connection is closed as soon as its poller sees that the
/// server is gone, and after [`idle_timeout`](ConnPoolOptions::idle_timeout); an address without
/// connections and callers is removed.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let pool = netpoll::pool::ConnPool::new(netpoll::Dialer::new());
/// let addr = "127.0.0.1:8080".parse()?;
/// for _ in 0..1000 {
///     // One connection, a thousand times.
///     let mut conn = pool.get(addr).await?;
///     conn.writer().put_str("ping\n");
///     conn.reader().until(b'\n', 1024).await?; // an error closes the connection
///     conn.recycle(); // the exchange is complete
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConnPool {
    owner: Arc<PoolOwner>,
}

/// The part of a pool that its clones own, and connections in use do not.
struct PoolOwner {
    pool: Arc<PoolShared>,
    dialer: Dialer,
}

impl Drop for PoolOwner {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl ConnPool {
    /// Creates a pool that dials with `dialer`, with the default limits. Dials nothing.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self::build(dialer, ConnPoolOptions::default())
    }

    /// As [`new`](Self::new), with other limits.
    ///
    /// ```
    /// use netpoll::pool::{ConnPool, ConnPoolOptions};
    /// use netpoll::Dialer;
    ///
    /// let options = ConnPoolOptions::default().max_connections(8);
    /// let pool = ConnPool::with_options(Dialer::new(), options)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig), naming the field, for
    /// a timeout of zero, for a maximum of no connections, and for invalid options of the dialer.
    pub fn with_options(dialer: Dialer, options: ConnPoolOptions) -> io::Result<Self> {
        options.check()?;
        dialer.check()?;
        Ok(Self::build(dialer, options))
    }

    fn build(dialer: Dialer, options: ConnPoolOptions) -> Self {
        let pool = PoolShared::new(options);
        Self {
            owner: Arc::new(PoolOwner { pool, dialer }),
        }
    }

    /// Returns a connection to `addr`: the one that was returned last, if it is alive and has no
    /// unread input; a new one, if none is idle; if all are in use, the next one that is returned,
    /// in the order of the calls. Works on a poller and in any executor. Call
    /// [`recycle`](Pooled::recycle) when the exchange is complete.
    ///
    /// A reused connection costs a few locks and one system call, which reads no data. As with
    /// every connection, the server may be gone by the time it is written to.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PoolFull`](crate::error::ErrorKind::PoolFull) (`ResourceBusy`) at once if too
    /// many callers wait; [`ErrorKind::PoolTimedOut`](crate::error::ErrorKind::PoolTimedOut)
    /// (`TimedOut`) after [`wait_timeout`](ConnPoolOptions::wait_timeout);
    /// [`ErrorKind::PoolClosed`](crate::error::ErrorKind::PoolClosed) (`NotConnected`); otherwise
    /// the error of the [dial](Dialer::dial), with its errno.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no trace: its place in the queue, or the connection it was given,
    /// goes to the next caller.
    pub async fn get(&self, addr: Addr) -> io::Result<Pooled> {
        fairness::proceed().await;
        let mut checkout = self.owner.pool.start_checkout(addr)?;
        checkout.acquire_permit().await?;
        let entry = match checkout.take_idle()? {
            Some(entry) => entry,
            None => checkout.dial(&self.owner.dialer).await?,
        };
        Ok(Pooled::new(entry, checkout))
    }

    /// As [`get`](Self::get), but blocks the calling thread until the connection is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlockingOnPoller`](crate::error::ErrorKind::BlockingOnPoller) (`WouldBlock`) on
    /// a poller's thread; otherwise as [`get`](Self::get).
    pub fn get_blocking(&self, addr: Addr) -> io::Result<Pooled> {
        reject_on_poller()?;
        block_on(self.get(addr))
    }

    /// Adds `connection` as if it had been dialed for `addr`, which must have no other.
    #[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
    pub(crate) fn with(&self, addr: Addr, connection: crate::connection::Connection) -> Pooled {
        let mut checkout = self.owner.pool.start_checkout(addr).expect("an open pool");
        assert!(checkout.take_idle().expect("an open pool").is_none());
        let entry = checkout.add_connection(connection).expect("an open pool");
        Pooled::new(entry, checkout)
    }

    /// Closes the idle connections, fails waiting callers with
    /// [`ErrorKind::PoolClosed`](crate::error::ErrorKind::PoolClosed), and closes connections in
    /// use when they are returned. Idempotent.
    pub fn close(&self) {
        self.owner.pool.close();
    }

    /// Returns the statistics of `addr`. An address without connections and callers is removed, and
    /// counts from zero when it is used again. Costs a lock.
    #[must_use]
    pub fn stats(&self, addr: Addr) -> ConnPoolStats {
        self.owner.pool.stats(addr)
    }

    /// Returns the statistics of all addresses, removed ones included. Costs a lock, held for one
    /// addition per address.
    #[must_use]
    pub fn stats_all(&self) -> ConnPoolStats {
        self.owner.pool.stats_all()
    }
}

impl fmt::Debug for ConnPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnPool")
            .field("options", &self.owner.pool.options)
            .field("addresses", &self.owner.pool.addresses())
            .finish_non_exhaustive()
    }
}
