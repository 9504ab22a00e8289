// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block that a poller reads the next bytes into.
//!
//! All connections of a poller read into one block, so thousands of them share memory that is hot
//! in the cache; a connection gets a window of it, not a copy. When the last window is dropped, the
//! block is reused from its start. A block that is full while windows of it exist is *retired*. At
//! most [`MAX_RETIRED`] blocks are: of those without windows the most recently retired is reused,
//! as the likeliest to be in the cache; if there is none, received bytes are copied into memory of
//! their own size. So connections that hold on to their input can pin this many blocks of a poller
//! and no more.

use std::collections::VecDeque;
use std::io;

use netpoll_buffer::{Pool, Segment, Tail};

/// The size of a read block; the pool adds a page.
const READ_BLOCK: usize = 64 << 10;

/// The most retired blocks, beside the current one.
const MAX_RETIRED: usize = 16;

/// With less spare capacity than this, a block is replaced.
const MIN_READ: usize = 4 << 10;

/// The blocks of one poller.
#[derive(Debug)]
pub(super) struct ReadBlock {
    pool: Pool,
    current: Tail,
    retired: VecDeque<Tail>,
    /// The largest buffer of one read.
    max_read: usize,
}

impl ReadBlock {
    pub(super) fn new(pool: Pool) -> Self {
        let current = pool.take(READ_BLOCK);
        let window = current.capacity();
        Self {
            pool,
            current,
            retired: VecDeque::new(),
            max_read: window,
        }
    }

    /// Lets `fill` write to the block, and returns a window of the bytes written and the size of
    /// the buffer offered. The window is empty if `fill` wrote nothing.
    pub(super) fn fill_with(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(Segment, usize)> {
        if !self.current.rewind() && self.current.spare_capacity() < MIN_READ && !self.replace() {
            return self.fill_and_copy(fill);
        }
        let offered = self.current.spare_capacity().min(self.max_read);
        let start = self.current.filled();
        let count = self.current.fill_with(offered, fill)?;
        Ok((self.current.window(start..start + count), offered))
    }

    /// Replaces the full block by one with spare capacity. Returns `false` if too many are retired.
    fn replace(&mut self) -> bool {
        let free = self.retired.iter_mut().rposition(Tail::rewind);
        let fresh = match free.and_then(|index| self.retired.remove(index)) {
            Some(block) => block,
            None if self.retired.len() < MAX_RETIRED => self.pool.take(READ_BLOCK),
            None => return false,
        };
        self.retired
            .push_back(std::mem::replace(&mut self.current, fresh));
        true
    }

    /// Reads into a temporary block and copies the bytes received.
    #[cold]
    fn fill_and_copy(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(Segment, usize)> {
        let mut temporary = self.pool.take(READ_BLOCK);
        let offered = temporary.spare_capacity().min(self.max_read);
        let count = temporary.fill_with(offered, fill)?;
        let mut own = self.pool.take(count);
        own.put(temporary.window(0..count).as_slice());
        Ok((own.window(0..count), offered))
    }

    #[cfg(test)]
    fn retired_blocks(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> (ReadBlock, Pool) {
        let pool = Pool::with_bound(8 << 20);
        (ReadBlock::new(pool.clone()), pool)
    }

    fn take(block: &mut ReadBlock, byte: u8, count: usize) -> Segment {
        let fill = |buffer: &mut [u8]| {
            let count = count.min(buffer.len());
            buffer[..count].fill(byte);
            Ok(count)
        };
        block.fill_with(fill).unwrap().0
    }

    #[test]
    fn a_block_without_windows_is_reused_from_its_start() {
        let (mut block, _) = block();
        let first = take(&mut block, 1, 100);
        let address = first.as_slice().as_ptr();
        drop(first);
        assert_eq!(take(&mut block, 2, 100).as_slice().as_ptr(), address);
    }

    #[test]
    fn held_windows_are_never_overwritten() {
        let (mut block, _) = block();
        let held: Vec<Segment> = (0..64).map(|byte| take(&mut block, byte, 9000)).collect();
        for (byte, window) in held.iter().enumerate() {
            assert!(
                window
                    .as_slice()
                    .iter()
                    .all(|&found| usize::from(found) == byte)
            );
        }
    }

    #[test]
    fn at_most_max_retired_blocks_are_kept() {
        let (mut block, pool) = block();
        let held: Vec<Segment> = (0..400).map(|_| take(&mut block, 1, 16 << 10)).collect();
        assert_eq!(block.retired_blocks(), MAX_RETIRED);
        let copies = 400 * (16 << 10);
        assert!(pool.stats().in_use <= (MAX_RETIRED + 1) * (68 << 10) + copies);
        drop(held);
        drop(take(&mut block, 1, 1));
        assert_eq!(pool.stats().in_use, (MAX_RETIRED + 1) * (68 << 10));
    }

    #[test]
    fn the_most_recently_retired_free_block_is_reused() {
        let (mut block, _) = block();
        let mut held: Vec<Segment> = (0..4).map(|_| take(&mut block, 1, 68 << 10)).collect();
        assert_eq!(block.retired_blocks(), 3);
        let last = held.remove(2);
        let (first, address) = (held.remove(0), last.as_slice().as_ptr());
        drop((first, last));
        assert_eq!(take(&mut block, 2, 100).as_slice().as_ptr(), address);
    }

    #[test]
    fn a_failed_fill_leaves_the_block_as_it_was() {
        let (mut block, _) = block();
        let rejected = block.fill_with(|_| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!(rejected.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(take(&mut block, 3, 5).as_slice(), &[3; 5]);
    }
}
