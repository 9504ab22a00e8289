// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moves bytes between memory and a stream socket: `recv`, `readv`, `send` and `sendmsg`.
//!
//! All calls have non-blocking semantics (`MSG_DONTWAIT` where the call has flags, the descriptor's
//! own mode for `readv(2)`), all sends have `MSG_NOSIGNAL`. A short count is a result, not an
//! error: the socket had fewer bytes, or less space.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// The most slices that one [`send_vectored`] or [`receive_vectored`] passes to the kernel. Above
/// this the array of slices costs more to build than a second call, and it stays far below the
/// kernel's own limit (`UIO_MAXIOV`, 1024).
pub const MAX_SLICES: usize = 64;

/// Receives the socket's bytes, at most `buffer.len()`, into `buffer`. `Ok(0)` for a non-empty
/// `buffer` is the peer's end of its stream. One `recv(2)`.
///
/// # Errors
///
/// `WouldBlock` if no byte has arrived; otherwise the error that ended the connection, errno kept.
#[inline]
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry_on_intr(|| {
        Syscall::Recv.transfer(buffer.len(), |most| {
            rustix::net::recv(fd, &mut buffer[..most], RecvFlags::DONTWAIT).map(|(_, count)| count)
        })
    })
}

/// Copies the socket's bytes, at most `buffer.len()`, without consuming them. `Ok(0)` as in
/// [`receive`]. One `recv(2)` with `MSG_PEEK`.
///
/// # Errors
///
/// As [`receive`].
pub fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    retry_on_intr(|| {
        Syscall::Recv.transfer(buffer.len(), |most| {
            rustix::net::recv(fd, &mut buffer[..most], flags).map(|(_, count)| count)
        })
    })
}

/// Receives into several slices in order, at most [`MAX_SLICES`] of them. One `readv(2)`.
///
/// # Errors
///
/// As [`receive`].
pub fn receive_vectored(fd: BorrowedFd<'_>, buffer: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let count = buffer.len().min(MAX_SLICES);
    let buffer = &mut buffer[..count];
    retry_on_intr(|| Syscall::Readv.receive_slices(buffer, |buffer| rustix::io::readv(fd, buffer)))
}

/// Sends as much of `bytes` as the socket has space for, and returns how much. One `send(2)`.
///
/// # Errors
///
/// `WouldBlock` if there is no space; otherwise the error that ended the connection, errno kept
/// (`EPIPE` and `ECONNRESET` are the usual ones).
#[inline]
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| {
        Syscall::Send.transfer(bytes.len(), |most| {
            rustix::net::send(fd, &bytes[..most], flags)
        })
    })
}

/// Sends from several slices in order, at most [`MAX_SLICES`] of them. One `sendmsg(2)`.
///
/// # Errors
///
/// As [`send`].
#[inline]
pub fn send_vectored(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| {
        Syscall::Sendmsg.send_slices(slices, |slices| {
            rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
        })
    })
}

/// Returns the number of bytes in the socket's receive queue (`FIONREAD`). One system call.
///
/// # Errors
///
/// `EBADF` or `ENOTTY` for a descriptor that is no socket.
pub fn bytes_waiting(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let waiting = Syscall::Fionread.call(|| rustix::io::ioctl_fionread(fd))?;
    Ok(usize::try_from(waiting).unwrap_or(usize::MAX))
}

/// Empties the error queue of an internet socket: timestamps, completions of zero-copy sends,
/// errors that `IP_RECVERR` enables. Returns the number of messages, at most [`MAX_ERRORS`]. Other
/// sockets have no such queue, and are left alone. A `getsockopt(2)`, and a `recv(2)` with
/// `MSG_ERRQUEUE` for each.
///
/// # Errors
///
/// `EBADF` or `ENOTSOCK` for a descriptor that is no socket.
pub fn drain_error_queue(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let domain = Syscall::Getsockopt.call(|| rustix::net::sockopt::socket_domain(fd))?;
    // A Unix socket would return its stream's bytes.
    if !matches!(domain, AddressFamily::INET | AddressFamily::INET6) {
        return Ok(0);
    }
    let flags = RecvFlags::DONTWAIT | RecvFlags::ERRQUEUE;
    let mut buffer = [0];
    for count in 0..MAX_ERRORS {
        let mut receive = || rustix::net::recv(fd, &mut buffer[..], flags).map(drop);
        match retry_on_intr(|| Syscall::RecvError.call(&mut receive)) {
            Ok(()) => {}
            Err(_) => return Ok(count),
        }
    }
    Ok(MAX_ERRORS)
}

/// The most messages that one [`drain_error_queue`] takes.
pub const MAX_ERRORS: usize = 1024;
