// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was put into a buffer since its first open reservation.
//!
//! Reserved bytes must stay writable until the commit, so no segment may show them before. They
//! lie in the room of tails that are held here, behind what those count as filled; `order` says
//! which ranges of which tail, and which foreign segments, make up the bytes in their order. The
//! commit turns the ranges into segments. A range never moves once it is made, so a
//! [`Place`] stays right whatever is put or inserted around it.

use bytes::Bytes;

use crate::segment::Segment;
use crate::sync::{Ordering, StaticCounter};
use crate::tail::Tail;
use crate::write_tail;

/// How many batches there have been.
static BATCHES: StaticCounter = StaticCounter::new(0);

/// The bytes that wait for a commit, and the tails that they lie in.
pub(crate) struct Uncommitted {
    /// Which batch of uncommitted bytes this is, so that a place of another one is not found here.
    batch: usize,
    writings: Vec<Writing>,
    order: Vec<Piece>,
    len: usize,
}

/// A tail, and how much of its room is written.
struct Writing {
    tail: Tail,
    /// `tail.filled()..end` is what `order` speaks of; the rest of the room is free.
    end: usize,
}

/// The next so many bytes.
enum Piece {
    /// `start..end` of the block of writing number `writing`.
    Written {
        writing: usize,
        start: usize,
        end: usize,
    },
    /// Memory that came as it is.
    Given(Segment),
}

/// Where reserved bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    batch: usize,
    writing: usize,
    start: usize,
    end: usize,
}

impl Place {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Written { start, end, .. } => end - start,
            Self::Given(segment) => segment.len(),
        }
    }

    /// The first `n` bytes, leaving the rest.
    fn split_to(&mut self, n: usize) -> Self {
        match self {
            Self::Written { writing, start, .. } => {
                let middle = *start + n;
                let first = Self::Written {
                    writing: *writing,
                    start: *start,
                    end: middle,
                };
                *start = middle;
                first
            }
            Self::Given(segment) => Self::Given(segment.split_to(n)),
        }
    }
}

impl Writing {
    fn free(&mut self) -> &mut [u8] {
        let written = self.end - self.tail.filled();
        &mut self.tail.room_mut()[written..]
    }
}

impl Uncommitted {
    /// Nothing yet; what is put goes on where `tail` stands.
    pub(crate) fn new(tail: Option<Tail>) -> Self {
        let writings = tail
            .map(|tail| Writing {
                end: tail.filled(),
                tail,
            })
            .into_iter()
            .collect();
        // Relaxed: only that no two are equal matters.
        let batch = BATCHES.fetch_add(1, Ordering::Relaxed);
        Self {
            batch,
            writings,
            order: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `n` zeroed bytes in one piece.
    pub(crate) fn reserve(&mut self, n: usize) -> Place {
        let current = self
            .writings
            .last_mut()
            .map_or(0, |writing| writing.free().len());
        if self.writings.is_empty() || current < n {
            let mut tail = write_tail::for_put(n);
            if tail.room() < n {
                tail = Tail::with_capacity(n);
            }
            self.begin(tail);
        }
        self.write(n, |room| room.fill(0))
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room_for(bytes.len()).len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.write(now.len(), |room| room.copy_from_slice(now));
            bytes = later;
        }
    }

    /// Where the next bytes are written; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.room_for(1)
    }

    /// Counts the first `n` bytes of [`room`](Self::room), which has so many, as put.
    pub(crate) fn accept(&mut self, n: usize) {
        if n > 0 {
            self.write(n, |_written| {});
        }
    }

    /// What is left of the last writing, or else of a new one for `bytes`.
    fn room_for(&mut self, bytes: usize) -> &mut [u8] {
        let full = |writing: &Writing| writing.end == writing.tail.capacity();
        if self.writings.last().is_none_or(full) {
            self.begin(write_tail::for_put(bytes));
        }
        let last = self.writings.len() - 1;
        self.writings[last].free()
    }

    /// Goes on writing where `tail` stands.
    fn begin(&mut self, tail: Tail) {
        let end = tail.filled();
        self.writings.push(Writing { end, tail });
    }

    /// Writes the next `n` bytes, for which the last writing has room.
    fn write(&mut self, n: usize, fill: impl FnOnce(&mut [u8])) -> Place {
        let last = self.writings.len() - 1;
        let writing = &mut self.writings[last];
        fill(&mut writing.free()[..n]);
        let start = writing.end;
        let place = Place {
            batch: self.batch,
            writing: last,
            start,
            end: start + n,
        };
        writing.end = place.end;
        self.len += n;
        match self.order.last_mut() {
            Some(Piece::Written { writing, end, .. }) if *writing == last && *end == start => {
                *end = place.end;
            }
            _ => self.order.push(Piece::Written {
                writing: last,
                start,
                end: place.end,
            }),
        }
        place
    }

    pub(crate) fn get_mut(&mut self, place: &Place) -> Option<&mut [u8]> {
        if place.batch != self.batch {
            return None;
        }
        let writing = self.writings.get_mut(place.writing)?;
        let first = place.start.checked_sub(writing.tail.filled())?;
        writing.tail.room_mut().get_mut(first..first + place.len())
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.len += segment.len();
        self.order.push(Piece::Given(segment));
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
        self.order
            .splice(index..index, Segment::foreign(bytes).map(Piece::Given));
    }

    /// The first `k` bytes as segments, and the tail to go on with. The rest is dropped.
    pub(crate) fn finish(mut self, k: usize) -> (Vec<Segment>, Option<Tail>) {
        self.truncate(k);
        for writing in &mut self.writings {
            writing.end = writing.tail.filled();
        }
        for piece in &self.order {
            if let Piece::Written { writing, end, .. } = *piece {
                let writing = &mut self.writings[writing];
                writing.end = writing.end.max(end);
            }
        }
        for writing in &mut self.writings {
            let written = writing.end - writing.tail.filled();
            writing.tail.advance(written);
        }
        let mut segments = Vec::with_capacity(self.order.len());
        for piece in self.order {
            segments.push(match piece {
                Piece::Given(segment) => segment,
                Piece::Written {
                    writing,
                    start,
                    end,
                } => self.writings[writing].tail.window(start..end),
            });
        }
        (segments, self.writings.pop().map(|writing| writing.tail))
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
