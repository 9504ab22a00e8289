// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections from sockets that are connected already: from a service manager, another library, or
//! `socketpair(2)`.
//!
//! This is the second half of a dial: the socket gets an engine on the poller that a dial would
//! choose, and the caller gets the connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use netpoll_sys::socket;

use super::Dialer;
use super::attempt::{DialFuture, dial_channel};
use crate::connection::Connection;
use crate::connection::service::unserved_engine;
use crate::connection::shared::Shared;
use crate::error::InvalidConfig;
use crate::poll::source::{RegisterContext, SourceFactory};
use crate::sync::Arc;

impl Dialer {
    /// Makes a connection of a connected socket, as [`Connection::from_fd`] does, with this
    /// dialer's [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// As [`Connection::from_fd`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the descriptor is closed.
    pub async fn adopt(&self, fd: OwnedFd) -> io::Result<Connection> {
        let deadline = self.checked_deadline()?;
        self.wait_for_pollers(deadline).await?;
        self.start_from_fd(fd)?.await
    }

    fn start_from_fd(&self, fd: OwnedFd) -> io::Result<DialFuture> {
        let Some(peer) = socket::stream_peer_addr(fd.as_fd()).unwrap_or(None) else {
            let expected = "must be a stream socket that is connected";
            return Err(InvalidConfig::new("fd", expected).into());
        };
        socket::adopt(fd.as_fd())?;
        if peer.as_tcp().is_some() {
            self.set_options(fd.as_fd())?;
        }
        let placement = self.select_placement()?;
        let load_guard = placement.load_guard();
        let (dial, sender) = dial_channel();
        let options = Arc::clone(&self.options);
        let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
            let shared = Arc::new(Shared::new(
                fd,
                peer,
                registration.notifier,
                options,
                load_guard,
            ));
            sender.send(Ok(Connection::new(Arc::clone(&shared))));
            unserved_engine(shared)
        });
        placement.register(factory);
        Ok(dial)
    }
}

impl Connection {
    /// Makes a connection of a connected stream socket of any origin: TCP, Unix, `socketpair(2)`.
    /// The connection belongs to the poller of the calling thread, or else to the pollers that all
    /// dialers share. [`Dialer::adopt`] does the same with other options.
    ///
    /// The descriptor becomes close-on-exec and non-blocking. Non-blocking mode also applies to all
    /// duplicates of the descriptor. A TCP socket gets the socket options of
    /// [`ConnOptions`](crate::options::ConnOptions). Bytes that were read from the socket before
    /// are not part of the connection. Costs a few system calls and one hop to the poller.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) (`InvalidInput`),
    /// naming `fd`, for a descriptor that is no connected stream socket (a listener, a datagram
    /// socket, a file); naming `max_frame`, as [`Dialer::dial`] does; otherwise the kernel's error.
    /// On an error the descriptor is closed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the descriptor is closed.
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// let stream = std::net::TcpStream::connect("127.0.0.1:8080")?;
    /// let mut conn = netpoll::Connection::from_fd(stream.into()).await?;
    /// conn.writer().put_str("hello\n");
    /// # Ok(()) }
    /// ```
    pub async fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Dialer::new().adopt(fd).await
    }

    /// Returns two connections that are connected to each other, over a pair of unnamed Unix
    /// sockets. Meant for tests of code that works on connections: they need no address and no
    /// server.
    ///
    /// # Errors
    ///
    /// The kernel's error, `EMFILE` for example;
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) (`InvalidInput`),
    /// naming `max_frame`, as [`Dialer::dial`] does.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, both are closed.
    ///
    /// ```
    /// use netpoll::Connection;
    ///
    /// async fn greet(conn: &mut Connection) -> std::io::Result<()> {
    ///     conn.writer().put_str("hello\n");
    ///     conn.writer().flush().await
    /// }
    ///
    /// # async fn test() -> std::io::Result<()> {
    /// let (mut ours, mut theirs) = Connection::pair().await?;
    /// greet(&mut ours).await?;
    /// assert_eq!(theirs.reader().until(b'\n', 64).await?, b"hello\n");
    /// # Ok(()) }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test()).unwrap();
    /// ```
    pub async fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        Ok((Self::from_fd(one).await?, Self::from_fd(other).await?))
    }
}
