// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversions to and from a [`LinkBuffer`].
//!
//! Memory changes hands without a copy where possible: data that came as [`Bytes`] leaves as the
//! same [`Bytes`].

use bytes::Bytes;

use super::LinkBuffer;

impl From<Bytes> for LinkBuffer {
    /// Takes the memory over without a copy. One small allocation.
    fn from(bytes: Bytes) -> Self {
        let mut buffer = Self::new();
        buffer.push(bytes);
        buffer
    }
}

impl From<Vec<u8>> for LinkBuffer {
    /// Takes the memory over without a copy. One small allocation.
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<LinkBuffer> for Bytes {
    /// Returns all readable bytes. One segment keeps its memory, without a copy (one small
    /// allocation, none for data that came as [`Bytes`]); several are copied into one `Vec`.
    /// Uncommitted bytes are committed first, as [`append`](LinkBuffer::append) does.
    fn from(mut buffer: LinkBuffer) -> Self {
        buffer.commit_all();
        buffer.drop_empty_front();
        if buffer.rest.is_empty() {
            return buffer.front.take().map_or_else(Self::new, Self::from);
        }
        let mut all = Vec::with_capacity(buffer.len());
        for segment in buffer.segments() {
            all.extend_from_slice(segment.as_slice());
        }
        Self::from(all)
    }
}

impl Extend<u8> for LinkBuffer {
    /// Copies each byte to the end, as [`put_u8`](Self::put_u8).
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        bytes.into_iter().for_each(|byte| self.put_u8(byte));
    }
}

impl<'a> Extend<&'a u8> for LinkBuffer {
    /// Copies each byte to the end, as [`put_u8`](Self::put_u8).
    fn extend<I: IntoIterator<Item = &'a u8>>(&mut self, bytes: I) {
        self.extend(bytes.into_iter().copied());
    }
}

impl Extend<Bytes> for LinkBuffer {
    /// Appends each without a copy, as [`push`](Self::push).
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, parts: I) {
        parts.into_iter().for_each(|part| self.push(part));
    }
}

impl FromIterator<u8> for LinkBuffer {
    /// Copies each byte, as [`put_u8`](Self::put_u8).
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut buffer = Self::new();
        buffer.extend(bytes);
        buffer
    }
}

impl FromIterator<Bytes> for LinkBuffer {
    /// Appends each without a copy, as [`push`](Self::push).
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let mut buffer = Self::new();
        buffer.extend(parts);
        buffer
    }
}
