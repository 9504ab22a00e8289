// SPDX-License-Identifier: MIT OR Apache-2.0
//! Name lookups: threads, limits, and lookups that do not return.

use super::*;
use crate::block_on::block_on;
use std::sync::RwLock;
use std::time::Instant;

fn port_of(found: LookupResult) -> u16 {
    found.unwrap()[0].port()
}

fn at_once(_host: &str, port: u16) -> LookupResult {
    Ok(vec![([127, 0, 0, 1], port).into()])
}

fn eventually(condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit);
        std::thread::yield_now();
    }
}

#[test]
fn threads_start_on_demand_and_exit_when_idle() {
    static LOOKUPS: LookupPool = LookupPool::new(at_once);
    assert_eq!(lock(&LOOKUPS.queue).threads, 0);
    for port in 0..10 {
        assert_eq!(
            port_of(block_on(LOOKUPS.start(
                "a".into(),
                port,
                DEFAULT_MAX_LOOKUPS
            ))),
            port
        );
        eventually(|| lock(&LOOKUPS.queue).idle > 0);
    }
    assert_eq!(lock(&LOOKUPS.queue).threads, 1, "one was enough");
    eventually(|| lock(&LOOKUPS.queue).threads == 0);
    assert_eq!(
        port_of(block_on(LOOKUPS.start("a".into(), 7, DEFAULT_MAX_LOOKUPS))),
        7
    );
}

static HELD: RwLock<()> = RwLock::new(());

fn after_release(host: &str, port: u16) -> LookupResult {
    drop(HELD.read().unwrap());
    at_once(host, port)
}

#[test]
fn four_lookups_run_and_the_rest_queue() {
    static LOOKUPS: LookupPool = LookupPool::new(after_release);
    let held = HELD.write().unwrap();
    let mut lookups: Vec<_> = (0..100)
        .map(|port| LOOKUPS.start("a".into(), port, DEFAULT_MAX_LOOKUPS))
        .collect();
    let waiting = || lock(&LOOKUPS.queue).waiting.len();
    eventually(|| waiting() == 100 - DEFAULT_MAX_LOOKUPS);
    assert_eq!(lock(&LOOKUPS.queue).threads, DEFAULT_MAX_LOOKUPS);
    lookups.truncate(10);
    assert_eq!(
        waiting(),
        10 - DEFAULT_MAX_LOOKUPS,
        "a dropped lookup leaves the queue"
    );
    drop(held);
    for (port, lookup) in (0..).zip(lookups) {
        assert_eq!(port_of(block_on(lookup)), port);
    }
}

#[test]
fn failed_thread_spawn_fails_queued_lookups_only() {
    static LOOKUPS: LookupPool = LookupPool::new(at_once);
    lock(&LOOKUPS.queue).threads = DEFAULT_MAX_LOOKUPS;
    let waits = LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS);
    for _ in 0..DEFAULT_MAX_LOOKUPS {
        LOOKUPS.thread_failed(&io::Error::from_raw_os_error(11));
    }
    let error = block_on(waits).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(11));
    assert_eq!(
        port_of(block_on(LOOKUPS.start("a".into(), 2, DEFAULT_MAX_LOOKUPS))),
        2
    );
}

fn panics(_host: &str, _port: u16) -> LookupResult {
    panic!("looked up");
}

#[test]
fn panicking_lookup_is_an_error() {
    static LOOKUPS: LookupPool = LookupPool::new(panics);
    assert!(block_on(LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS)).is_err());
    assert!(block_on(LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS)).is_err());
}

/// Hangs for the host `hold`, for longer than any test.
fn hangs(host: &str, port: u16) -> LookupResult {
    if host == "hold" {
        std::thread::sleep(Duration::from_secs(3600));
    }
    at_once(host, port)
}

#[test]
fn abandoned_lookups_do_not_block_others() {
    static LOOKUPS: LookupPool = LookupPool::new(hangs);
    for _ in 0..3 {
        let hung: Vec<_> = (0..DEFAULT_MAX_LOOKUPS)
            .map(|_| LOOKUPS.start("hold".into(), 1, DEFAULT_MAX_LOOKUPS))
            .collect();
        eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
        let behind = LOOKUPS.start("a".into(), 2, DEFAULT_MAX_LOOKUPS);
        assert_eq!(
            lock(&LOOKUPS.queue).waiting.len(),
            1,
            "the limit is reached"
        );
        drop(hung);
        assert_eq!(port_of(block_on(behind)), 2);
    }
    assert_eq!(lock(&LOOKUPS.queue).abandoned, 3 * DEFAULT_MAX_LOOKUPS);
    assert_eq!(
        port_of(block_on(LOOKUPS.start("a".into(), 3, DEFAULT_MAX_LOOKUPS))),
        3
    );
}

#[test]
fn lookup_fails_at_once_when_all_threads_are_stalled() {
    static LOOKUPS: LookupPool = LookupPool::new(hangs);
    for count in 1..=MAX_LOOKUP_THREADS {
        let hung = LOOKUPS.start("hold".into(), 1, DEFAULT_MAX_LOOKUPS);
        eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
        assert!(lock(&LOOKUPS.queue).threads >= count);
        if count == MAX_LOOKUP_THREADS {
            let waits = LOOKUPS.start("a".into(), 2, DEFAULT_MAX_LOOKUPS);
            drop(hung);
            let error = block_on(waits).unwrap_err();
            assert!(matches!(
                ErrorKind::payload(&error),
                Some(ErrorKind::ResolverStalled)
            ));
        }
    }
    let error = block_on(LOOKUPS.start("a".into(), 3, 1000)).unwrap_err();
    assert!(matches!(
        ErrorKind::payload(&error),
        Some(ErrorKind::ResolverStalled)
    ));
    assert_eq!(lock(&LOOKUPS.queue).threads, MAX_LOOKUP_THREADS);
}

#[test]
fn max_lookups_bounds_concurrency() {
    static LOOKUPS: LookupPool = LookupPool::new(hangs);
    let hung: Vec<_> = (0..10)
        .map(|_| LOOKUPS.start("hold".into(), 1, 10))
        .collect();
    eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
    assert_eq!(lock(&LOOKUPS.queue).threads, 10);
    let waits = LOOKUPS.start("a".into(), 2, 10);
    assert_eq!(lock(&LOOKUPS.queue).waiting.len(), 1);
    assert_eq!(port_of(block_on(LOOKUPS.start("a".into(), 3, 11))), 3);
    drop((hung, waits));
}

#[test]
fn thread_of_an_abandoned_lookup_rejoins_or_exits() {
    static LOOKUPS: LookupPool = LookupPool::new(after_second_release);
    let held = HELD_TOO.write().unwrap();
    for _ in 0..2 {
        let hung: Vec<_> = (0..DEFAULT_MAX_LOOKUPS)
            .map(|_| LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS))
            .collect();
        eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
        drop(hung);
    }
    assert_eq!(lock(&LOOKUPS.queue).abandoned, 2 * DEFAULT_MAX_LOOKUPS);
    drop(held);
    eventually(|| lock(&LOOKUPS.queue).abandoned == 0);
    assert!(lock(&LOOKUPS.queue).threads <= DEFAULT_MAX_LOOKUPS);
    assert_eq!(
        port_of(block_on(LOOKUPS.start("a".into(), 4, DEFAULT_MAX_LOOKUPS))),
        4
    );
}

static HELD_TOO: RwLock<()> = RwLock::new(());

fn after_second_release(host: &str, port: u16) -> LookupResult {
    drop(HELD_TOO.read().unwrap());
    at_once(host, port)
}
