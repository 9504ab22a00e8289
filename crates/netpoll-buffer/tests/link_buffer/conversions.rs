// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversions to and from a buffer.

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use crate::support::{contents, cut, in_own_pool, pattern, places, put, slices};

/// More than a write block, so that the thread keeps no part of it.
const LARGE: usize = 100_000;

#[test]
fn bytes_convert_back_to_the_same_memory() {
    let bytes = Bytes::from(pattern(1000));
    let there = bytes.as_ptr();
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.skip(10).unwrap();
    let back = Bytes::from(buffer);
    assert_eq!(back, bytes[10..]);
    assert_eq!(back.as_ptr(), there.wrapping_add(10));

    let vec = pattern(1000);
    let there = vec.as_ptr();
    assert_eq!(Bytes::from(LinkBuffer::from(vec)).as_ptr(), there);
}

#[test]
fn a_slice_of_pushed_bytes_shares_their_memory_and_is_its_last_owner() {
    let bytes = Bytes::from(pattern(1000));
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.skip(100).unwrap();
    let slice = buffer.slice(300).unwrap();
    let (_, places) = (buffer.skip(0), places(&buffer));
    drop(buffer);
    assert_eq!(slice, bytes[100..400]);
    assert_eq!(slice.as_ptr(), bytes[100..].as_ptr());
    assert_eq!(places[0].0, bytes[400..].as_ptr());
    drop(bytes);
    // The memory has no other owner, so it can be written to again without a copy.
    let mut own = slice.try_into_mut().expect("the only owner");
    own[0] = 1;
}

#[test]
fn one_segment_converts_without_a_copy_and_is_freed() {
    in_own_pool(|pool| {
        let buffer = put(&pattern(LARGE));
        let there = places(&buffer)[0].0;
        let bytes = Bytes::from(buffer);
        assert_eq!(bytes.as_ptr(), there);
        assert_eq!(bytes, pattern(LARGE));
        assert_eq!(pool.stats().in_use, (128 << 10) + (4 << 10));
        drop(bytes);
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn several_segments_convert_to_one_bytes() {
    for each in [1, 7, 99, 100] {
        assert_eq!(Bytes::from(cut(&pattern(100), each)), pattern(100));
    }
    assert_eq!(Bytes::from(LinkBuffer::new()), b""[..]);
    let mut read = cut(b"abcd", 2);
    read.next(2).unwrap();
    assert_eq!(Bytes::from(read), b"cd"[..]);
}

#[test]
fn a_conversion_commits_the_uncommitted_bytes() {
    let mut buffer = put(b"a");
    buffer.reserve(1).unwrap();
    buffer.put_str("b");
    assert_eq!(Bytes::from(buffer), b"a\0b"[..]);
}

#[test]
fn a_buffer_is_extended_by_bytes_of_either_kind() {
    let mut buffer = put(b"ab");
    buffer.extend(b"cd");
    buffer.extend((0..3u8).map(|n| b'e' + n));
    buffer.extend([
        Bytes::from_static(b"hi"),
        Bytes::new(),
        Bytes::from_static(b"j"),
    ]);
    assert_eq!(contents(&buffer), b"abcdefghij");
    assert_eq!(slices(&buffer), 3, "copied bytes extend the last segment");

    let collected: LinkBuffer = (0..=255u8).collect();
    assert_eq!(contents(&collected), (0..=255).collect::<Vec<u8>>());
    let pushed: LinkBuffer = [Bytes::from_static(b"x"), Bytes::from_static(b"y")]
        .into_iter()
        .collect();
    assert_eq!((contents(&pushed), slices(&pushed)), (b"xy".to_vec(), 2));
}

#[test]
fn debug_prints_the_shape_and_never_the_contents() {
    let mut buffer = cut(b"secret", 3);
    buffer.reserve(4).unwrap();
    buffer.put_str("hidden");
    let shown = format!("{buffer:?}");
    assert!(
        shown.contains("len: 6") && shown.contains("uncommitted: 10"),
        "{shown}"
    );
    assert_eq!(shown.matches("Segment(0..3 of 3)").count(), 2, "{shown}");
    assert!(!shown.contains("sec") && !shown.contains("115"), "{shown}");
}
