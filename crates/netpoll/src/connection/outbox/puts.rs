// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting into an outbox: how much there may be of it, and what its poller has to hear.
//!
//! Nearly every put is one of few bytes, while a handler runs, behind others. That is
//! [`Outbox::put_in_place`]: a few comparisons and the copy. All else is asked where that does not do, and
//! says how far it does from there on.
//!
//! The owner of a connection puts behind its open reservation, if it has one
//! ([draft](super::draft)); all others put beside it.

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use super::ending::Stream;
use super::{Discarded, Outbox};
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
    /// Whether the owner of the connection may put something. That it would have put something after a
    /// finish is noted.
    #[inline]
    pub(crate) fn admits(&mut self) -> bool {
        if self.is_open() {
            return true;
        }
        if matches!(self.stream, Stream::Finished | Stream::Sent) {
            self.stream = Stream::Missed;
        }
        false
    }

    /// Appends `buffer`, which has no more than what it can read, for the owner of the connection, and
    /// says what the poller should hear. The outbox is open. `role` says what this thread is to the
    /// connection: only on the poller's is the first byte told, and not where the connection itself runs,
    /// which looks when it has. `marks` is asked only if one of them may be met.
    #[inline]
    pub(crate) fn append(
        &mut self,
        buffer: LinkBuffer,
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> Put {
        let Some(draft) = self.draft() else {
            return self.append_beside(buffer, marks, role);
        };
        draft.append(buffer);
        let before = self.chain.len();
        self.look_at_marks(before, marks(), role())
    }

    /// As [`append`](Self::append) for anybody else: beside what the owner has not committed, which this
    /// leaves before it.
    #[inline]
    pub(crate) fn append_beside(
        &mut self,
        buffer: LinkBuffer,
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> Put {
        let before = self.chain.len();
        let grown = buffer.len();
        self.chain.append(buffer);
        if grown > 0 && grown < self.slack {
            self.slack -= grown;
            return Put::Quiet;
        }
        self.look_at_marks(before, marks(), role())
    }

    /// Puts `bytes`, which are not none, before the `at`-th byte of the draft, which is that long; behind
    /// all that is there if there is no draft.
    pub(crate) fn insert(
        &mut self,
        at: usize,
        bytes: Bytes,
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> Put {
        let Some(draft) = self.draft() else {
            return self.append_beside(LinkBuffer::from(bytes), marks, role);
        };
        let inserted = draft.insert(at, bytes);
        debug_assert!(inserted.is_ok(), "the draft is that long");
        let before = self.chain.len();
        self.look_at_marks(before, marks(), role())
    }

    /// Copies `parts` to the end as one [`append`](Self::append), where they do not simply go
    /// [behind what is there](Self::put_in_place).
    #[inline]
    pub(crate) fn put_slices(
        &mut self,
        parts: &[&[u8]],
        marks: impl FnOnce() -> Marks,
        role: impl FnOnce() -> Role,
    ) -> Put {
        if !self.admits() {
            return Put::Quiet;
        }
        let before = self.chain.len();
        match self.draft() {
            None => self.chain.put_slices(parts),
            Some(draft) => draft.put_slices(parts),
        }
        self.look_at_marks(before, marks(), role())
    }

    /// Copies `parts` to the end if nothing else need be looked at, which is so for all but the first
    /// put of a burst, those that meet a mark or the end of the memory, and those off the poller that
    /// nobody was told of; says whether it did.
    #[inline(always)]
    pub(crate) fn put_in_place(&mut self, parts: &[&[u8]]) -> bool {
        let lengths = parts.iter().map(|part| part.len());
        let length = lengths.fold(0, usize::saturating_add);
        let in_place = length < self.slack && self.chain.put_all_in_place(parts);
        if in_place {
            self.slack -= length;
        }
        in_place
    }

    /// What is to be told of a put that found `before` bytes in the chain.
    #[inline(always)]
    pub(super) fn look_at_marks(&mut self, before: usize, marks: Marks, role: Role) -> Put {
        let Marks { high, bound } = marks;
        let (before, after) = (before + self.sending, self.unsent());
        if after + self.uncommitted_len() > bound {
            let overflown = self.take_all();
            self.unusual.get_or_insert_default().overflown = overflown;
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
        if self.heard && !self.has_draft() {
            let next = if after < high { high } else { bound };
            self.slack = next.saturating_sub(after);
        }
        news
    }

    /// What an overflow has discarded, to be dropped after the lock.
    pub(crate) fn take_overflown(&mut self) -> Discarded {
        match &mut self.unusual {
            Some(unusual) => unusual.overflown.take(),
            None => Discarded::none(),
        }
    }

    /// Appends `buffer` for a sender that can wait, [beside the draft](Self::append_beside), unless there
    /// is no room; says what the poller should hear.
    pub(crate) fn queue(&mut self, buffer: LinkBuffer, marks: Marks) -> Result<Put, LinkBuffer> {
        let all = self.unsent() + self.uncommitted_len() + buffer.len();
        // What a draft holds is in no sender's reckoning: nobody's connection ends for it.
        let too_much = self.has_draft() && all > marks.bound;
        if !self.is_open() || self.unsent() >= marks.high || too_much {
            return Err(buffer);
        }
        Ok(self.append_beside(buffer, || marks, || Role::Driving))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AfterFinish;

    const MARKS: Marks = Marks {
        high: 100,
        bound: 200,
    };

    fn put(outbox: &mut Outbox, bytes: usize, role: Role) -> Put {
        outbox.put_slices(&[&vec![1; bytes]], || MARKS, || role)
    }

    #[test]
    fn the_connection_that_runs_is_not_told_and_has_heard() {
        let mut outbox = Outbox::new();
        assert_eq!(put(&mut outbox, 1, Role::Running), Put::Quiet);
        assert!(outbox.put_in_place(&[b"ab"]), "it looks when it has run");
        assert_eq!(put(&mut outbox, 1, Role::Driving), Put::Quiet);
        assert_eq!(put(&mut outbox, 96, Role::Running), Put::High);
        outbox.take().unwrap();
        assert!(!outbox.put_in_place(&[b"ab"]), "what is put now is new");
        assert_eq!(put(&mut outbox, 1, Role::Running), Put::Quiet);
        assert!(outbox.put_in_place(&[b"ab"]));
    }

    #[test]
    fn who_puts_off_the_poller_looks_each_time_until_somebody_was_told() {
        let mut outbox = Outbox::new();
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::Quiet);
        assert!(!outbox.put_in_place(&[b"ab"]), "nobody would have it sent");
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::Quiet);
        assert_eq!(put(&mut outbox, 1, Role::Driving), Put::First);
        assert!(outbox.put_in_place(&[b"ab"]));
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::Quiet);
        assert!(outbox.put_in_place(&[b"ab"]));
    }

    #[test]
    fn the_mark_is_told_off_the_poller_and_counts_as_heard() {
        let mut outbox = Outbox::new();
        assert_eq!(put(&mut outbox, 99, Role::Neither), Put::Quiet);
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::High);
        assert_eq!(put(&mut outbox, 1, Role::Driving), Put::Quiet);
        assert!(outbox.put_in_place(&[&[1; 98]]), "up to the bound");
        assert!(!outbox.put_in_place(&[&[1; 1]]));
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::Quiet);
        assert_eq!(put(&mut outbox, 1, Role::Neither), Put::Overflow);
    }

    #[test]
    fn nothing_put_is_nothing_to_hear_of() {
        for role in [Role::Running, Role::Driving] {
            let mut outbox = Outbox::new();
            assert_eq!(put(&mut outbox, 0, role), Put::Quiet);
            assert!(!outbox.put_in_place(&[b"a"]), "nobody has heard");
        }
    }

    /// Puts in the way that `way` says, and says whether what was put before counts as all there was.
    fn has_all_after_a_put(outbox: &mut Outbox, way: usize) -> bool {
        let before = outbox.unsent();
        assert!(!outbox.put_in_place(&[b"a"]));
        let news = match way {
            0 => put(outbox, 1, Role::Driving),
            _ => {
                assert!(!outbox.admits());
                Put::Quiet
            }
        };
        assert_eq!((news, outbox.unsent()), (Put::Quiet, before));
        outbox.has_sent(before).is_some_and(|sent| sent.is_ok())
    }

    #[test]
    fn what_is_put_after_a_finish_is_missed_whether_the_fin_was_sent_or_not() {
        for way in 0..2 {
            for fin_sent in [false, true] {
                let mut outbox = Outbox::new();
                put(&mut outbox, 5, Role::Driving);
                drop(outbox.finish());
                if fin_sent {
                    outbox.finished();
                }
                assert!(outbox.has_sent(5).unwrap().is_ok(), "nothing was missed");
                assert!(!has_all_after_a_put(&mut outbox, way));
                let why = outbox.refusal().expect("a reason");
                assert!(why.get_ref().is_some_and(|why| why.is::<AfterFinish>()));
            }
        }
    }

    #[test]
    fn what_is_put_where_the_socket_is_to_be_taken_away_or_after_the_end_misses_nothing() {
        for way in 0..2 {
            let mut leaving = Outbox::new();
            drop(leaving.leave());
            assert!(has_all_after_a_put(&mut leaving, way));
            let mut closed = Outbox::new();
            closed.close(CloseReason::Local);
            let news = put(&mut closed, 1, Role::Driving);
            assert_eq!((news, closed.stream), (Put::Quiet, Stream::Open));
        }
    }
}
