// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events of an event loop that are worth a line in a log.
//!
//! Events report conditions that an operator should know and can act on. The life of a single
//! connection is not an event: it is counted ([`LoopStats`](crate::stats::LoopStats)) and reported
//! to `on_disconnect`. (A loop without a sink logs connections that a failing handler or a limit has
//! ended; see [`Builder::on_event`](crate::Builder::on_event).) Frequent events are rate-limited: a few of each kind are reported a second,
//! and the rest are counted. The sink runs on the thread where the event happened, often a poller,
//! so it must not block. A panic of the sink is caught and ignored.
//!
//! ```no_run
//! use netpoll::event::Event;
//! use netpoll::{Connection, EventLoop};
//!
//! # fn main() -> std::io::Result<()> {
//! EventLoop::builder()
//!     .on_event(|event: &Event| eprintln!("{event}"))
//!     .on_request(async |_: &mut Connection| Ok(()))
//!     .serve("127.0.0.1:8080")
//! # }
//! ```

mod display;
mod failure;
mod failure_log;
mod sink;

use std::time::Duration;

use netpoll_sys::memory::MemorySource;

use crate::addr::Addr;
pub(crate) use failure::Failure;
pub(crate) use sink::EventSink;

/// Something that is worth a line in a log; `Display` is that line. Passed to
/// [`Builder::on_event`](crate::Builder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Accepting paused. The kernel queues new connections. At most once a second.
    #[non_exhaustive]
    AcceptingPaused {
        /// Why it paused.
        reason: AcceptPauseReason,
    },
    /// Accepting resumed, after a pause that was reported.
    #[non_exhaustive]
    AcceptingResumed {
        /// Why it had paused.
        reason: AcceptPauseReason,
        /// How long it had paused.
        after: Duration,
    },
    /// `max_connections` exceeds the descriptor limit of the process. Reported when the loop is
    /// built.
    #[non_exhaustive]
    LimitAboveDescriptors {
        /// The value of [`max_connections`](crate::Builder::max_connections).
        connections: usize,
        /// The soft descriptor limit of the process (`RLIMIT_NOFILE`).
        descriptors: u64,
    },
    /// The default [`Budget`](crate::options::Budget) is smaller than the machine's memory alone
    /// would give. Reported when the loop is built.
    #[non_exhaustive]
    BudgetLimited {
        /// The default budget, in bytes.
        budget: usize,
        /// The memory limit of the process, in bytes.
        memory: u64,
        /// Where the memory limit comes from.
        source: MemoryLimit,
    },
    /// The given [`Budget`](crate::options::Budget) exceeds the memory limit of the process. The
    /// loop uses it all the same. Reported when the loop is built.
    #[non_exhaustive]
    BudgetAboveMemory {
        /// The budget, in bytes.
        budget: usize,
        /// The memory limit of the process, in bytes.
        memory: u64,
        /// Where the memory limit comes from.
        source: MemoryLimit,
    },
    /// Events of one kind were not reported, because there were more than 10 of that kind in a
    /// second. Reported together with the first event after that second, or at the end of the loop.
    #[non_exhaustive]
    Suppressed {
        /// The name of the variant.
        kind: String,
        /// How many events were not reported.
        count: u64,
    },
    /// User code blocked its poller, and every connection of it, for longer than
    /// [`slow_handler`](crate::Builder::slow_handler) allows. At most once a second and poller.
    #[non_exhaustive]
    SlowCall {
        /// The kind of callback.
        callback: Callback,
        /// The type name of the handler that the connection's listener has.
        handler: &'static str,
        /// The peer of the connection that the callback worked on.
        peer: Addr,
        /// How long the callback ran.
        took: Duration,
    },
    /// A callback that decides or observes panicked; the method that sets the callback documents
    /// the consequence. (A panic of a handler is a [`CloseReason`](crate::CloseReason) instead.)
    #[non_exhaustive]
    CallbackPanicked {
        /// The kind of callback.
        callback: Callback,
        /// The peer of the connection that the callback was called for.
        peer: Addr,
    },
    /// The executor of [`Runner::Spawn`](crate::Runner::Spawn) dropped an unfinished task. The
    /// connection is closed.
    #[non_exhaustive]
    TaskDropped {
        /// The peer of the connection.
        peer: Addr,
    },
    /// User code was still running at the deadline of a shutdown. Its thread is abandoned: it ends,
    /// and closes its descriptors, when the code returns. The sockets of its connections have been
    /// shut down.
    #[non_exhaustive]
    CallbackAbandoned {
        /// Where the code runs.
        location: CallbackLocation,
        /// The kind of callback.
        callback: Callback,
        /// The type name of the loop's handler; `one of several handlers` if the listeners have
        /// [handlers of their own](crate::Builder::listen_with).
        handler: &'static str,
        /// How many connections were aborted there.
        connections: usize,
    },
    /// A descriptor reported the same event repeatedly, and handling it had no effect. The poller
    /// now polls the descriptor less often, with pauses of at most a second. Reported once, until
    /// one of its events has an effect.
    #[non_exhaustive]
    SpuriousEvents {
        /// The number of the descriptor.
        descriptor: i32,
    },
    /// A poller failed: framework code panicked on its thread, or `epoll_wait(2)` returned an
    /// error.
    ///
    /// Its connections are closed, with
    /// [`CloseReason::PollerFailed`](crate::CloseReason::PollerFailed). Then it restarts, and its
    /// listeners and tasks continue. If it cannot restart, the loop shuts down, and
    /// [`EventLoop::run`](crate::EventLoop::run) returns the error.
    #[non_exhaustive]
    PollerFailed {
        /// The index of the poller.
        poller: usize,
        /// How it failed.
        failure: PollerFailure,
        /// How many connections it had.
        connections: u64,
        /// Whether it restarted.
        restarted: bool,
    },
    /// The deadline of a shutdown passed, and connections with unfinished work were aborted.
    #[non_exhaustive]
    ConnectionsAborted {
        /// How many connections.
        connections: usize,
    },
}

/// Where abandoned user code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackLocation {
    /// The poller with this index.
    Poller(usize),
    /// This many of the [handler threads](crate::Builder::handler_threads) of the loop, or of the
    /// threads of [`Runner::Threads`](crate::Runner::Threads).
    Threads(usize),
    /// The executor of [`Runner::Spawn`](crate::Runner::Spawn).
    Executor,
}

/// How a poller failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PollerFailure {
    /// Framework code panicked; the panic hook has printed where.
    Panic,
    /// `epoll_wait(2)` failed, because some code in the process closed a descriptor that it does
    /// not own.
    #[non_exhaustive]
    Wait {
        /// The errno of the failure.
        errno: i32,
    },
}

/// The limit that bounds the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// The memory of the machine.
    Machine,
    /// A control group of the process (`memory.max`).
    ControlGroup,
    /// `RLIMIT_AS` (`ulimit -v`).
    AddressSpace,
    /// `RLIMIT_DATA` (`ulimit -d`).
    Data,
}

impl From<MemorySource> for MemoryLimit {
    fn from(source: MemorySource) -> Self {
        match source {
            MemorySource::ControlGroup => Self::ControlGroup,
            MemorySource::AddressSpace => Self::AddressSpace,
            MemorySource::Data => Self::Data,
            _ => Self::Machine,
        }
    }
}

/// Why accepting paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptPauseReason {
    /// [`max_connections`](crate::Builder::max_connections) connections are open.
    Limit,
    /// Connections arrive faster than [`accept_rate`](crate::Builder::accept_rate).
    Rate,
    /// Connections hold 98 % of the [`Budget`](crate::options::Budget).
    Budget,
    /// The process has no descriptor left (`EMFILE`).
    Descriptors,
    /// The system has no open file left (`ENFILE`).
    Files,
    /// The kernel has no memory left (`ENOBUFS`, `ENOMEM`).
    Memory,
}

/// User code that runs on a poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Callback {
    /// One poll of the loop's handler, or the drop of its future.
    Handler,
    /// [`on_accept`](crate::Builder::on_accept).
    OnAccept,
    /// [`on_disconnect`](crate::Builder::on_disconnect).
    OnDisconnect,
    /// The drop of a value that was [attached](crate::Connection::attach), after the connection
    /// closed.
    Attached,
    /// The callbacks of [`Connection::on_close`](crate::Connection::on_close), all of one
    /// connection.
    OnClose,
    /// [`Balance::Custom`](crate::event_loop::Balance::Custom).
    Balance,
    /// A task of [`spawn`](crate::spawn).
    Task,
}

impl Callback {
    /// Returns a distinct number for each callback.
    pub(crate) fn code(self) -> u64 {
        self as u64
    }

    /// Returns the callback with the number `code`, or `Handler` for an unknown number.
    pub(crate) fn from_code(code: u64) -> Self {
        let all = [
            Self::OnAccept,
            Self::OnDisconnect,
            Self::OnClose,
            Self::Balance,
            Self::Task,
        ];
        let found = all.into_iter().find(|callback| callback.code() == code);
        found.unwrap_or(Self::Handler)
    }
}

impl Event {
    /// Returns whether the event reports a recovery.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_recovery(&self) -> bool {
        matches!(self, Self::AcceptingResumed { .. })
    }
}
