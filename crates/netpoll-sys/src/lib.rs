// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel, as netpoll asks it: safe functions and no policy.
//!
//! Every other crate of the workspace stands on this one. It knows how to wait for readiness
//! ([`epoll`]), how one thread wakes another that waits ([`eventfd`]), how bytes move between
//! memory and a stream socket ([`transfer`]), how sockets come to be and which knobs they have
//! ([`socket`], [`options`]), and the two process-wide limits that a server meets ([`process`]).
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
//! Linux only; the readiness words live in [`interest`] so that another kernel's poller can speak
//! them too.

pub mod epoll;
pub mod eventfd;
pub mod interest;
pub mod options;
pub mod process;
pub mod retry;
pub mod socket;
pub mod transfer;

pub use epoll::{Epoll, Events};
pub use eventfd::EventFd;
pub use interest::{Interest, Readiness};
