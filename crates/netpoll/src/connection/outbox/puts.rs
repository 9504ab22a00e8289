// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting into an outbox: how much there may be of it, and what its poller has to hear.
//!
//! Nearly every put is one of few bytes, while a handler runs, behind others. That is
//! [`Outbox::put_in_place`]: one comparison and the copy. All else is asked where that does not do, and
//! says how far it does from there on.

use netpoll_buffer::LinkBuffer;

use super::Outbox;
use super::ending::Stream;
use crate::error::{CloseReason, Limit};
use crate::poll::bell::Role;

/// How much may be unsent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// From here on the sender should hear of it.
    pub(crate) high: usize,
    /// Beyond this nothing may be.
    pub(crate) bound: usize,
}

/// What a put has to tell the poller; of several, the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Put {
    /// Nothing: it knows of output already, or there is none.
    Quiet,
    /// There is output that nobody was told of.
    First,
    /// There is more than the write mark.
    High,
    /// There is more than may be: the connection has to end.
    Overflow,
}

impl Outbox {
    /// Lets `put` append, unless the outbox is closed, and says what the poller should hear. `role`
    /// says what this thread is to the connection: only on the poller's is the first byte told, and not
    /// where the connection itself runs, which looks when it has. `marks` is asked
    /// only if one of them may be met.
    #[inline]
    pub(crate) fn put<R>(
        &mut self,
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
        put: impl FnOnce(&mut LinkBuffer) -> R,
    ) -> (Option<R>, Put) {
        if !self.may_put() {
            return (None, Put::Quiet);
        }
        let before = self.chain.len();
        let result = put(&mut self.chain);
        // What grew nothing may be uncommitted, and counts towards the bound all the same.
        let grown = self.chain.len() - before;
        if grown > 0 && grown < self.slack {
            self.slack -= grown;
            return (Some(result), Put::Quiet);
        }
        let news = self.look_at_marks(before, marks(), role());
        (Some(result), news)
    }

    /// Whether something may be put. That somebody would have put something after a finish is noted.
    #[inline]
    fn may_put(&mut self) -> bool {
        if self.is_open() {
            return true;
        }
        if matches!(self.stream, Stream::Finished | Stream::Sent) {
            self.stream = Stream::Missed;
        }
        false
    }

    /// Copies `bytes` to the end as by [`put`](Self::put), where they do not simply go
    /// [behind what is there](Self::put_in_place).
    #[inline]
    pub(crate) fn put_slice(
        &mut self,
        bytes: &[u8],
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> Put {
        if !self.may_put() {
            return Put::Quiet;
        }
        let before = self.chain.len();
        self.chain.put_slice(bytes);
        self.look_at_marks(before, marks(), role())
    }

    /// Copies `bytes` to the end if nothing else need be looked at, which is so for all but the first
    /// put of a burst and those that meet a mark or the end of the memory; says whether it did.
    #[inline(always)]
    pub(crate) fn put_in_place(&mut self, bytes: &[u8]) -> bool {
        let in_place = bytes.len() < self.slack && self.chain.put_in_place(bytes);
        if in_place {
            self.slack -= bytes.len();
        }
        in_place
    }

    /// What is to be told of a put that found `before` bytes in the chain.
    #[inline]
    fn look_at_marks(&mut self, before: usize, marks: Marks, role: Role) -> Put {
        let Marks { high, bound } = marks;
        let (before, after) = (before + self.sending, self.unsent());
        if after + self.chain.uncommitted_len() > bound {
            self.chain = LinkBuffer::new();
            // What is put behind it must not arrive without it.
            self.close(CloseReason::Limit(Limit::Output));
            return Put::Overflow;
        }
        let first = !self.heard && after > 0 && role != Role::Neither;
        let news = if after >= high && before < high {
            Put::High
        } else if first && role == Role::Driving {
            Put::First
        } else {
            Put::Quiet
        };
        self.heard |= first || news == Put::High;
        if self.heard {
            let next = if after < high { high } else { bound };
            self.slack = next.saturating_sub(after);
        }
        news
    }

    /// Appends `buffer` for somebody who is not the handler, unless there is no room; says what the
    /// poller should hear.
    pub(crate) fn queue(&mut self, buffer: LinkBuffer, marks: Marks) -> Result<Put, LinkBuffer> {
        if !self.is_open() || self.unsent() >= marks.high {
            return Err(buffer);
        }
        let (_, news) = self.put(|| marks, || Role::Driving, |chain| chain.append(buffer));
        Ok(news)
    }
}
