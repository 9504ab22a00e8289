// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slices 1 KiB out of a buffer as owned memory and drops it on another thread: the cost for a
//! server that passes bodies to workers.
//!
//! A LinkBuffer shares the memory if the slice is at least a sixteenth of its block, and copies a
//! smaller one, so that small slices do not retain large blocks. Both are measured: from blocks of
//! 16 KiB, where it shares, and of 64 KiB, where it copies.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use netpoll_buffer::LinkBuffer;

use crate::landed::{Landed, bytes};

const SLICE: usize = 1 << 10;

/// Slices sent at a time, so that the cost of the channel is negligible.
const MESSAGE: u64 = 64;

/// The groups and their block sizes.
pub(crate) const GROUPS: [(&str, usize); 2] = [("slice_16k", 16 << 10), ("slice_64k", 64 << 10)];

pub(crate) fn bench(criterion: &mut Criterion) {
    let consumer = Consumer::start();
    for (group, block) in GROUPS {
        let content = bytes(block);
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(1));

        let landed = Landed::in_one_block(&content);
        let mut buffer = LinkBuffer::new();
        let mut next = || {
            if buffer.is_empty() {
                buffer = landed.buffer();
            }
            buffer.slice(SLICE).expect("a slice is there")
        };
        group.bench_function("link_buffer", |bencher| {
            bencher.iter_custom(|slices| consumer.time(slices, &mut next));
        });

        let whole = Bytes::from(content.clone());
        let mut rest = Bytes::new();
        let mut next = || {
            if rest.is_empty() {
                rest = whole.clone();
            }
            rest.split_to(SLICE)
        };
        group.bench_function("bytes", |bencher| {
            bencher.iter_custom(|slices| consumer.time(slices, &mut next));
        });

        let mut rest = &content[..];
        let mut next = || {
            if rest.is_empty() {
                rest = &content;
            }
            let (slice, after) = rest.split_at(SLICE);
            rest = after;
            Bytes::from(slice.to_vec())
        };
        group.bench_function("vec", |bencher| {
            bencher.iter_custom(|slices| consumer.time(slices, &mut next));
        });
        group.finish();
    }
}

/// A thread that drops the slices that it receives, and confirms it.
struct Consumer {
    slices: Option<SyncSender<Vec<Bytes>>>,
    dropped: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    fn start() -> Self {
        let (slices, received) = sync_channel(16);
        let (said, dropped) = channel();
        let thread = std::thread::spawn(move || consume(&received, &said));
        Self {
            slices: Some(slices),
            dropped,
            thread: Some(thread),
        }
    }

    /// Returns the time to create, send and drop this many slices.
    fn time(&self, slices: u64, next: &mut impl FnMut() -> Bytes) -> Duration {
        let sender = self.slices.as_ref().expect("it ends with this");
        let start = Instant::now();
        let (mut left, mut messages) = (slices, 0);
        while left > 0 {
            let count = left.min(MESSAGE);
            let message = (0..count).map(|_| next()).collect();
            sender.send(message).expect("a consumer");
            left -= count;
            messages += 1;
        }
        for _ in 0..messages {
            self.dropped.recv().expect("a consumer");
        }
        start.elapsed()
    }
}

fn consume(slices: &Receiver<Vec<Bytes>>, said: &Sender<()>) {
    for message in slices {
        drop(message);
        if said.send(()).is_err() {
            break;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.slices.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a consumer that ends");
        }
    }
}
