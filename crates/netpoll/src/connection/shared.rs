// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection's poller and whoever holds the [`Connection`](super::Connection) share.
//!
//! Counted, and the only owner of the descriptor: it is closed by the drop of the last link, and
//! nowhere else. Everything the *end* of a connection needs is here and not in the `Connection`,
//! which a handler may hold for as long as it likes.

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
use crate::error::{CloseReason, Limit};
use crate::foreign::Wakeup;
use crate::options::ConnOptions;
use crate::poll::notifier::{Notice, Notifier};
use crate::poll::set::LoadGuard;
use crate::sync::{Arc, AtomicU8, Mutex, MutexGuard, OnceBox, Ordering, lock};
use crate::timeouts::Timeouts;
use crate::trace::Span;

/// One connection, as both sides know it.
#[derive(Debug)]
pub(crate) struct Shared {
    fd: OwnedFd,
    peer: CompactAddr,
    pub(crate) notifier: Notifier,
    pub(crate) options: Arc<ConnOptions>,
    input_buffer: OnceBox<Mutex<InputBuffer>>,
    pub(crate) output_buffer: Mutex<OutputBuffer>,
    /// How this side has asked for the end; see [`CloseRequest`].
    close_request: AtomicU8,
    /// What holds up the usual; see [`PAST_HIGH_WATERMARK`], [`READS_PAUSED`], [`DRAINING`] and [`DRAINED`].
    flags: AtomicU8,
    pub(super) extensions: LazyExtensions,
    pub(super) metrics: ConnectionMetrics,
    pub(super) span: Span,
    /// Last, so that the descriptor is free before anybody hears that there is room.
    _load_guard: Option<LoadGuard>,
}

/// What is put has reached the write mark, and none of it was taken: a burst should end, and none
/// begin.
const PAST_HIGH_WATERMARK: u8 = 1;

/// Somebody wants nothing read for now.
const READS_PAUSED: u8 = 2;

/// The connection should take no more work. Written and read under the outbox's lock.
const DRAINING: u8 = 4;

/// It drains, and all that was sent before that is in the inbox or taken.
const DRAINED: u8 = 8;

/// How an end was asked for. The more urgent one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum CloseRequest {
    /// Not at all.
    None = 0,
    /// Only of the output: flush, FIN.
    HalfClose = 1,
    /// Of the connection, not of the socket: flush, and let go of it.
    Detach = 2,
    /// As a close, by the drop of the connection. While it drains, what is owed is waited for.
    Drop = 3,
    /// Flush, FIN, linger.
    Close = 4,
    /// As a close, by the drop of a connection whose holder panicked.
    Panic = 5,
    /// As a close, because of unsent output.
    Overflow = 6,
    /// Reset.
    Abort = 7,
}

/// What became of a buffer that was to be queued.
#[derive(Debug)]
pub(crate) enum EnqueueResult {
    Enqueued,
    /// There is no room for it.
    Full(LinkBuffer),
    /// Nothing is taken any more.
    Closed(LinkBuffer, io::Error),
}

impl CloseRequest {
    /// Whether it is nobody's any more, or should be.
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

    /// The address of the other end: what the kernel said when it was connected.
    pub(crate) fn peer(&self) -> Addr {
        let other = self
            .extensions
            .get()
            .and_then(|extensions| extensions.peer.get());
        other.map_or_else(|| self.peer.addr(), |peer| **peer)
    }

    /// Whether it is a socket of TCP. Neither a lock nor a copy of its address.
    #[inline]
    pub(crate) fn is_tcp(&self) -> bool {
        self.peer.is_tcp()
    }

    /// The peer is another one than was dialed: a dial of `0.0.0.0` reaches `127.0.0.1`. Before anybody
    /// has the connection, and once.
    pub(crate) fn set_peer(&self, peer: Addr) {
        if peer != self.peer.addr() {
            // It is told once.
            let _set = self
                .extensions
                .get_or_make()
                .peer
                .set(Box::new(peer))
                .is_ok();
        }
    }

    /// What has arrived while somebody has the connection. One allocation when it is first asked for:
    /// a connection whose handler finds all it reads has none before its end.
    pub(crate) fn input_buffer(&self) -> MutexGuard<'_, InputBuffer> {
        lock(self.input_buffer.get_or_init(Box::default))
    }

    /// The inbox, if anything was ever in it or waited for.
    #[inline]
    pub(crate) fn input_buffer_if_any(&self) -> Option<MutexGuard<'_, InputBuffer>> {
        self.input_buffer.get().map(lock)
    }

    /// Asks the poller for the end; an abort resets the peer at once. Any thread, any number of times.
    pub(crate) fn request_close(&self, request: CloseRequest) {
        // AcqRel: the poller that reads it sees what was put before.
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

    /// How long what may take now.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.extensions.timeouts().unwrap_or(self.options.timeouts)
    }

    /// Changes how long what may take. What is waited for already is measured by it, too.
    pub(crate) fn set_timeouts(&self, timeouts: Timeouts) {
        *lock(&self.extensions.get_or_make().timeouts) = Some(timeouts);
        self.notifier.notify(Notice::Deadline);
    }

    /// Takes back what was changed. No lock unless something was.
    pub(crate) fn reset_timeouts(&self) {
        let changed = self
            .extensions
            .get()
            .and_then(|extensions| lock(&extensions.timeouts).take());
        if changed.is_some() {
            self.notifier.notify(Notice::Deadline);
        }
    }

    /// Whether nobody has asked for the end, and nothing holds up the usual.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        // Relaxed: as in `release`.
        self.close_request() == CloseRequest::None && self.flags.load(Ordering::Relaxed) == 0
    }

    /// What was asked for.
    #[inline]
    pub(crate) fn close_request(&self) -> CloseRequest {
        // Acquire: pairs with `ask_end`.
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

    /// Whether more is put than should be, and none of it was taken.
    #[inline]
    pub(crate) fn is_past_high_watermark(&self) -> bool {
        // Relaxed: as in `release`.
        self.flags.load(Ordering::Relaxed) & PAST_HIGH_WATERMARK != 0
    }

    /// Whether a burst should end: for that, or because the end was asked for.
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

    /// Has the poller read no more. What has come can still be read.
    pub(crate) fn pause_reads(&self) {
        // Relaxed: the bell orders what follows.
        self.flags.fetch_or(READS_PAUSED, Ordering::Relaxed);
        self.notifier.notify_unless_running(Notice::Send);
    }

    /// Has the poller read again.
    pub(crate) fn resume_reads(&self) {
        self.flags.fetch_and(!READS_PAUSED, Ordering::Relaxed);
        self.notifier.notify_unless_running(Notice::Resume);
    }

    /// Whether somebody wants nothing read for now.
    pub(crate) fn are_reads_paused(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & READS_PAUSED != 0
    }

    /// The connection takes no more work. Under the outbox's lock.
    pub(super) fn set_draining(&self) {
        self.flags.fetch_or(DRAINING, Ordering::Relaxed);
    }

    /// Whether it takes no more work. Under the outbox's lock.
    pub(crate) fn is_draining(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & DRAINING != 0
    }

    /// The connection drains, and what comes from now on need not be taken.
    pub(super) fn set_drained(&self) {
        // Relaxed: the inbox's lock, or the poll of the handler, orders it with what came before.
        self.flags.fetch_or(DRAINED, Ordering::Relaxed);
    }

    /// Whether a request that is not there yet need not be taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & DRAINED != 0
    }

    /// Ends the input for whoever reads, and wakes him.
    pub(crate) fn end_input(&self, end: InputEnd) {
        let waker = self.input_buffer().set_end(end);
        waker.wake();
        self.notify_end();
    }

    /// Discards the output for good, and gives the waker of who waits for it.
    pub(crate) fn discard(&self, reason: CloseReason) -> Wakeup {
        let mut output_buffer = lock(&self.output_buffer);
        let (waker, discarded) = output_buffer.discard(reason);
        // Relaxed: as in `release`. Nothing is left that a burst should end for.
        self.clear_high_watermark();
        drop(output_buffer);
        drop(discarded);
        self.notify_end();
        waker
    }

    /// Discards the output for good, and wakes who waits for it.
    pub(crate) fn discard_output(&self, reason: CloseReason) {
        let waker = self.discard(reason);
        waker.wake();
    }

    /// The socket is no more the connection's to end.
    pub(crate) fn release_socket(&self) {
        self.notifier.deregister_socket(self.fd.as_fd());
    }

    /// The reason that an ending which was asked for stands for.
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
        // Before the descriptor is closed, and its number another's.
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
