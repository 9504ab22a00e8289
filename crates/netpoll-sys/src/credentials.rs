// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is at the other end of a Unix socket (`SO_PEERCRED`).
//!
//! The kernel's answer is three numbers, and the first may be 0: a peer in a process namespace
//! that is not ours has no process id here. rustix reads the answer into a type in which a process
//! id is never 0, so this asks by itself.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::syscall::Syscall;

/// The process that connected, or of an end of `socketpair(2)` the one that made the pair, as it
/// was at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The process; `None` if it is of a namespace that is not visible here. It may have ended,
    /// and its number may be another's by now: nothing to decide a permission by.
    pub pid: Option<u32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// Asks for the credentials of the peer of a Unix socket. One `getsockopt(2)`.
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
        // SAFETY: `fd` is open while it is borrowed; the two pointers are to locals that live over
        // the call, and `length` says how much of `found` may be written. Any bits are a `ucred`.
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

/// What the kernel says of the user of a peer it knows nothing of.
const NO_UID: u32 = u32::MAX;

/// Why there is no peer.
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
