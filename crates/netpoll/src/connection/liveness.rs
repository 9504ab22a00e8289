// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Liveness`]: whether a connection can still be used, found out without reading from it.
//!
//! What the poller has seen of the connection is asked first, and then the kernel, which may know
//! more: a FIN that has arrived a moment ago is seen here before any poller has read it.

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
    /// Open, and nothing waits to be read: what a pool may hand out.
    Alive,
    /// Open, and there is input that nobody has read. On a connection that waits in a pool that is
    /// an answer too late, or one that nobody asked for: not to be handed out.
    DataPending,
    /// The peer has ended its stream, the connection has ended, or its end was asked for. There may
    /// be input to be read all the same.
    Closed,
}

impl Connection {
    /// Whether the connection can still be used. Consumes nothing; two locks and one system call, a
    /// look at the kernel's first byte.
    ///
    /// It is the truth of a moment: a peer may be gone by the time one writes to it, and one whose
    /// machine vanished is `Alive` until [`keepalive`](crate::ConnOptions::keepalive) or
    /// [`user_timeout`](crate::ConnOptions::user_timeout) notices. That this side has
    /// [finished](crate::Writer::shutdown) its own stream does not count: it is for whoever did it to
    /// remember.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.shared.liveness(self.local.reader.buffer.len())
    }

    /// As [`liveness`](Self::liveness), as far as the poller has seen. No system call.
    pub(crate) fn liveness_seen(&self) -> Liveness {
        self.shared.liveness_seen(self.local.reader.buffer.len())
    }

    /// How many bytes were read from the connection so far; may wrap.
    pub(crate) fn consumed(&self) -> usize {
        self.local.reader.consumed()
    }

    /// Whether the connection is not [`Closed`](Liveness::Closed), as Go netpoll's `IsActive`. As
    /// much work as [`liveness`](Self::liveness).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.liveness() != Liveness::Closed
    }

    /// What TCP knows of the connection: round trips, losses, what is on its way. One system call.
    ///
    /// # Errors
    ///
    /// `Unsupported`, or `ENOPROTOOPT` by its errno, for a Unix socket.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        tcp_info(self.shared.as_fd())
    }
}

impl ConnectionHandle {
    /// As [`Connection::liveness`]; what whoever has the connection has taken and not read does
    /// not count here.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.shared()
            .map_or(Liveness::Closed, |shared| shared.liveness(0))
    }

    /// As [`Connection::is_active`].
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.liveness() != Liveness::Closed
    }
}

impl Shared {
    /// How the connection is, for somebody who has `held` bytes of it.
    fn liveness(&self, held: usize) -> Liveness {
        // The kernel first: what the poller moves to the inbox meanwhile is seen there. What it has
        // in hand just now is seen in neither.
        let peeked = transfer::peek(self.as_fd(), &mut [0]);
        match (self.liveness_seen(held), peeked) {
            (Liveness::Closed, _) | (_, Ok(0)) => Liveness::Closed,
            (_, Ok(_)) => Liveness::DataPending,
            (_, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Liveness::Closed,
            (seen, Err(_)) => seen,
        }
    }

    /// As [`liveness`](Self::liveness), as far as the poller has seen.
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
