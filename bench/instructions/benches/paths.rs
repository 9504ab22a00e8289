// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hot paths of the buffer and the codecs, through the public API. Each does one thing
//! [`TIMES`] times. Its inputs are created before and dropped after the counted part.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use netpoll::codec::{Codec, Delimiter, LengthField, Need};
use netpoll_buffer::{LinkBuffer, Tail};
use netpoll_instructions_bench::TIMES;

/// The maximum size of one read of a connection in bytes.
const READ: usize = 64 << 10;

/// Returns `bytes` as the reads of a connection leave them.
fn landed(bytes: &[u8], each: usize) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    for piece in bytes.chunks(each) {
        let mut block = Tail::with_capacity(each);
        assert_eq!(block.put(piece), piece.len(), "a block has what it says");
        buffer.push_segment(block.window(0..block.filled()));
    }
    buffer
}

/// Returns frames of `size` bytes, each after its length.
fn frames(size: usize) -> LinkBuffer {
    let frame = [&(size as u32).to_be_bytes()[..], &vec![7; size]].concat();
    landed(&frame.repeat(TIMES), READ)
}

/// Returns lines of 63 bytes and their newlines.
fn lines() -> LinkBuffer {
    let line = [&[b'x'; 63][..], b"\n"].concat();
    landed(&line.repeat(TIMES), READ)
}

#[library_benchmark]
#[bench::of_128b(frames(128))]
fn parse(mut input: LinkBuffer) -> LinkBuffer {
    for _ in 0..TIMES {
        let length = input.read_u32().expect("a length is there");
        black_box(input.next(length as usize).expect("a body is there"));
    }
    input
}

#[library_benchmark]
#[bench::of_64b(vec![7; 64])]
#[bench::of_1k(vec![7; 1 << 10])]
fn put_and_read(message: Vec<u8>) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    for _ in 0..TIMES {
        buffer.put_slice(black_box(&message));
        black_box(buffer.next(message.len()).expect("what was put is there"));
    }
    buffer
}

// As a message proxy: another length, and the same body without a copy.
#[library_benchmark]
#[bench::of_1k(frames(1 << 10))]
fn forward(mut input: LinkBuffer) -> (LinkBuffer, LinkBuffer) {
    let mut output = LinkBuffer::new();
    for _ in 0..TIMES {
        let length = input.read_u32().expect("a length is there");
        output.put_u32(length);
        output.append(input.split_to(length as usize).expect("a body is there"));
    }
    (input, output)
}

// From blocks whose memory the slice shares.
#[library_benchmark]
#[bench::of_1k(landed(&vec![7; TIMES << 10], 16 << 10))]
fn slice(mut input: LinkBuffer) -> LinkBuffer {
    for _ in 0..TIMES {
        let slice: Bytes = input.slice(1 << 10).expect("a slice is there");
        drop(black_box(slice));
    }
    input
}

#[library_benchmark]
#[bench::of_64b(lines())]
fn until(mut input: LinkBuffer) -> LinkBuffer {
    for _ in 0..TIMES {
        black_box(input.until(b'\n', READ).expect("a line is there"));
    }
    input
}

// To a socket, and from its other end.
#[library_benchmark]
#[bench::of_1k(UnixStream::pair().expect("two sockets"))]
fn drain_and_fill(ends: (UnixStream, UnixStream)) -> (LinkBuffer, LinkBuffer) {
    let (mut output, mut input) = (LinkBuffer::new(), LinkBuffer::new());
    for _ in 0..TIMES {
        output.put_slice(black_box(&[7; 1 << 10]));
        output.drain_to(ends.0.as_fd()).expect("a socket with room");
        let came = input.fill_from(ends.1.as_fd(), READ);
        let came = came.expect("what was sent");
        black_box(input.next(came).expect("what came is there"));
    }
    (output, input)
}

/// As a frame reader: measures a frame, splits it off and passes it on.
fn decode(codec: &impl Codec<Frame = LinkBuffer>, input: &mut LinkBuffer) {
    for _ in 0..TIMES {
        let Ok(Need::Frame(whole)) = codec.measure(input) else {
            panic!("a frame is there");
        };
        let bytes = input.split_to(whole).expect("so many bytes are there");
        drop(black_box(codec.decode(bytes)));
    }
}

#[library_benchmark]
#[bench::of_128b(frames(128))]
fn decode_length_field(mut input: LinkBuffer) -> LinkBuffer {
    decode(&LengthField::new(), &mut input);
    input
}

#[library_benchmark]
#[bench::of_64b(lines())]
fn decode_delimiter(mut input: LinkBuffer) -> LinkBuffer {
    decode(&Delimiter::new(b"\n"), &mut input);
    input
}

#[library_benchmark]
#[bench::of_128b((0..TIMES).map(|_| LinkBuffer::from(vec![7; 128])).collect())]
fn encode_length_field(frames: Vec<LinkBuffer>) -> LinkBuffer {
    let codec = LengthField::new();
    let mut output = LinkBuffer::new();
    for frame in frames {
        codec.encode(frame, &mut output).expect("a frame that fits");
    }
    output
}

library_benchmark_group!(
    name = buffer,
    benchmarks = [parse, put_and_read, forward, slice, until, drain_and_fill]
);
library_benchmark_group!(
    name = codec,
    benchmarks = [decode_length_field, decode_delimiter, encode_length_field]
);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        .env("GLIBC_TUNABLES", netpoll_instructions_bench::SAME_COPIES),
    library_benchmark_groups = [buffer, codec]
);
