// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copying small things to the end of a [`LinkBuffer`]: where each lands.
//!
//! Nearly every put is one of few bytes that fit right behind what was put last: a few comparisons and
//! the copy. The first of an answer borrows the thread's write block for that; what is large gets
//! memory of its own, and what does not fit goes on in another block.

use super::LinkBuffer;
use super::segment_queue::SegmentQueue;
use super::write::MAX_RESERVATION;
use crate::segment::Segment;
use crate::tail::Tail;
use crate::write_tail;

/// As much before a large put is copied along with it.
const MAX_COPIED_HEADER: usize = 256;

impl LinkBuffer {
    /// Copies `bytes` to the end: into the thread's write block, or, from 32 KiB on and where that
    /// has no room for all of it, into memory of its own size, along with up to 256 copied bytes that
    /// are all there is before it. Allocates only if the thread has no write block at hand, or the
    /// pool no memory of that size. Never fails.
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
    /// Where they are the first that is put, or [fit behind the last](Self::try_put_slices), what is
    /// to be looked at is looked at once: for a header and its body.
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

    /// One byte to the end, copied as by [`put_slice`](Self::put_slice).
    #[inline]
    pub fn put_u8(&mut self, byte: u8) {
        self.put_array([byte]);
    }

    /// A few bytes whose number is known when this is compiled, so that no copy is called.
    #[inline]
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        if !self.try_put_slice(&bytes) {
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
    /// assert!(!buffer.try_put_slice(b"no"), "there is nothing to be behind");
    /// buffer.put_str("one ");
    /// assert!(buffer.try_put_slice(b"two"));
    /// assert_eq!(buffer.len(), 7);
    /// ```
    #[inline]
    pub fn try_put_slice(&mut self, bytes: &[u8]) -> bool {
        self.try_put_slices(&[bytes])
    }

    /// Copies `parts` to the end, one behind the other, if all of them fit right behind what was put
    /// last; says whether they did. As [`try_put_slice`](Self::try_put_slice) of each, where what that
    /// looks at is looked at once: for a header and its body.
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

    /// What [`try_put_slices`](Self::try_put_slices) does for a chain of several segments.
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

    /// A tail that continues as a put needs it was not there.
    fn put_slow(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.put_first(&[bytes]) {
            self.put_spill(bytes);
        }
    }

    /// Copies `parts` to the end if they are the first bytes of an answer, where nothing is to be
    /// looked at but the thread's block; says whether it did.
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

    /// What [`put_slow`](Self::put_slow) does where there is something already.
    #[cold]
    fn put_spill(&mut self, mut bytes: &[u8]) {
        if let Some(pending) = &mut self.uncommitted {
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

    /// Copies `bytes`, which are many, into memory of their own size, behind the few that are here: a
    /// header and its body leave in one piece then. The kernel copies what begins where it puts it
    /// faster than what lies four bytes beside it.
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

/// How long `parts` are together. The same memory may be in several of them.
#[inline(always)]
fn length_of(parts: &[&[u8]]) -> usize {
    let lengths = parts.iter().map(|part| part.len());
    lengths.fold(0, usize::saturating_add)
}

/// Copies `bytes`, for which there is room, and shows them at the end of the chain.
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

/// Shows `count` bytes more at the end of the chain, which the tail has just filled there.
#[inline]
fn grow_last(front: &mut Option<Segment>, rest: &mut SegmentQueue, count: usize) {
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
