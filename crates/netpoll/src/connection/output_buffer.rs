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
mod tests {
    use super::*;
    use crate::foreign::register;
    use crate::poll::notifier::Role;
    use std::task::Waker;
    use std::time::Instant;

    const WATERMARKS: Watermarks = Watermarks {
        high: 100,
        limit: 200,
    };

    fn wait_until_sent(output_buffer: &mut OutputBuffer, most: usize, wait: Wait) {
        register(Waker::noop(), |caller_waker| {
            output_buffer.wait_until_sent(most, caller_waker, wait)
        });
    }

    fn output_buffer() -> OutputBuffer {
        OutputBuffer::new()
    }

    fn text(text: &str) -> LinkBuffer {
        LinkBuffer::from(text.as_bytes().to_vec())
    }

    fn put(output_buffer: &mut OutputBuffer, bytes: usize) -> PutOutcome {
        if output_buffer.put_in_place(&[&vec![1; bytes]]) {
            return PutOutcome::Unchanged;
        }
        output_buffer.put_slices(&[&vec![1; bytes]], || WATERMARKS, || Role::Poller)
    }

    #[test]
    fn first_byte_and_high_watermark_are_reported_once() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 0), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 10), PutOutcome::FirstByte);
        assert_eq!(put(&mut output_buffer, 10), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 80), PutOutcome::HighWatermark);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
    }

    #[test]
    fn small_puts_reach_each_watermark_at_the_exact_byte() {
        let mut output_buffer = output_buffer();
        let outcome: Vec<PutOutcome> = (1..=201).map(|_| put(&mut output_buffer, 1)).collect();
        let position_of = |wanted| {
            outcome
                .iter()
                .position(|&outcome| outcome == wanted)
                .map(|at| at + 1)
        };
        assert_eq!(position_of(PutOutcome::FirstByte), Some(1));
        assert_eq!(position_of(PutOutcome::HighWatermark), Some(100));
        assert_eq!(position_of(PutOutcome::Overflow), Some(201));
        assert_eq!(
            outcome
                .iter()
                .filter(|&&outcome| outcome != PutOutcome::Unchanged)
                .count(),
            3
        );
    }

    #[test]
    fn first_put_after_a_take_is_reported_again() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        output_buffer.take().unwrap();
        // A put on another thread reports nothing, and leaves a tail to write behind.
        let off = output_buffer.put_slices(&[b"ab"], || WATERMARKS, || Role::OtherThread);
        assert_eq!(off, PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
    }

    #[test]
    fn appended_bytes_count_toward_the_watermarks() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        let outcome: Vec<PutOutcome> = (2..=100)
            .map(|_| {
                let mut part = LinkBuffer::new();
                part.put_u8(1);
                output_buffer.append(part, || WATERMARKS, || Role::Poller)
            })
            .collect();
        assert_eq!(
            outcome
                .iter()
                .position(|&outcome| outcome == PutOutcome::HighWatermark),
            Some(98)
        );
    }

    #[test]
    fn puts_behind_unsent_output_reach_the_watermark_sooner() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 150);
        let mut taken = output_buffer.take().unwrap();
        assert_eq!(
            put(&mut output_buffer, 1),
            PutOutcome::FirstByte,
            "past the watermark, which was reported before"
        );
        taken.skip(60).unwrap();
        drop(output_buffer.return_unsent(&mut taken));
        assert_eq!(output_buffer.unsent(), 91);
        assert_eq!(put(&mut output_buffer, 8), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::HighWatermark);
    }

    #[test]
    fn next_put_on_the_poller_reports_output_put_elsewhere() {
        let mut output_buffer = output_buffer();
        let off = output_buffer.append(text("ab"), || WATERMARKS, || Role::OtherThread);
        assert_eq!(off, PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
    }

    #[test]
    fn output_of_a_failed_send_is_not_reported_as_sent() {
        for off_poller in [false, true] {
            let mut output_buffer = output_buffer();
            put(&mut output_buffer, 10);
            let taken = output_buffer.take().unwrap();
            if off_poller {
                // A failed sender may have no bytes to return.
                drop(taken);
                let failed = Err(io::ErrorKind::BrokenPipe.into());
                let (flushed, poller_must_act) =
                    output_buffer.return_unsent_off_poller(&mut LinkBuffer::new(), failed);
                assert!(flushed.is_none() && poller_must_act);
            }
            assert!(
                output_buffer.flush_result(0).is_none(),
                "the failed send has no result yet"
            );
            assert!(output_buffer.discard(CloseReason::Local).0.is_none());
            assert_eq!(output_buffer.unsent(), 0);
            assert!(output_buffer.flush_result(0).unwrap().is_err());
        }
    }

    #[test]
    fn output_over_the_limit_is_discarded() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 201), PutOutcome::Overflow);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
        assert_eq!(
            output_buffer.unsent(),
            0,
            "the put behind it is discarded, too"
        );
    }

    #[test]
    fn uncommitted_bytes_count_toward_the_limit() {
        let mut output_buffer = output_buffer();
        let (_, outcome) = output_buffer.reserve(150, || WATERMARKS, || Role::Poller);
        assert_eq!(
            (outcome, output_buffer.uncommitted_len()),
            (PutOutcome::Unchanged, 150)
        );
        assert_eq!(put(&mut output_buffer, 50), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Overflow);
        assert_eq!(output_buffer.uncommitted_len(), 0);
        assert!(output_buffer.take_overflowed().is_some());
    }

    #[test]
    fn unsent_output_is_sent_before_new_output() {
        let mut output_buffer = output_buffer();
        output_buffer.append(text("abcd"), || WATERMARKS, || Role::Poller);
        let mut taken = output_buffer.take().unwrap();
        output_buffer.append(text("ef"), || WATERMARKS, || Role::Poller);
        assert_eq!(output_buffer.unsent(), 6);
        taken.skip(2).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_none());
        assert_eq!(output_buffer.take().unwrap().read_vec(4).unwrap(), b"cdef");
    }

    #[test]
    fn closed_output_buffer_discards_new_puts_and_keeps_queued_output() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 5);
        output_buffer.close(CloseReason::Local);
        assert_eq!(put(&mut output_buffer, 5), PutOutcome::Unchanged);
        assert_eq!(output_buffer.unsent(), 5);
    }

    #[test]
    fn flush_is_woken_when_all_output_is_sent() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 5);
        let wait = Wait {
            since: Instant::now(),
            deadline: None,
        };
        wait_until_sent(&mut output_buffer, 0, wait);
        let mut taken = output_buffer.take().unwrap();
        taken.skip(4).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_none());
        let mut rest = output_buffer.take().unwrap();
        rest.skip(1).unwrap();
        assert!(output_buffer.return_unsent(&mut rest).is_some());
    }

    #[test]
    fn writer_waiting_for_space_is_woken_at_its_threshold() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 90);
        let wait = Wait {
            since: Instant::now(),
            deadline: None,
        };
        wait_until_sent(&mut output_buffer, 40, wait);
        let mut taken = output_buffer.take().unwrap();
        taken.skip(49).unwrap();
        assert!(
            output_buffer.return_unsent(&mut taken).is_none(),
            "41 bytes stay unsent"
        );
        let mut taken = output_buffer.take().unwrap();
        taken.skip(1).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_some());
    }

    #[test]
    fn one_send_runs_at_a_time_and_the_poller_handles_a_full_socket() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 10);
        let mut first = output_buffer.take_off_poller().unwrap();
        put(&mut output_buffer, 5);
        assert!(
            output_buffer.take().is_none(),
            "the current sender checks again when it is done"
        );
        let (_, poller_must_act) = output_buffer.return_unsent_off_poller(&mut first, Ok(0));
        assert!(poller_must_act);
        assert_eq!(output_buffer.blocked_len(), 15);
        assert!(output_buffer.take_off_poller().is_none());
        let all = output_buffer.take().unwrap();
        assert_eq!(all.len(), 15);
        drop(output_buffer.return_unsent(&mut LinkBuffer::new()));
        assert_eq!(output_buffer.blocked_len(), 0);
    }

    #[test]
    fn output_returned_after_discard_is_discarded() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 10);
        let mut taken = output_buffer.take_off_poller().unwrap();
        drop(output_buffer.discard(CloseReason::Local));
        drop(output_buffer.return_unsent_off_poller(&mut taken, Ok(0)));
        assert_eq!(output_buffer.unsent(), 0);
    }
}
