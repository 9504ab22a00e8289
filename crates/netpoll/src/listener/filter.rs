// SPDX-License-Identifier: MIT OR Apache-2.0
//! The check of user code before a connection is registered: whether it is served, and with which
//! options.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netpoll_sys::credentials::peer_credentials;
use netpoll_sys::{PeerCredentials, options, socket};

use crate::addr::Addr;
use crate::options::ConnOptions;
use crate::sync::Arc;

/// Decides about an accepted connection.
pub(crate) type Filter = Arc<dyn Fn(&IncomingConnection<'_>) -> Accept + Send + Sync>;

/// The decision about an accepted connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each accept, taken apart at once: a box would be its only allocation"
)]
pub enum Accept {
    /// Serves the connection with these options; [`IncomingConnection::options`] returns those of the
    /// loop or listener, to clone or change. Invalid options reject the connection, and so does a
    /// `max_frame` that exceeds the loop's [`Budget`](crate::options::Budget).
    Accept(ConnOptions),
    /// Closes the connection at once.
    Reject,
}

/// An accepted connection that is not registered yet.
#[derive(Clone, Copy)]
pub struct IncomingConnection<'a> {
    fd: BorrowedFd<'a>,
    peer: Addr,
    options: &'a ConnOptions,
}

impl<'a> IncomingConnection<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, peer: Addr, options: &'a ConnOptions) -> Self {
        Self { fd, peer, options }
    }

    /// Returns the address of the peer, as [`Connection::peer_addr`](crate::Connection::peer_addr)
    /// does. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.peer
    }

    /// Returns the local address. One system call.
    ///
    /// # Errors
    ///
    /// The errors of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.fd)
    }

    /// Returns the credentials of the peer process of a Unix socket. One system call.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::peer_credentials`](crate::Connection::peer_credentials).
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.fd)
    }

    /// Returns the options that the loop or the listener has for its connections.
    #[must_use]
    pub fn options(&self) -> &ConnOptions {
        self.options
    }
}

impl AsFd for IncomingConnection<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

impl fmt::Debug for IncomingConnection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingConnection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The facts about a connection that [`Listener::accept`](crate::Listener::accept) returned.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    peer: Addr,
    local: Addr,
    options: Arc<ConnOptions>,
}

impl ConnInfo {
    /// Collects the facts about the socket `fd`. One system call.
    pub(super) fn new(fd: BorrowedFd<'_>, peer: Addr, options: &Arc<ConnOptions>) -> Self {
        Self {
            peer,
            // It fails only for lack of kernel memory.
            local: socket::local_addr(fd).unwrap_or(Addr::Unnamed),
            options: Arc::clone(options),
        }
    }

    /// Returns the address of the peer, as [`Connection::peer_addr`](crate::Connection::peer_addr)
    /// does. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.peer
    }

    /// Returns the local address that the peer connected to, also for a listener on an unspecified
    /// address. No system call.
    #[must_use]
    pub fn local_addr(&self) -> Addr {
        self.local
    }

    /// Returns the options of the connection: those of the listener, or those that its
    /// [`on_accept`](crate::Listener::on_accept) returned.
    #[must_use]
    pub fn options(&self) -> &ConnOptions {
        &self.options
    }
}

/// Sets the TCP options of a socket. Does nothing on other sockets.
pub(super) fn set_tcp_options(fd: BorrowedFd<'_>, wanted: &ConnOptions) {
    let _nodelay = options::set_nodelay(fd, wanted.nodelay).ok();
    if let Some(keepalive) = wanted.keepalive {
        let _keepalive = options::set_keepalive(fd, keepalive).ok();
    }
    let _timeout = options::set_user_timeout(fd, wanted.socket_user_timeout()).ok();
}
