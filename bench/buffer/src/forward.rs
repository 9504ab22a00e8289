// SPDX-License-Identifier: MIT OR Apache-2.0
//! Moves a frame from a receive buffer to a send buffer, as a proxy does, in three ways: the whole
//! buffer; the body after a 4-byte length, with the next frame's bytes after it; and that body
//! after a new length.

mod peers;

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion};
use netpoll_buffer::LinkBuffer;

use crate::landed::{Landed, bytes};
use peers::{Copied, Linked, Queue, Received};

/// The bytes after the frame.
const FOLLOWING: usize = 100;

/// Inputs created at a time: few enough to stay in the nearest cache, enough to make the cost of
/// the clock negligible.
const BATCH: BatchSize = BatchSize::NumIterations(64);

/// An input, an output, and the three ways from one to the other.
pub(crate) trait Forward {
    /// Moves the whole input.
    fn whole(&mut self);
    /// Moves the body after a length.
    fn body(&mut self);
    /// Moves the body after a new length.
    fn reframed(&mut self);
}

pub(crate) fn bench(criterion: &mut Criterion) {
    for (size, name) in [(64 << 10, "64k"), (1 << 20, "1m")] {
        let input = input(size);
        bench_way(
            criterion,
            &format!("forward_whole_{name}"),
            &input,
            Way::Whole,
        );
        bench_way(
            criterion,
            &format!("forward_body_{name}"),
            &input,
            Way::Body,
        );
        bench_way(
            criterion,
            &format!("forward_reframed_{name}"),
            &input,
            Way::Reframed,
        );
    }
}

/// Returns a frame and the bytes after it, `size` bytes in total.
pub(crate) fn input(size: usize) -> Vec<u8> {
    let mut input = bytes(size);
    let body = size - 4 - FOLLOWING;
    input[..4].copy_from_slice(&(body as u32).to_be_bytes());
    input
}

/// One of the three ways.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Whole,
    Body,
    Reframed,
}

impl Way {
    pub(crate) fn forward(self, forward: &mut impl Forward) {
        match self {
            Self::Whole => forward.whole(),
            Self::Body => forward.body(),
            Self::Reframed => forward.reframed(),
        }
    }
}

fn bench_way(criterion: &mut Criterion, group: &str, input: &[u8], way: Way) {
    let mut group = criterion.benchmark_group(group);
    let (one, chain) = (Landed::in_one_block(input), Landed::in_reads(input));
    bench_fresh(&mut group, "link_buffer", way, || LinkBuffers::over(&one));
    bench_fresh(&mut group, "link_buffer_chain", way, || {
        LinkBuffers::over(&chain)
    });

    let mut received = Received::new(input);
    bench_fresh(&mut group, "bytes_queue", way, || {
        Queue::over(received.next())
    });
    bench_fresh(&mut group, "linked_bytes", way, || {
        Linked::over(received.next())
    });

    let mut copied = Copied::of(input);
    group.bench_function("vec", |bencher| {
        bencher.iter(|| way.forward(black_box(&mut copied)));
    });
    group.finish();
}

fn bench_fresh<F: Forward>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    way: Way,
    mut make: impl FnMut() -> F,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(&mut make, |forward| way.forward(forward), BATCH);
    });
}

/// Copies no byte.
pub(crate) struct LinkBuffers {
    pub(crate) input: LinkBuffer,
    pub(crate) output: LinkBuffer,
}

impl LinkBuffers {
    pub(crate) fn over(landed: &Landed) -> Self {
        Self {
            input: landed.buffer(),
            output: LinkBuffer::new(),
        }
    }

    fn append(&mut self, length: usize) {
        let frame = self.input.split_to(length);
        self.output.append(frame.expect("so many bytes are there"));
    }

    fn read_length(&mut self) -> u32 {
        self.input.read_u32().expect("a length is there")
    }
}

impl Forward for LinkBuffers {
    fn whole(&mut self) {
        self.append(self.input.len());
    }

    fn body(&mut self) {
        let length = self.read_length();
        self.append(length as usize);
    }

    fn reframed(&mut self) {
        let length = self.read_length();
        self.output.put_u32(length);
        self.append(length as usize);
    }
}
