// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segments behind the first one of a buffer.
//!
//! Nearly every buffer has none, and each request batch moves and drops buffers. So this is one word
//! until there is a second segment, and a queue on the heap from then on. The queue counts its own
//! bytes, so that reading the first segment updates no count except that segment's.
//!
//! A buffer whose first segment was made contiguous has had several, so the tail that can extend
//! that segment lies here as well: [`front_tail`](SegmentQueueInner::front_tail).

use std::collections::{VecDeque, vec_deque};

use super::rare::Rare;
use crate::segment::Segment;
use crate::tail::Tail;

/// A queue of segments, none of them empty. Owns no memory until its first segment.
#[derive(Default)]
pub(crate) struct SegmentQueue {
    queue: Rare<SegmentQueueInner>,
}

#[derive(Default)]
struct SegmentQueueInner {
    segments: VecDeque<Segment>,
    /// The sum of the lengths of all segments.
    len: usize,
    /// Spare capacity behind the end of the segment before these, if that segment ends where this
    /// tail writes. Replacing that segment drops the tail.
    front_tail: Option<Tail>,
}

impl SegmentQueueInner {
    #[cold]
    #[inline(never)]
    fn drop_front_tail(&mut self) {
        self.front_tail = None;
    }
}

impl SegmentQueue {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            queue: Rare::none(),
        }
    }

    /// Returns whether no queue is allocated: one comparison. An allocated queue may be empty.
    #[inline]
    pub(crate) fn is_unallocated(&self) -> bool {
        self.queue.is_none()
    }

    /// Returns whether there are no segments, and so no bytes.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len)
    }

    #[inline]
    pub(crate) fn iter(&self) -> vec_deque::Iter<'_, Segment> {
        self.queue
            .as_ref()
            .map(|queue| queue.segments.iter())
            .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&Segment> {
        self.queue.as_ref()?.segments.back()
    }

    /// Extends the last segment, if there is one, by `count` bytes, which the tail has just filled
    /// there.
    #[inline]
    pub(crate) fn grow_back(&mut self, count: usize) {
        if let Some(queue) = self.queue.as_mut()
            && let Some(last) = queue.segments.back_mut()
        {
            last.grow(count);
            queue.len += count;
        }
    }

    /// Merges `next` into the last segment if it is the window right behind it; otherwise returns
    /// it.
    pub(crate) fn try_merge_back(&mut self, next: Segment) -> Result<(), Segment> {
        let Some(queue) = self.queue.as_mut() else {
            return Err(next);
        };
        let Some(last) = queue.segments.back_mut() else {
            return Err(next);
        };
        let length = next.len();
        last.try_merge(next)?;
        queue.len += length;
        Ok(())
    }

    /// Returns the segments from the one that holds byte `from` on, counted from the first, and the
    /// position of that one. Searches from the end, and visits no more segments than it returns.
    pub(crate) fn iter_from(&self, from: usize) -> (usize, vec_deque::Iter<'_, Segment>) {
        let Some(queue) = self.queue.as_ref() else {
            return (0, vec_deque::Iter::default());
        };
        let (mut index, mut start) = (queue.segments.len(), queue.len);
        while start > from {
            index -= 1;
            start -= queue.segments[index].len();
        }
        (start, queue.segments.range(index..))
    }

    /// Keeps `tail`, which continues the segment before these.
    pub(crate) fn set_front_tail(&mut self, tail: Tail) {
        self.queue.get_or_insert_default().front_tail = Some(tail);
    }

    /// Drops the front tail, because another segment replaces the one before these.
    #[inline(always)]
    pub(crate) fn drop_front_tail(&mut self) {
        if let Some(queue) = self.queue.as_mut() {
            queue.drop_front_tail();
        }
    }

    /// Takes the tail that continues the segment before these, if there is any.
    #[inline]
    pub(crate) fn take_front_tail(&mut self) -> Option<Tail> {
        self.queue.as_mut()?.front_tail.take()
    }

    /// Takes the first segment, which becomes the one before these.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Segment> {
        let queue = self.queue.as_mut()?;
        if queue.front_tail.is_some() {
            queue.drop_front_tail();
        }
        let first = queue.segments.pop_front()?;
        queue.len -= first.len();
        Some(first)
    }

    pub(crate) fn push_back(&mut self, segment: Segment) {
        let queue = self.queue.get_or_insert_default();
        queue.len += segment.len();
        queue.segments.push_back(segment);
    }

    pub(crate) fn push_front(&mut self, segment: Segment) {
        let queue = self.queue.get_or_insert_default();
        queue.len += segment.len();
        queue.segments.push_front(segment);
    }

    /// Appends the segments of `other`. Drops the front tail of `other`, whose segment is not part
    /// of it.
    pub(crate) fn append(&mut self, mut other: Self) {
        other.drop_front_tail();
        match (&mut *self.queue, &mut *other.queue) {
            (Some(own), Some(others)) => {
                own.segments.append(&mut others.segments);
                own.len += others.len;
            }
            (None, Some(_)) => *self = other,
            (_, None) => {}
        }
    }
}

impl IntoIterator for SegmentQueue {
    type Item = Segment;
    type IntoIter = vec_deque::IntoIter<Segment>;

    fn into_iter(mut self) -> Self::IntoIter {
        let segments = match self.queue.take() {
            Some(queue) => queue.segments,
            None => VecDeque::new(),
        };
        segments.into_iter()
    }
}
