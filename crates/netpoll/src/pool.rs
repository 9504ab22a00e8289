// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`ConnPool`]: connections to others that are used again and again, and bounded.
//!
//! A connection is handed out with a permit, of which each address has as many as there may be
//! connections; without one the caller is in [line](crate::semaphore). Whoever has a permit takes the
//! connection that came back last, and dials only when none waits. So there are never more
//! connections, handed out and waiting, than permits.
//!
//! * [`checkout`] is a caller from the line to the connection he has, which is [`Pooled`];
//! * [`entry`] is a connection, whether it may be used again, and who watches while it waits;
//! * [`host`] is one address, [`shared`] all of them, and what sweeps out who waits in vain;
//! * [`options`] are the bounds, [`error`] how they are reported, [`stats`] what is counted.

mod checkout;
mod entry;
mod error;
mod host;
mod options;
mod shared;
mod stats;

use std::fmt;
use std::io;

pub use checkout::Pooled;
pub use error::{PoolClosed, PoolFull, PoolTimedOut};
pub use options::ConnPoolOptions;
pub use stats::{ConnPoolStats, DiscardedStats};

use crate::addr::Addr;
use crate::block_on::block_on;
use crate::connection::blocking_stream::reject_on_poller;
use crate::dialer::Dialer;
use crate::error::InvalidConfig;
use crate::fairness;
use crate::sync::Arc;
use shared::PoolShared;

/// Connections to any number of addresses that are used again, with a bound for each address.
///
/// Clones are the same pool, on any threads; when the last is dropped, the pool is
/// [closed](Self::close). What nobody uses costs little: one that waits is closed and forgotten as
/// soon as its poller sees that the server is gone, and after
/// [`idle_timeout`](ConnPoolOptions::idle_timeout); an address without connections and callers is
/// forgotten, too.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let pool = netpoll::ConnPool::new(netpoll::Dialer::new());
/// let addr = "127.0.0.1:8080".parse()?;
/// for _ in 0..1000 {
///     // One connection, a thousand times.
///     let mut conn = pool.get(addr).await?;
///     conn.writer().put_str("ping\n");
///     conn.reader().until(b'\n', 1024).await?;
///     conn.recycle();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConnPool {
    owner: Arc<PoolOwner>,
}

/// What the clones of a pool own together, and connections that are out do not.
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
    /// A pool of what `dialer` makes, with the default bounds. Nothing is dialed.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self::build(dialer, ConnPoolOptions::default())
    }

    /// As [`new`](Self::new), with bounds of your own.
    ///
    /// ```
    /// use netpoll::{ConnPool, ConnPoolOptions, Dialer};
    ///
    /// let mut options = ConnPoolOptions::default();
    /// options.max_connections = 8;
    /// let pool = ConnPool::with_options(Dialer::new(), options)?;
    /// # Ok::<(), netpoll::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming the field, for a time of zero, for no connections at all, and for options
    /// of the dialer that cannot work.
    pub fn with_options(dialer: Dialer, options: ConnPoolOptions) -> Result<Self, InvalidConfig> {
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

    /// A connection to `addr`: the one that came back last, if it is alive and nothing waits to be
    /// read from it; a new one, if none waits; and if all are out, the first that comes back, first
    /// come first served. On a poller and in any executor.
    ///
    /// One that is used again costs a few locks and one system call, which reads nothing. As with
    /// every connection, the server may be gone by the time it is written to.
    ///
    /// # Errors
    ///
    /// [`PoolFull`] (`ResourceBusy`) at once, if too many wait already; [`PoolTimedOut`]
    /// (`TimedOut`) after a wait in vain; [`PoolClosed`] (`NotConnected`). Else what the
    /// [dial](Dialer::dial) fails with, errno kept.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped leaves nothing behind: its place in line, or what it was handed, goes
    /// to the next.
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

    /// As [`get`](Self::get), by parking the thread until the connection is there.
    ///
    /// # Errors
    ///
    /// [`BlockingOnPoller`](crate::BlockingOnPoller) (`WouldBlock`) on a poller's thread; else as
    /// [`get`](Self::get).
    pub fn get_blocking(&self, addr: Addr) -> io::Result<Pooled> {
        reject_on_poller()?;
        block_on(self.get(addr))
    }

    /// Has `connection` as if it had been dialed for `addr`, to which nothing else was.
    #[cfg(all(test, any(netpoll_loom, netpoll_shuttle)))]
    pub(crate) fn with(&self, addr: Addr, connection: crate::connection::Connection) -> Pooled {
        let mut checkout = self.owner.pool.start_checkout(addr).expect("an open pool");
        assert!(checkout.take_idle().expect("an open pool").is_none());
        let entry = checkout.add_connection(connection).expect("an open pool");
        Pooled::new(entry, checkout)
    }

    /// Closes the connections that wait, fails the callers that do with [`PoolClosed`], and has
    /// what is out closed when it comes back. Idempotent.
    pub fn close(&self) {
        self.owner.pool.close();
    }

    /// How it is with the connections to `addr`. Counted from when the address was last not known:
    /// one that has neither connections nor callers is forgotten. A lock.
    #[must_use]
    pub fn stats(&self, addr: Addr) -> ConnPoolStats {
        self.owner.pool.stats(addr)
    }

    /// How it is with the connections to all addresses, counted from the beginning. A lock that is
    /// held for an addition per address.
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
