// SPDX-License-Identifier: MIT OR Apache-2.0
//! Repeated peeks at all received bytes: contiguous bytes stay contiguous, and the total of all
//! copies is proportional to the received bytes, for any number of arrivals.
#![expect(clippy::unwrap_used, reason = "shared helpers run only in tests")]

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Pool, Tail};

use crate::support::{in_own_pool, pattern};

/// Counts the bytes that are moved in all by a peek at all bytes after each arrival.
struct Moved {
    bytes: usize,
    place: *const u8,
}

impl Moved {
    fn new() -> Self {
        Self {
            bytes: 0,
            place: std::ptr::null(),
        }
    }

    /// Peeks at all of `buffer`, which is `expected`; bytes at a new address were moved.
    fn look(&mut self, buffer: &mut LinkBuffer, expected: &[u8]) {
        let seen = buffer.peek(buffer.len()).unwrap();
        assert_eq!(seen, expected);
        if seen.as_ptr() != self.place {
            self.bytes += seen.len();
            self.place = seen.as_ptr();
        }
    }
}

/// How a piece arrives at the end of a buffer.
type Arrives = fn(&mut LinkBuffer, &[u8]);

/// As a read of a connection does, into a block of its own; small reads are coalesced.
fn received(buffer: &mut LinkBuffer, piece: &[u8]) {
    let mut block = Tail::with_capacity(64 << 10);
    block.put(piece);
    if let Err(window) = buffer.coalesce(block.window(0..piece.len())) {
        buffer.push_segment(window);
    }
}

fn pushed(buffer: &mut LinkBuffer, piece: &[u8]) {
    buffer.push(Bytes::copy_from_slice(piece));
}

fn appended(buffer: &mut LinkBuffer, piece: &[u8]) {
    let mut other = LinkBuffer::new();
    received(&mut other, piece);
    received(&mut other, b"");
    other.put_slice(b"");
    buffer.append(other);
}

/// As small reads that were coalesced in another buffer.
fn coalesced_elsewhere(buffer: &mut LinkBuffer, piece: &[u8]) {
    let mut input = LinkBuffer::new();
    let (first, behind) = piece.split_at(piece.len() / 2);
    received(&mut input, first);
    received(&mut input, behind);
    buffer.append(input);
}

/// An operation on the buffer between two arrivals.
type Between = fn(&mut LinkBuffer);

/// As a handler that returns its connection without consuming.
fn released(buffer: &mut LinkBuffer) {
    buffer.release();
}

/// As a waiting reader moves its unread bytes to the input buffer, and takes them back.
fn waited_with(buffer: &mut LinkBuffer) {
    buffer.compact();
    let mut input = LinkBuffer::new();
    input.prepend(std::mem::take(buffer));
    *buffer = input;
}

fn split_off(buffer: &mut LinkBuffer) {
    *buffer = buffer.split_to(buffer.len()).unwrap();
}

const ARRIVALS: [(&str, Arrives); 4] = [
    ("received", received),
    ("pushed", pushed),
    ("appended", appended),
    ("coalesced elsewhere", coalesced_elsewhere),
];

const BETWEEN: [(&str, Between); 4] = [
    ("nothing", |_| ()),
    ("released", released),
    ("waited with", waited_with),
    ("split off", split_off),
];

#[test]
fn a_peek_at_all_bytes_after_each_arrival_copies_each_byte_a_few_times() {
    for (how, arrives) in ARRIVALS {
        for (what, between) in BETWEEN {
            for each in [100, 1400, 9000] {
                let all = pattern(300 * each);
                in_own_pool(|pool| {
                    let mut buffer = LinkBuffer::new();
                    let mut moved = Moved::new();
                    for (number, piece) in all.chunks(each).enumerate() {
                        arrives(&mut buffer, piece);
                        moved.look(&mut buffer, &all[..(number + 1) * each]);
                        between(&mut buffer);
                    }
                    // It would be 150 times if each arrival moved all bytes.
                    let times = moved.bytes / all.len();
                    assert!(times <= 5, "{how}, {what}, {each}: {times} times");
                    // The memory of the buffer, and of the block that it is moved to.
                    let most = 6 * all.len() + (256 << 10);
                    assert!(pool.stats().peak <= most, "{:?}", pool.stats());
                });
            }
        }
    }
}

#[test]
fn growth_above_the_largest_size_class_copies_each_byte_a_few_times() {
    let all = pattern(24 << 20);
    let each = 128 << 10;
    let mut buffer = LinkBuffer::new();
    let mut moved = Moved::new();
    for (number, piece) in all.chunks(each).enumerate() {
        pushed(&mut buffer, piece);
        moved.look(&mut buffer, &all[..(number + 1) * each]);
        buffer.release();
    }
    let times = moved.bytes / all.len();
    assert!(times <= 5, "{times} times");
}

#[test]
fn growth_through_contiguous_tails_copies_each_byte_a_few_times() {
    // A reader that requests a little more each time than the contiguous tail was allocated for.
    let all = pattern(4 << 20);
    let each = 8 << 10;
    let mut buffer = LinkBuffer::new();
    let mut moved = Moved::new();
    for (number, piece) in all.chunks(each).enumerate() {
        let need = (number + 1) * each;
        let mut tail = buffer.take_contiguous_tail(need, need);
        let put = tail.put(piece);
        buffer.append_tail(tail, put);
        pushed(&mut buffer, &piece[put..]);
        moved.look(&mut buffer, &all[..need]);
    }
    let times = moved.bytes / all.len();
    assert!(times <= 5, "{times} times");
}

#[test]
fn consuming_a_part_before_each_peek_keeps_copies_proportional() {
    let all = pattern(400_000);
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        let mut consumed = 0;
        let mut copied = 0;
        for (number, piece) in all.chunks(1000).enumerate() {
            received(&mut buffer, piece);
            let before = pool.stats().in_use;
            let there = &all[consumed..(number + 1) * 1000];
            assert_eq!(buffer.peek(buffer.len()).unwrap(), there);
            copied += pool.stats().in_use.saturating_sub(before);
            buffer.skip(400).unwrap();
            consumed += 400;
            buffer.release();
        }
        assert!(copied <= 12 * all.len(), "{copied} bytes copied");
        buffer.skip(buffer.len()).unwrap();
        buffer.release();
        assert_eq!(pool.stats().in_use, 0, "all memory is released");
    });
}

#[test]
fn the_front_tail_is_freed_with_the_contiguous_bytes() {
    let all: [(&str, Between); 6] = [
        ("consumed and released", |buffer| {
            buffer.skip(buffer.len()).unwrap();
            buffer.release();
        }),
        ("nearly all consumed", |buffer| {
            buffer.skip(buffer.len() - 1).unwrap();
            buffer.release();
            buffer.compact();
        }),
        ("another in its place", |buffer| {
            buffer.skip(buffer.len()).unwrap();
            buffer.push(Bytes::from_static(b"other"));
        }),
        ("behind what comes before it", |buffer| {
            buffer.prepend(LinkBuffer::from(b"first".to_vec()));
            buffer.skip(buffer.len()).unwrap();
            buffer.put_slice(b"");
            buffer.release();
        }),
        ("appended to another", |buffer| {
            let mut other = LinkBuffer::from(b"first".to_vec());
            other.append(std::mem::take(buffer));
            other.skip(other.len()).unwrap();
            other.release();
        }),
        ("dropped", |buffer| drop(std::mem::take(buffer))),
    ];
    for (what, ends) in all {
        in_own_pool(|pool: &Pool| {
            let mut buffer = LinkBuffer::new();
            for _ in 0..3 {
                pushed(&mut buffer, &pattern(100_000));
                buffer.peek(buffer.len()).unwrap();
            }
            assert!(pool.stats().in_use > 300_000);
            ends(&mut buffer);
            assert!(pool.stats().in_use <= 512, "{what}: {:?}", pool.stats());
        });
    }
}

#[test]
fn the_first_make_contiguous_allocates_the_requested_size() {
    in_own_pool(|pool| {
        let mut buffer = LinkBuffer::new();
        pushed(&mut buffer, &pattern(60_000));
        pushed(&mut buffer, &pattern(60_000));
        buffer.peek(61_000).unwrap();
        assert_eq!(pool.stats().peak, 64 << 10 | 4 << 10);
    });
}
