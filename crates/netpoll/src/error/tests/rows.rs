// SPDX-License-Identifier: MIT OR Apache-2.0
//! A row for each error of the library.

use std::io;
use std::time::Duration;

use crate::addr::{Addr, UnixAddr};
use crate::codec::{EncodeError, Need};
use crate::error::*;

/// An error, and what it must report.
pub(super) struct Row {
    pub(super) error: io::Error,
    /// The arm of [`arm`] that matches the error.
    pub(super) arm: &'static str,
    pub(super) kind: io::ErrorKind,
    pub(super) text: &'static str,
}

fn row(
    error: impl Into<io::Error>,
    arm: &'static str,
    kind: io::ErrorKind,
    text: &'static str,
) -> Row {
    let error = error.into();
    Row {
        error,
        arm,
        kind,
        text,
    }
}

/// Distinguishes all errors. Without a wildcard, so that a new variant does not compile without an
/// arm; `every_variant_has_a_row` then requires its row.
pub(super) fn arm(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Closed {
            reason: CloseReason::Timeout(_),
        } => "closed by a timeout",
        ErrorKind::Closed { .. } => "closed",
        ErrorKind::TimedOut { .. } => "timed out",
        ErrorKind::CallTimedOut { .. } => "call timed out",
        ErrorKind::Elapsed => "elapsed",
        ErrorKind::PoolTimedOut { .. } => "pool timed out",
        ErrorKind::PoolFull { .. } => "pool full",
        ErrorKind::PoolClosed => "pool closed",
        ErrorKind::FrameTooLarge { .. } => "frame too large",
        ErrorKind::TooLarge { .. } => "too large",
        ErrorKind::UnexpectedEof { .. } => "unexpected eof",
        ErrorKind::NotEnoughData { .. } => "not enough data",
        ErrorKind::OutOfRange { .. } => "out of range",
        ErrorKind::WriteOverrun { .. } => "write overrun",
        ErrorKind::WriteAfterShutdown => "write after shutdown",
        ErrorKind::BlockingOnPoller => "blocking on poller",
        ErrorKind::NotOnPoller => "not on poller",
        ErrorKind::NotRunning => "not running",
        ErrorKind::NoAddress => "no address",
        ErrorKind::ResolverStalled => "resolver stalled",
        ErrorKind::InvalidConfig { .. } => "invalid config",
        ErrorKind::InvalidAddr(_) => "invalid address",
        ErrorKind::InvalidUnixName(_) => "invalid name",
        ErrorKind::PathTaken { .. } => "path taken",
        ErrorKind::NotAttached { .. } => "not attached",
        ErrorKind::NegativeLength { .. } => "negative length",
        ErrorKind::InvalidNeed { .. } => "invalid need",
        ErrorKind::Encode(_) => "encode",
    }
}

/// The number of arms of [`arm`].
pub(super) const ARMS: usize = 28;

fn connection_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    let half_second = Some(Duration::from_millis(500));
    let timed_out = |timeout, after| ErrorKind::TimedOut { timeout, after };
    vec![
        row(
            CloseReason::Shutdown.to_error(),
            "closed",
            Io::ConnectionAborted,
            "the connection has ended: the event loop shut down",
        ),
        row(
            CloseReason::Timeout(Timeout::Idle).to_error(),
            "closed by a timeout",
            Io::TimedOut,
            "the connection has ended: idle for too long",
        ),
        row(
            timed_out(Timeout::Read, half_second),
            "timed out",
            Io::TimedOut,
            "the awaited bytes did not arrive within 500 ms",
        ),
        row(
            timed_out(Timeout::Read, None),
            "timed out",
            Io::TimedOut,
            "the awaited bytes did not arrive in time",
        ),
        row(
            ErrorKind::UnexpectedEof { have: 3, need: 10 },
            "unexpected eof",
            Io::UnexpectedEof,
            "the stream ended after 3 of 10 bytes",
        ),
        row(
            ErrorKind::WriteAfterShutdown,
            "write after shutdown",
            Io::BrokenPipe,
            "write after shutdown of this side's stream",
        ),
        row(
            ErrorKind::BlockingOnPoller,
            "blocking on poller",
            Io::WouldBlock,
            "blocking call on a poller thread; await the future instead",
        ),
        row(
            ErrorKind::NotOnPoller,
            "not on poller",
            Io::Unsupported,
            "call outside of a poller thread; make it in a handler that runs on its poller",
        ),
        row(
            ErrorKind::NotAttached { expected: "u8" },
            "not attached",
            Io::NotFound,
            "no u8 is attached to the connection",
        ),
    ]
}

fn size_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    vec![
        row(
            ErrorKind::frame_too_large("max_frame", 4 << 20, 5_242_905),
            "frame too large",
            Io::InvalidData,
            "frame of 5,242,905 bytes exceeds max_frame (4 MiB)",
        ),
        row(
            ErrorKind::frame_too_large("max", 1025, 1026),
            "frame too large",
            Io::InvalidData,
            "frame of 1,026 bytes exceeds max (1,025 bytes)",
        ),
        row(
            TooLarge::new(1, 2),
            "too large",
            Io::InvalidData,
            "2 bytes were requested and the limit is 1",
        ),
        row(
            NotEnoughData::new(1, 4),
            "not enough data",
            Io::UnexpectedEof,
            "4 bytes were requested and 1 are readable",
        ),
        row(
            OutOfRange::new(1, 2),
            "out of range",
            Io::InvalidInput,
            "2 was requested and 1 bytes are uncommitted",
        ),
        row(
            WriteOverrun::new(1, 2),
            "write overrun",
            Io::Other,
            "the sink claims to have written 2 bytes where 1 were given",
        ),
    ]
}

fn peer_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    let of_peer = |peer: Addr| {
        let error = ErrorKind::frame_too_large("max_frame", 4 << 20, 5_242_905);
        ErrorKind::name_peer(error.into(), peer)
    };
    vec![
        row(
            of_peer("127.0.0.1:58876".parse().unwrap()),
            "frame too large",
            Io::InvalidData,
            "frame of 5,242,905 bytes exceeds max_frame (4 MiB) of 127.0.0.1:58876",
        ),
        row(
            of_peer("unix:/run/a".parse().unwrap()),
            "frame too large",
            Io::InvalidData,
            "frame of 5,242,905 bytes exceeds max_frame (4 MiB) of unix:/run/a",
        ),
        row(
            of_peer(Addr::Unnamed),
            "frame too large",
            Io::InvalidData,
            "frame of 5,242,905 bytes exceeds max_frame (4 MiB) of an unnamed peer",
        ),
    ]
}

fn codec_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    vec![
        row(
            ErrorKind::NegativeLength {
                value: 1,
                adjustment: -4,
            },
            "negative length",
            Io::InvalidData,
            "the length 1 is negative after its adjustment by -4",
        ),
        row(
            ErrorKind::InvalidNeed {
                have: 5,
                need: Need::Frame(6),
            },
            "invalid need",
            Io::InvalidData,
            "the codec measured a frame of 6 bytes in 5 bytes",
        ),
        row(
            EncodeError::WrongSize { have: 2, size: 3 },
            "encode",
            Io::InvalidInput,
            "a frame of 2 bytes, but every frame has 3",
        ),
    ]
}

fn client_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    let call = |after| ErrorKind::CallTimedOut { after };
    let (connections, waiting) = (8, 64);
    vec![
        row(
            call(Some(Duration::from_millis(500))),
            "call timed out",
            Io::TimedOut,
            "call timed out after 500 ms",
        ),
        row(
            call(None),
            "call timed out",
            Io::TimedOut,
            "call timed out at its deadline",
        ),
        row(
            ErrorKind::Elapsed,
            "elapsed",
            Io::TimedOut,
            "deadline has elapsed",
        ),
        row(
            ErrorKind::PoolTimedOut {
                after: Duration::from_secs(3),
            },
            "pool timed out",
            Io::TimedOut,
            "no connection was returned within 3 s",
        ),
        row(
            ErrorKind::PoolFull {
                connections,
                waiting,
            },
            "pool full",
            Io::ResourceBusy,
            "all 8 connections are in use, and 64 callers wait already",
        ),
        row(
            ErrorKind::PoolClosed,
            "pool closed",
            Io::NotConnected,
            "the pool is closed",
        ),
        row(
            ErrorKind::NoAddress,
            "no address",
            Io::NotFound,
            "the name has no address",
        ),
        row(
            ErrorKind::ResolverStalled,
            "resolver stalled",
            Io::ResourceBusy,
            "the system's resolver hangs: 64 abandoned lookups have not returned",
        ),
    ]
}

fn setup_rows() -> Vec<Row> {
    use io::ErrorKind as Io;
    vec![
        row(
            ErrorKind::NotRunning,
            "not running",
            Io::ConnectionAborted,
            "the event loop of the connection is not running",
        ),
        row(
            InvalidConfig::new("pollers", "must be at least 1"),
            "invalid config",
            Io::InvalidInput,
            "pollers: must be at least 1",
        ),
        row(
            "nowhere".parse::<Addr>().unwrap_err(),
            "invalid address",
            Io::InvalidInput,
            "'nowhere' is not an address; write IP:PORT, such as 127.0.0.1:8080, or unix:/path, \
             or unix:@name",
        ),
        row(
            UnixAddr::path("").unwrap_err(),
            "invalid name",
            Io::InvalidInput,
            "the name of a Unix socket is empty",
        ),
        row(
            ErrorKind::PathTaken {
                path: "/run/a".into(),
                by: TakenBy::Listener,
            },
            "path taken",
            Io::AddrInUse,
            "/run/a is taken by a listening server",
        ),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = connection_rows();
    rows.extend(size_rows());
    rows.extend(peer_rows());
    rows.extend(codec_rows());
    rows.extend(client_rows());
    rows.extend(setup_rows());
    rows
}
