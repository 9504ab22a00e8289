// SPDX-License-Identifier: MIT OR Apache-2.0
//! The destination of a put: right behind the last put, the rest of the buffer's block, or other
//! memory. In every case the bytes are read in the order in which they were put.

use bytes::Bytes;
use netpoll_buffer::LinkBuffer;

use crate::support::{BLOCK, contents, in_own_pool, pattern, places, put, slices};

/// Returns the length of each segment.
fn lengths(buffer: &LinkBuffer) -> Vec<usize> {
    places(buffer).iter().map(|place| place.1).collect()
}

/// Fills the thread's block behind the `already` put bytes, except for `left` bytes.
fn fill_block(buffer: &mut LinkBuffer, already: usize, left: usize) -> Vec<u8> {
    let bytes = pattern(BLOCK - already - left);
    for piece in bytes.chunks(20_000) {
        buffer.put_slice(piece);
    }
    bytes
}

/// Runs `test` on one segment, and on several of which the first is in the same block.
fn in_one_and_in_several(test: impl Fn(LinkBuffer, &[u8]) + Sync) {
    in_own_pool(|_| test(put(b"a"), b"a"));
    in_own_pool(|_| {
        let mut several = put(b"a");
        several.push(Bytes::from_static(b"bc"));
        several.put_slice(b"d");
        test(several, b"abcd");
    });
}

#[test]
fn try_put_slice_accepts_an_exact_fit_and_rejects_one_byte_more() {
    in_one_and_in_several(|mut buffer, before| {
        let of_block = if before.len() == 1 { 1 } else { 2 };
        let filled = fill_block(&mut buffer, of_block, 100);
        let (segments, there) = (slices(&buffer), [before, &filled[..]].concat());
        assert!(!buffer.try_put_slice(&[7; 101]));
        assert_eq!(contents(&buffer), there);
        assert!(buffer.try_put_slice(&[7; 100]));
        assert!(buffer.try_put_slice(b""), "an empty put always fits");
        assert!(!buffer.try_put_slice(b"x"));
        assert_eq!(contents(&buffer), [&there[..], &[7; 100]].concat());
        assert_eq!(slices(&buffer), segments);
    });
}

#[test]
fn try_put_slice_extends_the_last_segment() {
    in_one_and_in_several(|mut buffer, before| {
        let segments = slices(&buffer);
        assert!(buffer.try_put_slice(b"e"));
        assert!(buffer.try_put_slice(b"fg"));
        assert_eq!(contents(&buffer), [before, b"efg"].concat());
        assert_eq!(slices(&buffer), segments);
    });
}

#[test]
fn try_put_slices_puts_all_parts_or_none() {
    in_one_and_in_several(|mut buffer, before| {
        let of_block = if before.len() == 1 { 1 } else { 2 };
        let filled = fill_block(&mut buffer, of_block, 100);
        let (segments, there) = (slices(&buffer), [before, &filled[..]].concat());
        assert!(!buffer.try_put_slices(&[b"head", &[7; 97]]));
        assert_eq!(contents(&buffer), there);
        assert!(buffer.try_put_slices(&[b"head", b"", &[7; 96]]));
        assert!(buffer.try_put_slices(&[b"", b""]) && buffer.try_put_slices(&[]));
        assert_eq!(contents(&buffer), [&there[..], b"head", &[7; 96]].concat());
        assert_eq!(slices(&buffer), segments);
    });
}

#[test]
fn put_slices_keeps_the_order_of_the_parts() {
    in_own_pool(|_| {
        let mut buffer = LinkBuffer::new();
        for (part, others) in [
            (1, 2),
            (10_000, 30_000),
            (40_000, 7),
            (5, 0),
            (20_000, 20_000),
        ] {
            let mut there = contents(&buffer);
            let parts = [pattern(part), pattern(others), pattern(3)];
            buffer.put_slices(&[&parts[0], &parts[1], &parts[2]]);
            there.extend(parts.concat());
            assert_eq!(contents(&buffer), there, "{part} and {others}");
        }
        let mut open = put(b"abc");
        open.reserve(1).unwrap();
        open.put_slices(&[b"d", b"ef"]);
        assert_eq!((open.len(), open.uncommitted_len()), (3, 4));
    });
}

#[test]
fn the_first_put_slices_makes_one_segment_and_empty_parts_make_none() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        buffer.put_slices(&[]);
        buffer.put_slices(&[b"", b""]);
        assert_eq!((slices(&buffer), pool.stats().in_use), (0, 0));
        buffer.put_slices(&[b"", b"head", b"body"]);
        assert_eq!(contents(&buffer), b"headbody");
        assert_eq!(lengths(&buffer), [8]);
    });
}

#[test]
fn the_first_put_slices_fills_the_write_block_and_continues_in_another() {
    in_own_pool(|_| {
        let mut kept = LinkBuffer::new();
        fill_block(&mut kept, 0, 5000);
        kept.release();
        let mut buffer = LinkBuffer::new();
        buffer.put_slices(&[&pattern(4), &pattern(20_000)]);
        assert_eq!(contents(&buffer), [pattern(4), pattern(20_000)].concat());
        assert_eq!(lengths(&buffer), [5000, 15_004]);
    });
}

#[test]
fn try_put_slice_extends_the_only_segment_left_of_several() {
    let mut buffer = put(b"a");
    buffer.push(Bytes::from_static(b"bc"));
    buffer.put_slice(b"d");
    buffer.skip(3).unwrap();
    assert_eq!(buffer.peek(1).unwrap(), b"d");
    assert!(buffer.try_put_slice(b"e"));
    assert_eq!(contents(&buffer), b"de");
    assert_eq!(slices(&buffer), 1);
}

#[test]
fn try_put_slice_rejects_a_put_behind_foreign_memory() {
    // The first segment still ends where the next put goes.
    let mut first = put(b"a");
    first.push(Bytes::from_static(b"bc"));
    // The only segment is not in the block at all.
    let mut read = put(b"x");
    read.next(1).unwrap();
    read.push(Bytes::from_static(b"abc"));
    for mut buffer in [first, read] {
        let before = places(&buffer);
        assert!(!buffer.try_put_slice(b"d"));
        assert_eq!(contents(&buffer), b"abc");
        assert_eq!(places(&buffer), before);
        buffer.put_slice(b"d");
        assert!(buffer.try_put_slice(b"e"));
        assert_eq!(contents(&buffer), b"abcde");
    }
}

#[test]
fn try_put_slice_rejects_a_put_without_a_tail_or_with_an_open_reservation() {
    assert!(!LinkBuffer::new().try_put_slice(b"x"));
    let mut released = put(b"abc");
    released.release();
    assert!(!released.try_put_slice(b"x"));
    assert_eq!(contents(&released), b"abc");
    let mut open = put(b"abc");
    open.reserve(1).unwrap();
    assert!(!open.try_put_slice(b"x"));
    assert_eq!((open.len(), open.uncommitted_len()), (3, 1));
}

#[test]
fn the_first_put_fills_the_write_block_and_continues_in_another() {
    in_own_pool(|pool| {
        let mut kept = LinkBuffer::new();
        let filled = fill_block(&mut kept, 0, 5000);
        kept.release();
        let mut buffer = put(&pattern(20_000));
        assert_eq!(contents(&buffer), pattern(20_000));
        assert_eq!(lengths(&buffer), [5000, 15_000]);
        assert_eq!(contents(&kept), filled);
        assert!(buffer.try_put_slice(b"behind both"));
        assert_eq!(lengths(&buffer), [5000, 15_011]);
        assert_eq!(pool.stats().in_use, 2 * BLOCK);
    });
}

#[test]
fn a_put_that_does_not_fit_fills_the_block_and_continues_in_another() {
    in_own_pool(|_| {
        let mut buffer = LinkBuffer::new();
        fill_block(&mut buffer, 0, 5000);
        buffer.skip(BLOCK - 5000).unwrap();
        buffer.put_slice(&pattern(20_000));
        assert_eq!(
            lengths(&buffer),
            [5000, 15_000],
            "also after all bytes were read"
        );
        assert_eq!(contents(&buffer), pattern(20_000));
        assert!(buffer.try_put_slice(b"x"));
        assert_eq!(lengths(&buffer), [5000, 15_001]);
    });
}

#[test]
fn a_large_put_copies_at_most_256_bytes_before_it() {
    for (header, segments) in [(1, 1), (256, 1), (257, 2)] {
        let mut buffer = put(&pattern(header));
        buffer.put_slice(&pattern(BLOCK));
        assert_eq!(slices(&buffer), segments, "{header}");
        let all = [pattern(header), pattern(BLOCK)].concat();
        assert_eq!(contents(&buffer), all);
    }
}

#[test]
fn a_large_put_behind_several_segments_comes_last() {
    let mut buffer = put(b"a");
    buffer.push(Bytes::from_static(b"bc"));
    buffer.put_slice(&pattern(BLOCK));
    assert_eq!(contents(&buffer), [b"abc", &pattern(BLOCK)[..]].concat());
    assert_eq!(lengths(&buffer), [1, 2, BLOCK]);
}

#[test]
fn a_large_put_with_its_own_memory_returns_the_write_block() {
    // With a header that is copied along, and behind more than that.
    for before in [4, 300] {
        in_own_pool(|_| {
            let mut kept = put(b"kept");
            kept.release();
            let mut buffer = put(&pattern(before));
            buffer.put_slice(&pattern(BLOCK));
            let other = put(b"other");
            let behind = places(&kept)[0].0.wrapping_add(4 + before);
            assert_eq!(places(&other)[0].0, behind, "{before}");
            assert_eq!(
                contents(&buffer),
                [pattern(before), pattern(BLOCK)].concat()
            );
        });
    }
}

#[test]
fn a_put_behind_a_header_and_body_continues_in_their_memory() {
    let mut buffer = put(b"head");
    // Memory comes in size classes, and this is less than one.
    buffer.put_slice(&pattern(BLOCK + 1));
    assert!(buffer.try_put_slice(b"more"));
    assert_eq!(lengths(&buffer), [4 + BLOCK + 1 + 4]);
    let all = [b"head", &pattern(BLOCK + 1)[..], b"more"].concat();
    assert_eq!(contents(&buffer), all);
}

#[test]
fn an_empty_put_behind_foreign_memory_adds_no_segment() {
    let mut buffer = put(b"a");
    buffer.push(Bytes::from_static(b"bc"));
    buffer.put_slice(b"");
    assert_eq!(lengths(&buffer), [1, 2]);
    assert_eq!(contents(&buffer), b"abc");
}

#[test]
fn the_next_put_frees_what_was_read() {
    let bytes = Bytes::from(pattern(100));
    let mut buffer = put(b"x");
    buffer.next(1).unwrap();
    buffer.push(bytes.clone());
    assert_eq!(buffer.next(100).unwrap(), bytes);
    assert!(!bytes.is_unique(), "it may still be borrowed");
    buffer.put_slice(b"more");
    assert!(bytes.is_unique());
    assert_eq!(contents(&buffer), b"more");
}
