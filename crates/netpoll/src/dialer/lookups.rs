// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that look up names, for calls that block.
//!
//! There are none until a name is asked for, four at most, and each ends when it has had nothing to
//! do for a second. Names that find all of them busy wait in a queue, from which one is taken when
//! nobody waits for it any more: the queue is no longer than there are dials.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
// The standard library's: no model dials, and a model checker's lock cannot be a static.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::foreign::{WakerSlot, register};
use crate::guard::guard;
use crate::sync::Arc;

/// How many lookups run at once.
const MOST: usize = 4;

/// How long a thread without work stays.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a lookup gives.
pub(super) type Found = io::Result<Vec<SocketAddr>>;

/// Names that are looked up, and threads that do it.
#[derive(Debug)]
pub(super) struct Lookups {
    look_up: fn(&str, u16) -> Found,
    queue: Mutex<Queue>,
    /// A name has come.
    come: Condvar,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Arc<Job>>,
    threads: usize,
    /// How many of the threads have nothing to do.
    idle: usize,
}

/// One name.
#[derive(Debug)]
struct Job {
    host: String,
    port: u16,
    answer: Mutex<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    found: Option<Found>,
    waker: WakerSlot,
}

/// The future of a lookup. Dropping it takes its name out of the queue.
#[derive(Debug)]
pub(super) struct Lookup {
    lookups: &'static Lookups,
    job: Arc<Job>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lookups {
    /// Looks names up with `look_up`, which may block.
    pub(super) const fn new(look_up: fn(&str, u16) -> Found) -> Self {
        Self {
            look_up,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                threads: 0,
                idle: 0,
            }),
            come: Condvar::new(),
        }
    }

    /// Begins to look up a name.
    pub(super) fn begin(&'static self, host: String, port: u16) -> Lookup {
        let job = Arc::new(Job {
            host,
            port,
            answer: Mutex::default(),
        });
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(Arc::clone(&job));
        let enough = queue.waiting.len() <= queue.idle;
        let more = !enough && queue.threads < MOST;
        if more {
            queue.threads += 1;
        }
        drop(queue);
        if enough {
            self.come.notify_one();
        }
        if more && let Err(error) = self.spawn() {
            self.one_less(&error);
        }
        Lookup { lookups: self, job }
    }

    fn spawn(&'static self) -> io::Result<()> {
        let builder = std::thread::Builder::new().name("netpoll-names".into());
        builder.spawn(|| self.work()).map(drop)
    }

    /// A thread has not come about for `error`. If it would have been the only one, nobody else does
    /// what waits.
    fn one_less(&self, error: &io::Error) {
        let mut queue = lock(&self.queue);
        queue.threads -= 1;
        let lost = if queue.threads == 0 {
            std::mem::take(&mut queue.waiting)
        } else {
            VecDeque::new()
        };
        drop(queue);
        for job in lost {
            let errno = error.raw_os_error().map(io::Error::from_raw_os_error);
            job.answer(Err(errno.unwrap_or_else(|| error.kind().into())));
        }
    }

    /// The life of a thread.
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.waiting.pop_front() {
                drop(queue);
                let found = guard(|| (self.look_up)(&job.host, job.port));
                job.answer(found.unwrap_or_else(|_| Err(io::Error::other("a lookup panicked"))));
                queue = lock(&self.queue);
                continue;
            }
            queue.idle += 1;
            let waited = self.come.wait_timeout(queue, PATIENCE);
            let (back, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if waited.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

impl Job {
    fn answer(&self, found: Found) {
        let mut answer = lock(&self.answer);
        answer.found = Some(found);
        let waker = answer.waker.take();
        drop(answer);
        waker.wake();
    }
}

impl Future for Lookup {
    type Output = Found;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Found> {
        register(context.waker(), |offer| {
            let mut answer = lock(&self.job.answer);
            match answer.found.take() {
                Some(found) => Ok(Poll::Ready(found)),
                None => answer.waker.set(offer).map(|()| Poll::Pending),
            }
        })
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let mut queue = lock(&self.lookups.queue);
        queue.waiting.retain(|job| !Arc::ptr_eq(job, &self.job));
        drop(queue);
        let waker = lock(&self.job.answer).waker.take();
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parking::block_on;
    use std::sync::RwLock;
    use std::time::Instant;

    fn port_of(found: Found) -> u16 {
        found.unwrap()[0].port()
    }

    fn at_once(_host: &str, port: u16) -> Found {
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
        static LOOKUPS: Lookups = Lookups::new(at_once);
        assert_eq!(lock(&LOOKUPS.queue).threads, 0);
        for port in 0..10 {
            assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), port))), port);
            eventually(|| lock(&LOOKUPS.queue).idle > 0);
        }
        assert_eq!(lock(&LOOKUPS.queue).threads, 1, "one was enough");
        eventually(|| lock(&LOOKUPS.queue).threads == 0);
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 7))), 7);
    }

    static HELD: RwLock<()> = RwLock::new(());

    fn when_let(host: &str, port: u16) -> Found {
        drop(HELD.read().unwrap());
        at_once(host, port)
    }

    #[test]
    fn four_run_and_the_others_wait_until_they_are_dropped_or_have_their_turn() {
        static LOOKUPS: Lookups = Lookups::new(when_let);
        let held = HELD.write().unwrap();
        let mut lookups: Vec<_> = (0..100)
            .map(|port| LOOKUPS.begin("a".into(), port))
            .collect();
        let waiting = || lock(&LOOKUPS.queue).waiting.len();
        eventually(|| waiting() == 100 - MOST);
        assert_eq!(lock(&LOOKUPS.queue).threads, MOST);
        lookups.truncate(10);
        assert_eq!(waiting(), 10 - MOST, "who is dropped waits no more");
        drop(held);
        for (port, lookup) in (0..).zip(lookups) {
            assert_eq!(port_of(block_on(lookup)), port);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_an_error_for_all_who_wait_and_for_no_later_one() {
        static LOOKUPS: Lookups = Lookups::new(at_once);
        lock(&LOOKUPS.queue).threads = MOST;
        let waits = LOOKUPS.begin("a".into(), 1);
        for _ in 0..MOST {
            LOOKUPS.one_less(&io::Error::from_raw_os_error(11));
        }
        let error = block_on(waits).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(11));
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 2))), 2);
    }

    fn panics(_host: &str, _port: u16) -> Found {
        panic!("looked up");
    }

    #[test]
    fn a_lookup_that_panics_is_an_error() {
        static LOOKUPS: Lookups = Lookups::new(panics);
        assert!(block_on(LOOKUPS.begin("a".into(), 1)).is_err());
        assert!(block_on(LOOKUPS.begin("a".into(), 1)).is_err());
    }
}
