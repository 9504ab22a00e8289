// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes that were put into a buffer since its first open reservation.
//!
//! Reserved bytes must stay writable until the commit, so no segment may show them before. They lie
//! in the spare capacity of tails that are held here, behind the filled bytes of each. `order`
//! lists the ranges of those tails, and the foreign segments, that make up the bytes in their
//! order. The commit turns the ranges into segments. A range never moves, so a [`ReservedRange`]
//! stays valid whatever is put or inserted around it.

use bytes::Bytes;

use crate::segment::Segment;
use crate::sync::{Ordering, StaticCounter};
use crate::tail::Tail;
use crate::write_tail;

/// Number of batches of uncommitted bytes so far, in all buffers.
static NEXT_GENERATION: StaticCounter = StaticCounter::new(0);

/// The bytes that wait for a commit, and the tails that hold them.
pub(crate) struct UncommittedBytes {
    /// The number of this batch, so that a range of another batch is rejected.
    generation: usize,
    tails: Vec<PendingTail>,
    order: Vec<PendingPiece>,
    len: usize,
}

/// A tail, and how much of its spare capacity is written.
struct PendingTail {
    tail: Tail,
    /// `order` refers to `tail.filled()..end`; the rest of the spare capacity is free.
    end: usize,
}

/// A piece of the uncommitted bytes.
enum PendingPiece {
    /// `start..end` of the block of `tails[tail_index]`.
    Written {
        tail_index: usize,
        start: usize,
        end: usize,
    },
    /// Foreign memory, or a window of another buffer.
    Segment(Segment),
}

/// The location of reserved bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReservedRange {
    generation: usize,
    tail_index: usize,
    start: usize,
    end: usize,
}

impl ReservedRange {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

impl PendingPiece {
    fn len(&self) -> usize {
        match self {
            Self::Written { start, end, .. } => end - start,
            Self::Segment(segment) => segment.len(),
        }
    }

    /// Splits off the first `n` bytes and keeps the rest.
    fn split_to(&mut self, n: usize) -> Self {
        match self {
            Self::Written {
                tail_index, start, ..
            } => {
                let middle = *start + n;
                let first = Self::Written {
                    tail_index: *tail_index,
                    start: *start,
                    end: middle,
                };
                *start = middle;
                first
            }
            Self::Segment(segment) => Self::Segment(segment.split_to(n)),
        }
    }
}

impl PendingTail {
    fn spare_capacity_mut(&mut self) -> &mut [u8] {
        let written = self.end - self.tail.filled();
        &mut self.tail.spare_capacity_mut()[written..]
    }
}

impl UncommittedBytes {
    /// Creates an empty batch; puts continue in `tail`.
    pub(crate) fn new(tail: Option<Tail>) -> Self {
        let tails = tail
            .map(|tail| PendingTail {
                end: tail.filled(),
                tail,
            })
            .into_iter()
            .collect();
        // Relaxed: the numbers only have to be distinct.
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        Self {
            generation,
            tails,
            order: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reserves `n` zeroed, contiguous bytes.
    pub(crate) fn reserve(&mut self, n: usize) -> ReservedRange {
        let current = self
            .tails
            .last_mut()
            .map_or(0, |pending| pending.spare_capacity_mut().len());
        if self.tails.is_empty() || current < n {
            let mut tail = write_tail::tail_for_put(n);
            if tail.spare_capacity() < n {
                tail = Tail::with_capacity(n);
            }
            self.push_tail(tail);
        }
        self.write(n, |room| room.fill(0))
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.spare_capacity_for(bytes.len()).len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.write(now.len(), |room| room.copy_from_slice(now));
            bytes = later;
        }
    }

    /// Returns the memory for the next bytes; never empty.
    pub(crate) fn spare_capacity_mut(&mut self) -> &mut [u8] {
        self.spare_capacity_for(1)
    }

    /// Counts the first `n` bytes of [`spare_capacity_mut`](Self::spare_capacity_mut), which has at
    /// least so many, as put.
    pub(crate) fn advance_written(&mut self, n: usize) {
        if n > 0 {
            self.write(n, |_written| {});
        }
    }

    /// Returns the free part of the last tail, or of a new one for `bytes` if that is full.
    fn spare_capacity_for(&mut self, bytes: usize) -> &mut [u8] {
        let full = |pending: &PendingTail| pending.end == pending.tail.capacity();
        if self.tails.last().is_none_or(full) {
            self.push_tail(write_tail::tail_for_put(bytes));
        }
        let last = self.tails.len() - 1;
        self.tails[last].spare_capacity_mut()
    }

    /// Continues in `tail`.
    fn push_tail(&mut self, tail: Tail) {
        let end = tail.filled();
        self.tails.push(PendingTail { end, tail });
    }

    /// Writes the next `n` bytes, which fit the last tail.
    fn write(&mut self, n: usize, fill: impl FnOnce(&mut [u8])) -> ReservedRange {
        let last = self.tails.len() - 1;
        let pending = &mut self.tails[last];
        fill(&mut pending.spare_capacity_mut()[..n]);
        let start = pending.end;
        let range = ReservedRange {
            generation: self.generation,
            tail_index: last,
            start,
            end: start + n,
        };
        pending.end = range.end;
        self.len += n;
        match self.order.last_mut() {
            Some(PendingPiece::Written {
                tail_index, end, ..
            }) if *tail_index == last && *end == start => {
                *end = range.end;
            }
            _ => self.order.push(PendingPiece::Written {
                tail_index: last,
                start,
                end: range.end,
            }),
        }
        range
    }

    pub(crate) fn get_mut(&mut self, range: &ReservedRange) -> Option<&mut [u8]> {
        if range.generation != self.generation {
            return None;
        }
        let pending = self.tails.get_mut(range.tail_index)?;
        let first = range.start.checked_sub(pending.tail.filled())?;
        pending
            .tail
            .spare_capacity_mut()
            .get_mut(first..first + range.len())
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.len += segment.len();
        self.order.push(PendingPiece::Segment(segment));
    }

    /// Inserts `bytes` before the `at`-th byte, which is at most the length.
    pub(crate) fn insert(&mut self, at: usize, bytes: Bytes) {
        let mut before = 0;
        let mut index = 0;
        while index < self.order.len() && before + self.order[index].len() <= at {
            before += self.order[index].len();
            index += 1;
        }
        if at > before {
            let first = self.order[index].split_to(at - before);
            self.order.insert(index, first);
            index += 1;
        }
        self.len += bytes.len();
        self.order.splice(
            index..index,
            Segment::foreign(bytes).map(PendingPiece::Segment),
        );
    }

    /// Returns the first `k` bytes as segments, and the tail for the next puts. Drops the rest.
    pub(crate) fn commit(mut self, k: usize) -> (Vec<Segment>, Option<Tail>) {
        self.truncate(k);
        for pending in &mut self.tails {
            pending.end = pending.tail.filled();
        }
        for piece in &self.order {
            if let PendingPiece::Written {
                tail_index, end, ..
            } = *piece
            {
                let pending = &mut self.tails[tail_index];
                pending.end = pending.end.max(end);
            }
        }
        for pending in &mut self.tails {
            let written = pending.end - pending.tail.filled();
            pending.tail.advance(written);
        }
        let mut segments = Vec::with_capacity(self.order.len());
        for piece in self.order {
            segments.push(match piece {
                PendingPiece::Segment(segment) => segment,
                PendingPiece::Written {
                    tail_index,
                    start,
                    end,
                } => self.tails[tail_index].tail.window(start..end),
            });
        }
        (segments, self.tails.pop().map(|pending| pending.tail))
    }

    fn truncate(&mut self, k: usize) {
        let mut left = k;
        let mut index = 0;
        while index < self.order.len() && left > 0 {
            let length = self.order[index].len();
            if length > left {
                let kept = self.order[index].split_to(left);
                self.order[index] = kept;
            }
            left -= left.min(length);
            index += 1;
        }
        self.order.truncate(index);
        self.len = k;
    }
}
