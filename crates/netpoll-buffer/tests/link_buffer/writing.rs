// SPDX-License-Identifier: MIT OR Apache-2.0
//! Put bytes are read in order; pushed memory is shared and not copied.

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Tail};

use crate::support::{BLOCK, SIZES, contents, pattern, places, put, segmented, slices};

#[test]
fn the_test_knows_the_size_of_a_block() {
    assert_eq!(Tail::with_capacity(64 << 10).capacity(), BLOCK);
}

#[test]
fn a_put_of_every_size_is_read_back_at_every_block_position() {
    for before in SIZES {
        for size in SIZES {
            let (first, second) = (pattern(before), pattern(size));
            let mut buffer = put(&first);
            buffer.put_slice(&second);
            assert_eq!(buffer.len(), before + size);
            assert_eq!(contents(&buffer), [first, second].concat());
        }
    }
}

#[test]
fn many_small_puts_equal_one_large_put() {
    let bytes = pattern(3 * BLOCK);
    for each in [1000, 4096, 5000] {
        let mut buffer = LinkBuffer::new();
        bytes.chunks(each).for_each(|piece| buffer.put_slice(piece));
        assert_eq!(contents(&buffer), bytes);
        assert!(slices(&buffer) <= 4, "each block is filled to its end");
    }
}

#[test]
fn small_puts_behind_a_push_are_counted() {
    let mut buffer = put(b"a");
    buffer.push(Bytes::from_static(b"bc"));
    for length in 4..100 {
        buffer.put_slice(b"d");
        assert_eq!(buffer.len(), length);
    }
    buffer.put_u32(7);
    assert_eq!(buffer.len(), 103);
    assert_eq!(contents(&buffer).len(), 103);
    assert_eq!(slices(&buffer), 3);
}

#[test]
fn a_large_put_that_does_not_fit_is_not_split() {
    let mut buffer = put(&pattern(40_000));
    buffer.put_slice(&pattern(40_000));
    let lengths: Vec<usize> = places(&buffer).iter().map(|place| place.1).collect();
    assert_eq!(lengths, [40_000, 40_000]);
}

#[test]
fn adjacent_puts_are_one_slice_for_the_kernel() {
    let mut buffer = LinkBuffer::new();
    for n in 0..1000 {
        buffer.put_u32(n);
        buffer.put_str("text");
    }
    assert_eq!(slices(&buffer), 1);
    buffer.skip(4000).unwrap();
    buffer.put_u8(1);
    assert_eq!(slices(&buffer), 1, "also after a read");
    buffer.skip(buffer.len()).unwrap();
    buffer.put_u8(2);
    buffer.put_u8(3);
    assert_eq!(slices(&buffer), 1, "also after all bytes were read");
    assert_eq!(contents(&buffer), [2, 3]);
}

#[test]
fn two_buffers_that_write_in_turn_do_not_disturb_each_other() {
    let (mut one, mut two) = (LinkBuffer::new(), LinkBuffer::new());
    for n in 0..20_000u32 {
        one.put_u32(n);
        two.put_u32_le(!n);
    }
    for n in 0..20_000u32 {
        assert_eq!(one.read_u32().unwrap(), n);
        assert_eq!(two.read_u32_le().unwrap(), !n);
    }
}

#[test]
fn numbers_are_put_in_the_order_their_names_say() {
    let mut buffer = LinkBuffer::new();
    buffer.put_u8(1);
    buffer.put_u16(0x0203);
    buffer.put_u16_le(0x0504);
    buffer.put_u32(0x0607_0809);
    buffer.put_u32_le(0x0d0c_0b0a);
    buffer.put_u64(0x0e0f_1011_1213_1415);
    buffer.put_u64_le(0x1d1c_1b1a_1918_1716);
    assert_eq!(contents(&buffer), (1..=0x1d).collect::<Vec<u8>>());
}

#[test]
fn pushed_memory_is_shared() {
    let bytes = Bytes::from(pattern(5000));
    let mut buffer = put(b"before");
    buffer.push(bytes.clone());
    buffer.put_slice(b"behind");
    assert_eq!(places(&buffer)[1], (bytes.as_ptr(), 5000));
    assert_eq!(buffer.len(), 5012);
    buffer.skip(6).unwrap();
    assert_eq!(buffer.next(5000).unwrap().as_ptr(), bytes.as_ptr());
    assert_eq!(contents(&buffer), b"behind");
}

#[test]
fn pushed_memory_is_freed_after_it_was_read() {
    let bytes = Bytes::from(pattern(100));
    let mut buffer = LinkBuffer::from(bytes.clone());
    buffer.put_u8(1);
    assert!(!bytes.is_unique());
    assert_eq!(buffer.next(100).unwrap(), bytes);
    assert!(!bytes.is_unique(), "it may still be borrowed");
    buffer.peek(1).unwrap();
    assert!(bytes.is_unique());
}

#[test]
fn empty_pushes_and_puts_add_nothing() {
    let mut buffer = LinkBuffer::from(Bytes::new());
    buffer.push(Bytes::new());
    buffer.put_slice(b"");
    buffer.put_str("");
    buffer.push_segment(Tail::with_capacity(10).window(0..10));
    assert_eq!((buffer.len(), slices(&buffer)), (0, 0));
    buffer.push(Bytes::from_static(b"abc"));
    buffer.push_segment(Tail::with_capacity(10).window(0..10));
    assert_eq!((contents(&buffer), slices(&buffer)), (b"abc".to_vec(), 1));
}

#[test]
fn the_next_push_frees_what_was_read() {
    let bytes = Bytes::from(pattern(100));
    let mut buffer = LinkBuffer::from(bytes.clone());
    assert_eq!(buffer.next(100).unwrap(), bytes);
    buffer.push(Bytes::from_static(b"more"));
    assert!(bytes.is_unique());
    assert_eq!(contents(&buffer), b"more");
}

#[test]
fn adjacent_windows_of_one_block_merge() {
    let mut tail = Tail::with_capacity(100);
    assert_eq!(tail.put(b"hello world"), 11);
    let mut buffer = LinkBuffer::new();
    buffer.push_segment(tail.window(0..5));
    buffer.push_segment(tail.window(5..6));
    assert_eq!(slices(&buffer), 1);
    buffer.push_segment(tail.window(7..11));
    assert_eq!(slices(&buffer), 2);
    assert_eq!(contents(&buffer), b"hello orld");
}

#[test]
fn windows_of_two_blocks_do_not_merge_at_matching_positions() {
    let filled = |bytes: &[u8]| {
        let mut tail = Tail::with_capacity(6);
        tail.put(bytes);
        tail
    };
    let mut buffer = LinkBuffer::new();
    buffer.push_segment(filled(b"abcdef").window(0..3));
    buffer.push_segment(filled(b"uvwxyz").window(3..6));
    assert_eq!(contents(&buffer), b"abcxyz");
    assert_eq!(slices(&buffer), 2);
}

#[test]
fn append_never_copies() {
    let mut first = segmented(&[b"abc", b"def"]);
    let mut second = segmented(&[b"ghi", b"jkl"]);
    second.put_slice(b"mno");
    second.skip(1).unwrap();
    let expected = [places(&first), places(&second)].concat();
    first.append(second);
    assert_eq!(places(&first), expected);
    assert_eq!(contents(&first), b"abcdefhijklmno");
}

#[test]
fn append_to_an_empty_buffer_never_copies() {
    let mut used = put(b"used");
    used.next(4).unwrap();
    for mut first in [LinkBuffer::new(), used] {
        let second = segmented(&[b"abc", b"def"]);
        let expected = places(&second);
        first.append(second);
        assert_eq!(places(&first), expected);
    }
}

#[test]
fn append_of_an_empty_buffer_changes_nothing() {
    let mut read = segmented(&[b"xy"]);
    read.next(2).unwrap();
    for empty in [LinkBuffer::new(), read] {
        let mut buffer = put(b"abc");
        buffer.append(empty);
        buffer.put_u8(b'd');
        assert_eq!(contents(&buffer), b"abcd");
    }
}

#[test]
fn a_put_after_an_append_continues_the_appended_tail() {
    let mut first = put(b"abc");
    first.append(put(b"def"));
    let before = slices(&first);
    first.put_slice(b"ghi");
    assert_eq!(contents(&first), b"abcdefghi");
    assert_eq!(slices(&first), before);
}

#[test]
fn append_commits_the_uncommitted_bytes_of_the_other() {
    let mut first = put(b"abc");
    let mut second = put(b"de");
    let hole = second.reserve(1).unwrap();
    second.put_slice(b"g");
    second.get_mut(&hole).unwrap()[0] = b'f';
    first.append(second);
    assert_eq!(contents(&first), b"abcdefg");
    assert_eq!(first.uncommitted_len(), 0);
}

#[test]
fn prepend_commits_the_uncommitted_bytes_of_the_other() {
    for there in [&b""[..], b"cd"] {
        let mut other = put(b"a");
        other.reserve(0).unwrap();
        other.put_slice(b"b");
        let mut buffer = put(there);
        buffer.prepend(other);
        assert_eq!(contents(&buffer), [b"ab", there].concat());
        assert_eq!(buffer.uncommitted_len(), 0);
    }
}

#[test]
fn prepend_goes_before_everything_and_copies_nothing() {
    let mut first = segmented(&[b"ab", b"cd"]);
    let mut second = segmented(&[b"ef", b"gh"]);
    first.next(2).unwrap();
    second.next(2).unwrap();
    let expected = [places(&first), places(&second)].concat();
    second.prepend(first);
    assert_eq!(places(&second), expected);
    assert_eq!(contents(&second), b"cdgh");
    second.put_slice(b"ij");
    assert_eq!(second.next(6).unwrap(), b"cdghij");
}

#[test]
fn prepend_of_or_to_an_empty_buffer_is_the_other_buffer() {
    let mut buffer = put(b"abc");
    buffer.prepend(LinkBuffer::new());
    assert_eq!(contents(&buffer), b"abc");
    let mut empty = put(b"x");
    empty.next(1).unwrap();
    empty.prepend(buffer);
    empty.put_u8(b'd');
    assert_eq!(contents(&empty), b"abcd");
}

#[test]
fn debug_output_contains_the_shape_and_no_contents() {
    let mut buffer = put(b"secret");
    buffer.push(Bytes::from_static(b"secret"));
    let hole = buffer.reserve(6).unwrap();
    buffer.get_mut(&hole).unwrap().copy_from_slice(b"secret");
    let shown = format!(
        "{buffer:?} {hole:?} {:#?}",
        buffer.segments().collect::<Vec<_>>()
    );
    assert!(shown.contains("len: 12, uncommitted: 6"), "{shown}");
    assert!(
        !shown.contains("secret") && !shown.contains("115"),
        "{shown}"
    );
}

#[test]
fn a_header_and_a_large_body_are_contiguous() {
    let body = vec![7; 1 << 20];
    let mut buffer = LinkBuffer::new();
    buffer.put_u32(1 << 20);
    buffer.put_slice(&body);
    assert_eq!(buffer.segments().count(), 1);
    // Later puts continue behind it, and earlier bytes do not change.
    buffer.put_str("more");
    assert_eq!(buffer.read_u32().unwrap(), 1 << 20);
    assert_eq!(buffer.next(1 << 20).unwrap(), body);
    assert_eq!(buffer.next(4).unwrap(), b"more");
    // More than a header is not copied.
    buffer.put_slice(&[1; 257]);
    buffer.put_slice(&body);
    assert_eq!(buffer.segments().count(), 2);
}

#[test]
fn pushed_memory_is_not_copied_along_with_a_large_put() {
    let pushed = Bytes::from_owner(vec![1; 10]);
    let place = pushed.as_ptr();
    let mut buffer = LinkBuffer::new();
    buffer.push(pushed);
    buffer.put_slice(&vec![2; 1 << 20]);
    assert_eq!(buffer.segments().count(), 2);
    assert_eq!(buffer.peek(10).unwrap().as_ptr(), place);
}

#[test]
fn a_large_put_behind_a_reservation_waits_for_the_commit() {
    let mut buffer = LinkBuffer::new();
    buffer.put_str("a");
    let reserved = buffer.reserve(4).unwrap();
    buffer.put_slice(&vec![2; 1 << 20]);
    assert_eq!(buffer.len(), 1);
    buffer.get_mut(&reserved).unwrap().copy_from_slice(b"size");
    buffer.commit_all();
    assert_eq!(buffer.next(5).unwrap(), b"asize");
    assert_eq!(buffer.next(1 << 20).unwrap(), vec![2; 1 << 20]);
}
