// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contiguous tails: a reader's awaited bytes are stored contiguously behind the received ones.

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Tail};

use crate::support::{contents, in_own_pool, pattern, places};

/// Fills `bytes` in as a read does; returns how many fit.
fn receive(buffer: &mut LinkBuffer, n: usize, capacity: usize, bytes: &[u8]) -> usize {
    let mut tail = buffer.take_contiguous_tail(n, capacity);
    let count = tail.put(bytes);
    buffer.append_tail(tail, count);
    count
}

#[test]
fn bytes_filled_into_a_contiguous_tail_are_contiguous_with_the_buffer() {
    let mut buffer = LinkBuffer::from(Bytes::from(pattern(100)));
    let frame = pattern(5000);
    assert_eq!(receive(&mut buffer, 5000, 5000, &frame[100..]), 4900);
    assert_eq!(buffer.segments().count(), 1);
    assert_eq!(buffer.next(5000).unwrap(), frame);
}

#[test]
fn a_block_with_enough_capacity_is_kept() {
    let mut buffer = LinkBuffer::new();
    receive(&mut buffer, 60_000, 60_000, &[1; 1000]);
    let place = places(&buffer)[0].0;
    for _ in 0..10 {
        receive(&mut buffer, 60_000, 60_000, &[2; 1000]);
    }
    assert_eq!(places(&buffer), [(place, 11_000)]);
    assert_eq!(buffer.len(), 11_000);
}

#[test]
fn a_full_block_is_replaced_by_a_larger_copy() {
    let mut buffer = LinkBuffer::new();
    let bytes = pattern(20_000);
    let mut come = 0;
    while come < bytes.len() {
        let capacity = 4096.max(2 * come);
        come += receive(&mut buffer, bytes.len(), capacity, &bytes[come..]);
    }
    assert_eq!(buffer.segments().count(), 1);
    assert_eq!(contents(&buffer), bytes);
}

#[test]
fn appending_an_empty_tail_adds_nothing() {
    let mut buffer = LinkBuffer::from(Bytes::from_static(b"abc"));
    assert_eq!(receive(&mut buffer, 1000, 1000, b""), 0);
    assert_eq!(contents(&buffer), b"abc");
}

#[test]
fn memory_of_a_contiguous_tail_is_freed_after_read_and_release() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        receive(&mut buffer, 10_000, 10_000, &[3; 10_000]);
        assert!(pool.stats().in_use >= 10_000);
        buffer.skip(10_000).unwrap();
        buffer.release();
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn prepending_to_an_empty_buffer_keeps_the_tail() {
    let mut waiting = LinkBuffer::new();
    receive(&mut waiting, 10_000, 10_000, &[4; 100]);
    let place = places(&waiting)[0].0;
    let mut input = LinkBuffer::new();
    input.prepend(waiting);
    receive(&mut input, 10_000, 10_000, &[5; 9_900]);
    assert_eq!(places(&input), [(place, 10_000)]);
}

#[test]
fn a_window_above_the_limit_is_not_coalesced() {
    let mut buffer = LinkBuffer::new();
    receive(&mut buffer, 4000, 4000, &[1; 10]);
    let mut block = Tail::with_capacity(1000);
    block.put(&[2; 1000]);
    assert!(buffer.coalesce(block.window(0..257)).is_err());
    assert!(buffer.coalesce(block.window(0..256)).is_ok());
    assert_eq!(buffer.segments().count(), 1);
}

#[test]
fn many_small_reads_make_few_segments() {
    let mut blocks = [Tail::with_capacity(65_536), Tail::with_capacity(65_536)];
    let mut buffer = LinkBuffer::new();
    for drip in 0..100_000 {
        // Two blocks in turn, so that no window continues the last one.
        let block = &mut blocks[drip % 2];
        if block.spare_capacity() == 0 {
            *block = Tail::with_capacity(65_536);
        }
        let start = block.filled();
        block.put(&[drip as u8]);
        if let Err(window) = buffer.coalesce(block.window(start..start + 1)) {
            buffer.push_segment(window);
        }
    }
    assert!(buffer.segments().count() < 20, "{buffer:?}");
    let whole: Vec<u8> = (0..100_000).map(|drip| drip as u8).collect();
    assert_eq!(contents(&buffer), whole);
}
