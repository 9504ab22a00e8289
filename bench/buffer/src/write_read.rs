// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a message and reads it back, repeatedly through one buffer: the cost for a codec that
//! encodes into it. The read is one `&[u8]` over the message, which is then consumed.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use linkedbytes::LinkedBytes;
use netpoll_buffer::LinkBuffer;

use crate::landed::bytes;

/// The groups and their message sizes.
pub(crate) const GROUPS: [(&str, usize); 3] = [
    ("write_read_64", 64),
    ("write_read_1k", 1 << 10),
    ("write_read_64k", 64 << 10),
];

pub(crate) fn bench(criterion: &mut Criterion) {
    for (group, size) in GROUPS {
        let message = bytes(size);
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Bytes(size as u64));

        let mut buffer = LinkBuffer::new();
        group.bench_function("link_buffer", |bencher| {
            bencher.iter(|| through_link_buffer(&mut buffer, black_box(&message)));
        });
        let mut buffer = BytesMut::new();
        group.bench_function("bytes_mut", |bencher| {
            bencher.iter(|| through_bytes_mut(&mut buffer, black_box(&message)));
        });
        let (mut buffer, mut queue) = (BytesMut::new(), VecDeque::new());
        group.bench_function("bytes_queue", |bencher| {
            bencher.iter(|| through_queue(&mut buffer, &mut queue, black_box(&message)));
        });
        let mut buffer = LinkedBytes::new();
        group.bench_function("linked_bytes", |bencher| {
            bencher.iter(|| through_linked_bytes(&mut buffer, black_box(&message)));
        });
        let mut buffer = Vec::new();
        group.bench_function("vec", |bencher| {
            bencher.iter(|| through_vec(&mut buffer, black_box(&message)));
        });
        group.finish();
    }
}

fn through_link_buffer(buffer: &mut LinkBuffer, message: &[u8]) {
    buffer.put_slice(message);
    let read = buffer.next(message.len());
    black_box(read.expect("what was put is there"));
}

fn through_bytes_mut(buffer: &mut BytesMut, message: &[u8]) {
    buffer.put_slice(message);
    black_box(&buffer[..]);
    buffer.advance(message.len());
}

/// The way to a queue with `bytes` alone: written data is split off and queued.
fn through_queue(buffer: &mut BytesMut, queue: &mut VecDeque<Bytes>, message: &[u8]) {
    buffer.put_slice(message);
    queue.push_back(buffer.split().freeze());
    while let Some(piece) = queue.pop_front() {
        black_box(&piece[..]);
    }
}

/// A `LinkedBytes` has no read side: reading it is a walk over the parts to send.
fn through_linked_bytes(buffer: &mut LinkedBytes, message: &[u8]) {
    buffer.put_slice(message);
    for node in buffer.iter_list() {
        black_box(node.as_ref());
    }
    black_box(&buffer.bytes()[..]);
    buffer.reset();
}

fn through_vec(buffer: &mut Vec<u8>, message: &[u8]) {
    buffer.extend_from_slice(message);
    black_box(&buffer[..]);
    buffer.clear();
}
