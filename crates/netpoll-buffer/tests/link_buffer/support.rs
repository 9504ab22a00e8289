// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helpers of this test program.

#[path = "../support/reason.rs"]
mod reason;

use std::panic;
use std::thread;

use bytes::Bytes;
use netpoll_buffer::{LinkBuffer, Pool};

pub(crate) use reason::reason;

/// The size of a write block: 64 KiB and a page for a header.
pub(crate) const BLOCK: usize = (64 << 10) + (4 << 10);

/// Sizes at which behaviour may change: zero, small ones, and around those of a block and of a
/// large put.
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

/// Runs `test` on a new thread with a pool of its own.
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

/// Returns `n` bytes without a period of a power of two.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// Returns a buffer with each of `pieces` as a segment of its own.
pub(crate) fn segmented(pieces: &[&[u8]]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    for piece in pieces {
        buffer.push(Bytes::copy_from_slice(piece));
    }
    buffer
}

/// Returns a buffer of `bytes` in segments of `each`.
pub(crate) fn cut(bytes: &[u8], each: usize) -> LinkBuffer {
    segmented(&bytes.chunks(each).collect::<Vec<_>>())
}

/// Returns a buffer with `bytes` in the thread's write block.
pub(crate) fn put(bytes: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(bytes);
    buffer
}

/// Returns the readable bytes without reading them.
pub(crate) fn contents(buffer: &LinkBuffer) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in buffer.segments() {
        assert!(!segment.is_empty(), "no segment is empty");
        all.extend_from_slice(segment.as_slice());
    }
    assert_eq!(
        all.len(),
        buffer.len(),
        "the length is that of the contents"
    );
    all
}

/// Returns the address and the length of each segment.
pub(crate) fn places(buffer: &LinkBuffer) -> Vec<(*const u8, usize)> {
    buffer
        .segments()
        .map(|segment| (segment.as_slice().as_ptr(), segment.len()))
        .collect()
}

/// Returns the number of slices for a vectored write of all readable bytes.
pub(crate) fn slices(buffer: &LinkBuffer) -> usize {
    buffer.io_slices().count()
}
