// SPDX-License-Identifier: MIT OR Apache-2.0
//! The write block of a thread: where the next small bytes that anybody on this thread puts into a
//! buffer land.
//!
//! A buffer borrows the thread's tail with its first put and returns it when its contents move on.
//! Once those are sent the block has no other owner, and the next borrower starts at its front:
//! thousands of connections write through one hot block. The price is that a byte left unsent pins
//! the block, which is why output that stays is copied out.
//!
//! A thread keeps one write block, of the pool that it entered last, and nothing of any other pool: a
//! thread that rests would pin memory that others are short of. A tail that comes to a thread with a
//! buffer of another thread's goes home to its own pool.

use std::cell::Cell;

use crate::pool::Pool;
use crate::sync::thread_local;
use crate::tail::Tail;

/// The size of a write block.
pub(crate) const WRITE_BLOCK_SIZE: usize = 64 << 10;

/// What is at least this long gets a block of its own size instead of being cut into write blocks.
pub(crate) const LARGE_PUT_SIZE: usize = 32 << 10;

/// Below this much room a block with segments out is left to them, and another is taken.
const MIN_SHARED_CAPACITY: usize = 4 << 10;

thread_local! {
    // Of the pool that the thread takes from: `release` keeps no other, and `Pool::enter` sends home
    // what was kept of the pool before. (The checker's form of this takes no documentation.)
    static TAIL: Cell<Option<Tail>> = const { Cell::new(None) };
}

impl Pool {
    /// Makes this the pool of the calling thread from now on. What the thread kept of another pool
    /// goes back to where all that pool's threads can take it. A buffer that has begun to write
    /// goes on in the memory it has.
    pub fn enter(&self) {
        self.make_current();
        // A thread that is being torn down has let go of it.
        let before = TAIL.try_with(Cell::take).ok().flatten();
        before.into_iter().for_each(release);
    }
}

/// The thread's write tail, or another one; it has room for at least a few KiB, and is of the pool
/// that the thread takes from.
pub(crate) fn borrow() -> Tail {
    let own = TAIL.try_with(Cell::take).ok().flatten();
    if let Some(mut tail) = own
        && (tail.rewind() || tail.spare_capacity() >= MIN_SHARED_CAPACITY)
    {
        return tail;
    }
    Tail::with_capacity(WRITE_BLOCK_SIZE)
}

/// A tail for `bytes` more: the thread's, or one of their own size if they are many.
pub(crate) fn tail_for_put(bytes: usize) -> Tail {
    if bytes >= LARGE_PUT_SIZE {
        Tail::with_capacity(bytes)
    } else {
        borrow()
    }
}

/// Whether this is of the size of a write block, and so may be the thread's.
pub(crate) fn is_write_block(tail: &Tail) -> bool {
    (WRITE_BLOCK_SIZE..=2 * WRITE_BLOCK_SIZE).contains(&tail.capacity())
}

/// Gives a tail back to the thread it is on now. A block of another size than a write block's goes
/// home instead, one of another pool than the thread's does, and so does the fuller of two.
pub(crate) fn release(tail: Tail) {
    if !is_write_block(&tail) || !tail.is_from_current_pool() {
        return;
    }
    // A thread that is being torn down keeps nothing: the tail is dropped.
    let _torn_down = TAIL.try_with(|slot| {
        let kept = match slot.take() {
            Some(other) if other.spare_capacity() > tail.spare_capacity() => other,
            _ => tail,
        };
        slot.set(Some(kept));
    });
}
