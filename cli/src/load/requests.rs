// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes out: the bytes of requests, built once for all connections.
//!
//! All requests are alike, so the outgoing stream of a connection is periodic: whatever is due is a
//! piece of one repeating pattern. Several requests laid end to end let a burst go out in a single
//! `send`, and a connection only remembers where in a request its stream stands.

use crate::arguments::Protocol;

/// The bytes of the requests of a run, and the shape of the answers.
#[derive(Debug)]
pub(crate) struct RequestPattern {
    /// Whole requests, end to end; at least one.
    pattern: Vec<u8>,
    /// Bytes of one request, header included; at least one.
    length: usize,
    /// The header of a request, which is that of its answer too. Empty for echo.
    header: Vec<u8>,
}

impl RequestPattern {
    /// Requests of `size` payload bytes, of which about `burst` go out at a time.
    pub(crate) fn new(protocol: Protocol, size: usize, burst: usize) -> Self {
        let header = match protocol {
            Protocol::Echo => Vec::new(),
            // The command line bounds a payload far below what four bytes can say.
            Protocol::Rpc | Protocol::Mux => (size as u32).to_be_bytes().to_vec(),
        };
        // Bytes that change, so that neither a page of zeroes nor a compressing link flatters.
        let payload = (0..size).map(|at| (at * 7 + at / 251) as u8);
        let request: Vec<u8> = header.iter().copied().chain(payload).collect();
        let length = request.len();
        debug_assert!(
            length > 0,
            "an echo of nothing is refused by the command line"
        );
        let fitting = (LONGEST_PATTERN / length).max(1);
        Self {
            pattern: request.repeat(burst.clamp(1, fitting)),
            length,
            header,
        }
    }

    /// Bytes of one request and of one answer, header included.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The header that every answer begins with.
    #[inline]
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// The next bytes of a stream that stands `phase` bytes into a request and has `unsent` bytes
    /// to go. Shorter than that when the pattern ends first; never empty while something is unsent.
    #[inline]
    pub(crate) fn next_bytes(&self, phase: usize, unsent: usize) -> &[u8] {
        let end = self.pattern.len().min(phase.saturating_add(unsent));
        &self.pattern[phase..end]
    }
}

/// What one `send` can put into a socket at most, by and large, and stays in the cache.
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
    fn a_stream_goes_on_in_the_middle_of_a_request() {
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
