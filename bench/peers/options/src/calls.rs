// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handler of a connection, of the kinds `rpc` and `heavy`: the whole frames at the front of what
//! was read become answers in memory of their own, as a handler that computes its answers would put
//! them there. Who reads and who sends is the peer's business.

use std::error::Error;
use std::fmt;
use std::io;

use crate::{Kind, burn};

/// The most bytes of one frame.
pub const MAX_FRAME: usize = 64 << 20;

/// The bytes of a frame's length.
const HEADER: usize = 4;

/// Every so many requests of a connection of kind `heavy`, one burns.
const HEAVY_EVERY: u64 = 10;

/// The calls of one connection.
#[derive(Debug)]
pub struct Calls {
    kind: Kind,
    count: u64,
}

impl Calls {
    /// None so far.
    pub fn of(kind: Kind) -> Self {
        Self { kind, count: 0 }
    }

    /// Appends the answers to all whole frames at the front of `input` to `answers`; returns how many
    /// bytes of `input` they were.
    ///
    /// # Errors
    ///
    /// [`TooLong`], for a frame that the connection is to be closed for.
    pub fn answer(&mut self, input: &[u8], answers: &mut Vec<u8>) -> Result<usize, TooLong> {
        let mut taken = 0;
        while let Some(len) = frame_len(&input[taken..])? {
            let Some(frame) = input.get(taken..taken + len) else {
                break;
            };
            self.next();
            answers.extend_from_slice(frame);
            taken += len;
        }
        Ok(taken)
    }

    /// How many bytes are missing to the frame that `input` begins with; 0 if that is not known yet.
    /// Room for so many lets a large frame come with few reads.
    pub fn missing(input: &[u8]) -> usize {
        let len = frame_len(input).ok().flatten();
        len.map_or(0, |len| len.saturating_sub(input.len()))
    }

    /// Does what the next request asks for, besides its answer.
    pub fn next(&mut self) {
        self.count += 1;
        if self.kind == Kind::Heavy && self.count.is_multiple_of(HEAVY_EVERY) {
            burn();
        }
    }
}

/// The bytes of the frame that `input` begins with, its header among them; `None` if the header is
/// not there.
fn frame_len(input: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(header) = input.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*header) as usize;
    if len > MAX_FRAME {
        return Err(TooLong);
    }
    Ok(Some(HEADER + len))
}

/// A frame of more than [`MAX_FRAME`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of more than {MAX_FRAME} bytes")
    }
}

impl Error for TooLong {}

impl From<TooLong> for io::Error {
    fn from(error: TooLong) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use super::{Calls, TooLong};
    use crate::Kind;

    #[test]
    fn whole_frames_are_answered_and_half_a_frame_is_left() {
        let mut answers = Vec::new();
        let input = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03x";
        let taken = Calls::of(Kind::Rpc).answer(input, &mut answers);
        assert_eq!(taken, Ok(10));
        assert_eq!(answers, input[..10]);
        assert_eq!(Calls::missing(&input[10..]), 2);
    }

    #[test]
    fn a_frame_of_a_byte_too_many_is_refused_before_it_has_come() {
        let mut answers = Vec::new();
        let input = (super::MAX_FRAME as u32 + 1).to_be_bytes();
        assert_eq!(
            Calls::of(Kind::Rpc).answer(&input, &mut answers),
            Err(TooLong)
        );
    }
}
