// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`EventLoop`]: serves listeners on a set of pollers, and ends in order.
//!
//! The thread that runs the loop does none of the work: it waits to be told to shut down, and then
//! sees it through. *Drain*: what the kernel has queued is accepted, what it holds for each
//! connection is served, idle connections are closed. *Force*, at the deadline: what is left is
//! cut. Then the pollers' threads end.

pub(crate) mod builder;
pub(crate) mod control;
mod dialer;
mod handlers;
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
use crate::connection::service::Service;
use crate::error::{BlockingOnPoller, NotRunning};
use crate::event::EventSink;
use crate::listener::Listener;
use crate::listener::acceptor::{AcceptContext, Acceptor};
use crate::listener::filter::Filter;
use crate::poll::balance::Balance;
use crate::poll::notifier::is_poller_thread;
use crate::poll::recovery::Supervisor;
use crate::poll::set::{PollerConfig, PollerSet};
use crate::poll::source::ShutdownRequest;
use crate::runner::thread_pool::ThreadPool;
use crate::stats::LoopStats;
use crate::stats::counters::Counters;
use crate::sync::Arc;
use crate::thread_hook::ThreadHook;
use builder::Builder;
use control::{LoopControl, Shutdown};

/// How long the end of a loop waits for connections that were cut to be gone.
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
    /// Each with the index of the poller that has it for itself.
    listeners: Vec<(Option<usize>, Listener)>,
    balance: Balance,
    service: Arc<dyn Service>,
    /// Where handlers run, if that is threads of the loop's own.
    thread_pool: Option<Arc<ThreadPool>>,
    thread_hook: Option<ThreadHook>,
    budget: Budget,
    /// For how long its pollers wait awake before they sleep.
    busy_poll: Duration,
    admission: Arc<AdmissionControl>,
    filter: Option<Filter>,
    event_sink: EventSink,
    /// What each of its pollers counts; there are as many.
    counters: Arc<[Arc<Counters>]>,
    control: Arc<LoopControl>,
}

impl EventLoop {
    /// A loop to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle to shut the loop down with, from any thread.
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        LoopHandle {
            control: Arc::clone(&self.control),
            admission: Arc::clone(&self.admission),
            counters: Arc::clone(&self.counters),
        }
    }

    /// The addresses it listens on, with the ports that were free.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` fails with.
    pub fn local_addrs(&self) -> io::Result<Vec<Addr>> {
        // One address that each poller listens on counts once.
        let first = self
            .listeners
            .iter()
            .filter(|(pinned_poller, _)| pinned_poller.unwrap_or(0) == 0);
        first.map(|(_, listener)| listener.local_addr()).collect()
    }

    /// Serves until it is shut down. Blocks the calling thread; the work is done on the pollers'
    /// threads, which start here and end before this returns. A thread that user code holds up at the
    /// deadline of the shutdown is not waited for: an event says so
    /// ([`CallbackAbandoned`](crate::Event::CallbackAbandoned)), and it ends when that code returns.
    ///
    /// # Errors
    ///
    /// If the pollers cannot be started for want of descriptors, memory or threads; and if one failed
    /// later and could not be started again ([`PollerFailed`](crate::Event::PollerFailed)): what is left is
    /// cut then.
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
            pollers: Arc::clone(&pollers),
            service: Arc::clone(&self.service),
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

    /// What its pollers have in common.
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
        // Also of a loop that never ran: whoever waits for its end has it.
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

/// A handle on a loop. `Clone` and `Send`; usable on its pollers too.
#[derive(Clone, Debug)]
pub struct LoopHandle {
    control: Arc<LoopControl>,
    admission: Arc<AdmissionControl>,
    counters: Arc<[Arc<Counters>]>,
}

impl LoopHandle {
    /// Shuts the loop down in order, and cuts what is left at `within` from now. Asks at once; the result
    /// can be awaited, waited for ([`Shutdown::wait`]), or dropped. The first call decides the deadline.
    ///
    /// * The listeners are closed, as by [`stop_accepting`](Self::stop_accepting).
    /// * What the kernel holds of each connection at that moment is read and served; a request that comes
    ///   later need not be. A connection that was accepted less than 5 s ago, and less than
    ///   [`first_byte`](crate::Timeouts::first_byte), and whose peer has not sent anything yet has the
    ///   rest of that time to send: its request may be on its way.
    /// * What was taken is answered: handlers run on, requests of [`mux::serve`](crate::mux::serve) are
    ///   awaited, and while a [`WriteQueue`](crate::WriteQueue) of a connection is held it stays open. A
    ///   handler that owns its connection finds the end of its input when it waits for some with nothing
    ///   at hand, or asks for [`draining`](crate::Connection::draining) and decides itself.
    /// * Then the connection is closed in order: its output is sent, then FIN.
    ///
    /// Every connection that has something left to do at the deadline is reset, and counts as cut.
    ///
    /// A poller whose thread is blocked by user code cannot do that. At the deadline its listeners are
    /// closed, both streams of its connections are shut down from outside, and
    /// [`CallbackAbandoned`](crate::Event::CallbackAbandoned) reports it. A handler on another thread that waits for one
    /// of these connections, or for a timer of [`time`](crate::time), is woken when the code that blocks
    /// the poller returns, and not before; one that stays on a thread of
    /// [`Runner::Threads`](crate::Runner::Threads) is dropped when that thread ends. A handler that has to
    /// end sooner needs a timer of its executor's.
    pub fn shutdown(&self, within: Duration) -> Shutdown {
        self.control.request_shutdown(within);
        Shutdown::new(Arc::clone(&self.control))
    }

    /// Has the loop let nobody in any more: its listeners are closed, and their ports and names are free,
    /// or go on where others [have them too](crate::Listener#handing-over). What the kernel has queued by
    /// then is still accepted, where nobody else would. The connections that are there are served as
    /// before, until they end or the loop is [shut down](Self::shutdown).
    ///
    /// Asks at once, and returns; the pollers close the listeners soon after, or, of a loop that is full,
    /// when there was room for what is queued. Asked before the loop runs, it is done when it does. Any
    /// thread; idempotent. It cannot be taken back.
    ///
    /// ```no_run
    /// # fn example(handle: &netpoll::LoopHandle) {
    /// // Take the server out of service, and end it once its clients have gone elsewhere.
    /// handle.stop_accepting();
    /// while handle.connections() > 0 {
    ///     std::thread::sleep(std::time::Duration::from_secs(1));
    /// }
    /// let cut = handle.shutdown(std::time::Duration::ZERO).wait();
    /// # let _ = cut;
    /// # }
    /// ```
    pub fn stop_accepting(&self) {
        self.control.stop_accepting();
    }

    /// Blocks until the loop serves: [`run`](EventLoop::run) was called, and all its threads are there.
    ///
    /// # Errors
    ///
    /// [`NotRunning`] (`ConnectionAborted`) if it could not start, or has ended.
    /// [`BlockingOnPoller`] (`WouldBlock`) on a poller's thread.
    pub fn wait_until_serving(&self) -> io::Result<()> {
        if is_poller_thread() {
            return Err(BlockingOnPoller::new().into());
        }
        let pollers = self.control.pollers();
        block_on(pollers.wait_for_start());
        match pollers.is_running() {
            true => Ok(()),
            false => Err(NotRunning::new().into()),
        }
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.tracker().open_connections()
    }

    /// The memory that the loop's connections share.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.admission.budget().clone()
    }

    /// What has become of the connections that came.
    #[must_use]
    pub fn accept_stats(&self) -> AcceptStats {
        self.admission.stats()
    }

    /// What the loop has done so far. Any thread, as often as one likes: it reads what the pollers
    /// count anyway, and disturbs none of them. One allocation, and two locks for a few
    /// instructions each.
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
