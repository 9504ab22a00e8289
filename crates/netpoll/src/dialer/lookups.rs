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
//! [`MOST_THREADS`], and while all of them are at lookups that were given up another fails at once,
//! with [`LookupsHang`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
// The standard library's: no model dials, and a model checker's lock cannot be a static.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::resolve::LookupsHang;
use crate::foreign::{WakerSlot, register};
use crate::guard::guard;
use crate::sync::Arc;

/// How many lookups run at once, unless told otherwise.
pub(super) const AT_ONCE: usize = 4;

/// How many threads there may be, those included that are at lookups nobody waits for.
pub(super) const MOST_THREADS: usize = 64;

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
    /// How many of them are at a lookup that was given up.
    given_up: usize,
}

impl Queue {
    /// Whether a thread may come about for a lookup of which `at_once` may run.
    fn may_grow(&self, at_once: usize) -> bool {
        self.threads - self.given_up < at_once && self.threads < MOST_THREADS
    }

    /// Whether no lookup that waits will ever have its turn, as far as is known.
    fn hangs(&self) -> bool {
        self.threads == MOST_THREADS && self.given_up == MOST_THREADS
    }
}

/// One name.
#[derive(Debug)]
struct Job {
    host: String,
    port: u16,
    /// How many lookups may run for it to be one of them.
    at_once: usize,
    answer: Mutex<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    state: LookupState,
    found: Option<Found>,
    waker: WakerSlot,
}

/// Where a lookup is. Changed under the lock of the queue too, whose counts go by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LookupState {
    #[default]
    Waits,
    /// A thread is at it.
    Runs,
    /// A thread is at it, and nobody waits for what it finds.
    GivenUp,
    Done,
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
                given_up: 0,
            }),
            come: Condvar::new(),
        }
    }

    /// Begins to look up a name, as one of at most `at_once`.
    pub(super) fn begin(&'static self, host: String, port: u16, at_once: usize) -> Lookup {
        let job = Arc::new(Job {
            host,
            port,
            at_once,
            answer: Mutex::default(),
        });
        let mut queue = lock(&self.queue);
        if queue.hangs() {
            drop(queue);
            job.answer(Err(LookupsHang::new().into()));
            return Lookup { lookups: self, job };
        }
        queue.waiting.push_back(Arc::clone(&job));
        let enough = queue.waiting.len() <= queue.idle;
        let more = !enough && queue.may_grow(at_once);
        if more {
            queue.threads += 1;
        }
        drop(queue);
        if enough {
            self.come.notify_one();
        }
        if more {
            self.grow();
        }
        Lookup { lookups: self, job }
    }

    /// Has the thread come about that was counted.
    fn grow(&'static self) {
        if let Err(error) = self.spawn() {
            self.one_less(&error);
        }
    }

    fn spawn(&'static self) -> io::Result<()> {
        let builder = std::thread::Builder::new().name("netpoll-names".into());
        builder.spawn(|| self.work()).map(drop)
    }

    /// A thread has not come about for `error`. If nobody else does what waits, that is the answer.
    fn one_less(&self, error: &io::Error) {
        let mut queue = lock(&self.queue);
        queue.threads -= 1;
        let lost = if queue.threads == queue.given_up {
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
                job.enter(LookupState::Runs);
                drop(queue);
                let found = guard(|| (self.look_up)(&job.host, job.port));
                let found = found.unwrap_or_else(|_| Err(io::Error::other("a lookup panicked")));
                queue = lock(&self.queue);
                let was_given_up = job.enter(LookupState::Done) == LookupState::GivenUp;
                if was_given_up {
                    queue.given_up -= 1;
                    let at_once = queue.waiting.front().map_or(AT_ONCE, |job| job.at_once);
                    // Another thread came about in its place.
                    if queue.threads - queue.given_up > at_once {
                        queue.threads -= 1;
                        return;
                    }
                } else {
                    drop(queue);
                    job.answer(found);
                    queue = lock(&self.queue);
                }
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

    /// Nobody waits for `job` any more: it makes room for one that waits.
    fn give_up(&'static self, job: &Arc<Job>) {
        let mut queue = lock(&self.queue);
        queue.waiting.retain(|waiting| !Arc::ptr_eq(waiting, job));
        if !job.give_up() {
            return;
        }
        queue.given_up += 1;
        let lost = if queue.hangs() {
            std::mem::take(&mut queue.waiting)
        } else {
            VecDeque::new()
        };
        let next = queue.waiting.front().map(|job| job.at_once);
        let more = next.is_some_and(|at_once| queue.may_grow(at_once));
        if more {
            queue.threads += 1;
        }
        drop(queue);
        if more {
            self.grow();
        }
        for job in lost {
            job.answer(Err(LookupsHang::new().into()));
        }
    }
}

impl Job {
    /// Goes on to `state`, and says where it was.
    fn enter(&self, state: LookupState) -> LookupState {
        std::mem::replace(&mut lock(&self.answer).state, state)
    }

    /// Whether a thread is at it, for nobody now.
    fn give_up(&self) -> bool {
        let mut answer = lock(&self.answer);
        let runs = answer.state == LookupState::Runs;
        if runs {
            answer.state = LookupState::GivenUp;
        }
        runs
    }

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
        self.lookups.give_up(&self.job);
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
            assert_eq!(
                port_of(block_on(LOOKUPS.begin("a".into(), port, AT_ONCE))),
                port
            );
            eventually(|| lock(&LOOKUPS.queue).idle > 0);
        }
        assert_eq!(lock(&LOOKUPS.queue).threads, 1, "one was enough");
        eventually(|| lock(&LOOKUPS.queue).threads == 0);
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 7, AT_ONCE))), 7);
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
            .map(|port| LOOKUPS.begin("a".into(), port, AT_ONCE))
            .collect();
        let waiting = || lock(&LOOKUPS.queue).waiting.len();
        eventually(|| waiting() == 100 - AT_ONCE);
        assert_eq!(lock(&LOOKUPS.queue).threads, AT_ONCE);
        lookups.truncate(10);
        assert_eq!(waiting(), 10 - AT_ONCE, "who is dropped waits no more");
        drop(held);
        for (port, lookup) in (0..).zip(lookups) {
            assert_eq!(port_of(block_on(lookup)), port);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_had_is_an_error_for_all_who_wait_and_for_no_later_one() {
        static LOOKUPS: Lookups = Lookups::new(at_once);
        lock(&LOOKUPS.queue).threads = AT_ONCE;
        let waits = LOOKUPS.begin("a".into(), 1, AT_ONCE);
        for _ in 0..AT_ONCE {
            LOOKUPS.one_less(&io::Error::from_raw_os_error(11));
        }
        let error = block_on(waits).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(11));
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 2, AT_ONCE))), 2);
    }

    fn panics(_host: &str, _port: u16) -> Found {
        panic!("looked up");
    }

    #[test]
    fn a_lookup_that_panics_is_an_error() {
        static LOOKUPS: Lookups = Lookups::new(panics);
        assert!(block_on(LOOKUPS.begin("a".into(), 1, AT_ONCE)).is_err());
        assert!(block_on(LOOKUPS.begin("a".into(), 1, AT_ONCE)).is_err());
    }

    /// Hangs for a host that is so called, for longer than any test.
    fn hangs(host: &str, port: u16) -> Found {
        if host == "hold" {
            std::thread::sleep(Duration::from_secs(3600));
        }
        at_once(host, port)
    }

    #[test]
    fn lookups_that_hang_hold_up_nobody_once_they_are_given_up() {
        static LOOKUPS: Lookups = Lookups::new(hangs);
        for _ in 0..3 {
            let hung: Vec<_> = (0..AT_ONCE)
                .map(|_| LOOKUPS.begin("hold".into(), 1, AT_ONCE))
                .collect();
            eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
            let behind = LOOKUPS.begin("a".into(), 2, AT_ONCE);
            assert_eq!(lock(&LOOKUPS.queue).waiting.len(), 1, "so many run at once");
            drop(hung);
            assert_eq!(port_of(block_on(behind)), 2);
        }
        assert_eq!(lock(&LOOKUPS.queue).given_up, 3 * AT_ONCE);
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 3, AT_ONCE))), 3);
    }

    #[test]
    fn there_are_so_many_threads_and_no_more_and_then_a_lookup_fails_at_once() {
        static LOOKUPS: Lookups = Lookups::new(hangs);
        for count in 1..=MOST_THREADS {
            let hung = LOOKUPS.begin("hold".into(), 1, AT_ONCE);
            eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
            assert!(lock(&LOOKUPS.queue).threads >= count);
            if count == MOST_THREADS {
                let waits = LOOKUPS.begin("a".into(), 2, AT_ONCE);
                drop(hung);
                let error = block_on(waits).unwrap_err();
                assert!(error.get_ref().is_some_and(|why| why.is::<LookupsHang>()));
            }
        }
        let error = block_on(LOOKUPS.begin("a".into(), 3, 1000)).unwrap_err();
        assert!(error.get_ref().is_some_and(|why| why.is::<LookupsHang>()));
        assert_eq!(lock(&LOOKUPS.queue).threads, MOST_THREADS);
    }

    #[test]
    fn as_many_run_at_once_as_a_dialer_allows() {
        static LOOKUPS: Lookups = Lookups::new(hangs);
        let hung: Vec<_> = (0..10)
            .map(|_| LOOKUPS.begin("hold".into(), 1, 10))
            .collect();
        eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
        assert_eq!(lock(&LOOKUPS.queue).threads, 10);
        let waits = LOOKUPS.begin("a".into(), 2, 10);
        assert_eq!(lock(&LOOKUPS.queue).waiting.len(), 1);
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 3, 11))), 3);
        drop((hung, waits));
    }

    #[test]
    fn a_thread_whose_lookup_ends_after_it_was_given_up_is_one_of_the_others_or_goes() {
        static LOOKUPS: Lookups = Lookups::new(when_let_too);
        let held = HELD_TOO.write().unwrap();
        for _ in 0..2 {
            let hung: Vec<_> = (0..AT_ONCE)
                .map(|_| LOOKUPS.begin("a".into(), 1, AT_ONCE))
                .collect();
            eventually(|| lock(&LOOKUPS.queue).waiting.is_empty());
            drop(hung);
        }
        assert_eq!(lock(&LOOKUPS.queue).given_up, 2 * AT_ONCE);
        drop(held);
        eventually(|| lock(&LOOKUPS.queue).given_up == 0);
        assert!(lock(&LOOKUPS.queue).threads <= AT_ONCE);
        assert_eq!(port_of(block_on(LOOKUPS.begin("a".into(), 4, AT_ONCE))), 4);
    }

    static HELD_TOO: RwLock<()> = RwLock::new(());

    fn when_let_too(host: &str, port: u16) -> Found {
        drop(HELD_TOO.read().unwrap());
        at_once(host, port)
    }
}
