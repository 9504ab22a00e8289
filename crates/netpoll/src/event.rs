// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to an event loop that is worth a line in a log.
//!
//! Not what happens to each connection: that is counted ([`LoopStats`](crate::LoopStats)), and told
//! to `on_disconnect`. What is told here is what an operator should know and could do something
//! about, and what comes often is told a few times in a second at most, and then counted. It is told on
//! the thread where it happened, often a poller; who hears it must not block, and if he panics nothing
//! comes of it.

mod display;
mod sink;

use std::time::Duration;

use netpoll_sys::memory::MemorySource;

use crate::addr::Addr;
pub(crate) use sink::EventSink;

/// Something worth a line in a log. `Display` is that line. Told to
/// [`Builder::on_event`](crate::Builder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// No connection is accepted for now; the kernel queues those that come. At most once a
    /// second.
    #[non_exhaustive]
    AcceptingPaused {
        /// Why.
        reason: AcceptPauseReason,
    },
    /// Connections are accepted again, after a pause that was told.
    #[non_exhaustive]
    AcceptingResumed {
        /// Why it had paused.
        reason: AcceptPauseReason,
        /// For how long.
        after: Duration,
    },
    /// A loop was built that may have more connections than its process may have descriptors.
    #[non_exhaustive]
    LimitAboveDescriptors {
        /// [`max_connections`](crate::Builder::max_connections).
        connections: usize,
        /// The soft limit of the process.
        descriptors: u64,
    },
    /// A loop was built that was given no [`Budget`](crate::Budget), and took a smaller one than the
    /// machine's memory would give.
    #[non_exhaustive]
    BudgetLimited {
        /// The budget that it took, in bytes.
        budget: usize,
        /// How much memory the process may have, in bytes.
        memory: u64,
        /// What says so.
        source: MemoryLimit,
    },
    /// A loop was built with a [`Budget`](crate::Budget) that is more than its process may have. It is
    /// kept as it was given.
    #[non_exhaustive]
    BudgetAboveMemory {
        /// The budget, in bytes.
        budget: usize,
        /// How much memory the process may have, in bytes.
        memory: u64,
        /// What says so.
        source: MemoryLimit,
    },
    /// More events of one kind have come than are told: at most 10 of each kind in a second. Told with
    /// the next event after that second, or when the loop has ended.
    #[non_exhaustive]
    Suppressed {
        /// The name of the events.
        kind: String,
        /// How many were not told.
        count: u64,
    },
    /// User code held its poller, and every connection of it, for longer than
    /// [`slow_handler`](crate::Builder::slow_handler) allows. At most once a second and poller.
    #[non_exhaustive]
    SlowCall {
        /// Which kind of code.
        callback: Callback,
        /// The type of the loop's handler.
        handler: &'static str,
        /// The connection it worked on.
        peer: Addr,
        /// For how long.
        took: Duration,
    },
    /// Code that decides or observes panicked; what follows from it is said where it is given. (A
    /// handler's panic is its connection's [`CloseReason`](crate::CloseReason).)
    #[non_exhaustive]
    CallbackPanicked {
        /// Which kind of code.
        callback: Callback,
        /// The connection it was asked about.
        peer: Addr,
    },
    /// The executor of [`Runner::Spawn`](crate::Runner::Spawn) dropped a task that was not done,
    /// and so its connection is closed.
    #[non_exhaustive]
    TaskDropped {
        /// The connection's peer.
        peer: Addr,
    },
    /// A shutdown's time was up, and user code had not returned. The thread that it runs on is left
    /// behind: it ends, and closes its descriptors, when the code returns. Peers of its connections
    /// have been sent the end.
    #[non_exhaustive]
    CallbackAbandoned {
        /// Where the code runs.
        location: CallbackLocation,
        /// Which kind of code.
        callback: Callback,
        /// The type of the loop's handler.
        handler: &'static str,
        /// How many connections were cut there.
        connections: usize,
    },
    /// The kernel reported the same event of a descriptor again and again, and nothing could be done
    /// about it. The poller looks at it after pauses now, the longest of a second. Reported once, until
    /// an event of it is of use.
    #[non_exhaustive]
    SpuriousEvents {
        /// The number of the descriptor.
        descriptor: i32,
    },
    /// A poller failed: code of the framework panicked on its thread, or its wait for the kernel
    /// returned an error. Its connections are closed, with
    /// [`CloseReason::PollerFailed`](crate::CloseReason::PollerFailed). It begins anew, and its
    /// listeners and tasks go on; if it cannot, the loop ends, and
    /// [`EventLoop::run`](crate::EventLoop::run) returns the error.
    #[non_exhaustive]
    PollerFailed {
        /// The index of the poller.
        poller: usize,
        /// How it failed.
        failure: PollerFailure,
        /// How many connections it had.
        connections: u64,
        /// Whether it begins anew.
        restarted: bool,
    },
    /// A shutdown's time was up, and these connections had not been answered.
    #[non_exhaustive]
    ConnectionsAborted {
        /// How many.
        connections: usize,
    },
}

/// Where user code runs that a shutdown could not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackLocation {
    /// On the poller with this index.
    Poller(usize),
    /// On so many threads of [`Runner::Threads`](crate::Runner::Threads).
    Threads(usize),
    /// With the executor of [`Runner::Spawn`](crate::Runner::Spawn).
    Executor,
}

/// How a poller failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PollerFailure {
    /// Code of the framework panicked; the panic hook has said where.
    Panic,
    /// `epoll_wait(2)` failed: something in the process has closed a descriptor that is not its own.
    #[non_exhaustive]
    Wait {
        /// What it failed with.
        errno: i32,
    },
}

/// What bounds the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// What the machine has.
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

/// Why no connection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptPauseReason {
    /// There are [`max_connections`](crate::Builder::max_connections).
    Limit,
    /// They come faster than [`accept_rate`](crate::Builder::accept_rate).
    Rate,
    /// The [`Budget`](crate::Budget) of memory is nearly used up.
    Budget,
    /// The process has no descriptor left.
    Descriptors,
    /// The system has no open file left.
    Files,
    /// The kernel has no memory left.
    Memory,
}

/// Code of the user's that runs on a poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Callback {
    /// One poll of the loop's handler, or the drop of its future.
    Handler,
    /// [`on_accept`](crate::Builder::on_accept).
    OnAccept,
    /// [`on_disconnect`](crate::Builder::on_disconnect).
    OnDisconnect,
    /// The drop of what was [attached](crate::Connection::attach), when its connection is over.
    Attached,
    /// [`Connection::on_close`](crate::Connection::on_close), all of one connection.
    OnClose,
    /// [`Balance::Custom`](crate::Balance::Custom).
    Balance,
    /// A task of [`spawn`](crate::spawn).
    Task,
}

impl Callback {
    /// A number for each.
    pub(crate) fn code(self) -> u64 {
        self as u64
    }

    /// What the number is for; a handler if it is for none.
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
    /// Whether it says that all is well again.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_recovery(&self) -> bool {
        matches!(self, Self::AcceptingResumed { .. })
    }
}
