// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocols between threads, in every interleaving that a model checker finds with up to three
//! preemptions: which owner frees a block, when a block may be rewound, and the counts of a pool.
//!
//! ```sh
//! RUSTFLAGS="--cfg netpoll_loom" cargo test --release -p netpoll-buffer --test loom
//! ```
//!
//! An access to a block's memory that is not ordered with its reuse fails the model (see
//! `AccessTracker` in the crate's `sync`), and so does a pool that is never freed. Each model
//! allocates from a named pool of its own; only the last is about thread caches. The patches in
//! `ci/mutants` weaken one step each, and name the model that detects it.
#![cfg(netpoll_loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;
use netpoll_buffer::{LinkBuffer, Pool, Segment, Tail};

/// The size of every block here, the smallest class.
const BLOCK: usize = 256;

/// Limit of preemptions in one interleaving, unless `LOOM_MAX_PREEMPTIONS` gives another.
const PREEMPTIONS: usize = 3;

/// Runs `protocol` in every interleaving, and prints their number (with `--nocapture`).
fn model(protocol: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    let interleavings = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&interleavings);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        protocol();
    });
    println!("{} interleavings", interleavings.load(Ordering::Relaxed));
}

/// Returns a tail over a block of `pool` filled with `bytes`, and a segment that shows them.
fn filled(pool: &Pool, bytes: &[u8]) -> (Tail, Segment) {
    let mut tail = pool.take(BLOCK);
    tail.put(bytes);
    let segment = tail.window(0..bytes.len());
    (tail, segment)
}

/// Returns a buffer of `segment` alone, without a tail, so without memory of its thread.
fn buffer_of(segment: Segment) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.push_segment(segment);
    buffer
}

#[track_caller]
fn assert_counts(pool: &Pool, in_use: usize, cached: usize) {
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.cached), (in_use, cached));
}

/// Allocates as many blocks as `pool` counts, and one more. A missing block leaves a count behind,
/// an extra one makes the count negative. No other thread uses the pool meanwhile.
#[track_caller]
fn assert_holds_what_it_counts(pool: &Pool) {
    let counted = pool.stats().cached / BLOCK;
    let all: Vec<Tail> = (0..=counted).map(|_| pool.take(BLOCK)).collect();
    assert_counts(pool, all.len() * BLOCK, 0);
}

#[test]
fn the_last_owner_frees_the_block_after_both_reads() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        let (tail, segment) = filled(&pool, b"abc");
        let other = tail.window(1..3);
        drop(tail);
        let reader = thread::spawn(move || assert_eq!(other.as_slice(), b"bc"));
        assert_eq!(segment.as_slice(), b"abc");
        drop(segment);
        reader.join().unwrap();
        assert_counts(&pool, 0, BLOCK);
        drop(filled(&pool, b"def"));
        assert_counts(&pool, 0, BLOCK);
    });
}

#[test]
fn a_tail_rewinds_only_after_the_segment_on_another_thread_is_dropped() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        let (mut tail, segment) = filled(&pool, b"one");
        let other = tail.window(0..2);
        let reader = thread::spawn(move || {
            assert_eq!(segment.as_slice(), b"one");
            drop(segment);
            assert_eq!(
                other.as_slice(),
                b"on",
                "the tail does not change the segment"
            );
        });
        tail.put(b"two");
        if tail.rewind() {
            assert_eq!(tail.filled(), 0);
            tail.put(b"three");
        }
        reader.join().unwrap();
        assert!(tail.rewind(), "no segment is left");
        tail.put(b"four");
        assert_eq!(tail.window(0..4).as_slice(), b"four");
    });
}

#[test]
fn a_zeroing_rewind_runs_only_after_all_reads() {
    model(|| {
        let pool = Pool::zeroing(BLOCK);
        let (mut tail, segment) = filled(&pool, b"secret");
        let other = tail.window(0..3);
        let first = thread::spawn(move || assert_eq!(segment.as_slice(), b"secret"));
        let second = thread::spawn(move || assert_eq!(other.as_slice(), b"sec"));
        tail.rewind();
        drop(tail);
        first.join().unwrap();
        second.join().unwrap();
        assert_counts(&pool, 0, BLOCK);
    });
}

#[test]
fn an_owner_cloned_while_another_is_dropped_is_counted() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        let (tail, segment) = filled(&pool, b"abc");
        let other = tail.window(1..3);
        drop(tail);
        let reader = thread::spawn(move || assert_eq!(other.as_slice(), b"bc"));
        let mut buffer = buffer_of(segment);
        let mut first = buffer.split_to(1).unwrap();
        assert_eq!(buffer.next(2).unwrap(), b"bc");
        drop(buffer);
        assert_eq!(first.next(1).unwrap(), b"a");
        assert_eq!(pool.stats().in_use, BLOCK, "at least one owner is left");
        drop(first);
        reader.join().unwrap();
        assert_counts(&pool, 0, BLOCK);
    });
}

#[track_caller]
fn assert_bound_holds(pool: &Pool) {
    let cached = pool.stats().cached;
    assert!(cached <= BLOCK, "{cached} B are cached");
}

/// Allocates a block, writes `mark` to it, reads it, and releases it.
fn allocate_and_release(pool: &Pool, mark: u8) {
    let (tail, segment) = filled(pool, &[mark; 3]);
    assert_bound_holds(pool);
    drop(tail);
    assert_eq!(segment.as_slice(), [mark; 3], "no other thread writes here");
    drop(segment);
    assert_bound_holds(pool);
}

#[test]
fn no_block_is_allocated_twice_and_the_bound_holds() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        drop(pool.take(BLOCK));
        let there = pool.clone();
        let other = thread::spawn(move || allocate_and_release(&there, 1));
        allocate_and_release(&pool, 2);
        other.join().unwrap();
        assert_counts(&pool, 0, BLOCK);
        let peak = pool.stats().peak;
        assert!(peak == BLOCK || peak == 2 * BLOCK, "{peak}");
        assert_holds_what_it_counts(&pool);
    });
}

#[test]
fn a_release_concurrent_with_an_allocation_is_counted() {
    model(|| {
        let pool = Pool::with_bound(2 * BLOCK);
        drop(pool.take(BLOCK));
        let there = pool.clone();
        let other = thread::spawn(move || drop(there.take(BLOCK)));
        drop(pool.take(BLOCK));
        other.join().unwrap();
        assert_holds_what_it_counts(&pool);
    });
}

#[test]
fn the_peak_of_concurrent_allocations_is_recorded() {
    model(|| {
        let pool = Pool::with_bound(0);
        let there = pool.clone();
        let other = thread::spawn(move || there.take(BLOCK));
        let mine = pool.take(BLOCK);
        let _both = (mine, other.join().unwrap());
        assert_eq!(pool.stats().peak, 2 * BLOCK);
    });
}

#[test]
fn a_block_that_outlives_every_handle_of_its_pool_frees_the_pool() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        let (tail, segment) = filled(&pool, b"abc");
        let other = thread::spawn(move || drop(tail));
        drop(pool);
        assert_eq!(segment.as_slice(), b"abc");
        drop(segment);
        other.join().unwrap();
    });
}

/// Allocates the one block that `pool` caches after its thread has ended. The checker joins a
/// thread before its thread-locals are dropped, so the block may not be in the central list yet.
fn take_after_thread_exit(pool: &Pool) -> Tail {
    for _ in 0..8 {
        let tail = pool.take(BLOCK);
        let cached = pool.stats().cached;
        if cached == 0 {
            return tail;
        }
        assert_eq!(cached, BLOCK, "counted once, in either place");
        // A newly allocated block is freed on release, because the bound is used up.
        drop(tail);
        thread::yield_now();
    }
    panic!("the block never reached the central list");
}

#[test]
fn a_thread_cache_is_private_until_its_thread_ends() {
    model(|| {
        let pool = Pool::with_bound(BLOCK);
        let there = pool.clone();
        let other = thread::spawn(move || {
            there.enter();
            allocate_and_release(&there, 1);
            drop(filled(&there, b"def"));
        });
        allocate_and_release(&pool, 2);
        other.join().unwrap();
        assert_counts(&pool, 0, BLOCK);
        let _all = take_after_thread_exit(&pool);
        assert_counts(&pool, BLOCK, 0);
    });
}
