// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Connection`]: what user code holds while it works on a connection.
//!
//! ```text
//!   poller's thread                          whoever holds the Connection
//!   ───────────────                          ────────────────────────────
//!   Session ─┐                         ┌──── Connection: the input it has taken
//!            ├──▶ Link: fd, bell  ◀────┤
//!   landed ──┼──▶ Inbox  ──────────────┼──▶ Reader
//!   sent   ◀─┼─── Outbox ◀─────────────┴─── Writer
//! ```
//!
//! A connection has one owner at a time. While it is idle it belongs to its engine, which its poller
//! drives. When data arrives the engine lends it to the handler, whose future gives it back. So
//! `&mut Connection` is the lock: no call on it can meet another. The poller reads and sends meanwhile,
//! and meets the handler only in [`shared::Shared`], under locks that are held to append to a buffer or
//! to take it.
//!
//! * [`lifecycle`] is the state of a connection, [`engine`] drives it, [`teardown`] ends it,
//!   [`half_close`] ends its output only, [`drain`] ends it once the work under way is answered,
//!   [`detach`] takes its socket away, [`backpressure`] bounds its bytes, [`deadlines`] its time, and
//!   [`partial_input`] the time of a request that has begun to arrive;
//! * bytes wait in [`input_buffer`] and [`output_buffer`]; [`reader_state`] has what was taken for user
//!   code, which sees it through [`reader`] and [`writer`], by the frame through [`frames`], through the
//!   owned [`halves`], or through [`blocking_stream`] as a stream of the standard library;
//! * [`handle`] is what other threads may ask for;
//! * [`in_flight`] counts work under way elsewhere, [`reply_tracker`] who may still owe an answer;
//! * [`liveness`] says whether a connection can be used; [`close_notify`] notifies of its end,
//!   [`drain_notify`] and [`close_watcher`] before it; [`extensions`] has what few connections need;
//! * [`metrics`] counts, and [`watchdog`] names handlers that block a poller;
//! * [`handler`] is user code, [`request_batch`] makes one future of several calls, [`dispatcher`] runs
//!   them, in an [`inline_dispatcher`] on the poller or in an [`offloaded_task`] elsewhere; [`service`]
//!   makes engines for accepted connections, [`replacement`] for connections that user code owned.

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

use netpoll_sys::PeerCredentials;
use netpoll_sys::credentials::peer_credentials;

use crate::addr::Addr;
use crate::sync::Arc;
use crate::timeouts::Timeouts;
use attachment::Attachment;
use halves::CloseGuard;
use handle::ConnectionHandle;
use reader::Reader;
use reader_state::ReaderState;
use shared::{CloseRequest, Shared};
use writer::Writer;

/// A connection of the stream kind: the input it has received, and the way to its output.
///
/// A handler of [`on_request`](crate::Builder::on_request) borrows it, one of
/// [`on_connection`](crate::Builder::on_connection) and a [`Dialer`](crate::Dialer)'s caller own it.
/// `Send`: an owned connection may move to another thread and be used with any executor; its
/// poller goes on reading and sending for it. Dropping an owned one is [`close`](Self::close).
pub struct Connection {
    /// First, so that the end is asked for before anything is let go.
    shared: CloseGuard,
    /// Boxed, because a connection moves into a future and out of it with every burst.
    local: Box<LocalState>,
}

/// What goes with a connection, besides its link.
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

    /// Both directions at once, each with its own borrow.
    #[inline]
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        (
            Reader::new(&self.shared, &mut self.local.reader),
            Writer::new(&self.shared),
        )
    }

    /// The reading side.
    #[inline]
    pub fn reader(&mut self) -> Reader<'_> {
        Reader::new(&self.shared, &mut self.local.reader)
    }

    /// The writing side.
    #[inline]
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&self.shared)
    }

    /// The address of the other end, as the kernel said it when the connection was made
    /// (`getpeername(2)`): a dial of `0.0.0.0:80` has the peer `127.0.0.1:80`. A socket of IPv6 has a
    /// peer of IPv4 in the form `[::ffff:127.0.0.1]:80`, on a listener of both families as after a dial
    /// of such an address; [`Addr::to_canonical`] makes `127.0.0.1:80` of it. No system call.
    #[must_use]
    pub fn peer_addr(&self) -> Addr {
        self.shared.peer()
    }

    /// The address of this end. One system call.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` fails with.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.shared.local_addr()
    }

    /// The process at the other end of a Unix socket, as it was when it connected. One system
    /// call.
    ///
    /// # Errors
    ///
    /// `ENOPROTOOPT` (by its errno) for a connection that is not one of a Unix socket.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.shared.as_fd())
    }

    /// Asks for an orderly end: what was put is sent, then FIN, then input is thrown away until
    /// the peer's FIN or for [`linger`](crate::Timeouts::linger). Returns at once; the poller
    /// does it, after the running handler has returned. Idempotent.
    pub fn close(&self) {
        self.shared.request_close(CloseRequest::Close);
    }

    /// Ends the connection with a reset: what is unsent is thrown away, and the peer is sent RST before
    /// this returns, also while a handler works on the connection, blocks its poller, or an owner or a
    /// waker still holds it. The end is reported as ever: once the handler has returned or waits. The
    /// descriptor stays open, connected to nothing, until the last holder lets go.
    ///
    /// A Unix socket has no reset: both of its directions end at once, and the peer reads the end of
    /// the stream. Any thread; idempotent, also after [`close`](Self::close). Four system calls and two
    /// small allocations at most; they act on every duplicate of the descriptor.
    pub fn abort(&self) {
        self.shared.request_close(CloseRequest::Abort);
    }

    /// Has nothing read for this connection from now on, until
    /// [`resume_reads`](Self::resume_reads): the kernel's buffer fills, and the peer has to wait.
    /// What has come by then is there, and handlers are called for it. While reads are paused the
    /// peer's end is not seen, and its silence is not held against it. Any thread; idempotent.
    pub fn pause_reads(&self) {
        self.shared.pause_reads();
    }

    /// Has this connection read again. Any thread; idempotent.
    pub fn resume_reads(&self) {
        self.shared.resume_reads();
    }

    /// What can be asked of this connection from elsewhere. No allocation.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle::new(&self.shared)
    }

    /// How long what may take on this connection now.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.shared.timeouts()
    }

    /// Changes how long what may take, from now on: also for a call that waits already, which is
    /// measured by it from when it began. Any thread; at most one system call.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::InvalidConfig), naming the field, for a time of zero; then nothing
    /// is changed.
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
