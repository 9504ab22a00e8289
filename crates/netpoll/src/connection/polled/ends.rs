// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ends of a connection as a socket has them.
//!
//! | what happened | `Reader`, `Writer` | a poll function |
//! |---|---|---|
//! | the peer's FIN | `UnexpectedEof` | end of the stream |
//! | [`Timeouts::read`](crate::options::Timeouts::read) | `TimedOut`, may be called again | the same |
//! | idle, no first byte, `max_age`, a drain | `Closed` with the reason | end of the stream: the peer reads a FIN, too |
//! | reset, `EPIPE`, `ETIMEDOUT` | the errno | the errno |
//! | a local close while a task reads | `ConnectionAborted` | `ConnectionAborted` |
//! | a write after the shutdown | `WriteAfterShutdown` | the same, which is a `BrokenPipe` |
//! | a write after the end | the reason | the errno, else `BrokenPipe` with the reason |
//!
//! What came before an end is read first, in both columns.

use std::io;

use crate::connection::reader::is_unexpected_eof;
use crate::error::{CloseReason, ErrorKind, Timeout};

/// Returns `Ok` if a read failed because its stream ended in order.
pub(super) fn end_of_stream(error: io::Error) -> io::Result<()> {
    if is_unexpected_eof(&error) || reason(&error).is_some_and(is_orderly) {
        return Ok(());
    }
    Err(error)
}

/// Returns `Ok` if a wait for output that was all sent failed because the connection ended in
/// order.
pub(super) fn sent_before_end(error: io::Error) -> io::Result<()> {
    match reason(&error) {
        Some(CloseReason::Local) => Ok(()),
        Some(reason) if is_orderly(reason) => Ok(()),
        _ => Err(broken_pipe(error)),
    }
}

/// Returns the error of a write on a connection that failed with `error`. A write timeout stays
/// one; any other end without an errno is a broken pipe.
pub(super) fn broken_pipe(error: io::Error) -> io::Error {
    match reason(&error) {
        None | Some(CloseReason::Timeout(Timeout::Write)) => error,
        Some(reason) => {
            let reason = reason.clone();
            io::Error::new(io::ErrorKind::BrokenPipe, ErrorKind::Closed { reason })
        }
    }
}

fn reason(error: &io::Error) -> Option<&CloseReason> {
    match ErrorKind::payload(error)? {
        ErrorKind::Closed { reason } => Some(reason),
        _ => None,
    }
}

/// Returns whether both sides of a connection that ended for `reason` saw an end of the stream.
fn is_orderly(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::PeerFin | CloseReason::Shutdown => true,
        CloseReason::Timeout(timeout) => {
            matches!(
                timeout,
                Timeout::FirstByte | Timeout::Idle | Timeout::MaxAge
            )
        }
        CloseReason::Local
        | CloseReason::Broken(_)
        | CloseReason::Handler(_)
        | CloseReason::HandlerPanic
        | CloseReason::PollerFailed
        | CloseReason::Limit(_)
        | CloseReason::Forgotten => false,
    }
}
