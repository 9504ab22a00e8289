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
pub(crate) type Filter = Arc<dyn Fn(&ConnInfo<'_>) -> Accept + Send + Sync>;

/// The decision about an accepted connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each accept, taken apart at once: a box would be its only allocation"
)]
pub enum Accept {
    /// Serves the connection with these options; [`ConnInfo::options`] returns the loop's, to clone
    /// or change. Invalid options reject the connection, and so does a `max_frame` that exceeds the
    /// loop's [`Budget`](crate::Budget).
    Accept(ConnOptions),
    /// Closes the connection at once.
    Reject,
}

/// An accepted connection that is not registered yet.
#[derive(Clone, Copy)]
pub struct ConnInfo<'a> {
    fd: BorrowedFd<'a>,
    peer: Addr,
    options: &'a ConnOptions,
}

impl<'a> ConnInfo<'a> {
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

    /// Returns the options that the loop has for its connections.
    #[must_use]
    pub fn options(&self) -> &ConnOptions {
        self.options
    }
}

impl AsFd for ConnInfo<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

impl fmt::Debug for ConnInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnInfo")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
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
