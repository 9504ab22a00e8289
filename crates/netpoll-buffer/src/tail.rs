// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writer of a block, behind its filled bytes.
//!
//! A tail is the only writer of a block (B2). It moves by value, and its owner may write: a poller
//! passes it to the kernel, and a buffer keeps one for its puts. [`Tail::window`] makes the written
//! bytes visible as a [`Segment`].

use std::io;
use std::ops::Range;

use crate::block::Block;
use crate::pool::Pool;
use crate::segment::Segment;

/// The only writer of a block (B2): it fills `filled..capacity` and makes windows of `0..filled`.
#[derive(Debug)]
pub struct Tail {
    block: Block,
    /// No segment of the block reaches past this (B3).
    filled: usize,
}

impl Tail {
    /// Creates a tail over a new block with capacity for at least `capacity` bytes, from the
    /// calling thread's pool. Allocates when the pool has no free block.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::new(Pool::current().allocate_block(capacity))
    }

    /// Creates the only tail of a block that was just allocated (B2).
    fn new(block: Block) -> Self {
        Self { block, filled: 0 }
    }

    /// Returns how many bytes can still be written.
    #[inline]
    #[must_use]
    pub fn spare_capacity(&self) -> usize {
        self.block.capacity() - self.filled
    }

    /// Returns how many bytes have been written since the block was last empty.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Returns the size of the whole block, in bytes.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Starts again at the front of the block if no segment of it is left; returns whether it did
    /// (B4). Costs one load, unless the pool is [for secrets](Pool::zeroing): then the filled bytes
    /// are zeroed.
    #[inline]
    pub fn rewind(&mut self) -> bool {
        // SAFETY: B2: this is the block's one tail, and what it filled is within the capacity.
        let alone = unsafe { self.block.try_reclaim(self.filled) };
        if alone {
            self.filled = 0;
        }
        alone
    }

    /// Returns the spare capacity. It holds the bytes of an earlier user, if the pool does not zero
    /// them.
    #[inline]
    pub(crate) fn spare_capacity_mut(&mut self) -> &mut [u8] {
        let filled = self.filled;
        // SAFETY: B2: this is the block's one tail; B3: no segment reaches past `filled`.
        unsafe { self.block.spare_capacity_mut(filled) }
    }

    /// Lets `fill` write to the spare capacity, at most `limit` bytes of it, and counts as filled
    /// the number of bytes that it returns. No copy. This one function serves a read from a socket
    /// and a simulated kernel alike.
    ///
    /// # Errors
    ///
    /// The error of `fill`; then nothing counts as filled.
    ///
    /// # Panics
    ///
    /// If `fill` returns more than it was given: that would expose stale bytes.
    #[inline]
    pub fn fill_with(
        &mut self,
        limit: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = self.spare_capacity_mut();
        let offered = room.len().min(limit);
        #[cfg(debug_assertions)]
        room[..offered].fill(POISON);
        let count = fill(&mut room[..offered])?;
        assert!(
            count <= offered,
            "the fill claims {count} bytes where {offered} were offered"
        );
        self.filled += count;
        Ok(count)
    }

    /// Copies as much of `bytes` as fits; returns how much.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let room = self.spare_capacity_mut();
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }

    /// Copies `parts`, one behind the other, as far as they fit.
    #[inline(always)]
    pub(crate) fn put_all(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.put(part);
        }
    }

    /// Counts the next `count` bytes of the spare capacity as filled, whatever they hold. At most
    /// the spare capacity.
    pub(crate) fn advance(&mut self, count: usize) {
        self.filled += count.min(self.spare_capacity());
    }

    /// Returns a segment of the filled bytes in `range`. No copy; one more owner.
    #[inline]
    #[must_use]
    pub fn window(&self, range: Range<usize>) -> Segment {
        Segment::new(self.block.clone(), range.start..range.end.min(self.filled))
    }

    /// Returns whether the block belongs to the calling thread's pool.
    #[inline]
    pub(crate) fn is_from_current_pool(&self) -> bool {
        self.block.is_from_current_pool()
    }

    /// Returns whether `segment` ends where this tail writes next, so that it can grow in place.
    #[inline]
    pub(crate) fn continues(&self, segment: &Segment) -> bool {
        segment.ends_at(&self.block, self.filled)
    }
}

impl Pool {
    /// Allocates an empty block of at least `capacity` bytes, at most 4 GiB, and returns its tail.
    /// Takes memory from the allocator if the pool has no free block of that size.
    #[must_use]
    pub fn take(&self, capacity: usize) -> Tail {
        Tail::new(self.clone().allocate_block(capacity))
    }
}

/// Fills the offered memory in debug builds: a fill that claims too much exposes it.
#[cfg(debug_assertions)]
const POISON: u8 = 0xDB;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Header;

    const SECRET: u8 = 0x5E;

    /// Fills all the spare capacity, counts `filled` bytes of it, and returns its address.
    fn fill(tail: &mut Tail, filled: usize) -> *const u8 {
        let room = tail.spare_capacity_mut();
        room.fill(SECRET);
        let start = room.as_ptr();
        tail.advance(filled);
        start
    }

    fn count_secret(tail: &mut Tail) -> usize {
        let room = tail.spare_capacity_mut();
        room.iter().filter(|&&byte| byte == SECRET).count()
    }

    #[track_caller]
    fn assert_reuse_is_zeroed(pool: &Pool) {
        for size in [256, 64 << 10, 512 << 10] {
            let mut tail = pool.take(size);
            let start = fill(&mut tail, size / 2);
            let segment = tail.window(0..10);
            drop(tail);
            drop(segment);
            let mut again = pool.take(size);
            let room = again.spare_capacity_mut();
            assert_eq!(room.as_ptr(), start, "the same memory");
            assert!(room.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_zeroing_pool_reuses_blocks_zeroed() {
        assert_reuse_is_zeroed(&Pool::zeroing(1 << 20));
        std::thread::spawn(|| {
            let pool = Pool::zeroing(1 << 20);
            pool.enter();
            assert_reuse_is_zeroed(&pool);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn rewinding_a_tail_of_a_zeroing_pool_zeroes_the_filled_bytes() {
        let mut tail = Pool::zeroing(0).take(1024);
        let start = fill(&mut tail, 1000);
        let segment = tail.window(0..1000);
        assert!(!tail.rewind());
        assert_eq!(segment.as_slice(), [SECRET; 1000]);
        drop(segment);
        assert!(tail.rewind());
        assert_eq!(tail.spare_capacity_mut().as_ptr(), start);
        assert_eq!(tail.spare_capacity_mut()[..1000], [0; 1000]);
        assert_eq!(count_secret(&mut tail), 24, "only what was filled");
    }

    #[test]
    fn memory_is_zeroed_before_it_is_released_to_a_zeroing_pool() {
        for size in [256, 64 << 10, 16 << 20] {
            let mut header = Header::allocate(size);
            header.overwrite(SECRET);
            header.set_pool(Some(Pool::zeroing(0)));
            assert!(header.retire().is_some(), "the block has a pool");
            let mut retired = Tail::new(Block::from_header(header, None));
            assert!(retired.spare_capacity_mut().iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_plain_pool_does_not_zero_memory() {
        let mut tail = Pool::with_bound(0).take(1024);
        fill(&mut tail, 1024);
        assert!(tail.rewind());
        assert_eq!(count_secret(&mut tail), 1024);
    }
}
