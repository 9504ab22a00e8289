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
mod tests {
    use super::*;
    use crate::codec::{encode_error, frame_too_large, rejected_field};

    fn orders(width: usize) -> [LengthField; 2] {
        let big = LengthField::new().width(width);
        [big, big.little_endian()]
    }

    /// Returns `number` as the codec's length field.
    fn field(codec: &LengthField, number: u64) -> Vec<u8> {
        let mut bytes = number.to_be_bytes()[MAX_WIDTH - codec.width..].to_vec();
        if codec.order == ByteOrder::Little {
            bytes.reverse();
        }
        bytes
    }

    /// Returns `bytes` in two segments, split before byte `at`.
    fn split(bytes: &[u8], at: usize) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        buffer.push(bytes[..at].to_vec().into());
        buffer.push(bytes[at..].to_vec().into());
        buffer
    }

    #[test]
    fn every_width_and_byte_order_round_trips_at_any_split() {
        let adjusted = |width: usize| [0, -(width as i64), -(width as i64) - 3, 4];
        for codec in (1..=MAX_WIDTH).flat_map(orders) {
            for (offset, adjustment) in [0, 1, 3, 9]
                .into_iter()
                .flat_map(|offset| adjusted(codec.width).map(|adjustment| (offset, adjustment)))
            {
                let codec = codec.offset(offset).adjustment(adjustment);
                let (header, body) = (&b"headers.."[..offset], b"a body");
                let number = (body.len() as i64 - adjustment) as u64;
                let stream = [header, &field(&codec, number), body, b"more"].concat();
                let whole = offset + codec.width + body.len();
                for at in 0..=stream.len() {
                    let mut input = split(&stream, at);
                    assert_eq!(codec.measure(&input).unwrap(), Need::Frame(whole));
                    let frame = codec.decode(input.split_to(whole).unwrap()).unwrap();
                    assert_eq!(input.next(4).unwrap(), b"more");
                    let mut output = LinkBuffer::from(b"before".to_vec());
                    codec.encode(frame, &mut output).unwrap();
                    output.skip(6).unwrap();
                    assert_eq!(output.peek(whole).unwrap(), &stream[..whole]);
                    let mut frame = codec.decode(output).unwrap();
                    let both = [header, body].concat();
                    assert_eq!(frame.len(), both.len());
                    assert_eq!(frame.next(both.len()).unwrap(), both);
                }
            }
        }
    }

    #[test]
    fn partial_frame_reports_the_known_length() {
        for codec in (1..=MAX_WIDTH).flat_map(orders) {
            let codec = codec.offset(2);
            let head = 2 + codec.width;
            let stream = [b"ab", &field(&codec, 5)[..], b"12345"].concat();
            for have in 0..stream.len() {
                let need = Need::More(if have < head { head } else { head + 5 });
                for at in 0..=have {
                    let input = split(&stream[..have], at);
                    assert_eq!(codec.measure(&input).unwrap(), need, "{have} split at {at}");
                }
            }
        }
    }

    #[test]
    fn maximum_is_inclusive() {
        let codec = LengthField::new().offset(1).maximum(10);
        let stream = |number: u32| [b"h", &number.to_be_bytes()[..]].concat();
        let fits = codec.measure(&stream(5).into()).unwrap();
        assert_eq!(fits, Need::More(10));
        let error = codec.measure(&stream(6).into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(frame_too_large(&error), (10, 11));
        let mut output = LinkBuffer::new();
        codec.encode(vec![0; 6].into(), &mut output).unwrap();
        assert_eq!(output.len(), 10);
        let error = codec.encode(vec![0; 7].into(), &mut output).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let expected = EncodeError::TooLong {
            whole: 11,
            maximum: 10,
        };
        assert_eq!(encode_error(&error), expected);
        assert_eq!(output.len(), 10, "nothing was appended");
    }

    #[test]
    fn no_length_overflows() {
        for codec in orders(8) {
            for adjustment in [i64::MIN, -1, 0, 1, i64::MAX] {
                let codec = codec.adjustment(adjustment).maximum(usize::MAX);
                for number in [u64::MAX, u64::MAX - 8, 1 << 63] {
                    let input = LinkBuffer::from(field(&codec, number));
                    let body = i128::from(number) + i128::from(adjustment);
                    match usize::try_from(body + MAX_WIDTH as i128) {
                        Ok(MAX_WIDTH) => {
                            assert_eq!(codec.measure(&input).unwrap(), Need::Frame(MAX_WIDTH));
                        }
                        Ok(whole) => {
                            assert_eq!(codec.measure(&input).unwrap(), Need::More(whole));
                        }
                        Err(_beyond) => {
                            let error = codec.measure(&input).unwrap_err();
                            assert_eq!(frame_too_large(&error).1, usize::MAX);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn negative_length_is_rejected() {
        let codec = LengthField::new().adjustment(-4);
        let needs = |number: u32| codec.measure(&number.to_be_bytes().to_vec().into());
        assert_eq!(needs(4).unwrap(), Need::Frame(4));
        for number in 0..4 {
            let error = needs(number).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let Some(&ErrorKind::NegativeLength { value, adjustment }) = ErrorKind::payload(&error)
            else {
                panic!("{error:?}");
            };
            assert_eq!((value, adjustment), (number.into(), -4));
        }
    }

    #[test]
    fn length_overflow_is_rejected_and_adds_nothing() {
        let overflow = |value, largest| EncodeError::LengthOverflow { value, largest };
        let cases = [
            (LengthField::new().width(1), 256, overflow(256, 255)),
            (
                LengthField::new().adjustment(4),
                3,
                overflow(-1, 0xffff_ffff),
            ),
            (
                LengthField::new().width(1).adjustment(-2),
                254,
                overflow(256, 255),
            ),
            (
                LengthField::new().offset(3),
                2,
                EncodeError::TooShort { have: 2, offset: 3 },
            ),
        ];
        for (codec, length, expected) in cases {
            let mut output = LinkBuffer::from(b"before".to_vec());
            let frame = LinkBuffer::from(vec![0; length]);
            let error = codec.encode(frame, &mut output).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(encode_error(&error), expected);
            assert_eq!(output.len(), 6);
        }
    }

    #[test]
    fn uncommitted_bytes_are_part_of_the_frame() {
        let codec = LengthField::new().width(1);
        let mut frame = LinkBuffer::new();
        frame.put_str("ab");
        frame.reserve(1).unwrap();
        frame.put_str("c");
        let mut output = LinkBuffer::new();
        codec.encode(frame, &mut output).unwrap();
        assert_eq!(output.next(5).unwrap(), b"\x04ab\0c");
    }

    #[test]
    fn empty_frame_holds_no_memory() {
        let pool = netpoll_buffer::Pool::default();
        let own = pool.clone();
        let thread = std::thread::spawn(move || {
            own.enter();
            let codec = LengthField::new();
            let mut bytes = LinkBuffer::new();
            bytes.put_u32(0);
            bytes.return_tail();
            codec.decode(bytes).unwrap()
        });
        let frame = thread.join().unwrap();
        assert_eq!(frame.len(), 0);
        assert_eq!(pool.stats().in_use, 0);
    }

    #[test]
    fn invalid_options_are_rejected_by_field() {
        let codec = LengthField::new();
        let cases = [
            (codec.width(0), "width"),
            (codec.width(9), "width"),
            (codec.width(usize::MAX), "width"),
            (codec.maximum(3), "offset"),
            (codec.offset((4 << 20) - 3), "offset"),
            (codec.offset(usize::MAX), "offset"),
            (codec.width(1).adjustment(-256), "adjustment"),
            (codec.adjustment((4 << 20) - 3), "adjustment"),
            (codec.adjustment(i64::MAX), "adjustment"),
        ];
        for (codec, field) in cases {
            assert_eq!(rejected_field(&codec, codec.check()), field, "{codec:?}");
        }
        for codec in [
            codec.maximum(4),
            codec.offset((4 << 20) - 4),
            codec.width(1).adjustment(-255),
            codec.adjustment((4 << 20) - 4),
            codec.width(8).adjustment(i64::MIN),
        ] {
            codec.check().unwrap();
        }
    }
}
