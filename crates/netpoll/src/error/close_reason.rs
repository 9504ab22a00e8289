// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a connection ended.

use std::fmt;
use std::io;
use std::sync::Arc;

use netpoll_buffer::TooLarge;

use super::{BoxError, ErrorExt as _, ErrorKind};

/// Why a connection ended. The first cause wins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it: `close`, `abort`, or the drop of an owned connection.
    Local,
    /// The peer ended its stream (FIN), and the handler was offered all received bytes.
    PeerFin,
    /// The kernel reported an error; the errno is kept.
    Broken(Arc<io::Error>),
    /// The handler returned an error other than one of its own connection.
    Handler(Arc<BoxError>),
    /// The handler panicked.
    HandlerPanic,
    /// The event loop shut down.
    Shutdown,
    /// Its poller failed and restarted: see
    /// [`Event::PollerFailed`](crate::event::Event::PollerFailed). All connections of that poller
    /// end with this reason.
    PollerFailed,
    /// A limit was reached.
    Limit(Limit),
    /// A timeout expired.
    Timeout(Timeout),
    /// It ended some time ago, and the reason is not stored any more. Returned only by a
    /// [`ConnectionHandle`](crate::connection::ConnectionHandle) that outlives the connection by
    /// long.
    Forgotten,
}

/// The limit that a connection reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// A read requested more bytes at once than `max_frame` allows: usually a length sent by the
    /// peer.
    Frame,
    /// One call left more output unsent than `max_output` allows.
    Output,
    /// The peer was gone, and its last bytes did not fit into the
    /// [`Budget`](crate::options::Budget).
    Memory,
}

/// The timeout that expired, for a connection or for a call on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// [`Timeouts::first_byte`](crate::options::Timeouts::first_byte).
    FirstByte,
    /// [`Timeouts::read`](crate::options::Timeouts::read), or the deadline of a
    /// [`Reader`](crate::Reader).
    Read,
    /// [`Timeouts::min_rate`](crate::options::Timeouts::min_rate).
    MinRate,
    /// [`Timeouts::write`](crate::options::Timeouts::write), or the deadline of a
    /// [`Writer`](crate::Writer).
    Write,
    /// [`Timeouts::idle`](crate::options::Timeouts::idle).
    Idle,
    /// [`Timeouts::max_age`](crate::options::Timeouts::max_age).
    MaxAge,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "the first byte did not arrive in time",
            Self::Read => "the awaited bytes did not arrive in time",
            Self::MinRate => "the awaited bytes arrived too slowly",
            Self::Write => "the peer did not read the output in time",
            Self::Idle => "idle for too long",
            Self::MaxAge => "maximum age reached",
        })
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by this side"),
            Self::PeerFin => f.write_str("the peer ended its stream"),
            Self::Broken(error) => write!(f, "connection failed: {error}"),
            Self::Handler(error) => write!(f, "the handler failed: {error}"),
            Self::HandlerPanic => f.write_str("the handler panicked"),
            Self::Shutdown => f.write_str("the event loop shut down"),
            Self::PollerFailed => f.write_str("the poller failed"),
            Self::Limit(Limit::Frame) => f.write_str("frame exceeds max_frame"),
            Self::Limit(Limit::Output) => f.write_str("unsent output exceeds max_output"),
            Self::Limit(Limit::Memory) => {
                f.write_str("last bytes of the peer exceed the memory budget")
            }
            Self::Timeout(which) => which.fmt(f),
            Self::Forgotten => f.write_str("ended earlier; the reason is no longer stored"),
        }
    }
}

impl CloseReason {
    /// Returns the error of calls on a connection that ended for this reason.
    pub(crate) fn to_error(&self) -> io::Error {
        let errno = match self {
            Self::Broken(error) => error.raw_os_error(),
            _ => None,
        };
        errno.map_or_else(
            || {
                let reason = self.clone();
                ErrorKind::Closed { reason }.into()
            },
            io::Error::from_raw_os_error,
        )
    }

    /// Returns the values of an error that [`from_handler_error`](Self::from_handler_error) reduces
    /// to [`Limit::Frame`].
    pub(crate) fn limit_error(error: &BoxError) -> Option<ErrorKind> {
        let kind = error.downcast_ref::<io::Error>()?.netpoll_kind()?;
        let is_limit = matches!(
            kind,
            ErrorKind::FrameTooLarge { .. } | ErrorKind::TooLarge { .. }
        );
        is_limit.then_some(kind)
    }

    /// Returns the close reason for an error of a handler. An error of its own connection that the
    /// handler passes on keeps its reason; any other error becomes `Handler`.
    pub(crate) fn from_handler_error(error: BoxError) -> Self {
        let payload = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match payload.and_then(|payload| payload.downcast_ref::<ErrorKind>()) {
            Some(ErrorKind::FrameTooLarge { .. }) => Self::Limit(Limit::Frame),
            Some(ErrorKind::UnexpectedEof { .. }) => Self::PeerFin,
            Some(ErrorKind::TimedOut { timeout, .. }) => Self::Timeout(*timeout),
            Some(ErrorKind::Closed { reason }) => reason.clone(),
            // A handler may apply the buffer's methods to what it has received.
            None if payload.is_some_and(|payload| payload.is::<TooLarge>()) => {
                Self::Limit(Limit::Frame)
            }
            _ => Self::Handler(Arc::new(error)),
        }
    }
}
