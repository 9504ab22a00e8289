// SPDX-License-Identifier: MIT OR Apache-2.0
//! A segment of a buffer: a window into a block, and one owner of the block.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::block::Block;

/// A window into reference-counted memory. `Send` and `Sync`; the bytes it shows never change (B3).
///
/// A segment is 16 bytes, so blocks are at most 4 GiB. Larger memory is pushed as several segments.
pub struct Segment {
    block: Block,
    start: u32,
    end: u32,
}

/// The length of the longest segment, in bytes.
pub(crate) const MAX_SEGMENT_LEN: usize = u32::MAX as usize;

impl Segment {
    /// Creates a window of filled bytes (the tail ensures it: B3). An inverted range is empty.
    #[inline]
    pub(crate) fn new(block: Block, range: Range<usize>) -> Self {
        debug_assert!(range.end <= block.capacity() && block.capacity() <= MAX_SEGMENT_LEN);
        let end = range.end.min(MAX_SEGMENT_LEN) as u32;
        let start = (range.start.min(MAX_SEGMENT_LEN) as u32).min(end);
        Self { block, start, end }
    }

    /// Splits foreign memory into segments of at most 4 GiB, without a copy. One allocation each.
    pub(crate) fn foreign(mut bytes: Bytes) -> impl Iterator<Item = Self> {
        if bytes.is_empty() {
            // An empty one is dropped under the same guard.
            drop(Block::foreign(std::mem::take(&mut bytes)));
        }
        std::iter::from_fn(move || {
            let length = bytes.len().min(MAX_SEGMENT_LEN);
            (length > 0).then(|| Self::new(Block::foreign(bytes.split_to(length)), 0..length))
        })
    }

    /// Returns the number of bytes it shows.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Returns whether it shows no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the bytes it shows.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: B3: the window lies in what was filled when it was made.
        unsafe { self.block.window(self.start as usize, self.end as usize) }
    }

    /// Returns the first `n` bytes, or all if there are fewer, and shows the rest from then on.
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> &[u8] {
        let start = self.start as usize;
        let n = n.min(self.len());
        self.start += n as u32;
        // SAFETY: B3: `n` is no more than the length, so this is part of the old window.
        unsafe { self.block.window(start, start + n) }
    }

    /// Skips the first `n` bytes, or all if there are fewer.
    #[inline]
    pub(crate) fn skip(&mut self, n: usize) {
        self.start += n.min(self.len()) as u32;
    }

    /// Splits off the first `n` bytes as a segment of their own; this one keeps the rest. One more
    /// owner.
    pub(crate) fn split_to(&mut self, n: usize) -> Self {
        let middle = self.start + n.min(self.len()) as u32;
        let first = Self {
            block: self.block.clone(),
            start: self.start,
            end: middle,
        };
        self.start = middle;
        first
    }

    /// Returns whether the memory is foreign, with a drop that is user code.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.block.as_foreign().is_some()
    }

    /// Returns the size of the memory that this window keeps alive, in bytes.
    #[inline]
    pub(crate) fn block_capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Returns whether both are windows of the same block.
    #[inline]
    pub(crate) fn shares_block_with(&self, other: &Self) -> bool {
        self.block.ptr_eq(&other.block)
    }

    /// Returns whether this ends at `end` of `block`.
    #[inline]
    pub(crate) fn ends_at(&self, block: &Block, end: usize) -> bool {
        self.end as usize == end && self.block.ptr_eq(block)
    }

    /// Extends the window by `count` bytes, which the block's tail has just filled behind it.
    #[inline]
    pub(crate) fn grow(&mut self, count: usize) {
        debug_assert!(self.end as usize + count <= self.block.capacity());
        self.end += count as u32;
    }

    /// Returns whether `next` is the window right behind this one.
    #[inline]
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        next.start == self.end && next.block.ptr_eq(&self.block)
    }

    /// Merges `next` into this one if it is the window right behind it; otherwise returns it.
    #[inline]
    pub(crate) fn try_merge(&mut self, next: Self) -> Result<(), Self> {
        if self.is_followed_by(&next) {
            self.end = next.end;
            Ok(())
        } else {
            Err(next)
        }
    }
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Segment> for Bytes {
    /// Returns the same memory, without a copy. One small allocation; none for memory that came as
    /// [`Bytes`].
    fn from(segment: Segment) -> Self {
        match segment.block.as_foreign() {
            Some(bytes) => bytes.slice(segment.start as usize..segment.end as usize),
            None => Self::from_owner(segment),
        }
    }
}

impl fmt::Debug for Segment {
    /// Prints the shape, never the contents, which belong to a peer and may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Segment({}..{} of {})",
            self.start,
            self.end,
            self.block.capacity()
        )
    }
}
