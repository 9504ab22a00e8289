// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for readiness with `epoll(7)`, level-triggered unless a reader asks for edges.
//!
//! Level-triggered readiness is reported again to a reader that stops early, and a source disables
//! it by its interest. With edges ([`Interest::EDGE`]) the kernel reports each arrival once, and a
//! reader that leaves bytes behind has to request a new report with [`Epoll::modify`].
//!
//! A registration carries a 64-bit token of the caller, never a pointer. The caller decides what a
//! token means, and whether it is still valid.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll;

use crate::interest::{Interest, Readiness};
use crate::retry::retry_on_intr;
use crate::syscall::{Syscall, supports_edge_triggered};

/// One epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Creates an empty instance. One system call and one descriptor.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE` or `ENOMEM`, as `epoll_create1(2)` has them.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: Syscall::EpollCreate.call(|| epoll::create(epoll::CreateFlags::CLOEXEC))?,
        })
    }

    /// Starts to watch `fd`; its events carry `token`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is watched already, `ENOMEM` or `ENOSPC` if the kernel has no space, `EPERM`
    /// for a descriptor that cannot be polled.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let add = || epoll::add(&self.fd, fd, data, flags(interest));
        retry_on_intr(|| Syscall::EpollAdd.call(add))
    }

    /// Replaces the token and the interest of a watched `fd`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is not watched.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        let modify = || epoll::modify(&self.fd, fd, data, flags(interest));
        retry_on_intr(|| Syscall::EpollModify.call(modify))
    }

    /// Stops watching `fd`. Events of it that were already collected stay in their [`Events`].
    ///
    /// # Errors
    ///
    /// `ENOENT` if it is not watched.
    pub fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        retry_on_intr(|| Syscall::EpollDelete.call(|| epoll::delete(&self.fd, fd)))
    }

    /// Waits until a descriptor is ready, `timeout` has passed (never earlier; rounded up to a
    /// millisecond), or a signal arrived; `None` waits without limit. Fills `events` and returns
    /// their number: 0 after a timeout or a signal. One system call.
    ///
    /// # Errors
    ///
    /// `EBADF` or `EINVAL` for a broken instance.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        // An interrupted wait counts as one without events: the caller checks its clock anyway.
        let timeout = timeout.map(timespec);
        let Events { list, filled } = events;
        let waited =
            Syscall::EpollWait.wait(list, |list| epoll::wait(&self.fd, list, timeout.as_ref()));
        *filled = match waited {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(errno) => {
                *filled = 0;
                return Err(errno.into());
            }
        };
        Ok(*filled)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A torn-down connection reports both, and the hang-up takes precedence.
fn is_error_alone(flags: epoll::EventFlags) -> bool {
    flags.contains(epoll::EventFlags::ERR) && !flags.contains(epoll::EventFlags::HUP)
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    if interest.is_readable() {
        flags |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
    }
    if interest.is_edge_triggered() && supports_edge_triggered() {
        flags |= epoll::EventFlags::ET | epoll::EventFlags::PRI;
    }
    if interest.is_writable() {
        flags |= epoll::EventFlags::OUT;
    }
    flags
}

/// Saturates: 2^63 seconds are as good as no limit.
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// A buffer for the events of one [`Epoll::wait`], which holds those of the last one.
pub struct Events {
    list: Vec<epoll::Event>,
    filled: usize,
}

impl Events {
    /// Creates a buffer for `capacity` events (at least one). One allocation, which is reused by
    /// every wait.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let empty = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        Self {
            list: vec![empty; capacity.max(1)],
            filled: 0,
        }
    }

    /// Returns the number of events of the last wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Returns whether the last wait returned no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Returns the token and the readiness of the `index`-th event of the last wait. `None` past
    /// the last.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(u64, Readiness)> {
        let event = self.list[..self.filled].get(index)?;
        let flags = event.flags;
        let data = event.data;
        let readiness = Readiness::READABLE
            .when(flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP))
            .union(Readiness::WRITABLE.when(flags.contains(epoll::EventFlags::OUT)))
            .union(
                Readiness::READ_CLOSED_OR_PRIORITY
                    .when(flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::PRI)),
            )
            .union(Readiness::HANG_UP.when(flags.contains(epoll::EventFlags::HUP)))
            .union(Readiness::ERROR.when(is_error_alone(flags)));
        Some((data.u64(), readiness))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..self.filled).filter_map(|index| self.get(index)))
            .finish()
    }
}
