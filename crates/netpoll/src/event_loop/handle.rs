// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`LoopHandle`]: controls and observes a loop from other threads and from its handlers.

use std::io;
use std::time::Duration;

use super::built_loop::BuiltLoop;
use super::control::{LoopControl, Shutdown};
use crate::addr::Addr;
use crate::admission::AcceptStats;
use crate::block_on::block_on;
use crate::budget::Budget;
use crate::error::ErrorKind;
use crate::poll::notifier::is_poller_thread;
use crate::stats::LoopStats;
use crate::sync::Arc;

/// Controls and observes an [`EventLoop`](crate::EventLoop). `Clone` and `Send`; usable on the
/// pollers of the loop too.
///
/// [`Builder::handle`](crate::Builder::handle) returns it before the loop exists, so handlers can
/// own it. Until the loop is built, its counters are zero and its budget is unlimited. Dropping
/// handles, even the last one, does not end the loop.
#[derive(Clone, Debug)]
pub struct LoopHandle {
    pub(super) control: Arc<LoopControl>,
}

impl LoopHandle {
    /// Shuts the loop down in order, and aborts the connections that remain when `within` has
    /// passed.
    ///
    /// Returns at once. The result is a future; [`Shutdown::wait`] blocks for it, and dropping it
    /// does not cancel the shutdown. A later call can bring the deadline forward, also while the
    /// shutdown is in progress, and cannot postpone it. Before the loop runs, the request takes
    /// effect when it does.
    ///
    /// - The listeners are closed, as by [`stop_accepting`](Self::stop_accepting).
    /// - Bytes that the kernel holds for a connection at that moment are read and served. Requests
    ///   that arrive later may be dropped. A connection that was accepted less than 5 s ago (or
    ///   less than [`first_byte`](crate::options::Timeouts::first_byte) ago, if that is shorter)
    ///   and has received nothing yet keeps the rest of that time: its request may be in flight.
    /// - Requests that were read are answered. Handlers run on, and requests of
    ///   [`mux::serve`](crate::mux::serve) are awaited. A connection stays open while a
    ///   [`WriteQueue`](crate::connection::WriteQueue) of it exists. A handler that owns its
    ///   connection reads end of input once all received bytes are consumed, or it checks
    ///   [`draining`](crate::Connection::draining) and decides when to stop.
    /// - Then each connection is closed in order: its output is sent, then FIN.
    ///
    /// A connection with work left at the deadline is reset, and counts as aborted.
    ///
    /// A poller whose thread is blocked by user code cannot do that. At the deadline the loop
    /// closes its listeners, shuts down both directions of its connections from outside, and
    /// reports [`CallbackAbandoned`](crate::event::Event::CallbackAbandoned). A handler on another
    /// thread that waits for one of these connections, or for a timer of [`time`](crate::time), is
    /// woken only when the blocking code returns. A handler that stays on a thread of
    /// [`Runner::Threads`](crate::Runner::Threads) is dropped when that thread ends. A handler that
    /// must end sooner needs a timer of its own executor.
    pub fn shutdown(&self, within: Duration) -> Shutdown {
        self.control.request_shutdown(within);
        Shutdown::new(Arc::clone(&self.control))
    }

    /// Stops accepting connections, and keeps serving the open ones.
    ///
    /// The listeners are closed. Their ports and names become free, or continue in the processes
    /// that [share them](crate::Listener#handing-over). Connections that the kernel has queued by
    /// then are still accepted, unless another process can accept them. Open connections are served
    /// until they end or the loop is [shut down](Self::shutdown).
    ///
    /// Returns at once. The pollers close the listeners soon after; a loop at its connection limit
    /// does so when it has accepted the queued connections. Before the loop
    /// runs, the request takes effect when it does. Callable from any thread, idempotent,
    /// irreversible.
    ///
    /// ```no_run
    /// # fn example(handle: &netpoll::LoopHandle) {
    /// // Take the server out of service, and end it once its clients have gone elsewhere.
    /// handle.stop_accepting();
    /// while handle.connections() > 0 {
    ///     std::thread::sleep(std::time::Duration::from_secs(1));
    /// }
    /// let aborted = handle.shutdown(std::time::Duration::ZERO).wait();
    /// # let _ = aborted;
    /// # }
    /// ```
    pub fn stop_accepting(&self) {
        self.control.stop_accepting();
    }

    /// Blocks until the loop serves: [`run`](crate::EventLoop::run) or
    /// [`spawn`](crate::EventLoop::spawn) was called, and all poller threads run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotRunning`] (`ConnectionAborted`) if the
    /// loop failed to start, or has ended.
    /// [`ErrorKind::BlockingOnPoller`] (`WouldBlock`) on
    /// a poller thread.
    pub fn wait_until_serving(&self) -> io::Result<()> {
        if is_poller_thread() {
            return Err(ErrorKind::BlockingOnPoller.into());
        }
        let pollers = self.control.pollers();
        block_on(pollers.wait_for_start());
        match pollers.is_running() {
            true => Ok(()),
            false => Err(ErrorKind::NotRunning.into()),
        }
    }

    /// Blocks until the loop has ended, and returns the result of its
    /// [`run`](crate::EventLoop::run).
    ///
    /// Does not request the end: [`shutdown`](Self::shutdown) does. May be called repeatedly, and
    /// from several threads; each call returns the same result.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let handle = netpoll::EventLoop::builder()
    ///     .on_request(async |conn: &mut netpoll::Connection| Ok(conn.reader().skip(1).await?))
    ///     .spawn("127.0.0.1:8080")?;
    /// println!("listening on {}", handle.local_addrs()[0]);
    /// handle.wait()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The failure that ended the loop: its kind and errno or message, without the inner error.
    /// [`ErrorKind::NotRunning`] (`ConnectionAborted`) if the
    /// loop never ran: its builder or the loop was dropped, or it failed to start.
    /// [`ErrorKind::BlockingOnPoller`] (`WouldBlock`) on
    /// a poller thread.
    pub fn wait(&self) -> io::Result<()> {
        if is_poller_thread() {
            return Err(ErrorKind::BlockingOnPoller.into());
        }
        let _aborted = Shutdown::new(Arc::clone(&self.control)).wait();
        self.control.result()
    }

    /// Returns the addresses that the loop listens on, with the actual ports, in the order in which
    /// the listeners were added.
    ///
    /// Available as soon as the loop is built, and after its end too; empty before.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        let built = self.control.built();
        built.map_or_else(Vec::new, |built| built.local_addrs.clone())
    }

    /// Returns how many accepted connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.tracker().open_connections()
    }

    /// Returns the memory budget that the connections of the loop share. Until the loop is built,
    /// returns an unlimited budget that has no connection with the loop's.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let built = self.control.built();
        built.map_or_else(Budget::unlimited, |built| built.budget.clone())
    }

    /// Returns how many connections the listeners accepted and rejected, and why accepting paused.
    #[must_use]
    pub fn accept_stats(&self) -> AcceptStats {
        let built = self.control.built();
        built.map_or_else(AcceptStats::default, BuiltLoop::accept_stats)
    }

    /// Returns a snapshot of all counters of the loop.
    ///
    /// Callable from any thread, at any rate: it reads counters that the pollers maintain anyway,
    /// and does not block them. One allocation, and two locks for a few instructions each.
    ///
    /// ```no_run
    /// # fn example(handle: &netpoll::LoopHandle) {
    /// let stats = handle.stats();
    /// let total = stats.total();
    /// println!("{} open, {} requests", stats.connections, total.requests);
    /// for (reason, count) in stats.closed.iter().filter(|(_, count)| *count > 0) {
    ///     println!("{count} ended: {reason}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> LoopStats {
        let mut stats = LoopStats {
            connections: self.connections(),
            accept: self.accept_stats(),
            ..LoopStats::default()
        };
        let Some(built) = self.control.built() else {
            return stats;
        };
        for counters in built.counters.iter() {
            stats.pollers.push(counters.poller.snapshot());
            stats.closed.add(&counters.closed.snapshot());
        }
        stats
    }
}
