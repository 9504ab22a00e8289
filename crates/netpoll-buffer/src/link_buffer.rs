// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`LinkBuffer`]: a chain of segments, read at the front and written at the back.
//!
//! The first segment lies in the buffer itself, so a buffer of one segment, as for nearly every
//! small message, needs no memory beside its block. Reading moves the start of the front segment.
//! A put extends the last segment when the tail continues it, else adds a segment.
//!
//! # Invariants
//!
//! * **L1** `rest` counts the bytes of its segments, and the front segment its own; the readable
//!   length has no other count.
//! * **L2** No segment except the front one is empty, and the front one is empty only while a slice
//!   that was read from it may still be borrowed.
//! * **L3** While `uncommitted` is `Some`, all puts go to it, and `tail` is empty.

mod bytes_traits;
mod contiguous;
mod convert;
pub(crate) mod drain;
pub(crate) mod fill;
mod io_traits;
mod put;
mod rare;
pub(crate) mod read;
mod search;
mod segment_queue;
pub(crate) mod uncommitted_bytes;
pub(crate) mod write;

use std::fmt;

use crate::pool::MIN_BLOCK_SIZE;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::write_tail;

use rare::Rare;
use segment_queue::SegmentQueue;
use uncommitted_bytes::UncommittedBytes;

/// A chain of windows into reference-counted memory: a connection reads from one and writes into
/// one.
///
/// Reading borrows (`peek`, `next`, `until`), owns without a copy where the memory cost allows it
/// (`slice`, `split_to`), or copies (`read_*`). Writing copies small data into the thread's write
/// block (`put_*`), shares foreign memory (`push`), joins whole buffers (`append`), or reserves
/// bytes to be filled in later (`reserve`). A call that fails has consumed nothing and added
/// nothing.
///
/// `Send`, not `Clone`. An empty buffer owns no memory.
///
/// ```
/// use netpoll_buffer::LinkBuffer;
///
/// # fn main() -> std::io::Result<()> {
/// let mut buffer = LinkBuffer::new();
/// buffer.put_u32(5);
/// buffer.put_slice(b"hello");
/// let length = buffer.read_u32()?;
/// assert_eq!(buffer.next(length as usize)?, b"hello");
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct LinkBuffer {
    front: Option<Segment>,
    /// The segments behind the front one; empty if there is no front segment.
    rest: SegmentQueue,
    /// The destination of the next small put.
    tail: Option<Tail>,
    /// The bytes that were put since the first open reservation (L3).
    uncommitted: Rare<UncommittedBytes>,
}

impl LinkBuffer {
    /// Creates an empty buffer. No allocation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            front: None,
            rest: SegmentQueue::new(),
            tail: None,
            uncommitted: Rare::none(),
        }
    }

    /// Returns the number of readable bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.front_len() + self.rest.len()
    }

    /// Returns whether no bytes are readable.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.front_len() == 0 && self.rest.is_empty()
    }

    /// Returns the length of the front segment: so many bytes are contiguous at no cost.
    #[inline]
    fn front_len(&self) -> usize {
        self.front.as_ref().map_or(0, Segment::len)
    }

    /// Returns the number of readable bytes in the front segment: a read of so many needs no copy. 0
    /// also after a read of the whole segment, until the next call frees it.
    #[inline]
    #[must_use]
    pub fn contiguous_len(&self) -> usize {
        self.front_len()
    }

    /// Returns the number of uncommitted bytes (Go's `MallocLen`).
    #[inline]
    #[must_use]
    pub fn uncommitted_len(&self) -> usize {
        self.uncommitted.as_ref().map_or(0, |pending| pending.len())
    }

    /// Returns the readable segments in order; none is empty.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> + Clone {
        self.front
            .iter()
            .filter(|front| !front.is_empty())
            .chain(self.rest.iter())
    }

    /// Appends a window without a copy, and merges it with the last one if it lies right behind it.
    /// Uncommitted bytes stay behind it.
    #[inline]
    pub fn push_segment(&mut self, segment: Segment) {
        if segment.is_empty() {
            return;
        }
        let joined = match &mut self.front {
            None if self.rest.is_unallocated() => {
                self.front = Some(segment);
                return;
            }
            Some(front) if self.rest.is_empty() => front.try_merge(segment),
            _ => self.rest.try_merge_back(segment),
        };
        if let Err(segment) = joined {
            self.append_segment(segment);
        }
    }

    /// Appends a segment, which is not empty.
    #[inline]
    fn append_segment(&mut self, segment: Segment) {
        match &self.front {
            Some(front) if !front.is_empty() || !self.rest.is_empty() => {
                self.rest.push_back(segment);
            }
            // No bytes are readable, so no slice that was read is borrowed any more (L2).
            _ => self.set_front(segment),
        }
    }

    /// Makes `segment` the front one of a buffer without readable bytes.
    #[inline]
    fn set_front(&mut self, segment: Segment) {
        self.front = Some(segment);
        self.rest.drop_front_tail();
    }

    #[inline]
    fn last(&self) -> Option<&Segment> {
        self.rest.back().or(self.front.as_ref())
    }

    /// Drops the front segment while it is empty (L2).
    #[inline]
    fn drop_empty_front(&mut self) {
        while let Some(front) = &self.front
            && front.is_empty()
        {
            self.front = self.rest.pop_front();
        }
    }

    /// Frees the segments that were read, and nothing else. No copy.
    #[inline]
    pub fn trim(&mut self) {
        self.drop_empty_front();
    }

    /// Frees everything that was read and all memory held for later puts. The buffer keeps alive
    /// only its readable bytes, and the rest of a block in which those were made contiguous. No
    /// copy.
    #[inline]
    pub fn release(&mut self) {
        if self.tail.is_none() && self.rest.is_unallocated() {
            // At most the front segment is left.
            if self.front_len() == 0 {
                self.front = None;
            }
        } else {
            self.release_all();
        }
    }

    /// The part of [`release`](Self::release) for more than the front segment, or for memory held
    /// for puts.
    #[cold]
    fn release_all(&mut self) {
        self.drop_empty_front();
        if self.uncommitted.is_none() {
            self.release_tail();
        }
        let growth = self.rest.take_front_tail();
        if self.rest.is_empty() {
            self.rest = SegmentQueue::new();
        }
        // The block of contiguous bytes, never the thread's write block.
        if let Some(tail) = growth.filter(|tail| self.can_grow_front_in(tail)) {
            self.rest.set_front_tail(tail);
        }
    }

    /// Moves the readable bytes into memory of their own size, if they [retain much
    /// more](Self::should_compact). For data that will stay a while: a remainder that waits for
    /// more, or output that the peer does not take. Copies at most once. After a copy the buffer
    /// owns the tail of that memory, so that small reads are appended there.
    pub fn compact(&mut self) {
        self.drop_empty_front();
        if !self.should_compact() {
            return;
        }
        let length = self.len();
        let mut own = Tail::with_capacity(length);
        for segment in self.segments() {
            own.put(segment.as_slice());
        }
        self.front = Some(own.window(0..length));
        self.rest = SegmentQueue::new();
        self.replace_tail(own);
    }

    /// Returns whether the readable bytes keep alive more than sixteen times their own size, and
    /// more than the smallest block (256 B), the least that can be allocated.
    #[must_use]
    pub fn should_compact(&self) -> bool {
        let pinned = self.retained_bytes();
        pinned > MIN_BLOCK_SIZE && pinned / 16 > self.len()
    }

    /// Returns how much memory the readable bytes keep alive. A block of several segments counts
    /// once if they are adjacent, or have one segment of another block between them, as alternating
    /// puts and pushes produce.
    pub(crate) fn retained_bytes(&self) -> usize {
        let mut pinned = 0;
        let mut seen: [Option<&Segment>; 2] = [None, None];
        for segment in self.segments() {
            if !seen
                .iter()
                .flatten()
                .any(|&other| other.shares_block_with(segment))
            {
                pinned += segment.block_capacity();
            }
            seen = [seen[1], Some(segment)];
        }
        pinned
    }

    /// Takes all readable bytes out as a new buffer. Uncommitted bytes and the tail stay. No copy.
    #[inline]
    #[must_use]
    pub fn take_readable(&mut self) -> Self {
        Self {
            front: self.front.take(),
            rest: std::mem::take(&mut self.rest),
            tail: None,
            uncommitted: Rare::none(),
        }
    }

    /// Inserts the readable bytes of `other` before those of this buffer. No copy. Uncommitted
    /// bytes of `other` are committed first, as by [`commit_all`](Self::commit_all).
    pub fn prepend(&mut self, mut other: Self) {
        other.commit_all();
        if other.is_empty() {
            return;
        }
        if self.is_empty() && self.uncommitted.is_none() {
            // The tail moves along: it continues the new end.
            std::mem::swap(self, &mut other);
            return;
        }
        let later = std::mem::take(&mut self.rest);
        let first = self.front.take().filter(|front| !front.is_empty());
        self.front = other.front.take();
        self.rest = std::mem::take(&mut other.rest);
        first
            .into_iter()
            .for_each(|segment| self.rest.push_back(segment));
        self.rest.append(later);
    }

    /// Keeps `tail` for the next put in place of the previous one, or returns it to the thread if
    /// puts go elsewhere (L3).
    #[inline]
    pub(crate) fn replace_tail(&mut self, tail: Tail) {
        self.release_tail();
        if self.uncommitted.is_none() {
            self.tail = Some(tail);
        } else {
            write_tail::release(tail);
        }
    }

    /// Returns the memory held for the next put to the thread. The next put borrows it again.
    #[inline]
    pub fn return_tail(&mut self) {
        if let Some(tail) = self.tail.take() {
            write_tail::release(tail);
        }
    }
}

impl Drop for LinkBuffer {
    #[inline]
    fn drop(&mut self) {
        self.return_tail();
    }
}

impl fmt::Debug for LinkBuffer {
    /// Prints the shape, never the contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkBuffer")
            .field("len", &self.len())
            .field("uncommitted", &self.uncommitted_len())
            .field("segments", &self.segments().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Creates a buffer of two segments, of which the first was read and freed.
    fn with_an_empty_queue() -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        buffer.push(Bytes::from_static(b"ab"));
        buffer.push(Bytes::from_static(b"cd"));
        buffer.skip(2).unwrap();
        buffer.drop_empty_front();
        assert!(buffer.rest.is_empty() && !buffer.rest.is_unallocated());
        buffer
    }

    #[test]
    fn release_frees_an_empty_segment_queue_only() {
        let mut buffer = with_an_empty_queue();
        buffer.release();
        assert!(buffer.rest.is_unallocated());
        assert_eq!(buffer.len(), 2);
        buffer.push(Bytes::from_static(b"ef"));
        buffer.release();
        assert!(!buffer.rest.is_unallocated());
        assert_eq!(buffer.read_vec(4).unwrap(), b"cdef");
    }

    #[test]
    fn a_segment_pushed_after_an_emptied_queue_becomes_the_front() {
        for drop_front in [true, false] {
            let mut buffer = with_an_empty_queue();
            buffer.skip(2).unwrap();
            if drop_front {
                buffer.drop_empty_front();
            }
            assert_eq!(buffer.front.is_none(), drop_front);
            buffer.push(Bytes::from_static(b"ef"));
            assert_eq!((buffer.front_len(), buffer.rest.len()), (2, 0));
            buffer.push(Bytes::from_static(b"gh"));
            assert_eq!((buffer.front_len(), buffer.rest.len()), (2, 2));
            assert_eq!(buffer.next(4).unwrap(), b"efgh");
        }
    }
}
