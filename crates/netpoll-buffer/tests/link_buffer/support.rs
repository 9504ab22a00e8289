// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of this binary share.

#[path = "../support/reason.rs"]
mod reason;

use std::panic;
use std::thread;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Pool};

pub(crate) use reason::reason;

/// The whole size of a write block: 64 KiB and a page for a header.
pub(crate) const BLOCK: usize = (64 << 10) + (4 << 10);

/// Where something may change: nothing, little, and around what a block and a large put are.
pub(crate) const SIZES: [usize; 14] = [
    0,
    1,
    2,
    255,
    4096,
    (32 << 10) - 1,
    32 << 10,
    (64 << 10) - 1,
    64 << 10,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    2 * BLOCK,
    2 * BLOCK + 1,
];

/// Runs `test` on a thread of its own, which takes its memory from a pool of its own.
pub(crate) fn in_own_pool<T: Send>(test: impl FnOnce(&Pool) -> T + Send) -> T {
    let pool = Pool::default();
    let inside = pool.clone();
    thread::scope(|scope| {
        scope
            .spawn(move || {
                inside.enter();
                test(&inside)
            })
            .join()
            .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// `n` bytes that do not repeat with any power of two.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// A buffer with each of `pieces` as a segment of its own.
pub(crate) fn segmented(pieces: &[&[u8]]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    for piece in pieces {
        buffer.push(Bytes::copy_from_slice(piece));
    }
    buffer
}

/// `bytes` in segments of `each`.
pub(crate) fn cut(bytes: &[u8], each: usize) -> LinkBuffer {
    segmented(&bytes.chunks(each).collect::<Vec<_>>())
}

/// A buffer with `bytes` in the thread's write block.
pub(crate) fn put(bytes: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(bytes);
    buffer
}

/// What can be read, without reading it.
pub(crate) fn contents(buffer: &LinkBuffer) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in buffer.segments() {
        assert!(!segment.is_empty(), "a segment that shows nothing");
        all.extend_from_slice(segment.as_slice());
    }
    assert_eq!(
        all.len(),
        buffer.len(),
        "the length is that of the contents"
    );
    all
}

/// Where each segment lies, and how long it is.
pub(crate) fn places(buffer: &LinkBuffer) -> Vec<(*const u8, usize)> {
    buffer
        .segments()
        .map(|segment| (segment.as_slice().as_ptr(), segment.len()))
        .collect()
}

/// How many slices the kernel would be given for all that can be read.
pub(crate) fn slices(buffer: &LinkBuffer) -> usize {
    buffer.io_slices().count()
}
