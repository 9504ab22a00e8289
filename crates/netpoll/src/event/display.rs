// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log line of each event.
//!
//! Operators read these lines, and programs search them. Each names what happened, the values, and
//! the peer or the poller. A line contains no line break. This module owns the texts alone: it
//! counts nothing and decides nothing.

use std::fmt;

use super::{AcceptPauseReason, Callback, CallbackLocation, Event, MemoryLimit, PollerFailure};

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine",
            Self::ControlGroup => "the control group",
            Self::AddressSpace => "RLIMIT_AS",
            Self::Data => "RLIMIT_DATA",
        })
    }
}

impl fmt::Display for AcceptPauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit => "max_connections reached",
            Self::Rate => "accept_rate reached",
            Self::Budget => "memory budget nearly exhausted",
            Self::Descriptors => "process out of file descriptors (EMFILE)",
            Self::Files => "system out of open files (ENFILE)",
            Self::Memory => "kernel out of memory (ENOBUFS, ENOMEM)",
        })
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler => "handler",
            Self::OnAccept => "on_accept",
            Self::OnDisconnect => "on_disconnect",
            Self::Attached => "drop of an attached value",
            Self::OnClose => "on_close",
            Self::Balance => "balance",
            Self::Task => "spawned task",
        })
    }
}

impl fmt::Display for CallbackLocation {
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
            Self::Panic => f.write_str("panic"),
            Self::Wait { errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "epoll_wait failed: {error}")
            }
        }
    }
}

impl Event {
    /// Formats a limit that a loop was built with.
    fn fmt_bound(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LimitAboveDescriptors {
                connections,
                descriptors,
            } => write!(
                f,
                "max_connections {connections} exceeds the file descriptor limit {descriptors}; raise \
                 ulimit -n"
            ),
            Self::BudgetLimited {
                budget,
                memory,
                source,
            } => write!(
                f,
                "budget limited to {budget} bytes: {source} allows {memory} bytes of memory"
            ),
            Self::BudgetAboveMemory {
                budget,
                memory,
                source,
            } => write!(
                f,
                "budget {budget} bytes exceeds the {memory} bytes of memory that {source} allows"
            ),
            _ => Ok(()),
        }
    }

    fn fmt_slow_call(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowCall {
                callback: Callback::Handler,
                handler,
                peer,
                took,
            } => write!(
                f,
                "slow callback: handler {handler} blocked its poller for {took:.1?} ({peer})"
            ),
            Self::SlowCall {
                callback,
                peer,
                took,
                ..
            } => write!(
                f,
                "slow callback: {callback} blocked its poller for {took:.1?} ({peer})"
            ),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptingPaused { reason } => write!(f, "accepting paused: {reason}"),
            Self::AcceptingResumed { reason, after } => {
                write!(f, "accepting resumed after {after:.1?} (paused: {reason})")
            }
            Self::LimitAboveDescriptors { .. }
            | Self::BudgetLimited { .. }
            | Self::BudgetAboveMemory { .. } => self.fmt_bound(f),
            Self::Suppressed { kind, count } => {
                write!(f, "suppressed: {count} more events of kind {kind}")
            }
            Self::SlowCall { .. } => self.fmt_slow_call(f),
            Self::CallbackPanicked { callback, peer } => write!(f, "{callback} panicked ({peer})"),
            Self::TaskDropped { peer } => {
                write!(
                    f,
                    "executor dropped an unfinished task; connection closed ({peer})"
                )
            }
            Self::CallbackAbandoned { .. }
            | Self::PollerFailed { .. }
            | Self::SpuriousEvents { .. }
            | Self::ConnectionsAborted { .. } => self.fmt_loop_event(f),
        }
    }
}

impl Event {
    /// Formats an event of a loop as a whole.
    fn fmt_loop_event(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallbackAbandoned {
                location,
                callback: Callback::Handler,
                handler,
                connections,
            } => write!(
                f,
                "shutdown deadline passed: handler still running on {location} ({handler}); \
                 {connections} connections aborted"
            ),
            Self::CallbackAbandoned {
                location,
                callback,
                connections,
                ..
            } => write!(
                f,
                "shutdown deadline passed: {callback} still running on {location}; {connections} \
                 connections aborted"
            ),
            Self::PollerFailed {
                poller,
                failure,
                connections,
                restarted,
            } => {
                let then = match restarted {
                    true => "restarted",
                    false => "cannot restart, shutting down",
                };
                write!(
                    f,
                    "poller {poller} failed: {failure}; {connections} connections closed; {then}"
                )
            }
            Self::SpuriousEvents { descriptor } => write!(
                f,
                "fd {descriptor} reports the same event repeatedly; polling it less often"
            ),
            Self::ConnectionsAborted { connections } => {
                write!(
                    f,
                    "shutdown deadline passed: {connections} connections aborted"
                )
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::addr::Addr;

    #[test]
    fn every_event_is_one_line_with_subject_and_values() {
        let peer: Addr = "127.0.0.1:7".parse().unwrap();
        let reason = AcceptPauseReason::Descriptors;
        let after = Duration::from_millis(1500);
        let slow = |callback| Event::SlowCall {
            callback,
            handler: "my::handler",
            peer,
            took: Duration::from_millis(30),
        };
        let events = [
            (
                Event::AcceptingPaused { reason },
                "accepting paused: process out of file descriptors (EMFILE)",
            ),
            (
                Event::AcceptingResumed { reason, after },
                "accepting resumed after 1.5s (paused: process out of file descriptors (EMFILE))",
            ),
            (
                Event::LimitAboveDescriptors {
                    connections: 9999,
                    descriptors: 64,
                },
                "max_connections 9999 exceeds the file descriptor limit 64; raise ulimit -n",
            ),
            (
                slow(Callback::Handler),
                "slow callback: handler my::handler blocked its poller for 30.0ms (127.0.0.1:7)",
            ),
            (
                slow(Callback::OnAccept),
                "slow callback: on_accept blocked its poller for 30.0ms (127.0.0.1:7)",
            ),
            (
                Event::CallbackPanicked {
                    callback: Callback::Balance,
                    peer,
                },
                "balance panicked (127.0.0.1:7)",
            ),
            (
                Event::TaskDropped { peer },
                "executor dropped an unfinished task; connection closed (127.0.0.1:7)",
            ),
            (
                Event::ConnectionsAborted { connections: 3 },
                "shutdown deadline passed: 3 connections aborted",
            ),
        ];
        for (event, part) in events {
            let line = event.to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn limit_and_poller_events_contain_their_values() {
        let events = [
            (
                Event::BudgetLimited {
                    budget: 25,
                    memory: 100,
                    source: MemoryLimit::AddressSpace,
                },
                "budget limited to 25 bytes: RLIMIT_AS allows 100 bytes of memory",
            ),
            (
                Event::BudgetAboveMemory {
                    budget: 101,
                    memory: 100,
                    source: MemoryLimit::ControlGroup,
                },
                "budget 101 bytes exceeds the 100 bytes of memory that the control group allows",
            ),
            (
                Event::Suppressed {
                    kind: String::from("TaskDropped"),
                    count: 7,
                },
                "suppressed: 7 more events of kind TaskDropped",
            ),
            (
                Event::ConnectionsAborted { connections: 3 },
                "shutdown deadline passed: 3 connections aborted",
            ),
            (
                Event::CallbackAbandoned {
                    location: CallbackLocation::Poller(2),
                    callback: Callback::Handler,
                    handler: "my::handler",
                    connections: 5,
                },
                "shutdown deadline passed: handler still running on poller 2 (my::handler); 5 \
                 connections aborted",
            ),
            (
                Event::PollerFailed {
                    poller: 1,
                    failure: PollerFailure::Wait { errno: 9 },
                    connections: 4,
                    restarted: true,
                },
                "poller 1 failed: epoll_wait failed: Bad file descriptor (os error 9); 4 connections \
                 closed; restarted",
            ),
        ];
        for (event, part) in events {
            let line = event.to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }
}
