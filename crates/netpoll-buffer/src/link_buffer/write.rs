// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting bytes into a [`LinkBuffer`].
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
use super::rest::Rest;
use super::uncommitted::Uncommitted;
use crate::error::{OutOfRange, TooLarge};
use crate::segment::Segment;
use crate::tail::Tail;
use crate::write_tail;

/// The most one reservation may ask for: what one block holds in one piece, far from the 4 GiB
/// where positions end.
const LONGEST_RESERVATION: usize = 1 << 30;

/// As much before a large put is copied along with it.
const HEADER: usize = 256;

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
pub struct Reserved {
    pub(crate) place: super::uncommitted::Place,
}

impl LinkBuffer {
    /// Copies `bytes` to the end: into the thread's write block, or, from 32 KiB on and where that
    /// has no room for all of it, into memory of its own size, along with up to 256 copied bytes that
    /// are all there is before it. Allocates only if the thread has no write block at hand, or the
    /// pool no memory of that size. Never fails.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        if let Some(tail) = &mut self.tail
            && tail.room() >= bytes.len()
        {
            put_in_tail(&mut self.front, &mut self.rest, tail, bytes);
        } else {
            self.put_elsewhere(bytes);
        }
    }

    /// Copies `text` to the end, as [`put_slice`](Self::put_slice).
    pub fn put_str(&mut self, text: &str) {
        self.put_slice(text.as_bytes());
    }

    /// One byte to the end, copied as by [`put_slice`](Self::put_slice).
    #[inline]
    pub fn put_u8(&mut self, byte: u8) {
        self.put_array([byte]);
    }

    /// A few bytes whose number is known when this is compiled, so that no copy is called.
    #[inline]
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        if !self.put_in_place(&bytes) {
            self.put_slice(&bytes);
        }
    }

    /// Copies `bytes` to the end, as [`put_slice`](Self::put_slice), if they fit right behind what was
    /// put last; says whether it did. A handful of instructions beside the copy, and never an
    /// allocation: for whoever puts many small things and knows what to do otherwise.
    ///
    /// ```
    /// use netpoll_buffer::LinkBuffer;
    ///
    /// let mut buffer = LinkBuffer::new();
    /// assert!(!buffer.put_in_place(b"no"), "there is nothing to be behind");
    /// buffer.put_str("one ");
    /// assert!(buffer.put_in_place(b"two"));
    /// assert_eq!(buffer.len(), 7);
    /// ```
    #[inline]
    pub fn put_in_place(&mut self, bytes: &[u8]) -> bool {
        let (Some(tail), Some(front)) = (&mut self.tail, &mut self.front) else {
            return false;
        };
        if !self.rest.has_no_queue() {
            return self.put_in_place_behind(bytes);
        }
        let fits = tail.room() >= bytes.len() && tail.continues(front);
        if fits {
            tail.put(bytes);
            front.grow(bytes.len());
        }
        fits
    }

    /// What [`put_in_place`](Self::put_in_place) does for a chain of several segments.
    #[inline(never)]
    fn put_in_place_behind(&mut self, bytes: &[u8]) -> bool {
        if let (Some(tail), Some(last)) = (&mut self.tail, self.rest.back().or(self.front.as_ref()))
            && tail.room() >= bytes.len()
            && tail.continues(last)
        {
            tail.put(bytes);
            grow_last(&mut self.front, &mut self.rest, bytes.len());
            true
        } else {
            false
        }
    }

    /// A tail that continues as a put needs it was not there.
    fn put_elsewhere(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let own_memory = self.tail.is_some() || self.uncommitted.is_some();
        if own_memory || !self.is_empty() || bytes.len() >= write_tail::OWN_BLOCK {
            self.put_behind(bytes);
            return;
        }
        // The first bytes of an answer: nothing is to be looked at but the thread's block.
        let mut tail = write_tail::borrow();
        let start = tail.filled();
        let count = tail.put(bytes);
        self.front = Some(tail.window(start..start + count));
        self.tail = Some(tail);
        if count < bytes.len() {
            self.put_behind(&bytes[count..]);
        }
    }

    /// What [`put_elsewhere`](Self::put_elsewhere) does where there is something already.
    #[cold]
    fn put_behind(&mut self, mut bytes: &[u8]) {
        if let Some(pending) = &mut self.uncommitted {
            pending.put(bytes);
            return;
        }
        let large = write_tail::OWN_BLOCK..LONGEST_RESERVATION;
        let foreign = self.front.as_ref().is_some_and(Segment::is_foreign);
        let few = self.rest.is_empty() && self.in_front() <= HEADER && !foreign;
        if few && large.contains(&bytes.len()) {
            self.put_with_front(bytes);
            return;
        }
        loop {
            let mut tail = match self.tail.take() {
                Some(tail) if tail.room() > 0 && bytes.len() < write_tail::OWN_BLOCK => tail,
                other => {
                    other.into_iter().for_each(write_tail::give_back);
                    write_tail::for_put(bytes.len())
                }
            };
            let count = bytes.len().min(tail.room());
            put_in_tail(&mut self.front, &mut self.rest, &mut tail, &bytes[..count]);
            self.tail = Some(tail);
            bytes = &bytes[count..];
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Copies `bytes`, which are many, into memory of their own size, behind the few that are here: a
    /// header and its body leave in one piece then. The kernel copies what begins where it puts it
    /// faster than what lies four bytes beside it.
    fn put_with_front(&mut self, bytes: &[u8]) {
        let mut tail = Tail::with_capacity(self.in_front() + bytes.len());
        if let Some(front) = &self.front {
            tail.put(front.as_slice());
        }
        tail.put(bytes);
        self.front = Some(tail.window(0..tail.filled()));
        self.keep_tail(tail);
    }

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
            self.return_tail();
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
    pub fn reserve(&mut self, n: usize) -> io::Result<Reserved> {
        if n > LONGEST_RESERVATION {
            return Err(TooLarge::new(LONGEST_RESERVATION, n).into());
        }
        let pending = match &mut self.uncommitted {
            Some(pending) => pending,
            none => none.insert(Box::new(Uncommitted::new(self.tail.take()))),
        };
        Ok(Reserved {
            place: pending.reserve(n),
        })
    }

    /// The bytes of a reservation that is open. No copy.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if it has ended with a commit, or belongs to another buffer.
    pub fn get_mut(&mut self, reserved: &Reserved) -> io::Result<&mut [u8]> {
        let uncommitted = self.uncommitted_len();
        self.uncommitted
            .as_mut()
            .and_then(|pending| pending.get_mut(&reserved.place))
            .ok_or_else(|| OutOfRange::new(uncommitted, reserved.place.len()).into())
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
            let (segments, tail) = pending.finish(k);
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
            self.commit_what_is_open();
        }
    }

    #[cold]
    fn commit_what_is_open(&mut self) {
        let all = self.uncommitted_len();
        let committed = self.commit(all);
        debug_assert!(
            committed.is_ok(),
            "all that is uncommitted can be committed"
        );
    }
}

/// Copies `bytes`, for which there is room, and shows them at the end of the chain.
#[inline]
fn put_in_tail(front: &mut Option<Segment>, rest: &mut Rest, tail: &mut Tail, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let start = tail.filled();
    let last = rest.back().or(front.as_ref());
    if last.is_some_and(|last| tail.continues(last)) {
        tail.put(bytes);
        grow_last(front, rest, bytes.len());
        return;
    }
    tail.put(bytes);
    let segment = tail.window(start..start + bytes.len());
    match front {
        Some(first) if !first.is_empty() || !rest.is_empty() => rest.push_back(segment),
        _ => *front = Some(segment),
    }
}

/// Shows `count` bytes more at the end of the chain, which the tail has just filled there.
#[inline]
fn grow_last(front: &mut Option<Segment>, rest: &mut Rest, count: usize) {
    match front {
        Some(front) if rest.is_empty() => front.grow(count),
        _ => rest.grow_back(count),
    }
}

/// Fixed-size numbers to the end.
macro_rules! numbers {
    ($($be:ident, $le:ident, $number:ty;)*) => {
        impl LinkBuffer {
            $(
                #[doc = concat!("A `", stringify!($number), "` to the end, big-endian.")]
                #[inline]
                pub fn $be(&mut self, number: $number) {
                    self.put_array(number.to_be_bytes());
                }

                #[doc = concat!("A `", stringify!($number), "` to the end, little-endian.")]
                #[inline]
                pub fn $le(&mut self, number: $number) {
                    self.put_array(number.to_le_bytes());
                }
            )*
        }
    };
}

numbers! {
    put_u16, put_u16_le, u16;
    put_u32, put_u32_le, u32;
    put_u64, put_u64_le, u64;
}
