// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection has taken from its inbox, and how far its reader is.

use netpoll_buffer::LinkBuffer;

use crate::fairness;

/// What a connection has taken from its inbox.
#[derive(Debug)]
pub(crate) struct ReaderState {
    pub(crate) buffer: LinkBuffer,
    /// All bytes that were ever taken; may wrap.
    received: usize,
    /// The largest read that had to wait and was satisfied.
    pub(crate) largest: usize,
    /// How large the next frame is guessed to be: the last large one, halved for each burst that
    /// consumed less than half of it. Of a frame of more than 4 GiB it is 4 GiB.
    expected: u32,
    /// Where the last burst ended.
    batch_start: usize,
    /// How much of what the inbox has was given back by a wait, and is nothing new.
    returned: usize,
    /// The most that one read may ask for.
    pub(crate) max_frame: usize,
    /// Operations of the thread's budget that were taken ahead for reads of this connection.
    allowance: u32,
}

impl ReaderState {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            buffer: LinkBuffer::new(),
            received: 0,
            largest: 0,
            expected: 0,
            batch_start: 0,
            returned: 0,
            max_frame,
            allowance: 0,
        }
    }

    /// Whether a read of `n` bytes need not wait.
    #[inline(always)]
    pub(crate) fn has(&self, n: usize) -> bool {
        n <= self.buffer.len() && n <= self.max_frame
    }

    /// Whether a read may go on in this poll. Takes some operations at once from the budget of the
    /// thread, so that nearly every read subtracts one and no more.
    #[inline(always)]
    pub(crate) fn may_proceed(&mut self) -> bool {
        let (left, spent) = self.allowance.overflowing_sub(1);
        self.allowance = left;
        !spent || self.renew_allowance()
    }

    #[inline(never)]
    fn renew_allowance(&mut self) -> bool {
        let granted = fairness::grant();
        self.allowance = granted.saturating_sub(1);
        granted > 0
    }

    /// Appends what was taken from an inbox.
    #[inline]
    pub(crate) fn take(&mut self, chain: LinkBuffer) {
        self.received = self.received.wrapping_add(chain.len());
        self.returned = 0;
        if self.buffer.is_empty() {
            self.buffer = chain;
        } else {
            self.buffer.append(chain);
        }
    }

    /// Counts bytes that were appended to the chain directly.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(bytes);
    }

    /// Puts what is unread before what the inbox has, so that the two lie together.
    pub(crate) fn return_unread(&mut self, input_buffer: &mut LinkBuffer) {
        self.received = self.received.wrapping_sub(self.buffer.len());
        self.returned = self.buffer.len();
        input_buffer.prepend(std::mem::take(&mut self.buffer));
    }

    /// A read of `n` bytes had to wait, and has them now.
    pub(crate) fn satisfied(&mut self, n: usize) {
        self.largest = self.largest.max(n);
        self.expected = self.expected.max(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// A burst is over: guesses what the next one brings, and says how much this one consumed.
    #[inline]
    pub(crate) fn end_batch(&mut self) -> usize {
        let consumed = self.consumed().wrapping_sub(self.batch_start);
        self.batch_start = self.consumed();
        if consumed < self.expected as usize / 2 {
            self.expected /= 2;
        }
        consumed
    }

    /// How much of what the inbox has is nothing new.
    pub(crate) fn returned(&self) -> usize {
        self.returned
    }

    /// How large the next frame is guessed to be.
    #[inline]
    pub(crate) fn expected(&self) -> usize {
        self.expected as usize
    }

    /// Where in the stream the reader is.
    #[inline]
    pub(crate) fn consumed(&self) -> usize {
        self.received.wrapping_sub(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_is_expected_again_until_small_ones_have_come() {
        let mut input = ReaderState::new(1 << 20);
        input.satisfied(100_000);
        input.count(100_000);
        input.end_batch();
        assert_eq!(input.expected(), 100_000);
        for _ in 0..3 {
            input.count(1000);
            input.end_batch();
        }
        assert_eq!(input.expected(), 12_500);
        assert_eq!(input.largest, 100_000, "its word is still good");
    }

    #[test]
    fn what_is_given_back_to_the_inbox_counts_as_not_received() {
        let mut input = ReaderState::new(1 << 20);
        let mut input_buffer = LinkBuffer::new();
        input_buffer.put_str("abcdef");
        input.take(std::mem::take(&mut input_buffer));
        input.buffer.skip(2).unwrap();
        assert_eq!(input.consumed(), 2);
        input.return_unread(&mut input_buffer);
        assert_eq!((input.consumed(), input_buffer.len()), (2, 4));
        input.take(input_buffer);
        assert_eq!(input.consumed(), 2);
    }
}
