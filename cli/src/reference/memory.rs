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
pub(crate) struct Memory {
    /// Where small frames land. Always of length [`SCRATCH`].
    pub(crate) scratch: Vec<u8>,
    /// The answers of one wake. What it holds between wakes means nothing.
    pub(crate) output: Vec<u8>,
    /// Buffers nobody uses, the last used one last.
    spares: Vec<Vec<u8>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            scratch: vec![0; SCRATCH],
            output: Vec::with_capacity(SCRATCH),
            spares: Vec::new(),
        }
    }

    /// A buffer of exactly `size` bytes, with any content. A fresh one is zeroed by the kernel as
    /// it is touched.
    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        match self
            .spares
            .iter()
            .rposition(|spare| spare.capacity() >= size)
        {
            Some(index) => {
                let mut spare = self.spares.swap_remove(index);
                spare.resize(size, 0);
                spare
            }
            None => vec![0; size],
        }
    }

    /// Takes a buffer back, or frees it if there are enough.
    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        if self.spares.len() < SPARES && buffer.capacity() > 0 {
            self.spares.push(buffer);
        }
    }

    /// The answers of this wake in a buffer of their own, because they have to wait.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        let mut empty = self.take(0);
        empty.clear();
        mem::replace(&mut self.output, empty)
    }
}

/// Small requests of a whole burst fit many times over, and it is a fraction of a usual
/// second-level cache.
pub(crate) const SCRATCH: usize = 256 << 10;

/// At 4 MiB each this is the most that is kept: 64 MiB.
const SPARES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_the_next_one_taken() {
        let mut memory = Memory::new();
        let first = memory.take(100_000);
        let place = first.as_ptr();
        memory.give_back(first);
        let again = memory.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 90_000));
    }

    #[test]
    fn no_more_buffers_are_kept_than_the_bound_says() {
        let mut memory = Memory::new();
        let taken: Vec<_> = (0..2 * SPARES).map(|_| memory.take(10)).collect();
        for buffer in taken {
            memory.give_back(buffer);
        }
        assert_eq!(memory.spares.len(), SPARES);
    }
}
