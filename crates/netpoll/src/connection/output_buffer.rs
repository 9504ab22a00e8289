// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was put into a connection and has not left.
//!
//! Writers append, the sender takes the whole chain and puts back what the kernel did not take.
//! The lock is held for that and no longer. What is discarded under it may be memory of the user's: it is
//! given out, and dropped after the lock.

mod puts;
mod reservation;
pub(crate) mod sent_wait;
mod shutdown_state;

use std::io;

use netpoll_buffer::LinkBuffer;

use super::metrics::SendCounts;
use crate::error::{CloseReason, WriteAfterShutdown};
use crate::foreign::{CallerWaker, CloneRequired, DeferredDrop, WakerSlot, Wakeup};
use crate::poll::source::Outgoing;
use crate::timeouts::Wait;
use crate::timestamp::Timestamp;
use shutdown_state::ShutdownState;

pub(crate) use puts::{PutOutcome, Watermarks};

/// The outbox of a link.
#[derive(Debug)]
pub(crate) struct OutputBuffer {
    /// Put and not yet taken by the sender. All of it can be sent: what is uncommitted is in the owner's
    /// [`uncommitted`](ColdOutputState::uncommitted).
    buffer: LinkBuffer,
    /// With the sender; after a send that failed, what it had, until that is discarded: who asks
    /// meanwhile must not hear that all has left.
    sending: usize,
    /// How much may be put without a look at anything else: as far as the next mark, and nothing
    /// unless the outbox is open, has been heard of, and has no draft. So a small put is a few comparisons
    /// and a copy.
    headroom: usize,
    /// Somebody will have the chain sent without being told again.
    send_scheduled: bool,
    send_state: SendState,
    /// Puts are discarded, and this is why.
    close_reason: Option<Box<CloseReason>>,
    shutdown_state: ShutdownState,
    /// All bytes that the kernel has taken.
    pub(crate) sent: u64,
    /// Once there was any of it.
    cold: Option<Box<ColdOutputState>>,
}

/// What few connections ever see.
#[derive(Debug, Default)]
struct ColdOutputState {
    /// What the connection's owner has put since its first open reservation, while one is open.
    uncommitted: Option<LinkBuffer>,
    /// What an overflow has discarded, until whoever has met it has let go of the lock.
    overflowed: DiscardedOutput,
    flush_waiter: Option<FlushWaiter>,
    /// What senders that are not the session have met.
    off_poller: OffPollerSends,
}

/// What senders that are not the session have met.
#[derive(Debug, Default)]
struct OffPollerSends {
    error: Option<io::Error>,
    /// What the poller has not heard of.
    counts: SendCounts,
}

/// Whether what is here can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    /// As far as is known.
    Writable,
    /// The socket took no more: what is here is the poller's to send.
    Blocked,
    /// Nothing is sent any more, also not what a sender gives back.
    Discarding,
    /// As shut, and nobody works on the connection any more.
    Finalized,
}

/// A call that waits for output to leave.
#[derive(Debug)]
struct FlushWaiter {
    waker: WakerSlot,
    /// As much may stay unsent.
    max_unsent: usize,
    wait: Wait,
}

/// Chains that will not be sent, and may hold memory of the user's.
pub(crate) type DiscardedOutput = DeferredDrop<(LinkBuffer, Option<LinkBuffer>)>;

impl ColdOutputState {
    /// Nobody waits any more, if `is_over`: gives the waker of whoever did.
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

    /// Bytes that the kernel has not taken.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.buffer.len() + self.sending
    }

    /// Bytes that wait for the socket. What is put and not yet tried is not among them: whoever put
    /// it, or is sending, has it sent.
    pub(crate) fn blocked_len(&self) -> usize {
        if self.send_state == SendState::Blocked {
            self.unsent()
        } else {
            0
        }
    }

    /// Whether what is put is taken.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.close_reason.is_none() && self.shutdown_state == ShutdownState::Open
    }

    /// All bytes that were ever put.
    pub(crate) fn total_put(&self) -> u64 {
        self.sent + self.unsent() as u64
    }

    /// What a wait comes to for so many bytes in all to have left, if it need not wait.
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

    /// Takes all that can be sent, unless somebody is sending: whoever it is looks again when he is
    /// done. The memory that the thread writes into goes back to the thread.
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

    /// As [`take`](Self::take), for whoever is not the session: what waits for the socket is not his
    /// to send.
    pub(crate) fn take_off_poller(&mut self) -> Option<Outgoing> {
        if self.send_state == SendState::Writable {
            self.take()
        } else {
            None
        }
    }

    /// Takes back what the kernel did not take, and gives the waker of a flush that is done. Of an outbox
    /// that sends nothing any more, `rest` stays with the caller, to be dropped after the lock.
    #[inline]
    pub(crate) fn return_unsent(&mut self, rest: &mut Outgoing) -> Wakeup {
        self.sending = 0;
        if matches!(
            self.send_state,
            SendState::Discarding | SendState::Finalized
        ) {
            return Wakeup::none();
        }
        // A mark may have come nearer: the next put looks.
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

    /// As [`give_back`](Self::return_unsent), from whoever is not the session; also says whether
    /// the poller has to look: there is a rest, there was a failure, or it waits for the end.
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

    /// What senders that are not the session have sent since this was asked last, if they have.
    #[inline]
    pub(crate) fn take_off_poller_counts(&mut self) -> Option<SendCounts> {
        let off_poller = &mut self.cold.as_deref_mut()?.off_poller;
        (off_poller.counts.sends > 0).then(|| std::mem::take(&mut off_poller.counts))
    }

    /// What a sender that is not the session has met.
    pub(crate) fn take_off_poller_error(&mut self) -> Option<io::Error> {
        self.cold.as_mut()?.off_poller.error.take()
    }

    /// Wakes the offered waker once at most `most` bytes are unsent, or never will be sent.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
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

    /// The wait for output to leave.
    pub(crate) fn flush_wait(&self) -> Option<Wait> {
        let waiter = self.cold.as_ref()?.flush_waiter.as_ref();
        waiter.map(|waiter| waiter.wait)
    }

    /// What a wait comes to until at most `most` is unsent, if it need not wait.
    pub(crate) fn flush_result(&self, most: usize) -> Option<io::Result<()>> {
        // All of a finished stream may have left long before the connection ended.
        let all = self.unsent() <= most
            && (self.close_reason.is_none() || self.shutdown_state == ShutdownState::FinSent);
        if all && self.shutdown_state != ShutdownState::WriteAfterShutdown {
            return Some(Ok(()));
        }
        self.put_error().map(Err)
    }

    /// Why what is put is discarded, or will not leave.
    pub(crate) fn put_error(&self) -> Option<io::Error> {
        match (self.shutdown_state, &self.close_reason) {
            (ShutdownState::WriteAfterShutdown, _) => Some(WriteAfterShutdown::new().into()),
            (_, Some(reason)) => Some(reason.to_error()),
            (_, None) => None,
        }
    }

    /// Discards what comes from now on. What was put before stays to be sent.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.headroom = 0;
        self.close_reason.get_or_insert_with(|| Box::new(reason));
    }

    /// Why puts are discarded, if they are.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.close_reason.as_deref()
    }

    /// Discards everything, and gives the waker of a flush that waits in vain.
    pub(crate) fn discard(&mut self, reason: CloseReason) -> (Wakeup, DiscardedOutput) {
        self.close(reason);
        if self.send_state != SendState::Finalized {
            self.send_state = SendState::Discarding;
        }
        self.sending = 0;
        (self.take_waiter(), self.take_all())
    }

    /// All that is here, to be dropped after the lock.
    fn take_all(&mut self) -> DiscardedOutput {
        let chain = std::mem::take(&mut self.buffer);
        DeferredDrop::new((chain, self.take_uncommitted()))
    }

    /// Nothing that is waited for will come: gives the waker of who waits.
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

    const MARKS: Watermarks = Watermarks {
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
        output_buffer.put_slices(&[&vec![1; bytes]], || MARKS, || Role::Poller)
    }

    #[test]
    fn the_poller_hears_of_the_first_byte_and_of_the_mark() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 0), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 10), PutOutcome::FirstByte);
        assert_eq!(put(&mut output_buffer, 10), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 80), PutOutcome::HighWatermark);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
    }

    #[test]
    fn many_small_puts_meet_each_mark_at_its_byte() {
        let mut output_buffer = output_buffer();
        let outcome: Vec<PutOutcome> = (1..=201).map(|_| put(&mut output_buffer, 1)).collect();
        let told = |wanted| {
            outcome
                .iter()
                .position(|&outcome| outcome == wanted)
                .map(|at| at + 1)
        };
        assert_eq!(told(PutOutcome::FirstByte), Some(1));
        assert_eq!(told(PutOutcome::HighWatermark), Some(100));
        assert_eq!(told(PutOutcome::Overflow), Some(201));
        assert_eq!(
            outcome
                .iter()
                .filter(|&&outcome| outcome != PutOutcome::Unchanged)
                .count(),
            3
        );
    }

    #[test]
    fn what_is_put_after_a_take_is_told_of_again() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        output_buffer.take().unwrap();
        // Off the poller nobody is told, and there is a place to go on writing behind.
        let off = output_buffer.put_slices(&[b"ab"], || MARKS, || Role::OtherThread);
        assert_eq!(off, PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
    }

    #[test]
    fn what_is_appended_counts_towards_the_marks_as_what_is_copied_does() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        let outcome: Vec<PutOutcome> = (2..=100)
            .map(|_| {
                let mut part = LinkBuffer::new();
                part.put_u8(1);
                output_buffer.append(part, || MARKS, || Role::Poller)
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
    fn what_is_put_behind_a_rest_meets_the_mark_that_has_come_nearer() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 150);
        let mut taken = output_buffer.take().unwrap();
        assert_eq!(
            put(&mut output_buffer, 1),
            PutOutcome::FirstByte,
            "past the mark, and told of it"
        );
        taken.skip(60).unwrap();
        drop(output_buffer.return_unsent(&mut taken));
        assert_eq!(output_buffer.unsent(), 91);
        assert_eq!(put(&mut output_buffer, 8), PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::HighWatermark);
    }

    #[test]
    fn output_put_off_the_poller_is_told_of_by_the_next_put_on_it() {
        let mut output_buffer = output_buffer();
        let off = output_buffer.append(text("ab"), || MARKS, || Role::OtherThread);
        assert_eq!(off, PutOutcome::Unchanged);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
    }

    #[test]
    fn what_a_failed_send_had_has_not_left_and_is_gone_with_the_reason() {
        for off_poller in [false, true] {
            let mut output_buffer = output_buffer();
            put(&mut output_buffer, 10);
            let taken = output_buffer.take().unwrap();
            if off_poller {
                // A sender may have no rest to give back.
                drop(taken);
                let failed = Err(io::ErrorKind::BrokenPipe.into());
                let (flushed, poller_looks) =
                    output_buffer.return_unsent_off_poller(&mut LinkBuffer::new(), failed);
                assert!(flushed.is_none() && poller_looks);
            }
            assert!(
                output_buffer.flush_result(0).is_none(),
                "nobody knows how it ended"
            );
            assert!(output_buffer.discard(CloseReason::Local).0.is_none());
            assert_eq!(output_buffer.unsent(), 0);
            assert!(output_buffer.flush_result(0).unwrap().is_err());
        }
    }

    #[test]
    fn more_than_the_bound_is_thrown_away() {
        let mut output_buffer = output_buffer();
        assert_eq!(put(&mut output_buffer, 201), PutOutcome::Overflow);
        assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
        assert_eq!(output_buffer.unsent(), 0, "and what is put behind it");
    }

    #[test]
    fn uncommitted_bytes_count_towards_the_bound() {
        let mut output_buffer = output_buffer();
        let (_, outcome) = output_buffer.reserve(150, || MARKS, || Role::Poller);
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
    fn what_the_kernel_did_not_take_is_sent_first() {
        let mut output_buffer = output_buffer();
        output_buffer.append(text("abcd"), || MARKS, || Role::Poller);
        let mut taken = output_buffer.take().unwrap();
        output_buffer.append(text("ef"), || MARKS, || Role::Poller);
        assert_eq!(output_buffer.unsent(), 6);
        taken.skip(2).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_none());
        assert_eq!(output_buffer.take().unwrap().read_vec(4).unwrap(), b"cdef");
    }

    #[test]
    fn a_closed_outbox_discards_puts_and_keeps_what_was_there() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 5);
        output_buffer.close(CloseReason::Local);
        assert_eq!(put(&mut output_buffer, 5), PutOutcome::Unchanged);
        assert_eq!(output_buffer.unsent(), 5);
    }

    #[test]
    fn a_flush_is_woken_when_everything_has_left() {
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
    fn who_waits_for_room_is_woken_when_no_more_is_unsent_than_he_said() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 90);
        let wait = Wait {
            since: Instant::now(),
            deadline: None,
        };
        wait_until_sent(&mut output_buffer, 40, wait);
        let mut taken = output_buffer.take().unwrap();
        taken.skip(49).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_none(), "41 stay");
        let mut taken = output_buffer.take().unwrap();
        taken.skip(1).unwrap();
        assert!(output_buffer.return_unsent(&mut taken).is_some());
    }

    #[test]
    fn one_chain_is_sent_at_a_time_and_a_full_socket_is_the_pollers() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 10);
        let mut first = output_buffer.take_off_poller().unwrap();
        put(&mut output_buffer, 5);
        assert!(
            output_buffer.take().is_none(),
            "who sends looks again himself"
        );
        let (_, poller_looks) = output_buffer.return_unsent_off_poller(&mut first, Ok(0));
        assert!(poller_looks);
        assert_eq!(output_buffer.blocked_len(), 15);
        assert!(output_buffer.take_off_poller().is_none());
        let all = output_buffer.take().unwrap();
        assert_eq!(all.len(), 15);
        drop(output_buffer.return_unsent(&mut LinkBuffer::new()));
        assert_eq!(output_buffer.blocked_len(), 0);
    }

    #[test]
    fn what_comes_back_after_everything_was_discarded_is_too() {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 10);
        let mut taken = output_buffer.take_off_poller().unwrap();
        drop(output_buffer.discard(CloseReason::Local));
        drop(output_buffer.return_unsent_off_poller(&mut taken, Ok(0)));
        assert_eq!(output_buffer.unsent(), 0);
    }
}
