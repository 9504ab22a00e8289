// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets: made, bound, accepted, connected and ended. Every descriptor is an
//! [`OwnedFd`], close-on-exec and non-blocking from birth.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use socket2::SockRef;

use crate::retry::uninterrupted;

const AT_BIRTH: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// What of a listener must be settled before it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// How many connections the kernel may hold for us before they are accepted.
    pub backlog: u16,
    /// Whether several listeners share the port (`SO_REUSEPORT`), the kernel spreading
    /// connections over them.
    pub reuse_port: bool,
    /// What a listener on an IPv6 address takes besides IPv6; ignored for IPv4.
    pub family: Ipv6Listen,
}

impl Default for ListenOptions {
    /// A backlog of 1024, a port of its own, the system's IPv6 habit.
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            family: Ipv6Listen::AsSystem,
        }
    }
}

/// Whether an IPv6 listener also takes IPv4 (`IPV6_V6ONLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ipv6Listen {
    /// As the system is set (`net.ipv6.bindv6only`).
    AsSystem,
    /// IPv6 only.
    Only,
    /// Both.
    Dual,
}

/// A TCP listener on `addr`. Port 0 takes a free one; [`local_addr`] tells which.
/// `SO_REUSEADDR` is set, so a restart need not wait for old connections to be forgotten.
///
/// # Errors
///
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` and the like, errno kept.
pub fn listen(addr: SocketAddr, options: ListenOptions) -> io::Result<OwnedFd> {
    let fd = stream_socket(addr)?;
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    if options.reuse_port {
        rustix::net::sockopt::set_socket_reuseport(&fd, true)?;
    }
    match options.family {
        Ipv6Listen::Only if addr.is_ipv6() => SockRef::from(&fd).set_only_v6(true)?,
        Ipv6Listen::Dual if addr.is_ipv6() => SockRef::from(&fd).set_only_v6(false)?,
        _ => {}
    }
    rustix::net::bind(&fd, &addr)?;
    rustix::net::listen(&fd, i32::from(options.backlog))?;
    Ok(fd)
}

/// A stream socket for the family of `addr`, neither bound nor connected.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `EAFNOSUPPORT`.
pub fn stream_socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        AT_BIRTH,
        None,
    )?)
}

/// Takes one connection from a listener's queue, with the peer's address where it has one of the
/// internet kind. One `accept4(2)` with `SOCK_CLOEXEC | SOCK_NONBLOCK`.
///
/// # Errors
///
/// `WouldBlock` if the queue is empty; `ECONNABORTED` for a connection that died in it;
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` when something has run out.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (fd, addr) = uninterrupted(|| rustix::net::acceptfrom_with(listener, AT_BIRTH))?;
    Ok((fd, addr.and_then(internet)))
}

/// How a [`connect`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connect {
    /// The connection is there.
    Done,
    /// The kernel is at it; the socket becomes writable when it ends, and [`take_error`] tells
    /// how.
    UnderWay,
}

/// Starts to connect `fd` to `addr`. One `connect(2)`.
///
/// # Errors
///
/// What the kernel can tell at once (`ENETUNREACH`, `EADDRNOTAVAIL`; on loopback also
/// `ECONNREFUSED`), errno kept.
pub fn connect(fd: BorrowedFd<'_>, addr: SocketAddr) -> io::Result<Connect> {
    match rustix::net::connect(fd, &addr) {
        Ok(()) | Err(Errno::ISCONN) => Ok(Connect::Done),
        // connect(2): an interrupted connect goes on by itself, and must not be started again.
        Err(Errno::INPROGRESS | Errno::INTR | Errno::ALREADY) => Ok(Connect::UnderWay),
        Err(errno) => Err(errno.into()),
    }
}

/// Two sockets connected to each other, of the Unix kind and without names (`socketpair(2)`).
///
/// # Errors
///
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        AT_BIRTH,
        None,
    )?)
}

/// Takes the error a socket holds (`SO_ERROR`), so that it holds none afterwards.
///
/// # Errors
///
/// Only if the socket cannot be asked.
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    Ok(rustix::net::sockopt::socket_error(fd)?
        .err()
        .map(io::Error::from))
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
    match rustix::net::shutdown(fd, how) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The address this end has, `None` if it is not of the internet kind.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn local_addr(fd: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(internet(rustix::net::getsockname(fd)?))
}

/// The address the other end has, `None` if it is not of the internet kind.
///
/// # Errors
///
/// `ENOTCONN`, `EBADF`, `ENOTSOCK`.
pub fn peer_addr(fd: impl AsFd) -> io::Result<Option<SocketAddr>> {
    Ok(rustix::net::getpeername(fd)?.and_then(internet))
}

fn internet(addr: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(addr).ok()
}
