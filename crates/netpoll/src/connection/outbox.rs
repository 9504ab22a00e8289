// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was put into a connection and has not left.
//!
//! Writers append, the sender takes the whole chain and puts back what the kernel did not take.
//! The lock is held for that and no longer. What is discarded under it may be memory of the user's: it is
//! given out, and dropped after the lock.

mod draft;
mod ending;
mod puts;
pub(crate) mod waiting;

use std::io;

use netpoll_buffer::LinkBuffer;

use super::tally::Sends;
use crate::error::{AfterFinish, CloseReason};
use crate::foreign::{Deferred, NotCloned, Offer, WakerSlot, Wakeup};
use crate::moment::Moment;
use crate::poll::source::Outgoing;
use crate::timeouts::Wait;
use ending::Stream;

pub(crate) use puts::{Marks, Put};

/// The outbox of a link.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Put and not yet taken by the sender. All of it can be sent: what is uncommitted is in the owner's
    /// [draft](Unusual::draft).
    chain: LinkBuffer,
    /// With the sender; after a send that failed, what it had, until that is discarded: who asks
    /// meanwhile must not hear that all has left.
    sending: usize,
    /// How much may be put without a look at anything else: as far as the next mark, and nothing
    /// unless the outbox is open, has been heard of, and has no draft. So a small put is a few comparisons
    /// and a copy.
    slack: usize,
    /// Somebody will have the chain sent without being told again.
    heard: bool,
    way: Way,
    /// Puts are discarded, and this is why.
    closed: Option<Box<CloseReason>>,
    stream: Stream,
    /// All bytes that the kernel has taken.
    pub(crate) sent: u64,
    /// Once there was any of it.
    unusual: Option<Box<Unusual>>,
}

/// What few connections ever see.
#[derive(Debug, Default)]
struct Unusual {
    /// What the connection's owner has put since its first open reservation, while one is open.
    draft: Option<LinkBuffer>,
    /// What an overflow has discarded, until whoever has met it has let go of the lock.
    overflown: Discarded,
    leaving: Option<Leaving>,
    /// What senders that are not the session have met.
    elsewhere: Elsewhere,
}

/// What senders that are not the session have met.
#[derive(Debug, Default)]
struct Elsewhere {
    failure: Option<io::Error>,
    /// What the poller has not heard of.
    counts: Sends,
}

/// Whether what is here can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As far as is known.
    Free,
    /// The socket took no more: what is here is the poller's to send.
    Blocked,
    /// Nothing is sent any more, also not what a sender gives back.
    Shut,
    /// As shut, and nobody works on the connection any more.
    Over,
}

/// A call that waits for output to leave.
#[derive(Debug)]
struct Leaving {
    waker: WakerSlot,
    /// As much may stay unsent.
    most: usize,
    wait: Wait,
}

/// Chains that will not be sent, and may hold memory of the user's.
pub(crate) type Discarded = Deferred<(LinkBuffer, Option<LinkBuffer>)>;

impl Unusual {
    /// Nobody waits any more, if `is_over`: gives the waker of whoever did.
    fn stop_waiting_if(&mut self, is_over: impl FnOnce(&Leaving) -> bool) -> Wakeup {
        match self.leaving.take_if(|leaving| is_over(leaving)) {
            Some(mut leaving) => leaving.waker.take(),
            None => Wakeup::none(),
        }
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            chain: LinkBuffer::new(),
            sending: 0,
            slack: 0,
            heard: false,
            way: Way::Free,
            closed: None,
            stream: Stream::Open,
            sent: 0,
            unusual: None,
        }
    }

    /// Bytes that the kernel has not taken.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.chain.len() + self.sending
    }

    /// Bytes that wait for the socket. What is put and not yet tried is not among them: whoever put
    /// it, or is sending, has it sent.
    pub(crate) fn held_up(&self) -> usize {
        if self.way == Way::Blocked {
            self.unsent()
        } else {
            0
        }
    }

    /// Whether what is put is taken.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none() && self.stream == Stream::Open
    }

    /// All bytes that were ever put.
    pub(crate) fn put_in_all(&self) -> u64 {
        self.sent + self.unsent() as u64
    }

    /// What a wait comes to for so many bytes in all to have left, if it need not wait.
    pub(crate) fn has_sent_all(&self, target: u64) -> Option<io::Result<()>> {
        if self.sent >= target {
            return Some(Ok(()));
        }
        let lost = matches!(self.way, Way::Shut | Way::Over);
        let refusal = self.refusal().filter(|_| lost);
        refusal.map(Err)
    }

    /// Takes all that can be sent, unless somebody is sending: whoever it is looks again when he is
    /// done. The memory that the thread writes into goes back to the thread.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Outgoing> {
        if self.chain.is_empty() || self.sending > 0 {
            return None;
        }
        let outgoing = self.chain.take_readable();
        self.chain.return_tail();
        self.sending = outgoing.len();
        self.heard = false;
        self.slack = 0;
        Some(outgoing)
    }

    /// As [`take`](Self::take), for whoever is not the session: what waits for the socket is not his
    /// to send.
    pub(crate) fn take_elsewhere(&mut self) -> Option<Outgoing> {
        if self.way == Way::Free {
            self.take()
        } else {
            None
        }
    }

    /// Takes back what the kernel did not take, and gives the waker of a flush that is done. Of an outbox
    /// that sends nothing any more, `rest` stays with the caller, to be dropped after the lock.
    #[inline]
    pub(crate) fn give_back(&mut self, rest: &mut Outgoing) -> Wakeup {
        self.sending = 0;
        if matches!(self.way, Way::Shut | Way::Over) {
            return Wakeup::none();
        }
        // A mark may have come nearer: the next put looks.
        self.slack = 0;
        if rest.is_empty() {
            self.way = Way::Free;
        } else {
            self.way = Way::Blocked;
            self.chain.prepend(std::mem::take(rest));
        }
        let unsent = self.chain.len();
        match &mut self.unusual {
            Some(unusual) => unusual.stop_waiting_if(|leaving| unsent <= leaving.most),
            None => Wakeup::none(),
        }
    }

    /// As [`give_back`](Self::give_back), from whoever is not the session; also says whether
    /// the poller has to look: there is a rest, there was a failure, or it waits for the end.
    pub(crate) fn give_back_elsewhere(
        &mut self,
        rest: &mut Outgoing,
        result: io::Result<usize>,
    ) -> (Wakeup, bool) {
        let elsewhere = &mut self.unusual.get_or_insert_default().elsewhere;
        elsewhere.counts.sends += 1;
        match result {
            Ok(count) => {
                if count > 0 {
                    elsewhere.counts.at = Some(Moment::now());
                }
                elsewhere.counts.sent += count as u64;
                elsewhere.counts.blocks += u64::from(!rest.is_empty());
                self.sent += count as u64;
                let done = self.give_back(rest);
                (done, self.way == Way::Blocked || !self.is_open())
            }
            Err(error) => {
                elsewhere.failure = Some(error);
                (Wakeup::none(), true)
            }
        }
    }

    /// What senders that are not the session have sent since this was asked last, if they have.
    #[inline]
    pub(crate) fn take_elsewhere_sent(&mut self) -> Option<Sends> {
        let elsewhere = &mut self.unusual.as_deref_mut()?.elsewhere;
        (elsewhere.counts.sends > 0).then(|| std::mem::take(&mut elsewhere.counts))
    }

    /// What a sender that is not the session has met.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.unusual.as_mut()?.elsewhere.failure.take()
    }

    /// Wakes the offered waker once at most `most` bytes are unsent, or never will be sent.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
    pub(crate) fn wait_until_sent(
        &mut self,
        most: usize,
        offer: &mut Offer<'_>,
        wait: Wait,
    ) -> Result<(), NotCloned> {
        match &mut self.unusual.get_or_insert_default().leaving {
            Some(known) => {
                known.waker.set(offer)?;
                known.most = most;
                known.wait = wait;
            }
            leaving => {
                let waker = offer.slot()?;
                *leaving = Some(Leaving { waker, most, wait });
            }
        }
        Ok(())
    }

    /// The wait for output to leave.
    pub(crate) fn wait_to_leave(&self) -> Option<Wait> {
        let leaving = self.unusual.as_ref()?.leaving.as_ref();
        leaving.map(|leaving| leaving.wait)
    }

    /// What a wait comes to until at most `most` is unsent, if it need not wait.
    pub(crate) fn has_sent(&self, most: usize) -> Option<io::Result<()>> {
        // All of a finished stream may have left long before the connection ended.
        let all = self.unsent() <= most && (self.closed.is_none() || self.stream == Stream::Sent);
        if all && self.stream != Stream::Missed {
            return Some(Ok(()));
        }
        self.refusal().map(Err)
    }

    /// Why what is put is discarded, or will not leave.
    pub(crate) fn refusal(&self) -> Option<io::Error> {
        match (self.stream, &self.closed) {
            (Stream::Missed, _) => Some(AfterFinish::new().into()),
            (_, Some(reason)) => Some(reason.to_error()),
            (_, None) => None,
        }
    }

    /// Discards what comes from now on. What was put before stays to be sent.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        self.slack = 0;
        self.closed.get_or_insert_with(|| Box::new(reason));
    }

    /// Why puts are discarded, if they are.
    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_deref()
    }

    /// Discards everything, and gives the waker of a flush that waits in vain.
    pub(crate) fn discard(&mut self, reason: CloseReason) -> (Wakeup, Discarded) {
        self.close(reason);
        if self.way != Way::Over {
            self.way = Way::Shut;
        }
        self.sending = 0;
        (self.stop_waiting(), self.take_all())
    }

    /// All that is here, to be dropped after the lock.
    fn take_all(&mut self) -> Discarded {
        let chain = std::mem::take(&mut self.chain);
        Deferred::new((chain, self.take_draft()))
    }

    /// Nothing that is waited for will come: gives the waker of who waits.
    fn stop_waiting(&mut self) -> Wakeup {
        match &mut self.unusual {
            Some(unusual) => unusual.stop_waiting_if(|_| true),
            None => Wakeup::none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::register;
    use crate::poll::bell::Role;
    use std::task::Waker;
    use std::time::Instant;

    const MARKS: Marks = Marks {
        high: 100,
        bound: 200,
    };

    fn wait_until_sent(outbox: &mut Outbox, most: usize, wait: Wait) {
        register(Waker::noop(), |offer| {
            outbox.wait_until_sent(most, offer, wait)
        });
    }

    fn outbox() -> Outbox {
        Outbox::new()
    }

    fn text(text: &str) -> LinkBuffer {
        LinkBuffer::from(text.as_bytes().to_vec())
    }

    fn put(outbox: &mut Outbox, bytes: usize) -> Put {
        if outbox.put_in_place(&[&vec![1; bytes]]) {
            return Put::Quiet;
        }
        outbox.put_slices(&[&vec![1; bytes]], || MARKS, || Role::Driving)
    }

    #[test]
    fn the_poller_hears_of_the_first_byte_and_of_the_mark() {
        let mut outbox = outbox();
        assert_eq!(put(&mut outbox, 0), Put::Quiet);
        assert_eq!(put(&mut outbox, 10), Put::First);
        assert_eq!(put(&mut outbox, 10), Put::Quiet);
        assert_eq!(put(&mut outbox, 80), Put::High);
        assert_eq!(put(&mut outbox, 1), Put::Quiet);
    }

    #[test]
    fn many_small_puts_meet_each_mark_at_its_byte() {
        let mut outbox = outbox();
        let news: Vec<Put> = (1..=201).map(|_| put(&mut outbox, 1)).collect();
        let told = |wanted| {
            news.iter()
                .position(|&news| news == wanted)
                .map(|at| at + 1)
        };
        assert_eq!(told(Put::First), Some(1));
        assert_eq!(told(Put::High), Some(100));
        assert_eq!(told(Put::Overflow), Some(201));
        assert_eq!(news.iter().filter(|&&news| news != Put::Quiet).count(), 3);
    }

    #[test]
    fn what_is_put_after_a_take_is_told_of_again() {
        let mut outbox = outbox();
        assert_eq!(put(&mut outbox, 1), Put::First);
        outbox.take().unwrap();
        // Off the poller nobody is told, and there is a place to go on writing behind.
        let off = outbox.put_slices(&[b"ab"], || MARKS, || Role::Neither);
        assert_eq!(off, Put::Quiet);
        assert_eq!(put(&mut outbox, 1), Put::First);
    }

    #[test]
    fn what_is_appended_counts_towards_the_marks_as_what_is_copied_does() {
        let mut outbox = outbox();
        assert_eq!(put(&mut outbox, 1), Put::First);
        let news: Vec<Put> = (2..=100)
            .map(|_| {
                let mut part = LinkBuffer::new();
                part.put_u8(1);
                outbox.append(part, || MARKS, || Role::Driving)
            })
            .collect();
        assert_eq!(news.iter().position(|&news| news == Put::High), Some(98));
    }

    #[test]
    fn what_is_put_behind_a_rest_meets_the_mark_that_has_come_nearer() {
        let mut outbox = outbox();
        put(&mut outbox, 150);
        let mut taken = outbox.take().unwrap();
        assert_eq!(
            put(&mut outbox, 1),
            Put::First,
            "past the mark, and told of it"
        );
        taken.skip(60).unwrap();
        drop(outbox.give_back(&mut taken));
        assert_eq!(outbox.unsent(), 91);
        assert_eq!(put(&mut outbox, 8), Put::Quiet);
        assert_eq!(put(&mut outbox, 1), Put::High);
    }

    #[test]
    fn output_put_off_the_poller_is_told_of_by_the_next_put_on_it() {
        let mut outbox = outbox();
        let off = outbox.append(text("ab"), || MARKS, || Role::Neither);
        assert_eq!(off, Put::Quiet);
        assert_eq!(put(&mut outbox, 1), Put::First);
        assert_eq!(put(&mut outbox, 1), Put::Quiet);
    }

    #[test]
    fn what_a_failed_send_had_has_not_left_and_is_gone_with_the_reason() {
        for elsewhere in [false, true] {
            let mut outbox = outbox();
            put(&mut outbox, 10);
            let taken = outbox.take().unwrap();
            if elsewhere {
                // A sender may have no rest to give back.
                drop(taken);
                let failed = Err(io::ErrorKind::BrokenPipe.into());
                let (flushed, poller_looks) =
                    outbox.give_back_elsewhere(&mut LinkBuffer::new(), failed);
                assert!(flushed.is_none() && poller_looks);
            }
            assert!(outbox.has_sent(0).is_none(), "nobody knows how it ended");
            assert!(outbox.discard(CloseReason::Local).0.is_none());
            assert_eq!(outbox.unsent(), 0);
            assert!(outbox.has_sent(0).unwrap().is_err());
        }
    }

    #[test]
    fn more_than_the_bound_is_thrown_away() {
        let mut outbox = outbox();
        assert_eq!(put(&mut outbox, 201), Put::Overflow);
        assert_eq!(put(&mut outbox, 1), Put::Quiet);
        assert_eq!(outbox.unsent(), 0, "and what is put behind it");
    }

    #[test]
    fn uncommitted_bytes_count_towards_the_bound() {
        let mut outbox = outbox();
        let (_, news) = outbox.reserve(150, || MARKS, || Role::Driving);
        assert_eq!((news, outbox.uncommitted_len()), (Put::Quiet, 150));
        assert_eq!(put(&mut outbox, 50), Put::Quiet);
        assert_eq!(put(&mut outbox, 1), Put::Overflow);
        assert_eq!(outbox.uncommitted_len(), 0);
        assert!(outbox.take_overflown().is_some());
    }

    #[test]
    fn what_the_kernel_did_not_take_is_sent_first() {
        let mut outbox = outbox();
        outbox.append(text("abcd"), || MARKS, || Role::Driving);
        let mut taken = outbox.take().unwrap();
        outbox.append(text("ef"), || MARKS, || Role::Driving);
        assert_eq!(outbox.unsent(), 6);
        taken.skip(2).unwrap();
        assert!(outbox.give_back(&mut taken).is_none());
        assert_eq!(outbox.take().unwrap().read_vec(4).unwrap(), b"cdef");
    }

    #[test]
    fn a_closed_outbox_discards_puts_and_keeps_what_was_there() {
        let mut outbox = outbox();
        put(&mut outbox, 5);
        outbox.close(CloseReason::Local);
        assert_eq!(put(&mut outbox, 5), Put::Quiet);
        assert_eq!(outbox.unsent(), 5);
    }

    #[test]
    fn a_flush_is_woken_when_everything_has_left() {
        let mut outbox = outbox();
        put(&mut outbox, 5);
        let wait = Wait {
            since: Instant::now(),
            deadline: None,
        };
        wait_until_sent(&mut outbox, 0, wait);
        let mut taken = outbox.take().unwrap();
        taken.skip(4).unwrap();
        assert!(outbox.give_back(&mut taken).is_none());
        let mut rest = outbox.take().unwrap();
        rest.skip(1).unwrap();
        assert!(outbox.give_back(&mut rest).is_some());
    }

    #[test]
    fn who_waits_for_room_is_woken_when_no_more_is_unsent_than_he_said() {
        let mut outbox = outbox();
        put(&mut outbox, 90);
        let wait = Wait {
            since: Instant::now(),
            deadline: None,
        };
        wait_until_sent(&mut outbox, 40, wait);
        let mut taken = outbox.take().unwrap();
        taken.skip(49).unwrap();
        assert!(outbox.give_back(&mut taken).is_none(), "41 stay");
        let mut taken = outbox.take().unwrap();
        taken.skip(1).unwrap();
        assert!(outbox.give_back(&mut taken).is_some());
    }

    #[test]
    fn one_chain_is_sent_at_a_time_and_a_full_socket_is_the_pollers() {
        let mut outbox = outbox();
        put(&mut outbox, 10);
        let mut first = outbox.take_elsewhere().unwrap();
        put(&mut outbox, 5);
        assert!(outbox.take().is_none(), "who sends looks again himself");
        let (_, poller_looks) = outbox.give_back_elsewhere(&mut first, Ok(0));
        assert!(poller_looks);
        assert_eq!(outbox.held_up(), 15);
        assert!(outbox.take_elsewhere().is_none());
        let all = outbox.take().unwrap();
        assert_eq!(all.len(), 15);
        drop(outbox.give_back(&mut LinkBuffer::new()));
        assert_eq!(outbox.held_up(), 0);
    }

    #[test]
    fn what_comes_back_after_everything_was_discarded_is_too() {
        let mut outbox = outbox();
        put(&mut outbox, 10);
        let mut taken = outbox.take_elsewhere().unwrap();
        drop(outbox.discard(CloseReason::Local));
        drop(outbox.give_back_elsewhere(&mut taken, Ok(0)));
        assert_eq!(outbox.unsent(), 0);
    }
}
