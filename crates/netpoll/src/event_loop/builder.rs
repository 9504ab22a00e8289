// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Builder`]: the listeners, handlers and limits of an event loop.

mod defaults;
mod listeners;
mod validation;

use std::fmt;
use std::io;
use std::thread::available_parallelism;
use std::time::Duration;

use super::EventLoop;
use super::built_loop::BuiltLoop;
use super::control::ControlOwner;
use super::handler_kind::{HandlerKind, LocalHandlers};
use super::handlers::{HandlerSetup, ServiceFactory};
use crate::admission::AdmissionControl;
use crate::budget::Budget;
use crate::connection::dispatcher::Observer;
use crate::connection::service::ServiceConfig;
use crate::error::InvalidConfig;
use crate::event::{Event, EventSink};
use crate::listener::acceptor::{default_max_connections, descriptor_limit_below};
use crate::listener::filter::{Accept, Filter, IncomingConnection};
use crate::options::{ConnOptions, conn_option_setters};
use crate::poll::balance::Balance;
use crate::sync::Arc;
use crate::thread_hook::ThreadHook;
use listeners::ListenerSetup;

/// Configures and builds an [`EventLoop`]. Returned by [`EventLoop::builder`] and
/// [`EventLoop::builder_on`].
///
/// The parameter is the kind of its handlers: [`LocalHandlers`], whose futures stay on one thread,
/// or [`SendHandlers`](crate::event_loop::SendHandlers), whose futures may move. The methods
/// `on_request`, `on_connection`, `on_connect` and `listen_with` have the same names for both.
#[must_use]
pub struct Builder<K: HandlerKind = LocalHandlers> {
    control: ControlOwner,
    pub(super) handler: Option<ServiceFactory<K>>,
    pub(super) on_connect: Option<Arc<K::OnConnect>>,
    pub(super) observer: Option<Observer>,
    filter: Option<Filter>,
    balance: Balance,
    max_connections: Option<usize>,
    accept_rate: Option<u32>,
    listeners: Vec<ListenerSetup<K>>,
    options: ConnOptions,
    pollers: Option<usize>,
    /// Where handlers run.
    pub(super) runner: K::Runner,
    thread_hook: Option<ThreadHook>,
    budget: Option<Budget>,
    busy_poll: Duration,
    /// The drain time of a shutdown that a signal begins.
    #[cfg(feature = "signals")]
    pub(super) shutdown_on_signals: Option<Duration>,
    slow_threshold: SlowThreshold,
    event_sink: EventSink,
    /// The first invalid option, reported by [`build`](Self::build).
    invalid_config: Option<InvalidConfig>,
}

/// The duration from which on a call is slow; `None` is never.
struct SlowThreshold(Option<Duration>);

impl Default for SlowThreshold {
    fn default() -> Self {
        Self(Some(Duration::from_millis(10)))
    }
}

impl<K: HandlerKind> Builder<K> {
    /// Calls `filter` for each accepted connection, before it is registered. The result decides
    /// whether the connection is served, and with which options.
    ///
    /// Runs on a poller, and the connections of all listeners wait for it: it must not block. A
    /// panic rejects the connection.
    ///
    /// ```no_run
    /// use netpoll::listener::Accept;
    /// use netpoll::{Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // An abstract name has no permissions of its own: one user and root are accepted.
    /// let owner = 1000;
    /// EventLoop::builder()
    ///     .on_request(async |conn: &mut Connection| Ok(conn.reader().skip(1).await?))
    ///     .on_accept(move |info| match info.peer_credentials() {
    ///         Ok(peer) if peer.uid == owner || peer.uid == 0 => Accept::Accept(info.options().clone()),
    ///         _ => Accept::Reject,
    ///     })
    ///     .serve("unix:@service")
    /// # }
    /// ```
    pub fn on_accept<A>(mut self, filter: A) -> Self
    where
        A: Fn(&IncomingConnection<'_>) -> Accept + Send + Sync + 'static,
    {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// Sets the most connections that are open at once.
    ///
    /// At the limit, accepting pauses, and the kernel queues up to the backlog of each listener.
    /// Accepting resumes when a connection ends. The default is seven eighths of the descriptor
    /// limit of the process (the soft limit when the loop is built), at most 65,536. A value above
    /// the descriptor limit is allowed: accepting then pauses when the process runs out of
    /// descriptors.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = Some(count);
        self
    }

    /// Sets the most new connections a second, over all listeners, with bursts of a tenth of a
    /// second's worth. Connections above the rate wait in the kernel's queue. The default is
    /// `None`: no limit.
    pub fn accept_rate(mut self, per_second: impl Into<Option<u32>>) -> Self {
        self.accept_rate = per_second.into();
        self
    }

    /// Sets how much memory all connections of the loop may hold together.
    ///
    /// The default is a quarter of the memory limit of the process. A budget above the memory limit
    /// is used as given, and [reported](Event::BudgetAboveMemory). Loops that get clones of one
    /// budget share it. From 95 % on, connections that hold more than 4 KiB of input are not read.
    /// From 98 % on, no connection is accepted. [`build`](Self::build) rejects a budget that cannot
    /// hold the largest frame of a connection; [`Budget::least`] computes the minimum.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets the number of pollers, at most 1024. The default is one for each available core.
    pub fn pollers(mut self, count: usize) -> Self {
        self.pollers = Some(count);
        self
    }

    /// Sets how long a poller that has nothing to do stays awake before it sleeps. At most a
    /// second; the default is `None`, which is off, as is zero.
    ///
    /// While awake, the poller asks the kernel for events in a loop. A request that arrives
    /// meanwhile does not pay for the wakeup of a processor, which is tens of microseconds on most
    /// machines. The price is processor time: each poller burns up to this duration after its last
    /// event. Use it for pollers with processors of their own, with a duration slightly longer than
    /// the time from an answer to the next request.
    ///
    /// A poller whose busy polls find nothing does them less often, at the least in one of 64
    /// waits. It returns to one in every wait as soon as one finds an event. A poller without any
    /// events sleeps. [`PollerStats::busy_polls`](crate::stats::PollerStats::busy_polls) and
    /// [`busy_poll_hits`](crate::stats::PollerStats::busy_poll_hits) count the attempts and the
    /// successes. Timers fire on time. Other threads reach the poller as if it slept, with a system
    /// call of theirs.
    ///
    /// The same duration, in whole microseconds, is set as `SO_BUSY_POLL` (`socket(7)`) on the TCP
    /// listeners of the loop, whose connections inherit it. TCP connections that are dialed onto
    /// its pollers get it with a system call each. The kernel then polls a network card that
    /// supports it when a read finds no bytes; `net.core.busy_poll` controls whether a wait does so
    /// too. The kernel rejects values above `net.core.busy_read` for a process without
    /// `CAP_NET_ADMIN`. That error is ignored, and the poller stays awake all the same. On the
    /// loopback device the option has no effect.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop = netpoll::EventLoop::builder()
    ///     .on_request(async |conn: &mut netpoll::Connection| Ok(conn.reader().skip(1).await?))
    ///     .listen(netpoll::Listener::bind("127.0.0.1:0")?)
    ///     .pollers(1)
    ///     .busy_poll(Duration::from_micros(50))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn busy_poll(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.busy_poll = time.into().unwrap_or_default();
        self
    }

    /// Sets how a poller is selected for each new connection. The default is the poller with the
    /// fewest connections. Not used for connections of [`Listener::bind_per_poller`](crate::Listener::bind_per_poller).
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Sets how long user code may block a poller before it is reported; 10 ms by default, and
    /// `None` is never.
    ///
    /// A poll of a handler that takes longer is counted
    /// ([`PollerStats::slow_calls`](crate::stats::PollerStats::slow_calls)) and reported as
    /// [`Event::SlowCall`]. The same holds for the drop of its future, `on_accept`, `on_disconnect`
    /// and a custom balance. A handler that awaits blocks no poller. A handler that does not run on
    /// its poller is not measured. Costs one reading of the clock for each poll of a handler, not
    /// for each request of a batch.
    pub fn slow_handler(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.slow_threshold = SlowThreshold(time.into());
        self
    }

    /// Calls `sink` with each [`Event`] of the loop.
    ///
    /// It runs on the thread where the event happened, often a poller, so it must not block, for
    /// example on a full pipe. A panic is caught and ignored. At most 10 events of a kind are
    /// reported in a second, and the rest are counted ([`Event::Suppressed`]). Without a sink, and
    /// with the feature `tracing`, events go to its subscriber (which must not block either).
    ///
    /// # Without a sink
    ///
    /// Until a sink is set, a loop logs on standard error each accepted connection that ends because
    /// its handler fails or panics, or because it reaches a [`Limit`](crate::error::Limit): the
    /// peer, the error, and what to do. One line a second and kind, in the whole process; the count
    /// of the rest follows (`and 37 more`). A FIN, a reset by the peer, a timeout and a shutdown
    /// are not logged. Neither are dialed connections, whose owners get the error. A thread,
    /// started for the first line, writes, so that a blocked standard error blocks no poller; the
    /// end of the loop waits for it for at most a second. With the feature `tracing` and a
    /// subscriber, the lines go there instead, at the level WARN. A sink does not get these lines:
    /// with one, use [`on_disconnect`](Self::on_disconnect).
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let (lines, written) = std::sync::mpsc::sync_channel(1024);
    /// std::thread::spawn(move || written.iter().for_each(|line: String| eprintln!("{line}")));
    /// netpoll::EventLoop::builder()
    ///     .on_request(async |conn: &mut netpoll::Connection| Ok(conn.reader().skip(1).await?))
    ///     .on_event(move |event| drop(lines.try_send(event.to_string())))
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn on_event<E>(mut self, sink: E) -> Self
    where
        E: Fn(&Event) + Send + Sync + 'static,
    {
        self.event_sink = EventSink::new(sink);
        self
    }

    /// Makes [`build`](Self::build) fail with this error.
    #[cfg(feature = "tokio")]
    pub(crate) fn reject(mut self, config: InvalidConfig) -> Self {
        self.invalid_config.get_or_insert(config);
        self
    }

    /// Runs the loop's threads inside `hook`.
    #[cfg(feature = "tokio")]
    pub(crate) fn with_thread_hook(mut self, hook: ThreadHook) -> Self {
        self.thread_hook = Some(hook);
        self
    }

    /// Sets the limits and socket options of each connection. The methods below set one each.
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = options;
        self
    }

    conn_option_setters!();

    /// Returns the options that the setters of a connection change.
    fn conn_options(&mut self) -> &mut ConnOptions {
        &mut self.options
    }

    /// Checks the options and builds the loop, which does not run yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig), with the name of the
    /// field: no handler, no listener, no poller, invalid limits. The errors of binding a listener
    /// again for each poller. `Unsupported` if the program is built with `panic = "abort"`, with
    /// which a panic of a handler would end the process and not only its connection.
    pub fn build(self) -> io::Result<EventLoop> {
        if cfg!(panic = "abort") {
            let message = "netpoll needs panic = \"unwind\"";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        self.check()?;
        let pollers = self.pollers.unwrap_or_else(default_pollers);
        let least = Budget::least(self.options.max_frame, pollers);
        let (budget, budget_event) = Budget::for_loop(self.budget, least);
        budget.check(self.options.max_frame, pollers)?;
        let limit = self.max_connections.unwrap_or_else(default_max_connections);
        let control = Arc::clone(&self.control.0);
        let event_sink = self.event_sink.clone();
        let admission = AdmissionControl::new(limit, self.accept_rate, budget.clone(), event_sink);
        let runner = K::prepare(&self.runner)?;
        let thread_pool = K::thread_pool(&runner).cloned();
        let setup = || {
            let (options, observer) = (self.options.clone(), self.observer.clone());
            let mut config = ServiceConfig::new(options, control.tracker(), observer);
            config.slow_call_after = self.slow_threshold.0;
            config.event_sink = self.event_sink.clone();
            HandlerSetup {
                config,
                on_connect: self.on_connect.clone(),
                runner: runner.clone(),
            }
        };
        let listeners = listeners::build(self.listeners, self.handler, pollers, setup)?;
        let descriptor_event = descriptor_event(limit);
        let events = budget_event.iter().chain(&descriptor_event);
        events.for_each(|event| self.event_sink.report(event));
        let local_addrs = listeners::local_addrs(&listeners)?;
        let counters: Arc<[_]> = (0..pollers).map(|_| Arc::default()).collect();
        let admission = Arc::new(admission);
        control.set_built(BuiltLoop::new(
            local_addrs,
            Arc::clone(&counters),
            Arc::clone(&admission),
        ));
        Ok(EventLoop {
            control: self.control,
            services: listeners
                .iter()
                .map(|served| Arc::clone(&served.service))
                .collect(),
            listeners,
            balance: self.balance,
            thread_pool,
            thread_hook: self.thread_hook,
            admission,
            budget,
            busy_poll: self.busy_poll,
            #[cfg(feature = "signals")]
            shutdown_on_signals: self.shutdown_on_signals,
            filter: self.filter,
            event_sink: self.event_sink,
            counters,
        })
    }
}

/// Returns the event to report if the process has fewer descriptors than `connections`.
fn descriptor_event(connections: usize) -> Option<Event> {
    let descriptors = descriptor_limit_below(connections)?;
    Some(Event::LimitAboveDescriptors {
        connections,
        descriptors,
    })
}

fn default_pollers() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}

impl<K: HandlerKind> fmt::Debug for Builder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("listeners", &self.listeners)
            .field("pollers", &self.pollers)
            .field("runner", &self.runner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
