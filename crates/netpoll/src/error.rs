// SPDX-License-Identifier: MIT OR Apache-2.0
//! Close reasons and the errors of calls on a connection.
//!
//! Calls return [`std::io::Error`]. An error of the kernel keeps its errno. For any other error,
//! `get_ref()` returns one of the structs here or of the buffer ([`NotEnoughData`], [`TooLarge`]).
//! The *end* of a connection is a [`CloseReason`]: its first cause, reported once.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

pub use netpoll_buffer::{NotEnoughData, OutOfRange, TooLarge, WriteOverrun};

/// The error type of handlers. Concrete, so that `Ok(())` needs no annotation.
pub type BoxError = Box<dyn Error + Send + Sync>;

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
    /// Its poller failed and restarted: see [`Event::PollerFailed`](crate::Event::PollerFailed).
    /// All connections of that poller end with this reason.
    PollerFailed,
    /// A limit was reached.
    Limit(Limit),
    /// A timeout expired.
    Timeout(Timeout),
    /// It ended some time ago, and the reason is not stored any more. Returned only by a
    /// [`ConnectionHandle`](crate::ConnectionHandle) that outlives the connection by long.
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
    /// The peer was gone, and its last bytes did not fit into the [`Budget`](crate::Budget).
    Memory,
}

/// The timeout that expired, for a connection or for a call on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// [`Timeouts::first_byte`](crate::Timeouts::first_byte).
    FirstByte,
    /// [`Timeouts::read`](crate::Timeouts::read), or the deadline of a [`Reader`](crate::Reader).
    Read,
    /// [`Timeouts::min_rate`](crate::Timeouts::min_rate).
    MinRate,
    /// [`Timeouts::write`](crate::Timeouts::write), or the deadline of a [`Writer`](crate::Writer).
    Write,
    /// [`Timeouts::idle`](crate::Timeouts::idle).
    Idle,
    /// [`Timeouts::max_age`](crate::Timeouts::max_age).
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
                Closed {
                    reason: self.clone(),
                }
                .into()
            },
            io::Error::from_raw_os_error,
        )
    }

    /// Returns the close reason for an error of a handler. An error of its own connection that the
    /// handler passes on keeps its reason; any other error becomes `Handler`.
    pub(crate) fn from_handler_error(error: BoxError) -> Self {
        let reported = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match reported {
            Some(report) if report.is::<TooLarge>() => Self::Limit(Limit::Frame),
            Some(report) if report.is::<UnexpectedEof>() => Self::PeerFin,
            Some(report) => {
                let timed_out = report.downcast_ref::<TimedOut>();
                let closed = report.downcast_ref::<Closed>();
                match (timed_out, closed) {
                    (Some(timed_out), _) => Self::Timeout(timed_out.which),
                    (_, Some(closed)) => closed.reason.clone(),
                    (None, None) => Self::Handler(Arc::new(error)),
                }
            }
            None => Self::Handler(Arc::new(error)),
        }
    }
}

/// A call on a connection that has ended. The kind is `ConnectionAborted`, or `TimedOut` if the
/// reason is a timeout.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Why the connection ended.
    pub reason: CloseReason,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection has ended: {}", self.reason)
    }
}

impl Error for Closed {}

impl From<Closed> for io::Error {
    #[cold]
    fn from(closed: Closed) -> Self {
        let kind = match closed.reason {
            CloseReason::Timeout(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, closed)
    }
}

/// A call exceeded its timeout; the connection stays open. `TimedOut`. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// Which timeout expired.
    pub which: Timeout,
}

impl TimedOut {
    pub(crate) const fn new(which: Timeout) -> Self {
        Self { which }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.which.fmt(f)
    }
}

impl Error for TimedOut {}

impl From<TimedOut> for io::Error {
    #[cold]
    fn from(timed_out: TimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, timed_out)
    }
}

/// The peer ended its stream before the awaited bytes arrived. `UnexpectedEof`. The bytes that did
/// arrive can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnexpectedEof {
    /// How many bytes are available.
    pub have: usize,
    /// How many bytes were awaited.
    pub need: usize,
}

impl UnexpectedEof {
    pub(crate) const fn new(have: usize, need: usize) -> Self {
        Self { have, need }
    }
}

impl fmt::Display for UnexpectedEof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the stream ended after {} of {} bytes",
            self.have, self.need
        )
    }
}

impl Error for UnexpectedEof {}

impl From<UnexpectedEof> for io::Error {
    #[cold]
    fn from(eof: UnexpectedEof) -> Self {
        Self::new(io::ErrorKind::UnexpectedEof, eof)
    }
}

/// A write after [`Writer::shutdown`](crate::Writer::shutdown). The bytes were discarded.
/// `BrokenPipe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteAfterShutdown;

impl WriteAfterShutdown {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl fmt::Display for WriteAfterShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write after shutdown of this side's stream")
    }
}

impl Error for WriteAfterShutdown {}

impl From<WriteAfterShutdown> for io::Error {
    #[cold]
    fn from(error: WriteAfterShutdown) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, error)
    }
}

/// A blocking call on a poller thread. `WouldBlock`. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingOnPoller;

impl BlockingOnPoller {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl fmt::Display for BlockingOnPoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blocking call on a poller thread; await the future instead")
    }
}

impl Error for BlockingOnPoller {}

impl From<BlockingOnPoller> for io::Error {
    #[cold]
    fn from(error: BlockingOnPoller) -> Self {
        Self::new(io::ErrorKind::WouldBlock, error)
    }
}

/// The event loop that the connection was meant for is not running: it has ended, or was dropped
/// before it ran. `ConnectionAborted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotRunning;

impl NotRunning {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop of the connection is not running")
    }
}

impl Error for NotRunning {}

impl From<NotRunning> for io::Error {
    #[cold]
    fn from(error: NotRunning) -> Self {
        Self::new(io::ErrorKind::ConnectionAborted, error)
    }
}

/// A name was resolved and has no address. `NotFound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoAddress;

impl NoAddress {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name has no address")
    }
}

impl Error for NoAddress {}

impl From<NoAddress> for io::Error {
    #[cold]
    fn from(error: NoAddress) -> Self {
        Self::new(io::ErrorKind::NotFound, error)
    }
}

/// An option has an invalid value. `InvalidInput`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidConfig {
    /// The name of the option.
    pub field: &'static str,
    /// A description of valid values.
    pub expected: &'static str,
}

impl InvalidConfig {
    pub(crate) const fn new(field: &'static str, expected: &'static str) -> Self {
        Self { field, expected }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.expected)
    }
}

impl Error for InvalidConfig {}

impl From<InvalidConfig> for io::Error {
    fn from(error: InvalidConfig) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_survives_conversion_to_a_close_reason() {
        let reason = CloseReason::Broken(Arc::new(io::Error::from_raw_os_error(104)));
        assert_eq!(reason.to_error().raw_os_error(), Some(104));
    }

    #[test]
    fn propagated_connection_error_keeps_its_reason() {
        let passed_on = |error: io::Error| CloseReason::from_handler_error(Box::new(error));
        let large = passed_on(TooLarge::new(1, 2).into());
        assert!(matches!(large, CloseReason::Limit(Limit::Frame)));
        assert!(matches!(
            passed_on(UnexpectedEof::new(1, 4).into()),
            CloseReason::PeerFin
        ));
        let closed = Closed {
            reason: CloseReason::Shutdown,
        };
        assert!(matches!(passed_on(closed.into()), CloseReason::Shutdown));
        let own = passed_on(io::Error::other("mine"));
        assert!(matches!(own, CloseReason::Handler(_)));
    }

    #[test]
    fn other_error_becomes_handler_error() {
        assert!(matches!(
            CloseReason::from_handler_error("no".into()),
            CloseReason::Handler(_)
        ));
    }
}
