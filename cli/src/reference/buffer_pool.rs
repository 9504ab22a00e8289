// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory all connections of the bare loop share.
//!
//! One buffer to read into and one to answer from serve every connection in turn, which keeps both
//! in the processor's cache. A connection takes a buffer of its own only while a large frame is
//! under way or an answer waits for room, and gives it back right after; the same few buffers, warm
//! from their last use, go round among the connections that need them.

use std::mem;

/// The buffers of one loop.
#[derive(Debug)]
pub(crate) struct BufferPool {
    /// Where small frames land. Always of length [`SCRATCH`].
    pub(crate) scratch: Vec<u8>,
    /// The answers of one wake. What it holds between wakes means nothing.
    pub(crate) output: Vec<u8>,
    /// Buffers nobody uses, the last used one last.
    free: Vec<Vec<u8>>,
    /// Their bytes.
    pooled_bytes: usize,
}

impl BufferPool {
    pub(crate) fn new() -> Self {
        Self {
            scratch: vec![0; SCRATCH],
            output: Vec::with_capacity(SCRATCH),
            free: Vec::new(),
            pooled_bytes: 0,
        }
    }

    /// A buffer of exactly `size` bytes, with any content. A fresh one is zeroed by the kernel as
    /// it is touched.
    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        match self.take_free(size) {
            Some(mut spare) => {
                spare.resize(size, 0);
                spare
            }
            None => vec![0; size],
        }
    }

    /// Takes a buffer back, or frees it if enough are kept.
    pub(crate) fn release(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.pooled_bytes + buffer.capacity() <= MAX_POOLED_BYTES {
            self.pooled_bytes += buffer.capacity();
            self.free.push(buffer);
        }
    }

    /// The answers of this wake in a buffer of their own, because they have to wait.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        // The next answers are likely to be as long, and should not have to grow again.
        let size = self.output.len();
        let next = self
            .take_free(size)
            .unwrap_or_else(|| Vec::with_capacity(size));
        mem::replace(&mut self.output, next)
    }

    /// The last used of the spares with room for `size` bytes.
    fn take_free(&mut self, size: usize) -> Option<Vec<u8>> {
        let index = self
            .free
            .iter()
            .rposition(|spare| spare.capacity() >= size)?;
        let spare = self.free.remove(index);
        self.pooled_bytes -= spare.capacity();
        Some(spare)
    }
}

/// Small requests of a whole burst fit many times over, and it is a fraction of a usual
/// second-level cache.
pub(crate) const SCRATCH: usize = 256 << 10;

/// Enough for a few dozen connections with frames of a megabyte to find every buffer warm.
const MAX_POOLED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_the_next_one_taken() {
        let mut memory = BufferPool::new();
        let first = memory.take(100_000);
        let place = first.as_ptr();
        memory.release(first);
        let again = memory.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 90_000));
    }

    #[test]
    fn no_more_is_kept_than_the_bound_says() {
        let mut memory = BufferPool::new();
        let taken: Vec<_> = (0..20).map(|_| memory.take(4 << 20)).collect();
        for buffer in taken {
            memory.release(buffer);
        }
        assert_eq!(memory.free.len(), 16);
    }

    #[test]
    fn answers_that_have_to_wait_leave_room_for_as_many() {
        let mut memory = BufferPool::new();
        memory.output.resize(3 << 20, 7);
        assert_eq!(memory.take_output().len(), 3 << 20);
        assert!(memory.output.capacity() >= 3 << 20);
    }
}
