// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of requests, built once for all connections.
//!
//! All requests are equal, so the output of a connection is periodic: any unsent range of it is a
//! part of one repeating pattern. The pattern holds several requests, so that a batch goes out in a
//! single `send`. A connection stores only the offset of its stream in a request.

use crate::arguments::Protocol;

/// The bytes of a run's requests, and the shape of the responses.
#[derive(Debug)]
pub(crate) struct RequestPattern {
    /// Whole requests, concatenated; at least one.
    pattern: Vec<u8>,
    /// Length of one request in bytes, header included; at least 1.
    length: usize,
    /// The header of a request and of its response. Empty for echo.
    header: Vec<u8>,
}

impl RequestPattern {
    /// Builds requests of `size` payload bytes, of which about `batch` are sent at a time.
    pub(crate) fn new(protocol: Protocol, size: usize, batch: usize) -> Self {
        let header = match protocol {
            Protocol::Echo => Vec::new(),
            // The command line limits a payload to far less than four bytes can express.
            Protocol::Rpc | Protocol::Mux => (size as u32).to_be_bytes().to_vec(),
        };
        // Varying bytes, so that neither a page of zeroes nor a compressing network flatters the
        // result.
        let payload = (0..size).map(|at| (at * 7 + at / 251) as u8);
        let request: Vec<u8> = header.iter().copied().chain(payload).collect();
        let length = request.len();
        debug_assert!(length > 0, "the command line rejects an empty echo request");
        let fitting = (LONGEST_PATTERN / length).max(1);
        Self {
            pattern: request.repeat(batch.clamp(1, fitting)),
            length,
            header,
        }
    }

    /// Returns the length of one request and of one response in bytes, header included.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Returns the header that every response begins with.
    #[inline]
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Returns the next bytes of a stream that is `phase` bytes into a request and has `unsent`
    /// bytes to send. The result is shorter if the pattern ends first; it is empty only if nothing
    /// is unsent.
    #[inline]
    pub(crate) fn next_bytes(&self, phase: usize, unsent: usize) -> &[u8] {
        let end = self.pattern.len().min(phase.saturating_add(unsent));
        &self.pattern[phase..end]
    }
}

/// About as much as a socket takes in one `send`, and small enough for the cache.
const LONGEST_PATTERN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_request_is_its_length_and_that_many_bytes() {
        let requests = RequestPattern::new(Protocol::Rpc, 5, 3);
        assert_eq!(requests.length(), 9);
        assert_eq!(requests.next_bytes(0, 4), [0, 0, 0, 5]);
        assert_eq!(requests.next_bytes(0, usize::MAX).len(), 27);
    }

    #[test]
    fn an_empty_rpc_request_is_its_header() {
        let requests = RequestPattern::new(Protocol::Rpc, 0, 2);
        assert_eq!(requests.next_bytes(0, 100), [0; 8]);
    }

    #[test]
    fn a_stream_continues_in_the_middle_of_a_request() {
        let requests = RequestPattern::new(Protocol::Echo, 4, 2);
        let whole = requests.next_bytes(0, 8).to_vec();
        assert_eq!(requests.next_bytes(3, 5), &whole[3..]);
        assert_eq!(whole[..4], whole[4..]);
    }

    #[test]
    fn the_pattern_of_large_requests_is_one_request() {
        let requests = RequestPattern::new(Protocol::Rpc, 1 << 20, 64);
        assert_eq!(requests.next_bytes(0, usize::MAX).len(), (1 << 20) + 4);
    }
}
