// SPDX-License-Identifier: MIT OR Apache-2.0
//! Searches and copies that leave a [`LinkBuffer`] unchanged, for callers that must inspect bytes
//! before they consume them.
//!
//! All of it works on `&LinkBuffer` and walks the segments. It consumes, moves and allocates
//! nothing, and a call costs no more than the bytes it looks at.

use std::borrow::Cow;
use std::collections::vec_deque;

use memchr::memmem;

use super::LinkBuffer;
use crate::segment::Segment;

impl LinkBuffer {
    /// Copies the readable bytes from byte `from` on into `target`, as far as both go; returns how
    /// many. Consumes nothing.
    ///
    /// ```
    /// # use netpoll_buffer::LinkBuffer;
    /// let mut buffer = LinkBuffer::new();
    /// buffer.put_slice(&[7, 0, 0, 0, 5]);
    /// let mut length = [0; 4];
    /// assert_eq!(buffer.copy_to(1, &mut length), 4);
    /// assert_eq!(u32::from_be_bytes(length), 5);
    /// assert_eq!(buffer.copy_to(3, &mut length), 2); // the buffer has no more
    /// ```
    pub fn copy_to(&self, from: usize, target: &mut [u8]) -> usize {
        let mut unseen = from;
        let mut copied = 0;
        for segment in self.segments() {
            if copied == target.len() {
                break;
            }
            let bytes = segment.as_slice();
            let bytes = &bytes[unseen.min(bytes.len())..];
            unseen -= segment.len() - bytes.len();
            let count = bytes.len().min(target.len() - copied);
            target[copied..copied + count].copy_from_slice(&bytes[..count]);
            copied += count;
        }
        copied
    }

    /// Returns the first `n` readable bytes as one slice, or all of them if there are fewer.
    /// Consumes nothing. Borrows them if they lie in one segment, as a header nearly always does;
    /// else copies them, with one allocation. [`peek`](Self::peek) needs `&mut self`, and copies
    /// them within the buffer, so that the next call need not.
    ///
    /// ```
    /// use std::borrow::Cow;
    ///
    /// # use netpoll_buffer::LinkBuffer;
    /// let mut buffer = LinkBuffer::new();
    /// buffer.push("head".into());
    /// assert!(matches!(buffer.first_bytes(4), Cow::Borrowed(b"head")));
    /// buffer.push(" and body".into());
    /// assert_eq!(*buffer.first_bytes(8), *b"head and");
    /// assert_eq!(buffer.first_bytes(100).len(), 13); // the buffer has no more
    /// ```
    #[must_use]
    pub fn first_bytes(&self, n: usize) -> Cow<'_, [u8]> {
        let n = n.min(self.len());
        let front = self.segments().next().map_or(&[][..], Segment::as_slice);
        match front.get(..n) {
            Some(bytes) => Cow::Borrowed(bytes),
            None => {
                let mut bytes = vec![0; n];
                self.copy_to(0, &mut bytes);
                Cow::Owned(bytes)
            }
        }
    }

    /// Returns the position of the first `delimiter`, from byte `from` on and before byte `max`.
    /// Consumes and copies nothing.
    #[must_use]
    pub fn position_of(&self, delimiter: u8, from: usize, max: usize) -> Option<usize> {
        if self.begins_in_front(from) {
            return position_among(self.segments(), 0, delimiter, from, max);
        }
        self.position_after_front(delimiter, from, max)
    }

    #[cold]
    fn position_after_front(&self, delimiter: u8, from: usize, max: usize) -> Option<usize> {
        let (start, rest) = self.segments_from(from);
        position_among(rest, start, delimiter, from, max)
    }

    /// Returns the position of the first occurrence of `wanted`, in one segment or across several,
    /// from byte `from` on; all of it has to lie within the first `max` bytes. Consumes and copies
    /// nothing. One pass over the bytes, and at the end of each segment at most as many more
    /// comparisons as `wanted` is long.
    #[must_use]
    pub fn position_of_slice(&self, wanted: &[u8], from: usize, max: usize) -> Option<usize> {
        if wanted.is_empty() {
            return (from <= max.min(self.len())).then_some(from);
        }
        if self.begins_in_front(from) {
            return position_of_slice_among(self.segments(), 0, wanted, from, max);
        }
        self.position_of_slice_after_front(wanted, from, max)
    }

    #[cold]
    fn position_of_slice_after_front(
        &self,
        wanted: &[u8],
        from: usize,
        max: usize,
    ) -> Option<usize> {
        let (start, rest) = self.segments_from(from);
        position_of_slice_among(rest, start, wanted, from, max)
    }

    #[inline(always)]
    fn begins_in_front(&self, from: usize) -> bool {
        from < self.front_len() || self.rest.is_empty()
    }

    /// Returns the segments that hold byte `from`, which is behind the front one, and the bytes
    /// after it, and the position of the first of them. A repeated search skips the segments it has
    /// already seen, so it looks at new bytes only.
    #[cold]
    fn segments_from(&self, from: usize) -> (usize, vec_deque::Iter<'_, Segment>) {
        let in_front = self.front_len();
        let (start, rest) = self.rest.iter_from(from - in_front);
        (in_front + start, rest)
    }
}

/// As [`LinkBuffer::position_of`], in segments of which the first begins at position `start`.
#[inline(always)]
fn position_among<'a>(
    segments: impl Iterator<Item = &'a Segment>,
    mut start: usize,
    delimiter: u8,
    from: usize,
    max: usize,
) -> Option<usize> {
    for segment in segments {
        if start >= max {
            return None;
        }
        let bytes = segment.as_slice();
        let bytes = &bytes[..bytes.len().min(max - start)];
        let skipped = from.saturating_sub(start).min(bytes.len());
        if let Some(at) = memchr::memchr(delimiter, &bytes[skipped..]) {
            return Some(start + skipped + at);
        }
        start += segment.len();
    }
    None
}

/// As [`LinkBuffer::position_of_slice`], in segments of which the first begins at position `start`.
#[inline(always)]
fn position_of_slice_among<'a>(
    mut segments: impl Iterator<Item = &'a Segment> + Clone,
    mut start: usize,
    wanted: &[u8],
    from: usize,
    max: usize,
) -> Option<usize> {
    let first = *wanted.first()?;
    while let Some(segment) = segments.next() {
        if start >= max {
            return None;
        }
        let bytes = segment.as_slice();
        let bytes = &bytes[..bytes.len().min(max - start)];
        let skipped = from.saturating_sub(start).min(bytes.len());
        if let Some(at) = memmem::find(&bytes[skipped..], wanted) {
            return Some(start + skipped + at);
        }
        // A match that crosses the border begins among the last bytes.
        let edge = skipped.max(bytes.len().saturating_sub(wanted.len() - 1));
        for at in memchr::memchr_iter(first, &bytes[edge..]) {
            let (here, behind) = wanted.split_at(bytes.len() - edge - at);
            if bytes.ends_with(here)
                && wanted.len() <= max - start - edge - at
                && starts_with(segments.clone(), behind)
            {
                return Some(start + edge + at);
            }
        }
        start += segment.len();
    }
    None
}

/// Returns whether the bytes of `segments` begin with `wanted`.
fn starts_with<'a>(segments: impl Iterator<Item = &'a Segment>, mut wanted: &[u8]) -> bool {
    for segment in segments {
        let (here, behind) = wanted.split_at(wanted.len().min(segment.len()));
        if !segment.as_slice().starts_with(here) {
            return false;
        }
        wanted = behind;
        if wanted.is_empty() {
            return true;
        }
    }
    false
}
