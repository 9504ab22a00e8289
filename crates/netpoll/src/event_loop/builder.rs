// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Builder`]: what a loop serves, where, and within which bounds.

mod validation;

use std::fmt;
use std::io;
use std::thread::available_parallelism;
use std::time::Duration;

use super::EventLoop;
use super::control::LoopControl;
use super::handlers::{ConnectHandler, HandlerSetup, ServiceFactory};
use crate::addr::ToAddrs;
use crate::admission::AdmissionControl;
use crate::budget::Budget;
use crate::connection::dispatcher::Observer;
use crate::connection::service::ServiceConfig;
use crate::error::InvalidConfig;
use crate::event::{Event, EventSink};
use crate::listener::Listener;
use crate::listener::acceptor::{default_max_connections, descriptor_limit_below};
use crate::listener::filter::{Accept, ConnInfo, Filter};
use crate::options::ConnOptions;
use crate::poll::balance::Balance;
use crate::runner::{PreparedRunner, Runner};
use crate::sync::Arc;
use crate::thread_hook::ThreadHook;
use crate::timeouts::{MinRate, Timeouts};

/// Describes an [`EventLoop`]. Made by [`EventLoop::builder`].
#[derive(Default)]
#[must_use]
pub struct Builder {
    pub(super) handler: Option<ServiceFactory>,
    pub(super) connect_handler: Option<ConnectHandler>,
    pub(super) observer: Option<Observer>,
    filter: Option<Filter>,
    balance: Balance,
    max_connections: Option<usize>,
    accept_rate: Option<u32>,
    listeners: Vec<Listener>,
    options: ConnOptions,
    pollers: Option<usize>,
    runner: Runner,
    thread_hook: Option<ThreadHook>,
    budget: Option<Budget>,
    busy_poll: Duration,
    slow_threshold: SlowThreshold,
    event_sink: EventSink,
    /// What was given and cannot work, found before [`build`](Self::build).
    invalid_config: Option<InvalidConfig>,
}

/// From when on a call is slow.
struct SlowThreshold(Option<Duration>);

impl Default for SlowThreshold {
    fn default() -> Self {
        Self(Some(Duration::from_millis(10)))
    }
}

impl Builder {
    /// Asks `filter` of each connection that comes, before anything is made of it: whether it is
    /// served, and within which bounds. On a poller, and all listeners' connections wait for it:
    /// it must not block. One that panics has refused.
    ///
    /// ```no_run
    /// use netpoll::{Accept, Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // An abstract name has no permissions of its own: one user and root are let in.
    /// let owner = 1000;
    /// EventLoop::builder()
    ///     .on_request(async |conn: &mut Connection| Ok(conn.reader().skip(1).await?))
    ///     .on_accept(move |info| match info.peer_credentials() {
    ///         Ok(peer) if peer.uid == owner || peer.uid == 0 => Accept::Take(info.options().clone()),
    ///         _ => Accept::Refuse,
    ///     })
    ///     .serve("unix:@service")
    /// # }
    /// ```
    pub fn on_accept<A>(mut self, filter: A) -> Self
    where
        A: Fn(&ConnInfo<'_>) -> Accept + Send + Sync + 'static,
    {
        self.filter = Some(Arc::new(filter));
        self
    }

    /// The most connections at once. With so many, accepting pauses, the kernel queues as many as
    /// the listener's backlog allows, and it goes on when one has ended. Seven eighths of the
    /// descriptors that the process may have (the soft limit, when the loop is built), and at most
    /// 65,536, unless this says otherwise. It may say more than the process can have: then accepting
    /// pauses when it meets that.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = Some(count);
        self
    }

    /// The most new connections a second, over all listeners, and a tenth of a second's at once;
    /// `None` is as many as come, and so it is unless this says otherwise. Those above wait in the
    /// kernel's queue.
    pub fn accept_rate(mut self, per_second: Option<u32>) -> Self {
        self.accept_rate = per_second;
        self
    }

    /// How much memory the connections may hold together. Unless this says otherwise, a quarter of what
    /// the process may have; more than that is kept and [told](Event::BudgetAboveMemory). Loops that are
    /// given clones of one budget share it. At 95 % of it nothing is read for connections that hold more
    /// than 4 KiB of input, at 98 % nobody is let in. So [`build`](Self::build) refuses one that does not hold the largest frame that a
    /// connection may have come in; [`Budget::least`] is what it takes.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Serves `listener` too. Any number of times, also of different kinds.
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// How many pollers there are, at most 1024. One for each available core, unless this says
    /// otherwise.
    pub fn pollers(mut self, count: usize) -> Self {
        self.pollers = Some(count);
        self
    }

    /// For how long a poller stays awake, once it has nothing to do, before it sleeps; zero, which
    /// is not at all, unless this says otherwise, and at most a second. Meanwhile it asks the kernel
    /// again and again. Who asks next is spared the time that a processor needs to wake up, tens of
    /// microseconds on most; the price is as much processor time of each poller after its last
    /// event. It is for pollers that have processors of their own, with a time a little longer than
    /// from an answer to the next request.
    ///
    /// A poller that stayed awake in vain does so more and more seldom, in the end in one wait of 64,
    /// and in every wait again once that finds something. One that nothing happens to sleeps.
    /// [`PollerStats::spins`](crate::PollerStats::busy_polls) and
    /// [`busy_poll_hits`](crate::PollerStats::busy_poll_hits) count what came of it. Timers are served when they
    /// are due, and other threads heard as if it slept, for a system call of theirs.
    ///
    /// The same time, in whole microseconds, is set on the loop's TCP listeners, whose connections
    /// inherit it, and, with a system call for each, on TCP connections that are dialed onto its
    /// pollers (`SO_BUSY_POLL`, see `socket(7)`). So the kernel asks a network card that can be asked
    /// when a read finds nothing; whether a wait does so too is `net.core.busy_poll`'s to say. It
    /// refuses more than `net.core.busy_read` to who has no `CAP_NET_ADMIN`; that is ignored, and
    /// the poller stays awake all the same. On the loopback it does nothing.
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
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.busy_poll = time;
        self
    }

    /// Which poller gets the next connection. The one that has the fewest, unless this says
    /// otherwise. Not asked for those of [`Listener::bind_per_poller`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
        self
    }

    /// Where handlers run. [`Runner::Inline`], unless this says otherwise.
    pub fn runner(mut self, runner: Runner) -> Self {
        self.runner = runner;
        self
    }

    /// How long user code may hold a poller; 10 ms, unless this says otherwise, and `None` is for
    /// as long as it likes. One poll of a handler that takes longer is counted
    /// ([`PollerStats::slow_calls`](crate::PollerStats::slow_calls)) and told as an
    /// [`Event::SlowCall`]; so are the drop of its future, `on_accept`,
    /// `on_disconnect` and a custom balance. A handler that waits holds nobody, and one that runs
    /// elsewhere than on its poller is not watched. One reading of the clock for each poll of a
    /// handler, not for each request of a burst.
    pub fn slow_handler(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.slow_threshold = SlowThreshold(time.into());
        self
    }

    /// Calls `hear` with what is worth a line in a log, on the thread where it happened, often a
    /// poller: it must not block, as a pipe does that is not read. If it panics nothing comes of it. At
    /// most 10 events of a kind are told in a second, and the others counted ([`Event::Suppressed`]).
    /// Without it, events go to `tracing` (whose subscriber must not block) with that feature.
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

    /// Has [`build`](Self::build) fail with this.
    #[cfg(feature = "tokio")]
    pub(crate) fn reject(mut self, config: InvalidConfig) -> Self {
        self.invalid_config.get_or_insert(config);
        self
    }

    /// Has the loop's threads live inside of `around`.
    #[cfg(feature = "tokio")]
    pub(crate) fn with_thread_hook(mut self, hook: ThreadHook) -> Self {
        self.thread_hook = Some(hook);
        self
    }

    /// The bounds of each connection.
    pub fn options(mut self, options: ConnOptions) -> Self {
        self.options = options;
        self
    }

    /// The most bytes one read may ask for. 4 MiB, unless this says otherwise.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.options.max_frame = bytes;
        self
    }

    /// How long what may take on each connection. See [`Timeouts`] for what each of them is and
    /// what it is by default; the methods below set one each.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.options.timeouts = timeouts;
        self
    }

    /// Sets [`Timeouts::first_byte`].
    pub fn first_byte_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.timeouts.first_byte = time.into();
        self
    }

    /// Sets [`Timeouts::read`].
    pub fn read_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.timeouts.read = time.into();
        self
    }

    /// Sets [`Timeouts::min_rate`].
    pub fn min_rate(mut self, rate: impl Into<Option<MinRate>>) -> Self {
        self.options.timeouts.min_rate = rate.into();
        self
    }

    /// Sets [`Timeouts::write`].
    pub fn write_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.timeouts.write = time.into();
        self
    }

    /// Sets [`Timeouts::idle`].
    pub fn idle_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.timeouts.idle = time.into();
        self
    }

    /// Sets [`Timeouts::max_age`].
    pub fn max_age(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.timeouts.max_age = time.into();
        self
    }

    /// Sets [`Timeouts::linger`].
    pub fn linger(mut self, time: Duration) -> Self {
        self.options.timeouts.linger = time;
        self
    }

    /// The loop as described, not yet running.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming the field: no handler, no listener, no poller, bounds that cannot
    /// work. What keeps a port from being listened on once more for a poller. `Unsupported` if the
    /// program is built with `panic = "abort"`, with which no panic of a handler could be kept to
    /// its connection.
    pub fn build(self) -> io::Result<EventLoop> {
        if cfg!(panic = "abort") {
            let why = "netpoll needs panic = \"unwind\"";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        self.check()?;
        let Some(handler) = self.handler else {
            let expected = "one of on_request and on_connection must be given";
            return Err(InvalidConfig::new("handler", expected).into());
        };
        let pollers = self.pollers.unwrap_or_else(default_pollers);
        let least = Budget::least(self.options.max_frame, pollers);
        let (budget, budget_event) = Budget::for_loop(self.budget, least);
        budget.check(self.options.max_frame, pollers)?;
        let limit = self.max_connections.unwrap_or_else(default_max_connections);
        let mut listeners = Vec::new();
        for listener in self.listeners {
            listeners.extend(listener.split_per_poller(pollers)?);
        }
        let control = Arc::new(LoopControl::new(budget.of_pollers(pollers)));
        let mut config = ServiceConfig::new(self.options, control.tracker(), self.observer);
        config.slow_call_after = self.slow_threshold.0;
        config.event_sink = self.event_sink.clone();
        let event_sink = self.event_sink.clone();
        let admission = AdmissionControl::new(limit, self.accept_rate, budget.clone(), event_sink);
        let runner = self.runner.prepare()?;
        let thread_pool = match &runner {
            PreparedRunner::Threads(threads) => Some(Arc::clone(threads)),
            _ => None,
        };
        let service = handler(HandlerSetup {
            config,
            connect_handler: self.connect_handler,
            runner,
        })?;
        budget_event
            .iter()
            .for_each(|event| self.event_sink.report(event));
        if let Some(descriptors) = descriptor_limit_below(limit) {
            self.event_sink.report(&Event::LimitAboveDescriptors {
                connections: limit,
                descriptors,
            });
        }
        Ok(EventLoop {
            listeners,
            balance: self.balance,
            service,
            thread_pool,
            thread_hook: self.thread_hook,
            admission: Arc::new(admission),
            budget,
            busy_poll: self.busy_poll,
            filter: self.filter,
            event_sink: self.event_sink,
            counters: (0..pollers).map(|_| Arc::default()).collect(),
            control,
        })
    }

    /// Listens on `addr` (`host:port`, `unix:/path`, `unix:@name`) and serves until the loop is shut down. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// Those of [`Listener::bind`], [`build`](Self::build) and [`EventLoop::run`].
    pub fn serve(self, addr: impl ToAddrs) -> io::Result<()> {
        self.listen(Listener::bind(addr)?).build()?.run()
    }
}

fn default_pollers() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("listeners", &self.listeners)
            .field("pollers", &self.pollers)
            .field("runner", &self.runner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
