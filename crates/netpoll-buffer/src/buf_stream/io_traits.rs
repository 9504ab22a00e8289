// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`StreamReader`] as `std::io` sees a stream, for what is written against [`Read`] and
//! [`BufRead`] and takes over where a frame begins: a decompressor, a parser, `io::copy`.

use std::io::{self, BufRead, Read};

use super::reader::StreamReader;

impl<S: Read> Read for StreamReader<'_, S> {
    /// Fills as much of `target` as is there, at least a byte; 0 at the end of the stream, or if
    /// `target` is empty. One copy. Reads at most once, and only if nothing is there.
    ///
    /// # Errors
    ///
    /// What the stream fails with.
    #[inline]
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if !target.is_empty() && self.available() == 0 {
            self.fill(1)?;
        }
        Read::read(&mut self.input.buffer, target)
    }

    /// As [`StreamReader::read_exact`]: consumes nothing unless all are there.
    #[inline]
    fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        Self::read_exact(self, target)
    }
}

impl<S: Read> BufRead for StreamReader<'_, S> {
    /// What is there, at least a byte; empty only at the end of the stream. No copy. Reads at most
    /// once, and only if nothing is there.
    ///
    /// # Errors
    ///
    /// What the stream fails with.
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.available() == 0 {
            self.fill(1)?;
        }
        self.input.buffer.fill_buf()
    }

    /// Consumes `count` bytes, or all that are there if they are fewer.
    #[inline]
    fn consume(&mut self, count: usize) {
        self.input.buffer.consume(count);
    }
}
