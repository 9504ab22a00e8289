// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets: creates, binds, accepts, connects and shuts them down. Every descriptor is an
//! [`OwnedFd`], created close-on-exec and non-blocking.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;

use crate::addr::{Addr, UnixAddr};
use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

const SOCKET_FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Options of a listener that are set before it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    backlog: u16,
    reuse_port: bool,
    ipv6: Ipv6Mode,
    mode: u32,
}

impl ListenOptions {
    /// Sets how many connections the kernel may queue before they are accepted. Default: 1,024.
    #[must_use]
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets whether several listeners share the port (`SO_REUSEPORT`); the kernel spreads
    /// connections over them. Default: off.
    #[must_use]
    pub const fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Sets whether a listener on an IPv6 address also accepts IPv4; ignored for other addresses.
    /// Default: the system's setting.
    #[must_use]
    pub const fn ipv6(mut self, mode: Ipv6Mode) -> Self {
        self.ipv6 = mode;
        self
    }

    /// Sets the permissions of the path of a Unix socket from the moment it exists, less those that
    /// the umask removes; write permission is permission to connect. Ignored for other addresses.
    /// Default: 0600.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

impl Default for ListenOptions {
    /// A backlog of 1024, an unshared port, the system's IPv6 default, a path for its owner only.
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            ipv6: Ipv6Mode::SystemDefault,
            mode: 0o600,
        }
    }
}

/// Whether an IPv6 listener also accepts IPv4 (`IPV6_V6ONLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ipv6Mode {
    /// The system's setting (`net.ipv6.bindv6only`).
    SystemDefault,
    /// IPv6 only.
    V6Only,
    /// IPv6 and IPv4.
    DualStack,
}

/// Creates a listener on `addr`. Port 0 takes a free one, which [`local_addr`] returns. For an
/// internet address `SO_REUSEADDR` is set, so a restart need not wait for old connections in
/// TIME_WAIT. A path that exists already is in use, whatever file it is.
///
/// # Errors
///
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, for a path also `ENOENT` and similar ones, errno kept;
/// `InvalidInput` for [`Addr::Unnamed`].
pub fn listen(addr: impl Into<Addr>, options: ListenOptions) -> io::Result<OwnedFd> {
    let fd = bind(addr, options)?;
    listen_on(fd.as_fd(), options)?;
    Ok(fd)
}

/// Binds a socket to `addr`, the first half of [`listen`]; it accepts no connections yet. A path
/// exists from here on, and stays even if a later step fails.
///
/// # Errors
///
/// As [`listen`].
pub fn bind(addr: impl Into<Addr>, options: ListenOptions) -> io::Result<OwnedFd> {
    let addr = addr.into();
    let fd = stream_socket(addr)?;
    match addr {
        Addr::Tcp(addr) => {
            Syscall::Setsockopt.call(|| sockopt::set_socket_reuseaddr(&fd, true))?;
            if options.reuse_port {
                Syscall::Setsockopt.call(|| sockopt::set_socket_reuseport(&fd, true))?;
            }
            if addr.is_ipv6() && options.ipv6 != Ipv6Mode::SystemDefault {
                let only = options.ipv6 == Ipv6Mode::V6Only;
                Syscall::Setsockopt.call(|| SockRef::from(&fd).set_only_v6(only))?;
            }
            Syscall::Bind.call(|| rustix::net::bind(&fd, &addr))?;
        }
        Addr::Unix(name) => bind_name(&fd, name, options.mode)?,
        Addr::Unnamed => return Err(no_address()),
    }
    Ok(fd)
}

/// Starts to queue connections in the kernel, the second half of [`listen`]. One `listen(2)`.
///
/// # Errors
///
/// `EADDRINUSE` if another socket has started to listen on the port in between; `EBADF`,
/// `ENOTSOCK`.
pub fn listen_on(fd: BorrowedFd<'_>, options: ListenOptions) -> io::Result<()> {
    let backlog = i32::from(options.backlog);
    Ok(Syscall::Listen.call(|| rustix::net::listen(fd, backlog))?)
}

/// Sets the permissions before the socket has a path: there is no moment in which other users may
/// connect.
fn bind_name(fd: &OwnedFd, name: UnixAddr, mode: u32) -> io::Result<()> {
    if name.as_path().is_some() {
        let mode = Mode::from_raw_mode(mode & 0o777);
        Syscall::Fchmod.call(|| rustix::fs::fchmod(fd, mode))?;
    }
    let name = name.to_kernel()?;
    Ok(Syscall::Bind.call(|| rustix::net::bind(fd, &name))?)
}

fn no_address() -> io::Error {
    let why = "an unnamed socket can be neither listened on nor connected to";
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Creates a stream socket for the family of `addr`, neither bound nor connected.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `EAFNOSUPPORT`.
pub fn stream_socket(addr: impl Into<Addr>) -> io::Result<OwnedFd> {
    let family = match addr.into() {
        Addr::Tcp(addr) if addr.is_ipv4() => AddressFamily::INET,
        Addr::Tcp(_) => AddressFamily::INET6,
        Addr::Unix(_) | Addr::Unnamed => AddressFamily::UNIX,
    };
    let socket = || rustix::net::socket_with(family, SocketType::STREAM, SOCKET_FLAGS, None);
    Ok(Syscall::Socket.call(socket)?)
}

/// Returns whether `fd` is a stream socket that listens (`SO_TYPE`, `SO_ACCEPTCONN`).
///
/// # Errors
///
/// `ENOTSOCK` for a descriptor that is no socket.
pub fn is_listener(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = Syscall::Getsockopt.call(|| sockopt::socket_type(fd))?;
    let listens = || Syscall::Getsockopt.call(|| sockopt::socket_acceptconn(fd));
    Ok(kind == SocketType::STREAM && listens()?)
}

/// Returns the peer's address of a connected stream socket; `None` for any other socket (`SO_TYPE`,
/// `getpeername(2)`).
///
/// # Errors
///
/// `ENOTSOCK` for a descriptor that is no socket.
pub fn stream_peer_addr(fd: BorrowedFd<'_>) -> io::Result<Option<Addr>> {
    if Syscall::Getsockopt.call(|| sockopt::socket_type(fd))? != SocketType::STREAM {
        return Ok(None);
    }
    match Syscall::Getpeername.call(|| rustix::net::getpeername(fd)) {
        Ok(addr) => Ok(Some(Addr::from_kernel(addr))),
        Err(Errno::NOTCONN | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a foreign descriptor close-on-exec and non-blocking, as all descriptors of this crate are.
///
/// # Errors
///
/// `EBADF`.
pub fn adopt(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = Syscall::Fcntl.call(|| rustix::io::fcntl_getfd(fd))?;
    Syscall::Fcntl.call(|| rustix::io::fcntl_setfd(fd, flags | FdFlags::CLOEXEC))?;
    Ok(Syscall::Fcntl.call(|| rustix::io::ioctl_fionbio(fd, true))?)
}

/// Accepts one connection from a listener's queue; returns it with the peer's address. One
/// `accept4(2)` with `SOCK_CLOEXEC | SOCK_NONBLOCK`.
///
/// # Errors
///
/// `WouldBlock` if the queue is empty; `ECONNABORTED` for a connection that was aborted in it;
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` when the process or the kernel is out of descriptors or
/// memory.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Addr)> {
    let accept = || rustix::net::acceptfrom_with(listener, SOCKET_FLAGS);
    let (fd, addr) = retry_on_intr(|| Syscall::Accept.call(accept))?;
    Ok((fd, Addr::from_kernel(addr)))
}

/// Binds a TCP socket to the address that it will connect from. Port 0 is a free one. For another
/// port `SO_REUSEADDR` is set: it may connect to many peers, and a connection from it that has
/// ended a moment ago does not block it.
///
/// # Errors
///
/// `EADDRNOTAVAIL` for an address that is not this machine's, `EADDRINUSE` for a port that has a
/// listener or was taken without `SO_REUSEADDR`, `EACCES`, and `EINVAL` or `EAFNOSUPPORT` for
/// another family than the socket's.
pub fn bind_local(fd: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<()> {
    if addr.port() != 0 {
        Syscall::Setsockopt.call(|| sockopt::set_socket_reuseaddr(fd, true))?;
    }
    Ok(Syscall::Bind.call(|| rustix::net::bind(fd, &addr))?)
}

/// The state of a [`connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStatus {
    /// The connection is established.
    Connected,
    /// The kernel is connecting; the socket becomes writable when that ends, and [`take_error`]
    /// returns the result.
    InProgress,
    /// The queue of the listener, a Unix socket, is full. No connect is in progress and no event
    /// will report free space: retry later.
    QueueFull,
}

/// Starts to connect `fd` to `addr`. One `connect(2)`.
///
/// # Errors
///
/// The errors that the kernel knows at once (`ENETUNREACH`, `EADDRNOTAVAIL`; on loopback and for a
/// Unix socket also `ECONNREFUSED`, `ENOENT`, `EACCES`), errno kept; `InvalidInput` for
/// [`Addr::Unnamed`].
pub fn connect(fd: BorrowedFd<'_>, addr: impl Into<Addr>) -> io::Result<ConnectStatus> {
    let connected = match addr.into() {
        Addr::Tcp(addr) => Syscall::Connect.call(|| rustix::net::connect(fd, &addr)),
        Addr::Unix(name) => {
            let name = name.to_kernel()?;
            match Syscall::Connect.call(|| rustix::net::connect(fd, &name)) {
                // For an internet address this errno means that no port is free, which is an error.
                Err(Errno::AGAIN) => return Ok(ConnectStatus::QueueFull),
                other => other,
            }
        }
        Addr::Unnamed => return Err(no_address()),
    };
    match connected {
        Ok(()) | Err(Errno::ISCONN) => Ok(ConnectStatus::Connected),
        // connect(2): an interrupted connect continues in the kernel, and must not be started
        // again.
        Err(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY) => Ok(ConnectStatus::InProgress),
        Err(errno) => Err(errno.into()),
    }
}

/// Creates two Unix sockets that are connected to each other and have no names (`socketpair(2)`).
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let pair = || rustix::net::socketpair(family, kind, SOCKET_FLAGS, None);
    Ok(Syscall::Socketpair.call(pair)?)
}

/// Returns and clears the error that a socket holds (`SO_ERROR`).
///
/// # Errors
///
/// The error of `getsockopt(2)` itself.
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let held = Syscall::SocketError.call(|| sockopt::socket_error(fd))?;
    Ok(held.err().map(io::Error::from))
}

/// Shuts down one or both directions (`shutdown(2)`). A connection that the peer has already torn
/// down is left as it is.
///
/// # Errors
///
/// Anything but `ENOTCONN`.
pub fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    match Syscall::Shutdown.call(|| rustix::net::shutdown(fd, how)) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Resets a TCP connection at once: the peer receives an RST although other descriptors or threads
/// still hold the socket, unsent and unread data is discarded, and the socket is unconnected from
/// then on. One `connect(2)` with `AF_UNSPEC`, which `tcp(7)` calls a disconnect.
///
/// # Errors
///
/// `EINVAL` for a Unix socket, which has no reset; `EBUSY` from a kernel that does not disconnect a
/// socket on which a thread blocks. Then the connection is left as it is.
pub fn reset(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(Syscall::Disconnect.call(|| rustix::net::connect_unspec(fd))?)
}

/// Returns the local address.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn local_addr(fd: impl AsFd) -> io::Result<Addr> {
    let addr = Syscall::Getsockname.call(|| rustix::net::getsockname(fd))?;
    Ok(Addr::from_kernel(Some(addr)))
}

/// Returns the peer's address.
///
/// # Errors
///
/// `ENOTCONN`, `EBADF`, `ENOTSOCK`.
pub fn peer_addr(fd: impl AsFd) -> io::Result<Addr> {
    let addr = Syscall::Getpeername.call(|| rustix::net::getpeername(fd))?;
    Ok(Addr::from_kernel(addr))
}
