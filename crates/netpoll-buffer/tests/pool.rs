// SPDX-License-Identifier: MIT OR Apache-2.0
//! The public behaviour of [`netpoll_buffer::Pool`]: the source of memory, where it is released,
//! and the counts.

use std::sync::{Arc, Barrier};
use std::thread;

use netpoll_buffer::{LinkBuffer, Pool, Tail};

/// The whole size of a write block.
const BLOCK: usize = (64 << 10) + (4 << 10);

/// The bound of a small pool.
const BOUND: usize = 1 << 20;

fn put(bytes: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(bytes);
    buffer
}

#[test]
fn puts_use_the_pool_that_the_thread_entered_last() {
    thread::spawn(|| {
        let (first, second) = (Pool::default(), Pool::default());
        first.enter();
        drop(put(b"into the write block of the first"));
        second.enter();
        drop(put(b"into one of the second"));
        assert_eq!((first.stats().in_use, second.stats().in_use), (0, BLOCK));
    })
    .join()
    .unwrap();
}

#[test]
fn a_write_block_of_another_threads_pool_is_not_borrowed() {
    let pool = Pool::default();
    let there = pool.clone();
    let buffer = thread::spawn(move || {
        there.enter();
        put(b"abc")
    })
    .join()
    .unwrap();
    thread::spawn(move || {
        let own = Pool::default();
        own.enter();
        drop(buffer);
        let _of_own = put(b"def");
        assert_eq!((pool.stats().in_use, own.stats().in_use), (0, BLOCK));
    })
    .join()
    .unwrap();
}

#[test]
fn entering_another_pool_releases_the_write_block() {
    thread::spawn(|| {
        let (first, second) = (Pool::default(), Pool::default());
        first.enter();
        drop(put(b"into the write block of the first"));
        assert_eq!(first.stats().in_use, BLOCK);
        first.enter();
        assert_eq!(
            first.stats().in_use,
            BLOCK,
            "the block still belongs to this pool"
        );
        second.enter();
        assert_eq!(first.stats().in_use, 0);
    })
    .join()
    .unwrap();
}

#[test]
fn idle_threads_keep_no_memory_of_another_pool() {
    const THREADS: usize = 20;
    let pools: Vec<Pool> = (0..3).map(|_| Pool::default()).collect();
    // Each buffer has a write block of its own, from a thread that has ended.
    let mut buffers: Vec<Vec<LinkBuffer>> = pools
        .iter()
        .map(|pool| {
            let inside = pool.clone();
            let write = move || {
                inside.enter();
                (0..THREADS).map(|_| put(b"abc")).collect()
            };
            thread::spawn(write).join().unwrap()
        })
        .collect();
    for pool in &pools {
        assert_eq!(pool.stats().in_use, THREADS * BLOCK);
    }
    let (dropped, looked) = (
        Arc::new(Barrier::new(THREADS + 1)),
        Arc::new(Barrier::new(THREADS + 1)),
    );
    let idle: Vec<_> = (0..THREADS)
        .map(|number| {
            let own: Vec<LinkBuffer> = buffers
                .iter_mut()
                .map(|of_pool| of_pool.pop().expect("one for each thread"))
                .collect();
            let (dropped, looked) = (Arc::clone(&dropped), Arc::clone(&looked));
            thread::spawn(move || {
                // Threads without a pool, with the default pool, and with a pool of their own.
                match number % 3 {
                    0 => {}
                    1 => drop(put(b"in the shared pool")),
                    _ => Pool::default().enter(),
                }
                for mut buffer in own {
                    if number % 2 == 0 {
                        buffer.return_tail();
                    }
                    drop(buffer);
                }
                dropped.wait();
                looked.wait();
            })
        })
        .collect();
    dropped.wait();
    let in_use: Vec<usize> = pools.iter().map(|pool| pool.stats().in_use).collect();
    looked.wait();
    assert_eq!(in_use, [0; 3], "all threads are alive");
    for thread in idle {
        thread.join().unwrap();
    }
}

/// Returns the address and the contents of a tail's spare capacity.
fn spare_capacity_of(tail: &mut Tail) -> (*const u8, Vec<u8>) {
    let mut seen = (std::ptr::null(), Vec::new());
    tail.fill_with(usize::MAX, |room| {
        seen = (room.as_ptr(), room.to_vec());
        Ok(0)
    })
    .expect("a fill of nothing");
    seen
}

#[test]
fn a_zeroing_pool_exposes_no_secret_to_the_next_allocation() {
    let secret = *b"correct horse battery staple";
    let pool = Pool::zeroing(1 << 20);
    let mut tail = pool.take(1000);
    let (before, _) = spare_capacity_of(&mut tail);
    tail.put(&secret);
    let segment = tail.window(0..secret.len());
    drop(tail);
    assert_eq!(
        segment.as_slice(),
        secret,
        "the bytes stay while they are owned"
    );
    drop(segment);
    let (after, room) = spare_capacity_of(&mut pool.take(1000));
    assert_eq!(before, after, "the same memory");
    // Debug builds poison the memory that a fill may use.
    let blank = if cfg!(debug_assertions) { 0xDB } else { 0 };
    assert!(room.iter().all(|&byte| byte == blank));
}

/// Allocates and releases blocks of 18 sizes; some threads have entered the pool.
fn allocate_and_release(pool: &Pool, thread: usize) {
    if thread < 2 {
        pool.enter();
    }
    let mut held: Vec<Tail> = Vec::new();
    for turn in 0..2000 {
        held.push(pool.take(1 << (turn % 18)));
        if turn % 3 == thread % 3 {
            held.truncate(held.len() / 2);
        }
        assert!(pool.stats().cached <= BOUND, "the bound holds at all times");
    }
}

#[test]
fn pool_counts_are_exact_after_all_threads_have_ended() {
    let pool = Pool::with_bound(BOUND);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let pool = pool.clone();
            thread::spawn(move || allocate_and_release(&pool, thread))
        })
        .collect();
    // Joined, so that each has flushed its thread cache.
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(pool.stats().in_use, 0);
    assert_ne!(pool.stats().cached, 0);
    // Allocates all cached blocks of every size: then none may be counted any more.
    let mut taken = Vec::new();
    for capacity in (0..18).map(|shift| 1 << shift) {
        loop {
            let before = pool.stats().cached;
            taken.push(pool.take(capacity));
            if pool.stats().cached == before {
                break;
            }
        }
    }
    assert_eq!(pool.stats().cached, 0);
    drop(taken);
    assert_eq!(pool.stats().in_use, 0);
}
