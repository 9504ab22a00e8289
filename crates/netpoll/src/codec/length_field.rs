// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`LengthField`]: frames whose header contains their length.
//!
//! ```text
//!   ├── offset ──┼── width ──┼──── value + adjustment ────┤
//!   │   header   │  length   │  body                      │     in the stream: `maximum` at most
//!   │   header   │           │  body                      │     the frame
//! ```

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{Codec, DEFAULT_MAX_FRAME, EncodeError, Need, append_frame};
use crate::error::{ErrorKind, InvalidConfig};

/// The widest length field, in bytes.
const MAX_WIDTH: usize = size_of::<u64>();

/// Frames with a length field in their header.
///
/// A decoded frame is the bytes before the length field and the bytes behind it, without the field
/// itself, which `encode` inserts again. By default the field has four bytes, big-endian, is the
/// first of the frame, and counts the bytes behind it.
///
/// ```
/// use netpoll::buffer::LinkBuffer;
/// use netpoll::codec::{Codec, LengthField, Need};
///
/// # fn main() -> std::io::Result<()> {
/// // A kind of one byte, and a length of two bytes that also counts these three bytes.
/// let codec = LengthField::new().offset(1).width(2).adjustment(-3);
/// let mut stream = LinkBuffer::from(b"\x07\x00\x08hello and more".to_vec());
/// assert_eq!(codec.measure(&stream)?, Need::Frame(8));
/// let mut frame = codec.decode(stream.split_to(8)?)?;
/// assert_eq!(frame.next(6)?, b"\x07hello");
/// # Ok(()) }
/// ```
///
/// A length from the network allocates nothing: one above the maximum is rejected before any of its
/// bytes has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthField {
    width: usize,
    order: ByteOrder,
    offset: usize,
    adjustment: i64,
    maximum: usize,
}

/// The byte order of the length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Big,
    Little,
}

impl Default for LengthField {
    fn default() -> Self {
        Self::new()
    }
}

impl LengthField {
    /// Creates a codec with a length field of four bytes, big-endian, at the front, that counts the
    /// bytes behind it. Frames have at most 4 MiB, the field included.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            width: size_of::<u32>(),
            order: ByteOrder::Big,
            offset: 0,
            adjustment: 0,
            maximum: DEFAULT_MAX_FRAME,
        }
    }

    /// Sets the width of the length field: 1 to 8 bytes. The default is 4.
    #[must_use]
    pub const fn width(mut self, width: usize) -> Self {
        self.width = width;
        self
    }

    /// Makes the length field little-endian.
    #[must_use]
    pub const fn little_endian(mut self) -> Self {
        self.order = ByteOrder::Little;
        self
    }

    /// Sets how many bytes of the frame come before the length field. The default is 0.
    #[must_use]
    pub const fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Sets the number to add to the field's value to get the count of bytes behind the field:
    /// above zero for bytes that the value leaves out, below zero for bytes that it counts in
    /// addition. A field of four bytes that counts itself has an adjustment of -4. The default is
    /// 0.
    #[must_use]
    pub const fn adjustment(mut self, adjustment: i64) -> Self {
        self.adjustment = adjustment;
        self
    }

    /// Sets the most bytes of a frame in the stream, the length field and the bytes before it
    /// included. The default is 4 MiB.
    #[must_use]
    pub const fn maximum(mut self, maximum: usize) -> Self {
        self.maximum = maximum;
        self
    }

    /// Checks the settings. Every use does the same check, which costs a few comparisons.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field: a
    /// `width` that is not 1 to 8, an `offset` with which the header exceeds the `maximum`, an
    /// `adjustment` with which no length would be valid.
    pub fn check(&self) -> io::Result<()> {
        if self.width == 0 || self.width > MAX_WIDTH {
            return Err(InvalidConfig::new("width", "must be 1 to 8 bytes").into());
        }
        let head = self.offset.checked_add(self.width);
        let Some(body) = head.and_then(|head| self.maximum.checked_sub(head)) else {
            let expected = "must leave room for the length within the maximum";
            return Err(InvalidConfig::new("offset", expected).into());
        };
        let most = i128::from(self.max_value()) + i128::from(self.adjustment);
        if most < 0 || usize::try_from(self.adjustment).is_ok_and(|least| least > body) {
            let expected = "must leave a length between nothing and the maximum";
            return Err(InvalidConfig::new("adjustment", expected).into());
        }
        Ok(())
    }

    /// Returns the largest value of the length field. The width must be valid.
    const fn max_value(&self) -> u64 {
        u64::MAX >> (8 * (MAX_WIDTH - self.width))
    }

    /// Returns the bytes up to the end of the length field. The settings must be valid.
    const fn header_len(&self) -> usize {
        self.offset + self.width
    }

    /// Returns the value of the length field, if all of it has arrived.
    fn read_value(&self, input: &LinkBuffer) -> Option<u64> {
        let mut bytes = [0; MAX_WIDTH];
        let field = match self.order {
            ByteOrder::Big => &mut bytes[MAX_WIDTH - self.width..],
            ByteOrder::Little => &mut bytes[..self.width],
        };
        (input.copy_to(self.offset, field) == self.width).then(|| match self.order {
            ByteOrder::Big => u64::from_be_bytes(bytes),
            ByteOrder::Little => u64::from_le_bytes(bytes),
        })
    }

    /// Returns the bytes in the stream of a frame whose field has this value.
    fn frame_len(&self, value: u64) -> io::Result<usize> {
        // 128 bits, so that nothing here overflows.
        let body = i128::from(value) + i128::from(self.adjustment);
        let Ok(body) = u128::try_from(body) else {
            let adjustment = self.adjustment;
            return Err(ErrorKind::NegativeLength { value, adjustment }.into());
        };
        let whole = body + self.header_len() as u128;
        match usize::try_from(whole) {
            Ok(whole) if whole <= self.maximum => Ok(whole),
            other => {
                let size = other.unwrap_or(usize::MAX);
                Err(ErrorKind::frame_too_large("maximum", self.maximum, size).into())
            }
        }
    }

    /// Returns the field's value for a frame of `length` bytes, the field not included.
    fn length_value(&self, length: usize) -> Result<u64, EncodeError> {
        let Some(body) = length.checked_sub(self.offset) else {
            let (have, offset) = (length, self.offset);
            return Err(EncodeError::TooShort { have, offset });
        };
        let whole = length.saturating_add(self.width);
        if whole > self.maximum {
            let maximum = self.maximum;
            return Err(EncodeError::TooLong { whole, maximum });
        }
        let (value, largest) = (body as i128 - i128::from(self.adjustment), self.max_value());
        match u64::try_from(value) {
            Ok(value) if value <= largest => Ok(value),
            _ => Err(EncodeError::LengthOverflow { value, largest }),
        }
    }
}

impl Codec for LengthField {
    type Frame = LinkBuffer;

    /// # Errors
    ///
    /// [`ErrorKind::FrameTooLarge`] for a length above the
    /// [`maximum`](Self::maximum);
    /// [`ErrorKind::NegativeLength`] for one that is
    /// negative after its [adjustment](Self::adjustment); otherwise as [`check`](Self::check).
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.check()?;
        let Some(value) = self.read_value(input) else {
            return Ok(Need::More(self.header_len()));
        };
        let whole = self.frame_len(value)?;
        Ok(if input.len() < whole {
            Need::More(whole)
        } else {
            Need::Frame(whole)
        })
    }

    /// Returns the bytes before and behind the length field. Copies nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotEnoughData`] for fewer bytes than
    /// the header has.
    fn decode(&self, mut bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        let before = match self.offset {
            0 => None,
            offset => Some(bytes.split_to(offset)?),
        };
        bytes.skip(self.width)?;
        // The skipped bytes must not keep a block alive.
        bytes.release();
        let Some(mut frame) = before else {
            bytes.commit_all();
            return Ok(bytes);
        };
        frame.append(bytes);
        Ok(frame)
    }

    /// Appends the frame with its length. Copies the length, and the bytes behind it if they are at
    /// most 2 KiB.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the frame is shorter than the [`offset`](Self::offset), would be too
    /// long, or has a length that does not fit into the field; otherwise as [`check`](Self::check).
    fn encode(&self, mut frame: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
        self.check()?;
        frame.commit_all();
        let number = self.length_value(frame.len())?;
        if self.offset > 0 {
            output.append(frame.split_to(self.offset)?);
        }
        match self.order {
            ByteOrder::Big => output.put_slice(&number.to_be_bytes()[MAX_WIDTH - self.width..]),
            ByteOrder::Little => output.put_slice(&number.to_le_bytes()[..self.width]),
        }
        append_frame(frame, output);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
