// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was put into a buffer since its first open reservation.
//!
//! Reserved bytes must stay writable until the commit, so no segment may show them before. They
//! lie in the room of tails that are held here, behind what those count as filled; `order` says
//! which ranges of which tail, and which foreign segments, make up the bytes in their order. The
//! commit turns the ranges into segments. A range never moves once it is made, so a
//! [`ReservedRange`] stays right whatever is put or inserted around it.

use bytes::Bytes;

use crate::segment::Segment;
use crate::sync::{Ordering, StaticCounter};
use crate::tail::Tail;
use crate::write_tail;

/// How many batches there have been.
static NEXT_GENERATION: StaticCounter = StaticCounter::new(0);

/// The bytes that wait for a commit, and the tails that they lie in.
pub(crate) struct UncommittedBytes {
    /// Which batch of uncommitted bytes this is, so that a place of another one is not found here.
    generation: usize,
    tails: Vec<PendingTail>,
    order: Vec<PendingPiece>,
    len: usize,
}

/// A tail, and how much of its room is written.
struct PendingTail {
    tail: Tail,
    /// `tail.filled()..end` is what `order` speaks of; the rest of the room is free.
    end: usize,
}

/// The next so many bytes.
enum PendingPiece {
    /// `start..end` of the block of writing number `writing`.
    Written {
        tail_index: usize,
        start: usize,
        end: usize,
    },
    /// Memory that came as it is.
    Segment(Segment),
}

/// Where reserved bytes are.
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

    /// The first `n` bytes, leaving the rest.
    fn split_to(&mut self, n: usize) -> Self {
        match self {
            Self::Written {
                tail_index: writing,
                start,
                ..
            } => {
                let middle = *start + n;
                let first = Self::Written {
                    tail_index: *writing,
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
    /// Nothing yet; what is put goes on where `tail` stands.
    pub(crate) fn new(tail: Option<Tail>) -> Self {
        let writings = tail
            .map(|tail| PendingTail {
                end: tail.filled(),
                tail,
            })
            .into_iter()
            .collect();
        // Relaxed: only that no two are equal matters.
        let batch = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        Self {
            generation: batch,
            tails: writings,
            order: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `n` zeroed bytes in one piece.
    pub(crate) fn reserve(&mut self, n: usize) -> ReservedRange {
        let current = self
            .tails
            .last_mut()
            .map_or(0, |writing| writing.spare_capacity_mut().len());
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

    /// Where the next bytes are written; never empty.
    pub(crate) fn spare_capacity_mut(&mut self) -> &mut [u8] {
        self.spare_capacity_for(1)
    }

    /// Counts the first `n` bytes of [`spare_capacity_mut`](Self::spare_capacity_mut), which has so many, as put.
    pub(crate) fn advance_written(&mut self, n: usize) {
        if n > 0 {
            self.write(n, |_written| {});
        }
    }

    /// What is left of the last writing, or else of a new one for `bytes`.
    fn spare_capacity_for(&mut self, bytes: usize) -> &mut [u8] {
        let full = |writing: &PendingTail| writing.end == writing.tail.capacity();
        if self.tails.last().is_none_or(full) {
            self.push_tail(write_tail::tail_for_put(bytes));
        }
        let last = self.tails.len() - 1;
        self.tails[last].spare_capacity_mut()
    }

    /// Goes on writing where `tail` stands.
    fn push_tail(&mut self, tail: Tail) {
        let end = tail.filled();
        self.tails.push(PendingTail { end, tail });
    }

    /// Writes the next `n` bytes, for which the last writing has room.
    fn write(&mut self, n: usize, fill: impl FnOnce(&mut [u8])) -> ReservedRange {
        let last = self.tails.len() - 1;
        let writing = &mut self.tails[last];
        fill(&mut writing.spare_capacity_mut()[..n]);
        let start = writing.end;
        let place = ReservedRange {
            generation: self.generation,
            tail_index: last,
            start,
            end: start + n,
        };
        writing.end = place.end;
        self.len += n;
        match self.order.last_mut() {
            Some(PendingPiece::Written {
                tail_index: writing,
                end,
                ..
            }) if *writing == last && *end == start => {
                *end = place.end;
            }
            _ => self.order.push(PendingPiece::Written {
                tail_index: last,
                start,
                end: place.end,
            }),
        }
        place
    }

    pub(crate) fn get_mut(&mut self, place: &ReservedRange) -> Option<&mut [u8]> {
        if place.generation != self.generation {
            return None;
        }
        let writing = self.tails.get_mut(place.tail_index)?;
        let first = place.start.checked_sub(writing.tail.filled())?;
        writing
            .tail
            .spare_capacity_mut()
            .get_mut(first..first + place.len())
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.len += segment.len();
        self.order.push(PendingPiece::Segment(segment));
    }

    /// Puts `bytes` before the `at`-th byte, which is at most the length.
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

    /// The first `k` bytes as segments, and the tail to go on with. The rest is dropped.
    pub(crate) fn commit(mut self, k: usize) -> (Vec<Segment>, Option<Tail>) {
        self.truncate(k);
        for writing in &mut self.tails {
            writing.end = writing.tail.filled();
        }
        for piece in &self.order {
            if let PendingPiece::Written {
                tail_index: writing,
                end,
                ..
            } = *piece
            {
                let writing = &mut self.tails[writing];
                writing.end = writing.end.max(end);
            }
        }
        for writing in &mut self.tails {
            let written = writing.end - writing.tail.filled();
            writing.tail.advance(written);
        }
        let mut segments = Vec::with_capacity(self.order.len());
        for piece in self.order {
            segments.push(match piece {
                PendingPiece::Segment(segment) => segment,
                PendingPiece::Written {
                    tail_index: writing,
                    start,
                    end,
                } => self.tails[writing].tail.window(start..end),
            });
        }
        (segments, self.tails.pop().map(|writing| writing.tail))
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
