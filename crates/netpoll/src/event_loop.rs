// SPDX-License-Identifier: MIT OR Apache-2.0
//! Serving listeners on a set of pollers: the [`EventLoop`], its [`Builder`], and its
//! [`LoopHandle`].
//!
//! ```no_run
//! use std::time::Duration;
//! use netpoll::event_loop::Balance;
//! use netpoll::{Connection, EventLoop, Listener};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = EventLoop::builder()
//!     .balance(Balance::RoundRobin)
//!     .on_request(async |conn: &mut Connection| {
//!         let line = conn.reader().until(b'\n', 1024).await?.to_vec();
//!         conn.writer().put_slice(&line);
//!         Ok(())
//!     })
//!     .listen(Listener::bind("127.0.0.1:8080")?)
//!     .build()?;
//! let handle = server.handle();
//! std::thread::spawn(move || {
//!     std::thread::sleep(Duration::from_secs(3600));
//!     handle.shutdown(Duration::from_secs(10)).wait()
//! });
//! server.run()
//! # }
//! ```

// # Implementation
//
// The thread that calls `EventLoop::run` serves no connection. It waits for a shutdown request
// and then runs the shutdown in two steps. *Graceful*: the pollers accept the connections that the
// kernel has queued, serve the bytes it holds for each connection, and close idle connections.
// *Force*, at the deadline: the pollers abort the connections that remain. Then the poller threads
// end.

pub(crate) mod builder;
pub(crate) mod control;
mod dialer;
mod handlers;
mod listener;
#[cfg(test)]
#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
mod poller_failure_tests;
mod termination;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::addr::Addr;
use crate::admission::{AcceptStats, AdmissionControl};
use crate::block_on::block_on;
use crate::budget::Budget;
pub use crate::connection::handler::{Handler, HandlerFn};
use crate::connection::service::Service;
use crate::error::ErrorKind;
use crate::event::EventSink;
use crate::listener::Listener;
use crate::listener::acceptor::Acceptor;
use crate::listener::destination::{AcceptContext, Destination};
use crate::listener::filter::Filter;
pub use crate::poll::balance::{Balance, PollerLoad};
use crate::poll::notifier::is_poller_thread;
use crate::poll::recovery::Supervisor;
use crate::poll::set::{PollerConfig, PollerSet};
use crate::poll::source::ShutdownRequest;
use crate::runner::thread_pool::ThreadPool;
use crate::stats::LoopStats;
use crate::stats::counters::Counters;
use crate::sync::Arc;
use crate::thread_hook::ThreadHook;
pub use builder::Builder;
use control::LoopControl;
pub use control::Shutdown;

/// How long a loop that fails to start waits for the threads of its thread pool.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves listeners on pollers.
///
/// ```no_run
/// fn main() -> std::io::Result<()> {
///     netpoll::EventLoop::builder()
///         .on_request(async |conn: &mut netpoll::Connection| {
///             let (mut reader, mut writer) = conn.split();
///             let len = reader.read_u32().await?;
///             let body = reader.next(len as usize).await?;
///             writer.put_u32(len);
///             writer.put_slice(body);
///             Ok(())
///         })
///         .serve("127.0.0.1:8080")
/// }
/// ```
pub struct EventLoop {
    /// Each listener, with the index of its poller if that poller alone accepts from it.
    listeners: Vec<(Option<usize>, Listener)>,
    balance: Balance,
    service: Arc<dyn Service>,
    /// The threads that handlers run on, for [`Runner::Threads`](crate::Runner::Threads).
    thread_pool: Option<Arc<ThreadPool>>,
    thread_hook: Option<ThreadHook>,
    budget: Budget,
    /// How long an idle poller stays awake before it sleeps.
    busy_poll: Duration,
    admission: Arc<AdmissionControl>,
    filter: Option<Filter>,
    event_sink: EventSink,
    /// The counters of each poller. Their number is the number of pollers.
    counters: Arc<[Arc<Counters>]>,
    control: Arc<LoopControl>,
}

impl EventLoop {
    /// Returns a builder with default options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns a handle that shuts the loop down, from any thread.
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        LoopHandle {
            control: Arc::clone(&self.control),
            admission: Arc::clone(&self.admission),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Returns the addresses that the loop listens on, with the actual ports.
    ///
    /// # Errors
    ///
    /// The errors of `getsockname(2)`.
    pub fn local_addrs(&self) -> io::Result<Vec<Addr>> {
        // An address that every poller listens on is listed once.
        let first = self
            .listeners
            .iter()
            .filter(|(pinned_poller, _)| pinned_poller.unwrap_or(0) == 0);
        first.map(|(_, listener)| listener.local_addr()).collect()
    }

    /// Serves until the loop is shut down.
    ///
    /// Blocks the calling thread. The pollers run on threads of their own, which start here and end
    /// before this returns. A thread that is blocked by user code at the deadline of the shutdown
    /// is abandoned: the loop reports
    /// [`CallbackAbandoned`](crate::event::Event::CallbackAbandoned), and the thread ends when that
    /// code returns.
    ///
    /// # Errors
    ///
    /// Fails if the pollers cannot start for lack of descriptors, memory or threads. Fails too if a
    /// poller failed later and could not restart
    /// ([`PollerFailed`](crate::event::Event::PollerFailed)): the remaining connections are aborted
    /// then.
    pub fn run(mut self) -> io::Result<()> {
        let threads = self.thread_pool.take();
        if let Some(threads) = &threads {
            threads.start(self.budget.pool(), self.thread_hook.as_ref())?;
        }
        let started = PollerSet::start(&self.counters, &self.poller_config());
        let pollers = match (started, &threads) {
            (Ok(pollers), _) => Arc::new(pollers),
            (Err(error), None) => return Err(error),
            (Err(error), Some(threads)) => {
                threads.stop(STOP_TIMEOUT);
                return Err(error);
            }
        };
        self.control.set_running(&pollers);
        let accept_context = Arc::new(AcceptContext {
            pollers: pollers.to_group(),
            destination: Destination::Service(Arc::clone(&self.service)),
            admission: Arc::clone(&self.admission),
            filter: self.filter.clone(),
            balance: self.balance.clone(),
        });
        let mut listeners = Vec::new();
        for (index, (pinned_poller, listener)) in
            std::mem::take(&mut self.listeners).into_iter().enumerate()
        {
            let poller = pollers.nth(pinned_poller.unwrap_or(index));
            let listener = Arc::new(listener);
            listeners.push(Arc::downgrade(&listener));
            poller.register(Acceptor::factory(listener, pinned_poller, &accept_context));
        }
        drop(accept_context);
        let deadline = self
            .control
            .wait_for_shutdown(|| pollers.shutdown_all(ShutdownRequest::StopAccepting));
        self.run_shutdown(deadline, &pollers, &listeners, threads.as_deref());
        self.event_sink.flush();
        self.control.take_failure().map_or(Ok(()), Err)
    }

    /// Returns the configuration that all pollers of the loop share.
    fn poller_config(&self) -> PollerConfig {
        let control = Arc::clone(&self.control);
        PollerConfig {
            budget: self.budget.clone(),
            thread_hook: self.thread_hook.clone(),
            busy_poll: self.busy_poll,
            supervisor: Supervisor {
                event_sink: self.event_sink.clone(),
                on_give_up: Some(Arc::new(move |error| control.fail(error))),
            },
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // A loop that never ran completes its shutdowns here, too.
        self.control.mark_stopped();
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("listeners", &self.listeners)
            .field("pollers", &self.counters.len())
            .finish_non_exhaustive()
    }
}

/// Controls and observes an [`EventLoop`]. `Clone` and `Send`; usable on the pollers of the loop
/// too.
#[derive(Clone, Debug)]
pub struct LoopHandle {
    control: Arc<LoopControl>,
    admission: Arc<AdmissionControl>,
    counters: Arc<[Arc<Counters>]>,
}

impl LoopHandle {
    /// Shuts the loop down in order, and aborts the connections that remain when `within` has
    /// passed.
    ///
    /// Returns at once. The result is a future; [`Shutdown::wait`] blocks for it, and dropping it
    /// does not cancel the shutdown. The first call sets the deadline.
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
    /// does so when it has accepted the queued connections. Before [`run`](EventLoop::run) is
    /// called, the request takes effect when the loop runs. Callable from any thread, idempotent,
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

    /// Blocks until the loop serves: [`run`](EventLoop::run) was called, and all poller threads
    /// run.
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

    /// Returns how many accepted connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.tracker().open_connections()
    }

    /// Returns the memory budget that the connections of the loop share.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.admission.budget().clone()
    }

    /// Returns how many connections the listeners accepted and rejected, and why accepting paused.
    #[must_use]
    pub fn accept_stats(&self) -> AcceptStats {
        self.admission.stats()
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
        for counters in self.counters.iter() {
            stats.pollers.push(counters.poller.snapshot());
            stats.closed.add(&counters.closed.snapshot());
        }
        stats
    }
}
