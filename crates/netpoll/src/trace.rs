// SPDX-License-Identifier: MIT OR Apache-2.0
//! Spans and log events for the `tracing` crate. Without the feature of that name they are no-ops
//! and cost nothing.
//!
//! - Each accepted connection has a span, `connection`, at the level INFO, with its peer address
//!   and its local address. It is entered around each poll of the connection's handler, on any
//!   thread, so log events of the handler belong to it.
//! - Within the span, at the level DEBUG: `open`, and `close` with the reason.
//! - [`Event`](crate::event::Event)s of loops without an `on_event` sink, at the level WARN, or
//!   INFO for a recovery, and the [log of failed connections](crate::Builder::on_event) of such
//!   loops at the level WARN.
//!
//! The target of all of them is `netpoll`. A subscriber is user code: its panics are caught here.

#[cfg(feature = "tracing")]
pub(crate) use on::{Span, has_subscriber, report, warn};

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{Span, has_subscriber, report, warn};

#[cfg(feature = "tracing")]
mod on {
    use std::os::fd::BorrowedFd;

    use tracing::{Level, debug, event, info_span};

    use crate::addr::Addr;
    use crate::error::CloseReason;
    use crate::event::Event;
    use crate::guard::guard;

    /// The span of a connection.
    #[derive(Debug)]
    pub(crate) struct Span(tracing::Span);

    impl Span {
        pub(crate) fn none() -> Self {
            Self(tracing::Span::none())
        }

        /// Opens the span of a new connection. One system call, if the span is enabled.
        pub(crate) fn open(fd: BorrowedFd<'_>, peer: Addr) -> Self {
            let open = || {
                if !tracing::span_enabled!(target: "netpoll", Level::INFO, "connection") {
                    return Self::none();
                }
                let span = match netpoll_sys::socket::local_addr(fd) {
                    Ok(local) => {
                        info_span!(target: "netpoll", parent: None, "connection", %peer, %local)
                    }
                    Err(_) => info_span!(target: "netpoll", parent: None, "connection", %peer),
                };
                debug!(target: "netpoll", parent: &span, "open");
                Self(span)
            };
            guard(open).unwrap_or_else(|_| Self::none())
        }

        /// Runs `work` inside the span.
        #[inline]
        pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
            if self.0.is_disabled() {
                return work();
            }
            let entered = guard(|| self.0.enter());
            let result = work();
            let _panicked = guard(|| drop(entered)).is_err();
            result
        }

        /// Logs that the connection has ended.
        pub(crate) fn close(&self, reason: &CloseReason) {
            if !self.0.is_disabled() {
                let log = || debug!(target: "netpoll", parent: &self.0, %reason, "close");
                let _panicked = guard(log).is_err();
            }
        }
    }

    impl Drop for Span {
        fn drop(&mut self) {
            let span = std::mem::replace(&mut self.0, tracing::Span::none());
            let _panicked = guard(|| drop(span)).is_err();
        }
    }

    /// Returns whether a subscriber was set, for a thread or for all.
    pub(crate) fn has_subscriber() -> bool {
        tracing::dispatcher::has_been_set()
    }

    /// Logs a line that reports a failure.
    pub(crate) fn warn(line: &str) {
        let log = || event!(target: "netpoll", Level::WARN, "{line}");
        let _panicked = guard(log).is_err();
    }

    /// Logs an event of a loop that has no sink.
    pub(crate) fn report(event: &Event) {
        let log = || {
            if event.is_recovery() {
                event!(target: "netpoll", Level::INFO, "{event}");
            } else {
                event!(target: "netpoll", Level::WARN, "{event}");
            }
        };
        let _panicked = guard(log).is_err();
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::os::fd::BorrowedFd;

    use crate::addr::Addr;
    use crate::error::CloseReason;
    use crate::event::Event;

    /// The span without the feature: nothing.
    #[derive(Debug)]
    pub(crate) struct Span;

    impl Span {
        pub(crate) fn none() -> Self {
            Self
        }

        pub(crate) fn open(_fd: BorrowedFd<'_>, _peer: Addr) -> Self {
            Self
        }

        #[inline]
        #[expect(clippy::unused_self, reason = "the variant with the feature uses it")]
        pub(crate) fn within<R>(&self, work: impl FnOnce() -> R) -> R {
            work()
        }

        #[expect(clippy::unused_self, reason = "the variant with the feature uses it")]
        pub(crate) fn close(&self, _reason: &CloseReason) {}
    }

    pub(crate) fn has_subscriber() -> bool {
        false
    }

    pub(crate) fn warn(_line: &str) {}

    pub(crate) fn report(_event: &Event) {}
}
