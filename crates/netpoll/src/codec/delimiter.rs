// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Delimiter`]: frames that end with a byte sequence.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{Codec, DEFAULT_MAX_FRAME, EncodeError, Need};
use crate::error::{ErrorKind, InvalidConfig};

/// Frames that end with a delimiter of one or more bytes, which is not part of the frame.
///
/// A delimiter that is split across segments is found. The search is one pass: a frame that arrives
/// in many small parts is searched once, not once for each part.
///
/// ```
/// use netpoll::buffer::LinkBuffer;
/// use netpoll::codec::{Codec, Delimiter, Need};
///
/// # fn main() -> std::io::Result<()> {
/// let lines = Delimiter::new(b"\r\n").maximum(1000);
/// let mut stream = LinkBuffer::from(b"hello\r\nwor".to_vec());
/// assert_eq!(lines.measure(&stream)?, Need::Frame(7));
/// assert_eq!(lines.decode(stream.split_to(7)?)?.next(5)?, b"hello");
/// assert_eq!(lines.measure(&stream)?, Need::More(4));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimiter {
    bytes: Box<[u8]>,
    maximum: usize,
}

impl Delimiter {
    /// Creates a codec for frames that end with `delimiter` and have at most 4 MiB together with
    /// it. One small allocation.
    #[must_use]
    pub fn new(delimiter: &[u8]) -> Self {
        Self {
            bytes: delimiter.into(),
            maximum: DEFAULT_MAX_FRAME,
        }
    }

    /// Sets the most bytes of a frame in the stream, its delimiter included. The default is 4 MiB.
    #[must_use]
    pub fn maximum(mut self, maximum: usize) -> Self {
        self.maximum = maximum;
        self
    }

    /// Checks the settings. Every use does the same check.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming `delimiter` if
    /// it is empty, and `maximum` if it is below the delimiter's length.
    pub fn check(&self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Err(InvalidConfig::new("delimiter", "must have at least 1 byte").into());
        }
        if self.maximum < self.bytes.len() {
            return Err(
                InvalidConfig::new("maximum", "must not be below the delimiter's length").into(),
            );
        }
        Ok(())
    }
}

impl Codec for Delimiter {
    type Frame = LinkBuffer;

    /// # Errors
    ///
    /// [`ErrorKind::FrameTooLarge`] if the first
    /// [`maximum`](Self::maximum) bytes do not contain the delimiter; otherwise as
    /// [`check`](Self::check).
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.measure_from(input, 0)
    }

    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        self.check()?;
        let (length, have) = (self.bytes.len(), input.len());
        // The bytes seen may end with a part of the delimiter.
        let from = seen.saturating_sub(length - 1);
        match input.position_of_slice(&self.bytes, from, self.maximum) {
            Some(at) => Ok(Need::Frame(at + length)),
            None if have >= self.maximum => {
                let asked = self.maximum.saturating_add(1);
                Err(ErrorKind::frame_too_large("maximum", self.maximum, asked).into())
            }
            None => Ok(Need::More(length.max(have + 1))),
        }
    }

    /// Returns the bytes before the delimiter. Copies nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotEnoughData`] for fewer bytes than
    /// the delimiter has.
    fn decode(&self, mut bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        let length = bytes.len().checked_sub(self.bytes.len());
        bytes.split_to(length.unwrap_or(usize::MAX))
    }

    /// Searches the frame for the delimiter, and appends both without a copy of the frame.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if the frame would be too long or would end early: it contains the
    /// delimiter, or its last bytes and the first bytes of the appended delimiter form one.
    /// Otherwise as [`check`](Self::check).
    fn encode(&self, mut frame: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
        self.check()?;
        frame.commit_all();
        let length = frame.len();
        let whole = length.saturating_add(self.bytes.len());
        if whole > self.maximum {
            let maximum = self.maximum;
            return Err(EncodeError::TooLong { whole, maximum }.into());
        }
        frame.put_slice(&self.bytes);
        match frame.position_of_slice(&self.bytes, 0, whole) {
            Some(at) if at < length => Err(EncodeError::ContainsDelimiter { at }.into()),
            _ => {
                output.append(frame);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{encode_error, frame_too_large, rejected_field};

    /// Returns `bytes` in two segments, split before byte `at`.
    fn split(bytes: &[u8], at: usize) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        buffer.push(bytes[..at].to_vec().into());
        buffer.push(bytes[at..].to_vec().into());
        buffer
    }

    #[test]
    fn delimiter_split_at_any_byte_is_found() {
        for delimiter in [&b"\n"[..], b"\r\n", b"--end--"] {
            let codec = Delimiter::new(delimiter);
            let stream = [b"one", delimiter, b"two"].concat();
            let whole = 3 + delimiter.len();
            for at in 0..=stream.len() {
                for have in 0..whole {
                    let input = split(&stream[..have], at.min(have));
                    let more = Need::More(delimiter.len().max(have + 1));
                    assert_eq!(codec.measure(&input).unwrap(), more, "{have} split at {at}");
                }
                let mut input = split(&stream, at);
                for seen in 0..whole {
                    let need = codec.measure_from(&input, seen).unwrap();
                    assert_eq!(need, Need::Frame(whole), "{seen} were seen");
                }
                let mut frame = codec.decode(input.split_to(whole).unwrap()).unwrap();
                assert_eq!(frame.len(), 3);
                assert_eq!(frame.next(3).unwrap(), b"one");
                assert_eq!(input.next(3).unwrap(), b"two");
            }
        }
    }

    #[test]
    fn search_resumes_where_it_stopped() {
        let codec = Delimiter::new(b"ab");
        let input = LinkBuffer::from(b"ab..ab".to_vec());
        let need = codec.measure_from(&input, 3).unwrap();
        assert_eq!(
            need,
            Need::Frame(6),
            "the first delimiter is in the part that was seen"
        );
    }

    #[test]
    fn maximum_includes_the_delimiter() {
        let codec = Delimiter::new(b"\r\n").maximum(6);
        let fits = LinkBuffer::from(b"four\r\n".to_vec());
        assert_eq!(codec.measure(&fits).unwrap(), Need::Frame(6));
        for long in [&b"five!\r\n"[..], b"five!\r", b"six..."] {
            let error = codec.measure(&LinkBuffer::from(long.to_vec())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(frame_too_large(&error), (6, 7));
        }
        let mut output = LinkBuffer::new();
        let long = LinkBuffer::from(b"five!".to_vec());
        let error = codec.encode(long, &mut output).unwrap_err();
        let expected = EncodeError::TooLong {
            whole: 7,
            maximum: 6,
        };
        assert_eq!(encode_error(&error), expected);
        let fits = LinkBuffer::from(b"four".to_vec());
        codec.encode(fits, &mut output).unwrap();
        assert_eq!(output.next(6).unwrap(), b"four\r\n");
    }

    #[test]
    fn frame_containing_the_delimiter_is_rejected_and_adds_nothing() {
        let cases: [(&[u8], &[u8], usize); 5] = [
            (b"\n", b"one\ntwo", 3),
            (b"\r\n", b"\r\r\n", 1),
            (b"aa", b"a", 0),
            (b"aa", b"ba", 1),
            (b"abab", b"xab", 1),
        ];
        let mut output = LinkBuffer::from(b"before".to_vec());
        for (delimiter, frame, at) in cases {
            let codec = Delimiter::new(delimiter);
            for split_at in 0..=frame.len() {
                let rejected = codec.encode(split(frame, split_at), &mut output);
                let error = rejected.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                let expected = EncodeError::ContainsDelimiter { at };
                assert_eq!(encode_error(&error), expected);
            }
        }
        assert_eq!(output.len(), 6);
        let ends_like_a_delimiter = LinkBuffer::from(b"one\r".to_vec());
        let codec = Delimiter::new(b"\r\n");
        codec.encode(ends_like_a_delimiter, &mut output).unwrap();
        assert_eq!(output.next(12).unwrap(), b"beforeone\r\r\n");
    }

    #[test]
    fn invalid_options_are_rejected_by_field() {
        let cases = [
            (Delimiter::new(b""), "delimiter"),
            (Delimiter::new(b"\r\n").maximum(1), "maximum"),
        ];
        for (codec, field) in cases {
            assert_eq!(rejected_field(&codec, codec.check()), field);
        }
    }
}
