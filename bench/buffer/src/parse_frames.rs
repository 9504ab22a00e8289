// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses 1,000 frames of 128 B, each after its length as a big-endian `u32`, out of three reads of
//! 64 KiB. Two frames cross the border of two reads.
//!
//! In `parse_frames`, the consumer reads the body: it adds up its 8-byte words. In
//! `parse_frames_bare`, it only takes the position and the length of the body. This measures
//! parsing alone, which no real program does.
//!
//! The buffer is parsed in two ways: call by call, as in a handler that is called for each request
//! (`link_buffer`), and, as in a parser that takes all frames at once, by a cursor over each
//! contiguous piece, with calls only for a frame across a border (`link_buffer_pieces`).
//!
//! The cursor and the buffer read the same memory, the cursor as one piece and the buffer in
//! segments of 64 KiB: the speed of a loop over bytes varies by a half with the pages on which they
//! are. The `BytesMut` is filled anew each time, since it gives its memory away. `LinkedBytes` has
//! no read side, so it is missing here.

use std::hint::black_box;
use std::io::{self, BufRead};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use netpoll_buffer::LinkBuffer;

use crate::landed::{READ, bytes};

const FRAMES: usize = 1_000;
const BODY: usize = 128;

pub(crate) fn bench(criterion: &mut Criterion) {
    bench_with(criterion, "parse_frames", sum);
    bench_with(criterion, "parse_frames_bare", |body| {
        black_box(body);
        0
    });
}

/// Parses the whole input, in each way, and calls `consume` for each body.
fn bench_with(criterion: &mut Criterion, group: &str, consume: impl Fn(&[u8]) -> u64 + Copy) {
    let input = Bytes::from(frames());
    let expected = parse_cursor(&input, consume);
    assert_eq!(
        parse_link_buffer(&mut in_reads(&input), consume).ok(),
        expected
    );
    assert_eq!(parse_pieces(&mut in_reads(&input), consume).ok(), expected);
    assert_eq!(
        Some(parse_bytes_mut(&mut BytesMut::from(&input[..]), consume)),
        expected
    );

    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("cursor", |bencher| {
        let parse = |input: &mut &[u8]| parse_cursor(input, consume).expect("whole frames");
        bencher.iter_custom(|times| timed(times, &mut &input[..], |_| {}, parse));
    });
    group.bench_function("link_buffer", |bencher| {
        let again = |buffer: &mut LinkBuffer| *buffer = in_reads(&input);
        let parse =
            |buffer: &mut LinkBuffer| parse_link_buffer(buffer, consume).expect("whole frames");
        bencher.iter_custom(|times| timed(times, &mut LinkBuffer::new(), again, parse));
    });
    group.bench_function("link_buffer_pieces", |bencher| {
        let again = |buffer: &mut LinkBuffer| *buffer = in_reads(&input);
        let parse = |buffer: &mut LinkBuffer| parse_pieces(buffer, consume).expect("whole frames");
        bencher.iter_custom(|times| timed(times, &mut LinkBuffer::new(), again, parse));
    });
    group.bench_function("bytes_mut", |bencher| {
        // The same memory every time: it is reclaimed and filled again.
        let again = |buffer: &mut BytesMut| {
            buffer.reserve(input.len());
            buffer.extend_from_slice(&input);
        };
        let parse = |buffer: &mut BytesMut| parse_bytes_mut(buffer, consume);
        let mut buffer = BytesMut::with_capacity(input.len());
        bencher.iter_custom(|times| timed(times, &mut buffer, again, parse));
    });
    group.finish();
}

/// Returns the time of `times` calls of `parse`. The call of `again` before each is not timed.
fn timed<I>(
    times: u64,
    input: &mut I,
    again: impl Fn(&mut I),
    parse: impl Fn(&mut I) -> u64,
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        again(input);
        let start = Instant::now();
        black_box(parse(black_box(&mut *input)));
        total += start.elapsed();
    }
    total
}

fn frames() -> Vec<u8> {
    let body = bytes(BODY);
    let length = (BODY as u32).to_be_bytes();
    [&length[..], &body].concat().repeat(FRAMES)
}

/// Returns a buffer over `input` as the reads of a connection leave it.
fn in_reads(input: &Bytes) -> LinkBuffer {
    let starts = (0..input.len()).step_by(READ);
    starts
        .map(|start| input.slice(start..input.len().min(start + READ)))
        .collect()
}

fn sum(body: &[u8]) -> u64 {
    let (words, _) = body.as_chunks::<8>();
    words
        .iter()
        .fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

fn parse_link_buffer(buffer: &mut LinkBuffer, consume: impl Fn(&[u8]) -> u64) -> io::Result<u64> {
    let mut total = 0u64;
    for _ in 0..FRAMES {
        let length = buffer.read_u32()?;
        let body = buffer.next(length as usize)?;
        total = total.wrapping_add(consume(body));
    }
    Ok(total)
}

/// Parses as a parser that takes all frames at once: by hand over each contiguous piece.
fn parse_pieces(buffer: &mut LinkBuffer, consume: impl Fn(&[u8]) -> u64) -> io::Result<u64> {
    let mut total = 0u64;
    loop {
        let piece = buffer.fill_buf()?;
        if piece.is_empty() {
            return Ok(total);
        }
        let mut rest = piece;
        while let Some((body, after)) = first_frame(rest) {
            total = total.wrapping_add(consume(body));
            rest = after;
        }
        let (whole, is_part) = (piece.len() - rest.len(), !rest.is_empty());
        buffer.consume(whole);
        if is_part {
            let length = buffer.read_u32()?;
            total = total.wrapping_add(consume(buffer.next(length as usize)?));
        }
    }
}

/// Returns the body of the first frame, if it is complete, and the bytes after it.
fn first_frame(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// Parses by hand over contiguous bytes.
fn parse_cursor(mut input: &[u8], consume: impl Fn(&[u8]) -> u64) -> Option<u64> {
    let mut total = 0u64;
    for _ in 0..FRAMES {
        let (body, rest) = first_frame(input)?;
        total = total.wrapping_add(consume(body));
        input = rest;
    }
    Some(total)
}

/// Parses as a length-delimited decoder over a `BytesMut`: checks that the length and then the body
/// are complete, and splits the body off.
fn parse_bytes_mut(buffer: &mut BytesMut, consume: impl Fn(&[u8]) -> u64) -> u64 {
    let mut total = 0u64;
    while let Some(length) = buffer.first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if buffer.len() - 4 < length {
            break;
        }
        buffer.advance(4);
        let body = buffer.split_to(length);
        total = total.wrapping_add(consume(&body));
    }
    total
}
