// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Delimiter`]: frames that end where certain bytes come.

use std::io;

use netpoll_buffer::{LinkBuffer, TooLarge};

use super::{Codec, DEFAULT_MAX_FRAME, EncodeError, Need};
use crate::error::InvalidConfig;

/// Frames that end with a delimiter of one or more bytes, which is no part of them.
///
/// The delimiter is found across the pieces in which it came. The search is one pass: a frame that
/// comes in drops is looked through once, not once for each of them.
///
/// ```
/// use netpoll::LinkBuffer;
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
    /// Frames that end with `delimiter`, of at most 4 MiB with it. One small allocation.
    #[must_use]
    pub fn new(delimiter: &[u8]) -> Self {
        Self {
            bytes: delimiter.into(),
            maximum: DEFAULT_MAX_FRAME,
        }
    }

    /// The most bytes of a frame in the stream, its delimiter included.
    #[must_use]
    pub fn maximum(mut self, maximum: usize) -> Self {
        self.maximum = maximum;
        self
    }

    /// Whether this can work. Every use asks the same.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming the `delimiter` if that has no bytes, and the `maximum` if the
    /// delimiter is longer.
    pub fn check(&self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Err(InvalidConfig::new("delimiter", "must have at least 1 byte").into());
        }
        if self.maximum < self.bytes.len() {
            return Err(InvalidConfig::new("maximum", "must not be below the delimiter's").into());
        }
        Ok(())
    }
}

impl Codec for Delimiter {
    type Frame = LinkBuffer;

    /// # Errors
    ///
    /// [`TooLarge`] if the first [`maximum`](Self::maximum) bytes do not have the delimiter; as
    /// [`check`](Self::check).
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.measure_from(input, 0)
    }

    fn measure_from(&self, input: &LinkBuffer, seen: usize) -> io::Result<Need> {
        self.check()?;
        let (length, have) = (self.bytes.len(), input.len());
        // What was seen may end with a part of the delimiter.
        let from = seen.saturating_sub(length - 1);
        match input.position_of_slice(&self.bytes, from, self.maximum) {
            Some(at) => Ok(Need::Frame(at + length)),
            None if have >= self.maximum => {
                let asked = self.maximum.saturating_add(1);
                Err(TooLarge::new(self.maximum, asked).into())
            }
            None => Ok(Need::More(length.max(have + 1))),
        }
    }

    /// The bytes before the delimiter. No copy.
    ///
    /// # Errors
    ///
    /// [`NotEnoughData`](crate::NotEnoughData) for fewer bytes than the delimiter has.
    fn decode(&self, mut bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        let length = bytes.len().checked_sub(self.bytes.len());
        bytes.split_to(length.unwrap_or(usize::MAX))
    }

    /// Appends without a copy of the frame, after a search through it.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], if the frame would be too long or end early: it has the delimiter, or ends
    /// with what is one together with the first bytes of the one behind it. As
    /// [`check`](Self::check).
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
    use crate::codec::rejected_field;

    /// `bytes` in two pieces, cut before byte `at`.
    fn cut(bytes: &[u8], at: usize) -> LinkBuffer {
        let mut buffer = LinkBuffer::new();
        buffer.push(bytes[..at].to_vec().into());
        buffer.push(bytes[at..].to_vec().into());
        buffer
    }

    #[test]
    fn a_delimiter_is_seen_with_its_last_byte_wherever_it_is_cut() {
        for delimiter in [&b"\n"[..], b"\r\n", b"--end--"] {
            let codec = Delimiter::new(delimiter);
            let stream = [b"one", delimiter, b"two"].concat();
            let whole = 3 + delimiter.len();
            for at in 0..=stream.len() {
                for have in 0..whole {
                    let input = cut(&stream[..have], at.min(have));
                    let more = Need::More(delimiter.len().max(have + 1));
                    assert_eq!(codec.measure(&input).unwrap(), more, "{have} by {at}");
                }
                let mut input = cut(&stream, at);
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
    fn what_was_seen_is_not_searched_again() {
        let codec = Delimiter::new(b"ab");
        let input = LinkBuffer::from(b"ab..ab".to_vec());
        let need = codec.measure_from(&input, 3).unwrap();
        assert_eq!(need, Need::Frame(6), "for who has asked before");
    }

    #[test]
    fn a_frame_may_be_as_long_as_the_maximum_with_its_delimiter() {
        let codec = Delimiter::new(b"\r\n").maximum(6);
        let fits = LinkBuffer::from(b"four\r\n".to_vec());
        assert_eq!(codec.measure(&fits).unwrap(), Need::Frame(6));
        for long in [&b"five!\r\n"[..], b"five!\r", b"six..."] {
            let error = codec.measure(&LinkBuffer::from(long.to_vec())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let reason = error.get_ref().and_then(|why| why.downcast_ref());
            assert_eq!(reason, Some(&TooLarge::new(6, 7)));
        }
        let mut output = LinkBuffer::new();
        let long = LinkBuffer::from(b"five!".to_vec());
        let error = codec.encode(long, &mut output).unwrap_err();
        let reason = error.get_ref().and_then(|why| why.downcast_ref());
        let expected = EncodeError::TooLong {
            whole: 7,
            maximum: 6,
        };
        assert_eq!(reason, Some(&expected));
        let fits = LinkBuffer::from(b"four".to_vec());
        codec.encode(fits, &mut output).unwrap();
        assert_eq!(output.next(6).unwrap(), b"four\r\n");
    }

    #[test]
    fn a_frame_that_would_end_early_is_refused_and_nothing_added() {
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
            for cut_at in 0..=frame.len() {
                let refused = codec.encode(cut(frame, cut_at), &mut output);
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                let reason = error.get_ref().and_then(|why| why.downcast_ref());
                assert_eq!(reason, Some(&EncodeError::ContainsDelimiter { at }));
            }
        }
        assert_eq!(output.len(), 6);
        let begins_like_it = LinkBuffer::from(b"one\r".to_vec());
        let codec = Delimiter::new(b"\r\n");
        codec.encode(begins_like_it, &mut output).unwrap();
        assert_eq!(output.next(12).unwrap(), b"beforeone\r\r\n");
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let cases = [
            (Delimiter::new(b""), "delimiter"),
            (Delimiter::new(b"\r\n").maximum(1), "maximum"),
        ];
        for (codec, field) in cases {
            assert_eq!(rejected_field(&codec, codec.check()), field);
        }
    }
}
