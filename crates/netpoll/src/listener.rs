// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listening sockets: the [`Listener`], its options, and the check of accepted connections.
//!
//! ```
//! use netpoll::Listener;
//! use netpoll::listener::ListenOptions;
//!
//! # fn main() -> std::io::Result<()> {
//! let options = ListenOptions::default().backlog(128);
//! let listener = Listener::bind_with("127.0.0.1:0", options)?;
//! println!("listening on {}", listener.local_addr()?);
//! # Ok(()) }
//! ```

// # Implementation
//
// `acceptor` is the source that accepts from it, and `destination` is where its connections go: to
// the handler of a loop, or to an `accept_queue`. `standalone` is a listener without a loop, `accept`
// its interface, and `incoming` its futures. `filter` is the user's check of each connection.
// `unix_path` creates and removes the path of a Unix listener.

mod accept;
pub(crate) mod accept_queue;
pub(crate) mod acceptor;
pub(crate) mod destination;
pub(crate) mod filter;
pub(crate) mod incoming;
mod standalone;
pub(crate) mod unix_path;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

#[doc(inline)]
pub use netpoll_sys::socket::{Ipv6Mode, ListenOptions};
use netpoll_sys::{socket, socket_set};

use crate::addr::{Addr, ToAddrs, UnixAddr};
use crate::error::InvalidConfig;
use crate::sync::{Mutex, OnceLock, lock};
use standalone::Standalone;

pub use filter::{Accept, ConnInfo, IncomingConnection};
pub use incoming::Incoming;
use unix_path::PathGuard;

/// A bound, listening socket. The kernel queues connections from its creation on. An event loop
/// [serves](crate::Builder::listen) them, or a program [accepts](Self::accept) them one by one.
///
/// Drop closes the socket and removes the path that the listener created in the file system. The
/// end of its loop does the same.
///
/// # Handing over
///
/// Two loops, in one process or in two, can listen on the same socket. Each has a descriptor of its
/// own: a duplicate of [`as_fd`](Self::as_fd), turned into a listener by
/// [`from_fd`](Self::from_fd). When one loop [shuts down](crate::LoopHandle::shutdown) or [stops
/// accepting](crate::LoopHandle::stop_accepting), the other continues and accepts what the kernel
/// has queued. No connection is lost.
///
/// A loop must know whether its socket is shared. A socket that was bound here and whose descriptor
/// was never lent is exclusive: its loop serves the queued connections before it closes the socket,
/// because no other process can. A socket that was taken over, or lent with `as_fd`, is shared: its
/// loop accepts no more, and a path that the listener created stays. (If no other process listens
/// after all, the kernel resets the queued connections when the socket closes.)
#[derive(Debug)]
pub struct Listener {
    /// Declared before the descriptor: the path is removed before the socket closes.
    path: Mutex<Option<PathGuard>>,
    /// Accepts without a loop. Declared before the descriptor: it ends before the socket closes.
    standalone: Standalone,
    fd: OwnedFd,
    /// The options of its siblings, for a listener of each poller.
    per_poller: Option<ListenOptions>,
    /// Set once another descriptor of the socket may exist.
    shared: OnceLock<()>,
}

impl Listener {
    /// Listens on `addr`: `host:port`, `unix:/path`, `unix:@abstract-name`, or any other
    /// [`ToAddrs`].
    ///
    /// Of several addresses, the first that can be bound is used. Port 0 selects a free port. Sets
    /// `SO_REUSEADDR` and a backlog of 1024; [`bind_with`](Self::bind_with) takes other options.
    ///
    /// A path is accessible to its owner only (0600) from its creation on. A stale path of a server
    /// that has ended is replaced if it is a socket, belongs to the same user, and refuses
    /// connections. No other file is ever removed. If several servers start on one path at once,
    /// one gets it and the others return an error: starts and ends in a directory are serialized by
    /// a lock on the directory (`flock(2)`), which is not a file and ends with its process. An
    /// abstract name has no permissions: every local user can connect to it.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; for a path, with [`ErrorKind::PathTaken`](crate::error::ErrorKind::PathTaken)
    /// that contains the reason. `AddrNotAvailable`, `PermissionDenied`, `NotFound` for a missing
    /// directory and the like, with the errno. `TimedOut` if another process locks the directory of
    /// a path for ten seconds. `InvalidInput` for an invalid address, with
    /// [`InvalidUnixName`](crate::error::InvalidUnixName) for a path that is too long.
    pub fn bind(addr: impl ToAddrs) -> io::Result<Self> {
        Self::bind_with(addr, ListenOptions::default())
    }

    /// Listens as [`bind`](Self::bind), with the given backlog, permissions and port sharing.
    ///
    /// ```
    /// use netpoll::listener::ListenOptions;
    /// use netpoll::Listener;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let options = ListenOptions::default().backlog(4096);
    /// let listener = Listener::bind_with("127.0.0.1:0", options)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_with(addr: impl ToAddrs, options: ListenOptions) -> io::Result<Self> {
        Self::bind_first(addr.to_addrs()?, options)
    }

    /// Listens as [`bind_with`](Self::bind_with), once for each poller of its loop.
    ///
    /// The kernel spreads connections over these sockets (`SO_REUSEPORT`), and each connection
    /// stays on the poller that accepted it. This saves the hand-over to another poller, which pays
    /// off for short connections. The kernel spreads by hash, without regard to load, where
    /// [`Balance`](crate::event_loop::Balance) would even it out. TCP only.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); `InvalidInput` for a Unix socket.
    pub fn bind_per_poller(addr: impl ToAddrs, options: ListenOptions) -> io::Result<Self> {
        let addrs = addr.to_addrs()?;
        if addrs.iter().any(|addr| addr.as_tcp().is_none()) {
            let expected = "must be a TCP address: pollers cannot share a Unix socket";
            return Err(InvalidConfig::new("addr", expected).into());
        }
        let options = options.reuse_port(true);
        let mut listener = Self::bind_first(addrs, options)?;
        listener.per_poller = Some(options);
        Ok(listener)
    }

    /// Listens on a path in the file system, as [`bind`](Self::bind) does for `unix:path`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind(UnixAddr::path(path)?)
    }

    /// Listens on an abstract name, as [`bind`](Self::bind) does for `unix:@name`. An abstract name
    /// has no permissions: check [`peer_credentials`](crate::Connection::peer_credentials) to
    /// restrict access.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn abstract_name(name: impl AsRef<[u8]>) -> io::Result<Self> {
        Self::bind(UnixAddr::abstract_name(name)?)
    }

    /// Takes over a descriptor that already listens, for example from a service manager. It becomes
    /// non-blocking and close-on-exec. Its path in the file system, if any, is never removed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a descriptor that is not a listening stream socket. The descriptor is
    /// closed then.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if !socket::is_listener(fd.as_fd()).unwrap_or(false) {
            let expected = "must be a listening stream socket";
            return Err(InvalidConfig::new("fd", expected).into());
        }
        socket::adopt(fd.as_fd())?;
        Ok(Self::shared(fd))
    }

    /// Returns the descriptor, still listening and non-blocking. Its path in the file system stays,
    /// and the new owner removes it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        let path = lock(&self.path).take();
        if let Some(path) = path {
            path.keep();
        }
        self.fd
    }

    /// Returns the bound address, with the actual port. One system call.
    ///
    /// # Errors
    ///
    /// The errors of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(&self.fd)
    }

    fn bind_first(addrs: Vec<Addr>, options: ListenOptions) -> io::Result<Self> {
        let mut last_error = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        for addr in addrs {
            match Self::bind_one(addr, options) {
                Ok(listener) => return Ok(listener),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    fn bind_one(addr: Addr, options: ListenOptions) -> io::Result<Self> {
        if let Some(path) = addr.as_unix().and_then(UnixAddr::as_path) {
            let (fd, path) = unix_path::listen(path, addr, options)?;
            let per_poller = None;
            return Ok(Self {
                path: Mutex::new(path),
                standalone: Standalone::default(),
                fd,
                per_poller,
                shared: OnceLock::new(),
            });
        }
        socket::listen(addr, options).map(Self::exclusive)
    }

    /// Returns the listeners for `pollers` pollers: a single one, or one for each poller, with its
    /// index.
    pub(crate) fn split_per_poller(self, pollers: usize) -> io::Result<Vec<(Option<usize>, Self)>> {
        // From now on the loop accepts.
        self.standalone.close();
        let Some(options) = self.per_poller else {
            return Ok(vec![(None, self)]);
        };
        let addr = self.local_addr()?;
        let mut listeners = vec![(Some(0), self)];
        for index in 1..pollers {
            listeners.push((Some(index), Self::bind_one(addr, options)?));
        }
        Ok(listeners)
    }

    /// A listener whose socket has no other descriptor.
    fn exclusive(fd: OwnedFd) -> Self {
        Self {
            path: Mutex::new(None),
            standalone: Standalone::default(),
            fd,
            per_poller: None,
            shared: OnceLock::new(),
        }
    }

    /// A listener whose socket may have other descriptors.
    fn shared(fd: OwnedFd) -> Self {
        let listener = Self::exclusive(fd);
        listener.shared.get_or_init(|| ());
        listener
    }

    /// The descriptor to accept from.
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns whether another descriptor of the socket may exist, so that another loop may accept
    /// from it.
    fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Removes the path, so that no new client connects. The path of a shared socket stays: it
    /// leads to the other loops.
    fn release_path(&self) {
        let path = lock(&self.path).take();
        if self.is_shared()
            && let Some(path) = path
        {
            path.keep();
        }
    }

    /// Stops listening although the acceptor's poller is blocked: releases the address and puts a
    /// duplicate of `replacement` in the place of the socket. A duplicate of the listening socket
    /// listens on.
    pub(crate) fn replace_socket(&self, replacement: BorrowedFd<'_>) -> io::Result<()> {
        self.release_path();
        socket_set::replace_fd(self.fd.as_fd(), replacement)
    }
}

impl From<TcpListener> for Listener {
    /// Takes over a listener of the standard library. It becomes non-blocking.
    fn from(listener: TcpListener) -> Self {
        // The only failure is an invalid descriptor, which the type rules out.
        let _set = listener.set_nonblocking(true).ok();
        Self::shared(listener.into())
    }
}

impl From<UnixListener> for Listener {
    /// Takes over a listener of the standard library. It becomes non-blocking. Its path is never
    /// removed.
    fn from(listener: UnixListener) -> Self {
        // As for TCP.
        let _set = listener.set_nonblocking(true).ok();
        Self::shared(listener.into())
    }
}

impl AsFd for Listener {
    /// Returns the descriptor, for example to duplicate it. From this call on, the socket counts as
    /// [shared](Self#handing-over).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.get_or_init(|| ());
        self.fd.as_fd()
    }
}
