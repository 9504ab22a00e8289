// SPDX-License-Identifier: MIT OR Apache-2.0
//! A buffer as `bytes::Buf` and `bytes::BufMut`.

use std::panic;

use bytes::{Buf, BufMut, Bytes};
use netpoll_buffer::LinkBuffer;
use prost::Message;

use crate::support::{BLOCK, SIZES, contents, cut, in_own_pool, pattern, places, put, slices};

#[test]
fn buf_returns_every_byte_in_order_over_all_segments() {
    let bytes = pattern(1000);
    for each in [1, 3, 7, 64, 1000] {
        let mut buffer = cut(&bytes, each);
        let mut read = Vec::new();
        while buffer.has_remaining() {
            assert_eq!(buffer.remaining(), bytes.len() - read.len());
            let chunk = buffer.chunk();
            assert!(!chunk.is_empty());
            let count = chunk.len().div_ceil(2);
            read.extend_from_slice(&chunk[..count]);
            buffer.advance(count);
        }
        assert_eq!(read, bytes);
        assert_eq!(buffer.chunk(), b"");
    }
}

#[test]
fn chunk_skips_a_consumed_segment() {
    let mut buffer = cut(b"abcdef", 3);
    buffer.next(3).unwrap();
    assert_eq!(buffer.chunk(), b"def");
}

#[test]
fn numbers_of_buf_are_those_of_the_buffer() {
    let bytes = pattern(64);
    for each in [1, 3, 64] {
        let (mut one, mut other) = (cut(&bytes, each), cut(&bytes, each));
        assert_eq!(one.get_u8(), other.read_u8().unwrap());
        assert_eq!(one.get_u16(), other.read_u16().unwrap());
        assert_eq!(one.get_u32_le(), other.read_u32_le().unwrap());
        assert_eq!(one.get_u64(), other.read_u64().unwrap());
        assert_eq!(contents(&one), contents(&other));
    }
}

#[test]
fn bytes_are_taken_out_of_one_segment_without_a_copy() {
    let mut buffer = put(&pattern(BLOCK));
    let there = places(&buffer)[0].0;
    let taken = buffer.copy_to_bytes(BLOCK / 2);
    assert_eq!(taken, pattern(BLOCK)[..BLOCK / 2]);
    assert_eq!(taken.as_ptr(), there);
    let mut pieces = cut(&pattern(100), 30);
    assert_eq!(pieces.copy_to_bytes(100), pattern(100));
    assert!(pieces.is_empty());
}

/// The trait demands a panic; the buffer is unchanged.
#[test]
fn buf_panics_on_a_short_buffer_and_consumes_nothing() {
    type Reading = fn(&mut LinkBuffer);
    let readings: [Reading; 4] = [
        |buffer| buffer.advance(4),
        |buffer| buffer.advance(usize::MAX),
        |buffer| drop(buffer.copy_to_bytes(4)),
        |buffer| buffer.copy_to_slice(&mut [0; 4]),
    ];
    for reading in readings {
        let mut buffer = cut(b"abc", 2);
        let refused = panic::catch_unwind(panic::AssertUnwindSafe(|| reading(&mut buffer)));
        assert!(refused.is_err());
        assert_eq!(contents(&buffer), b"abc");
    }
}

#[test]
fn buf_mut_puts_the_same_bytes_as_the_buffer() {
    for size in SIZES {
        let bytes = pattern(size);
        let mut buffer = put(b"<");
        BufMut::put_slice(&mut buffer, &bytes);
        buffer.put(&bytes[..]);
        buffer.put(cut(&bytes[..size.min(100)], 7));
        buffer.put_bytes(9, size);
        BufMut::put_u8(&mut buffer, b'>');
        buffer.put_i16(-2);
        let expected = [
            b"<",
            &bytes[..],
            &bytes,
            &bytes[..size.min(100)],
            &vec![9; size],
            b">\xFF\xFE",
        ];
        assert_eq!(contents(&buffer), expected.concat(), "{size}");
    }
}

#[test]
fn chunk_mut_is_never_empty_and_extends_one_segment() {
    in_own_pool(|_| {
        let mut buffer = LinkBuffer::new();
        for n in 1..=3 * BLOCK / 1000 {
            assert!(buffer.chunk_mut().len() > 0);
            assert!(buffer.remaining_mut() > buffer.len());
            buffer.put_bytes(n as u8, 1000);
        }
        assert_eq!(buffer.len(), 3 * BLOCK / 1000 * 1000);
        assert!(slices(&buffer) <= 4, "{} segments", slices(&buffer));
    });
}

#[test]
fn trait_puts_behind_a_reservation_wait_for_the_commit() {
    let mut buffer = put(b"a");
    let hole = buffer.reserve(2).unwrap();
    let before = buffer.remaining_mut();
    assert!(buffer.chunk_mut().len() > 0);
    buffer.put(cut(b"body", 1));
    buffer.put_bytes(b'!', 3);
    assert_eq!((buffer.remaining(), buffer.uncommitted_len()), (1, 9));
    assert_eq!(buffer.remaining_mut(), before - 7);
    buffer.get_mut(&hole).unwrap().copy_from_slice(b"<>");
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"a<>body!!!");
}

#[derive(Clone, PartialEq, Message)]
struct Call {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, repeated, tag = "2")]
    words: Vec<String>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

#[test]
fn a_message_is_decoded_from_pieces_of_any_size() {
    let call = Call {
        id: u64::MAX - 5,
        words: (0..50).map(|n| "word".repeat(n)).collect(),
        body: Bytes::from(pattern(100_000)),
    };
    let mut buffer = LinkBuffer::new();
    call.encode_length_delimited(&mut buffer).unwrap();
    call.encode(&mut buffer).unwrap();
    let encoded = contents(&buffer);
    assert_eq!(
        encoded[encoded.len() - call.encoded_len()..],
        call.encode_to_vec()
    );
    for each in [1, 11, 4096, encoded.len()] {
        let mut pieces = cut(&encoded, each);
        assert_eq!(Call::decode_length_delimited(&mut pieces).unwrap(), call);
        assert_eq!(Call::decode(&mut pieces).unwrap(), call);
        assert!(pieces.is_empty());
    }
}

#[test]
fn a_truncated_message_is_an_error_and_never_a_panic() {
    let call = Call {
        id: 77,
        words: vec!["one".into(), "two".into()],
        body: Bytes::from_static(b"three"),
    };
    let encoded = call.encode_length_delimited_to_vec();
    for length in 0..encoded.len() {
        let mut part = cut(&encoded[..length], 2);
        assert!(
            Call::decode_length_delimited(&mut part).is_err(),
            "{length}"
        );
    }
}
