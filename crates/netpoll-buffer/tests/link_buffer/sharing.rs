// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parts that are split off a buffer share its memory and retain it as long as they live; small
//! parts do not retain large memory.

use std::thread;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Pool};

use crate::support::{BLOCK, contents, cut, in_own_pool, pattern, places, put, segmented};

#[test]
fn a_slice_of_a_sixteenth_of_its_block_shares_and_one_byte_less_copies() {
    let bytes = pattern(BLOCK);
    for (n, shares) in [
        (BLOCK / 16, true),
        (BLOCK / 16 - 1, false),
        (1, false),
        (BLOCK, true),
    ] {
        let mut buffer = put(&bytes);
        let there = places(&buffer)[0].0;
        let slice = buffer.slice(n).unwrap();
        assert_eq!(slice.as_ptr() == there, shares, "{n}");
        assert_eq!(slice, &bytes[..n]);
        assert_eq!(contents(&buffer), &bytes[n..]);
    }
}

#[test]
fn a_slice_across_segments_copies() {
    in_own_pool(|pool| {
        let mut buffer = cut(&pattern(10_000), 6000);
        let places = places(&buffer);
        let slice = buffer.slice(8000).unwrap();
        assert_eq!(slice, pattern(8000));
        assert!(places.iter().all(|place| place.0 != slice.as_ptr()));
        assert_eq!(pool.stats().peak, 0, "no block is allocated for it");
        let last = buffer.slice(2000).unwrap();
        assert_eq!(last.as_ptr(), places[1].0.wrapping_add(2000));
    });
}

#[test]
fn a_large_slice_retains_its_block_and_a_small_one_does_not() {
    for (n, kept) in [(BLOCK / 16 - 1, 0), (BLOCK / 16, BLOCK)] {
        in_own_pool(|pool| {
            let mut buffer = put(&pattern(BLOCK));
            let slice = buffer.slice(n).unwrap();
            buffer.skip(BLOCK - n).unwrap();
            drop(buffer);
            // Another block replaces this one as the thread's write block.
            let _write = (put(&pattern(BLOCK)), put(b"x"));
            assert_eq!(pool.stats().in_use, kept + 2 * BLOCK, "{n}");
            assert_eq!(slice, pattern(n));
        });
    }
}

#[test]
fn slices_outlive_the_buffer_and_its_thread() {
    let bytes = pattern(BLOCK);
    let (pool, slices) = in_own_pool(|pool| {
        let mut buffer = put(&bytes);
        let slices: Vec<Bytes> = (0..16).map(|_| buffer.slice(BLOCK / 16).unwrap()).collect();
        (Pool::clone(pool), slices)
    });
    assert_eq!(slices.concat(), bytes);
    assert_eq!(pool.stats().in_use, BLOCK);
    let last = thread::spawn(move || slices.into_iter().next_back().unwrap())
        .join()
        .unwrap();
    assert_eq!(pool.stats().in_use, BLOCK, "one slice retains the block");
    drop(last);
    assert_eq!(pool.stats().in_use, 0);
    assert_eq!(pool.stats().cached, BLOCK, "the released block is cached");
}

#[test]
fn a_slice_of_foreign_memory_is_that_memory() {
    let bytes = Bytes::from(pattern(1000));
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.skip(100).unwrap();
    let slice = buffer.slice(500).unwrap();
    assert_eq!(slice.as_ptr(), bytes[100..].as_ptr());
    drop(buffer);
    assert!(!bytes.is_unique());
    drop(slice);
    assert!(bytes.is_unique());
}

#[test]
fn split_to_never_copies() {
    for n in 0..=12 {
        let mut buffer = segmented(&[b"abcd", b"efgh", b"ijkl"]);
        let before = places(&buffer);
        let taken = buffer.split_to(n).unwrap();
        assert_eq!(contents(&taken), &b"abcdefghijkl"[..n]);
        assert_eq!(contents(&buffer), &b"abcdefghijkl"[n..]);
        let (whole, part) = (n / 4, n % 4);
        let mut expected = before[..whole].to_vec();
        if part > 0 {
            expected.push((before[whole].0, part));
        }
        assert_eq!(places(&taken), expected);
        let mut left = before[whole..].to_vec();
        if part > 0 {
            left[0] = (left[0].0.wrapping_add(part), 4 - part);
        }
        assert_eq!(places(&buffer), left);
    }
}

#[test]
fn both_halves_of_a_split_can_be_written_to() {
    let mut second = put(b"abcdef");
    let mut first = second.split_to(3).unwrap();
    first.put_slice(b"123");
    second.put_slice(b"456");
    first.put_slice(b"!");
    assert_eq!(contents(&first), b"abc123!");
    assert_eq!(contents(&second), b"def456");
    first.append(second);
    assert_eq!(contents(&first), b"abc123!def456");
}

#[test]
fn a_buffer_appended_from_its_parts_is_contiguous_again() {
    let mut rest = put(b"abcdef");
    let there = places(&rest);
    let mut whole = LinkBuffer::new();
    while !rest.is_empty() {
        whole.append(rest.split_to(2).unwrap());
    }
    assert_eq!(places(&whole), there);
}

#[test]
fn take_readable_takes_all_readable_bytes_without_a_copy() {
    let mut buffer = segmented(&[b"abc", b"def"]);
    buffer.next(3).unwrap();
    let before = places(&buffer);
    let taken = buffer.take_readable();
    assert_eq!(places(&taken), before);
    assert!(buffer.is_empty() && buffer.segments().next().is_none());
    assert!(buffer.take_readable().is_empty());
}

#[test]
fn a_put_after_take_readable_does_not_change_the_taken_bytes() {
    let mut buffer = put(b"abc");
    let taken = buffer.take_readable();
    buffer.put_slice(b"def");
    buffer.put_slice(b"ghi");
    assert_eq!(contents(&taken), b"abc");
    assert_eq!(contents(&buffer), b"defghi");
    buffer.prepend(taken);
    assert_eq!(contents(&buffer), b"abcdefghi");
}

#[test]
fn a_buffer_moves_to_another_thread_with_its_memory() {
    let bytes = pattern(3 * BLOCK);
    let pool = in_own_pool(|pool| {
        let mut buffer = put(&bytes);
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    assert_eq!(buffer.peek(3 * BLOCK).unwrap(), bytes);
                    buffer.skip(BLOCK).unwrap();
                    buffer.put_slice(b"from there");
                })
                .join()
                .unwrap();
        });
        assert_eq!(contents(&buffer)[..2 * BLOCK], bytes[BLOCK..]);
        assert_eq!(contents(&buffer)[2 * BLOCK..], *b"from there");
        Pool::clone(pool)
    });
    assert_eq!(pool.stats().in_use, 0);
}
