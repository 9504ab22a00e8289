// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `poll_*` functions: a connection as a byte stream, for adapters.
//!
//! The asynchronous traits of other crates (`AsyncRead`, `hyper::rt::Write` and so on) are made of
//! poll functions, which return between two polls and keep no future. The functions here are what
//! such a trait needs. `Connection` and both owned halves have them, from one implementation. The
//! adapters of this crate stand on them, and so can those of any other.
//!
//! **They own no state.** The wait of a poll that returned `Pending` is the waiter that it has
//! registered with the input buffer or the output buffer. The next poll of the same operation finds
//! it there and goes on from its beginning. So a [timeout](crate::options::Timeouts) measures the
//! operation and not its last poll. Reader, writer and the wait for the end have one waker each; a
//! second task that polls the same one replaces the waker of the first.
//!
//! **Writes are bounded.** A write takes what fits below `write_high`, and waits for `write_low`
//! once there is no room. On the connection's poller its bytes leave when the poll ends. On other
//! threads it sends before it returns. Large slices are sent straight from the caller's memory on
//! any thread, if nothing is queued before them, and a bulk transfer is received straight into it.
//!
//! **Ends are those of a socket** (`ends`), as code that is written for sockets expects them: an
//! idle timeout is the end of the stream. [`Connection::poll_wait`](super::Connection::poll_wait)
//! is for codecs and has the errors of the `Reader`.
//!
//! The functions never block, never take input that they do not return, never exceed `max_output`,
//! and never end the connection.

mod closed;
mod direct_receive;
mod ends;
mod read;
mod write;

/// When [`poll_flush`](crate::Connection::poll_flush) is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushMode {
    /// When the kernel has the last byte. Output is sent at once, also on the connection's poller.
    Kernel,
    /// At once on the connection's poller, which sends the output when the poll of the handler
    /// ends: answers to pipelined requests leave with one system call. On other threads as
    /// [`Kernel`](Self::Kernel).
    EndOfPoll,
}
