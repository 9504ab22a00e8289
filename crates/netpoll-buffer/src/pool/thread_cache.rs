// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread's front of the pool it takes from: the free blocks that it reaches without a lock.
//!
//! A thread has one front, of the pool that it entered last. A block of that pool whose last owner
//! lets go on this thread stays here, and the next that is taken of its size comes from here. When
//! the thread enters another pool, or ends, what is in its front goes to the shelves.
//!
//! The front holds the pool; the blocks in it do not (B6). What it does not keep it gives back to
//! its caller, and it frees nothing while it is borrowed, so that no drop comes back here then.
//!
//! A front is bounded twice. By class, because what is large is rare, and is wanted by whichever
//! thread asks next. In bytes, because what lies here is out of reach of every other thread while
//! it counts against the bound of the pool that they share. [`MAX_CACHED_BYTES`] is three blocks of the
//! largest class: of a thread that reads into one block and writes into one, both, and as much
//! again for everything smaller. A hundred threads keep 25 MiB at most, under half of what a pool
//! holds by default.

use std::cell::RefCell;

use super::size_class::{class_of, size_of_class};
use super::{FreeBlock, Pool};
use crate::sync::thread_local;

/// The most bytes that lie in the front of one thread.
pub(super) const MAX_CACHED_BYTES: usize = 256 << 10;

/// The classes that a front keeps: up to that of a read block and a write block, 64 KiB.
const CACHED_CLASSES: usize = match class_of(64 << 10) {
    Some(class) => class + 1,
    None => 0,
};

thread_local! {
    static THREAD_CACHE: RefCell<Option<ThreadCache>> = const { RefCell::new(None) };
}

/// Some free blocks of `pool`, for one thread.
struct ThreadCache {
    pool: Pool,
    free: [Vec<FreeBlock>; CACHED_CLASSES],
    /// How many bytes `free` holds, at most [`MAX_CACHED_BYTES`].
    cached_bytes: usize,
}

/// The pool of the calling thread. `None` before it entered one, and while it is torn down.
pub(super) fn current_pool() -> Option<Pool> {
    with(|front| front.pool.clone())
}

/// Whether `pool` is the calling thread's.
pub(super) fn is_current(pool: &Pool) -> bool {
    with(|front| front.pool.ptr_eq(pool)).unwrap_or(false)
}

/// Makes `pool` the calling thread's, with an empty front.
pub(super) fn enter(pool: Pool) {
    let front = ThreadCache {
        pool,
        free: [const { Vec::new() }; CACHED_CLASSES],
        cached_bytes: 0,
    };
    // The one there was goes to its shelves when nothing is borrowed any more. A thread that is
    // being torn down has no use for a pool.
    let _before = THREAD_CACHE.try_with(|slot| slot.replace(Some(front))).ok();
}

/// A block of `class` from the front, if that is one of `pool`.
pub(super) fn pop(pool: &Pool, class: usize) -> Option<FreeBlock> {
    with(|front| {
        let home = front.free_list(pool, class)?.pop()?;
        front.cached_bytes -= size_of_class(class);
        Some(home)
    })
    .flatten()
}

/// Keeps `home` in the front.
///
/// # Errors
///
/// The block, if the front is of another pool, or has no place for it.
pub(super) fn push(pool: &Pool, class: usize, home: FreeBlock) -> Result<(), FreeBlock> {
    let mut offered = Some(home);
    with(|front| {
        let held = front.cached_bytes + size_of_class(class);
        if held <= MAX_CACHED_BYTES
            && let Some(stack) = front.free_list(pool, class)
        {
            stack.extend(offered.take());
            front.cached_bytes = held;
        }
    });
    offered.map_or(Ok(()), Err)
}

/// The calling thread's front, if it has one. `act` must neither drop a block nor run what is not
/// of this file.
fn with<T>(act: impl FnOnce(&mut ThreadCache) -> T) -> Option<T> {
    THREAD_CACHE
        .try_with(|front| front.borrow_mut().as_mut().map(act))
        .ok()
        .flatten()
}

impl ThreadCache {
    fn free_list(&mut self, pool: &Pool, class: usize) -> Option<&mut Vec<FreeBlock>> {
        self.free.get_mut(class).filter(|_| self.pool.ptr_eq(pool))
    }
}

impl Drop for ThreadCache {
    /// Everything to the shelves. It is counted as cached already.
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

    /// Runs `test` on a thread of its own, which has entered a pool of its own, and says whose
    /// that was when the thread has ended.
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

    fn on_shelf(pool: &Pool, capacity: usize) -> usize {
        pool.central_list(class_of(capacity).unwrap()).len()
    }

    #[test]
    fn what_a_thread_gives_back_it_takes_again_without_the_shelf() {
        let pool = entered(|pool| {
            drop((pool.take(256), pool.take(256)));
            assert_eq!((on_shelf(pool, 256), pool.stats().cached), (0, 512));
            let _again = (Tail::with_capacity(256), pool.take(1));
            assert_eq!(pool.stats().cached, 0, "both are of the front");
            assert_eq!(pool.stats().peak, 512);
        });
        assert_eq!(pool.stats().in_use, 0);
    }

    #[test]
    fn a_front_keeps_its_bound_and_the_shelf_the_rest() {
        entered(|pool| {
            let size = size_of_class(class_of(64 << 10).unwrap());
            let blocks: Vec<Tail> = (0..5).map(|_| pool.take(size)).collect();
            drop(blocks);
            assert_eq!(on_shelf(pool, size), 5 - MAX_CACHED_BYTES / size);
            let place = MAX_CACHED_BYTES % size / 256;
            let small: Vec<Tail> = (0..place + 1).map(|_| pool.take(256)).collect();
            drop(small);
            assert_eq!(on_shelf(pool, 256), 1, "the smallest fill what is left");
            assert_eq!(pool.stats().cached, 5 * size + (place + 1) * 256);
            drop(pool.take(256));
            assert_eq!(on_shelf(pool, 256), 1, "a block taken makes place for one");
        });
    }

    #[test]
    fn what_is_large_is_for_all_threads_at_once() {
        entered(|pool| {
            drop((pool.take(64 << 10), pool.take((68 << 10) + 1)));
            assert_eq!(on_shelf(pool, 64 << 10), 0);
            assert_eq!(on_shelf(pool, 128 << 10), 1);
        });
    }

    #[test]
    fn a_front_is_of_one_pool() {
        entered(|own| {
            let other = Pool::with_bound(1 << 20);
            drop((own.take(256), other.take(256)));
            assert_eq!((on_shelf(own, 256), on_shelf(&other, 256)), (0, 1));
            let _of_other = other.take(256);
            assert_eq!((own.stats().cached, other.stats().cached), (256, 0));
        });
    }

    #[test]
    fn a_thread_that_enters_another_pool_leaves_its_front_to_all() {
        entered(|first| {
            drop(first.take(256));
            Pool::with_bound(0).enter();
            assert_eq!((on_shelf(first, 256), first.stats().cached), (1, 256));
        });
    }

    #[test]
    fn a_thread_that_ends_leaves_its_front_to_all() {
        let pool = entered(|pool| drop((pool.take(256), pool.take(64 << 10))));
        assert_eq!((on_shelf(&pool, 256), on_shelf(&pool, 64 << 10)), (1, 1));
        assert_eq!(pool.stats().cached, 256 + (68 << 10));
    }

    thread_local! {
        static HELD: RefCell<Option<Tail>> = const { RefCell::new(None) };
    }

    #[test]
    fn a_block_that_is_let_go_after_the_front_is_gone_comes_home() {
        let pool = Pool::with_bound(1 << 20);
        let inside = pool.clone();
        thread::spawn(move || {
            // What a thread touches first is what it tears down last.
            HELD.with_borrow(Option::is_none);
            inside.enter();
            HELD.replace(Some(inside.take(256)));
        })
        .join()
        .unwrap();
        assert_eq!((on_shelf(&pool, 256), pool.stats().in_use), (1, 0));
    }

    #[test]
    fn nothing_in_a_front_keeps_its_pool() {
        let pool = entered(|pool| drop((pool.take(256), pool.take(1 << 20))));
        let shelves = std::sync::Arc::downgrade(&pool.inner);
        drop(pool);
        assert!(shelves.upgrade().is_none());
    }

    #[test]
    fn a_thread_that_entered_nothing_enters_what_all_such_threads_share() {
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
