// SPDX-License-Identifier: MIT OR Apache-2.0
//! The credentials of the peer of a Unix socket (`SO_PEERCRED`).
//!
//! The kernel returns three numbers, and the first may be 0: a peer in another process namespace
//! has no process id here. rustix reads the result into a type in which a process id is never 0, so
//! this module calls `getsockopt(2)` directly.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::syscall::Syscall;

/// The credentials of the process that connected, or, for an end of `socketpair(2)`, of the process
/// that made the pair, as of that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process id; `None` if the process is in a namespace that is not visible here. The
    /// process may have exited and its id may be reused: do not base a permission on it.
    pub pid: Option<u32>,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

/// Returns the credentials of the peer of a Unix socket. One `getsockopt(2)`.
///
/// # Errors
///
/// `ENOPROTOOPT` for a socket that is not of the Unix kind; `ENOTCONN` for one that is not
/// connected; `ENOTSOCK`.
pub fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let mut found = libc::ucred {
        pid: 0,
        uid: NO_UID,
        gid: NO_UID,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    Syscall::Getsockopt.call(|| {
        // SAFETY: `fd` is open while it is borrowed; the two pointers are to locals that outlive
        // the call, and `length` bounds how much of `found` is written. Any bits are a `ucred`.
        let status = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut found).cast(),
                &raw mut length,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    })?;
    if found.uid == NO_UID {
        return Err(no_peer_error(fd));
    }
    Ok(PeerCredentials {
        pid: u32::try_from(found.pid).ok().filter(|&pid| pid != 0),
        uid: found.uid,
        gid: found.gid,
    })
}

/// The user id that the kernel reports for an unknown peer.
const NO_UID: u32 = u32::MAX;

/// Returns the error for a socket without peer credentials.
fn no_peer_error(fd: BorrowedFd<'_>) -> io::Error {
    match Syscall::Getsockname
        .call(|| rustix::net::getsockname(fd))
        .map(|addr| addr.address_family())
    {
        Ok(rustix::net::AddressFamily::UNIX) => Errno::NOTCONN.into(),
        Ok(_) => Errno::NOPROTOOPT.into(),
        Err(errno) => errno.into(),
    }
}
