// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that a buffer retains, and when it is freed.

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Segment, Tail};

use crate::support::{BLOCK, contents, in_own_pool, pattern, places, put, segmented, slices};

#[test]
fn an_empty_buffer_owns_no_memory() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        buffer.peek(0).unwrap();
        buffer.put_slice(b"");
        buffer.push(Bytes::from_static(b"foreign"));
        buffer.commit_all();
        assert_eq!(pool.stats().peak, 0);
    });
}

#[test]
fn a_thousand_buffers_with_little_in_them_share_one_block() {
    in_own_pool(|pool| {
        let buffers: Vec<LinkBuffer> = (0..1000u32)
            .map(|n| {
                let mut buffer = put(&n.to_be_bytes());
                buffer.release();
                buffer
            })
            .collect();
        assert_eq!(pool.stats().peak, BLOCK);
        for (mut buffer, n) in buffers.into_iter().zip(0..) {
            assert_eq!(buffer.read_u32().unwrap(), n);
        }
    });
}

#[test]
fn a_dropped_buffer_passes_its_write_block_to_the_next() {
    in_own_pool(|pool| {
        let kept: Vec<LinkBuffer> = (0..1000u32)
            .map(|n| put(&n.to_be_bytes()).take_readable())
            .collect();
        assert_eq!(pool.stats().peak, BLOCK);
        for (mut buffer, n) in kept.into_iter().zip(0..) {
            assert_eq!(buffer.read_u32().unwrap(), n);
        }
    });
}

#[test]
fn an_unused_write_block_is_rewound() {
    in_own_pool(|pool| {
        let first = places(&put(b"abc"))[0];
        for _ in 0..BLOCK {
            let mut buffer = put(b"def");
            assert_eq!(places(&buffer)[0], first);
            buffer.skip(3).unwrap();
        }
        assert_eq!(pool.stats().peak, BLOCK);
    });
}

#[test]
fn a_write_block_is_not_rewound_while_a_byte_of_it_is_owned() {
    in_own_pool(|_| {
        let mut kept = put(b"abc");
        kept.skip(2).unwrap();
        kept.release();
        let other = put(b"def");
        assert_ne!(places(&other)[0].0, places(&kept)[0].0.wrapping_sub(2));
        assert_eq!(contents(&kept), b"c");
    });
}

#[test]
fn a_block_of_another_size_does_not_become_a_write_block() {
    in_own_pool(|pool| {
        let mut small = put(&pattern(BLOCK));
        small.skip(BLOCK - 1).unwrap();
        small.compact();
        drop(small);
        assert_eq!(slices(&put(&pattern(5000))), 1);
        let before = pool.stats().in_use;
        drop(put(&pattern(4 * BLOCK)));
        assert_eq!(pool.stats().in_use, before, "it is released at once");
    });
}

#[test]
fn release_frees_what_was_read() {
    let bytes = Bytes::from(pattern(100));
    let mut buffer = segmented(&[b"x"]);
    buffer.push(bytes.clone());
    buffer.skip(101).unwrap();
    buffer.release();
    assert!(bytes.is_unique());
    assert!(buffer.is_empty());
    buffer.put_slice(b"more");
    assert_eq!(contents(&buffer), b"more");
}

#[test]
fn release_frees_the_only_segment_if_it_was_read_and_keeps_it_otherwise() {
    let bytes = Bytes::from(pattern(100));
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.next(99).unwrap();
    buffer.release();
    assert_eq!(contents(&buffer), bytes[99..]);
    buffer.next(1).unwrap();
    assert!(!bytes.is_unique(), "it may still be borrowed");
    buffer.release();
    assert!(bytes.is_unique());
}

#[test]
fn a_small_remainder_moves_out_of_its_block() {
    in_own_pool(|pool| {
        let mut buffer = put(&pattern(BLOCK));
        buffer.skip(BLOCK - 100).unwrap();
        assert!(buffer.should_compact());
        buffer.compact();
        assert!(!buffer.should_compact());
        assert_eq!(contents(&buffer), pattern(BLOCK)[BLOCK - 100..]);
        // The block is the thread's again, so no other one is allocated.
        let _other = put(&pattern(30_000));
        assert_eq!(pool.stats().in_use, BLOCK + 256);
    });
}

#[test]
fn a_remainder_of_a_sixteenth_of_its_block_stays_and_one_byte_less_moves() {
    for (left, stays) in [(BLOCK / 16, true), (BLOCK / 16 - 1, false), (BLOCK, true)] {
        let mut buffer = put(&pattern(BLOCK));
        buffer.skip(BLOCK - left).unwrap();
        let before = places(&buffer);
        assert_eq!(buffer.should_compact(), !stays);
        buffer.compact();
        assert_eq!(places(&buffer) == before, stays, "{left}");
        assert_eq!(contents(&buffer), pattern(BLOCK)[BLOCK - left..]);
    }
}

#[test]
fn compact_does_not_move_compact_data_again() {
    for left in [1, 2, 15, 16, 17, 255, 256, 257, 1000, 4000] {
        let mut buffer = put(&pattern(BLOCK));
        buffer.skip(BLOCK - left).unwrap();
        buffer.compact();
        let settled = places(&buffer);
        assert!(!buffer.should_compact(), "{left}");
        buffer.compact();
        assert_eq!(places(&buffer), settled, "{left}");
    }
}

#[test]
fn compact_makes_one_segment_that_small_reads_extend() {
    let mut buffer = LinkBuffer::new();
    let mut kept = Vec::new();
    for n in 0..10 {
        let mut large = put(&pattern(BLOCK));
        buffer.append(large.split_to(n).unwrap());
        kept.push(large);
    }
    assert_eq!(slices(&buffer), 9);
    buffer.compact();
    assert_eq!(slices(&buffer), 1);
    let expected: Vec<u8> = (0..10).flat_map(pattern).collect();
    assert_eq!(contents(&buffer), expected);
    buffer.put_slice(b"more");
    assert_eq!(slices(&buffer), 1);
    assert_eq!(contents(&buffer), [&expected[..], b"more"].concat());
}

#[test]
fn compacting_an_empty_buffer_frees_its_block() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::from(Bytes::from(pattern(10)));
        buffer.skip(10).unwrap();
        buffer.compact();
        assert!(buffer.is_empty() && !buffer.should_compact());
        assert_eq!(pool.stats().peak, 0);
    });
}

#[test]
fn many_segments_of_one_block_retain_that_block_only() {
    // 20 pieces of 2 KiB: more than half of the block is readable.
    let mut tail = Tail::with_capacity(64 << 10);
    tail.put(&pattern(BLOCK));
    let mut buffer = LinkBuffer::new();
    for n in 0..20 {
        buffer.push_segment(tail.window(n * 3000..n * 3000 + 2048));
    }
    let before = places(&buffer);
    assert!(!buffer.should_compact());
    buffer.compact();
    assert_eq!(places(&buffer), before);
}

#[test]
fn small_puts_between_large_pushes_retain_one_block() {
    let body = Bytes::from(pattern(4000));
    let mut buffer = LinkBuffer::new();
    for _ in 0..100 {
        buffer.put_slice(b"a header");
        buffer.push(body.clone());
    }
    assert!(!buffer.should_compact());
}

/// Returns a window of a new block that shows `bytes`.
fn arrived(bytes: &[u8]) -> Segment {
    let mut tail = Tail::with_capacity(BLOCK);
    tail.put(bytes);
    tail.window(0..bytes.len())
}

#[test]
fn small_windows_are_coalesced_into_the_buffer() {
    in_own_pool(|pool| {
        let mut buffer = put(b"+");
        for _ in 0..100 {
            buffer.coalesce(arrived(&pattern(256))).unwrap();
        }
        assert_eq!(buffer.len(), 1 + 256 * 100);
        assert_eq!(slices(&buffer), 1);
        assert_eq!(contents(&buffer)[1..257], pattern(256));
        assert_eq!(
            pool.stats().in_use,
            BLOCK,
            "no block of a small read is kept"
        );
    });
}

#[test]
fn a_large_window_or_an_empty_buffer_returns_the_window() {
    let refused = |buffer: &mut LinkBuffer, bytes: &[u8]| {
        let before = places(buffer);
        let window = arrived(bytes);
        let there = window.as_slice().as_ptr();
        let back = buffer.coalesce(window).expect_err("a window");
        assert_eq!((back.as_slice(), back.as_slice().as_ptr()), (bytes, there));
        assert_eq!(places(buffer), before);
    };
    refused(&mut put(b"x"), &pattern(257));
    refused(&mut LinkBuffer::new(), b"drip");
    let mut read = put(b"x");
    read.next(1).unwrap();
    refused(&mut read, b"drip");
    let mut open = put(b"x");
    open.reserve(1).unwrap();
    refused(&mut open, b"drip");
}

#[test]
fn coalesce_allocates_when_the_last_segment_cannot_grow() {
    let mut foreign_behind = put(b"x");
    foreign_behind.push(Bytes::from_static(b"y"));
    let full = put(&pattern(BLOCK));
    for mut buffer in [segmented(&[b"foreign"]), full, foreign_behind] {
        let before = contents(&buffer);
        buffer.coalesce(arrived(b"dr")).unwrap();
        buffer.coalesce(arrived(b"ip")).unwrap();
        assert_eq!(contents(&buffer), [&before[..], b"drip"].concat());
        let last = buffer.segments().last().map(Segment::len);
        assert_eq!(last, Some(4), "the second is behind the first");
    }
}

#[test]
fn a_window_contiguous_with_the_last_is_returned() {
    let mut tail = Tail::with_capacity(BLOCK);
    tail.put(b"abcdef");
    let mut buffer = LinkBuffer::new();
    buffer.push_segment(tail.window(0..3));
    let back = buffer.coalesce(tail.window(3..6)).expect_err("a window");
    buffer.push_segment(back);
    assert_eq!(contents(&buffer), b"abcdef");
    assert_eq!(slices(&buffer), 1);
}

#[test]
fn coalesce_does_not_split_a_window_at_a_block_end() {
    in_own_pool(|_| {
        let mut buffer = put(&pattern(30_000));
        buffer.put_slice(&pattern(30_000));
        buffer.put_slice(&pattern(BLOCK - 60_001));
        buffer.coalesce(arrived(b"drip")).unwrap();
        let lengths: Vec<usize> = places(&buffer).iter().map(|place| place.1).collect();
        assert_eq!(lengths, [BLOCK - 1, 4]);
    });
}

#[test]
fn coalesce_after_foreign_memory_uses_its_own_block() {
    in_own_pool(|pool| {
        let mut buffer = put(b"x");
        buffer.push(Bytes::from_static(b"y"));
        buffer.coalesce(arrived(b"drip")).unwrap();
        assert_eq!(contents(&buffer), b"xydrip");
        assert_eq!(pool.stats().in_use, BLOCK + 256);
    });
}

#[test]
fn the_tail_is_taken_only_where_it_continues_the_end() {
    assert!(LinkBuffer::new().take_tail().is_none());
    assert!(segmented(&[b"foreign"]).take_tail().is_none());
    assert!(
        put(&pattern(BLOCK)).take_tail().is_none(),
        "the tail is full"
    );
    let mut behind = put(b"x");
    behind.push(Bytes::from_static(b"y"));
    assert!(behind.take_tail().is_none());
    let mut open = put(b"x");
    open.reserve(1).unwrap();
    assert!(open.take_tail().is_none());
}

#[test]
fn bytes_filled_into_a_taken_tail_continue_the_buffer() {
    let mut buffer = put(b"abc");
    let mut tail = buffer.take_tail().unwrap();
    assert_eq!(contents(&buffer), b"abc");
    let filled = tail.fill_with(100, |room| {
        room[..3].copy_from_slice(b"def");
        Ok(3)
    });
    assert_eq!(filled.unwrap(), 3);
    buffer.append_tail(tail, 3);
    buffer.put_slice(b"ghi");
    assert_eq!(contents(&buffer), b"abcdefghi");
    assert_eq!(slices(&buffer), 1);
}

#[test]
fn append_tail_keeps_an_open_reservation() {
    let mut buffer = put(b"abc");
    let hole = buffer.reserve(1).unwrap();
    let mut tail = Tail::with_capacity(BLOCK);
    tail.put(b"def");
    buffer.append_tail(tail, 3);
    buffer.put_slice(b"!");
    buffer.get_mut(&hole).unwrap()[0] = b'g';
    assert_eq!(contents(&buffer), b"abcdef");
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"abcdefg!");
}

#[test]
fn a_failed_fill_adds_nothing_and_a_false_count_panics() {
    let mut tail = Tail::with_capacity(100);
    tail.put(b"abc");
    let failed = tail.fill_with(10, |_| Err(std::io::ErrorKind::WouldBlock.into()));
    assert_eq!(failed.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(tail.filled(), 3);
    let lied = std::panic::catch_unwind(move || tail.fill_with(10, |room| Ok(room.len() + 1)));
    assert!(lied.is_err());
}
