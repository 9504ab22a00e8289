// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has been read of a foreign stream, and where the next bytes of it land.
//!
//! Everything lands behind what is there, in the same block while that has room. A block that is
//! left takes along what is unread, so the input is one segment, and the next block is larger in
//! proportion to what has come and to nothing else.

use std::io::{self, Read};

use super::retry_interrupted;
use crate::link_buffer::LinkBuffer;
use crate::tail::Tail;

/// The most one read may ask for unless told otherwise: what a connection may.
const MAX_FRAME: usize = 4 << 20;

/// What a length that may be a lie costs at most before bytes have come.
const INITIAL_CAPACITY: usize = 4 << 10;

/// With less room than this, or than what is missing, a block is left for a larger one.
const MIN_READ_CAPACITY: usize = 512;

/// The input of a stream.
#[derive(Debug)]
pub(super) struct StreamInput {
    pub(super) buffer: LinkBuffer,
    /// The most that one read may ask for.
    pub(super) max_frame: usize,
}

impl StreamInput {
    pub(super) const fn new() -> Self {
        Self {
            buffer: LinkBuffer::new(),
            max_frame: MAX_FRAME,
        }
    }

    /// Reads once, as much as there is room for where `n` bytes are wanted, which are not all
    /// there. 0 is the end of the stream.
    #[cold]
    pub(super) fn fill<S: Read>(&mut self, stream: &mut S, n: usize) -> io::Result<usize> {
        let mut tail = self.tail_for_read(n);
        let read = retry_interrupted(|| tail.fill_with(usize::MAX, |room| stream.read(room)));
        self.buffer.append_tail(tail, *read.as_ref().unwrap_or(&0));
        read
    }

    /// Where the next bytes land.
    fn tail_for_read(&mut self, n: usize) -> Tail {
        let have = self.buffer.len();
        // Half as much again at least: who asks for one byte more each time must not have it all
        // moved each time.
        let wanted = n.clamp(have.saturating_add(have / 2), have.saturating_mul(2));
        let capacity = wanted.max(INITIAL_CAPACITY);
        if have == 0 || (self.buffer.should_compact() && self.buffer.retained_bytes() > capacity) {
            // The read may take long: neither what is over nor a small rest keeps a large block.
            self.buffer.release();
        }
        let near = n.min(have.saturating_add(MIN_READ_CAPACITY));
        let tail = self.buffer.take_contiguous_tail(near, capacity);
        // A block that was left.
        self.buffer.return_tail();
        tail
    }
}
