// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the responses in a stream. All responses have the same length.
//!
//! Only the position in the current response is stored. Headers are compared byte by byte. After a
//! header that differs, all later bytes would be misread, so counting ends there.

use std::fmt;

use super::requests::RequestPattern;

/// The position of a connection's input in the current response.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseCounter {
    /// Received bytes of the current response; less than its length.
    position: usize,
}

/// The header of a response differs from that of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongHeader;

impl fmt::Display for WrongHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response has another length than its request")
    }
}

impl ResponseCounter {
    /// Consumes the next bytes of the stream and returns the number of responses that they
    /// complete. Costs a few instructions per response, none for its payload.
    #[inline]
    pub(crate) fn consume(
        &mut self,
        bytes: &[u8],
        requests: &RequestPattern,
    ) -> Result<usize, WrongHeader> {
        let (length, header) = (requests.length(), requests.header());
        let mut rest = bytes;
        let mut completed = 0;
        while !rest.is_empty() {
            if let Some(expected) = header.get(self.position..)
                && !expected.is_empty()
            {
                let count = expected.len().min(rest.len());
                if rest[..count] != expected[..count] {
                    return Err(WrongHeader);
                }
                self.position += count;
                rest = &rest[count..];
            } else {
                let count = (length - self.position).min(rest.len());
                self.position += count;
                rest = &rest[count..];
            }
            if self.position == length {
                self.position = 0;
                completed += 1;
            }
        }
        Ok(completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Protocol;

    #[test]
    fn responses_are_counted_across_any_split_of_the_stream() {
        for protocol in [Protocol::Echo, Protocol::Rpc] {
            let requests = RequestPattern::new(protocol, 6, 5);
            let stream = requests.next_bytes(0, usize::MAX);
            for cut in 1..stream.len() {
                let mut answers = ResponseCounter::default();
                let counted: usize = stream
                    .chunks(cut)
                    .map(|piece| answers.consume(piece, &requests).unwrap())
                    .sum();
                assert_eq!(counted, 5, "pieces of {cut}");
            }
        }
    }

    #[test]
    fn empty_frames_are_counted() {
        let requests = RequestPattern::new(Protocol::Rpc, 0, 1);
        assert_eq!(
            ResponseCounter::default().consume(&[0; 12], &requests),
            Ok(3)
        );
    }

    #[test]
    fn a_different_header_is_an_error_at_its_first_wrong_byte() {
        let requests = RequestPattern::new(Protocol::Rpc, 6, 1);
        let mut answers = ResponseCounter::default();
        assert_eq!(answers.consume(&[0, 0, 0], &requests), Ok(0));
        assert_eq!(answers.consume(&[7], &requests), Err(WrongHeader));
    }
}
