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
mod tests;
