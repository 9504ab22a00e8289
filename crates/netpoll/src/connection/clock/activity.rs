// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who waits for what on a connection, and who works for it.
//!
//! A session sees who waits in the inbox and the outbox, and whose hands the connection is in. From
//! that follows whether the peer's silence counts, and against whom.

use std::time::Instant;

use crate::connection::calling::{Caller, Holder};
use crate::connection::flow::{Gate, Memory, Paused};
use crate::connection::inbox::Patience;
use crate::connection::partial::{Moved, Partial};
use crate::connection::session::Session;
use crate::moment::Moment;
use crate::sync::lock;
use crate::timeouts::Wait;

/// What is waited for on a connection right now.
pub(super) struct Waits {
    /// A Reader, and what becomes of a wait that takes too long.
    pub(super) reader: Option<(Wait, Patience)>,
    pub(super) flush: Option<Wait>,
}

/// What of the input is awaited.
pub(super) enum Awaited {
    /// What has begun at `at` in the stream. It has been awaited since.
    Begun { at: usize, since: Instant },
    /// What has not begun.
    Next,
    /// Nothing for now: the handler does something else, or nothing is read.
    Nothing,
}

impl<C: Caller> Session<C> {
    /// Who waits for what; notes when some of what is awaited has come.
    pub(super) fn waits(&mut self, now: Instant) -> Waits {
        let mut reader = None;
        let mut awaited = match &self.holder {
            Holder::Session(connection) => match self.clock.left() {
                Some(since) => Awaited::Begun {
                    at: connection.held.input.consumed(),
                    since,
                },
                None if connection.held.input.chain.is_empty() => Awaited::Next,
                None => Awaited::Nothing,
            },
            _ => Awaited::Nothing,
        };
        if let Some(inbox) = self.link.inbox_if_any()
            && let Some(waiter) = &inbox.waiter
        {
            reader = Some((waiter.wait, waiter.patience));
            awaited = match inbox.chain.is_empty() {
                true => Awaited::Next,
                false => Awaited::Begun {
                    at: waiter.at,
                    since: waiter.wait.since,
                },
            };
        }
        let flush = if self.flow.unsent > 0 {
            lock(&self.link.outbox).wait_to_leave()
        } else {
            None
        };
        let awaited = if self.is_reading() {
            awaited
        } else {
            Awaited::Nothing
        };
        self.note_partial(awaited, now);
        Waits { reader, flush }
    }

    /// Whether what the peer sends is read.
    fn is_reading(&self) -> bool {
        self.flow.paused == Paused::No
            && self.flow.memory == Memory::Enough
            && !self.link.are_reads_paused()
    }

    /// Notes that some of what is awaited has come, or that nothing is awaited so.
    pub(super) fn note_partial(&mut self, awaited: Awaited, now: Instant) {
        match awaited {
            Awaited::Next => {
                if let Some(unusual) = &mut self.clock.unusual {
                    unusual.partial = None;
                }
            }
            Awaited::Nothing => {
                let unusual = self.clock.unusual.as_mut();
                if let Some(partial) = unusual.and_then(|unusual| unusual.partial.as_mut()) {
                    partial.pause(now);
                }
            }
            Awaited::Begun { at, since } => {
                let (active, moved) = (self.link.tally.active(), self.moved());
                let known = &mut self.clock.unusual().partial;
                match known {
                    Some(partial) if partial.begins_at(at) => partial.resume(now),
                    // Nothing has come since the wait began, or it would have been noted then.
                    _ => *known = Some(Partial::new(at, since.max(active), moved)),
                }
            }
        }
    }

    /// What has moved so far.
    pub(super) fn moved(&self) -> Moved {
        Moved {
            received: self.link.tally.received.get(),
            sent: lock(&self.link.outbox).sent,
        }
    }

    /// Whether the peer's silence is what keeps the connection: the handler, or the owner, does
    /// nothing else than to wait for input, all output has left, and what comes is read.
    pub(super) fn is_input_awaited(&self, waits: &Waits) -> bool {
        let held = matches!(self.holder, Holder::Handler(_) | Holder::Owner);
        let elsewhere_engaged = held && waits.reader.is_none();
        !elsewhere_engaged && self.flow.unsent == 0 && !self.link.are_reads_paused()
    }

    /// Whether somebody works on the connection: then it is not idle, however silent it is.
    pub(super) fn is_worked_on(&self, waits: &Waits) -> bool {
        !self.is_input_awaited(waits)
            || self.link.work_in_flight() > 0
            || self.awaits_something_else()
            || self.is_answer_owed()
    }

    /// Whether the handler waits for something else than its connection, and will be woken by it:
    /// somebody keeps a waker of it who is not of the connection.
    fn awaits_something_else(&self) -> bool {
        let Holder::Handler(call) = &self.holder else {
            return false;
        };
        let caller = &self.script.caller;
        let kept = caller.wakers_kept(call, &self.link, self.clock.limits);
        // Whatever wakes the handler for its reader keeps one.
        let reads = self
            .link
            .inbox_if_any()
            .is_some_and(|inbox| inbox.waiter.is_some());
        kept > usize::from(reads)
    }

    /// Whether somebody beside the reader may owe the peer an answer, as far as can be seen: he has
    /// put nothing since input came. Not on a connection on which what comes are the answers.
    fn is_answer_owed(&self) -> bool {
        let Some(rare) = self.link.rare.get() else {
            return false;
        };
        let begun = self.clock.partial().is_some_and(Partial::counts);
        if self.flow.gate == Gate::Open || !rare.is_answered_aside() {
            return false;
        }
        let put = lock(&self.link.outbox).put_in_all();
        let consumed = self.link.tally.received.get().saturating_sub(self.unread());
        rare.debt.is_open(put, consumed, begun)
    }

    /// Bytes that have come and were not consumed, as far as is known here.
    fn unread(&self) -> u64 {
        let held = match &self.holder {
            Holder::Session(connection) => connection.held.input.chain.len(),
            _ => 0,
        };
        let inbox = self
            .link
            .inbox_if_any()
            .map_or(0, |inbox| inbox.chain.len());
        (held + inbox) as u64
    }

    /// So much input has come, which whoever answers aside may owe an answer to.
    #[inline]
    pub(in crate::connection) fn note_debt(&self, count: usize) {
        if let Some(rare) = self.link.rare.get()
            && rare.is_answered_aside()
        {
            let before = self.link.tally.received.get() - count as u64;
            rare.debt
                .begin(lock(&self.link.outbox).put_in_all(), before);
        }
    }

    /// Since when nobody has worked on the connection and no byte has moved that is a sign of life,
    /// where nobody does.
    pub(super) fn idle_since(&self) -> Instant {
        let done = self.link.work_done();
        match self.clock.partial() {
            Some(partial) if partial.counts() => partial.still_since().max(done.instant()),
            _ => self.link.tally.last_active().max(done).instant(),
        }
    }

    /// Notes whether somebody works on the connection: it is idle from when nobody does any more.
    pub(super) fn note_work(&mut self, working: bool, now: Instant) {
        let before = std::mem::replace(&mut self.clock.worked_on, working);
        if before && !working {
            self.link.tally.moved(Moment::of(now));
        }
    }

    /// The handler was polled. If it was at work before, it was till now.
    #[inline]
    pub(in crate::connection) fn has_worked(&mut self) {
        if self.clock.worked_on {
            self.clock.worked_on = false;
            self.link.tally.moved(Moment::now());
        }
    }
}
