// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log line of a connection that a failing handler or a limit has ended.

use std::fmt;
use std::io;

use crate::addr::Addr;
use crate::error::{CloseReason, ErrorExt as _, ErrorKind, Limit, Size};

/// The end of a connection, and what a log line says about it.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) reason: &'a CloseReason,
    /// The error of the limit, which has the values that the reason lacks.
    pub(crate) limit_error: Option<&'a ErrorKind>,
    pub(crate) peer: Addr,
    /// The type name of the handler.
    pub(crate) handler: &'static str,
    /// The most unsent output of the connection, in bytes.
    pub(crate) max_output: usize,
}

/// Failures that share a limit of one line a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    HandlerError,
    HandlerPanic,
    FrameLimit,
    OutputLimit,
    MemoryLimit,
}

impl FailureKind {
    pub(super) const ALL: [Self; 5] = [
        Self::HandlerError,
        Self::HandlerPanic,
        Self::FrameLimit,
        Self::OutputLimit,
        Self::MemoryLimit,
    ];
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandlerError => "handler failed",
            Self::HandlerPanic => "handler panicked",
            Self::FrameLimit => "frame exceeds max_frame",
            Self::OutputLimit => "unsent output exceeds max_output",
            Self::MemoryLimit => "last bytes of the peer exceed the memory budget",
        })
    }
}

impl Failure<'_> {
    /// Returns the kind of the failure, or `None` for an end that is no failure: a FIN, a reset by
    /// the peer, a timeout, a close by this side.
    pub(super) fn kind(&self) -> Option<FailureKind> {
        match self.reason {
            // A handler that passes on the reset of another connection.
            CloseReason::Handler(error)
                if error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.is_closed()) =>
            {
                None
            }
            CloseReason::Handler(_) => Some(FailureKind::HandlerError),
            CloseReason::HandlerPanic => Some(FailureKind::HandlerPanic),
            CloseReason::Limit(Limit::Frame) => Some(FailureKind::FrameLimit),
            CloseReason::Limit(Limit::Output) => Some(FailureKind::OutputLimit),
            CloseReason::Limit(Limit::Memory) => Some(FailureKind::MemoryLimit),
            _ => None,
        }
    }
}

/// The longest text of a handler's error, in characters, so that the rest of the line has space.
const MAX_ERROR: usize = 400;

/// What happened, values, peer, what to do. The text of a handler's error is user code: it may
/// panic, and may have line breaks.
impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, handler, .. } = self;
        match self.reason {
            CloseReason::Handler(error) => write!(
                f,
                "handler failed: {:.MAX_ERROR$} ({peer}); connection closed; handle the error in \
                 {handler}",
                error.to_string()
            ),
            CloseReason::HandlerPanic => write!(
                f,
                "handler panicked ({peer}); connection closed; the panic message tells where in \
                 {handler}"
            ),
            CloseReason::Limit(Limit::Frame) => {
                match self.limit_error {
                    Some(error @ ErrorKind::FrameTooLarge { peer: Some(_), .. }) => {
                        write!(f, "{error}")?;
                    }
                    Some(error) => write!(f, "{error} ({peer})")?,
                    None => write!(f, "frame exceeds max_frame ({peer})")?,
                }
                f.write_str("; connection closed; check the client, or raise the limit")
            }
            CloseReason::Limit(Limit::Output) => write!(
                f,
                "unsent output exceeds max_output of {} ({peer}); connection closed; flush between \
                 puts, or raise max_output",
                Size(self.max_output)
            ),
            reason => write!(
                f,
                "{reason} ({peer}); connection closed; raise budget, or lower max_connections"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::{BoxError, Timeout};

    fn failure<'a>(
        reason: &'a CloseReason,
        limit_error: Option<&'a ErrorKind>,
    ) -> (Option<FailureKind>, String) {
        let failure = Failure {
            reason,
            limit_error,
            peer: "127.0.0.1:7".parse().unwrap(),
            handler: "my::handler",
            max_output: 8 << 20,
        };
        (failure.kind(), failure.to_string())
    }

    fn handler_error(error: impl Into<BoxError>) -> CloseReason {
        CloseReason::Handler(Arc::new(error.into()))
    }

    #[test]
    fn each_failure_has_what_happened_the_values_the_peer_and_what_to_do() {
        let frame = ErrorKind::frame_too_large("max_frame", 4 << 20, 5_242_905);
        let rows = [
            (
                handler_error("no such user"),
                FailureKind::HandlerError,
                "handler failed: no such user (127.0.0.1:7); connection closed; handle the error in \
                 my::handler",
            ),
            (
                CloseReason::HandlerPanic,
                FailureKind::HandlerPanic,
                "handler panicked (127.0.0.1:7); connection closed; the panic message tells where in \
                 my::handler",
            ),
            (
                CloseReason::Limit(Limit::Frame),
                FailureKind::FrameLimit,
                "frame of 5,242,905 bytes exceeds max_frame (4 MiB) (127.0.0.1:7); connection \
                 closed; check the client, or raise the limit",
            ),
            (
                CloseReason::Limit(Limit::Output),
                FailureKind::OutputLimit,
                "unsent output exceeds max_output of 8 MiB (127.0.0.1:7); connection closed; flush \
                 between puts, or raise max_output",
            ),
            (
                CloseReason::Limit(Limit::Memory),
                FailureKind::MemoryLimit,
                "last bytes of the peer exceed the memory budget (127.0.0.1:7); connection closed; \
                 raise budget, or lower max_connections",
            ),
        ];
        for (reason, kind, text) in rows {
            assert_eq!(failure(&reason, Some(&frame)), (Some(kind), text.into()));
        }
        let named = ErrorKind::name_peer(frame.into(), "127.0.0.1:7".parse().unwrap());
        let named = named.netpoll_kind();
        assert_eq!(
            failure(&CloseReason::Limit(Limit::Frame), named.as_ref()).1,
            "frame of 5,242,905 bytes exceeds max_frame (4 MiB) of 127.0.0.1:7; connection closed; \
             check the client, or raise the limit"
        );
    }

    #[test]
    fn an_ordinary_end_is_no_failure() {
        let (reset, broken_pipe) = (104, 32);
        let errno = io::Error::from_raw_os_error;
        for reason in [
            CloseReason::PeerFin,
            CloseReason::Local,
            CloseReason::Shutdown,
            CloseReason::Timeout(Timeout::Idle),
            CloseReason::Broken(Arc::new(errno(reset))),
            handler_error(errno(reset)),
            handler_error(errno(broken_pipe)),
        ] {
            assert_eq!(failure(&reason, None).0, None, "{reason}");
        }
        let (refused, other) = (errno(111), io::Error::other("mine"));
        for error in [refused, other] {
            let kind = failure(&handler_error(error), None).0;
            assert_eq!(kind, Some(FailureKind::HandlerError));
        }
    }
}
