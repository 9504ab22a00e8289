// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a [`Reader`] waits for bytes, and takes those that have come.
//!
//! Whoever waits gives the unread bytes back to the inbox first, so that what comes next lands right
//! behind them, and takes all of it when there is enough.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use netpoll_buffer::TooLarge;

use super::Reader;
use crate::budget::SMALL;
use crate::connection::inbox::{InputEnd, LastWait, Patience, Waiter, Waits};
use crate::connection::link::Link;
use crate::error::{Eof, TimedOut, Timeout};
use crate::fairness;
use crate::foreign::{NotCloned, Offer, WakerSlot, register, wake_by_ref};
use crate::poll::bell::Signal;
use crate::sync::Arc;
use crate::timeouts::Wait;

/// What has come to so much keeps alive no multiple of it: at most sixteen read blocks of a poller are
/// away from it. So nobody looks through all of it at each wait.
const WORTH_SETTLING: usize = 64 << 10;

/// The wait of a call, once it had to. A wait that is dropped is over.
#[derive(Default)]
pub(in crate::connection) struct Began<'a>(Option<BegunWait<'a>>);

/// Since when a call waits, and where it is known that it still does.
#[derive(Clone, Copy)]
pub(super) struct BegunWait<'a> {
    since: Instant,
    /// Whose inbox has its waker.
    registered: Option<&'a Arc<Link>>,
}

impl Drop for Began<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.0 {
            wait.deregister();
        }
    }
}

impl BegunWait<'_> {
    #[cold]
    pub(super) fn deregister(self) {
        if let Some(link) = self.registered {
            link.forget_reader();
        }
    }
}

impl Link {
    /// Who waited for input waits no more.
    fn forget_reader(&self) {
        let mut inbox = self.inbox();
        let waker = inbox.stop_waiting();
        inbox.last_wait = LastWait::Untold;
        // What was let in for it is more than is held for nobody.
        inbox.mark(self.options.read_high);
        drop(inbox);
        drop(waker);
    }
}

impl<'a> Reader<'a> {
    /// Waits, as a part of a call that may have begun to wait before.
    #[inline]
    pub(in crate::connection) async fn wait_since(
        &mut self,
        began: &mut Began<'a>,
        n: usize,
    ) -> io::Result<()> {
        poll_fn(|context| self.poll_for(context, &mut began.0, Patience::OfCall, n)).await
    }

    /// Lets others run first, if this poll has gone on for long.
    #[inline]
    pub(in crate::connection) async fn proceed(&mut self) {
        poll_fn(|context| match fairness::may_proceed() {
            true => Poll::Ready(()),
            false => self.yield_now(context),
        })
        .await;
    }

    /// Lets others run. What is held here counts to what may be read meanwhile.
    #[cold]
    pub(in crate::connection) fn yield_now<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        let held = self.input.chain.len();
        self.link.inbox().hold(held, self.link.options.read_high);
        wake_by_ref(context.waker());
        Poll::Pending
    }

    /// What a [`Call`](super::call::Call) does that has to wait, or to let others run first.
    #[inline(never)]
    pub(super) fn poll_slow(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<BegunWait<'a>>,
        need: usize,
    ) -> Poll<io::Result<()>> {
        if self.input.has(need) || !self.input.may_proceed() {
            return self.yield_now(context);
        }
        self.poll_for(context, began, Patience::OfCall, need)
    }

    /// As [`wait_since`](Self::wait_since), for one who says what becomes of a wait that takes long.
    pub(in crate::connection) fn poll_since(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Began<'a>,
        patience: Patience,
        n: usize,
    ) -> Poll<io::Result<()>> {
        self.poll_for(context, &mut began.0, patience, n)
    }

    /// Whether there are `n` bytes; if not, this call waits for them from now on. Once it is ready,
    /// `began` is registered nowhere.
    pub(super) fn poll_for(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<BegunWait<'a>>,
        patience: Patience,
        n: usize,
    ) -> Poll<io::Result<()>> {
        if n > self.input.max_frame {
            Poll::Ready(Err(TooLarge::new(self.input.max_frame, n).into()))
        } else if n <= self.input.chain.len() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_wait(context, began, patience, n)
        }
    }

    fn poll_wait(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<BegunWait<'a>>,
        patience: Patience,
        need: usize,
    ) -> Poll<io::Result<()>> {
        let mut since = began.as_ref().map(|wait| wait.since);
        let polled = register(context.waker(), |offer| {
            self.try_wait(offer, &mut since, patience, need)
        });
        *began = since.map(|since| BegunWait {
            since,
            registered: polled.is_pending().then_some(self.link),
        });
        polled
    }

    fn try_wait(
        &mut self,
        offer: &mut Offer<'_>,
        began: &mut Option<Instant>,
        patience: Patience,
        need: usize,
    ) -> Result<Poll<io::Result<()>>, NotCloned> {
        let input = &mut *self.input;
        let mut inbox = self.link.inbox();
        let resumed = inbox.resume();
        input.take(std::mem::take(&mut inbox.chain));
        inbox.held = input.chain.len();
        if input.chain.len() >= need {
            let waker = inbox.stop_waiting();
            input.satisfied(need);
            drop(inbox);
            drop(waker);
            self.resume(resumed);
            return Ok(Poll::Ready(Ok(())));
        }
        if let Some(end) = &inbox.end {
            let have = input.chain.len();
            return Ok(Poll::Ready(Err(match end {
                InputEnd::Fin => Eof::new(have, need).into(),
                InputEnd::Closed(reason) | InputEnd::Drained(reason) => reason.to_error(),
            })));
        }
        let last_wait = std::mem::take(&mut inbox.last_wait);
        // A call that was dropped may have left word of its time behind: the first look forgets it.
        let over = match *began {
            None => self.deadline.is_some_and(|by| by <= Instant::now()),
            Some(_) => last_wait == LastWait::TimedOut,
        };
        if over {
            drop(inbox);
            self.resume(resumed);
            return Ok(Poll::Ready(Err(TimedOut::new(Timeout::Read).into())));
        }
        let mut waker = WakerSlot::from(inbox.stop_waiting());
        if let Err(not_cloned) = waker.set(offer) {
            // If the clone panics, nobody waits, and all that has come is with this reader.
            drop(inbox);
            self.resume(resumed);
            return Err(not_cloned);
        }
        // What waits, waits in memory of its own size if it is small, and where the rest comes.
        if input.chain.len() < WORTH_SETTLING {
            input.chain.settle_down();
        }
        input.give_back(&mut inbox.chain);
        inbox.held = 0;
        let resumed = resumed || inbox.waits == Waits::Told;
        inbox.waiter = Some(Waiter {
            need,
            largest: input.largest,
            wait: Wait {
                since: *began.get_or_insert_with(Instant::now),
                deadline: self.deadline,
            },
            at: input.consumed(),
            patience,
            waker,
        });
        drop(inbox);
        self.resume(resumed);
        if self.deadline.is_some() {
            self.link.bell.mark(Signal::Clock);
        }
        self.link.push_out();
        Ok(Poll::Pending)
    }

    /// Takes what has arrived.
    pub(super) fn take_inbox(&mut self) {
        // What is held counts to what may be read meanwhile, unless it is little.
        let inbox = match self.input.chain.len() {
            ..=SMALL => self.link.inbox_if_any(),
            _ => Some(self.link.inbox()),
        };
        let Some(mut inbox) = inbox else {
            return;
        };
        let resumed = inbox.resume();
        self.input.take(std::mem::take(&mut inbox.chain));
        inbox.held = self.input.chain.len();
        drop(inbox);
        self.resume(resumed);
    }

    /// Has the poller read again, if it had paused for the inbox.
    fn resume(&self, paused: bool) {
        if paused {
            self.link.bell.mark(Signal::Send);
        }
    }
}
