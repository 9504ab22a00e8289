// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receives from the kernel into a [`LinkBuffer`].

use std::io;
use std::os::fd::BorrowedFd;

use netpoll_sys::transfer;

use super::LinkBuffer;
use super::segment_queue::SegmentQueue;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::write_tail;

/// A block with less spare capacity than this, and than the missing bytes, is replaced by a larger
/// one.
const MIN_READ_CAPACITY: usize = 4 << 10;

/// A read of at most this many bytes is copied behind the buffer's own memory instead of adding a
/// window.
const COALESCE_MAX: usize = 256;

impl LinkBuffer {
    /// Receives at most `limit` bytes from a socket to the end of this buffer, into its own tail,
    /// and returns their number. `Ok(0)` is the end of the stream (or a limit of 0). One `recv(2)`,
    /// no copy. Uncommitted bytes stay behind the received ones.
    ///
    /// # Errors
    ///
    /// As [`transfer::receive`]; then no byte is added.
    pub fn fill_from(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        if limit == 0 {
            return Ok(0);
        }
        let mut tail = match self.tail.take() {
            Some(tail) if tail.spare_capacity() > 0 => tail,
            _ => write_tail::borrow(),
        };
        let start = tail.filled();
        let received = tail.fill_with(limit, |room| transfer::receive(fd, room));
        if let Ok(count) = received {
            self.push_segment(tail.window(start..start + count));
        }
        self.replace_tail(tail);
        received
    }

    /// Appends received bytes, at most 256 of them, to a buffer that is not empty, by copying them
    /// into memory of its own, which doubles with the buffer. Returns the window as [`Err`], to be
    /// added without a copy, if it is larger, if it continues the last window, if the buffer is
    /// empty, or while a reservation is open.
    ///
    /// # Errors
    ///
    /// The window, if it was not copied.
    #[inline]
    pub fn coalesce(&mut self, window: Segment) -> Result<(), Segment> {
        if window.len() > COALESCE_MAX || self.is_empty() {
            return Err(window);
        }
        self.coalesce_small(window)
    }

    #[cold]
    fn coalesce_small(&mut self, window: Segment) -> Result<(), Segment> {
        let Some(last) = self.last().filter(|_| self.uncommitted.is_none()) else {
            return Err(window);
        };
        if last.is_followed_by(&window) {
            return Err(window);
        }
        if self.rest.is_empty()
            && let Some(tail) = self.take_front_tail()
        {
            // Behind the contiguous bytes, which a longer peek would extend there too.
            self.replace_tail(tail);
        }
        let last = self.last();
        match &self.tail {
            Some(tail)
                if tail.spare_capacity() >= window.len()
                    && last.is_some_and(|last| tail.continues(last)) => {}
            // The capacity doubles with the buffer, so that many small reads make few segments.
            _ => self.replace_tail(Tail::with_capacity(
                self.len().clamp(COALESCE_MAX, write_tail::WRITE_BLOCK_SIZE),
            )),
        }
        self.put_slice(window.as_slice());
        Ok(())
    }

    /// Takes the tail out if it continues this buffer's end and has spare capacity: the best place
    /// for the next received bytes.
    pub fn take_tail(&mut self) -> Option<Tail> {
        let last = self.last()?;
        match &self.tail {
            Some(tail) if tail.spare_capacity() > 0 && tail.continues(last) => self.tail.take(),
            _ => None,
        }
    }

    /// Returns a tail for the next received bytes, such that the first `n` bytes of this buffer
    /// become contiguous, in a block of at least `capacity` bytes. The readable bytes are copied
    /// there once, unless the existing tail has enough capacity. A tail that has become too small
    /// is replaced by one at least half as large again as the readable bytes, so the total of all
    /// copies is proportional to the received bytes. A buffer above 4 GiB, more than one segment
    /// can hold, is not moved. Return the tail with [`append_tail`](Self::append_tail).
    pub fn take_contiguous_tail(&mut self, n: usize, capacity: usize) -> Tail {
        self.drop_empty_front();
        let missing = n.saturating_sub(self.len());
        let mut least = self.len().saturating_add(1);
        let behind_front = match self.rest.is_empty() {
            true => self.take_front_tail().or_else(|| self.take_tail()),
            false => self.take_front_tail(),
        };
        if let Some(tail) = behind_front {
            if tail.spare_capacity() >= self.rest.len() + missing.clamp(1, MIN_READ_CAPACITY) {
                return self.merge_rest_into(tail);
            }
            write_tail::release(tail);
            least = least.saturating_add(self.len() / 2);
        }
        let mut tail = Tail::with_capacity(capacity.max(least));
        // A buffer larger than one block can hold is not moved.
        if !self.is_empty() && self.len() < tail.spare_capacity() {
            for segment in self.segments() {
                tail.put(segment.as_slice());
            }
            self.front = Some(tail.window(0..self.len()));
            self.rest = SegmentQueue::new();
        }
        tail
    }

    /// Copies the segments behind the front one to `tail`, which continues the front segment and
    /// has capacity for them.
    fn merge_rest_into(&mut self, mut tail: Tail) -> Tail {
        if !self.rest.is_empty() {
            let start = tail.filled() - self.front_len();
            for segment in self.rest.iter() {
                tail.put(segment.as_slice());
            }
            self.front = Some(tail.window(start..tail.filled()));
            self.rest = SegmentQueue::new();
        }
        tail
    }

    /// Takes a tail (back) whose last `new` filled bytes belong to the end of this buffer.
    /// Uncommitted bytes stay behind them.
    pub fn append_tail(&mut self, tail: Tail, new: usize) {
        let end = tail.filled();
        self.push_segment(tail.window(end - new.min(end)..end));
        self.replace_tail(tail);
    }
}
