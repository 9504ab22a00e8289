// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where frames begin and end: a 4-byte big-endian length, and that many bytes.
//!
//! As the answer to a frame is the frame itself, a run of whole frames is answered by one copy of
//! the run; so all that is asked of the bytes is how far the whole frames reach and what comes
//! after them. Nothing is allocated and nothing is copied here.

/// The length in front of every frame.
pub(crate) const HEADER_LEN: usize = 4;

/// A frame whose payload is longer is refused.
pub(crate) const MAX_PAYLOAD: usize = 4 << 20;

/// How far whole frames reach, and what comes after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameScan {
    /// Bytes of whole frames, counted from the start.
    pub(crate) whole: usize,
    /// What the bytes after them are the start of.
    pub(crate) next: FollowingFrame,
}

/// What comes after the last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowingFrame {
    /// Not enough of a header to know.
    IncompleteHeader,
    /// A frame of so many bytes, header included, of which some are missing.
    Frame(usize),
    /// A length that is refused.
    TooLong,
}

/// Measures the frames at the front of `bytes`. Costs a few instructions a frame.
#[inline]
pub(crate) fn scan(bytes: &[u8]) -> FrameScan {
    let mut whole = 0;
    let next = loop {
        let rest = &bytes[whole..];
        let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
            break FollowingFrame::IncompleteHeader;
        };
        let payload = u32::from_be_bytes(*header) as usize;
        if payload > MAX_PAYLOAD {
            break FollowingFrame::TooLong;
        }
        if rest.len() < HEADER_LEN + payload {
            break FollowingFrame::Frame(HEADER_LEN + payload);
        }
        whole += HEADER_LEN + payload;
    };
    FrameScan { whole, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn whole_frames_are_counted_to_the_last_byte() {
        let two = [frame(b"abc"), frame(b"")].concat();
        let measured = scan(&two);
        assert_eq!(
            (measured.whole, measured.next),
            (11, FollowingFrame::IncompleteHeader)
        );
    }

    #[test]
    fn every_prefix_of_a_frame_is_the_start_of_that_frame() {
        let frame = frame(b"abcdef");
        for cut in 0..frame.len() {
            let measured = scan(&frame[..cut]);
            let next = if cut < HEADER_LEN {
                FollowingFrame::IncompleteHeader
            } else {
                FollowingFrame::Frame(10)
            };
            assert_eq!((measured.whole, measured.next), (0, next), "{cut}");
        }
    }

    #[test]
    fn the_longest_payload_is_taken_and_one_byte_more_is_refused() {
        let longest = u32::try_from(MAX_PAYLOAD).unwrap();
        assert_eq!(
            scan(&longest.to_be_bytes()).next,
            FollowingFrame::Frame(HEADER_LEN + MAX_PAYLOAD)
        );
        let mut bytes = frame(b"ok");
        bytes.extend_from_slice(&(longest + 1).to_be_bytes());
        let measured = scan(&bytes);
        assert_eq!(
            (measured.whole, measured.next),
            (6, FollowingFrame::TooLong)
        );
    }
}
