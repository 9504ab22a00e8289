// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`StreamReader`] as a `std::io` stream, for code written against [`Read`] and [`BufRead`] that
//! takes over where a frame begins: a decompressor, a parser, `io::copy`.

use std::io::{self, BufRead, Read};

use super::reader::StreamReader;

impl<S: Read> Read for StreamReader<'_, S> {
    /// Fills as much of `target` as is buffered, at least one byte; returns 0 at the end of the
    /// stream, or if `target` is empty. One copy. Reads at most once, and only if the buffer is
    /// empty.
    ///
    /// # Errors
    ///
    /// The stream's error.
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if !target.is_empty() && self.available() == 0 {
            self.fill(1)?;
        }
        Read::read(&mut self.input.buffer, target)
    }

    /// As [`StreamReader::read_exact`]: consumes nothing unless all bytes arrive.
    #[inline]
    fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        Self::read_exact(self, target)
    }
}

impl<S: Read> BufRead for StreamReader<'_, S> {
    /// Returns the buffered bytes, at least one; empty only at the end of the stream. No copy.
    /// Reads at most once, and only if the buffer is empty.
    ///
    /// # Errors
    ///
    /// The stream's error.
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.available() == 0 {
            self.fill(1)?;
        }
        self.input.buffer.fill_buf()
    }

    /// Consumes `count` bytes, or all if fewer are buffered.
    #[inline]
    fn consume(&mut self, count: usize) {
        self.input.buffer.consume(count);
    }
}
