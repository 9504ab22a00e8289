// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contiguous bytes: moves the first bytes of a buffer into one segment, and keeps them contiguous
//! as more arrive.
//!
//! Contiguous bytes keep growing in their block while that has capacity: the front segment grows,
//! and only new bytes are copied. A full block is replaced by one half as large again as the
//! request. So a caller that peeks at everything after each arrival has each byte copied a few
//! times in all, however many arrivals there are, and contiguous bytes rarely move.
//!
//! For this the tail of the front segment's block stays with the buffer while bytes are put,
//! appended or freed at its other end. It never keeps memory alive that the front segment does not.

use std::io;

use super::LinkBuffer;
use crate::error::TooLarge;
use crate::segment::MAX_SEGMENT_LEN;
use crate::tail::Tail;
use crate::write_tail;

/// A front segment smaller than this fraction of its block does not grow there any further.
const MIN_USED_FRACTION: usize = 16;

impl LinkBuffer {
    /// Makes the front segment hold the next `n` bytes, which it does not yet.
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

    /// Returns a tail that ends with the bytes of the front segment and has capacity for those that
    /// are missing to `n`: the existing one, or a new one to which they are copied.
    fn tail_after_front(&mut self, n: usize) -> Tail {
        let missing = n - self.front_len();
        let capacity = match self.take_front_tail() {
            Some(tail) if tail.spare_capacity() >= missing => return tail,
            // A second growth expects more of them.
            Some(_full) => n.saturating_add(n / 2).min(MAX_SEGMENT_LEN),
            None => n,
        };
        let mut whole = Tail::with_capacity(capacity);
        if let Some(front) = &self.front {
            whole.put(front.as_slice());
        }
        whole
    }

    /// Returns whether the front segment may grow with `tail`. A small remainder of a large block
    /// should move to a smaller one.
    pub(super) fn can_grow_front_in(&self, tail: &Tail) -> bool {
        self.front_len() >= tail.capacity() / MIN_USED_FRACTION
            && self
                .front
                .as_ref()
                .is_some_and(|front| tail.continues(front))
    }

    /// Releases the tail for puts. If it continues the front segment in memory of that segment's
    /// own, it stays as the front tail.
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

    /// Takes the tail that continues the front segment, if there is one and it is not the thread's
    /// write block. It may be full: that records that the bytes were made contiguous before.
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
