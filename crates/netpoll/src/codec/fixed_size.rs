// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`FixedSize`]: frames that are all as long.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{Codec, EncodeError, Need};
use crate::error::InvalidConfig;

/// Frames of so many bytes each, and nothing between them.
///
/// ```
/// use netpoll::LinkBuffer;
/// use netpoll::codec::{Codec, FixedSize, Need};
///
/// # fn main() -> std::io::Result<()> {
/// let codec = FixedSize::new(4);
/// let mut stream = LinkBuffer::from(b"onceupon".to_vec());
/// assert_eq!(codec.measure(&stream)?, Need::Frame(4));
/// assert_eq!(codec.decode(stream.split_to(4)?)?.next(4)?, b"once");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSize {
    size: usize,
}

impl FixedSize {
    /// Frames of `size` bytes, one at least.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size }
    }

    /// Whether this can work. Every use asks the same.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], naming `size`, if that is 0.
    pub fn check(&self) -> io::Result<()> {
        match self.size {
            0 => Err(InvalidConfig::new("size", "must be at least 1 byte").into()),
            _ => Ok(()),
        }
    }
}

impl Codec for FixedSize {
    type Frame = LinkBuffer;

    /// # Errors
    ///
    /// As [`check`](Self::check).
    fn measure(&self, input: &LinkBuffer) -> io::Result<Need> {
        self.check()?;
        Ok(if input.len() < self.size {
            Need::More(self.size)
        } else {
            Need::Frame(self.size)
        })
    }

    /// The bytes as they are.
    ///
    /// # Errors
    ///
    /// None.
    fn decode(&self, bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        Ok(bytes)
    }

    /// Appends without a copy.
    ///
    /// # Errors
    ///
    /// [`EncodeError::WrongSize`]; as [`check`](Self::check).
    fn encode(&self, mut frame: LinkBuffer, output: &mut LinkBuffer) -> io::Result<()> {
        self.check()?;
        frame.commit_all();
        if frame.len() != self.size {
            let (have, size) = (frame.len(), self.size);
            return Err(EncodeError::WrongSize { have, size }.into());
        }
        output.append(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::rejected_field;

    #[test]
    fn a_frame_is_there_when_its_last_byte_is() {
        let codec = FixedSize::new(3);
        let mut input = LinkBuffer::new();
        for have in 0..3 {
            assert_eq!(codec.measure(&input).unwrap(), Need::More(3), "{have}");
            input.push(vec![have].into());
        }
        assert_eq!(codec.measure(&input).unwrap(), Need::Frame(3));
        input.put_u8(9);
        assert_eq!(codec.measure(&input).unwrap(), Need::Frame(3));
        let mut frame = codec.decode(input.split_to(3).unwrap()).unwrap();
        assert_eq!(frame.next(3).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn a_frame_of_another_size_is_refused_and_nothing_added() {
        let codec = FixedSize::new(3);
        let mut output = LinkBuffer::from(b"before".to_vec());
        for wrong in [0, 2, 4] {
            let frame = LinkBuffer::from(vec![0; wrong]);
            let error = codec.encode(frame, &mut output).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let reason = error.get_ref().and_then(|why| why.downcast_ref());
            let expected = EncodeError::WrongSize {
                have: wrong,
                size: 3,
            };
            assert_eq!(reason, Some(&expected));
        }
        assert_eq!(output.len(), 6);
        let mut frame = LinkBuffer::from(b"ab".to_vec());
        frame.reserve(1).unwrap();
        codec.encode(frame, &mut output).unwrap();
        assert_eq!(output.next(9).unwrap(), b"beforeab\0", "what was open, too");
    }

    #[test]
    fn no_size_is_refused_by_name() {
        let codec = FixedSize::new(0);
        assert_eq!(rejected_field(&codec, codec.check()), "size");
    }
}
