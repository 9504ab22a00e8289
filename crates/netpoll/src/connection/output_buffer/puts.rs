// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting into an outbox: how much there may be of it, and what its poller has to hear.
//!
//! Nearly every put is one of few bytes, while a handler runs, behind others. That is
//! [`OutputBuffer::put_in_place`]: a few comparisons and the copy. All else is asked where that does not do, and
//! says how far it does from there on.
//!
//! The owner of a connection puts behind its open reservation, if it has one
//! ([draft](super::reservation)); all others put beside it.

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use super::shutdown_state::ShutdownState;
use super::{DiscardedOutput, OutputBuffer};
use crate::error::{CloseReason, Limit};
use crate::poll::notifier::Role;

/// How much may be unsent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watermarks {
    /// From here on the sender should hear of it.
    pub(crate) high: usize,
    /// Beyond this nothing may be.
    pub(crate) limit: usize,
}

/// What a put has to tell the poller; of several, the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PutOutcome {
    /// Nothing: it knows of output already, or there is none.
    Unchanged,
    /// There is output that nobody was told of.
    FirstByte,
    /// There is more than the write mark.
    HighWatermark,
    /// There is more than may be: the connection has to end.
    Overflow,
}

impl OutputBuffer {
    /// Whether the owner of the connection may put something. That it would have put something after a
    /// finish is noted.
    #[inline]
    pub(crate) fn accepts_put(&mut self) -> bool {
        if self.is_open() {
            return true;
        }
        if matches!(
            self.shutdown_state,
            ShutdownState::ShutDown | ShutdownState::FinSent
        ) {
            self.shutdown_state = ShutdownState::WriteAfterShutdown;
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
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        let Some(draft) = self.uncommitted() else {
            return self.append_committed(buffer, watermarks, role);
        };
        draft.append(buffer);
        let before = self.buffer.len();
        self.check_watermarks(before, watermarks(), role())
    }

    /// As [`append`](Self::append) for anybody else: beside what the owner has not committed, which this
    /// leaves before it.
    #[inline]
    pub(crate) fn append_committed(
        &mut self,
        buffer: LinkBuffer,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        let before = self.buffer.len();
        let grown = buffer.len();
        self.buffer.append(buffer);
        if grown > 0 && grown < self.headroom {
            self.headroom -= grown;
            return PutOutcome::Unchanged;
        }
        self.check_watermarks(before, watermarks(), role())
    }

    /// Puts `bytes`, which are not none, before the `at`-th byte of the draft, which is that long; behind
    /// all that is there if there is no draft.
    pub(crate) fn insert(
        &mut self,
        at: usize,
        bytes: Bytes,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        let Some(draft) = self.uncommitted() else {
            return self.append_committed(LinkBuffer::from(bytes), watermarks, role);
        };
        let inserted = draft.insert(at, bytes);
        debug_assert!(inserted.is_ok(), "the draft is that long");
        let before = self.buffer.len();
        self.check_watermarks(before, watermarks(), role())
    }

    /// Copies `parts` to the end as one [`append`](Self::append), where they do not simply go
    /// [behind what is there](Self::put_in_place).
    #[inline]
    pub(crate) fn put_slices(
        &mut self,
        parts: &[&[u8]],
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        if !self.accepts_put() {
            return PutOutcome::Unchanged;
        }
        let before = self.buffer.len();
        match self.uncommitted() {
            None => self.buffer.put_slices(parts),
            Some(draft) => draft.put_slices(parts),
        }
        self.check_watermarks(before, watermarks(), role())
    }

    /// Copies `parts` to the end if nothing else need be looked at, which is so for all but the first
    /// put of a burst, those that meet a mark or the end of the memory, and those off the poller that
    /// nobody was told of; says whether it did.
    #[inline(always)]
    pub(crate) fn put_in_place(&mut self, parts: &[&[u8]]) -> bool {
        let lengths = parts.iter().map(|part| part.len());
        let length = lengths.fold(0, usize::saturating_add);
        let in_place = length < self.headroom && self.buffer.try_put_slices(parts);
        if in_place {
            self.headroom -= length;
        }
        in_place
    }

    /// What is to be told of a put that found `before` bytes in the chain.
    #[inline(always)]
    pub(super) fn check_watermarks(
        &mut self,
        before: usize,
        watermarks: Watermarks,
        role: Role,
    ) -> PutOutcome {
        let Watermarks { high, limit: bound } = watermarks;
        let (before, after) = (before + self.sending, self.unsent());
        if after + self.uncommitted_len() > bound {
            let overflown = self.take_all();
            self.cold.get_or_insert_default().overflowed = overflown;
            // What is put behind it must not arrive without it.
            self.close(CloseReason::Limit(Limit::Output));
            return PutOutcome::Overflow;
        }
        let first = !self.send_scheduled && after > 0 && role != Role::OtherThread;
        let outcome = if after >= high && before < high {
            PutOutcome::HighWatermark
        } else if first && role == Role::Poller {
            PutOutcome::FirstByte
        } else {
            PutOutcome::Unchanged
        };
        self.send_scheduled |= first || outcome == PutOutcome::HighWatermark;
        if self.send_scheduled && !self.has_reservation() {
            let next = if after < high { high } else { bound };
            self.headroom = next.saturating_sub(after);
        }
        outcome
    }

    /// What an overflow has discarded, to be dropped after the lock.
    pub(crate) fn take_overflowed(&mut self) -> DiscardedOutput {
        match &mut self.cold {
            Some(cold) => cold.overflowed.take(),
            None => DiscardedOutput::none(),
        }
    }

    /// Appends `buffer` for a sender that can wait, [beside the draft](Self::append_committed), unless there
    /// is no room; says what the poller should hear.
    pub(crate) fn enqueue(
        &mut self,
        buffer: LinkBuffer,
        watermarks: Watermarks,
    ) -> Result<PutOutcome, LinkBuffer> {
        let all = self.unsent() + self.uncommitted_len() + buffer.len();
        // What a draft holds is in no sender's reckoning: nobody's connection ends for it.
        let too_much = self.has_reservation() && all > watermarks.limit;
        if !self.is_open() || self.unsent() >= watermarks.high || too_much {
            return Err(buffer);
        }
        Ok(self.append_committed(buffer, || watermarks, || Role::Poller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WriteAfterShutdown;

    const MARKS: Watermarks = Watermarks {
        high: 100,
        limit: 200,
    };

    fn put(output_buffer: &mut OutputBuffer, bytes: usize, role: Role) -> PutOutcome {
        output_buffer.put_slices(&[&vec![1; bytes]], || MARKS, || role)
    }

    #[test]
    fn the_connection_that_runs_is_not_told_and_has_heard() {
        let mut output_buffer = OutputBuffer::new();
        assert_eq!(
            put(&mut output_buffer, 1, Role::Running),
            PutOutcome::Unchanged
        );
        assert!(
            output_buffer.put_in_place(&[b"ab"]),
            "it looks when it has run"
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::Poller),
            PutOutcome::Unchanged
        );
        assert_eq!(
            put(&mut output_buffer, 96, Role::Running),
            PutOutcome::HighWatermark
        );
        output_buffer.take().unwrap();
        assert!(
            !output_buffer.put_in_place(&[b"ab"]),
            "what is put now is new"
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::Running),
            PutOutcome::Unchanged
        );
        assert!(output_buffer.put_in_place(&[b"ab"]));
    }

    #[test]
    fn who_puts_off_the_poller_looks_each_time_until_somebody_was_told() {
        let mut output_buffer = OutputBuffer::new();
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::Unchanged
        );
        assert!(
            !output_buffer.put_in_place(&[b"ab"]),
            "nobody would have it sent"
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::Unchanged
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::Poller),
            PutOutcome::FirstByte
        );
        assert!(output_buffer.put_in_place(&[b"ab"]));
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::Unchanged
        );
        assert!(output_buffer.put_in_place(&[b"ab"]));
    }

    #[test]
    fn the_mark_is_told_off_the_poller_and_counts_as_heard() {
        let mut output_buffer = OutputBuffer::new();
        assert_eq!(
            put(&mut output_buffer, 99, Role::OtherThread),
            PutOutcome::Unchanged
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::HighWatermark
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::Poller),
            PutOutcome::Unchanged
        );
        assert!(output_buffer.put_in_place(&[&[1; 98]]), "up to the bound");
        assert!(!output_buffer.put_in_place(&[&[1; 1]]));
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::Unchanged
        );
        assert_eq!(
            put(&mut output_buffer, 1, Role::OtherThread),
            PutOutcome::Overflow
        );
    }

    #[test]
    fn nothing_put_is_nothing_to_hear_of() {
        for role in [Role::Running, Role::Poller] {
            let mut output_buffer = OutputBuffer::new();
            assert_eq!(put(&mut output_buffer, 0, role), PutOutcome::Unchanged);
            assert!(!output_buffer.put_in_place(&[b"a"]), "nobody has heard");
        }
    }

    /// Puts in the way that `way` says, and says whether what was put before counts as all there was.
    fn has_all_after_a_put(output_buffer: &mut OutputBuffer, way: usize) -> bool {
        let before = output_buffer.unsent();
        assert!(!output_buffer.put_in_place(&[b"a"]));
        let outcome = match way {
            0 => put(output_buffer, 1, Role::Poller),
            _ => {
                assert!(!output_buffer.accepts_put());
                PutOutcome::Unchanged
            }
        };
        assert_eq!(
            (outcome, output_buffer.unsent()),
            (PutOutcome::Unchanged, before)
        );
        output_buffer
            .flush_result(before)
            .is_some_and(|sent| sent.is_ok())
    }

    #[test]
    fn what_is_put_after_a_finish_is_missed_whether_the_fin_was_sent_or_not() {
        for way in 0..2 {
            for fin_sent in [false, true] {
                let mut output_buffer = OutputBuffer::new();
                put(&mut output_buffer, 5, Role::Poller);
                drop(output_buffer.shut_down());
                if fin_sent {
                    output_buffer.set_fin_sent();
                }
                assert!(
                    output_buffer.flush_result(5).unwrap().is_ok(),
                    "nothing was missed"
                );
                assert!(!has_all_after_a_put(&mut output_buffer, way));
                let why = output_buffer.put_error().expect("a reason");
                assert!(
                    why.get_ref()
                        .is_some_and(|why| why.is::<WriteAfterShutdown>())
                );
            }
        }
    }

    #[test]
    fn what_is_put_where_the_socket_is_to_be_taken_away_or_after_the_end_misses_nothing() {
        for way in 0..2 {
            let mut waiter = OutputBuffer::new();
            drop(waiter.begin_detach());
            assert!(has_all_after_a_put(&mut waiter, way));
            let mut closed = OutputBuffer::new();
            closed.close(CloseReason::Local);
            let outcome = put(&mut closed, 1, Role::Poller);
            assert_eq!(
                (outcome, closed.shutdown_state),
                (PutOutcome::Unchanged, ShutdownState::Open)
            );
        }
    }
}
