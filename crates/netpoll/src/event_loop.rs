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
// The thread that calls `EventLoop::run`, or that `EventLoop::spawn` starts, serves no connection. It
// waits for a shutdown request and then runs the shutdown in two steps. *Graceful*: the pollers accept the connections that the
// kernel has queued, serve the bytes it holds for each connection, and close idle connections.
// *Force*, at the deadline: the pollers abort the connections that remain. Then the poller threads
// end.

pub(crate) mod builder;
mod built_loop;
pub(crate) mod control;
mod dialer;
pub(crate) mod handle;
pub(crate) mod handler_kind;
mod handlers;
mod listener;
mod local_handlers;
#[cfg(test)]
#[cfg(not(any(netpoll_loom, netpoll_shuttle)))]
mod poller_failure_tests;
mod send_handlers;
#[cfg(feature = "signals")]
mod signals;
mod termination;

use std::fmt;
use std::io;
use std::sync::{Weak, mpsc};
use std::time::Duration;

use crate::addr::Addr;
use crate::admission::AdmissionControl;
use crate::budget::Budget;
pub use crate::connection::handler::{ConnectionHandler, Handler, HandlerFn};
use crate::connection::service::Service;
use crate::error::ErrorKind;
use crate::event::EventSink;
use crate::listener::Listener;
use crate::listener::acceptor::Acceptor;
use crate::listener::destination::{AcceptContext, Destination};
use crate::listener::filter::Filter;
pub use crate::poll::balance::{Balance, PollerLoad};
use crate::poll::recovery::Supervisor;
use crate::poll::set::{PollerConfig, PollerSet};
use crate::poll::source::ShutdownRequest;
use crate::runner::Runner;
use crate::runner::thread_pool::ThreadPool;
use crate::stats::counters::Counters;
use crate::sync::Arc;
use crate::thread_hook::ThreadHook;
pub use builder::Builder;
use control::ControlOwner;
pub use control::Shutdown;
pub use handle::LoopHandle;
pub use handler_kind::{HandlerKind, LocalHandlers, SendHandlers};

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
    /// Dropped first: a loop that never ran completes its shutdowns, too.
    control: ControlOwner,
    listeners: Vec<ServedListener>,
    balance: Balance,
    /// The services of the listeners. The handlers live as long as the loop.
    services: Vec<Arc<dyn Service>>,
    /// The threads of the loop's own that handlers run on, if they do not run on pollers.
    thread_pool: Option<Arc<ThreadPool>>,
    thread_hook: Option<ThreadHook>,
    budget: Budget,
    /// The drain time of a shutdown that a signal begins.
    #[cfg(feature = "signals")]
    shutdown_on_signals: Option<Duration>,
    /// How long an idle poller stays awake before it sleeps.
    busy_poll: Duration,
    admission: Arc<AdmissionControl>,
    filter: Option<Filter>,
    event_sink: EventSink,
    /// The counters of each poller. Their number is the number of pollers.
    counters: Arc<[Arc<Counters>]>,
}

/// A listener, and the service of its connections.
struct ServedListener {
    /// The index of its poller, if that poller alone accepts from it.
    pinned_poller: Option<usize>,
    listener: Listener,
    service: Arc<dyn Service>,
}

/// A loop whose pollers run.
struct RunningLoop {
    event_loop: EventLoop,
    pollers: Arc<PollerSet>,
    listeners: Vec<Weak<Listener>>,
    thread_pool: Option<Arc<ThreadPool>>,
    #[cfg(feature = "signals")]
    signals: Option<signals::SignalWatcher>,
}

impl EventLoop {
    /// Returns a builder with default options, for handlers whose futures stay on one thread.
    ///
    /// They run on the connection's poller, or on
    /// [`handler_threads`](Builder::<LocalHandlers>::handler_threads). Their futures need not be
    /// `Send`.
    pub fn builder() -> Builder {
        Builder::new(None)
    }

    /// Returns a builder with default options, for handlers that run on `runner`: as tasks of an
    /// executor, or on threads that share all calls.
    ///
    /// Their futures may move between threads, so they must be `Send`.
    ///
    /// ```no_run
    /// use netpoll::{Connection, EventLoop, Runner};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// EventLoop::builder_on(Runner::Threads(8))
    ///     .on_request(async |conn: &mut Connection| {
    ///         let (mut reader, mut writer) = conn.split();
    ///         writer.put_slice(reader.until(b'\n', 1024).await?);
    ///         Ok(())
    ///     })
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn builder_on(runner: Runner) -> Builder<SendHandlers> {
        Builder::new(runner)
    }

    /// Returns a handle that shuts the loop down, from any thread.
    #[must_use]
    pub fn handle(&self) -> LoopHandle {
        LoopHandle {
            control: Arc::clone(&self.control.0),
        }
    }

    /// Returns the addresses that the loop listens on, with the actual ports, in the order in which
    /// the listeners were added. [`LoopHandle::local_addrs`] returns the same while the loop runs.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<Addr> {
        self.handle().local_addrs()
    }

    /// Serves until the loop is shut down.
    ///
    /// Blocks the calling thread; [`spawn`](Self::spawn) does not. The pollers run on threads of
    /// their own, which start here and end before this returns. A thread that is blocked by user
    /// code at the deadline of the shutdown is abandoned: the loop reports
    /// [`CallbackAbandoned`](crate::event::Event::CallbackAbandoned), and the thread ends when that
    /// code returns.
    ///
    /// # Errors
    ///
    /// Fails if the pollers cannot start for lack of descriptors, memory or threads. Fails too if a
    /// poller failed later and could not restart
    /// ([`PollerFailed`](crate::event::Event::PollerFailed)): the remaining connections are aborted
    /// then.
    pub fn run(self) -> io::Result<()> {
        self.start()?.serve()
    }

    /// Serves on threads of the loop's own, until the loop is shut down.
    ///
    /// Returns when all poller threads run. The loop is shut down through the handle. Dropping the
    /// handle leaves the loop running; the end of the process aborts it, so `main` usually ends
    /// with [`LoopHandle::wait`]. Costs one thread more than [`run`](Self::run), which sleeps until
    /// the shutdown.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let handle = netpoll::EventLoop::builder()
    ///     .on_request(async |conn: &mut netpoll::Connection| {
    ///         let (mut reader, mut writer) = conn.split();
    ///         writer.put_slice(reader.until(b'\n', 1024).await?);
    ///         Ok(())
    ///     })
    ///     .listen(netpoll::Listener::bind("127.0.0.1:0")?)
    ///     .build()?
    ///     .spawn()?;
    ///
    /// let mut client = TcpStream::connect(handle.local_addrs()[0].to_string())?;
    /// client.write_all(b"hello\n")?;
    /// let mut answer = [0; 6];
    /// client.read_exact(&mut answer)?;
    /// assert_eq!(&answer, b"hello\n");
    ///
    /// let aborted = handle.shutdown(Duration::from_secs(10)).wait();
    /// assert_eq!(aborted, 0);
    /// handle.wait()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the pollers cannot start for lack of descriptors, memory or threads. A later
    /// failure is returned by [`LoopHandle::wait`].
    pub fn spawn(self) -> io::Result<LoopHandle> {
        let handle = self.handle();
        let (sender, started) = mpsc::sync_channel(1);
        let serve = move || {
            let (running, result) = match self.start() {
                Ok(running) => (Some(running), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // The receiver waits for it.
            let _received = sender.send(result).is_ok();
            // The handles keep a copy of the result.
            drop(running.map(RunningLoop::serve));
        };
        let thread = std::thread::Builder::new().name("netpoll-loop".into());
        drop(thread.spawn(serve)?);
        let result = started.recv();
        result.unwrap_or_else(|_| Err(ErrorKind::NotRunning.into()))?;
        Ok(handle)
    }

    /// Starts the pollers and registers the listeners.
    fn start(mut self) -> io::Result<RunningLoop> {
        #[cfg(feature = "signals")]
        let signals = match self.shutdown_on_signals {
            Some(within) => Some(signals::SignalWatcher::start(self.handle(), within)?),
            None => None,
        };
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
        self.control.0.set_running(&pollers);
        let mut listeners = Vec::new();
        for (index, served) in std::mem::take(&mut self.listeners).into_iter().enumerate() {
            let accept_context = Arc::new(AcceptContext {
                pollers: pollers.to_group(),
                destination: Destination::Service(served.service),
                admission: Arc::clone(&self.admission),
                filter: self.filter.clone(),
                balance: self.balance.clone(),
            });
            let pinned_poller = served.pinned_poller;
            let poller = pollers.nth(pinned_poller.unwrap_or(index));
            let listener = Arc::new(served.listener);
            listeners.push(Arc::downgrade(&listener));
            poller.register(Acceptor::factory(listener, pinned_poller, &accept_context));
        }
        Ok(RunningLoop {
            event_loop: self,
            pollers,
            listeners,
            thread_pool: threads,
            #[cfg(feature = "signals")]
            signals,
        })
    }

    /// Returns the type name of the loop's handler, for events about code that may be any handler.
    fn handler_name(&self) -> &'static str {
        let mut names = self
            .services
            .iter()
            .map(|service| service.config().handler_name);
        let first = names.next().unwrap_or_default();
        match names.all(|name| name == first) {
            true => first,
            false => "one of several handlers",
        }
    }

    /// Returns the configuration that all pollers of the loop share.
    fn poller_config(&self) -> PollerConfig {
        let control = Arc::clone(&self.control.0);
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

impl RunningLoop {
    /// Waits for a shutdown request and runs the shutdown.
    fn serve(self) -> io::Result<()> {
        // In this order: the loop, whose drop completes the shutdown, is dropped last.
        let Self {
            event_loop,
            pollers,
            listeners,
            thread_pool,
            #[cfg(feature = "signals")]
                signals: _signals,
        } = self;
        let control = &event_loop.control.0;
        control.wait_for_shutdown(|| pollers.shutdown_all(ShutdownRequest::StopAccepting));
        event_loop.run_shutdown(&pollers, &listeners, thread_pool.as_deref());
        event_loop.event_sink.flush();
        control.take_failure().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for ServedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
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
