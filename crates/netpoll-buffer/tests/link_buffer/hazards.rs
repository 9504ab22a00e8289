// SPDX-License-Identifier: MIT OR Apache-2.0
//! Four bugs of another implementation of this buffer, each with its number (`b1` …), which the
//! design of this one excludes.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use netpoll_buffer::LinkBuffer;

use crate::support::{BLOCK, contents, cut, in_own_pool, pattern, places, put, segmented, slices};

/// A commit of zero bytes left the bytes of the last block to be sent with the next flush.
#[test]
fn b1_a_commit_of_zero_bytes_drops_all_uncommitted_bytes() {
    for size in [1, 100, BLOCK, 2 * BLOCK] {
        let mut buffer = put(b"abc");
        let hole = buffer.reserve(size).unwrap();
        buffer.get_mut(&hole).unwrap().fill(7);
        buffer.put_slice(&[8; 100]);
        buffer.push(Bytes::from_static(&[9; 100]));
        buffer.commit(0).unwrap();
        assert_eq!((buffer.len(), buffer.uncommitted_len()), (3, 0));
        buffer.put_slice(b"def");
        buffer.reserve(3).unwrap();
        buffer.commit_all();
        assert_eq!(contents(&buffer), b"abcdef\0\0\0");
    }
}

/// A request for all slices without an array for them left out the last block, or the only one.
#[test]
fn b2_the_slices_for_the_kernel_are_all_segments_to_the_last() {
    for pieces in 1..=70 {
        let bytes = pattern(pieces * 3);
        let buffer = cut(&bytes, 3);
        assert_eq!(slices(&buffer), pieces);
        let shown: Vec<u8> = buffer
            .io_slices()
            .flat_map(|slice| slice.to_vec())
            .collect();
        assert_eq!(shown, bytes);
        let mut room = [IoSlice::new(&[]); 100];
        assert_eq!(buffer.chunks_vectored(&mut room), pieces);
        assert!(
            room[..pieces]
                .iter()
                .map(|slice| &**slice)
                .eq(bytes.chunks(3))
        );
        let few = buffer.chunks_vectored(&mut room[..2]);
        assert_eq!(few, pieces.min(2), "as many as the array holds");
        assert_eq!(buffer.chunks_vectored(&mut []), 0);
    }
    assert_eq!(slices(&put(b"one")), 1);
    assert_eq!(slices(&LinkBuffer::new()), 0);
}

/// Memory that a peek made contiguous was reused by the next one while it was still borrowed. Here
/// the borrow ends before, and owned bytes do not change.
#[test]
fn b3_a_slice_of_contiguous_memory_is_not_overwritten() {
    in_own_pool(|_| {
        let bytes = pattern(40_000);
        let mut buffer = cut(&bytes, 100);
        let mut slices = Vec::new();
        for n in 1..30 {
            buffer.peek(n * 64).unwrap();
            slices.push(buffer.slice(n * 64).unwrap());
            buffer.peek(buffer.len()).unwrap();
            buffer.put_slice(&[0xEE; 64]);
            buffer.release();
        }
        assert_eq!(slices.concat(), bytes[..29 * 30 / 2 * 64]);
    });
}

/// An insert split a block in two, both of which freed its memory, so that the next user overwrote
/// a slice of it.
#[test]
fn b4_a_slice_around_an_insert_keeps_its_memory() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        let hole = buffer.reserve(BLOCK).unwrap();
        buffer
            .get_mut(&hole)
            .unwrap()
            .copy_from_slice(&pattern(BLOCK));
        buffer.insert(BLOCK / 2, Bytes::from_static(b"!")).unwrap();
        buffer.commit_all();
        let there = places(&buffer);
        let front = buffer.slice(BLOCK / 2).unwrap();
        buffer.skip(1).unwrap();
        let back = buffer.slice(BLOCK / 2).unwrap();
        assert_eq!((front.as_ptr(), back.as_ptr()), (there[0].0, there[2].0));
        drop(buffer);
        drop(front);
        // Later puts of any size do not get that memory.
        let _others: Vec<LinkBuffer> = (0..4).map(|_| put(&[0xEE; BLOCK])).collect();
        assert_eq!(back, pattern(BLOCK)[BLOCK / 2..]);
        assert_eq!(pool.stats().in_use, 5 * BLOCK);
    });
}

/// The same with bytes that are read and put repeatedly through one write block.
#[test]
fn b4_kept_slices_of_a_write_block_are_not_overwritten() {
    in_own_pool(|_| {
        let mut kept: Vec<(Bytes, LinkBuffer, u8)> = Vec::new();
        for n in 0..=255u8 {
            let mut buffer = put(&[n; 5000]);
            let slice = buffer.slice(4500).unwrap();
            let rest = buffer.split_to(250).unwrap();
            if n % 3 != 0 {
                kept.push((slice, rest, n));
            }
        }
        for (slice, rest, n) in kept {
            assert_eq!(slice, vec![n; 4500]);
            assert_eq!(contents(&rest), vec![n; 250]);
        }
    });
}

/// Many pieces, all of them inserted at the same position.
#[test]
fn b4_inserts_at_one_place_come_in_the_reverse_order() {
    let mut buffer = segmented(&[b"<"]);
    buffer.reserve(0).unwrap();
    buffer.put_slice(b"()");
    for piece in [&b"1"[..], b"2", b"3"] {
        buffer.insert(1, Bytes::copy_from_slice(piece)).unwrap();
    }
    buffer.commit_all();
    assert_eq!(contents(&buffer), b"<(321)");
}
