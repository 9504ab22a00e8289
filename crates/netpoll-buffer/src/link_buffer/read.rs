// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads from a [`LinkBuffer`].
//!
//! A read needs all of its bytes: a call that wants more than [`LinkBuffer::len`] fails with
//! [`NotEnoughData`] and consumes nothing. A returned `&[u8]` borrows the buffer, so Go netpoll's
//! rule "valid until Release" is a lifetime here; the next call frees the memory of what was read.
//!
//! Within one segment no byte is copied. A `peek` or `next` across segments copies the requested
//! bytes into one block, once. A repeated call for the same bytes copies nothing, and a call for
//! more of them copies only the new ones (see [`contiguous`](super::contiguous)).

use std::io;

use bytes::Bytes;

use super::LinkBuffer;
use crate::error::{NotEnoughData, TooLarge};

/// `slice` copies a result below this fraction of its block: a small slice must not keep a large
/// block alive.
const MIN_SHARED_FRACTION: usize = 16;

impl LinkBuffer {
    /// Returns the next `n` bytes without consuming them. Copies only across segments, and then
    /// once. A later peek at more copies the new bytes, and all bytes each time their block is full
    /// and a larger one replaces it.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable; [`TooLarge`] above 4 GiB, which no single segment
    /// can hold.
    ///
    /// # Examples
    ///
    /// A parser of slices parses the result, and reports how much of it to skip:
    ///
    /// ```
    /// # use netpoll_buffer::LinkBuffer;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut buffer = LinkBuffer::new();
    /// buffer.put_str("GET /index HTTP/1.1\r\nhost: here\r\n\r\nbody");
    /// let mut headers = [httparse::EMPTY_HEADER; 8];
    /// let mut request = httparse::Request::new(&mut headers);
    /// let parsed = request.parse(buffer.peek(buffer.len())?)?;
    /// assert_eq!(request.path, Some("/index"));
    /// buffer.skip(parsed.unwrap())?;
    /// assert_eq!(buffer.peek(4)?, b"body");
    /// # Ok(()) }
    /// ```
    ///
    /// The borrow ends with the next call on the buffer, so this does not compile:
    ///
    /// ```compile_fail,E0499
    /// # use netpoll_buffer::LinkBuffer;
    /// # fn main() -> std::io::Result<()> {
    /// # let mut buffer = LinkBuffer::from(b"head and body".to_vec());
    /// let head = buffer.peek(4)?;
    /// buffer.skip(4)?; // may free the memory of `head`
    /// assert_eq!(head, b"head");
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.front_len() < n {
            self.make_contiguous(n)?;
        }
        Ok(self
            .front
            .as_ref()
            .map_or(&[][..], |front| &front.as_slice()[..n]))
    }

    /// Consumes and returns the next `n` bytes. Copies only across segments, and then once.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable; [`TooLarge`] above 4 GiB, which no single segment
    /// can hold.
    #[inline]
    pub fn next(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.front_len() < n {
            return self.next_across(n);
        }
        Ok(self.front.as_mut().map_or(&[][..], |front| front.take(n)))
    }

    /// The part of [`next`](Self::next) for a front segment that is too short.
    #[cold]
    fn next_across(&mut self, n: usize) -> io::Result<&[u8]> {
        self.make_contiguous(n)?;
        Ok(self.front.as_mut().map_or(&[][..], |front| front.take(n)))
    }

    /// Consumes `n` bytes without returning them. No copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable.
    pub fn skip(&mut self, n: usize) -> io::Result<()> {
        self.require(n)?;
        self.advance_by(n);
        Ok(())
    }

    /// Consumes and returns the bytes up to and including the first `delimiter`. `max` bounds their
    /// number, the delimiter included. Copies only across segments.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the first `max` bytes do not contain it; [`NotEnoughData`] if it has not
    /// arrived yet.
    pub fn until(&mut self, delimiter: u8, max: usize) -> io::Result<&[u8]> {
        match self.position_of(delimiter, 0, max) {
            Some(position) => self.next(position + 1),
            None if self.len() >= max => Err(TooLarge::new(max, max.saturating_add(1)).into()),
            None => Err(NotEnoughData::new(self.len(), self.len() + 1).into()),
        }
    }

    /// Consumes the next `n` bytes and returns them as owned memory, which is `Send` and outlives
    /// the buffer. Shares memory within one segment (one small allocation, none for data that came
    /// as [`Bytes`]). Copies across segments, and when the result would keep alive a block more
    /// than sixteen times its size.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable.
    pub fn slice(&mut self, n: usize) -> io::Result<Bytes> {
        self.require(n)?;
        self.drop_empty_front();
        match &mut self.front {
            Some(front)
                if front.len() >= n
                    && n.saturating_mul(MIN_SHARED_FRACTION) >= front.block_capacity() =>
            {
                Ok(Bytes::from(front.split_to(n)))
            }
            _ => self.read_vec(n).map(Bytes::from),
        }
    }

    /// Consumes the next `n` bytes and returns them as a buffer. Never copies. Splitting off all
    /// readable bytes has a constant cost; a part costs a few instructions for each of its
    /// segments.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable.
    pub fn split_to(&mut self, n: usize) -> io::Result<Self> {
        self.require(n)?;
        if n == self.len() {
            self.drop_empty_front();
            if self.tail.is_some()
                && let Some(tail) = self.take_front_tail()
            {
                self.rest.set_front_tail(tail);
            }
            return Ok(self.take_readable());
        }
        let mut taken = Self::new();
        while taken.len() < n {
            let missing = n - taken.len();
            self.drop_empty_front();
            let Some(front) = &mut self.front else { break };
            let piece = if front.len() > missing {
                front.split_to(missing)
            } else {
                let Some(whole) = self.front.take() else {
                    break;
                };
                self.front = self.rest.pop_front();
                whole
            };
            taken.push_segment(piece);
        }
        Ok(taken)
    }

    /// Fills `target` with the next bytes and consumes them. One copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable than `target` is long.
    pub fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        self.require(target.len())?;
        self.copy_out(target);
        Ok(())
    }

    /// Consumes the next `n` bytes and returns them in a `Vec`. One allocation, one copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable; this is checked before `n` bytes are allocated.
    pub fn read_vec(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.require(n)?;
        let mut vec = Vec::with_capacity(n);
        for segment in self.segments() {
            let missing = n - vec.len();
            vec.extend_from_slice(&segment.as_slice()[..segment.len().min(missing)]);
            if vec.len() == n {
                break;
            }
        }
        self.advance_by(n);
        Ok(vec)
    }

    /// Consumes the next `n` bytes and returns them as text. One allocation, one copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if fewer are readable; [`io::ErrorKind::InvalidData`] if they are not
    /// UTF-8, and then they stay.
    pub fn read_string(&mut self, n: usize) -> io::Result<String> {
        let bytes = self.peek(n)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            .to_owned();
        self.advance_by(n);
        Ok(text)
    }

    /// Consumes the next `N` bytes and returns them as an array.
    #[inline]
    pub(crate) fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        match &mut self.front {
            Some(front) if front.len() >= N => {
                let mut array = [0; N];
                array.copy_from_slice(front.take(N));
                Ok(array)
            }
            _ => self.read_array_across(),
        }
    }

    /// The part of [`read_array`](Self::read_array) for a front segment that is too short.
    #[cold]
    fn read_array_across<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        self.read_exact(&mut array)?;
        Ok(array)
    }

    #[inline]
    pub(super) fn require(&self, n: usize) -> io::Result<()> {
        if n > self.len() {
            Err(NotEnoughData::new(self.len(), n).into())
        } else {
            Ok(())
        }
    }

    /// Fills `target`, which is no longer than the readable bytes, and consumes them.
    pub(super) fn copy_out(&mut self, target: &mut [u8]) {
        let mut filled = 0;
        while filled < target.len() {
            self.drop_empty_front();
            let Some(front) = &mut self.front else { break };
            let count = front.len().min(target.len() - filled);
            target[filled..filled + count].copy_from_slice(front.take(count));
            filled += count;
        }
    }

    /// Consumes `n` bytes, which are readable.
    pub(super) fn advance_by(&mut self, n: usize) {
        let mut left = n;
        while left > 0 {
            self.drop_empty_front();
            let Some(front) = &mut self.front else { break };
            let count = front.len().min(left);
            front.skip(count);
            left -= count;
        }
    }
}

/// Reads of fixed-size numbers.
macro_rules! numbers {
    ($($be:ident, $le:ident, $number:ty;)*) => {
        impl LinkBuffer {
            $(
                #[doc = concat!("Consumes and returns a big-endian `", stringify!($number), "`.")]
                ///
                /// # Errors
                ///
                /// [`NotEnoughData`] if fewer bytes are readable.
                #[inline]
                pub fn $be(&mut self) -> io::Result<$number> {
                    self.read_array().map(<$number>::from_be_bytes)
                }

                #[doc = concat!("Consumes and returns a little-endian `", stringify!($number), "`.")]
                ///
                /// # Errors
                ///
                /// [`NotEnoughData`] if fewer bytes are readable.
                #[inline]
                pub fn $le(&mut self) -> io::Result<$number> {
                    self.read_array().map(<$number>::from_le_bytes)
                }
            )*
        }
    };
}

numbers! {
    read_u16, read_u16_le, u16;
    read_u32, read_u32_le, u32;
    read_u64, read_u64_le, u64;
}

impl LinkBuffer {
    /// Consumes and returns the next byte.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`] if the buffer is empty.
    #[inline]
    pub fn read_u8(&mut self) -> io::Result<u8> {
        self.read_array::<1>().map(|[byte]| byte)
    }
}
