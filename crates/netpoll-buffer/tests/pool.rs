// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user of [`netpoll_buffer::Pool`] sees: where memory is from, where it goes, and what is
//! counted.

use std::thread;

use netpoll_buffer::{LinkBuffer, Pool, Tail};

/// The whole size of a write block.
const BLOCK: usize = (64 << 10) + (4 << 10);

/// What a small pool holds at most.
const BOUND: usize = 1 << 20;

fn put(bytes: &[u8]) -> LinkBuffer {
    let mut buffer = LinkBuffer::new();
    buffer.put_slice(bytes);
    buffer
}

#[test]
fn a_thread_writes_in_the_pool_it_entered_last() {
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
fn a_write_block_of_another_threads_pool_is_not_written_in() {
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

/// Where the room of a tail lies, and what is in it.
fn room_of(tail: &mut Tail) -> (*const u8, Vec<u8>) {
    let mut seen = (std::ptr::null(), Vec::new());
    tail.fill_with(usize::MAX, |room| {
        seen = (room.as_ptr(), room.to_vec());
        Ok(0)
    })
    .expect("a fill of nothing");
    seen
}

#[test]
fn a_pool_for_secrets_shows_nothing_of_them_to_the_next_taker() {
    let secret = *b"correct horse battery staple";
    let pool = Pool::zeroing(1 << 20);
    let mut tail = pool.take(1000);
    let (before, _) = room_of(&mut tail);
    tail.put(&secret);
    let segment = tail.window(0..secret.len());
    drop(tail);
    assert_eq!(segment.as_slice(), secret, "as long as it is owned");
    drop(segment);
    let (after, room) = room_of(&mut pool.take(1000));
    assert_eq!(before, after, "the same memory");
    // In debug builds what may be filled is poisoned first.
    let blank = if cfg!(debug_assertions) { 0xDB } else { 0 };
    assert!(room.iter().all(|&byte| byte == blank));
}

/// Takes and gives back blocks of 18 sizes, some of them as the pool's own thread.
fn take_and_give_back(pool: &Pool, thread: usize) {
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
fn counts_are_exact_when_all_threads_are_done() {
    let pool = Pool::with_bound(BOUND);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let pool = pool.clone();
            thread::spawn(move || take_and_give_back(&pool, thread))
        })
        .collect();
    // Joined, so that each has left its front to all.
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(pool.stats().in_use, 0);
    assert_ne!(pool.stats().cached, 0);
    // All there is of every size is taken: then nothing may be counted any more.
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
