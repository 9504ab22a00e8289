// SPDX-License-Identifier: MIT OR Apache-2.0
//! Additions to a [`LinkBuffer`] without a copy: foreign memory, other buffers, and reserved bytes
//! that are filled in later.
//!
//! Put bytes are readable at once, except while a reservation is open: from the first
//! [`LinkBuffer::reserve`] on all bytes wait for [`LinkBuffer::commit`]. A codec uses this to
//! reserve a length, write the body, and fill the length in:
//!
//! ```
//! use netpoll_buffer::LinkBuffer;
//!
//! # fn main() -> std::io::Result<()> {
//! let mut buffer = LinkBuffer::new();
//! let length = buffer.reserve(4)?;
//! buffer.put_str("a body whose length was not known");
//! let body = buffer.uncommitted_len() - 4;
//! buffer.get_mut(&length)?.copy_from_slice(&(body as u32).to_be_bytes());
//! assert_eq!(buffer.len(), 0); // no byte can be read or sent yet
//! buffer.commit_all();
//! assert_eq!(buffer.read_u32()? as usize, buffer.len());
//! # Ok(()) }
//! ```

use std::io;

use bytes::Bytes;

use super::LinkBuffer;
use super::uncommitted_bytes::UncommittedBytes;
use crate::error::{OutOfRange, TooLarge};
use crate::segment::Segment;

/// The size of the largest reservation: contiguous bytes of one block, far from the 4 GiB where
/// positions end.
pub(super) const MAX_RESERVATION: usize = 1 << 30;

/// A range of uncommitted bytes, made by [`LinkBuffer::reserve`]: a key without a borrow. It ends
/// with the commit.
///
/// [`LinkBuffer::get_mut`] borrows the bytes themselves, and the borrow has to end before they are
/// committed and sent. Writing to bytes that may be on their way does not compile:
///
/// ```compile_fail,E0499
/// # use netpoll_buffer::LinkBuffer;
/// # use std::os::fd::BorrowedFd;
/// # fn send(buffer: &mut LinkBuffer, socket: BorrowedFd<'_>) -> std::io::Result<()> {
/// let length = buffer.reserve(4)?;
/// let room = buffer.get_mut(&length)?;
/// buffer.commit_all(); // ends the reservation while `room` is still held
/// room.copy_from_slice(&[0, 0, 0, 1]);
/// buffer.drain_to(socket)?;
/// # Ok(()) }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    pub(crate) range: super::uncommitted_bytes::ReservedRange,
}

impl LinkBuffer {
    /// Appends `bytes` without a copy. One small allocation. Pays off from a few KiB on; below that
    /// [`put_slice`](Self::put_slice) is cheaper.
    pub fn push(&mut self, bytes: Bytes) {
        for segment in Segment::foreign(bytes) {
            match self.uncommitted.as_mut() {
                Some(pending) => pending.push(segment),
                None => self.push_segment(segment),
            }
        }
    }

    /// Appends all readable bytes of `other` without a copy; a few instructions for each of its
    /// segments. Uncommitted bytes of `other` are committed first, as by
    /// [`commit_all`](Self::commit_all).
    pub fn append(&mut self, mut other: Self) {
        other.commit_all();
        if let Some(pending) = self.uncommitted.as_mut() {
            other
                .drain_segments()
                .for_each(|segment| pending.push(segment));
            return;
        }
        let tail = other.tail.take();
        if self.is_empty() {
            self.front = other.front.take();
            std::mem::swap(&mut self.rest, &mut other.rest);
        } else {
            other
                .drain_segments()
                .for_each(|segment| self.push_segment(segment));
        }
        // The other's tail continues the new end.
        if let Some(tail) = tail {
            self.release_tail();
            self.tail = Some(tail);
        }
    }

    /// Takes all readable segments out.
    fn drain_segments(&mut self) -> impl Iterator<Item = Segment> {
        let front = self.front.take().filter(|front| !front.is_empty());
        front.into_iter().chain(std::mem::take(&mut self.rest))
    }

    /// Reserves `n` zeroed, contiguous bytes at the end, which [`get_mut`](Self::get_mut) can fill
    /// in any time before the commit. Until the commit no more bytes become readable. One pass over
    /// the `n` bytes, to zero them, and one small allocation for the first open reservation. Go's
    /// `Malloc`.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] above 1 GiB, the largest contiguous reservation.
    pub fn reserve(&mut self, n: usize) -> io::Result<Reservation> {
        if n > MAX_RESERVATION {
            return Err(TooLarge::new(MAX_RESERVATION, n).into());
        }
        let pending = match &mut *self.uncommitted {
            Some(pending) => pending,
            none => none.insert(Box::new(UncommittedBytes::new(self.tail.take()))),
        };
        Ok(Reservation {
            range: pending.reserve(n),
        })
    }

    /// Returns the bytes of an open reservation. No copy.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if it has ended with a commit, or belongs to another buffer.
    pub fn get_mut(&mut self, reserved: &Reservation) -> io::Result<&mut [u8]> {
        let uncommitted = self.uncommitted_len();
        self.uncommitted
            .as_mut()
            .and_then(|pending| pending.get_mut(&reserved.range))
            .ok_or_else(|| OutOfRange::new(uncommitted, reserved.range.len()).into())
    }

    /// Inserts `bytes` in the middle of the uncommitted bytes: before their `at`-th byte, counted
    /// from the first. Without an open reservation it appends them, as [`push`](Self::push). No
    /// copy. Go's `WriteDirect`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if `at` is past the end of the uncommitted bytes.
    pub fn insert(&mut self, at: usize, bytes: Bytes) -> io::Result<()> {
        let uncommitted = self.uncommitted_len();
        if at > uncommitted {
            return Err(OutOfRange::new(uncommitted, at).into());
        }
        match self.uncommitted.as_mut() {
            Some(pending) => pending.insert(at, bytes),
            None => self.push(bytes),
        }
        Ok(())
    }

    /// Makes the first `k` of all uncommitted bytes readable, drops the rest, and ends every
    /// reservation. No copy. Go's `MallocAck` and `Flush` in one.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if `k` is more than their number; then the buffer is unchanged.
    pub fn commit(&mut self, k: usize) -> io::Result<()> {
        let uncommitted = self.uncommitted_len();
        if k > uncommitted {
            return Err(OutOfRange::new(uncommitted, k).into());
        }
        if let Some(pending) = self.uncommitted.take() {
            let (segments, tail) = pending.commit(k);
            segments
                .into_iter()
                .for_each(|segment| self.push_segment(segment));
            self.tail = tail;
        }
        Ok(())
    }

    /// Makes all uncommitted bytes readable and ends every reservation. No copy.
    #[inline]
    pub fn commit_all(&mut self) {
        if self.uncommitted.is_some() {
            self.commit_pending();
        }
    }

    #[cold]
    fn commit_pending(&mut self) {
        let all = self.uncommitted_len();
        let committed = self.commit(all);
        debug_assert!(committed.is_ok(), "all uncommitted bytes can be committed");
    }
}
