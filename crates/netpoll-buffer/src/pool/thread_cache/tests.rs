// SPDX-License-Identifier: MIT OR Apache-2.0
//! The blocks of a thread cache: reuse, limits, and the end of a thread.

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
