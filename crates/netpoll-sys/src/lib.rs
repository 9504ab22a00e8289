// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Linux kernel calls that netpoll needs, as safe functions without policy.
//!
//! Every other crate of the workspace builds on this one. It waits for readiness ([`epoll`]), wakes
//! a waiting thread ([`eventfd`]), moves bytes between memory and a stream socket ([`transfer`]),
//! and creates, addresses and configures sockets ([`socket`], [`addr`], [`options`]). It reads the
//! credentials of the peer of a Unix socket ([`credentials`]), locks a folder ([`dir_lock`]), and
//! reads TCP's state of a connection ([`mod@tcp_info`]), the clock ([`clock`]) and the process-wide
//! limits ([`process`], [`memory`]). [`socket_set`] shuts down the sockets of a thread that is
//! blocked. The calls that may fail have a name each ([`syscall`]), which tests use to inject
//! failures.
//!
//! Every function here keeps these rules:
//!
//! * **Errors are the kernel's.** An [`std::io::Error`] carries its errno.
//! * **`EINTR` never leaves this crate** where the call can simply be repeated. See [`retry`].
//! * **Every descriptor is created close-on-exec**, and every socket non-blocking, because a `fork`
//!   may run between two calls.
//! * **No send raises `SIGPIPE`**: `MSG_NOSIGNAL` is always set, since a library cannot know the
//!   signal handling of the program.
//! * **No policy.** No function decides how often to retry, how much to read, or which connection
//!   to close.
//!
//! ```
//! use std::os::fd::AsFd;
//! use netpoll_sys::{Epoll, Events, Interest, socket, transfer};
//!
//! # fn main() -> std::io::Result<()> {
//! let (one, other) = socket::pair()?;
//! let epoll = Epoll::new()?;
//! epoll.add(other.as_fd(), 7, Interest::READABLE)?;
//! transfer::send(one.as_fd(), b"hello")?;
//!
//! let mut events = Events::with_capacity(16);
//! epoll.wait(&mut events, None)?;
//! let (token, readiness) = events.get(0).unwrap();
//! assert!(token == 7 && readiness.is_readable());
//!
//! let mut buffer = [0; 64];
//! let count = transfer::receive(other.as_fd(), &mut buffer)?;
//! assert_eq!(&buffer[..count], b"hello");
//! # Ok(()) }
//! ```
//!
//! Linux only; the readiness types live in [`interest`], so that the poller of another kernel can
//! use them too.

pub mod addr;
pub mod clock;
pub mod credentials;
pub mod dir_lock;
pub mod epoll;
pub mod eventfd;
#[cfg(netpoll_faults)]
pub mod faults;
pub mod interest;
pub mod memory;
pub mod options;
pub mod process;
pub mod retry;
pub mod socket;
pub mod socket_set;
pub mod syscall;
pub mod tcp_info;
#[cfg(feature = "test-waker")]
#[doc(hidden)]
pub mod test_waker;
pub mod transfer;

pub use addr::{Addr, InvalidUnixName, ParseAddrError, UnixAddr};
pub use credentials::PeerCredentials;
pub use dir_lock::{DirLock, LockOutcome};
pub use epoll::{Epoll, Events};
pub use eventfd::EventFd;
pub use interest::{Interest, Readiness};
pub use socket_set::SocketSet;
pub use tcp_info::{TcpInfo, TcpState};
