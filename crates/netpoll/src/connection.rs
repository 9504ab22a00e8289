// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections, their owned halves, and the handles to them.
//!
//! A handler gets a [`Connection`], reads from its [`Reader`] and writes to its
//! [`Writer`]. Both can be used at once, and owned apart:
//!
//! ```no_run
//! use netpoll::connection::{ConnectionHandle, OwnedReader, OwnedWriter};
//!
//! # async fn example() -> std::io::Result<()> {
//! let conn = netpoll::Dialer::new().dial("127.0.0.1:8080").await?;
//! let handle: ConnectionHandle = conn.handle();
//! let (reader, writer): (OwnedReader, OwnedWriter) = conn.into_split();
//! // From any thread, while others read and write:
//! handle.close();
//! # drop((reader, writer));
//! # Ok(()) }
//! ```

// # Implementation
//
// ```text
//   poller's thread                                  owner of the Connection
//   ───────────────                                  ───────────────────────
//   Engine ─────┐                              ┌──── Connection: the input it has taken
//               ├──▶ Shared: fd, notifier  ◀───┤
//   received ───┼──▶ InputBuffer  ─────────────┼──▶ Reader
//   sent      ◀─┼─── OutputBuffer ◀────────────┴─── Writer
// ```
//
// A connection has one owner at a time. While it is idle, its owner is its engine, which its
// poller drives. When data arrives, the engine lends the connection to the handler, whose future
// returns it. So `&mut Connection` is the lock: no two calls on a connection overlap. The poller
// reads and sends meanwhile. It shares only `shared::Shared` with the handler, under locks that
// are held only to append to a buffer or to take it.
//
// * `lifecycle` is the state of a connection, `engine` drives it, and `teardown` ends it.
//   `half_close` ends its output only, `drain` ends it once the work in flight is done, and
//   `detach` takes its socket away.
// * `backpressure` limits buffered bytes. `deadlines` limits time, and `partial_input` the
//   time of a request that has begun to arrive.
// * `input_buffer` and `output_buffer` hold waiting bytes. `reader_state` holds the input
//   that user code has taken. User code reads and writes through `reader` and `writer`,
//   through the owned `halves`, which have the same methods, in whole `frames`, as a stream of them
//   that is `framed`, or through `blocking_stream` as a `std::io` stream. The functions of `polled`
//   are for adapters to the traits of other crates.
// * `handle` is the control interface for other threads.
// * `in_flight` counts work that runs elsewhere, and `reply_tracker` tracks whether a reply
//   may be owed.
// * `liveness` reports whether a connection can be used. `close_notify` notifies of its end,
//   `drain_notify` and `close_watcher` before it. `extensions` holds state that few
//   connections need.
// * `metrics` counts, and `watchdog` reports handlers that block a poller.
// * `handler` is the trait of user code, and `request_batch` joins several calls in one
//   future. `dispatcher` runs the calls, in an `inline_dispatcher` on the poller or in an
//   `offloaded_task` elsewhere.
// * `service` creates engines for accepted connections, and `replacement` for connections that
//   user code owned.

pub(crate) mod attachment;
pub(crate) mod backpressure;
pub(crate) mod blocking_stream;
pub(crate) mod close_notify;
pub(crate) mod close_watcher;
pub(crate) mod deadlines;
pub(crate) mod detach;
pub(crate) mod dispatcher;
mod drain;
mod drain_notify;
pub(crate) mod engine;
pub(crate) mod extensions;
pub(crate) mod framed;
pub(crate) mod frames;
pub(crate) mod half_close;
pub(crate) mod halves;
pub(crate) mod handle;
pub(crate) mod handler;
pub(crate) mod in_flight;
pub(crate) mod inline_dispatcher;
pub(crate) mod input_buffer;
pub(crate) mod lifecycle;
pub(crate) mod liveness;
pub(crate) mod metrics;
mod notify;
pub(crate) mod offloaded_task;
pub(crate) mod output_buffer;
mod partial_input;
pub(crate) mod polled;
pub(crate) mod reader;
pub(crate) mod reader_state;
pub(crate) mod replacement;
mod reply_tracker;
pub(crate) mod request_batch;
pub(crate) mod service;
pub(crate) mod shared;
pub(crate) mod teardown;
pub(crate) mod watchdog;
pub(crate) mod write_queue;
pub(crate) mod writer;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

#[doc(inline)]
pub use netpoll_sys::PeerCredentials;
use netpoll_sys::credentials::peer_credentials;

use crate::addr::Addr;
use crate::sync::Arc;
use crate::timeouts::Timeouts;
use attachment::Attachment;
pub use blocking_stream::BlockingStream;
pub use framed::Framed;
use halves::CloseGuard;
pub use halves::{OwnedReader, OwnedWriter};
pub use handle::ConnectionHandle;
pub use liveness::Liveness;
pub use polled::FlushMode;
pub use reader::Reader;
use reader_state::ReaderState;
use shared::{CloseRequest, Shared};
pub use write_queue::{SendError, WriteQueue};
pub use writer::Writer;

/// A stream connection: its received input, and access to its output.
///
/// Handlers of [`on_request`](crate::Builder::on_request) borrow it. Handlers of
/// [`on_connection`](crate::Builder::on_connection) and callers of a [`Dialer`](crate::Dialer) own
/// it. An owned connection is `Send`: it may move to another thread and work with any executor,
/// while its poller goes on reading and sending for it. Dropping an owned connection
/// [closes](Self::close) it.
pub struct Connection {
    /// The first field, so that a drop requests the close before it releases anything else.
    shared: CloseGuard,
    /// Boxed, because a connection moves into a future and out of it with every request batch.
    local: Box<LocalState>,
}

/// The state of a connection that only its owner uses.
#[derive(Debug)]
struct LocalState {
    reader: ReaderState,
    attachment: Attachment,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let max_frame = shared.options.max_frame;
        Self {
            shared: CloseGuard::new(shared),
            local: Box::new(LocalState {
                reader: ReaderState::new(max_frame),
                attachment: Attachment::default(),
            }),
        }
    }

    /// Splits the connection into a reader and a writer, each with its own borrow.
    #[inline]
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        (
            Reader::new(&self.shared, &mut self.local.reader),
            Writer::new(&self.shared),
        )
    }

    /// Returns the reader.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.shared, &mut self.local.reader)
    }

    /// Returns the writer.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.shared)
    }

    /// Returns the address of the peer, as the kernel reported it when the connection was made
    /// (`getpeername(2)`). After a dial of `0.0.0.0:80` the peer is `127.0.0.1:80`.
    ///
    /// An IPv6 socket reports an IPv4 peer in the form `[::ffff:127.0.0.1]:80`: on a dual-stack
    /// listener, and after a dial of such an address. [`Addr::to_canonical`] converts it to
    /// `127.0.0.1:80`. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.shared.peer()
    }

    /// Returns the address of this side. One system call.
    ///
    /// # Errors
    ///
    /// Any error of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.shared.local_addr()
    }

    /// Returns the credentials that the peer process of a Unix socket had when it connected. One
    /// system call.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` (as the OS error) if the connection is not a Unix socket.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.shared.as_fd())
    }

    /// Requests an orderly close: committed output is sent, then FIN. Then input is discarded until
    /// the peer's FIN, or for [`linger`](crate::options::Timeouts::linger). Returns at once; the
    /// poller closes the connection after the running handler has returned. Idempotent.
    pub fn close(&self) {
        self.shared.request_close(CloseRequest::Close);
    }

    /// Resets the connection: unsent output is discarded, and RST is sent to the peer before this
    /// call returns. That holds even while a handler works on the connection or blocks its poller,
    /// and while an owner or a waker holds it. The end is reported as usual, once the handler has
    /// returned or waits. The descriptor stays open, connected to nothing, until the last holder
    /// drops it.
    ///
    /// A Unix socket has no reset: both of its directions end at once, and the peer reads the end
    /// of the stream. Callable from any thread. Idempotent, also after [`close`](Self::close).
    /// Costs at most four system calls and two small allocations. The reset acts on every duplicate
    /// of the descriptor.
    pub fn abort(&self) {
        self.shared.request_close(CloseRequest::Abort);
    }

    /// Stops reading from this connection until [`resume_reads`](Self::resume_reads). The kernel's
    /// buffer then fills, and the peer has to wait. Input that has arrived stays available, and
    /// handlers are called for it. While reads are paused, the peer's FIN is not seen, and its
    /// silence does not close the connection. Callable from any thread. Idempotent.
    pub fn pause_reads(&self) {
        self.shared.pause_reads();
    }

    /// Resumes reading from this connection. Callable from any thread. Idempotent.
    pub fn resume_reads(&self) {
        self.shared.resume_reads();
    }

    /// Returns a handle, with which other threads can control this connection. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.shared)
    }

    /// Returns the current timeouts of this connection.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.shared.timeouts()
    }

    /// Changes the timeouts of this connection from now on. They also apply to a call that waits
    /// already, counted from when that call began. Callable from any thread; at most one system
    /// call.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig) with the name of the
    /// field, for a duration of zero. Nothing is changed then.
    pub fn set_timeouts(&self, timeouts: Timeouts) -> io::Result<()> {
        timeouts.validate()?;
        self.shared.set_timeouts(timeouts);
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn reader_state(&mut self) -> &mut ReaderState {
        &mut self.local.reader
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.shared.peer())
            .field("input", &self.local.reader.buffer)
            .finish_non_exhaustive()
    }
}
