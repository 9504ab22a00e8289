// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cache of a thread: the free blocks that it reaches without a lock.
//!
//! A thread has one cache, of the pool that it entered last. A block of that pool whose last owner
//! is dropped on this thread is cached here, and the next allocation of its size takes it. When the
//! thread enters another pool, or ends, the cache is flushed to the central lists.
//!
//! The cache holds the pool; its blocks do not (B6). A block that it does not keep it returns to
//! its caller, and it frees nothing while it is borrowed, so no drop re-enters the cache then.
//!
//! A cache is bounded twice. By class, because large blocks are rare, and any thread may need them
//! next. In bytes, because blocks cached here are out of reach of every other thread while they
//! count against the bound of the shared pool. [`MAX_CACHED_BYTES`], 256 KiB, holds three blocks of
//! the largest cached class (68 KiB each): a read block, a write block, and about as much again for
//! everything smaller. A hundred threads cache at most 25 MiB, under half of the default bound of a
//! pool.

use std::cell::RefCell;

use super::size_class::{class_of, size_of_class};
use super::{FreeBlock, Pool};
use crate::sync::thread_local;

/// The most bytes that one thread caches.
pub(super) const MAX_CACHED_BYTES: usize = 256 << 10;

/// The classes that a thread caches: up to that of a read block and a write block, 64 KiB.
const CACHED_CLASSES: usize = match class_of(64 << 10) {
    Some(class) => class + 1,
    None => 0,
};

thread_local! {
    static THREAD_CACHE: RefCell<Option<ThreadCache>> = const { RefCell::new(None) };
}

/// Free blocks of `pool`, for one thread.
struct ThreadCache {
    pool: Pool,
    free: [Vec<FreeBlock>; CACHED_CLASSES],
    /// Bytes in `free`, at most [`MAX_CACHED_BYTES`].
    cached_bytes: usize,
}

/// Returns the pool of the calling thread. `None` before it entered one, and during the thread's
/// teardown.
pub(super) fn current_pool() -> Option<Pool> {
    with(|cache| cache.pool.clone())
}

/// Returns whether `pool` is the calling thread's.
pub(super) fn is_current(pool: &Pool) -> bool {
    with(|cache| cache.pool.ptr_eq(pool)).unwrap_or(false)
}

/// Makes `pool` the calling thread's, with an empty cache.
pub(super) fn enter(pool: Pool) {
    let cache = ThreadCache {
        pool,
        free: [const { Vec::new() }; CACHED_CLASSES],
        cached_bytes: 0,
    };
    // The previous cache is flushed on drop, after the borrow has ended. A thread in teardown has
    // no use for a pool.
    let _before = THREAD_CACHE.try_with(|slot| slot.replace(Some(cache))).ok();
}

/// Takes a block of `class` from the cache, if the cache is of `pool`.
pub(super) fn pop(pool: &Pool, class: usize) -> Option<FreeBlock> {
    with(|cache| {
        let block = cache.free_list(pool, class)?.pop()?;
        cache.cached_bytes -= size_of_class(class);
        Some(block)
    })
    .flatten()
}

/// Caches `block`.
///
/// # Errors
///
/// The block, if the cache is of another pool, or is full.
pub(super) fn push(pool: &Pool, class: usize, block: FreeBlock) -> Result<(), FreeBlock> {
    let mut offered = Some(block);
    with(|cache| {
        let held = cache.cached_bytes + size_of_class(class);
        if held <= MAX_CACHED_BYTES
            && let Some(stack) = cache.free_list(pool, class)
        {
            stack.extend(offered.take());
            cache.cached_bytes = held;
        }
    });
    offered.map_or(Ok(()), Err)
}

/// Runs `act` on the calling thread's cache, if it has one. `act` must neither drop a block nor
/// call code outside of this file.
fn with<T>(act: impl FnOnce(&mut ThreadCache) -> T) -> Option<T> {
    THREAD_CACHE
        .try_with(|cache| cache.borrow_mut().as_mut().map(act))
        .ok()
        .flatten()
}

impl ThreadCache {
    fn free_list(&mut self, pool: &Pool, class: usize) -> Option<&mut Vec<FreeBlock>> {
        self.free.get_mut(class).filter(|_| self.pool.ptr_eq(pool))
    }
}

impl Drop for ThreadCache {
    /// Flushes the cache to the central lists. Its blocks are counted as cached already.
    fn drop(&mut self) {
        for (class, free) in self.free.iter_mut().enumerate() {
            if !free.is_empty() {
                self.pool.central_list(class).append(free);
            }
        }
    }
}

#[cfg(test)]
mod tests;
