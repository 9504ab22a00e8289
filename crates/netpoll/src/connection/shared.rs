// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Shared`]: the state that a connection's poller and the owner of the
//! [`Connection`](super::Connection) share.
//!
//! It is reference-counted, and the only owner of the descriptor, which is closed by the drop of
//! the last reference and nowhere else. Everything that the *end* of a connection needs is here and
//! not in the `Connection`, because a handler may hold that for as long as it likes.

pub(super) mod direct_send;
mod output;
mod reset;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Wake;

use netpoll_buffer::LinkBuffer;

use super::extensions::LazyExtensions;
use super::input_buffer::{InputBuffer, InputEnd};
use super::metrics::ConnectionMetrics;
use super::output_buffer::OutputBuffer;
use crate::addr::{Addr, CompactAddr};
use crate::error::{CloseReason, ErrorKind, Limit};
use crate::foreign::Wakeup;
use crate::options::ConnOptions;
use crate::poll::notifier::{Notice, Notifier};
use crate::poll::set::LoadGuard;
use crate::sync::{Arc, AtomicU8, Mutex, MutexGuard, OnceBox, Ordering, lock};
use crate::timeouts::Timeouts;
use crate::trace::Span;

/// The shared state of one connection.
#[derive(Debug)]
pub(crate) struct Shared {
    fd: OwnedFd,
    peer: CompactAddr,
    pub(crate) notifier: Notifier,
    pub(crate) options: Arc<ConnOptions>,
    input_buffer: OnceBox<Mutex<InputBuffer>>,
    pub(crate) output_buffer: Mutex<OutputBuffer>,
    /// The close that this side has requested; see [`CloseRequest`].
    close_request: AtomicU8,
    /// Exceptions from normal operation; see [`PAST_HIGH_WATERMARK`], [`READS_PAUSED`],
    /// [`DRAINING`] and [`DRAINED`].
    flags: AtomicU8,
    pub(super) extensions: LazyExtensions,
    pub(super) metrics: ConnectionMetrics,
    pub(super) span: Span,
    /// Last, so that the descriptor is closed before the listener is notified of the free permit.
    _load_guard: Option<LoadGuard>,
}

/// Unsent output has reached the high watermark, and none of it was taken since: the request batch
/// should end, and no other begin.
const PAST_HIGH_WATERMARK: u8 = 1;

/// Reads are paused on request.
const READS_PAUSED: u8 = 2;

/// The connection should take no more work. Written and read under the lock of the output buffer.
const DRAINING: u8 = 4;

/// The connection drains, and all input that was sent before the drain is in the input buffer or
/// taken.
const DRAINED: u8 = 8;

/// The requested way to end a connection. The most urgent request wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum CloseRequest {
    /// No request.
    None = 0,
    /// End the output only: flush, FIN.
    HalfClose = 1,
    /// End the connection, not the socket: flush, and detach the socket.
    Detach = 2,
    /// As `Close`, by the drop of the connection. While the connection drains, the close waits for
    /// pending replies.
    Drop = 3,
    /// Flush, FIN, linger.
    Close = 4,
    /// As `Close`, by the drop of the connection during a panic.
    Panic = 5,
    /// As `Close`, because unsent output exceeds its limit.
    Overflow = 6,
    /// Reset the connection.
    Abort = 7,
}

/// The result of [`Shared::enqueue`].
#[derive(Debug)]
pub(crate) enum EnqueueResult {
    Enqueued,
    /// The output buffer is full.
    Full(LinkBuffer),
    /// The output buffer accepts no more.
    Closed(LinkBuffer, io::Error),
}

impl CloseRequest {
    /// Returns whether the request ends the connection, so that no owner needs it any more.
    pub(crate) fn ends_connection(self) -> bool {
        self >= Self::Drop
    }
}

impl Shared {
    pub(crate) fn new(
        fd: OwnedFd,
        peer: Addr,
        notifier: Notifier,
        options: Arc<ConnOptions>,
        load_guard: Option<LoadGuard>,
    ) -> Self {
        notifier.register_socket(fd.as_fd());
        Self {
            fd,
            peer: peer.into(),
            notifier,
            options,
            input_buffer: OnceBox::new(),
            output_buffer: Mutex::new(OutputBuffer::new()),
            close_request: AtomicU8::new(CloseRequest::None as u8),
            flags: AtomicU8::new(0),
            extensions: LazyExtensions::default(),
            metrics: ConnectionMetrics::default(),
            span: Span::none(),
            _load_guard: load_guard,
        }
    }

    /// Returns the peer's address, as reported by the kernel when the connection was made.
    pub(crate) fn peer(&self) -> Addr {
        let other = self
            .extensions
            .get()
            .and_then(|extensions| extensions.peer.get());
        other.map_or_else(|| self.peer.addr(), |peer| **peer)
    }

    /// Returns the error for a frame of `size` bytes on this connection, above the limit that
    /// `option` sets.
    #[cold]
    pub(crate) fn frame_too_large(
        &self,
        option: &'static str,
        limit: usize,
        size: usize,
    ) -> io::Error {
        let error = ErrorKind::frame_too_large(option, limit, size);
        ErrorKind::name_peer(error.into(), self.peer())
    }

    /// Returns whether the socket is a TCP socket. Takes no lock and copies no address.
    #[inline]
    pub(crate) fn is_tcp(&self) -> bool {
        self.peer.is_tcp()
    }

    /// Records the peer's address if it is not the dialed one: a dial of `0.0.0.0` reaches
    /// `127.0.0.1`. Called once, before the connection has an owner.
    pub(crate) fn set_peer(&self, peer: Addr) {
        if peer != self.peer.addr() {
            // It is set once.
            let _set = self
                .extensions
                .get_or_make()
                .peer
                .set(Box::new(peer))
                .is_ok();
        }
    }

    /// Locks the input buffer. The first call allocates it: a connection whose handler finds all
    /// input that it reads needs none before its end.
    pub(crate) fn input_buffer(&self) -> MutexGuard<'_, InputBuffer> {
        lock(self.input_buffer.get_or_init(Box::default))
    }

    /// Locks the input buffer, if it was ever used.
    #[inline]
    pub(crate) fn input_buffer_if_any(&self) -> Option<MutexGuard<'_, InputBuffer>> {
        self.input_buffer.get().map(lock)
    }

    /// Requests a close from the poller; an abort resets the peer at once. May be called on any
    /// thread, any number of times.
    pub(crate) fn request_close(&self, request: CloseRequest) {
        // AcqRel: the poller that reads it sees all earlier puts.
        let before = self
            .close_request
            .fetch_max(request as u8, Ordering::AcqRel);
        if before < request as u8 {
            if request == CloseRequest::Abort {
                self.reset();
            }
            self.notifier.notify_unless_running(Notice::Close);
        }
    }

    /// Returns the timeouts in effect.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.extensions.timeouts().unwrap_or(self.options.timeouts)
    }

    /// Replaces the timeouts. They apply to waits under way, too.
    pub(crate) fn set_timeouts(&self, timeouts: Timeouts) {
        *lock(&self.extensions.get_or_make().timeouts) = Some(timeouts);
        self.notifier.notify(Notice::Deadline);
    }

    /// Restores the timeouts of the options. Takes no lock unless they were replaced.
    pub(crate) fn reset_timeouts(&self) {
        let changed = self
            .extensions
            .get()
            .and_then(|extensions| lock(&extensions.timeouts).take());
        if changed.is_some() {
            self.notifier.notify(Notice::Deadline);
        }
    }

    /// Returns whether no close is requested and no flag is set.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        // Relaxed: as in `unlock_and_notify`.
        self.close_request() == CloseRequest::None && self.flags.load(Ordering::Relaxed) == 0
    }

    /// Returns the close that was requested.
    #[inline]
    pub(crate) fn close_request(&self) -> CloseRequest {
        // Acquire: pairs with `request_close`.
        match self.close_request.load(Ordering::Acquire) {
            0 => CloseRequest::None,
            1 => CloseRequest::HalfClose,
            2 => CloseRequest::Detach,
            3 => CloseRequest::Drop,
            4 => CloseRequest::Close,
            5 => CloseRequest::Panic,
            6 => CloseRequest::Overflow,
            _ => CloseRequest::Abort,
        }
    }

    /// Returns whether unsent output has reached the high watermark, and none of it was taken
    /// since.
    #[inline]
    pub(crate) fn is_past_high_watermark(&self) -> bool {
        // Relaxed: as in `unlock_and_notify`.
        self.flags.load(Ordering::Relaxed) & PAST_HIGH_WATERMARK != 0
    }

    /// Returns whether a request batch should end: because of the high watermark, or because a
    /// close was requested.
    #[inline]
    pub(crate) fn ends_batch(&self) -> bool {
        self.is_past_high_watermark() || self.close_request() != CloseRequest::None
    }

    fn clear_high_watermark(&self) {
        if self.is_past_high_watermark() {
            self.flags
                .fetch_and(!PAST_HIGH_WATERMARK, Ordering::Relaxed);
        }
    }

    /// Has the poller stop reading. Received input can still be read.
    pub(crate) fn pause_reads(&self) {
        // Relaxed: the notification orders it.
        self.flags.fetch_or(READS_PAUSED, Ordering::Relaxed);
        self.notifier.notify_unless_running(Notice::Send);
    }

    /// Has the poller read again.
    pub(crate) fn resume_reads(&self) {
        self.flags.fetch_and(!READS_PAUSED, Ordering::Relaxed);
        self.notifier.notify_unless_running(Notice::Resume);
    }

    /// Returns whether reads are paused on request.
    pub(crate) fn are_reads_paused(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & READS_PAUSED != 0
    }

    /// Marks the connection as draining. The caller holds the lock of the output buffer.
    pub(super) fn set_draining(&self) {
        self.flags.fetch_or(DRAINING, Ordering::Relaxed);
    }

    /// Returns whether the connection is draining. The caller holds the lock of the output buffer.
    pub(crate) fn is_draining(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & DRAINING != 0
    }

    /// Marks the connection as drained: later input need not be taken.
    pub(super) fn set_drained(&self) {
        // Relaxed: the lock of the input buffer, or the poll of the handler, orders it with earlier
        // input.
        self.flags.fetch_or(DRAINED, Ordering::Relaxed);
    }

    /// Returns whether later requests need not be taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & DRAINED != 0
    }

    /// Ends the input, and wakes the waiting reader.
    pub(crate) fn end_input(&self, end: InputEnd) {
        let waker = self.input_buffer().set_end(end);
        waker.wake();
        self.notify_end();
    }

    /// Discards all output for good, and returns the waker of the waiting flush.
    pub(crate) fn discard(&self, reason: CloseReason) -> Wakeup {
        let mut output_buffer = lock(&self.output_buffer);
        let (waker, discarded) = output_buffer.discard(reason);
        // Relaxed: as in `unlock_and_notify`. No output is left for which a request batch should
        // end.
        self.clear_high_watermark();
        drop(output_buffer);
        drop(discarded);
        self.notify_end();
        waker
    }

    /// Discards all output for good, and wakes the waiting flush.
    pub(crate) fn discard_output(&self, reason: CloseReason) {
        let waker = self.discard(reason);
        waker.wake();
    }

    /// Removes the socket from the poller's list of sockets, which are shut down if the poller
    /// fails.
    pub(crate) fn release_socket(&self) {
        self.notifier.deregister_socket(self.fd.as_fd());
    }

    /// Returns the close reason of a request.
    pub(crate) fn reason_for(request: CloseRequest) -> CloseReason {
        match request {
            CloseRequest::Overflow => CloseReason::Limit(Limit::Output),
            CloseRequest::Panic => CloseReason::HandlerPanic,
            CloseRequest::None
            | CloseRequest::HalfClose
            | CloseRequest::Detach
            | CloseRequest::Drop
            | CloseRequest::Close
            | CloseRequest::Abort => CloseReason::Local,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Before the descriptor is closed and its number reused.
        self.release_socket();
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notifier.notify(Notice::Poll);
    }
}
