// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes that a reader has taken from the input buffer, and its position in the stream.

use std::io;

use bytes::Buf;
use netpoll_buffer::LinkBuffer;

use crate::fairness;

/// The least number of bytes by which the first piece grows, if there are as many.
const EXTENSION_MIN: usize = 4 << 10;

/// The bytes that a reader has taken from the input buffer, and its counters.
#[derive(Debug)]
pub(crate) struct ReaderState {
    pub(crate) buffer: LinkBuffer,
    /// The total of bytes ever taken; may wrap.
    received: usize,
    /// The largest read that had to wait and was satisfied.
    pub(crate) largest: usize,
    /// The expected size of the next frame in bytes: the last large one, halved for each request
    /// batch that consumed less than half of it. At most 4 GiB.
    expected: u32,
    /// The position at which the last request batch ended.
    batch_start: usize,
    /// How many bytes of the input buffer were returned by a wait, and so are not new.
    returned: usize,
    /// The most bytes that one read may ask for.
    pub(crate) max_frame: usize,
    /// Operations of the thread's budget that were granted in advance for reads of this connection.
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

    /// Returns whether a read of `n` bytes needs neither a wait nor a copy.
    #[inline(always)]
    pub(crate) fn has_contiguous(&self, n: usize) -> bool {
        n <= self.buffer.contiguous_len() && n <= self.max_frame
    }

    /// Returns the first contiguous bytes.
    #[inline]
    pub(crate) fn first_piece(&self) -> &[u8] {
        self.buffer.chunk()
    }

    /// Makes the first piece longer than `len` bytes, with bytes that are there. Doubles it at
    /// most, or adds a few KiB, so that a large input behind it is not copied for a small message.
    /// `len` is below `max_frame`.
    pub(crate) fn extend_first_piece(&mut self, len: usize) -> io::Result<()> {
        let wanted = len.saturating_add(len.max(EXTENSION_MIN));
        let wanted = wanted.min(self.max_frame).min(self.buffer.len());
        self.buffer.peek(wanted).map(drop)
    }

    /// Returns whether a read may go on in this poll. Takes several operations at once from the
    /// budget of the thread, so that nearly every read only subtracts one.
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

    /// Appends bytes that were taken from the input buffer.
    #[inline]
    pub(crate) fn take(&mut self, buffer: LinkBuffer) {
        self.received = self.received.wrapping_add(buffer.len());
        self.returned = 0;
        if self.buffer.is_empty() {
            self.buffer = buffer;
        } else {
            self.buffer.append(buffer);
        }
    }

    /// Counts bytes that were appended to `buffer` directly.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(bytes);
    }

    /// Returns the unread bytes to the front of the input buffer, so that they are contiguous with
    /// later input.
    pub(crate) fn return_unread(&mut self, input_buffer: &mut LinkBuffer) {
        self.received = self.received.wrapping_sub(self.buffer.len());
        self.returned = self.buffer.len();
        input_buffer.prepend(std::mem::take(&mut self.buffer));
    }

    /// Records that a read of `n` bytes had to wait, and has them now.
    pub(crate) fn satisfied(&mut self, n: usize) {
        self.largest = self.largest.max(n);
        self.expected = self.expected.max(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// Ends a request batch: updates the expected frame size, and returns how many bytes the batch
    /// consumed.
    #[inline]
    pub(crate) fn end_batch(&mut self) -> usize {
        let consumed = self.consumed().wrapping_sub(self.batch_start);
        self.batch_start = self.consumed();
        if consumed < self.expected as usize / 2 {
            self.expected /= 2;
        }
        consumed
    }

    /// Returns how many bytes of the input buffer are not new.
    pub(crate) fn returned(&self) -> usize {
        self.returned
    }

    /// Returns the expected size of the next frame in bytes.
    #[inline]
    pub(crate) fn expected(&self) -> usize {
        self.expected as usize
    }

    /// Returns the reader's position in the stream.
    #[inline]
    pub(crate) fn consumed(&self) -> usize {
        self.received.wrapping_sub(self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_frame_size_halves_after_each_small_batch() {
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
        assert_eq!(input.largest, 100_000, "the largest read is kept");
    }

    #[test]
    fn first_piece_at_most_doubles_and_respects_max_frame() {
        let mut input = ReaderState::new(45_000);
        for _ in 0..100 {
            input.buffer.push(vec![7; 1000].into());
        }
        for length in [5096, 10_192, 20_384, 40_768, 45_000] {
            let before = input.first_piece().len();
            input.extend_first_piece(before).unwrap();
            assert_eq!(input.first_piece().len(), length);
        }
        assert_eq!(input.buffer.len(), 100_000);
    }

    #[test]
    fn bytes_returned_to_the_input_buffer_are_not_counted_as_received() {
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
