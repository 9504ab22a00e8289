// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that look up names, for calls that block.
//!
//! There are none until a name is asked for, and each ends when it has had nothing to do for a second.
//! As many lookups run at once as their dialers [allow](crate::Dialer::max_lookups); names that find
//! so many under way wait in a queue, from which one is taken when nobody waits for it any more: the
//! queue is no longer than there are dials.
//!
//! A call of `getaddrinfo(3)` cannot be ended. One whose dial has been given up goes on, and its thread
//! with it, but it is not one of those that run at once: a name server that never answers holds up
//! nobody behind it. So that this does not make threads without end there are at most
//! [`MAX_LOOKUP_THREADS`], and while all of them are at lookups that were given up another fails at once,
//! with [`ResolverStalled`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
// The standard library's: no model dials, and a model checker's lock cannot be a static.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::resolver::ResolverStalled;
use crate::foreign::{WakerSlot, register};
use crate::guard::guard;
use crate::sync::Arc;

/// How many lookups run at once, unless told otherwise.
pub(super) const DEFAULT_MAX_LOOKUPS: usize = 4;

/// How many threads there may be, those included that are at lookups nobody waits for.
pub(super) const MAX_LOOKUP_THREADS: usize = 64;

/// How long a thread without work stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a lookup gives.
pub(super) type LookupResult = io::Result<Vec<SocketAddr>>;

/// Names that are looked up, and threads that do it.
#[derive(Debug)]
pub(super) struct LookupPool {
    lookup_fn: fn(&str, u16) -> LookupResult,
    queue: Mutex<LookupQueue>,
    /// A name has come.
    job_queued: Condvar,
}

#[derive(Debug)]
struct LookupQueue {
    waiting: VecDeque<Arc<LookupJob>>,
    threads: usize,
    /// How many of the threads have nothing to do.
    idle: usize,
    /// How many of them are at a lookup that was given up.
    abandoned: usize,
}

impl LookupQueue {
    /// Whether a thread may come about for a lookup of which `at_once` may run.
    fn may_grow(&self, max_concurrent: usize) -> bool {
        self.threads - self.abandoned < max_concurrent && self.threads < MAX_LOOKUP_THREADS
    }

    /// Whether no lookup that waits will ever have its turn, as far as is known.
    fn is_stalled(&self) -> bool {
        self.threads == MAX_LOOKUP_THREADS && self.abandoned == MAX_LOOKUP_THREADS
    }
}

/// One name.
#[derive(Debug)]
struct LookupJob {
    host: String,
    port: u16,
    /// How many lookups may run for it to be one of them.
    max_concurrent: usize,
    answer: Mutex<LookupAnswer>,
}

#[derive(Debug, Default)]
struct LookupAnswer {
    state: LookupState,
    result: Option<LookupResult>,
    waker: WakerSlot,
}

/// Where a lookup is. Changed under the lock of the queue too, whose counts go by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LookupState {
    #[default]
    Queued,
    /// A thread is at it.
    Running,
    /// A thread is at it, and nobody waits for what it finds.
    Abandoned,
    Done,
}

/// The future of a lookup. Dropping it takes its name out of the queue.
#[derive(Debug)]
pub(super) struct Lookup {
    lookups: &'static LookupPool,
    job: Arc<LookupJob>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LookupPool {
    /// Looks names up with `look_up`, which may block.
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

    /// Begins to look up a name, as one of at most `at_once`.
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
            job.complete(Err(ResolverStalled::new().into()));
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

    /// Has the thread come about that was counted.
    fn add_thread(&'static self) {
        if let Err(error) = self.spawn() {
            self.thread_failed(&error);
        }
    }

    fn spawn(&'static self) -> io::Result<()> {
        let builder = std::thread::Builder::new().name("netpoll-names".into());
        builder.spawn(|| self.run_worker()).map(drop)
    }

    /// A thread has not come about for `error`. If nobody else does what waits, that is the answer.
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

    /// The life of a thread.
    fn run_worker(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.waiting.pop_front() {
                job.set_state(LookupState::Running);
                drop(queue);
                let found = guard(|| (self.lookup_fn)(&job.host, job.port));
                let found = found.unwrap_or_else(|_| Err(io::Error::other("a lookup panicked")));
                queue = lock(&self.queue);
                let was_given_up = job.set_state(LookupState::Done) == LookupState::Abandoned;
                if was_given_up {
                    queue.abandoned -= 1;
                    let max_concurrent = queue
                        .waiting
                        .front()
                        .map_or(DEFAULT_MAX_LOOKUPS, |job| job.max_concurrent);
                    // Another thread came about in its place.
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

    /// Nobody waits for `job` any more: it makes room for one that waits.
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
            job.complete(Err(ResolverStalled::new().into()));
        }
    }
}

impl LookupJob {
    /// Goes on to `state`, and says where it was.
    fn set_state(&self, state: LookupState) -> LookupState {
        std::mem::replace(&mut lock(&self.answer).state, state)
    }

    /// Whether a thread is at it, for nobody now.
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
    fn threads_come_with_names_and_go_when_there_are_none() {
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

    fn when_let(host: &str, port: u16) -> LookupResult {
        drop(HELD.read().unwrap());
        at_once(host, port)
    }

    #[test]
    fn four_run_and_the_others_wait_until_they_are_dropped_or_have_their_turn() {
        static LOOKUPS: LookupPool = LookupPool::new(when_let);
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
            "who is dropped waits no more"
        );
        drop(held);
        for (port, lookup) in (0..).zip(lookups) {
            assert_eq!(port_of(block_on(lookup)), port);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_an_error_for_all_who_wait_and_for_no_later_one() {
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
    fn a_lookup_that_panics_is_an_error() {
        static LOOKUPS: LookupPool = LookupPool::new(panics);
        assert!(block_on(LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS)).is_err());
        assert!(block_on(LOOKUPS.start("a".into(), 1, DEFAULT_MAX_LOOKUPS)).is_err());
    }

    /// Hangs for a host that is so called, for longer than any test.
    fn hangs(host: &str, port: u16) -> LookupResult {
        if host == "hold" {
            std::thread::sleep(Duration::from_secs(3600));
        }
        at_once(host, port)
    }

    #[test]
    fn lookups_that_hang_hold_up_nobody_once_they_are_given_up() {
        static LOOKUPS: LookupPool = LookupPool::new(hangs);
        for _ in 0..3 {
            let hung: Vec<_> = (0..DEFAULT_MAX_LOOKUPS)
                .map(|_| LOOKUPS.start("hold".into(), 1, DEFAULT_MAX_LOOKUPS))
                .collect();
            eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
            let behind = LOOKUPS.start("a".into(), 2, DEFAULT_MAX_LOOKUPS);
            assert_eq!(lock(&LOOKUPS.queue).waiting.len(), 1, "so many run at once");
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
    fn there_are_so_many_threads_and_no_more_and_then_a_lookup_fails_at_once() {
        static LOOKUPS: LookupPool = LookupPool::new(hangs);
        for count in 1..=MAX_LOOKUP_THREADS {
            let hung = LOOKUPS.start("hold".into(), 1, DEFAULT_MAX_LOOKUPS);
            eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
            assert!(lock(&LOOKUPS.queue).threads >= count);
            if count == MAX_LOOKUP_THREADS {
                let waits = LOOKUPS.start("a".into(), 2, DEFAULT_MAX_LOOKUPS);
                drop(hung);
                let error = block_on(waits).unwrap_err();
                assert!(
                    error
                        .get_ref()
                        .is_some_and(|why| why.is::<ResolverStalled>())
                );
            }
        }
        let error = block_on(LOOKUPS.start("a".into(), 3, 1000)).unwrap_err();
        assert!(
            error
                .get_ref()
                .is_some_and(|why| why.is::<ResolverStalled>())
        );
        assert_eq!(lock(&LOOKUPS.queue).threads, MAX_LOOKUP_THREADS);
    }

    #[test]
    fn as_many_run_at_once_as_a_dialer_allows() {
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
    fn a_thread_whose_lookup_ends_after_it_was_given_up_is_one_of_the_others_or_goes() {
        static LOOKUPS: LookupPool = LookupPool::new(when_let_too);
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

    fn when_let_too(host: &str, port: u16) -> LookupResult {
        drop(HELD_TOO.read().unwrap());
        at_once(host, port)
    }
}
