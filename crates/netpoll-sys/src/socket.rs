// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets: made, bound, accepted, connected and ended. Every descriptor is an
//! [`OwnedFd`], close-on-exec and non-blocking from birth.

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

/// What of a listener must be settled before it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// How many connections the kernel may hold for us before they are accepted.
    pub backlog: u16,
    /// Whether several listeners share the port (`SO_REUSEPORT`), the kernel spreading
    /// connections over them.
    pub reuse_port: bool,
    /// What a listener on an IPv6 address takes besides IPv6; ignored elsewhere.
    pub ipv6: Ipv6Mode,
    /// The permissions that the path of a Unix socket has from the moment it is there, less those
    /// that the umask takes away; whoever may write may connect. Ignored elsewhere.
    pub mode: u32,
}

impl Default for ListenOptions {
    /// A backlog of 1024, a port of its own, the system's IPv6 habit, a path for its owner only.
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            ipv6: Ipv6Mode::SystemDefault,
            mode: 0o600,
        }
    }
}

/// Whether an IPv6 listener also takes IPv4 (`IPV6_V6ONLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ipv6Mode {
    /// As the system is set (`net.ipv6.bindv6only`).
    SystemDefault,
    /// IPv6 only.
    V6Only,
    /// Both.
    DualStack,
}

/// A listener on `addr`. Port 0 takes a free one; [`local_addr`] tells which. On the internet
/// `SO_REUSEADDR` is set, so a restart need not wait for old connections to be forgotten; a path
/// that is there already is in use, whatever it is.
///
/// # Errors
///
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, for a path also `ENOENT` and the like, errno kept;
/// `InvalidInput` for [`Addr::Unnamed`].
pub fn listen(addr: impl Into<Addr>, options: ListenOptions) -> io::Result<OwnedFd> {
    let fd = bind(addr, options)?;
    listen_on(fd.as_fd(), options)?;
    Ok(fd)
}

/// The first half of [`listen`]: has the address, and takes no connections yet. A path is there from
/// here on, and stays whatever comes of it.
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

/// The second half of [`listen`]: takes connections into the kernel's queue. One `listen(2)`.
///
/// # Errors
///
/// `EADDRINUSE`, if another socket came to listen on the port in between; `EBADF`, `ENOTSOCK`.
pub fn listen_on(fd: BorrowedFd<'_>, options: ListenOptions) -> io::Result<()> {
    let backlog = i32::from(options.backlog);
    Ok(Syscall::Listen.call(|| rustix::net::listen(fd, backlog))?)
}

/// The permissions are the socket's before it has a path: there is no moment in which others may
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
    let why = "a socket without a name can be neither listened on nor connected to";
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// A stream socket for the family of `addr`, neither bound nor connected.
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

/// Whether `fd` is a stream socket that listens (`SO_TYPE`, `SO_ACCEPTCONN`).
///
/// # Errors
///
/// `ENOTSOCK` for what is no socket at all.
pub fn is_listener(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = Syscall::Getsockopt.call(|| sockopt::socket_type(fd))?;
    let listens = || Syscall::Getsockopt.call(|| sockopt::socket_acceptconn(fd));
    Ok(kind == SocketType::STREAM && listens()?)
}

/// The address of the other end of a connected stream socket; `None` for a socket that is none
/// (`SO_TYPE`, `getpeername(2)`).
///
/// # Errors
///
/// `ENOTSOCK` for what is no socket at all.
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

/// Makes a descriptor that came from elsewhere as ours are: close-on-exec and non-blocking.
///
/// # Errors
///
/// `EBADF`.
pub fn adopt(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = Syscall::Fcntl.call(|| rustix::io::fcntl_getfd(fd))?;
    Syscall::Fcntl.call(|| rustix::io::fcntl_setfd(fd, flags | FdFlags::CLOEXEC))?;
    Ok(Syscall::Fcntl.call(|| rustix::io::ioctl_fionbio(fd, true))?)
}

/// Takes one connection from a listener's queue, with the peer's address. One `accept4(2)` with `SOCK_CLOEXEC | SOCK_NONBLOCK`.
///
/// # Errors
///
/// `WouldBlock` if the queue is empty; `ECONNABORTED` for a connection that died in it;
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` when something has run out.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Addr)> {
    let accept = || rustix::net::acceptfrom_with(listener, SOCKET_FLAGS);
    let (fd, addr) = retry_on_intr(|| Syscall::Accept.call(accept))?;
    Ok((fd, Addr::from_kernel(addr)))
}

/// Gives a TCP socket the address that it will connect from. Port 0 is a free one. For another port
/// `SO_REUSEADDR` is set: connections from it may be to as many peers as there are, and one that has
/// ended a moment ago is not in the way.
///
/// # Errors
///
/// `EADDRNOTAVAIL` for an address that is not this machine's, `EADDRINUSE` for a port that is
/// listened on or was taken without `SO_REUSEADDR`, `EACCES`, and `EINVAL` or `EAFNOSUPPORT` for
/// another family than the socket's.
pub fn bind_local(fd: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<()> {
    if addr.port() != 0 {
        Syscall::Setsockopt.call(|| sockopt::set_socket_reuseaddr(fd, true))?;
    }
    Ok(Syscall::Bind.call(|| rustix::net::bind(fd, &addr))?)
}

/// How a [`connect`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStatus {
    /// The connection is there.
    Connected,
    /// The kernel is at it; the socket becomes writable when it ends, and [`take_error`] tells
    /// how.
    InProgress,
    /// The queue of the listener, a Unix socket, is full. Nothing is under way and nothing will
    /// tell when there is room: it has to be tried again.
    QueueFull,
}

/// Starts to connect `fd` to `addr`. One `connect(2)`.
///
/// # Errors
///
/// What the kernel can tell at once (`ENETUNREACH`, `EADDRNOTAVAIL`; on loopback and of a Unix
/// socket also `ECONNREFUSED`, `ENOENT`, `EACCES`), errno kept; `InvalidInput` for
/// [`Addr::Unnamed`].
pub fn connect(fd: BorrowedFd<'_>, addr: impl Into<Addr>) -> io::Result<ConnectStatus> {
    let connected = match addr.into() {
        Addr::Tcp(addr) => Syscall::Connect.call(|| rustix::net::connect(fd, &addr)),
        Addr::Unix(name) => {
            let name = name.to_kernel()?;
            match Syscall::Connect.call(|| rustix::net::connect(fd, &name)) {
                // To the internet this errno says that there is no free port, which is an error.
                Err(Errno::AGAIN) => return Ok(ConnectStatus::QueueFull),
                other => other,
            }
        }
        Addr::Unnamed => return Err(no_address()),
    };
    match connected {
        Ok(()) | Err(Errno::ISCONN) => Ok(ConnectStatus::Connected),
        // connect(2): an interrupted connect goes on by itself, and must not be started again.
        Err(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY) => Ok(ConnectStatus::InProgress),
        Err(errno) => Err(errno.into()),
    }
}

/// Two sockets connected to each other, of the Unix kind and without names (`socketpair(2)`).
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let pair = || rustix::net::socketpair(family, kind, SOCKET_FLAGS, None);
    Ok(Syscall::Socketpair.call(pair)?)
}

/// Takes the error a socket holds (`SO_ERROR`), so that it holds none afterwards.
///
/// # Errors
///
/// Only if the socket cannot be asked.
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let held = Syscall::SocketError.call(|| sockopt::socket_error(fd))?;
    Ok(held.err().map(io::Error::from))
}

/// Ends one or both directions (`shutdown(2)`). A connection the peer has already torn down is
/// left as it is.
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

/// Ends a TCP connection with a reset, now: the peer is sent RST although other descriptors or threads
/// still hold the socket, what is unsent or unread is thrown away, and the socket is connected to
/// nothing from then on. One `connect(2)` with `AF_UNSPEC`, which `tcp(7)` calls a disconnect.
///
/// # Errors
///
/// `EINVAL` for a Unix socket, which has no reset; `EBUSY` from a kernel that does not disconnect a
/// socket on which a thread blocks. The connection is left as it is then.
pub fn reset(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(Syscall::Disconnect.call(|| rustix::net::connect_unspec(fd))?)
}

/// The address this end has.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn local_addr(fd: impl AsFd) -> io::Result<Addr> {
    let addr = Syscall::Getsockname.call(|| rustix::net::getsockname(fd))?;
    Ok(Addr::from_kernel(Some(addr)))
}

/// The address the other end has.
///
/// # Errors
///
/// `ENOTCONN`, `EBADF`, `ENOTSOCK`.
pub fn peer_addr(fd: impl AsFd) -> io::Result<Addr> {
    let addr = Syscall::Getpeername.call(|| rustix::net::getpeername(fd))?;
    Ok(Addr::from_kernel(addr))
}
