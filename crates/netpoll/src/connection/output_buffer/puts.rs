// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts into an output buffer: how much may be unsent, and when a put notifies the poller.
//!
//! Nearly every put is a few bytes behind others, while a handler runs.
//! [`OutputBuffer::put_in_place`] serves those with a few comparisons and the copy. Every other put
//! takes the slow path, which also computes how many bytes may go the fast path from there on.
//!
//! The owner of a connection puts behind its open reservation, if it has one
//! ([reservation](super::reservation)). All other writers put beside it.

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use super::shutdown_state::ShutdownState;
use super::{DiscardedOutput, OutputBuffer};
use crate::error::{CloseReason, Limit};
use crate::poll::notifier::Role;

/// The limits of unsent output, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watermarks {
    /// From this many bytes on, puts report [`PutOutcome::HighWatermark`].
    pub(crate) high: usize,
    /// More than this ends the connection.
    pub(crate) limit: usize,
}

/// The report of a put to the poller. If several apply, the last of these does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PutOutcome {
    /// Nothing: a send is scheduled already, or there is no output.
    Unchanged,
    /// There is output, and no send is scheduled for it yet.
    FirstByte,
    /// Unsent output has reached the high watermark.
    HighWatermark,
    /// Output exceeds the limit: the connection has to end.
    Overflow,
}

impl OutputBuffer {
    /// Returns whether the owner of the connection may put. Records a put after a shutdown, so that
    /// a flush can report it.
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

    /// Appends `buffer` for the owner of the connection, and returns the report to the poller.
    /// The output buffer is open, and `buffer` has nothing but readable bytes. `watermarks` is
    /// called only if one of them may be reached.
    ///
    /// `role` is the calling thread's relation to the connection. The first byte is reported on the
    /// poller's thread only, and not while the connection itself runs, because the engine sends
    /// when the handler has run.
    #[inline]
    pub(crate) fn append(
        &mut self,
        buffer: LinkBuffer,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        let Some(uncommitted) = self.uncommitted() else {
            return self.append_committed(buffer, watermarks, role);
        };
        uncommitted.append(buffer);
        let before = self.buffer.len();
        self.check_watermarks(before, watermarks(), role())
    }

    /// As [`append`](Self::append) for writers other than the owner: the bytes go before the
    /// owner's uncommitted ones.
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

    /// Inserts `bytes`, which are not empty, before byte `at` of the uncommitted output. The
    /// uncommitted output has at least `at` bytes. Without an open reservation the bytes go to the
    /// end of the buffer.
    pub(crate) fn insert(
        &mut self,
        at: usize,
        bytes: Bytes,
        watermarks: impl FnOnce() -> Watermarks,
        role: impl FnOnce() -> Role,
    ) -> PutOutcome {
        let Some(uncommitted) = self.uncommitted() else {
            return self.append_committed(LinkBuffer::from(bytes), watermarks, role);
        };
        let inserted = uncommitted.insert(at, bytes);
        debug_assert!(
            inserted.is_ok(),
            "the uncommitted output has at least `at` bytes"
        );
        let before = self.buffer.len();
        self.check_watermarks(before, watermarks(), role())
    }

    /// Copies `parts` to the end as one [`append`](Self::append). The slow path of
    /// [`put_in_place`](Self::put_in_place).
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
            Some(uncommitted) => uncommitted.put_slices(parts),
        }
        self.check_watermarks(before, watermarks(), role())
    }

    /// Copies `parts` to the end if no other check is needed, and returns whether it did. This
    /// fails for the first put of a request batch, for a put that reaches a watermark or the end of
    /// the tail, and on other threads for puts for which no send is scheduled.
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

    /// Returns the report of a put that found `before` bytes in the buffer.
    #[inline(always)]
    pub(super) fn check_watermarks(
        &mut self,
        before: usize,
        watermarks: Watermarks,
        role: Role,
    ) -> PutOutcome {
        let Watermarks { high, limit } = watermarks;
        let (before, after) = (before + self.sending, self.unsent());
        if after + self.uncommitted_len() > limit {
            let discarded = self.take_all();
            self.cold.get_or_insert_default().overflowed = discarded;
            // Later output must not arrive without the discarded output.
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
            let next = if after < high { high } else { limit };
            self.headroom = next.saturating_sub(after);
        }
        outcome
    }

    /// Takes the output that an overflow has discarded, to be dropped after the lock.
    pub(crate) fn take_overflowed(&mut self) -> DiscardedOutput {
        match &mut self.cold {
            Some(cold) => cold.overflowed.take(),
            None => DiscardedOutput::none(),
        }
    }

    /// Appends `buffer` for a sender that can wait, [before uncommitted
    /// output](Self::append_committed), and returns the report to the poller.
    ///
    /// # Errors
    ///
    /// Returns `buffer` if there is no space for it or the output buffer is closed.
    pub(crate) fn enqueue(
        &mut self,
        buffer: LinkBuffer,
        watermarks: Watermarks,
    ) -> Result<PutOutcome, LinkBuffer> {
        let total = self.unsent() + self.uncommitted_len() + buffer.len();
        // A sender cannot know how much is uncommitted, so it waits instead of overflowing.
        let over_limit = self.has_reservation() && total > watermarks.limit;
        if !self.is_open() || self.unsent() >= watermarks.high || over_limit {
            return Err(buffer);
        }
        Ok(self.append_committed(buffer, || watermarks, || Role::Poller))
    }
}

#[cfg(test)]
mod tests;
