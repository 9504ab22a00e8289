// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Liveness`]: whether a connection can still be used, found out without reading from it.
//!
//! The check combines the state that the poller has seen with a peek at the kernel, which may know
//! more: a FIN that arrived a moment ago is seen here before any poller has read it.

use std::io;
use std::os::fd::AsFd;

use netpoll_sys::tcp_info::{TcpInfo, tcp_info};
use netpoll_sys::transfer;

use super::Connection;
use super::handle::ConnectionHandle;
use super::shared::Shared;
use crate::sync::lock;

/// Whether a connection can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Open, and nothing waits to be read: a pool may hand it out.
    Alive,
    /// Open, with unread input. On a connection that waits in a pool, that is a reply that came too
    /// late or was not requested: a pool must not hand it out.
    DataPending,
    /// The peer has closed its direction, the connection has ended, or a close was requested.
    /// Unread input may remain.
    Closed,
}

impl Connection {
    /// Returns whether the connection can still be used. Consumes nothing. Costs two locks and one
    /// system call, which peeks at one byte.
    ///
    /// The result may be outdated at once: the peer may be gone by the next write. A peer whose
    /// machine vanished is `Alive` until [`keepalive`](crate::options::ConnOptions::keepalive) or
    /// [`user_timeout`](crate::options::ConnOptions::user_timeout) detects it. A
    /// [shutdown](crate::Writer::shutdown) of this side's own output does not count: the caller has
    /// to remember it.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.shared.liveness(self.local.reader.buffer.len())
    }

    /// Returns the [`liveness`](Self::liveness) that the poller has seen. No system call.
    pub(crate) fn liveness_seen(&self) -> Liveness {
        self.shared.liveness_seen(self.local.reader.buffer.len())
    }

    /// Returns how many bytes were read from the connection so far. May wrap.
    pub(crate) fn consumed(&self) -> usize {
        self.local.reader.consumed()
    }

    /// Returns whether the connection is not [`Closed`](Liveness::Closed), as Go netpoll's
    /// `IsActive` does. Costs as much as [`liveness`](Self::liveness).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.liveness() != Liveness::Closed
    }

    /// Returns TCP's statistics of the connection: round trips, losses, bytes in flight. One system
    /// call.
    ///
    /// # Errors
    ///
    /// `Unsupported`, or `ENOPROTOOPT` by its errno, for a Unix socket.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        tcp_info(self.shared.as_fd())
    }
}

impl ConnectionHandle {
    /// Returns the liveness as [`Connection::liveness`] does. Bytes that the owner has taken and
    /// not read do not count here.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.shared()
            .map_or(Liveness::Closed, |shared| shared.liveness(0))
    }

    /// Returns whether the connection is not [`Closed`](Liveness::Closed), as
    /// [`Connection::is_active`] does.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.liveness() != Liveness::Closed
    }
}

impl Shared {
    /// Returns the liveness for a caller that holds `held` unread bytes.
    fn liveness(&self, held: usize) -> Liveness {
        // The kernel first: bytes that the poller moves to the input buffer meanwhile are then seen
        // there. Bytes that the poller is just handling are seen in neither.
        let peeked = transfer::peek(self.as_fd(), &mut [0]);
        match (self.liveness_seen(held), peeked) {
            (Liveness::Closed, _) | (_, Ok(0)) => Liveness::Closed,
            (_, Ok(_)) => Liveness::DataPending,
            (_, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Liveness::Closed,
            (seen, Err(_)) => seen,
        }
    }

    /// Returns the [`liveness`](Self::liveness) that the poller has seen.
    fn liveness_seen(&self, held: usize) -> Liveness {
        if self.close_request().ends_connection()
            || lock(&self.output_buffer).close_reason().is_some()
        {
            return Liveness::Closed;
        }
        let (over, waiting) = match self.input_buffer_if_any() {
            Some(input_buffer) => (input_buffer.end.is_some(), input_buffer.buffer.len()),
            None => (false, 0),
        };
        if over {
            Liveness::Closed
        } else if held + waiting > 0 {
            Liveness::DataPending
        } else {
            Liveness::Alive
        }
    }
}
