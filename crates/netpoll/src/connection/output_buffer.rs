// SPDX-License-Identifier: MIT OR Apache-2.0
//! The output of a connection that the kernel has not taken yet.
//!
//! Writers append. The sender takes the whole buffer and returns the bytes that the kernel did not
//! take. The lock is held for these two steps only. Discarded output may contain memory of the
//! user, so it is returned to the caller and dropped after the lock is released.

mod puts;
mod reservation;
pub(crate) mod sent_wait;
mod shutdown_state;

use std::io;
use std::time::Instant;

use netpoll_buffer::LinkBuffer;

use super::metrics::SendCounts;
use crate::error::{CloseReason, ErrorKind};
use crate::foreign::{CallerWaker, CloneRequired, DeferredDrop, WakerSlot, Wakeup};
use crate::poll::source::Outgoing;
use crate::timeouts::Wait;
use crate::timestamp::Timestamp;
use shutdown_state::ShutdownState;

pub(crate) use puts::{PutOutcome, Watermarks};

/// The output buffer of a connection's shared state.
#[derive(Debug)]
pub(crate) struct OutputBuffer {
    /// Put and not yet taken by the sender. All of it can be sent: uncommitted bytes are in the
    /// owner's [`uncommitted`](ColdOutputState::uncommitted).
    buffer: LinkBuffer,
    /// Bytes that the sender has taken. After a failed send they count until they are discarded, so
    /// that a flush in between does not report them as sent.
    sending: usize,
    /// How many bytes fit before the next watermark without any other check. It is 0 unless the
    /// buffer is open, has no open reservation, and a send is scheduled. So a small put is a few
    /// comparisons and a copy.
    headroom: usize,
    /// A send is already scheduled; a put need not notify the poller.
    send_scheduled: bool,
    send_state: SendState,
    /// Why puts are discarded, once they are.
    close_reason: Option<Box<CloseReason>>,
    shutdown_state: ShutdownState,
    /// The total number of bytes that the kernel has taken.
    pub(crate) sent: u64,
    /// Allocated on first use.
    cold: Option<Box<ColdOutputState>>,
}

/// Rarely used state, kept out of [`OutputBuffer`] to save memory.
#[derive(Debug, Default)]
struct ColdOutputState {
    /// The bytes that the connection's owner has put since its first open reservation, while one is
    /// open.
    uncommitted: Option<LinkBuffer>,
    /// Output that an overflow has discarded. The put that overflowed takes it and drops it after
    /// the lock.
    overflowed: DiscardedOutput,
    flush_waiter: Option<FlushWaiter>,
    /// Results of sends outside the engine.
    off_poller: OffPollerSends,
}

/// Results of sends outside the engine, that is by writers on their own thread.
#[derive(Debug, Default)]
struct OffPollerSends {
    error: Option<io::Error>,
    /// Sends that the engine has not counted yet.
    counts: SendCounts,
}

/// Whether buffered output can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    /// The socket takes output, as far as is known.
    Writable,
    /// The socket is full: only the poller sends from here.
    Blocked,
    /// Nothing is sent any more, and bytes that a sender returns are discarded.
    Discarding,
    /// As `Discarding`, and the connection is over.
    Finalized,
}

/// A call that waits for output to be sent.
#[derive(Debug)]
struct FlushWaiter {
    waker: WakerSlot,
    /// The call is done once at most this many bytes are unsent.
    max_unsent: usize,
    wait: Wait,
}

/// Output that will not be sent. It may contain memory of the user.
pub(crate) type DiscardedOutput = DeferredDrop<(LinkBuffer, Option<LinkBuffer>)>;

impl ColdOutputState {
    /// Removes the waiter if `is_over` says so, and returns its waker.
    fn take_waiter_if(&mut self, is_over: impl FnOnce(&FlushWaiter) -> bool) -> Wakeup {
        match self.flush_waiter.take_if(|waiter| is_over(waiter)) {
            Some(mut waiter) => waiter.waker.take(),
            None => Wakeup::none(),
        }
    }
}

impl OutputBuffer {
    pub(crate) fn new() -> Self {
        Self {
            buffer: LinkBuffer::new(),
            sending: 0,
            headroom: 0,
            send_scheduled: false,
            send_state: SendState::Writable,
            close_reason: None,
            shutdown_state: ShutdownState::Open,
            sent: 0,
            cold: None,
        }
    }

    /// Returns the number of bytes that the kernel has not taken.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.buffer.len() + self.sending
    }

    /// Returns the number of bytes that wait for the socket to become writable. Bytes that were put
    /// and not yet tried are not among them: the writer or the current sender sends those.
    pub(crate) fn blocked_len(&self) -> usize {
        if self.send_state == SendState::Blocked {
            self.unsent()
        } else {
            0
        }
    }

    /// Returns whether the buffer accepts puts.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.close_reason.is_none() && self.shutdown_state == ShutdownState::Open
    }

    /// Returns the total number of bytes that were ever put.
    pub(crate) fn total_put(&self) -> u64 {
        self.sent + self.unsent() as u64
    }

    /// Returns the result of a wait until `target` bytes in total are sent, or `None` while it has
    /// to wait.
    pub(crate) fn sent_result(&self, target: u64) -> Option<io::Result<()>> {
        if self.sent >= target {
            return Some(Ok(()));
        }
        let lost = matches!(
            self.send_state,
            SendState::Discarding | SendState::Finalized
        );
        let refusal = self.put_error().filter(|_| lost);
        refusal.map(Err)
    }

    /// Takes all that can be sent, unless a send is under way: that sender checks again when it is
    /// done. The tail block goes back to the thread.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Outgoing> {
        if self.buffer.is_empty() || self.sending > 0 {
            return None;
        }
        let outgoing = self.buffer.take_readable();
        self.buffer.return_tail();
        self.sending = outgoing.len();
        self.send_scheduled = false;
        self.headroom = 0;
        Some(outgoing)
    }

    /// As [`take`](Self::take), for a sender other than the engine. It takes nothing while the
    /// socket is full, because the poller sends then.
    pub(crate) fn take_off_poller(&mut self) -> Option<Outgoing> {
        if self.send_state == SendState::Writable {
            self.take()
        } else {
            None
        }
    }

    /// Returns whether the caller may send `len` bytes of its own now, because nothing is queued.
    /// They count as taken by a sender from here on, until
    /// [`return_unsent_off_poller`](Self::return_unsent_off_poller).
    pub(crate) fn begin_direct_send(&mut self, len: usize) -> bool {
        let may = self.is_open()
            && self.unsent() == 0
            && self.send_state == SendState::Writable
            && !self.has_reservation();
        if may {
            self.sending = len;
            self.headroom = 0;
        }
        may
    }

    /// Takes back the bytes that the kernel did not take, and returns the waker of a flush that is
    /// complete. If the buffer sends nothing any more, `rest` stays with the caller, to be dropped
    /// after the lock.
    #[inline]
    pub(crate) fn return_unsent(&mut self, rest: &mut Outgoing) -> Wakeup {
        self.sending = 0;
        if matches!(
            self.send_state,
            SendState::Discarding | SendState::Finalized
        ) {
            return Wakeup::none();
        }
        // The next watermark may be nearer now: the next put checks.
        self.headroom = 0;
        if rest.is_empty() {
            self.send_state = SendState::Writable;
        } else {
            self.send_state = SendState::Blocked;
            self.buffer.prepend(std::mem::take(rest));
        }
        let unsent = self.buffer.len();
        match &mut self.cold {
            Some(cold) => cold.take_waiter_if(|waiter| unsent <= waiter.max_unsent),
            None => Wakeup::none(),
        }
    }

    /// As [`return_unsent`](Self::return_unsent), for a sender other than the engine. Also returns
    /// whether the poller has to act: bytes are left, the send failed, or the buffer is closed and
    /// the poller may wait for this send.
    pub(crate) fn return_unsent_off_poller(
        &mut self,
        rest: &mut Outgoing,
        result: io::Result<usize>,
    ) -> (Wakeup, bool) {
        let off_poller = &mut self.cold.get_or_insert_default().off_poller;
        off_poller.counts.sends += 1;
        match result {
            Ok(count) => {
                if count > 0 {
                    off_poller.counts.last_at = Some(Timestamp::now());
                }
                off_poller.counts.sent += count as u64;
                off_poller.counts.blocks += u64::from(!rest.is_empty());
                self.sent += count as u64;
                let done = self.return_unsent(rest);
                (
                    done,
                    self.send_state == SendState::Blocked || !self.is_open(),
                )
            }
            Err(error) => {
                off_poller.error = Some(error);
                (Wakeup::none(), true)
            }
        }
    }

    /// Returns the counts of sends outside the engine since the last call, if there were any.
    #[inline]
    pub(crate) fn take_off_poller_counts(&mut self) -> Option<SendCounts> {
        let off_poller = &mut self.cold.as_deref_mut()?.off_poller;
        (off_poller.counts.sends > 0).then(|| std::mem::take(&mut off_poller.counts))
    }

    /// Takes the error of a failed send outside the engine.
    pub(crate) fn take_off_poller_error(&mut self) -> Option<io::Error> {
        self.cold.as_mut()?.off_poller.error.take()
    }

    /// Registers the caller's waker, to be woken once at most `most` bytes are unsent or the output
    /// is discarded.
    pub(crate) fn wait_until_sent(
        &mut self,
        most: usize,
        caller_waker: &mut CallerWaker<'_>,
        wait: Wait,
    ) -> Result<(), CloneRequired> {
        match &mut self.cold.get_or_insert_default().flush_waiter {
            Some(known) => {
                known.waker.set(caller_waker)?;
                known.max_unsent = most;
                known.wait = wait;
            }
            waiter => {
                let waker = caller_waker.slot()?;
                *waiter = Some(FlushWaiter {
                    waker,
                    max_unsent: most,
                    wait,
                });
            }
        }
        Ok(())
    }

    /// Returns since when a call waits until at most `most` bytes are unsent, if one does.
    pub(crate) fn waiting_since(&self, most: usize) -> Option<Instant> {
        let waiter = self.cold.as_ref()?.flush_waiter.as_ref()?;
        (waiter.max_unsent == most).then_some(waiter.wait.since)
    }

    /// Returns the time limits of the registered wait, if there is one.
    pub(crate) fn flush_wait(&self) -> Option<Wait> {
        let waiter = self.cold.as_ref()?.flush_waiter.as_ref();
        waiter.map(|waiter| waiter.wait)
    }

    /// Returns the result of a wait until at most `most` bytes are unsent, or `None` while it has
    /// to wait.
    pub(crate) fn flush_result(&self, most: usize) -> Option<io::Result<()>> {
        // All output of a stream that was shut down may have been sent long before the connection
        // ended.
        let all = self.unsent() <= most
            && (self.close_reason.is_none() || self.shutdown_state == ShutdownState::FinSent);
        if all && self.shutdown_state != ShutdownState::WriteAfterShutdown {
            return Some(Ok(()));
        }
        self.put_error().map(Err)
    }

    /// Returns why puts are discarded or will not be sent.
    pub(crate) fn put_error(&self) -> Option<io::Error> {
        match (self.shutdown_state, &self.close_reason) {
            (ShutdownState::WriteAfterShutdown, _) => Some(ErrorKind::WriteAfterShutdown.into()),
            (_, Some(reason)) => Some(reason.to_error()),
            (_, None) => None,
        }
    }

    /// Discards all later puts. Output that was put before stays to be sent. The first reason is
    /// kept.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.headroom = 0;
        self.close_reason.get_or_insert_with(|| Box::new(reason));
    }

    /// Returns why puts are discarded, if they are.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.close_reason.as_deref()
    }

    /// Discards all output, and returns the waker of a flush that cannot complete any more.
    pub(crate) fn discard(&mut self, reason: CloseReason) -> (Wakeup, DiscardedOutput) {
        self.close(reason);
        if self.send_state != SendState::Finalized {
            self.send_state = SendState::Discarding;
        }
        self.sending = 0;
        (self.take_waiter(), self.take_all())
    }

    /// Takes all output, to be dropped after the lock.
    fn take_all(&mut self) -> DiscardedOutput {
        let buffer = std::mem::take(&mut self.buffer);
        DeferredDrop::new((buffer, self.take_uncommitted()))
    }

    /// Removes the waiter, and returns its waker.
    fn take_waiter(&mut self) -> Wakeup {
        match &mut self.cold {
            Some(cold) => cold.take_waiter_if(|_| true),
            None => Wakeup::none(),
        }
    }
}

#[cfg(test)]
mod tests;
