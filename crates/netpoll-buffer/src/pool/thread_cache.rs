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
mod tests {
    use super::*;
    use crate::tail::Tail;
    use std::thread;

    /// Runs `test` on a new thread, which has entered a new pool. Returns that pool after the
    /// thread has ended.
    fn entered(test: impl FnOnce(&Pool) + Send + 'static) -> Pool {
        let pool = Pool::with_bound(64 << 20);
        let inside = pool.clone();
        thread::spawn(move || {
            inside.enter();
            test(&inside);
        })
        .join()
        .unwrap();
        pool
    }

    fn central_list_len(pool: &Pool, capacity: usize) -> usize {
        pool.central_list(class_of(capacity).unwrap()).len()
    }

    #[test]
    fn a_thread_reuses_its_released_block_without_the_central_list() {
        let pool = entered(|pool| {
            drop((pool.take(256), pool.take(256)));
            assert_eq!((central_list_len(pool, 256), pool.stats().cached), (0, 512));
            let _again = (Tail::with_capacity(256), pool.take(1));
            assert_eq!(pool.stats().cached, 0, "both are from the cache");
            assert_eq!(pool.stats().peak, 512);
        });
        assert_eq!(pool.stats().in_use, 0);
    }

    #[test]
    fn a_thread_cache_keeps_its_bound_and_the_central_list_the_rest() {
        entered(|pool| {
            let size = size_of_class(class_of(64 << 10).unwrap());
            let blocks: Vec<Tail> = (0..5).map(|_| pool.take(size)).collect();
            drop(blocks);
            assert_eq!(central_list_len(pool, size), 5 - MAX_CACHED_BYTES / size);
            let spare = MAX_CACHED_BYTES % size / 256;
            let small: Vec<Tail> = (0..spare + 1).map(|_| pool.take(256)).collect();
            drop(small);
            assert_eq!(
                central_list_len(pool, 256),
                1,
                "small blocks fill the remaining bytes"
            );
            assert_eq!(pool.stats().cached, 5 * size + (spare + 1) * 256);
            drop(pool.take(256));
            assert_eq!(
                central_list_len(pool, 256),
                1,
                "an allocation frees capacity for one block"
            );
        });
    }

    #[test]
    fn large_blocks_go_to_the_central_list() {
        entered(|pool| {
            drop((pool.take(64 << 10), pool.take((68 << 10) + 1)));
            assert_eq!(central_list_len(pool, 64 << 10), 0);
            assert_eq!(central_list_len(pool, 128 << 10), 1);
        });
    }

    #[test]
    fn a_thread_cache_serves_one_pool() {
        entered(|own| {
            let other = Pool::with_bound(1 << 20);
            drop((own.take(256), other.take(256)));
            assert_eq!(
                (central_list_len(own, 256), central_list_len(&other, 256)),
                (0, 1)
            );
            let _of_other = other.take(256);
            assert_eq!((own.stats().cached, other.stats().cached), (256, 0));
        });
    }

    #[test]
    fn entering_another_pool_flushes_the_thread_cache() {
        entered(|first| {
            drop(first.take(256));
            Pool::with_bound(0).enter();
            assert_eq!(
                (central_list_len(first, 256), first.stats().cached),
                (1, 256)
            );
        });
    }

    #[test]
    fn a_thread_exit_flushes_the_thread_cache() {
        let pool = entered(|pool| drop((pool.take(256), pool.take(64 << 10))));
        assert_eq!(
            (
                central_list_len(&pool, 256),
                central_list_len(&pool, 64 << 10)
            ),
            (1, 1)
        );
        assert_eq!(pool.stats().cached, 256 + (68 << 10));
    }

    thread_local! {
        static HELD: RefCell<Option<Tail>> = const { RefCell::new(None) };
    }

    #[test]
    fn a_block_released_after_the_thread_cache_is_dropped_returns_to_its_pool() {
        let pool = Pool::with_bound(1 << 20);
        let inside = pool.clone();
        thread::spawn(move || {
            // Thread-locals are dropped in reverse order of first use.
            HELD.with_borrow(Option::is_none);
            inside.enter();
            HELD.replace(Some(inside.take(256)));
        })
        .join()
        .unwrap();
        assert_eq!((central_list_len(&pool, 256), pool.stats().in_use), (1, 0));
    }

    #[test]
    fn blocks_in_a_thread_cache_do_not_keep_the_pool_alive() {
        let pool = entered(|pool| drop((pool.take(256), pool.take(1 << 20))));
        let inner = std::sync::Arc::downgrade(&pool.inner);
        drop(pool);
        assert!(inner.upgrade().is_none());
    }

    #[test]
    fn a_thread_without_a_pool_enters_the_default_pool() {
        let shared = || {
            thread::spawn(|| {
                assert!(current_pool().is_none());
                let shared = Pool::current();
                assert!(shared.is_current());
                shared
            })
            .join()
            .unwrap()
        };
        assert!(shared().ptr_eq(&shared()));
    }
}
