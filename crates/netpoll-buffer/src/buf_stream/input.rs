// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input buffer of a foreign stream, and the memory for its next bytes.
//!
//! New bytes are stored behind the previous ones, in the same block while that has capacity. The
//! unread bytes of a full block are copied to the next one, so the input is one segment. The size
//! of the next block is in proportion to the received bytes and to nothing else.

use std::io::{self, Read};

use super::retry_interrupted;
use crate::link_buffer::LinkBuffer;
use crate::tail::Tail;

/// Default bound on one read: the same as that of a connection.
const MAX_FRAME: usize = 4 << 20;

/// The most that an untrusted length costs before bytes have arrived.
const INITIAL_CAPACITY: usize = 4 << 10;

/// A block with less spare capacity than this, and than the missing bytes, is replaced by a larger
/// one.
const MIN_READ_CAPACITY: usize = 512;

/// The input of a stream.
#[derive(Debug)]
pub(super) struct StreamInput {
    pub(super) buffer: LinkBuffer,
    /// The bound on one read, in bytes.
    pub(super) max_frame: usize,
}

impl StreamInput {
    pub(super) const fn new() -> Self {
        Self {
            buffer: LinkBuffer::new(),
            max_frame: MAX_FRAME,
        }
    }

    /// Reads once, as much as fits, when fewer than `n` bytes are buffered. 0 is the end of the
    /// stream.
    #[cold]
    pub(super) fn fill<S: Read>(&mut self, stream: &mut S, n: usize) -> io::Result<usize> {
        let mut tail = self.tail_for_read(n);
        let read = retry_interrupted(|| tail.fill_with(usize::MAX, |room| stream.read(room)));
        self.buffer.append_tail(tail, *read.as_ref().unwrap_or(&0));
        read
    }

    /// Returns the tail for the next bytes.
    fn tail_for_read(&mut self, n: usize) -> Tail {
        let have = self.buffer.len();
        // At least half as much again: a caller that requests one byte more each time must not move
        // all bytes each time.
        let wanted = n.clamp(have.saturating_add(have / 2), have.saturating_mul(2));
        let capacity = wanted.max(INITIAL_CAPACITY);
        if have == 0 || (self.buffer.should_compact() && self.buffer.retained_bytes() > capacity) {
            // The read may take long: neither consumed bytes nor a small rest may keep a large
            // block alive.
            self.buffer.release();
        }
        let near = n.min(have.saturating_add(MIN_READ_CAPACITY));
        let tail = self.buffer.take_contiguous_tail(near, capacity);
        // The replaced block.
        self.buffer.return_tail();
        tail
    }
}
