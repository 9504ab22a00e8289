// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that all connections of the reference server share.
//!
//! One buffer to read into and one to answer from serve every connection in turn, which keeps both
//! in the processor's cache. A connection takes its own buffer only while a large frame is
//! incomplete or a response is unsent, and releases it right after. The same few buffers, warm from
//! their last use, rotate among the connections that need them.

use std::mem;

/// The buffers of one server.
#[derive(Debug)]
pub(crate) struct BufferPool {
    /// The buffer for small frames. Its length is always [`SCRATCH`].
    pub(crate) scratch: Vec<u8>,
    /// The responses of one readiness event. Its content between events has no meaning.
    pub(crate) output: Vec<u8>,
    /// Free buffers, the last released one last.
    free: Vec<Vec<u8>>,
    /// The sum of their capacities in bytes.
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

    /// Returns a buffer of exactly `size` bytes with any content. The kernel zeroes a fresh one
    /// when it is touched.
    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        match self.take_free(size) {
            Some(mut spare) => {
                spare.resize(size, 0);
                spare
            }
            None => vec![0; size],
        }
    }

    /// Adds a buffer to the pool, or frees it if the pool is full.
    pub(crate) fn release(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.pooled_bytes + buffer.capacity() <= MAX_POOLED_BYTES {
            self.pooled_bytes += buffer.capacity();
            self.free.push(buffer);
        }
    }

    /// Takes the responses of this event in their own buffer, because they have to wait.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        // The next responses are likely to be as long, and should not have to grow again.
        let size = self.output.len();
        let next = self
            .take_free(size)
            .unwrap_or_else(|| Vec::with_capacity(size));
        mem::replace(&mut self.output, next)
    }

    /// Takes the last released buffer with a capacity of `size` bytes.
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

/// Fits a whole batch of small requests many times over, and is a fraction of a usual second-level
/// cache.
pub(crate) const SCRATCH: usize = 256 << 10;

/// Large enough that a few dozen connections with frames of a megabyte find every buffer warm.
const MAX_POOLED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_released_buffer_is_reused_first() {
        let mut memory = BufferPool::new();
        let first = memory.take(100_000);
        let address = first.as_ptr();
        memory.release(first);
        let again = memory.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (address, 90_000));
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_bound() {
        let mut memory = BufferPool::new();
        let taken: Vec<_> = (0..20).map(|_| memory.take(4 << 20)).collect();
        for buffer in taken {
            memory.release(buffer);
        }
        assert_eq!(memory.free.len(), 16);
    }

    #[test]
    fn taking_unsent_responses_leaves_an_output_buffer_as_large() {
        let mut memory = BufferPool::new();
        memory.output.resize(3 << 20, 7);
        assert_eq!(memory.take_output().len(), 3 << 20);
        assert!(memory.output.capacity() >= 3 << 20);
    }
}
