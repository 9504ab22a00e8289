// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adding to a [`LinkBuffer`] without a copy: foreign memory, other buffers, and room that is filled
//! in later.
//!
//! What is put is readable at once, except while a reservation is open: from the first
//! [`LinkBuffer::reserve`] on everything waits for [`LinkBuffer::commit`]. That is how a codec
//! leaves room for a length, writes the body, and fills the length in:
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
//! assert_eq!(buffer.len(), 0); // nothing can be read, or sent, yet
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

/// The most one reservation may ask for: what one block holds in one piece, far from the 4 GiB
/// where positions end.
pub(super) const MAX_RESERVATION: usize = 1 << 30;

/// A range of uncommitted bytes, by [`LinkBuffer::reserve`]: a key without a borrow. It ends with
/// the commit.
///
/// The bytes themselves are lent by [`LinkBuffer::get_mut`], and have to be given back before they
/// can be committed, and so sent. Writing to what may be on its way does not compile:
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
    /// Adds `bytes` to the end as they are, without a copy. One small allocation. Worth it from a
    /// few KiB on; below that [`put_slice`](Self::put_slice) is cheaper.
    pub fn push(&mut self, bytes: Bytes) {
        for segment in Segment::foreign(bytes) {
            match &mut self.uncommitted {
                Some(pending) => pending.push(segment),
                None => self.push_segment(segment),
            }
        }
    }

    /// Adds everything that `other` can read, without a copy; a few instructions for each of its
    /// segments. What `other` has uncommitted is committed first, as by
    /// [`commit_all`](Self::commit_all).
    pub fn append(&mut self, mut other: Self) {
        other.commit_all();
        if let Some(pending) = &mut self.uncommitted {
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
        // The other's tail continues what is now the end.
        if let Some(tail) = tail {
            self.release_tail();
            self.tail = Some(tail);
        }
    }

    /// All readable segments, leaving none.
    fn drain_segments(&mut self) -> impl Iterator<Item = Segment> {
        let front = self.front.take().filter(|front| !front.is_empty());
        front.into_iter().chain(std::mem::take(&mut self.rest))
    }

    /// Leaves room for `n` zeroed, contiguous bytes at the end, to be filled in by
    /// [`get_mut`](Self::get_mut) any time before the commit. From here to the commit nothing more
    /// becomes readable. One pass over the `n` bytes, to zero them, and one small allocation for the
    /// first open reservation. Go's `Malloc`.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] above 1 GiB, which no contiguous piece may have.
    pub fn reserve(&mut self, n: usize) -> io::Result<Reservation> {
        if n > MAX_RESERVATION {
            return Err(TooLarge::new(MAX_RESERVATION, n).into());
        }
        let pending = match &mut self.uncommitted {
            Some(pending) => pending,
            none => none.insert(Box::new(UncommittedBytes::new(self.tail.take()))),
        };
        Ok(Reservation {
            range: pending.reserve(n),
        })
    }

    /// The bytes of a reservation that is open. No copy.
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

    /// Puts `bytes` in the middle of what is uncommitted: before its `at`-th byte, counted from
    /// the first. No copy. Go's `WriteDirect`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if `at` is past the end of what is uncommitted.
    pub fn insert(&mut self, at: usize, bytes: Bytes) -> io::Result<()> {
        let uncommitted = self.uncommitted_len();
        if at > uncommitted {
            return Err(OutOfRange::new(uncommitted, at).into());
        }
        match &mut self.uncommitted {
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
    /// [`OutOfRange`] if `k` is more than there are; then nothing is changed.
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

    /// Makes everything uncommitted readable and ends every reservation. No copy.
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
        debug_assert!(
            committed.is_ok(),
            "all that is uncommitted can be committed"
        );
    }
}
