// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`FixedSize`]: frames of one fixed size.

use std::io;

use netpoll_buffer::LinkBuffer;

use super::{Codec, EncodeError, Need};
use crate::error::InvalidConfig;

/// Frames of a fixed number of bytes, with nothing between them.
///
/// ```
/// use netpoll::buffer::LinkBuffer;
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
    /// Creates a codec for frames of `size` bytes, at least one.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size }
    }

    /// Checks the settings. Every use does the same check.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`](crate::error::ErrorKind::InvalidConfig), naming `size`, if it
    /// is 0.
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

    /// Returns the bytes unchanged.
    ///
    /// # Errors
    ///
    /// None.
    fn decode(&self, bytes: LinkBuffer) -> io::Result<LinkBuffer> {
        Ok(bytes)
    }

    /// Appends the frame without a copy.
    ///
    /// # Errors
    ///
    /// [`EncodeError::WrongSize`] for a frame of another size; otherwise as [`check`](Self::check).
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
    use crate::codec::{encode_error, rejected_field};

    #[test]
    fn frame_is_complete_with_its_last_byte() {
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
    fn frame_of_wrong_size_is_rejected_and_adds_nothing() {
        let codec = FixedSize::new(3);
        let mut output = LinkBuffer::from(b"before".to_vec());
        for wrong in [0, 2, 4] {
            let frame = LinkBuffer::from(vec![0; wrong]);
            let error = codec.encode(frame, &mut output).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let expected = EncodeError::WrongSize {
                have: wrong,
                size: 3,
            };
            assert_eq!(encode_error(&error), expected);
        }
        assert_eq!(output.len(), 6);
        let mut frame = LinkBuffer::from(b"ab".to_vec());
        frame.reserve(1).unwrap();
        codec.encode(frame, &mut output).unwrap();
        assert_eq!(
            output.next(9).unwrap(),
            b"beforeab\0",
            "uncommitted bytes are encoded too"
        );
    }

    #[test]
    fn zero_size_is_rejected_by_field() {
        let codec = FixedSize::new(0);
        assert_eq!(rejected_field(&codec, codec.check()), "size");
    }
}
