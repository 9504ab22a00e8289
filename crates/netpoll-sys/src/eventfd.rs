// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wakes a thread that waits in a poller: `eventfd(2)`.
//!
//! The kernel keeps a counter. A notification adds one and makes the descriptor readable; clearing
//! sets it to zero. Many notifications before a clear wake the waiter once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::retry::retry_on_intr;
use crate::syscall::Syscall;

/// A notifier with a counter in the kernel.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// Creates a notifier with a counter of zero. One system call and one descriptor.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            fd: Syscall::EventFdCreate.call(|| eventfd(0, flags))?,
        })
    }

    /// Makes the descriptor readable. Callable from any thread, also from one that runs a signal
    /// handler; one system call.
    ///
    /// # Errors
    ///
    /// None in practice: a full counter (2^64 - 2 notifications without a clear) is readable
    /// already, and counts as success.
    pub fn notify(&self) -> io::Result<()> {
        let add_one = || rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        match retry_on_intr(|| Syscall::EventFdWrite.call(add_one)) {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sets the counter to zero, so that the descriptor is readable only after the next
    /// notification. A counter of zero is left alone. One system call.
    ///
    /// # Errors
    ///
    /// `EBADF` for a broken descriptor.
    pub fn clear(&self) -> io::Result<()> {
        let mut counter = [0u8; 8];
        let mut read = || rustix::io::read(&self.fd, &mut counter[..]);
        match retry_on_intr(|| Syscall::EventFdRead.call(&mut read)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(drop),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
