// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to an event loop that is worth a line in a log.
//!
//! Not what happens to each connection: that is counted ([`LoopStats`](crate::LoopStats)), and told
//! to `on_disconnect`. What is told here is what an operator should know and could do something
//! about, and what comes often is told a few times in a second at most, and then counted. It is told on
//! the thread where it happened, often a poller; who hears it must not block, and if he panics nothing
//! comes of it.

mod listening;

use std::fmt;
use std::time::Duration;

use netpoll_sys::memory::MemorySource;

use crate::addr::Addr;
pub(crate) use listening::Listening;

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
        why: Pause,
    },
    /// Connections are accepted again, after a pause that was told.
    #[non_exhaustive]
    AcceptingResumed {
        /// Why it had paused.
        why: Pause,
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
        by: MemoryLimit,
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
        by: MemoryLimit,
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
    Panicked {
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
    LeftRunning {
        /// Where the code runs.
        place: LeftAt,
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
    UselessEvents {
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
    Cut {
        /// How many.
        connections: usize,
    },
}

/// Where user code runs that a shutdown could not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftAt {
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

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine",
            Self::ControlGroup => "its control group",
            Self::AddressSpace => "RLIMIT_AS",
            Self::Data => "RLIMIT_DATA",
        })
    }
}

/// Why no connection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pause {
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
    pub(crate) fn of_code(code: u64) -> Self {
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
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::AcceptingResumed { .. })
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "there are as many connections as there may be",
            Self::Rate => "connections come faster than they may",
            Self::Budget => "the budget of memory is nearly used up",
            Self::Descriptors => "the process has no descriptor left",
            Self::Files => "the system has no open file left",
            Self::Memory => "the kernel has no memory left",
        })
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler => "handler",
            Self::OnAccept => "on_accept",
            Self::OnDisconnect => "on_disconnect",
            Self::Attached => "the drop of what was attached",
            Self::OnClose => "on_close",
            Self::Balance => "balance",
            Self::Task => "spawned task",
        })
    }
}

impl fmt::Display for LeftAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poller(index) => write!(f, "poller {index}"),
            Self::Threads(count) => write!(f, "handler threads ({count})"),
            Self::Executor => f.write_str("the executor"),
        }
    }
}

impl fmt::Display for PollerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic => f.write_str("it panicked"),
            Self::Wait { errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "its wait failed: {error}")
            }
        }
    }
}

impl Event {
    /// Of a bound that a loop was built with.
    fn fmt_bound(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitAboveDescriptors {
                connections,
                descriptors,
            } => write!(
                f,
                "max_connections {connections} is more than the {descriptors} descriptors there are"
            ),
            Self::BudgetLimited { budget, memory, by } => write!(
                f,
                "budget {budget} bytes: a part of the {memory} bytes of memory that {by} allows"
            ),
            Self::BudgetAboveMemory { budget, memory, by } => write!(
                f,
                "budget {budget} bytes is more than the {memory} bytes of memory that {by} allows"
            ),
            _ => Ok(()),
        }
    }

    fn fmt_slow(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowCall {
                callback: Callback::Handler,
                handler,
                peer,
                took,
            } => write!(
                f,
                "slow: handler {handler} held its poller for {took:.1?} ({peer})"
            ),
            Self::SlowCall {
                callback,
                peer,
                took,
                ..
            } => write!(
                f,
                "slow: {callback} held its poller for {took:.1?} ({peer})"
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptingPaused { why } => write!(f, "accepting paused: {why}"),
            Self::AcceptingResumed { why, after } => {
                write!(
                    f,
                    "accepting resumed after {after:.1?}; it had paused: {why}"
                )
            }
            Self::LimitAboveDescriptors { .. }
            | Self::BudgetLimited { .. }
            | Self::BudgetAboveMemory { .. } => self.fmt_bound(f),
            Self::Suppressed { kind, count } => {
                write!(f, "suppressed: {count} more events of the kind {kind}")
            }
            Self::SlowCall { .. } => self.fmt_slow(f),
            Self::Panicked { callback, peer } => write!(f, "{callback} panicked ({peer})"),
            Self::TaskDropped { peer } => {
                write!(f, "the executor dropped a task that was not done ({peer})")
            }
            Self::LeftRunning { .. }
            | Self::PollerFailed { .. }
            | Self::UselessEvents { .. }
            | Self::Cut { .. } => self.fmt_of_loop(f),
        }
    }
}

impl Event {
    /// The line of what happens to a loop as a whole.
    fn fmt_of_loop(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftRunning {
                place,
                callback: Callback::Handler,
                handler,
                connections,
            } => write!(
                f,
                "shutdown left a handler running on {place}: {handler}; connections cut: {connections}"
            ),
            Self::LeftRunning {
                place,
                callback,
                connections,
                ..
            } => write!(
                f,
                "shutdown left code running on {place}: {callback}; connections cut: {connections}"
            ),
            Self::PollerFailed {
                poller,
                failure,
                connections,
                restarted,
            } => {
                let then = match restarted {
                    true => "it was restarted",
                    false => "it cannot be restarted, and the loop ends",
                };
                write!(
                    f,
                    "poller {poller} failed: {failure}; connections closed: {connections}; {then}"
                )
            }
            Self::UselessEvents { descriptor } => write!(
                f,
                "descriptor {descriptor} reports the same event again and again: it is watched less often"
            ),
            Self::Cut { connections } => {
                write!(
                    f,
                    "connections cut at the end of a shutdown's time: {connections}"
                )
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_line_that_says_who_and_how_much() {
        let peer: Addr = "127.0.0.1:7".parse().unwrap();
        let why = Pause::Descriptors;
        let after = Duration::from_millis(1500);
        let slow = |callback| Event::SlowCall {
            callback,
            handler: "my::handler",
            peer,
            took: Duration::from_millis(30),
        };
        let events = [
            (Event::AcceptingPaused { why }, "no descriptor left"),
            (Event::AcceptingResumed { why, after }, "after 1.5s"),
            (
                Event::LimitAboveDescriptors {
                    connections: 9999,
                    descriptors: 64,
                },
                "9999 is more than the 64",
            ),
            (
                slow(Callback::Handler),
                "my::handler held its poller for 30.0ms (127.0.0.1:7)",
            ),
            (
                slow(Callback::OnAccept),
                "on_accept held its poller for 30.0ms (127.0.0.1:7)",
            ),
            (
                Event::Panicked {
                    callback: Callback::Balance,
                    peer,
                },
                "balance panicked (127.0.0.1:7)",
            ),
            (Event::TaskDropped { peer }, "(127.0.0.1:7)"),
            (Event::Cut { connections: 3 }, "shutdown's time: 3"),
        ];
        for (event, part) in events {
            let line = event.to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn events_of_bounds_and_of_pollers_say_how_much_it_is() {
        let events = [
            (
                Event::BudgetLimited {
                    budget: 25,
                    memory: 100,
                    by: MemoryLimit::AddressSpace,
                },
                "budget 25 bytes: a part of the 100 bytes of memory that RLIMIT_AS allows",
            ),
            (
                Event::BudgetAboveMemory {
                    budget: 101,
                    memory: 100,
                    by: MemoryLimit::ControlGroup,
                },
                "101 bytes is more than the 100 bytes of memory that its control group allows",
            ),
            (
                Event::Suppressed {
                    kind: String::from("TaskDropped"),
                    count: 7,
                },
                "7 more events of the kind TaskDropped",
            ),
            (Event::Cut { connections: 3 }, "shutdown's time: 3"),
            (
                Event::LeftRunning {
                    place: LeftAt::Poller(2),
                    callback: Callback::Handler,
                    handler: "my::handler",
                    connections: 5,
                },
                "left a handler running on poller 2: my::handler; connections cut: 5",
            ),
            (
                Event::PollerFailed {
                    poller: 1,
                    failure: PollerFailure::Wait { errno: 9 },
                    connections: 4,
                    restarted: true,
                },
                "poller 1 failed: its wait failed: Bad file descriptor (os error 9); connections \
                 closed: 4; it was restarted",
            ),
        ];
        for (event, part) in events {
            let line = event.to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }
}
