// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`LinkBuffer`] as a `std::io` stream, for compressors, serde and all code written against
//! [`Read`], [`BufRead`] and [`Write`].
//!
//! The end of the buffer is the end of the stream. Writes never fail.
//!
//! ```
//! use netpoll_buffer::LinkBuffer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut buffer = LinkBuffer::new();
//! serde_json::to_writer(&mut buffer, &[1, 2, 3])?;
//! assert_eq!(buffer.peek(7)?, b"[1,2,3]");
//! let numbers: Vec<u32> = serde_json::from_reader(&mut buffer)?;
//! assert_eq!(numbers, [1, 2, 3]);
//! # Ok(()) }
//! ```

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};

use super::LinkBuffer;

impl Read for LinkBuffer {
    /// Fills as much of `target` as is readable. One copy. Never fails.
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = target.len().min(self.len());
        self.copy_out(&mut target[..count]);
        Ok(count)
    }

    /// Fills the targets in turn, as far as bytes are readable. One copy. Never fails.
    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let before = self.len();
        for target in targets {
            let count = target.len().min(self.len());
            self.copy_out(&mut target[..count]);
        }
        Ok(before - self.len())
    }

    /// As [`LinkBuffer::read_exact`]: consumes nothing if fewer bytes are readable.
    #[inline]
    fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        Self::read_exact(self, target)
    }

    /// Appends all readable bytes to `target`.
    fn read_to_end(&mut self, target: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.len();
        target.reserve(count);
        for segment in self.segments() {
            target.extend_from_slice(segment.as_slice());
        }
        self.advance_by(count);
        Ok(count)
    }

    /// Appends all readable bytes to `target`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if they are not UTF-8; then they stay.
    fn read_to_string(&mut self, target: &mut String) -> io::Result<usize> {
        let text = self.read_string(self.len())?;
        target.push_str(&text);
        Ok(text.len())
    }
}

impl BufRead for LinkBuffer {
    /// Returns the first contiguous readable bytes; empty only if no bytes are readable. No copy.
    /// Never fails.
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.drop_empty_front();
        Ok(self
            .front
            .as_ref()
            .map_or(&[][..], |front| front.as_slice()))
    }

    /// Consumes `count` bytes, or all if fewer are readable.
    #[inline]
    fn consume(&mut self, count: usize) {
        self.advance_by(count.min(self.len()));
    }
}

impl Write for LinkBuffer {
    /// As [`put_slice`](Self::put_slice): takes all bytes, and never fails.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put_slice(bytes);
        Ok(bytes.len())
    }

    /// As [`put_slice`](Self::put_slice) of each: takes all bytes, and never fails.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        parts.iter().for_each(|part| self.put_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    /// As [`put_slice`](Self::put_slice): takes all bytes, and never fails.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put_slice(bytes);
        Ok(())
    }

    /// Does nothing: no stream lies behind the buffer. Uncommitted bytes stay uncommitted.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
