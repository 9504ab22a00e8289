// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line of each event.
//!
//! An operator reads these lines, and programs search them, so each names what happened, how much of it,
//! and the peer or the poller it happened to. A line holds no line break. This module owns the texts
//! alone: it counts nothing and decides nothing.

use std::fmt;

use super::{AcceptPauseReason, Callback, CallbackLocation, Event, MemoryLimit, PollerFailure};

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

impl fmt::Display for AcceptPauseReason {
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
            Self::BudgetLimited {
                budget,
                memory,
                source,
            } => write!(
                f,
                "budget {budget} bytes: a part of the {memory} bytes of memory that {source} allows"
            ),
            Self::BudgetAboveMemory {
                budget,
                memory,
                source,
            } => write!(
                f,
                "budget {budget} bytes is more than the {memory} bytes of memory that {source} allows"
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
            Self::AcceptingPaused { reason } => write!(f, "accepting paused: {reason}"),
            Self::AcceptingResumed { reason, after } => {
                write!(
                    f,
                    "accepting resumed after {after:.1?}; it had paused: {reason}"
                )
            }
            Self::LimitAboveDescriptors { .. }
            | Self::BudgetLimited { .. }
            | Self::BudgetAboveMemory { .. } => self.fmt_bound(f),
            Self::Suppressed { kind, count } => {
                write!(f, "suppressed: {count} more events of the kind {kind}")
            }
            Self::SlowCall { .. } => self.fmt_slow_call(f),
            Self::CallbackPanicked { callback, peer } => write!(f, "{callback} panicked ({peer})"),
            Self::TaskDropped { peer } => {
                write!(f, "the executor dropped a task that was not done ({peer})")
            }
            Self::CallbackAbandoned { .. }
            | Self::PollerFailed { .. }
            | Self::SpuriousEvents { .. }
            | Self::ConnectionsAborted { .. } => self.fmt_loop_event(f),
        }
    }
}

impl Event {
    /// The line of what happens to a loop as a whole.
    fn fmt_loop_event(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallbackAbandoned {
                location,
                callback: Callback::Handler,
                handler,
                connections,
            } => write!(
                f,
                "shutdown left a handler running on {location}: {handler}; connections cut: {connections}"
            ),
            Self::CallbackAbandoned {
                location,
                callback,
                connections,
                ..
            } => write!(
                f,
                "shutdown left code running on {location}: {callback}; connections cut: {connections}"
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
            Self::SpuriousEvents { descriptor } => write!(
                f,
                "descriptor {descriptor} reports the same event again and again: it is watched less often"
            ),
            Self::ConnectionsAborted { connections } => {
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
    use std::time::Duration;

    use super::*;
    use crate::addr::Addr;

    #[test]
    fn every_event_is_one_line_that_says_who_and_how_much() {
        let peer: Addr = "127.0.0.1:7".parse().unwrap();
        let why = AcceptPauseReason::Descriptors;
        let after = Duration::from_millis(1500);
        let slow = |callback| Event::SlowCall {
            callback,
            handler: "my::handler",
            peer,
            took: Duration::from_millis(30),
        };
        let events = [
            (Event::AcceptingPaused { reason: why }, "no descriptor left"),
            (Event::AcceptingResumed { reason: why, after }, "after 1.5s"),
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
                Event::CallbackPanicked {
                    callback: Callback::Balance,
                    peer,
                },
                "balance panicked (127.0.0.1:7)",
            ),
            (Event::TaskDropped { peer }, "(127.0.0.1:7)"),
            (
                Event::ConnectionsAborted { connections: 3 },
                "shutdown's time: 3",
            ),
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
                    source: MemoryLimit::AddressSpace,
                },
                "budget 25 bytes: a part of the 100 bytes of memory that RLIMIT_AS allows",
            ),
            (
                Event::BudgetAboveMemory {
                    budget: 101,
                    memory: 100,
                    source: MemoryLimit::ControlGroup,
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
            (
                Event::ConnectionsAborted { connections: 3 },
                "shutdown's time: 3",
            ),
            (
                Event::CallbackAbandoned {
                    location: CallbackLocation::Poller(2),
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
