// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Listener`]: a socket that listens, of either kind, made here or elsewhere.
//!
//! [`acceptor`] is the source that takes connections from it, [`filter`] what user code says to
//! each, and [`unix_path`] the care that a path in the file system needs.

pub(crate) mod acceptor;
pub(crate) mod filter;
pub(crate) mod unix_path;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use netpoll_sys::socket::ListenOptions;
use netpoll_sys::{socket, socket_set};

use crate::addr::{Addr, ToAddrs, UnixAddr};
use crate::error::InvalidConfig;
use crate::sync::{Mutex, OnceLock, lock};
use unix_path::PathGuard;

/// A socket that listens. Bound, and taking connections into the kernel's queue, from its making;
/// they are served once an event loop has it.
///
/// Dropped, or at the end of its loop, it stops to listen, and a path that it has made in the file
/// system is removed.
///
/// # Handing over
///
/// A socket may be listened on by two loops, in one process or in two, each with a descriptor of its
/// own: a duplicate of [`as_fd`](Self::as_fd), made into a listener by [`from_fd`](Self::from_fd). When
/// one of them [shuts down](crate::LoopHandle::shutdown), or
/// [stops accepting](crate::LoopHandle::stop_accepting), the other goes on, and gets what the kernel has
/// queued: no connection is lost. For that a loop has to know that the socket is not its alone. It takes
/// it for its own if it was bound here and its descriptor was never lent; then it serves what is queued
/// before it closes the socket, since nobody else would. One that was taken over, or of which `as_fd` was
/// asked, it takes for shared: it accepts no more, and a path that it has made stays. (If that is an
/// error, what was queued is reset with the socket.)
#[derive(Debug)]
pub struct Listener {
    /// Before the descriptor: nobody finds the way in once nobody is behind it.
    path: Mutex<Option<PathGuard>>,
    fd: OwnedFd,
    /// How its siblings are made, if each poller is to have one.
    per_poller: Option<ListenOptions>,
    /// Whether another descriptor of the socket may be somewhere.
    shared: OnceLock<()>,
}

impl Listener {
    /// Listens on `addr`: `host:port`, `unix:/path`, `unix:@abstract-name`, or anything else that
    /// is [`ToAddrs`]; of several the first that can be bound is taken. Port 0 takes a free port.
    /// `SO_REUSEADDR`, a backlog of 1024; [`bind_with`](Self::bind_with) has the choice.
    ///
    /// A path is for its owner only (0600) from the moment it is there. One that a server left
    /// behind which is no more is replaced, if it is a socket, is ours, and refuses to be
    /// connected to; nothing else is ever removed. Of servers that start at once on one path one has
    /// it, and the others find it taken: starts and ends in a folder are made one after the other, by
    /// a lock on the folder (`flock(2)`) that is no file and ends with its process. An abstract name has no permissions: everybody
    /// on the machine may connect to it.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, for a path with [`PathTaken`](crate::PathTaken) that says by what;
    /// `AddrNotAvailable`, `PermissionDenied`, `NotFound` for a missing folder and the like, errno
    /// kept; `TimedOut` if another process locks the folder of a path for ten seconds; `InvalidInput`
    /// for what is no address, with [`InvalidUnixName`](crate::InvalidUnixName) for a path that is too long.
    pub fn bind(addr: impl ToAddrs) -> io::Result<Self> {
        Self::bind_with(addr, ListenOptions::default())
    }

    /// As [`bind`](Self::bind), with a backlog, permissions and sharing of the port as told.
    ///
    /// ```
    /// use netpoll::{ListenOptions, Listener};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut options = ListenOptions::default();
    /// options.backlog = 4096;
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

    /// As [`bind_with`](Self::bind_with), and once for each poller of the loop that gets it: the
    /// kernel spreads connections over them (`SO_REUSEPORT`), and each stays on the poller that
    /// accepted it. That saves the hand-over, which pays for connections that are short; the kernel
    /// spreads by chance, where [`Balance`](crate::Balance) would even out. TCP only.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); `InvalidInput` for a Unix socket.
    pub fn bind_per_poller(addr: impl ToAddrs, mut options: ListenOptions) -> io::Result<Self> {
        let addrs = addr.to_addrs()?;
        if addrs.iter().any(|addr| addr.as_tcp().is_none()) {
            let expected = "only a port of the internet can be shared by pollers";
            return Err(InvalidConfig::new("addr", expected).into());
        }
        options.reuse_port = true;
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

    /// Listens on an abstract name, as [`bind`](Self::bind) does for `unix:@name`. Whoever is to
    /// be let in has to be told by [`peer_credentials`](crate::Connection::peer_credentials): an
    /// abstract name has no permissions.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn abstract_name(name: impl AsRef<[u8]>) -> io::Result<Self> {
        Self::bind(UnixAddr::abstract_name(name)?)
    }

    /// Takes over a descriptor that listens already, as a service manager hands them out. It
    /// becomes non-blocking and close-on-exec; a path it has in the file system is not ours, and
    /// stays.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is not a stream socket that listens. The descriptor is closed then.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if !socket::is_listener(fd.as_fd()).unwrap_or(false) {
            let expected = "must be a stream socket that listens";
            return Err(InvalidConfig::new("fd", expected).into());
        }
        socket::adopt(fd.as_fd())?;
        Ok(Self::shared(fd))
    }

    /// Gives the descriptor away, still listening and non-blocking. A path it has in the file
    /// system stays, and is the new owner's to remove.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        let path = lock(&self.path).take();
        if let Some(path) = path {
            path.keep();
        }
        self.fd
    }

    /// The address it is bound to, with the port that was free. One system call.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` fails with.
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
                fd,
                per_poller,
                shared: OnceLock::new(),
            });
        }
        socket::listen(addr, options).map(Self::exclusive)
    }

    /// The listeners that `pollers` pollers get of it: one, or one for each with its poller's
    /// index.
    pub(crate) fn split_per_poller(self, pollers: usize) -> io::Result<Vec<(Option<usize>, Self)>> {
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

    /// Of a socket that nobody else has.
    fn exclusive(fd: OwnedFd) -> Self {
        Self {
            path: Mutex::new(None),
            fd,
            per_poller: None,
            shared: OnceLock::new(),
        }
    }

    /// Of a socket that others may have, too.
    fn shared(fd: OwnedFd) -> Self {
        let listener = Self::exclusive(fd);
        listener.shared.get_or_init(|| ());
        listener
    }

    /// What is accepted from.
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether another descriptor of the socket may be somewhere, so that another may accept from it.
    fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Nobody finds it any more who has not connected yet, if it has a path of its own. One that is
    /// shared leads to the others.
    fn release_path(&self) {
        let path = lock(&self.path).take();
        if self.is_shared()
            && let Some(path) = path
        {
            path.keep();
        }
    }

    /// Stops to listen although its acceptor is held up: frees its address, and leaves `by` in the
    /// place of its socket. A duplicate of that listens on.
    pub(crate) fn replace_socket(&self, replacement: BorrowedFd<'_>) -> io::Result<()> {
        self.release_path();
        socket_set::replace_fd(self.fd.as_fd(), replacement)
    }
}

impl From<TcpListener> for Listener {
    /// Takes over a listener of the standard library's. Its accepts become non-blocking.
    fn from(listener: TcpListener) -> Self {
        // The one failure is a descriptor that is none, which the type rules out.
        let _set = listener.set_nonblocking(true).ok();
        Self::shared(listener.into())
    }
}

impl From<UnixListener> for Listener {
    /// Takes over a listener of the standard library's. Its accepts become non-blocking; its path
    /// is not ours, and stays.
    fn from(listener: UnixListener) -> Self {
        // As for TCP.
        let _set = listener.set_nonblocking(true).ok();
        Self::shared(listener.into())
    }
}

impl AsFd for Listener {
    /// The descriptor, of which a duplicate can be made: from here on the socket counts as
    /// [shared](Self#handing-over).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.get_or_init(|| ());
        self.fd.as_fd()
    }
}
