// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread pool for name lookups, which block their thread.
//!
//! Threads start on demand, and each exits after one second without work. As many lookups run at
//! once as their dialers [allow](crate::Dialer::max_lookups); further ones queue. A lookup whose
//! dial is dropped leaves the queue, so the queue is no longer than the number of dials.
//!
//! A call of `getaddrinfo(3)` cannot be stopped. If its dial is abandoned, the call and its thread
//! go on, but do not count as running: a name server that never answers does not block the lookups
//! behind it. To bound the threads there are at most [`MAX_LOOKUP_THREADS`]. While all of them are
//! at abandoned lookups, a new lookup fails at once with
//! [`ErrorKind::ResolverStalled`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
// These are the standard library's: no model dials, and a model checker's lock cannot be a static.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::ErrorKind;
use crate::foreign::{WakerSlot, register};
use crate::guard::guard;
use crate::sync::Arc;

/// The default number of lookups that run at once.
pub(super) const DEFAULT_MAX_LOOKUPS: usize = 4;

/// The most threads, those at abandoned lookups included.
pub(super) const MAX_LOOKUP_THREADS: usize = 64;

/// How long an idle thread waits for work before it exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The result of a lookup.
pub(super) type LookupResult = io::Result<Vec<SocketAddr>>;

/// A queue of lookups, and the threads that run them.
#[derive(Debug)]
pub(super) struct LookupPool {
    lookup_fn: fn(&str, u16) -> LookupResult,
    queue: Mutex<LookupQueue>,
    /// Notified when a lookup is queued.
    job_queued: Condvar,
}

#[derive(Debug)]
struct LookupQueue {
    waiting: VecDeque<Arc<LookupJob>>,
    threads: usize,
    /// The number of idle threads.
    idle: usize,
    /// The number of threads at an abandoned lookup.
    abandoned: usize,
}

impl LookupQueue {
    /// Returns whether another thread may start, for a lookup that allows `max_concurrent` at once.
    fn may_grow(&self, max_concurrent: usize) -> bool {
        self.threads - self.abandoned < max_concurrent && self.threads < MAX_LOOKUP_THREADS
    }

    /// Returns whether all threads are at abandoned lookups, so that no queued lookup may ever run.
    fn is_stalled(&self) -> bool {
        self.threads == MAX_LOOKUP_THREADS && self.abandoned == MAX_LOOKUP_THREADS
    }
}

/// The lookup of one name.
#[derive(Debug)]
struct LookupJob {
    host: String,
    port: u16,
    /// The most lookups that may run at once, this one included.
    max_concurrent: usize,
    answer: Mutex<LookupAnswer>,
}

#[derive(Debug, Default)]
struct LookupAnswer {
    state: LookupState,
    result: Option<LookupResult>,
    waker: WakerSlot,
}

/// The state of a lookup. It changes only while the queue is locked as well, since the queue's
/// counters depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LookupState {
    #[default]
    Queued,
    /// A thread runs it.
    Running,
    /// A thread runs it, and its future was dropped.
    Abandoned,
    Done,
}

/// The future of a lookup. Dropping it removes the lookup from the queue, or abandons it if a
/// thread runs it.
#[derive(Debug)]
pub(super) struct Lookup {
    lookups: &'static LookupPool,
    job: Arc<LookupJob>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LookupPool {
    /// Creates a pool that calls `lookup_fn`, which may block.
    pub(super) const fn new(lookup_fn: fn(&str, u16) -> LookupResult) -> Self {
        Self {
            lookup_fn,
            queue: Mutex::new(LookupQueue {
                waiting: VecDeque::new(),
                threads: 0,
                idle: 0,
                abandoned: 0,
            }),
            job_queued: Condvar::new(),
        }
    }

    /// Queues a lookup, to run as one of at most `max_concurrent`. Starts a thread if no idle
    /// thread can take it and another may start.
    pub(super) fn start(&'static self, host: String, port: u16, max_concurrent: usize) -> Lookup {
        let job = Arc::new(LookupJob {
            host,
            port,
            max_concurrent,
            answer: Mutex::default(),
        });
        let mut queue = lock(&self.queue);
        if queue.is_stalled() {
            drop(queue);
            job.complete(Err(ErrorKind::ResolverStalled.into()));
            return Lookup { lookups: self, job };
        }
        queue.waiting.push_back(Arc::clone(&job));
        let enough = queue.waiting.len() <= queue.idle;
        let more = !enough && queue.may_grow(max_concurrent);
        if more {
            queue.threads += 1;
        }
        drop(queue);
        if enough {
            self.job_queued.notify_one();
        }
        if more {
            self.add_thread();
        }
        Lookup { lookups: self, job }
    }

    /// Starts a thread, which the caller has counted already.
    fn add_thread(&'static self) {
        if let Err(error) = self.spawn() {
            self.thread_failed(&error);
        }
    }

    fn spawn(&'static self) -> io::Result<()> {
        let builder = std::thread::Builder::new().name("netpoll-resolver".into());
        builder.spawn(|| self.run_worker()).map(drop)
    }

    /// Handles a failed thread start. If no other thread serves the queue, the queued lookups fail
    /// with `error`.
    fn thread_failed(&self, error: &io::Error) {
        let mut queue = lock(&self.queue);
        queue.threads -= 1;
        let lost = if queue.threads == queue.abandoned {
            std::mem::take(&mut queue.waiting)
        } else {
            VecDeque::new()
        };
        drop(queue);
        for job in lost {
            let errno = error.raw_os_error().map(io::Error::from_raw_os_error);
            job.complete(Err(errno.unwrap_or_else(|| error.kind().into())));
        }
    }

    /// Runs lookups until the thread exits: idle for too long, or surplus after an abandoned
    /// lookup.
    fn run_worker(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.waiting.pop_front() {
                job.set_state(LookupState::Running);
                drop(queue);
                let found = guard(|| (self.lookup_fn)(&job.host, job.port));
                let found = found.unwrap_or_else(|_| Err(io::Error::other("a lookup panicked")));
                queue = lock(&self.queue);
                let was_abandoned = job.set_state(LookupState::Done) == LookupState::Abandoned;
                if was_abandoned {
                    queue.abandoned -= 1;
                    let max_concurrent = queue
                        .waiting
                        .front()
                        .map_or(DEFAULT_MAX_LOOKUPS, |job| job.max_concurrent);
                    // Another thread has started in its place.
                    if queue.threads - queue.abandoned > max_concurrent {
                        queue.threads -= 1;
                        return;
                    }
                } else {
                    drop(queue);
                    job.complete(found);
                    queue = lock(&self.queue);
                }
                continue;
            }
            queue.idle += 1;
            let waited = self.job_queued.wait_timeout(queue, IDLE_TIMEOUT);
            let (back, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if waited.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    /// Abandons `job`: removes it from the queue, or lets another lookup run beside it.
    fn abandon(&'static self, job: &Arc<LookupJob>) {
        let mut queue = lock(&self.queue);
        queue.waiting.retain(|waiting| !Arc::ptr_eq(waiting, job));
        if !job.abandon() {
            return;
        }
        queue.abandoned += 1;
        let lost = if queue.is_stalled() {
            std::mem::take(&mut queue.waiting)
        } else {
            VecDeque::new()
        };
        let next = queue.waiting.front().map(|job| job.max_concurrent);
        let more = next.is_some_and(|max_concurrent| queue.may_grow(max_concurrent));
        if more {
            queue.threads += 1;
        }
        drop(queue);
        if more {
            self.add_thread();
        }
        for job in lost {
            job.complete(Err(ErrorKind::ResolverStalled.into()));
        }
    }
}

impl LookupJob {
    /// Sets the state and returns the previous one.
    fn set_state(&self, state: LookupState) -> LookupState {
        std::mem::replace(&mut lock(&self.answer).state, state)
    }

    /// Marks the lookup as abandoned if a thread runs it. Returns whether it does.
    fn abandon(&self) -> bool {
        let mut answer = lock(&self.answer);
        let runs = answer.state == LookupState::Running;
        if runs {
            answer.state = LookupState::Abandoned;
        }
        runs
    }

    fn complete(&self, found: LookupResult) {
        let mut answer = lock(&self.answer);
        answer.result = Some(found);
        let waker = answer.waker.take();
        drop(answer);
        waker.wake();
    }
}

impl Future for Lookup {
    type Output = LookupResult;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<LookupResult> {
        register(context.waker(), |caller_waker| {
            let mut answer = lock(&self.job.answer);
            match answer.result.take() {
                Some(found) => Ok(Poll::Ready(found)),
                None => answer.waker.set(caller_waker).map(|()| Poll::Pending),
            }
        })
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.lookups.abandon(&self.job);
        let waker = lock(&self.job.answer).waker.take();
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
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
}
