// SPDX-License-Identifier: MIT OR Apache-2.0
//! One link of a chain: a window into a block, and one owner of it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::block::Block;

/// A window into counted memory. `Send` and `Sync`; what it shows never changes (B3).
///
/// 16 bytes, so blocks are at most 4 GiB; what is larger is pushed in several.
pub struct Segment {
    block: Block,
    start: u32,
    end: u32,
}

/// The longest segment.
pub(crate) const MAX_SEGMENT_LEN: usize = u32::MAX as usize;

impl Segment {
    /// A window of what is filled (the tail sees to it: B3). An inverted range is empty.
    #[inline]
    pub(crate) fn new(block: Block, range: Range<usize>) -> Self {
        debug_assert!(range.end <= block.capacity() && block.capacity() <= MAX_SEGMENT_LEN);
        let end = range.end.min(MAX_SEGMENT_LEN) as u32;
        let start = (range.start.min(MAX_SEGMENT_LEN) as u32).min(end);
        Self { block, start, end }
    }

    /// Foreign memory in segments of at most 4 GiB, without a copy. One allocation each.
    pub(crate) fn foreign(mut bytes: Bytes) -> impl Iterator<Item = Self> {
        if bytes.is_empty() {
            // It is dropped as what is not empty is.
            drop(Block::foreign(std::mem::take(&mut bytes)));
        }
        std::iter::from_fn(move || {
            let length = bytes.len().min(MAX_SEGMENT_LEN);
            (length > 0).then(|| Self::new(Block::foreign(bytes.split_to(length)), 0..length))
        })
    }

    /// How many bytes it shows.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it shows nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes it shows.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: B3: the window lies in what was filled when it was made.
        unsafe { self.block.window(self.start as usize, self.end as usize) }
    }

    /// The first `n` bytes, after which it shows the rest. At most what is there.
    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> &[u8] {
        let start = self.start as usize;
        let n = n.min(self.len());
        self.start += n as u32;
        // SAFETY: B3: `n` is no more than the length, so this is part of the old window.
        unsafe { self.block.window(start, start + n) }
    }

    /// Shows the rest after `n` bytes. At most what is there.
    #[inline]
    pub(crate) fn skip(&mut self, n: usize) {
        self.start += n.min(self.len()) as u32;
    }

    /// The first `n` bytes as a segment of their own, leaving the rest. One more owner.
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

    /// Whether the memory is somebody else's, whose drop is user code.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.block.as_foreign().is_some()
    }

    /// How large the memory is that this window keeps alive.
    #[inline]
    pub(crate) fn block_capacity(&self) -> usize {
        self.block.capacity()
    }

    /// Whether both are windows of the same block.
    #[inline]
    pub(crate) fn shares_block_with(&self, other: &Self) -> bool {
        self.block.ptr_eq(&other.block)
    }

    /// Whether this ends at `end` of `block`.
    #[inline]
    pub(crate) fn ends_at(&self, block: &Block, end: usize) -> bool {
        self.end as usize == end && self.block.ptr_eq(block)
    }

    /// Shows `count` bytes more, which the block's tail has just filled behind it.
    #[inline]
    pub(crate) fn grow(&mut self, count: usize) {
        debug_assert!(self.end as usize + count <= self.block.capacity());
        self.end += count as u32;
    }

    /// Whether `next` is the window right behind this one.
    #[inline]
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        next.start == self.end && next.block.ptr_eq(&self.block)
    }

    /// Takes `next` in if it is the window right behind this one; otherwise gives it back.
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
    /// The same memory, without a copy. One small allocation; none for what came as [`Bytes`].
    fn from(segment: Segment) -> Self {
        match segment.block.as_foreign() {
            Some(bytes) => bytes.slice(segment.start as usize..segment.end as usize),
            None => Self::from_owner(segment),
        }
    }
}

impl fmt::Debug for Segment {
    /// The shape, never the contents: they are a peer's, and may be secret.
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
