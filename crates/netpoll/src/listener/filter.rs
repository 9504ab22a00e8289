// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked of user code before a connection is registered: whether it is let in at all, and
//! within which bounds.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netpoll_sys::credentials::peer_credentials;
use netpoll_sys::{PeerCredentials, options, socket};

use crate::addr::Addr;
use crate::options::ConnOptions;
use crate::sync::Arc;

/// Decides over a connection that has come.
pub(crate) type Filter = Arc<dyn Fn(&ConnInfo<'_>) -> Accept + Send + Sync>;

/// What becomes of a connection that has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each accept, taken apart at once: a box would be its only allocation"
)]
pub enum Accept {
    /// It is served, within these bounds; [`ConnInfo::options`] has the loop's, to clone or change.
    /// Bounds that cannot work are a refusal, and so is a largest frame that the loop's
    /// [`Budget`](crate::Budget) does not hold.
    Take(ConnOptions),
    /// It is closed at once.
    Refuse,
}

/// A connection that has come and is not registered yet.
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

    /// The address of the other end, as [`Connection::peer_addr`](crate::Connection::peer_addr) has
    /// it. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.peer
    }

    /// The address of this end. One system call.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` fails with.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.fd)
    }

    /// The process at the other end of a Unix socket. One system call.
    ///
    /// # Errors
    ///
    /// As [`Connection::peer_credentials`](crate::Connection::peer_credentials).
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.fd)
    }

    /// The bounds that the loop has for its connections.
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

/// Sets on a socket what `wanted` has, where it is of TCP. Others have none of it.
pub(super) fn set_tcp_options(fd: BorrowedFd<'_>, wanted: &ConnOptions) {
    let _nodelay = options::set_nodelay(fd, wanted.nodelay).ok();
    if let Some(keepalive) = wanted.keepalive {
        let _keepalive = options::set_keepalive(fd, keepalive).ok();
    }
    let _timeout = options::set_user_timeout(fd, wanted.socket_user_timeout()).ok();
}
