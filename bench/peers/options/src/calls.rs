// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request handler of a connection, for the kinds `rpc` and `heavy`. It copies the complete
//! frames at the front of the input to the output, as a handler that computes its responses would
//! write them. Reading and sending are up to the peer.

use std::error::Error;
use std::fmt;
use std::io;

use crate::{Kind, burn};

/// The maximum size of a frame in bytes.
pub const MAX_FRAME: usize = 64 << 20;

/// The size of a frame's length in bytes.
const HEADER: usize = 4;

/// One in this many requests of a `heavy` connection burns processor time.
const HEAVY_EVERY: u64 = 10;

/// The request handler of one connection.
#[derive(Debug)]
pub struct Calls {
    kind: Kind,
    count: u64,
}

impl Calls {
    /// Creates a handler without requests so far.
    pub fn of(kind: Kind) -> Self {
        Self { kind, count: 0 }
    }

    /// Appends the responses to all complete frames at the front of `input` to `answers`. Returns
    /// the length of these frames in bytes.
    ///
    /// # Errors
    ///
    /// [`TooLong`] if the connection has to be closed because of a frame.
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

    /// Returns the number of missing bytes of the frame that `input` begins with; 0 if its header
    /// is incomplete. Reserving so much lets a large frame arrive in few reads.
    pub fn missing(input: &[u8]) -> usize {
        let len = frame_len(input).ok().flatten();
        len.map_or(0, |len| len.saturating_sub(input.len()))
    }

    /// Does the work of the next request, apart from its response.
    pub fn next(&mut self) {
        self.count += 1;
        if self.kind == Kind::Heavy && self.count.is_multiple_of(HEAVY_EVERY) {
            burn();
        }
    }
}

/// Returns the size in bytes of the frame that `input` begins with, header included; `None` if the
/// header is incomplete.
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
