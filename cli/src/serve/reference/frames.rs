// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frames of the reference server: a 4-byte big-endian length and that many bytes.
//!
//! The response to a frame is the frame itself, so a run of whole frames is answered by one copy of
//! the run. A scan therefore reports only the length of that run and the kind of the bytes after
//! it. It allocates nothing and copies nothing.

/// The length in front of every frame.
pub(crate) const HEADER_LEN: usize = 4;

/// The longest payload; a frame with a longer one is rejected.
pub(crate) const MAX_PAYLOAD: usize = 4 << 20;

/// The length of the whole frames, and the kind of the bytes after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameScan {
    /// Length of the whole frames in bytes, from the start.
    pub(crate) whole: usize,
    /// The frame that the bytes after them begin.
    pub(crate) next: FollowingFrame,
}

/// The frame after the last whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowingFrame {
    /// The header is incomplete.
    IncompleteHeader,
    /// An incomplete frame of this many bytes, header included.
    Frame(usize),
    /// A length that is rejected.
    TooLong,
}

/// Scans the frames at the start of `bytes`. Costs a few instructions a frame.
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
    fn the_longest_payload_is_accepted_and_one_byte_more_is_rejected() {
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
