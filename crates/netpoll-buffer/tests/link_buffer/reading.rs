// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads return the bytes in order and once, with any segment borders.

use crate::support::{BLOCK, SIZES, contents, cut, in_own_pool, pattern, put, segmented};
use netpoll_buffer::LinkBuffer;

#[test]
fn every_read_method_returns_the_same_bytes_at_every_size() {
    for size in SIZES {
        let bytes = pattern(size);
        for each in [usize::MAX, 40_000, 4096] {
            let fresh = || cut(&bytes, each);
            assert_eq!(fresh().peek(size).unwrap(), bytes);
            assert_eq!(fresh().next(size).unwrap(), bytes);
            assert_eq!(fresh().slice(size).unwrap(), bytes);
            assert_eq!(fresh().read_vec(size).unwrap(), bytes);
            assert_eq!(contents(&fresh().split_to(size).unwrap()), bytes);
            let mut target = vec![0; size];
            fresh().read_exact(&mut target).unwrap();
            assert_eq!(target, bytes);
            let mut skipped = fresh();
            skipped.skip(size).unwrap();
            assert!(skipped.is_empty());
        }
    }
}

#[test]
fn contiguous_len_counts_the_rest_of_the_front_segment() {
    let mut buffer = cut(&pattern(30), 10);
    assert_eq!((buffer.contiguous_len(), buffer.len()), (10, 30));
    buffer.skip(4).unwrap();
    assert_eq!((buffer.contiguous_len(), buffer.len()), (6, 26));
    assert_eq!(LinkBuffer::new().contiguous_len(), 0);
}

#[test]
fn every_read_method_leaves_the_rest() {
    let bytes = pattern(1000);
    for n in [0, 1, 9, 10, 11, 20, 500, 999] {
        let mut buffer = cut(&bytes, 10);
        let reads: [fn(&mut LinkBuffer, usize); 6] = [
            |buffer, n| drop(buffer.next(n).unwrap().to_vec()),
            |buffer, n| buffer.skip(n).unwrap(),
            |buffer, n| drop(buffer.slice(n).unwrap()),
            |buffer, n| drop(buffer.split_to(n).unwrap()),
            |buffer, n| drop(buffer.read_vec(n).unwrap()),
            |buffer, n| buffer.read_exact(&mut vec![0; n]).unwrap(),
        ];
        assert_eq!(buffer.peek(n).unwrap(), &bytes[..n]);
        assert_eq!(contents(&buffer), bytes, "peek consumed something");
        for read in reads {
            let mut buffer = cut(&bytes, 10);
            read(&mut buffer, n);
            assert_eq!(contents(&buffer), &bytes[n..]);
        }
    }
}

#[test]
fn peek_and_next_within_a_segment_copy_nothing() {
    let mut buffer = segmented(&[b"hello world"]);
    let there = buffer.segments().next().unwrap().as_slice().as_ptr();
    assert_eq!(buffer.peek(5).unwrap().as_ptr(), there);
    assert_eq!(buffer.next(6).unwrap().as_ptr(), there);
    assert_eq!(buffer.next(5).unwrap().as_ptr(), there.wrapping_add(6));
}

#[test]
fn next_returns_the_memory_that_peek_made_contiguous() {
    let mut buffer = segmented(&[b"ab", b"cd", b"ef"]);
    let gathered = buffer.peek(5).unwrap().as_ptr();
    let next = buffer.next(5).unwrap();
    assert_eq!((next, next.as_ptr()), (&b"abcde"[..], gathered));
    assert_eq!(contents(&buffer), b"f");
}

#[test]
fn a_peek_across_segments_does_not_move_later_segments() {
    let mut buffer = segmented(&[b"ab", b"cd", b"efgh"]);
    let last = buffer.segments().last().unwrap().as_slice().as_ptr();
    assert_eq!(buffer.peek(6).unwrap(), b"abcdef");
    let rest = buffer.segments().last().unwrap();
    assert_eq!(rest.as_slice(), b"gh");
    assert_eq!(rest.as_slice().as_ptr(), last.wrapping_add(2));
}

#[test]
fn a_longer_peek_after_a_shorter_one_returns_all_bytes() {
    let bytes = pattern(300);
    let mut buffer = cut(&bytes, 7);
    for n in 0..=300 {
        assert_eq!(buffer.peek(n).unwrap(), &bytes[..n]);
    }
    for n in (0..=300).rev() {
        assert_eq!(buffer.peek(n).unwrap(), &bytes[..n]);
    }
    assert_eq!(contents(&buffer), bytes);
}

#[test]
fn repeated_peeks_allocate_no_more_memory() {
    in_own_pool(|pool| {
        let mut buffer = cut(&pattern(BLOCK), 1000);
        buffer.peek(BLOCK).unwrap();
        let after_one = pool.stats();
        assert_eq!(
            after_one.in_use, BLOCK,
            "one block for the contiguous bytes"
        );
        for _ in 0..100 {
            buffer.peek(BLOCK).unwrap();
        }
        assert_eq!(pool.stats(), after_one);
    });
}

#[test]
fn numbers_are_in_the_order_their_names_say() {
    let bytes: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
    let mut buffer = segmented(&[bytes; 7]);
    assert_eq!(buffer.read_u64().unwrap(), 0x0102_0304_0506_0708);
    assert_eq!(buffer.read_u64_le().unwrap(), 0x0807_0605_0403_0201);
    assert_eq!(buffer.read_u32().unwrap(), 0x0102_0304);
    assert_eq!(buffer.read_u32_le().unwrap(), 0x0807_0605);
    assert_eq!(buffer.read_u16().unwrap(), 0x0102);
    assert_eq!(buffer.read_u16_le().unwrap(), 0x0403);
    assert_eq!(buffer.read_u8().unwrap(), 5);
    assert_eq!(contents(&buffer)[..3], [6, 7, 8]);
}

#[test]
fn a_number_is_read_across_every_border() {
    let bytes: Vec<u8> = (1..=32).collect();
    for each in 1..=16 {
        let mut buffer = cut(&bytes, each);
        assert_eq!(buffer.read_u8().unwrap(), 1);
        assert_eq!(buffer.read_u16().unwrap(), 0x0203);
        assert_eq!(buffer.read_u32_le().unwrap(), 0x0706_0504);
        assert_eq!(buffer.read_u64().unwrap(), 0x0809_0a0b_0c0d_0e0f);
        assert_eq!(contents(&buffer), &bytes[15..]);
    }
}

#[test]
fn text_is_read_across_a_border_inside_a_letter() {
    let text = "größer als ein Byte: 💥";
    for each in 1..=text.len() {
        let mut buffer = cut(text.as_bytes(), each);
        assert_eq!(buffer.read_string(text.len()).unwrap(), text);
        assert!(buffer.is_empty());
    }
}

#[test]
fn bytes_put_one_by_one_are_read_one_by_one() {
    let bytes = pattern(BLOCK + 10);
    let mut buffer = LinkBuffer::new();
    bytes.iter().for_each(|&byte| buffer.put_u8(byte));
    for (left, &byte) in (0..bytes.len()).rev().zip(&bytes) {
        assert_eq!(buffer.read_u8().unwrap(), byte);
        assert_eq!(buffer.len(), left);
    }
}

#[test]
fn reads_and_puts_in_turn_keep_the_order() {
    let mut buffer = LinkBuffer::new();
    let (mut put_so_far, mut read_so_far) = (0u32, 0u32);
    for round in 0..3000 {
        for _ in 0..round % 7 {
            buffer.put_u32(put_so_far);
            put_so_far += 1;
        }
        for _ in 0..round % 5 {
            if read_so_far < put_so_far {
                assert_eq!(buffer.read_u32().unwrap(), read_so_far);
                read_so_far += 1;
            }
        }
    }
    assert!(read_so_far > 1000 && put_so_far > read_so_far);
    assert_eq!(buffer.len(), 4 * (put_so_far - read_so_far) as usize);
}

#[test]
fn segments_returns_the_readable_bytes_and_none_is_empty() {
    let mut buffer = segmented(&[b"ab", b"cd", b"ef"]);
    assert_eq!(buffer.next(2).unwrap(), b"ab");
    let left: Vec<&[u8]> = buffer.segments().map(AsRef::as_ref).collect();
    assert_eq!(left, [b"cd", b"ef"]);
    assert_eq!(buffer.next(4).unwrap(), b"cdef");
    assert_eq!(buffer.segments().count(), 0);
}

#[test]
fn an_empty_buffer_returns_empty_results() {
    let mut used = put(b"x");
    used.next(1).unwrap();
    for mut buffer in [LinkBuffer::new(), used] {
        assert!(buffer.is_empty());
        assert_eq!(buffer.peek(0).unwrap(), b"");
        assert_eq!(buffer.next(0).unwrap(), b"");
        assert_eq!(buffer.slice(0).unwrap(), &b""[..]);
        assert_eq!(buffer.read_vec(0).unwrap(), b"");
        assert_eq!(buffer.read_string(0).unwrap(), "");
        assert!(buffer.split_to(0).unwrap().is_empty());
        buffer.read_exact(&mut []).unwrap();
        buffer.skip(0).unwrap();
        assert!(buffer.is_empty());
    }
}
