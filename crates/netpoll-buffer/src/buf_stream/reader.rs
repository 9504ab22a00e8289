// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`StreamReader`]: the input side of a foreign stream, which reads when bytes are missing.
//!
//! Every method reads first and borrows after, as that of a connection waits first. A call that
//! fails, for any reason, keeps all received bytes in the buffer, and the next call continues from
//! there.

use std::io::{self, Read};

use bytes::Bytes;

use super::input::StreamInput;
use crate::error::{NotEnoughData, TooLarge};
use crate::link_buffer::LinkBuffer;

/// The reading side of a [`BufStream`](crate::BufStream).
///
/// All methods that read the stream do so until their bytes are buffered. They read ahead as far as
/// their block has capacity, and do not read at all if the bytes are buffered already. Memory grows
/// with the received bytes: 4 KiB at first, then at most twice the received bytes, rounded up to a
/// size class of the pool; the unread bytes are copied along. The methods fail alike, and have then
/// consumed nothing:
///
/// * [`TooLarge`] (`InvalidData`) at once, before reading or allocating, if more than
///   [`max_frame`](crate::BufStream::max_frame) bytes are requested;
/// * [`NotEnoughData`] (`UnexpectedEof`) if the stream ends first; the received bytes stay
///   readable, and the next call that wants more reads the stream again;
/// * the stream's error, unchanged, also `WouldBlock`. Only
///   [`Interrupted`](io::ErrorKind::Interrupted) is retried at once.
///
/// The stream is given initialised memory. A stream that claims bytes which it did not write
/// exposes the old contents of that memory.
///
/// # Panics
///
/// All methods that read the stream panic if it claims more bytes than fit the memory it was given.
/// Bytes received before stay readable.
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

    /// Returns how many bytes are buffered.
    #[inline]
    #[must_use]
    pub fn available(&self) -> usize {
        self.input.buffer.len()
    }

    /// Reads until `n` bytes are buffered. Consumes nothing.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
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

    /// Reads once, when fewer than `n` bytes are buffered. 0 is the end of the stream.
    #[inline]
    pub(super) fn fill(&mut self, n: usize) -> io::Result<usize> {
        self.input.fill(self.stream, n)
    }

    /// Returns the next `n` bytes without consuming them. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    #[inline]
    pub fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        self.wait(n)?;
        self.input.buffer.peek(n)
    }

    /// Consumes and returns the next `n` bytes. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    #[inline]
    pub fn next(&mut self, n: usize) -> io::Result<&[u8]> {
        self.wait(n)?;
        self.input.buffer.next(n)
    }

    /// Consumes `n` bytes without returning them, at most `max_frame`.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    pub fn skip(&mut self, n: usize) -> io::Result<()> {
        self.wait(n)?;
        self.input.buffer.skip(n)
    }

    /// Consumes and returns the bytes up to and including the first `delimiter`; at most `max` of
    /// them, and at most `max_frame`. Looks at each byte once, however often it reads.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the first `max` bytes do not contain the delimiter; else as described for
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

    /// Consumes the next `n` bytes and returns them as owned memory. Shares memory, and copies if
    /// they are small beside their block.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    pub fn slice(&mut self, n: usize) -> io::Result<Bytes> {
        self.wait(n)?;
        self.input.buffer.slice(n)
    }

    /// Consumes the next `n` bytes and returns them as a buffer. No copy beyond that of reading.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    pub fn split_to(&mut self, n: usize) -> io::Result<LinkBuffer> {
        self.wait(n)?;
        self.input.buffer.split_to(n)
    }

    /// Consumes and returns all buffered bytes, at least one; `None` at the end of the stream.
    /// Reads at most once, and only if the buffer is empty. No copy.
    ///
    /// # Errors
    ///
    /// The stream's error.
    pub fn chunk(&mut self) -> io::Result<Option<LinkBuffer>> {
        if self.available() == 0 && self.fill(1)? == 0 {
            return Ok(None);
        }
        let all = self.available();
        self.input.buffer.split_to(all).map(Some)
    }

    /// Fills `target` with the next bytes and consumes them. One copy.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    pub fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        self.wait(target.len())?;
        self.input.buffer.read_exact(target)
    }

    /// Consumes the next `n` bytes and returns them in a `Vec`. One allocation, made after they
    /// have arrived.
    ///
    /// # Errors
    ///
    /// As described for [`StreamReader`].
    pub fn read_vec(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.wait(n)?;
        self.input.buffer.read_vec(n)
    }

    /// Consumes the next `n` bytes and returns them as text. One allocation, made after they have
    /// arrived.
    ///
    /// # Errors
    ///
    /// `InvalidData` if they are not UTF-8, and then they stay; else as described for
    /// [`StreamReader`].
    pub fn read_string(&mut self, n: usize) -> io::Result<String> {
        self.wait(n)?;
        self.input.buffer.read_string(n)
    }
}

/// Reads of fixed-size numbers.
macro_rules! numbers {
    ($($name:ident, $number:ty, $order:literal;)*) => {
        impl<S: Read> StreamReader<'_, S> {
            $(
                #[doc = concat!("Consumes and returns a `", stringify!($number), "`, ", $order, ".")]
                ///
                /// # Errors
                ///
                /// As described for [`StreamReader`].
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
