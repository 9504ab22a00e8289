// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buffers that the kernel receives into. The kernel takes one when data arrives, so an idle
//! connection holds none. The data is copied out at once and the buffer returned.
//!
//! # Invariants
//!
//! 1. `ring` points to [`COUNT`] entries at the start of a page, and `memory` to `COUNT * SIZE`
//!    bytes. Neither is ever freed: the kernel may use both as long as the process lives.
//! 2. A buffer belongs to the kernel from [`Buffers::give`] to the completion that names it, and to
//!    this process from then to the next `give`. There is no reference to a buffer of the kernel's.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Number of buffers, a power of two. Usually more than the completions of one wait, and few enough
/// that the used part stays in the cache, since the kernel takes them in turn.
const COUNT: u16 = 256;

/// Size of a buffer in bytes.
const SIZE: usize = 16 << 10;

const PAGE: usize = 4096;

/// The buffer group of the receive requests.
pub(crate) const GROUP: u16 = 0;

pub(crate) struct Buffers {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    /// Registers the buffers with the kernel and gives it all of them.
    pub(crate) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = size_of::<BufRingEntry>() * usize::from(COUNT);
        let mut buffers = Self {
            ring: zeroed(entries, PAGE).cast(),
            memory: zeroed(SIZE * usize::from(COUNT), PAGE),
            tail: 0,
        };
        let ring = buffers.ring.as_ptr() as u64;
        // SAFETY: invariant 1.
        unsafe { submitter.register_buf_ring_with_flags(ring, COUNT, GROUP, 0) }?;
        for id in 0..COUNT {
            buffers.give(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Returns the data in the buffer that a completion has named.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < COUNT && len <= SIZE, "no such buffer");
        let start = self.start(id);
        // SAFETY: invariants 1 and 2: it is ours, and `give` needs `&mut self`.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// Gives a buffer to the kernel, which sees it after [`publish`](Self::publish).
    pub(crate) fn give(&mut self, id: u16) {
        let start = self.start(id);
        let at = usize::from(self.tail % COUNT);
        // SAFETY: invariant 1: `at` is one of the entries.
        let mut entry = unsafe { self.ring.add(at) };
        // SAFETY: the kernel reads an entry once the tail is beyond it, which is not so yet; the tail
        // itself is in a field of the first entry that none of these writes to.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(start as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Publishes the given buffers to the kernel.
    pub(crate) fn publish(&mut self) {
        // SAFETY: invariant 1: this is the first entry.
        let tail = unsafe { BufRingEntry::tail(self.ring.as_ptr()) };
        // SAFETY: the field is aligned and lives as long as the ring; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entries are written before.
        tail.store(self.tail, Ordering::Release);
    }

    fn start(&self, id: u16) -> *mut u8 {
        let offset = SIZE * usize::from(id % COUNT);
        // SAFETY: invariant 1: the offset is within the memory.
        unsafe { self.memory.as_ptr().add(offset) }
    }
}

/// Allocates memory that is never freed.
fn zeroed(bytes: usize, align: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, align);
    let layout = layout.unwrap_or_else(|_| unreachable!("a power of two, and not too much"));
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
