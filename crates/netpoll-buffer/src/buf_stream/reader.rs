// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`StreamReader`]: the input of a foreign stream, read when bytes are missing.
//!
//! Every method reads first and borrows after, as that of a connection waits first. A call that
//! fails, for whatever reason, leaves everything that has come where it is, and the next call goes
//! on from there.

use std::io::{self, Read};

use bytes::Bytes;

use super::input::StreamInput;
use crate::error::{NotEnoughData, TooLarge};
use crate::link_buffer::LinkBuffer;

/// The reading side of a [`BufStream`](crate::BufStream).
///
/// All methods that read the stream do so until they have what they want, ahead as far as their
/// block has room, and not at all if it is there already. Memory grows with what has come: 4 KiB at
/// first, then at most twice that, rounded up to a size that the pool has; what has come is then
/// copied along. They fail alike, and have then consumed nothing:
///
/// * [`TooLarge`] (`InvalidData`) at once, before reading or allocating, if more than
///   [`max_frame`](crate::BufStream::with_max_frame) bytes are asked for;
/// * [`NotEnoughData`] (`UnexpectedEof`) if the stream ended before; what came stays readable. The next call
///   that wants more asks the stream again;
/// * what the stream fails with, as it is, `WouldBlock` too. Only
///   [`Interrupted`](io::ErrorKind::Interrupted) is tried again at once.
///
/// The stream is given initialised memory. A stream that claims bytes that it did not write shows
/// what that memory held before.
///
/// # Panics
///
/// All methods that read the stream panic if it claims more than it was given room for. What came
/// before stays readable.
#[derive(Debug)]
pub struct StreamReader<'a, S> {
    stream: &'a mut S,
    pub(super) input: &'a mut StreamInput,
}

impl<'a, S: Read> StreamReader<'a, S> {
    #[inline]
    pub(super) fn new(stream: &'a mut S, input: &'a mut StreamInput) -> Self {
        Self { stream, input }
    }

    /// How many bytes are there without reading the stream.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.input.buffer.len()
    }

    /// Reads until `n` bytes are there. Consumes nothing.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    #[inline]
    pub fn wait(&mut self, n: usize) -> io::Result<()> {
        if n > self.input.max_frame {
            return Err(TooLarge::new(self.input.max_frame, n).into());
        }
        while self.available() < n {
            if self.fill(n)? == 0 {
                return Err(NotEnoughData::new(self.available(), n).into());
            }
        }
        Ok(())
    }

    /// Reads once, towards `n` bytes, which are not all there. 0 is the end of the stream.
    #[inline]
    pub(super) fn fill(&mut self, n: usize) -> io::Result<usize> {
        self.input.fill(self.stream, n)
    }

    /// The next `n` bytes, which stay. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    #[inline]
    pub fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        self.wait(n)?;
        self.input.buffer.peek(n)
    }

    /// The next `n` bytes, consumed. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    #[inline]
    pub fn next(&mut self, n: usize) -> io::Result<&[u8]> {
        self.wait(n)?;
        self.input.buffer.next(n)
    }

    /// Consumes `n` bytes unseen, at most `max_frame`.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    pub fn skip(&mut self, n: usize) -> io::Result<()> {
        self.wait(n)?;
        self.input.buffer.skip(n)
    }

    /// The bytes up to and including the first `delimiter`, consumed; at most `max` of them, and
    /// at most `max_frame`. Looks at each byte once, however often it reads.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the first `max` bytes do not have the delimiter; else as all of
    /// [`StreamReader`].
    pub fn until(&mut self, delimiter: u8, max: usize) -> io::Result<&[u8]> {
        let limit = max.min(self.input.max_frame);
        let mut seen = 0;
        loop {
            if let Some(at) = self.input.buffer.position_of(delimiter, seen, limit) {
                return self.input.buffer.next(at + 1);
            }
            seen = self.available();
            if seen >= limit {
                return Err(TooLarge::new(limit, limit.saturating_add(1)).into());
            }
            if self.fill(limit)? == 0 {
                return Err(NotEnoughData::new(seen, seen + 1).into());
            }
        }
    }

    /// The next `n` bytes, consumed, as memory of their own right. Shares memory, and copies when
    /// it is small beside its block.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    pub fn slice(&mut self, n: usize) -> io::Result<Bytes> {
        self.wait(n)?;
        self.input.buffer.slice(n)
    }

    /// The next `n` bytes, consumed, as a buffer. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    pub fn split_to(&mut self, n: usize) -> io::Result<LinkBuffer> {
        self.wait(n)?;
        self.input.buffer.split_to(n)
    }

    /// Whatever is there, consumed, at least one byte; `None` at the end of the stream. Reads at
    /// most once, and only if nothing is there. No copy.
    ///
    /// # Errors
    ///
    /// What the stream fails with.
    pub fn chunk(&mut self) -> io::Result<Option<LinkBuffer>> {
        if self.available() == 0 && self.fill(1)? == 0 {
            return Ok(None);
        }
        let all = self.available();
        self.input.buffer.split_to(all).map(Some)
    }

    /// Fills `target`, consumed. One copy.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    pub fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        self.wait(target.len())?;
        self.input.buffer.read_exact(target)
    }

    /// The next `n` bytes, consumed, in a `Vec`. One allocation, made when they are there.
    ///
    /// # Errors
    ///
    /// As all of [`StreamReader`].
    pub fn read_vec(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.wait(n)?;
        self.input.buffer.read_vec(n)
    }

    /// The next `n` bytes, consumed, as text. One allocation, made when they are there.
    ///
    /// # Errors
    ///
    /// `InvalidData` if they are not UTF-8, and then they stay; else as all of [`StreamReader`].
    pub fn read_string(&mut self, n: usize) -> io::Result<String> {
        self.wait(n)?;
        self.input.buffer.read_string(n)
    }
}

/// Fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $order:literal;)*) => {
        impl<S: Read> StreamReader<'_, S> {
            $(
                #[doc = concat!("A `", stringify!($number), "`, ", $order, ", consumed.")]
                ///
                /// # Errors
                ///
                /// As all of [`StreamReader`].
                #[inline]
                pub fn $name(&mut self) -> io::Result<$number> {
                    self.wait(size_of::<$number>())?;
                    self.input.buffer.$name()
                }
            )*
        }
    };
}

numbers! {
    read_u8, u8, "one byte";
    read_u16, u16, "big-endian";
    read_u16_le, u16, "little-endian";
    read_u32, u32, "big-endian";
    read_u32_le, u32, "little-endian";
    read_u64, u64, "big-endian";
    read_u64_le, u64, "little-endian";
}
