// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket options that netpoll sets, each one `setsockopt(2)`.
//!
//! For other options pass the descriptor (every connection and listener is [`std::os::fd::AsFd`])
//! to `socket2::SockRef`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::syscall::Syscall;

/// Sets whether small writes are sent at once (`TCP_NODELAY`).
///
/// # Errors
///
/// `EOPNOTSUPP` or `ENOPROTOOPT` on a socket that is not TCP.
pub fn set_nodelay(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(Syscall::Setsockopt.call(|| rustix::net::sockopt::set_tcp_nodelay(fd, on))?)
}

/// Returns whether small writes are sent at once.
///
/// # Errors
///
/// As [`set_nodelay`].
pub fn nodelay(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(Syscall::Getsockopt.call(|| rustix::net::sockopt::tcp_nodelay(fd))?)
}

/// The kernel's probes of a silent peer: `tcp(7)`, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.
/// Whole seconds; less than one is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    idle: Duration,
    interval: Duration,
    count: u32,
}

impl Keepalive {
    /// Creates the three numbers.
    #[must_use]
    pub const fn new(idle: Duration, interval: Duration, count: u32) -> Self {
        Self {
            idle,
            interval,
            count,
        }
    }

    /// Sets the silence before the first probe. Default: 60 s.
    #[must_use]
    pub const fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// Sets the time between probes. Default: 15 s.
    #[must_use]
    pub const fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets after how many unanswered probes the connection is dead. Default: 4.
    #[must_use]
    pub const fn count(mut self, probes: u32) -> Self {
        self.count = probes;
        self
    }

    /// Returns the [user timeout](set_user_timeout) with which the kernel keeps to these numbers.
    ///
    /// While a socket has a user timeout the kernel does not count probes. It ends a silent
    /// connection at the first probe time at which the silence is as long as the timeout: after one
    /// lost probe if the timeout is short, and after twenty if it is long. So the timeout has to be
    /// `idle + count * interval`, the silence after which the last of `count` probes is lost. The
    /// kernel's timers may be late by an eighth, and one probe less must not suffice. Where the
    /// probes are close together for so long an idle time, the timeout is therefore the silence
    /// after `count - 1` probes plus an eighth. `None`, which leaves the decision to the count,
    /// where the timeout would be longer than the kernel retransmits.
    #[must_use]
    pub fn user_timeout(self) -> Option<Duration> {
        let seconds = |time: Duration| time.as_secs().max(1);
        let (idle, interval) = (seconds(self.idle), seconds(self.interval));
        let after = |probes: u32| idle.saturating_add(interval.saturating_mul(probes.into()));
        let count = self.count.max(1);
        let one_less = after(count - 1);
        let late = one_less.saturating_add(one_less.div_ceil(8));
        let whole = after(count).max(late);
        (whole <= LONGEST_RETRANSMISSION).then(|| Duration::from_secs(whole))
    }
}

/// The time for which the kernel retransmits without a user timeout (`tcp_retries2`), about, in
/// seconds.
const LONGEST_RETRANSMISSION: u64 = 15 * 60;

impl Default for Keepalive {
    /// 60 s of silence, then four probes 15 s apart: a vanished peer is detected after two minutes.
    fn default() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(15), 4)
    }
}

/// Enables the kernel's probes, with all three of their numbers.
///
/// # Errors
///
/// `EINVAL` for numbers that the kernel rejects, `ENOPROTOOPT` on a socket that is not TCP.
pub fn set_keepalive(fd: BorrowedFd<'_>, keepalive: Keepalive) -> io::Result<()> {
    let second = Duration::from_secs(1);
    let triple = TcpKeepalive::new()
        .with_time(keepalive.idle.max(second))
        .with_interval(keepalive.interval.max(second))
        .with_retries(keepalive.count.max(1));
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_tcp_keepalive(&triple))
}

/// Disables the kernel's probes.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn unset_keepalive(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(Syscall::Setsockopt.call(|| rustix::net::sockopt::set_socket_keepalive(fd, false))?)
}

/// Sets how long sent data may stay unacknowledged before the connection is dead
/// (`TCP_USER_TIMEOUT`); `None` leaves it to the kernel's retransmissions, about 15 minutes. Whole
/// milliseconds; less than one is one, and at most 24 days. It takes the place of the count of
/// [`Keepalive`]; see [`Keepalive::user_timeout`].
///
/// # Errors
///
/// `ENOPROTOOPT` on a socket that is not TCP.
pub fn set_user_timeout(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    // The kernel reads 0 as no timeout, and rejects a number with the sign bit.
    let longest = Duration::from_millis(i32::MAX as u64);
    let timeout = timeout.map(|timeout| timeout.clamp(Duration::from_millis(1), longest));
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_tcp_user_timeout(timeout))
}

/// Sets how long a read of this socket may busy-poll the network card (`SO_BUSY_POLL`, see
/// `socket(7)`); zero disables it. Whole microseconds; less than one is one. It has no effect where
/// the card's driver does not support it, as on the loopback.
///
/// # Errors
///
/// `EPERM` for more than the current value, which is `net.core.busy_read` at first, without
/// `CAP_NET_ADMIN`; `ENOPROTOOPT` from a kernel that was built without it.
pub fn set_busy_poll(fd: BorrowedFd<'_>, time: Duration) -> io::Result<()> {
    let longest = Duration::from_micros(i32::MAX as u64);
    let micros = time.min(longest).as_nanos().div_ceil(1_000) as u32;
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_busy_poll(micros))
}

/// The largest `int`: a size above it would be truncated to a small one.
const LARGEST_BUFFER: usize = i32::MAX as usize;

/// Sets the size of the kernel's send buffer (`SO_SNDBUF`), in bytes; the kernel doubles it and
/// bounds it by `net.core.wmem_max`.
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = bytes.min(LARGEST_BUFFER);
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_send_buffer_size(bytes))
}

/// Sets the size of the kernel's receive buffer (`SO_RCVBUF`), as [`set_send_buffer`].
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = bytes.min(LARGEST_BUFFER);
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_recv_buffer_size(bytes))
}

/// Sets which packet timestamps a socket keeps in its error queue (`SO_TIMESTAMPING`), as flags of
/// `SOF_TIMESTAMPING_*`; 0 disables them.
///
/// # Errors
///
/// `EINVAL` for flags that the kernel does not know, `EBADF`, `ENOTSOCK`.
pub fn set_timestamping(fd: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    let size = size_of_val(&flags) as libc::socklen_t;
    Syscall::Setsockopt.call(|| {
        // SAFETY: `fd` is open while it is borrowed; the pointer is to a local that outlives the
        // call, and the size is the local's.
        let status = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPING,
                (&raw const flags).cast(),
                size,
            )
        };
        match status {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// Makes the last close of this socket a reset: unsent data is discarded, and the peer receives an
/// RST (`SO_LINGER` with a time of 0).
///
/// # Errors
///
/// `EBADF`, `ENOTSOCK`.
pub fn set_reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    Syscall::Setsockopt.call(|| SockRef::from(&fd).set_linger(Some(Duration::ZERO)))
}
