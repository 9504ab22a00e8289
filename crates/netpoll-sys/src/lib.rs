// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel, as netpoll asks it: safe functions and no policy.
//!
//! Every other crate of the workspace stands on this one. It knows how to wait for readiness
//! ([`epoll`]), how one thread wakes another that waits ([`eventfd`]), how bytes move between
//! memory and a stream socket ([`transfer`]), how sockets come to be, where they are and which knobs
//! they have ([`socket`], [`addr`], [`options`]), who is at the other end of a Unix socket
//! ([`credentials`]), who alone may make a path ([`dir_lock`]), what TCP knows of a connection ([`mod@tcp_info`]), what time it is ([`clock`]), and
//! the process-wide limits that a server meets ([`process`], [`memory`]).
//! A thread that is held up is given up by what is in [`socket_set`].
//! The calls that may fail have a name each ([`syscall`]), by which tests have them fail.
//!
//! What every function here keeps to:
//!
//! * **Errors are the kernel's.** An [`std::io::Error`] carries the errno it was made of.
//! * **`EINTR` never leaves this crate** where the call can simply be made again: a signal is not
//!   news for a socket. See [`retry`].
//! * **Every descriptor is close-on-exec from birth**, and sockets are non-blocking from birth,
//!   because a window between two calls is a window for a `fork`.
//! * **No send raises `SIGPIPE`**: `MSG_NOSIGNAL` is always set, since a library cannot know what
//!   the program around it does with signals.
//! * **No policy.** Nothing here decides how often to retry, how much to read, or whom to close.
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
//! let mut room = [0; 64];
//! let count = transfer::receive(other.as_fd(), &mut room)?;
//! assert_eq!(&room[..count], b"hello");
//! # Ok(()) }
//! ```
//!
//! Linux only; the readiness words live in [`interest`] so that another kernel's poller can speak
//! them too.

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
