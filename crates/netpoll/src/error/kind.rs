// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one type that distinguishes all errors of this library.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use netpoll_sys::addr::{InvalidUnixName, ParseAddrError};

use super::close_reason::{CloseReason, Timeout};
use crate::addr::Addr;
use crate::codec::{EncodeError, Need};

/// What a failed call reports, with its values. The payload of the [`io::Error`]s of this library;
/// [`ErrorExt::netpoll_kind`](super::ErrorExt::netpoll_kind) returns it.
///
/// Each variant names its [`io::ErrorKind`]. A call that failed has consumed nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection has ended. `TimedOut` if the reason is a timeout, otherwise
    /// `ConnectionAborted`. A connection that the kernel failed reports the errno instead.
    Closed {
        /// Why the connection ended.
        reason: CloseReason,
    },
    /// A call on a connection exceeded its timeout; the connection stays open. `TimedOut`.
    #[non_exhaustive]
    TimedOut {
        /// Which timeout expired.
        timeout: Timeout,
        /// How long the call waited, or `None` if its deadline had passed when it was made.
        after: Option<Duration>,
    },
    /// A call of a [`mux::Client`](crate::mux::Client) got no answer in time; the connection stays
    /// open. `TimedOut`.
    #[non_exhaustive]
    CallTimedOut {
        /// The client's timeout, or `None` for a call with its own deadline.
        after: Option<Duration>,
    },
    /// A future exceeded a deadline of [`time`](crate::time). `TimedOut`.
    Elapsed,
    /// A caller waited for a pooled connection for as long as it may. `TimedOut`.
    #[non_exhaustive]
    PoolTimedOut {
        /// The limit of the wait.
        after: Duration,
    },
    /// All connections of a pool to the address are in use, and the maximum number of callers
    /// waits. `ResourceBusy`, at once.
    #[non_exhaustive]
    PoolFull {
        /// The connections in use or being dialed.
        connections: usize,
        /// The callers that wait.
        waiting: usize,
    },
    /// The pool is closed. `NotConnected`.
    PoolClosed,
    /// A frame, or a request for so many bytes, exceeds a limit. `InvalidData`, because the length
    /// usually comes from the peer.
    #[non_exhaustive]
    FrameTooLarge {
        /// The bytes that were requested.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
        /// The option or parameter that sets the limit.
        option: &'static str,
        /// The peer of the connection, or `None` if the error is not one of a connection: a codec
        /// that was called directly. In a box, so that every other error stays small.
        peer: Option<Box<Addr>>,
    },
    /// A request exceeds a limit of a buffer ([`TooLarge`](super::TooLarge)). `InvalidData`.
    #[non_exhaustive]
    TooLarge {
        /// The bytes that were requested.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer ended its stream before the awaited bytes arrived. `UnexpectedEof`. The bytes that
    /// did arrive can still be read.
    #[non_exhaustive]
    UnexpectedEof {
        /// How many bytes are available.
        have: usize,
        /// How many bytes were awaited.
        need: usize,
    },
    /// A buffer has fewer bytes than requested ([`NotEnoughData`](super::NotEnoughData)).
    /// `UnexpectedEof`.
    #[non_exhaustive]
    NotEnoughData {
        /// How many bytes are readable.
        have: usize,
        /// How many bytes were requested.
        need: usize,
    },
    /// A position or a count exceeds the uncommitted bytes, or a reservation has ended
    /// ([`OutOfRange`](super::OutOfRange)). `InvalidInput`.
    #[non_exhaustive]
    OutOfRange {
        /// The number of uncommitted bytes.
        uncommitted: usize,
        /// The requested position or count.
        requested: usize,
    },
    /// A sink claims to have written more bytes than it was given
    /// ([`WriteOverrun`](super::WriteOverrun)). `Other`.
    #[non_exhaustive]
    WriteOverrun {
        /// The number of bytes that it was given.
        given: usize,
        /// The number of bytes that it claims to have written.
        claimed: usize,
    },
    /// A write after [`Writer::shutdown`](crate::Writer::shutdown). `BrokenPipe`. The bytes were
    /// discarded.
    WriteAfterShutdown,
    /// A blocking call on a poller's thread. `WouldBlock`. Nothing was done.
    BlockingOnPoller,
    /// A call that only a poller's thread can make, made on another thread. `Unsupported`. Nothing
    /// was done.
    NotOnPoller,
    /// The event loop that the connection was meant for is not running: it has ended, or was
    /// dropped before it ran. `ConnectionAborted`.
    NotRunning,
    /// A name was resolved and has no address. `NotFound`.
    NoAddress,
    /// The system's resolver hangs: 64 abandoned lookups have not returned, and no other starts
    /// until one does. `ResourceBusy`.
    ResolverStalled,
    /// An option has an invalid value. `InvalidInput`.
    #[non_exhaustive]
    InvalidConfig {
        /// The name of the option.
        option: &'static str,
        /// A description of valid values.
        expected: &'static str,
    },
    /// A text is not an address. `InvalidInput`.
    InvalidAddr(ParseAddrError),
    /// A name cannot be that of a Unix socket. `InvalidInput`.
    InvalidUnixName(InvalidUnixName),
    /// The path to listen on is taken. `AddrInUse`.
    #[non_exhaustive]
    PathTaken {
        /// The path, absolute.
        path: PathBuf,
        /// What occupies it.
        by: TakenBy,
    },
    /// No value of the requested type is attached to the connection. `NotFound`.
    #[non_exhaustive]
    NotAttached {
        /// The requested type.
        expected: &'static str,
    },
    /// A received length is negative after its adjustment. `InvalidData`.
    #[non_exhaustive]
    NegativeLength {
        /// The value of the length field.
        value: u64,
        /// The adjustment that is added to it.
        adjustment: i64,
    },
    /// A codec returned a [`Need`] that is impossible or makes no progress. `InvalidData`.
    #[non_exhaustive]
    InvalidNeed {
        /// The bytes that had arrived.
        have: usize,
        /// The need that the codec returned for them.
        need: Need,
    },
    /// A frame cannot be encoded so that it can be decoded again. `InvalidInput`. Nothing was
    /// appended.
    Encode(EncodeError),
}

/// What occupies a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakenBy {
    /// A server that accepts connections there.
    Listener,
    /// A regular file, a directory or a symbolic link. It is not removed.
    NotASocket,
    /// A socket of another user, with or without a server. It is not removed.
    OtherUser,
}

impl Error for ErrorKind {}

impl ErrorKind {
    /// Returns the kind of the [`io::Error`] that contains `self`.
    pub(super) const fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Closed {
                reason: CloseReason::Timeout(_),
            }
            | Self::TimedOut { .. }
            | Self::CallTimedOut { .. }
            | Self::Elapsed
            | Self::PoolTimedOut { .. } => io::ErrorKind::TimedOut,
            Self::Closed { .. } | Self::NotRunning => io::ErrorKind::ConnectionAborted,
            Self::PoolFull { .. } | Self::ResolverStalled => io::ErrorKind::ResourceBusy,
            Self::PoolClosed => io::ErrorKind::NotConnected,
            Self::FrameTooLarge { .. }
            | Self::TooLarge { .. }
            | Self::NegativeLength { .. }
            | Self::InvalidNeed { .. } => io::ErrorKind::InvalidData,
            Self::UnexpectedEof { .. } | Self::NotEnoughData { .. } => io::ErrorKind::UnexpectedEof,
            Self::OutOfRange { .. }
            | Self::InvalidConfig { .. }
            | Self::InvalidAddr(_)
            | Self::InvalidUnixName(_)
            | Self::Encode(_) => io::ErrorKind::InvalidInput,
            Self::WriteOverrun { .. } => io::ErrorKind::Other,
            Self::WriteAfterShutdown => io::ErrorKind::BrokenPipe,
            Self::BlockingOnPoller => io::ErrorKind::WouldBlock,
            Self::NotOnPoller => io::ErrorKind::Unsupported,
            Self::NoAddress | Self::NotAttached { .. } => io::ErrorKind::NotFound,
            Self::PathTaken { .. } => io::ErrorKind::AddrInUse,
        }
    }

    /// Returns the kind that an error contains, without looking into shared errors.
    pub(crate) fn payload(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the error for a request of `size` bytes above the limit that `option` sets.
    pub(crate) const fn frame_too_large(option: &'static str, limit: usize, size: usize) -> Self {
        Self::FrameTooLarge {
            size,
            limit,
            option,
            peer: None,
        }
    }

    /// Adds the address of the peer to an error about a frame of its connection.
    #[cold]
    pub(crate) fn name_peer(mut error: io::Error, peer: Addr) -> io::Error {
        let payload = error.get_mut().and_then(|payload| payload.downcast_mut());
        if let Some(Self::FrameTooLarge { peer: unnamed, .. }) = payload {
            unnamed.get_or_insert_with(|| Box::new(peer));
        }
        error
    }
}

impl From<ErrorKind> for io::Error {
    #[cold]
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind.io_kind(), kind)
    }
}
