// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bringing the first bytes of a chain into one piece, and keeping them so while more comes.
//!
//! What was gathered goes on to be gathered in its block while that has room: the front segment grows,
//! and only what is new is copied. A block that is left is left for one of half as much again as was
//! asked for. So whoever looks at all that is there after each arrival has each byte copied a few times,
//! however many arrivals there are, and what was contiguous stays where it is most of the time.
//!
//! For that the tail of the front segment's block stays with the chain, whatever is put, appended or let
//! go at its other end. It never keeps memory that the front segment does not.

use std::io;

use super::LinkBuffer;
use crate::error::TooLarge;
use crate::segment::MAX_SEGMENT_LEN;
use crate::tail::Tail;
use crate::write_tail;

/// What is less than this part of its block is not gathered there any further.
const MIN_USED_FRACTION: usize = 16;

impl LinkBuffer {
    /// Sees to it that the front segment has the next `n` bytes, which it had not.
    #[cold]
    pub(super) fn make_contiguous(&mut self, n: usize) -> io::Result<()> {
        self.require(n)?;
        self.drop_empty_front();
        if self.front_len() >= n {
            return Ok(());
        }
        if n > MAX_SEGMENT_LEN {
            return Err(TooLarge::new(MAX_SEGMENT_LEN, n).into());
        }
        let total = self.len();
        let mut whole = self.tail_after_front(n);
        let start = whole.filled() - self.front_len();
        let end = start + n;
        while whole.filled() < end {
            let Some(mut next) = self.rest.pop_front() else {
                break;
            };
            let count = next.len().min(end - whole.filled());
            whole.put(next.take(count));
            if !next.is_empty() {
                self.rest.push_front(next);
            }
        }
        self.front = Some(whole.window(start..end));
        self.rest.set_front_tail(whole);
        debug_assert_eq!(total, self.len());
        Ok(())
    }

    /// A tail that ends with the bytes of the front segment, and has room for those that are missing
    /// to `n`: the one there is, or a new one to which they are copied.
    fn tail_after_front(&mut self, n: usize) -> Tail {
        let missing = n - self.front_len();
        let capacity = match self.take_front_tail() {
            Some(tail) if tail.spare_capacity() >= missing => return tail,
            // Who has had more gathered twice may go on so.
            Some(_full) => n.saturating_add(n / 2).min(MAX_SEGMENT_LEN),
            None => n,
        };
        let mut whole = Tail::with_capacity(capacity);
        if let Some(front) = &self.front {
            whole.put(front.as_slice());
        }
        whole
    }

    /// Whether more may be gathered behind the front segment with `tail`. A little that is left of
    /// much should find a smaller block.
    pub(super) fn can_grow_front_in(&self, tail: &Tail) -> bool {
        self.front_len() >= tail.capacity() / MIN_USED_FRACTION
            && self
                .front
                .as_ref()
                .is_some_and(|front| tail.continues(front))
    }

    /// Lets go of the tail for puts. If it goes on where the front segment ends, in memory of that
    /// one's own, it stays for what may be gathered there.
    #[inline]
    pub(super) fn release_tail(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.keep_as_front_tail(tail);
        }
    }

    #[cold]
    fn keep_as_front_tail(&mut self, tail: Tail) {
        if self.can_grow_front_in(&tail) && !write_tail::is_write_block(&tail) {
            self.rest.set_front_tail(tail);
        } else {
            write_tail::release(tail);
        }
    }

    /// The tail that goes on where the front segment ends, if there is one which is not the thread's. It
    /// may be full: then it says that what is here was gathered before.
    pub(super) fn take_front_tail(&mut self) -> Option<Tail> {
        let front = self.front.as_ref()?;
        let goes_on = |tail: &Tail| tail.continues(front);
        if let Some(tail) = self.rest.take_front_tail().filter(goes_on) {
            return Some(tail);
        }
        self.tail
            .take_if(|tail| goes_on(tail) && !write_tail::is_write_block(tail))
    }
}
