// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts: copies of small data to the end of a [`LinkBuffer`], and where each is stored.
//!
//! Nearly every put has a few bytes that fit right behind the last put: a few comparisons and the
//! copy. The first put into an empty buffer borrows the thread's write block. A large put gets
//! memory of its own, and one that does not fit continues in another block.

use super::LinkBuffer;
use super::segment_queue::SegmentQueue;
use super::write::MAX_RESERVATION;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::write_tail;

/// At most so many bytes before a large put are copied along with it.
const MAX_COPIED_HEADER: usize = 256;

impl LinkBuffer {
    /// Copies `bytes` to the end. They go into the thread's write block; from 32 KiB on, where that
    /// block cannot hold all of them, into memory of their own size, together with up to 256 copied
    /// bytes if those are all of the buffer. Allocates only if the thread has no write block at
    /// hand, or the pool no free block of that size. Never fails.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        if let Some(tail) = &mut self.tail
            && tail.spare_capacity() >= bytes.len()
        {
            put_in_tail(&mut self.front, &mut self.rest, tail, bytes);
        } else {
            self.put_slow(bytes);
        }
    }

    /// Copies `parts` to the end, one behind the other, each as by [`put_slice`](Self::put_slice).
    /// One check covers all of them if they are the first bytes of the buffer, or [fit behind the
    /// last put](Self::try_put_slices): for a header and its body.
    ///
    /// ```
    /// use netpoll_buffer::LinkBuffer;
    ///
    /// let mut buffer = LinkBuffer::new();
    /// buffer.put_slices(&[&4_u32.to_be_bytes(), b"body"]);
    /// assert_eq!(buffer.len(), 8);
    /// ```
    #[inline]
    pub fn put_slices(&mut self, parts: &[&[u8]]) {
        if !self.try_put_slices(parts) && !self.put_first(parts) {
            parts.iter().for_each(|part| self.put_slice(part));
        }
    }

    /// Copies `text` to the end, as [`put_slice`](Self::put_slice).
    pub fn put_str(&mut self, text: &str) {
        self.put_slice(text.as_bytes());
    }

    /// Copies one byte to the end, as [`put_slice`](Self::put_slice).
    #[inline]
    pub fn put_u8(&mut self, byte: u8) {
        self.put_array([byte]);
    }

    /// Copies an array to the end. Its length is a constant, so the copy is inlined.
    #[inline]
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        if !self.try_put_slice(&bytes) {
            self.put_slice(&bytes);
        }
    }

    /// Copies `bytes` to the end, as [`put_slice`](Self::put_slice), if they fit right behind the
    /// last put; returns whether it did. A few instructions beside the copy, and never an
    /// allocation: for callers that put many small pieces and have an alternative for the rest.
    ///
    /// ```
    /// use netpoll_buffer::LinkBuffer;
    ///
    /// let mut buffer = LinkBuffer::new();
    /// assert!(!buffer.try_put_slice(b"no"), "the buffer has no last put");
    /// buffer.put_str("one ");
    /// assert!(buffer.try_put_slice(b"two"));
    /// assert_eq!(buffer.len(), 7);
    /// ```
    #[inline]
    pub fn try_put_slice(&mut self, bytes: &[u8]) -> bool {
        self.try_put_slices(&[bytes])
    }

    /// Copies `parts` to the end, one behind the other, if all of them fit right behind the last
    /// put; returns whether they did. As [`try_put_slice`](Self::try_put_slice) of each, with one
    /// check for all: for a header and its body.
    ///
    /// ```
    /// use netpoll_buffer::LinkBuffer;
    ///
    /// let mut buffer = LinkBuffer::new();
    /// buffer.put_u8(0);
    /// let body = b"body";
    /// assert!(buffer.try_put_slices(&[&(body.len() as u32).to_be_bytes(), body]));
    /// assert_eq!(buffer.len(), 9);
    /// ```
    #[inline(always)]
    pub fn try_put_slices(&mut self, parts: &[&[u8]]) -> bool {
        let (Some(tail), Some(front)) = (&mut self.tail, &mut self.front) else {
            return false;
        };
        if !self.rest.is_unallocated() {
            return self.try_put_slices_at_back(parts);
        }
        let length = length_of(parts);
        let fits = tail.spare_capacity() >= length && tail.continues(front);
        if fits {
            tail.put_all(parts);
            front.grow(length);
        }
        fits
    }

    /// The part of [`try_put_slices`](Self::try_put_slices) for a buffer of several segments.
    #[inline(never)]
    fn try_put_slices_at_back(&mut self, parts: &[&[u8]]) -> bool {
        let length = length_of(parts);
        if let (Some(tail), Some(last)) = (&mut self.tail, self.rest.back().or(self.front.as_ref()))
            && tail.spare_capacity() >= length
            && tail.continues(last)
        {
            tail.put_all(parts);
            grow_last(&mut self.front, &mut self.rest, length);
            true
        } else {
            false
        }
    }

    /// The part of [`put_slice`](Self::put_slice) for a buffer without a tail that fits `bytes`.
    fn put_slow(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.put_first(&[bytes]) {
            self.put_spill(bytes);
        }
    }

    /// Copies `parts` to the end if the buffer has neither bytes nor memory, which leaves the
    /// thread's block as the only thing to check; returns whether it did.
    #[inline]
    fn put_first(&mut self, parts: &[&[u8]]) -> bool {
        let length = length_of(parts);
        let own_memory = self.tail.is_some() || self.uncommitted.is_some();
        let few = (1..write_tail::LARGE_PUT_SIZE).contains(&length);
        if own_memory || !self.is_empty() || !few {
            return false;
        }
        let mut tail = write_tail::borrow();
        let start = tail.filled();
        let fits = tail.spare_capacity() >= length;
        if fits {
            tail.put_all(parts);
            self.set_front(tail.window(start..start + length));
        }
        self.tail = Some(tail);
        fits
    }

    /// The part of [`put_slow`](Self::put_slow) for a buffer that has bytes or memory already.
    #[cold]
    fn put_spill(&mut self, mut bytes: &[u8]) {
        if let Some(pending) = self.uncommitted.as_mut() {
            pending.put(bytes);
            return;
        }
        let large = write_tail::LARGE_PUT_SIZE..MAX_RESERVATION;
        let foreign = self.front.as_ref().is_some_and(Segment::is_foreign);
        let few = self.rest.is_empty() && self.front_len() <= MAX_COPIED_HEADER && !foreign;
        if few && large.contains(&bytes.len()) {
            self.put_with_header(bytes);
            return;
        }
        loop {
            let mut tail = match self.tail.take() {
                Some(tail)
                    if tail.spare_capacity() > 0 && bytes.len() < write_tail::LARGE_PUT_SIZE =>
                {
                    tail
                }
                other => {
                    other.into_iter().for_each(write_tail::release);
                    write_tail::tail_for_put(bytes.len())
                }
            };
            let count = bytes.len().min(tail.spare_capacity());
            put_in_tail(&mut self.front, &mut self.rest, &mut tail, &bytes[..count]);
            self.tail = Some(tail);
            bytes = &bytes[count..];
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Copies a large `bytes` into memory of its own size, behind the few bytes that the buffer
    /// has: a header and its body are then sent as one segment. The kernel copies aligned memory
    /// faster than memory that begins four bytes beside the alignment.
    fn put_with_header(&mut self, bytes: &[u8]) {
        let mut tail = Tail::with_capacity(self.front_len() + bytes.len());
        if let Some(front) = &self.front {
            tail.put(front.as_slice());
        }
        tail.put(bytes);
        self.set_front(tail.window(0..tail.filled()));
        self.replace_tail(tail);
    }
}

/// Returns the total length of `parts`. The same memory may be in several of them.
#[inline(always)]
fn length_of(parts: &[&[u8]]) -> usize {
    let lengths = parts.iter().map(|part| part.len());
    lengths.fold(0, usize::saturating_add)
}

/// Copies `bytes`, for which the tail has capacity, and shows them at the end of the buffer.
#[inline]
fn put_in_tail(
    front: &mut Option<Segment>,
    rest: &mut SegmentQueue,
    tail: &mut Tail,
    bytes: &[u8],
) {
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
        _ => {
            *front = Some(segment);
            rest.drop_front_tail();
        }
    }
}

/// Extends the last segment by `count` bytes, which the tail has just filled there.
#[inline]
fn grow_last(front: &mut Option<Segment>, rest: &mut SegmentQueue, count: usize) {
    match front {
        Some(front) if rest.is_empty() => front.grow(count),
        _ => rest.grow_back(count),
    }
}

/// Puts of fixed-size numbers.
macro_rules! numbers {
    ($($be:ident, $le:ident, $number:ty;)*) => {
        impl LinkBuffer {
            $(
                #[doc = concat!("Copies a `", stringify!($number), "` to the end, big-endian.")]
                #[inline]
                pub fn $be(&mut self, number: $number) {
                    self.put_array(number.to_be_bytes());
                }

                #[doc = concat!("Copies a `", stringify!($number), "` to the end, little-endian.")]
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
