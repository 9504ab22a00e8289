// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write block of a thread: the memory that small puts on this thread are copied to.
//!
//! A buffer borrows the thread's tail with its first put and returns it when its contents move on.
//! After those are sent the block has no other owner, and the next borrower starts at its front:
//! thousands of connections write through one hot block. The price is that one unsent byte pins the
//! block, which is why output that stays is copied out.
//!
//! A thread keeps one write block, of the pool that it entered last, and nothing of any other pool:
//! an idle thread would pin memory that others need. A tail that reaches a thread with a buffer of
//! another thread is released to its own pool.

use std::cell::Cell;

use crate::pool::Pool;
use crate::sync::thread_local;
use crate::tail::Tail;

/// The size of a write block.
pub(crate) const WRITE_BLOCK_SIZE: usize = 64 << 10;

/// A put of at least this size gets a block of its own instead of being split over write blocks.
pub(crate) const LARGE_PUT_SIZE: usize = 32 << 10;

/// A block with segments and less spare capacity than this is not borrowed any more.
const MIN_SHARED_CAPACITY: usize = 4 << 10;

thread_local! {
    // Of the pool that the thread allocates from: `release` keeps no other, and `Pool::enter`
    // releases the tail of the previous pool. (The checker's form of this takes no documentation.)
    static TAIL: Cell<Option<Tail>> = const { Cell::new(None) };
}

impl Pool {
    /// Makes this the pool of the calling thread from now on. Memory that the thread cached of
    /// another pool returns to where all threads of that pool can allocate it. A buffer that has
    /// begun to write continues in the memory it has.
    pub fn enter(&self) {
        self.make_current();
        // In a thread's teardown the tail may be gone already.
        let before = TAIL.try_with(Cell::take).ok().flatten();
        before.into_iter().for_each(release);
    }
}

/// Returns the thread's write tail, or a new one. It has spare capacity for at least 4 KiB, and
/// belongs to the pool that the thread allocates from.
pub(crate) fn borrow() -> Tail {
    let own = TAIL.try_with(Cell::take).ok().flatten();
    if let Some(mut tail) = own
        && (tail.rewind() || tail.spare_capacity() >= MIN_SHARED_CAPACITY)
    {
        return tail;
    }
    Tail::with_capacity(WRITE_BLOCK_SIZE)
}

/// Returns a tail for `bytes` more: the thread's, or one of their own size if they are many.
pub(crate) fn tail_for_put(bytes: usize) -> Tail {
    if bytes >= LARGE_PUT_SIZE {
        Tail::with_capacity(bytes)
    } else {
        borrow()
    }
}

/// Returns whether the tail has the size of a write block, and so may be the thread's.
pub(crate) fn is_write_block(tail: &Tail) -> bool {
    (WRITE_BLOCK_SIZE..=2 * WRITE_BLOCK_SIZE).contains(&tail.capacity())
}

/// Returns a tail to the current thread. Releases a block of another size or of another pool
/// instead, and the fuller one of two.
pub(crate) fn release(tail: Tail) {
    if !is_write_block(&tail) || !tail.is_from_current_pool() {
        return;
    }
    // A thread in teardown keeps nothing: the tail is dropped.
    let _torn_down = TAIL.try_with(|slot| {
        let kept = match slot.take() {
            Some(other) if other.spare_capacity() > tail.spare_capacity() => other,
            _ => tail,
        };
        slot.set(Some(kept));
    });
}
