// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls of this crate, by name.
//!
//! Every system call of the crate on a descriptor is made through `Syscall::call` or one of its
//! variants, which name the call. In a normal build they make the call, and the name is optimised
//! out. Built with `--cfg netpoll_faults` they query the table of `faults` first, so that a test
//! can inject any result of any call.
//!
//! They run inside the loop of [`retry_on_intr`](crate::retry::retry_on_intr), not around it: the
//! same code handles an injected `EINTR` and one of a signal.

use std::io::{IoSlice, IoSliceMut};

use rustix::event::epoll::Event;
use rustix::io::Errno;

/// One kind of system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Syscall {
    /// `accept4(2)`.
    Accept,
    /// `bind(2)`.
    Bind,
    /// `connect(2)`.
    Connect,
    /// `connect(2)` with `AF_UNSPEC`, which resets a TCP connection.
    Disconnect,
    /// `dup3(2)`.
    Dup,
    /// `epoll_ctl(2)` with `EPOLL_CTL_ADD`.
    EpollAdd,
    /// `epoll_create1(2)`.
    EpollCreate,
    /// `epoll_ctl(2)` with `EPOLL_CTL_DEL`.
    EpollDelete,
    /// `epoll_ctl(2)` with `EPOLL_CTL_MOD`.
    EpollModify,
    /// `epoll_pwait2(2)` or its substitute.
    EpollWait,
    /// `eventfd2(2)`.
    EventFdCreate,
    /// `read(2)` of an eventfd.
    EventFdRead,
    /// `write(2)` to an eventfd.
    EventFdWrite,
    /// `fchmod(2)`, the permissions of a path that a socket will have.
    Fchmod,
    /// `fcntl(2)`, and `ioctl(2)` with `FIONBIO`: the flags of a foreign descriptor.
    Fcntl,
    /// `flock(2)` of a folder.
    Flock,
    /// `ioctl(2)` with `FIONREAD`.
    Fionread,
    /// `getpeername(2)`.
    Getpeername,
    /// `getsockname(2)`.
    Getsockname,
    /// `getsockopt(2)`, except `SO_ERROR`.
    Getsockopt,
    /// `listen(2)`.
    Listen,
    /// `openat(2)` of a folder to lock.
    OpenDir,
    /// `readv(2)`.
    Readv,
    /// `recv(2)`.
    Recv,
    /// `recv(2)` with `MSG_ERRQUEUE`.
    RecvError,
    /// `send(2)`.
    Send,
    /// `sendmsg(2)`.
    Sendmsg,
    /// `setsockopt(2)`, counted once for each function of this crate that sets options.
    Setsockopt,
    /// `shutdown(2)`.
    Shutdown,
    /// `socket(2)`.
    Socket,
    /// `getsockopt(2)` with `SO_ERROR`.
    SocketError,
    /// `socketpair(2)`.
    Socketpair,
}

/// Returns whether a short read means that the kernel has no more bytes: always, except with a
/// table of faults.
#[inline]
pub(crate) fn supports_edge_triggered() -> bool {
    #[cfg(netpoll_faults)]
    return !crate::faults::is_armed();
    #[cfg(not(netpoll_faults))]
    true
}

impl Syscall {
    /// Makes `call`, a call of this kind.
    #[inline]
    pub(crate) fn call<T, E: From<Errno>>(
        self,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        #[cfg(netpoll_faults)]
        if let Some(errno) = crate::faults::errno(self) {
            if crate::faults::performs_call(self, errno) {
                drop(call());
            }
            return Err(errno.into());
        }
        call()
    }

    /// Makes `call`, a call of this kind that moves at most `length` bytes; it receives the number
    /// that it may move.
    #[inline]
    pub(crate) fn transfer(
        self,
        length: usize,
        call: impl FnOnce(usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        #[cfg(netpoll_faults)]
        match crate::faults::inject(self) {
            Some(crate::faults::Fault::Errno(errno)) => return Err(errno),
            Some(crate::faults::Fault::AtMost(0)) => return Ok(0),
            Some(crate::faults::Fault::AtMost(most)) => return call(length.min(most)),
            Some(crate::faults::Fault::Stale) | None => {}
        }
        call(length)
    }

    /// As [`transfer`](Self::transfer), from several slices.
    #[inline]
    pub(crate) fn send_slices(
        self,
        slices: &[IoSlice<'_>],
        call: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        #[cfg(netpoll_faults)]
        return self.transfer(usize::MAX, |most| {
            call(&crate::faults::truncated(slices, most))
        });
        #[cfg(not(netpoll_faults))]
        call(slices)
    }

    /// As [`transfer`](Self::transfer), into several slices.
    #[inline]
    pub(crate) fn receive_slices(
        self,
        buffer: &mut [IoSliceMut<'_>],
        call: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        #[cfg(netpoll_faults)]
        return self.transfer(usize::MAX, |most| {
            call(&mut crate::faults::truncated_mut(buffer, most))
        });
        #[cfg(not(netpoll_faults))]
        call(buffer)
    }

    /// Makes `call`, a wait that stores events in `list` and returns their number.
    #[inline]
    pub(crate) fn wait(
        self,
        list: &mut [Event],
        call: impl FnOnce(&mut [Event]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        #[cfg(netpoll_faults)]
        return match crate::faults::inject(self) {
            Some(crate::faults::Fault::Errno(errno)) => Err(errno),
            Some(crate::faults::Fault::AtMost(0)) => Ok(0),
            Some(crate::faults::Fault::AtMost(most)) => {
                let most = most.min(list.len());
                call(&mut list[..most])
            }
            // The first event of the previous wait is still stored there, unless there was none
            // yet.
            Some(crate::faults::Fault::Stale) => Ok(usize::from(list[0].data.u64() != 0)),
            None => call(list),
        };
        #[cfg(not(netpoll_faults))]
        call(list)
    }
}
