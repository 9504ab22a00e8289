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

use super::inbox::{Inbox, InputEnd};
use super::outbox::Outbox;
use super::rare::Rarely;
use super::tally::Tally;
use crate::addr::{Addr, Kept};
use crate::error::{CloseReason, Limit};
use crate::foreign::Wakeup;
use crate::options::ConnOptions;
use crate::poll::bell::{Bell, Signal};
use crate::poll::set::Seat;
use crate::sync::{Arc, AtomicU8, Mutex, MutexGuard, OnceBox, Ordering, lock};
use crate::timeouts::Timeouts;
use crate::trace::Span;

/// One connection, as both sides know it.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    peer: Kept,
    pub(crate) bell: Bell,
    pub(crate) options: Arc<ConnOptions>,
    inbox: OnceBox<Mutex<Inbox>>,
    pub(crate) outbox: Mutex<Outbox>,
    /// How this side has asked for the end; see [`Ending`].
    ending: AtomicU8,
    /// What holds up the usual; see [`PAST_MARK`], [`READS_PAUSED`], [`DRAINS`] and [`DRAINED`].
    holds: AtomicU8,
    pub(super) rare: Rarely,
    pub(super) tally: Tally,
    pub(super) span: Span,
    /// Last, so that the descriptor is free before anybody hears that there is room.
    _seat: Option<Seat>,
}

/// What is put has reached the write mark, and none of it was taken: a burst should end, and none
/// begin.
const PAST_MARK: u8 = 1;

/// Somebody wants nothing read for now.
const READS_PAUSED: u8 = 2;

/// The connection should take no more work. Written and read under the outbox's lock.
const DRAINS: u8 = 4;

/// It drains, and all that was sent before that is in the inbox or taken.
const DRAINED: u8 = 8;

/// How an end was asked for. The more urgent one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Ending {
    /// Not at all.
    None = 0,
    /// Only of the output: flush, FIN.
    Finish = 1,
    /// Of the connection, not of the socket: flush, and let go of it.
    Leave = 2,
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
pub(crate) enum Queued {
    Taken,
    /// There is no room for it.
    Full(LinkBuffer),
    /// Nothing is taken any more.
    Refused(LinkBuffer, io::Error),
}

impl Ending {
    /// Whether it is nobody's any more, or should be.
    pub(crate) fn is_of_all(self) -> bool {
        self >= Self::Drop
    }
}

impl Link {
    pub(crate) fn new(
        fd: OwnedFd,
        peer: Addr,
        bell: Bell,
        options: Arc<ConnOptions>,
        seat: Option<Seat>,
    ) -> Self {
        bell.enrol(fd.as_fd());
        Self {
            fd,
            peer: peer.into(),
            bell,
            options,
            inbox: OnceBox::new(),
            outbox: Mutex::new(Outbox::new()),
            ending: AtomicU8::new(Ending::None as u8),
            holds: AtomicU8::new(0),
            rare: Rarely::default(),
            tally: Tally::default(),
            span: Span::none(),
            _seat: seat,
        }
    }

    /// The address of the other end: what the kernel said when it was connected.
    pub(crate) fn peer(&self) -> Addr {
        let other = self.rare.get().and_then(|rare| rare.peer.get());
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
            let _set = self.rare.get_or_make().peer.set(Box::new(peer)).is_ok();
        }
    }

    /// What has arrived while somebody has the connection. One allocation when it is first asked for:
    /// a connection whose handler finds all it reads has none before its end.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(self.inbox.get_or_init(Box::default))
    }

    /// The inbox, if anything was ever in it or waited for.
    #[inline]
    pub(crate) fn inbox_if_any(&self) -> Option<MutexGuard<'_, Inbox>> {
        self.inbox.get().map(lock)
    }

    /// Asks the poller for the end; an abort resets the peer at once. Any thread, any number of times.
    pub(crate) fn ask_end(&self, ending: Ending) {
        // AcqRel: the poller that reads it sees what was put before.
        let before = self.ending.fetch_max(ending as u8, Ordering::AcqRel);
        if before < ending as u8 {
            if ending == Ending::Abort {
                self.reset();
            }
            self.bell.mark(Signal::Close);
        }
    }

    /// How long what may take now.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.rare.timeouts().unwrap_or(self.options.timeouts)
    }

    /// Changes how long what may take. What is waited for already is measured by it, too.
    pub(crate) fn set_timeouts(&self, timeouts: Timeouts) {
        *lock(&self.rare.get_or_make().timeouts) = Some(timeouts);
        self.bell.ring(Signal::Clock);
    }

    /// Takes back what was changed. No lock unless something was.
    pub(crate) fn reset_timeouts(&self) {
        let changed = self.rare.get().and_then(|rare| lock(&rare.timeouts).take());
        if changed.is_some() {
            self.bell.ring(Signal::Clock);
        }
    }

    /// Whether nobody has asked for the end, and nothing holds up the usual.
    #[inline]
    pub(crate) fn is_untouched(&self) -> bool {
        // Relaxed: as in `release`.
        self.ending() == Ending::None && self.holds.load(Ordering::Relaxed) == 0
    }

    /// What was asked for.
    #[inline]
    pub(crate) fn ending(&self) -> Ending {
        // Acquire: pairs with `ask_end`.
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::None,
            1 => Ending::Finish,
            2 => Ending::Leave,
            3 => Ending::Drop,
            4 => Ending::Close,
            5 => Ending::Panic,
            6 => Ending::Overflow,
            _ => Ending::Abort,
        }
    }

    /// Whether more is put than should be, and none of it was taken.
    #[inline]
    pub(crate) fn is_past_write_mark(&self) -> bool {
        // Relaxed: as in `release`.
        self.holds.load(Ordering::Relaxed) & PAST_MARK != 0
    }

    /// Whether a burst should end: for that, or because the end was asked for.
    #[inline]
    pub(crate) fn ends_bursts(&self) -> bool {
        self.is_past_write_mark() || self.ending() != Ending::None
    }

    fn clear_mark(&self) {
        if self.is_past_write_mark() {
            self.holds.fetch_and(!PAST_MARK, Ordering::Relaxed);
        }
    }

    /// Has the poller read no more. What has come can still be read.
    pub(crate) fn pause_reads(&self) {
        // Relaxed: the bell orders what follows.
        self.holds.fetch_or(READS_PAUSED, Ordering::Relaxed);
        self.bell.mark(Signal::Send);
    }

    /// Has the poller read again.
    pub(crate) fn resume_reads(&self) {
        self.holds.fetch_and(!READS_PAUSED, Ordering::Relaxed);
        self.bell.mark(Signal::Resume);
    }

    /// Whether somebody wants nothing read for now.
    pub(crate) fn are_reads_paused(&self) -> bool {
        self.holds.load(Ordering::Relaxed) & READS_PAUSED != 0
    }

    /// The connection takes no more work. Under the outbox's lock.
    pub(super) fn note_drain(&self) {
        self.holds.fetch_or(DRAINS, Ordering::Relaxed);
    }

    /// Whether it takes no more work. Under the outbox's lock.
    pub(crate) fn drains(&self) -> bool {
        self.holds.load(Ordering::Relaxed) & DRAINS != 0
    }

    /// The connection drains, and what comes from now on need not be taken.
    pub(super) fn note_drained(&self) {
        // Relaxed: the inbox's lock, or the poll of the handler, orders it with what came before.
        self.holds.fetch_or(DRAINED, Ordering::Relaxed);
    }

    /// Whether a request that is not there yet need not be taken.
    pub(crate) fn is_drained(&self) -> bool {
        self.holds.load(Ordering::Relaxed) & DRAINED != 0
    }

    /// Ends the input for whoever reads, and wakes him.
    pub(crate) fn finish_input(&self, end: InputEnd) {
        let waker = self.inbox().finish(end);
        waker.wake();
        self.tell_end();
    }

    /// Discards the output for good, and gives the waker of who waits for it.
    pub(crate) fn discard(&self, reason: CloseReason) -> Wakeup {
        let mut outbox = lock(&self.outbox);
        let (waker, discarded) = outbox.discard(reason);
        // Relaxed: as in `release`. Nothing is left that a burst should end for.
        self.clear_mark();
        drop(outbox);
        drop(discarded);
        self.tell_end();
        waker
    }

    /// Discards the output for good, and wakes who waits for it.
    pub(crate) fn discard_output(&self, reason: CloseReason) {
        let waker = self.discard(reason);
        waker.wake();
    }

    /// The socket is no more the connection's to end.
    pub(crate) fn let_go_of_socket(&self) {
        self.bell.strike(self.fd.as_fd());
    }

    /// The reason that an ending which was asked for stands for.
    pub(crate) fn reason_of(ending: Ending) -> CloseReason {
        match ending {
            Ending::Overflow => CloseReason::Limit(Limit::Output),
            Ending::Panic => CloseReason::HandlerPanic,
            Ending::None
            | Ending::Finish
            | Ending::Leave
            | Ending::Drop
            | Ending::Close
            | Ending::Abort => CloseReason::Local,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Before the descriptor is closed, and its number another's.
        self.let_go_of_socket();
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(Signal::Poll);
    }
}
