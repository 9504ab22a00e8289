// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a connection has taken from its inbox, and how far its reader is.

use netpoll_buffer::LinkBuffer;

use crate::fairness;

/// What a connection has taken from its inbox.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) chain: LinkBuffer,
    /// All bytes that were ever taken; may wrap.
    received: usize,
    /// The largest read that had to wait and was satisfied.
    pub(crate) largest: usize,
    /// How large the next frame is guessed to be: the last large one, halved for each burst that
    /// consumed less than half of it. Of a frame of more than 4 GiB it is 4 GiB.
    expected: u32,
    /// Where the last burst ended.
    mark: usize,
    /// How much of what the inbox has was given back by a wait, and is nothing new.
    given: usize,
    /// The most that one read may ask for.
    pub(crate) max_frame: usize,
    /// Operations of the thread's budget that were taken ahead for reads of this connection.
    allowance: u32,
}

impl Input {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            chain: LinkBuffer::new(),
            received: 0,
            largest: 0,
            expected: 0,
            mark: 0,
            given: 0,
            max_frame,
            allowance: 0,
        }
    }

    /// Whether a read of `n` bytes need not wait.
    #[inline(always)]
    pub(crate) fn has(&self, n: usize) -> bool {
        n <= self.chain.len() && n <= self.max_frame
    }

    /// Whether a read may go on in this poll. Takes some operations at once from the budget of the
    /// thread, so that nearly every read subtracts one and no more.
    #[inline(always)]
    pub(crate) fn may_proceed(&mut self) -> bool {
        let (left, spent) = self.allowance.overflowing_sub(1);
        self.allowance = left;
        !spent || self.ask_for_more()
    }

    #[inline(never)]
    fn ask_for_more(&mut self) -> bool {
        let granted = fairness::grant();
        self.allowance = granted.saturating_sub(1);
        granted > 0
    }

    /// Appends what was taken from an inbox.
    #[inline]
    pub(crate) fn take(&mut self, chain: LinkBuffer) {
        self.received = self.received.wrapping_add(chain.len());
        self.given = 0;
        if self.chain.is_empty() {
            self.chain = chain;
        } else {
            self.chain.append(chain);
        }
    }

    /// Counts bytes that were appended to the chain directly.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(bytes);
    }

    /// Puts what is unread before what the inbox has, so that the two lie together.
    pub(crate) fn give_back(&mut self, inbox: &mut LinkBuffer) {
        self.received = self.received.wrapping_sub(self.chain.len());
        self.given = self.chain.len();
        inbox.prepend(std::mem::take(&mut self.chain));
    }

    /// A read of `n` bytes had to wait, and has them now.
    pub(crate) fn satisfied(&mut self, n: usize) {
        self.largest = self.largest.max(n);
        self.expected = self.expected.max(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// A burst is over: guesses what the next one brings, and says how much this one consumed.
    #[inline]
    pub(crate) fn end_burst(&mut self) -> usize {
        let consumed = self.consumed().wrapping_sub(self.mark);
        self.mark = self.consumed();
        if consumed < self.expected as usize / 2 {
            self.expected /= 2;
        }
        consumed
    }

    /// How much of what the inbox has is nothing new.
    pub(crate) fn given(&self) -> usize {
        self.given
    }

    /// How large the next frame is guessed to be.
    #[inline]
    pub(crate) fn expected(&self) -> usize {
        self.expected as usize
    }

    /// Where in the stream the reader is.
    #[inline]
    pub(crate) fn consumed(&self) -> usize {
        self.received.wrapping_sub(self.chain.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_is_expected_again_until_small_ones_have_come() {
        let mut input = Input::new(1 << 20);
        input.satisfied(100_000);
        input.count(100_000);
        input.end_burst();
        assert_eq!(input.expected(), 100_000);
        for _ in 0..3 {
            input.count(1000);
            input.end_burst();
        }
        assert_eq!(input.expected(), 12_500);
        assert_eq!(input.largest, 100_000, "its word is still good");
    }

    #[test]
    fn what_is_given_back_to_the_inbox_counts_as_not_received() {
        let mut input = Input::new(1 << 20);
        let mut inbox = LinkBuffer::new();
        inbox.put_str("abcdef");
        input.take(std::mem::take(&mut inbox));
        input.chain.skip(2).unwrap();
        assert_eq!(input.consumed(), 2);
        input.give_back(&mut inbox);
        assert_eq!((input.consumed(), inbox.len()), (2, 4));
        input.take(inbox);
        assert_eq!(input.consumed(), 2);
    }
}
