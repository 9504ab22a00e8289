// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segments after a chain's first.
//!
//! Nearly every chain has none, and buffers move and are dropped with every burst: so this is one
//! word until there is a second segment, and a queue on the heap from then on. It counts its bytes
//! itself, so that reading the first segment touches no other count than that segment's.
//!
//! A chain whose first segment was gathered has had several, so what may be gathered behind that one
//! later lies here as well: [`front_tail`](SegmentQueueInner::front_tail).

use std::collections::{VecDeque, vec_deque};

use crate::segment::Segment;
use crate::tail::Tail;

/// A queue of segments, none of them empty; no memory while it has never had one.
#[derive(Default)]
pub(crate) struct SegmentQueue {
    queue: Option<Box<SegmentQueueInner>>,
}

#[derive(Default)]
struct SegmentQueueInner {
    segments: VecDeque<Segment>,
    /// The sum of the lengths of all segments.
    len: usize,
    /// Room in the block of the segment before these, behind its end, if it ends where this tail
    /// writes. Whoever puts another segment there lets go of it.
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
        Self { queue: None }
    }

    /// Whether it has no queue: one comparison. With one it may be empty all the same.
    #[inline]
    pub(crate) fn is_unallocated(&self) -> bool {
        self.queue.is_none()
    }

    /// Whether there are no segments, and so no bytes.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes there are.
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

    /// Shows `count` bytes more at the end of the last segment, if there is one, which the tail has
    /// just filled there.
    #[inline]
    pub(crate) fn grow_back(&mut self, count: usize) {
        if let Some(queue) = &mut self.queue
            && let Some(last) = queue.segments.back_mut()
        {
            last.grow(count);
            queue.len += count;
        }
    }

    /// Takes `next` into the last segment if it is the window right behind it; otherwise gives it
    /// back.
    pub(crate) fn try_merge_back(&mut self, next: Segment) -> Result<(), Segment> {
        let Some(queue) = &mut self.queue else {
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

    /// The segments from that on which has byte `from`, counted from the first, and where that one
    /// begins. Looked for from the end, at no more segments than are given.
    pub(crate) fn iter_from(&self, from: usize) -> (usize, vec_deque::Iter<'_, Segment>) {
        let Some(queue) = &self.queue else {
            return (0, vec_deque::Iter::default());
        };
        let (mut index, mut start) = (queue.segments.len(), queue.len);
        while start > from {
            index -= 1;
            start -= queue.segments[index].len();
        }
        (start, queue.segments.range(index..))
    }

    /// Keeps `tail`, which goes on where the segment before these ends.
    pub(crate) fn set_front_tail(&mut self, tail: Tail) {
        self.queue.get_or_insert_default().front_tail = Some(tail);
    }

    /// Another segment takes the place of the one before these: lets go of the room behind that.
    #[inline(always)]
    pub(crate) fn drop_front_tail(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.drop_front_tail();
        }
    }

    /// The room behind the segment before these, if there is any.
    #[inline]
    pub(crate) fn take_front_tail(&mut self) -> Option<Tail> {
        self.queue.as_mut()?.front_tail.take()
    }

    /// The first segment, which is to be the one before these.
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

    /// Moves everything of `other` behind what is here. What was before it is there no more.
    pub(crate) fn append(&mut self, mut other: Self) {
        other.drop_front_tail();
        match (&mut self.queue, &mut other.queue) {
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

    fn into_iter(self) -> Self::IntoIter {
        let segments = match self.queue {
            Some(mut queue) => std::mem::take(&mut queue.segments),
            None => VecDeque::new(),
        };
        segments.into_iter()
    }
}
