// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocols between a poller and other threads, run through their interleavings.
//!
//! ```sh
//! RUSTFLAGS="--cfg netpoll_loom" cargo test --release -p netpoll --lib models
//! RUSTFLAGS="--cfg netpoll_shuttle" cargo test --release -p netpoll --lib models
//! ```
//!
//! The models run the code that ships: a [`Poller`](crate::poll) with its epoll, mailbox and
//! registry, engines over real sockets, shared state, offloaded tasks. Only the poller's wait
//! belongs to the model, because all threads of a model are one thread of the kernel. Loom runs
//! every interleaving of up to two preemptions (`LOOM_MAX_PREEMPTIONS`). Shuttle runs as many as
//! `SHUTTLE_SCHEDULES` says, half of them random and half drawn by priorities; it also runs the
//! models that combine several protocols, which have too many interleavings to run all.
//!
//! A lost wake-up makes a model run without end, which both checkers report.

#[cfg(netpoll_shuttle)]
mod combined;
mod fixture;
mod pool;
mod protocols;
mod write_queue;

/// Schedules that shuttle runs of each model, unless `SHUTTLE_SCHEDULES` is set.
#[cfg(netpoll_shuttle)]
const SCHEDULES: usize = 20_000;

/// The stack of a model's thread: the size of a test thread's. The few pages that a checker gives
/// are less than a poller's own state.
const STACK: usize = 1 << 20;

/// Starts a thread of a model.
#[cfg(netpoll_loom)]
fn spawn<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> loom::thread::JoinHandle<T> {
    let thread = loom::thread::Builder::new().stack_size(STACK / size_of::<usize>());
    thread.spawn(body).expect("a thread")
}

/// Starts a thread of a model.
#[cfg(netpoll_shuttle)]
fn spawn<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> shuttle::thread::JoinHandle<T> {
    shuttle::thread::spawn(body)
}

/// Runs `protocol` in every interleaving, and prints how many those were (with `--nocapture`).
#[cfg(netpoll_loom)]
fn model(protocol: impl Fn() + Send + Sync + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 20_000;
    let interleavings = Arc::new(AtomicUsize::new(0));
    let (count, protocol) = (Arc::clone(&interleavings), Arc::new(protocol));
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let protocol = Arc::clone(&protocol);
        spawn(move || protocol()).join().expect("no panic");
    });
    println!("{} interleavings", interleavings.load(Ordering::Relaxed));
}

/// Runs `protocol` in many interleavings: half of them random, half drawn by priorities.
#[cfg(netpoll_shuttle)]
fn model(protocol: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SHUTTLE_SCHEDULES").ok();
    let schedules = schedules.and_then(|text| text.parse().ok());
    let half = schedules.unwrap_or(SCHEDULES) / 2;
    let protocol = std::sync::Arc::new(protocol);
    let again = std::sync::Arc::clone(&protocol);
    let mut config = shuttle::Config::new();
    config.stack_size = STACK;
    let random = shuttle::scheduler::RandomScheduler::new(half);
    shuttle::Runner::new(random, config.clone()).run(move || protocol());
    let by_priority = shuttle::scheduler::PctScheduler::new(3, half);
    shuttle::Runner::new(by_priority, config).run(move || again());
    println!("{} schedules", 2 * half);
}
