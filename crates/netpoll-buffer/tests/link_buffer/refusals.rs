// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rejected call returns its reason, and has consumed and added nothing.

use std::io;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, NotEnoughData, OutOfRange, TooLarge};

use crate::support::{contents, in_own_pool, pattern, places, put, reason, segmented};

type Read = fn(&mut LinkBuffer, usize) -> io::Result<()>;

/// All reads with a length argument.
const READS: [(&str, Read); 8] = [
    ("peek", |buffer, n| buffer.peek(n).map(drop)),
    ("next", |buffer, n| buffer.next(n).map(drop)),
    ("skip", |buffer, n| buffer.skip(n)),
    ("slice", |buffer, n| buffer.slice(n).map(drop)),
    ("split_to", |buffer, n| buffer.split_to(n).map(drop)),
    ("read_vec", |buffer, n| buffer.read_vec(n).map(drop)),
    ("read_string", |buffer, n| buffer.read_string(n).map(drop)),
    ("read_exact", |buffer, n| {
        buffer.read_exact(&mut vec![0; n.min(1 << 20)])
    }),
];

#[test]
fn a_read_of_more_than_readable_is_an_error_and_consumes_nothing() {
    for (name, read) in READS {
        for have in [0, 1, 6] {
            for need in [have + 1, 1 << 20, usize::MAX] {
                let mut buffer = segmented(&[b"abc", b"def"]);
                buffer.skip(6 - have).unwrap();
                let before = places(&buffer);
                let kind = io::ErrorKind::UnexpectedEof;
                let short: NotEnoughData = reason(read(&mut buffer, need), kind);
                assert_eq!(short.have, have, "{name}");
                if name != "read_exact" {
                    assert_eq!(short.need, need, "{name}");
                }
                assert_eq!(places(&buffer), before, "{name}");
                assert_eq!(contents(&buffer), &b"abcdef"[6 - have..], "{name}");
            }
        }
    }
}

#[test]
fn a_number_with_a_missing_byte_is_an_error_and_consumes_nothing() {
    let numbers: [(usize, Read); 7] = [
        (1, |buffer, _| buffer.read_u8().map(drop)),
        (2, |buffer, _| buffer.read_u16().map(drop)),
        (2, |buffer, _| buffer.read_u16_le().map(drop)),
        (4, |buffer, _| buffer.read_u32().map(drop)),
        (4, |buffer, _| buffer.read_u32_le().map(drop)),
        (8, |buffer, _| buffer.read_u64().map(drop)),
        (8, |buffer, _| buffer.read_u64_le().map(drop)),
    ];
    for (need, read) in numbers {
        for have in 0..need {
            let pieces: Vec<&[u8]> = vec![b"x"; have];
            let mut buffer = segmented(&pieces);
            let short: NotEnoughData = reason(read(&mut buffer, 0), io::ErrorKind::UnexpectedEof);
            assert_eq!(short, NotEnoughData::new(have, need));
            assert_eq!(contents(&buffer), pieces.concat());
        }
    }
}

#[test]
fn a_rejected_read_leaves_its_target_unchanged() {
    let mut buffer = put(b"abc");
    let mut target = [7; 4];
    let short: NotEnoughData = reason(buffer.read_exact(&mut target), io::ErrorKind::UnexpectedEof);
    assert_eq!(short, NotEnoughData::new(3, 4));
    assert_eq!(target, [7; 4]);
}

#[test]
fn a_rejected_read_allocates_nothing() {
    in_own_pool(|pool| {
        let mut buffer = segmented(&[b"abc", b"def"]);
        for (name, read) in READS {
            read(&mut buffer, usize::MAX).unwrap_err();
            assert_eq!(pool.stats().peak, 0, "{name}");
        }
    });
}

#[test]
fn bytes_that_are_not_text_stay() {
    let mut buffer = segmented(&[b"good \xff", b" bad"]);
    let error = buffer.read_string(10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.get_ref().unwrap().is::<std::str::Utf8Error>());
    assert_eq!(contents(&buffer), b"good \xff bad");
    assert_eq!(buffer.read_string(5).unwrap(), "good ");
}

#[test]
fn an_unterminated_line_is_short_by_one() {
    let mut buffer = segmented(&[b"no", b" end"]);
    let short: NotEnoughData = reason(buffer.until(b'\n', 7), io::ErrorKind::UnexpectedEof);
    assert_eq!(short, NotEnoughData::new(6, 7));
    assert_eq!(contents(&buffer), b"no end");
}

#[test]
fn a_line_longer_than_its_limit_is_too_large() {
    let mut buffer = segmented(&[b"abc", b"def\n"]);
    for limit in 0..7 {
        let large: TooLarge = reason(buffer.until(b'\n', limit), io::ErrorKind::InvalidData);
        assert_eq!(large, TooLarge::new(limit, limit + 1));
        assert_eq!(contents(&buffer), b"abcdef\n");
    }
    assert_eq!(buffer.until(b'\n', 7).unwrap(), b"abcdef\n");
}

#[test]
fn a_reservation_above_the_limit_is_too_large_and_opens_nothing() {
    let mut buffer = put(b"abc");
    for asked in [(1 << 30) + 1, usize::MAX] {
        let large: TooLarge = reason(buffer.reserve(asked), io::ErrorKind::InvalidData);
        assert_eq!(large, TooLarge::new(1 << 30, asked));
    }
    buffer.put_u8(b'd');
    assert_eq!(contents(&buffer), b"abcd", "no reservation is open");
}

#[test]
fn a_commit_of_more_than_uncommitted_changes_nothing() {
    let mut buffer = put(b"abc");
    let mut hole = None;
    for there in [0, 5] {
        if there == 5 {
            hole = Some(buffer.reserve(5).unwrap());
        }
        for asked in [there + 1, usize::MAX] {
            let range: OutOfRange = reason(buffer.commit(asked), io::ErrorKind::InvalidInput);
            assert_eq!((range.uncommitted, range.asked), (there, asked));
            assert_eq!((buffer.len(), buffer.uncommitted_len()), (3, there));
        }
    }
    let hole = hole.unwrap();
    buffer.get_mut(&hole).unwrap().copy_from_slice(b"defgh");
    buffer.commit(5).unwrap();
    assert_eq!(contents(&buffer), b"abcdefgh");
}

#[test]
fn an_insert_past_the_end_changes_nothing() {
    let mut buffer = put(b"abc");
    let refused = |buffer: &mut LinkBuffer, there| {
        for asked in [there + 1, usize::MAX] {
            let insert = buffer.insert(asked, Bytes::from_static(b"no"));
            let range: OutOfRange = reason(insert, io::ErrorKind::InvalidInput);
            assert_eq!((range.uncommitted, range.asked), (there, asked));
        }
    };
    refused(&mut buffer, 0);
    buffer.reserve(2).unwrap();
    refused(&mut buffer, 2);
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"abc\0\0");
}

#[test]
fn a_peek_above_the_largest_block_is_too_large() {
    // The same MiB, repeated to exceed 4 GiB without using that much memory.
    let piece = Bytes::from(pattern(1 << 20));
    let mut buffer = LinkBuffer::new();
    for _ in 0..4097 {
        buffer.push(piece.clone());
    }
    let asked = u32::MAX as usize + 1;
    let limit = u32::MAX as usize;
    let peeked: TooLarge = reason(buffer.peek(asked), io::ErrorKind::InvalidData);
    assert_eq!(peeked, TooLarge::new(limit, asked));
    let taken: TooLarge = reason(buffer.next(asked), io::ErrorKind::InvalidData);
    assert_eq!(taken, TooLarge::new(limit, asked));
    assert_eq!(buffer.len(), 4097 << 20);
    assert_eq!(buffer.split_to(asked).unwrap().len(), asked);
}

#[test]
fn every_error_message_contains_its_numbers() {
    let mut buffer = put(b"abc");
    let short = buffer.next(5).unwrap_err().to_string();
    assert_eq!(short, "5 bytes were requested and 3 are readable");
    let large = buffer.until(b'x', 2).unwrap_err().to_string();
    assert_eq!(large, "3 bytes were requested and the limit is 2");
    let range = buffer.commit(9).unwrap_err().to_string();
    assert_eq!(range, "9 was requested and 0 bytes are uncommitted");
}
