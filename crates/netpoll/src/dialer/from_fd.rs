// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections of sockets that are connected already: from a service manager, another library, or
//! `socketpair(2)`.
//!
//! It is the second half of a dial: the socket gets a session on the poller that a dial would
//! choose, and whoever gave it the connection.

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
    /// Makes a connection of a socket that is connected already, as
    /// [`Connection::from_fd`], with this dialer's [`options`](Self::options).
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
        let placement = self.home()?;
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
    /// It belongs to the poller that this is called on, else to the pollers that all dialers share.
    /// [`Dialer::adopt`] does it with options of the caller's.
    ///
    /// The descriptor becomes close-on-exec and non-blocking, for all that have a duplicate of it,
    /// and a TCP socket gets the socket options of [`ConnOptions`](crate::ConnOptions). What has
    /// been read from it before is not part of the connection. A few system calls, and a hop to the
    /// poller.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] (`InvalidInput`), naming `fd`, for what is no stream socket or is not
    /// connected, as a listener, a datagram socket or a file; naming `max_frame`, as
    /// [`Dialer::dial`] does; else the kernel's. The descriptor is closed then.
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

    /// Two connections that are connected to each other, over a pair of Unix sockets without names:
    /// for tests of what works on connections, without an address or a server.
    ///
    /// # Errors
    ///
    /// `EMFILE` and the like; [`InvalidConfig`] (`InvalidInput`), naming `max_frame`, as
    /// [`Dialer::dial`].
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
