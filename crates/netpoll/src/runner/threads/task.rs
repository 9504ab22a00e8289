// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task of the threads: which future it is, and whether it stands in a queue.
//!
//! ```text
//!            wake                 taken from the queue
//!   Idle ───────────▶ Queued ───────────────────────────▶ Running ──▶ Idle, or Done
//!                        ▲                                   │ wake
//!                        └────────── after the poll ───── Again
//! ```
//!
//! So a task is in at most one queue, once, and is polled by one thread at a time; a wake that
//! comes during a poll is not lost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, Wake, Waker};

use super::{Job, Work};
use crate::fairness;
use crate::guard::guard;
use crate::sync::{Arc, AtomicU8, Mutex, Ordering, lock};

/// A future that any thread may poll.
type Movable = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One task.
pub(super) struct Task {
    /// Weak: a waker that somebody keeps must not keep what has stopped.
    work: Weak<Work>,
    state: AtomicU8,
    place: Place,
}

/// Where the future is.
enum Place {
    /// Here, until it is done.
    Here(Mutex<Option<Movable>>),
    /// With the thread that made it.
    AtHome(Home),
}

/// Where a future that stays on its thread is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// The thread.
    pub(super) index: usize,
    /// Its place among the thread's futures.
    pub(super) key: usize,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
const DONE: u8 = 4;

impl Task {
    /// A new task, to be put into the queue.
    pub(super) fn anywhere(future: Movable, work: &Arc<Work>) -> Arc<Self> {
        Self::new(Place::Here(Mutex::new(Some(future))), work)
    }

    /// A new task, to be polled by its thread.
    pub(super) fn at_home(home: Home, work: &Arc<Work>) -> Arc<Self> {
        Self::new(Place::AtHome(home), work)
    }

    fn new(place: Place, work: &Arc<Work>) -> Arc<Self> {
        Arc::new(Self {
            work: Arc::downgrade(work),
            state: AtomicU8::new(QUEUED),
            place,
        })
    }

    /// The place of its future among its thread's; `None` if it is not at home.
    pub(super) fn key(&self) -> Option<usize> {
        match self.place {
            Place::AtHome(home) => Some(home.key),
            Place::Here(_) => None,
        }
    }

    /// Polls the future that is here, and drops it if it is done.
    pub(super) fn poll(self: Arc<Self>) {
        let Place::Here(future) = &self.place else {
            return;
        };
        // Nobody else has it: a task is polled by one thread at a time.
        let Some(mut taken) = lock(future).take() else {
            return;
        };
        // Put back within the poll: from its end on another thread may look for it.
        let polled = self.poll_with(|context| {
            // Guarded by itself: the drop of what has panicked may panic again.
            let polled = guard(|| taken.as_mut().poll(context)).unwrap_or(Poll::Ready(()));
            if polled.is_pending() {
                *lock(future) = Some(taken);
            } else {
                super::discard(taken);
            }
            polled
        });
        let _done = polled.is_ready();
        // One that nobody can wake any more goes with this.
        super::discard(self);
    }

    /// One poll of the future, wherever it is. A panic ends it.
    pub(super) fn poll_with(
        self: &Arc<Self>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        // AcqRel: what the waker did before is seen by the poll.
        self.state.swap(RUNNING, Ordering::AcqRel);
        let waker = Waker::from(Arc::clone(self));
        fairness::begin();
        let polled = guard(|| poll(&mut Context::from_waker(&waker))).unwrap_or(Poll::Ready(()));
        if polled.is_ready() {
            self.state.store(DONE, Ordering::Release);
        } else if self
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            self.state.store(QUEUED, Ordering::Release);
            self.queue();
        }
        polled
    }

    /// Stands in a queue from now on.
    fn queue(self: &Arc<Self>) {
        let Some(work) = self.work.upgrade() else {
            return;
        };
        match self.place {
            Place::Here(_) => work.push(Job::Poll(Arc::clone(self))),
            Place::AtHome(home) => work.push_own(Arc::clone(self), home.index),
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(AGAIN),
            _ => None,
        };
        // AcqRel: pairs with the swap before a poll.
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before == Ok(IDLE) {
            self.queue();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use netpoll_buffer::Pool;

    use super::super::{Threads, discard};
    use super::*;
    use crate::runner::Spawn;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A future that counts its polls, shows its waker, and is done at the `last`.
    fn counting(last: u32, wakers: std::sync::mpsc::Sender<(u32, Waker)>) -> Movable {
        let mut polls = 0;
        Box::pin(poll_fn(move |context| {
            polls += 1;
            wakers.send((polls, context.waker().clone())).unwrap();
            if polls >= last {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }))
    }

    #[test]
    fn each_wake_of_an_idle_task_is_one_poll_wherever_its_future_is() {
        let threads = Threads::new(2);
        threads.start(&Pool::default(), None).unwrap();
        let (moved, movable) = channel();
        threads.spawn(counting(3, moved));
        let (kept, local) = channel();
        threads.make(Box::new(|_| counting(3, kept)));
        for wakers in [movable, local] {
            for poll in 1..=3 {
                let (polls, waker) = wakers.recv_timeout(LIMIT).unwrap();
                assert_eq!(polls, poll);
                waker.wake_by_ref();
            }
            assert!(
                wakers.recv_timeout(LIMIT).is_err(),
                "it is done, and dropped"
            );
        }
        threads.stop(LIMIT);
    }

    #[test]
    fn a_wake_during_a_poll_polls_again() {
        let threads = Threads::new(1);
        threads.start(&Pool::default(), None).unwrap();
        let (sender, polled) = channel();
        let mut polls = 0;
        threads.spawn(Box::pin(poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            sender.send(polls).unwrap();
            if polls == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        let polls: Vec<i32> = std::iter::from_fn(|| polled.recv_timeout(LIMIT).ok()).collect();
        assert_eq!(polls, [1, 2, 3]);
        threads.stop(LIMIT);
    }

    #[test]
    fn a_thread_that_is_held_up_holds_up_nobody() {
        let threads = Threads::new(2);
        threads.start(&Pool::default(), None).unwrap();
        let (release, held) = channel::<()>();
        threads.make(Box::new(move |_| {
            held.recv().unwrap();
            Box::pin(std::future::ready(()))
        }));
        let (sender, ran) = channel();
        for number in 0..10 {
            let sender = sender.clone();
            threads.spawn(Box::pin(async move { sender.send(number).unwrap() }));
        }
        let numbers: Vec<i32> = (0..10).map(|_| ran.recv_timeout(LIMIT).unwrap()).collect();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        release.send(()).unwrap();
        threads.stop(LIMIT);
    }

    #[test]
    fn a_panic_ends_its_task_and_nothing_else() {
        let threads = Threads::new(1);
        threads.start(&Pool::default(), None).unwrap();
        threads.spawn(Box::pin(async { panic!("in a poll") }));
        threads.make(Box::new(|_| panic!("in the making")));
        let (sender, ran) = channel();
        threads.spawn(Box::pin(async move { sender.send(()).unwrap() }));
        ran.recv_timeout(LIMIT).unwrap();
        threads.stop(LIMIT);
    }

    #[test]
    fn what_is_left_at_the_stop_is_dropped_and_so_is_what_comes_after() {
        let threads = Threads::new(1);
        threads.start(&Pool::default(), None).unwrap();
        let (sender, dropped) = channel::<()>();
        let (began, begun) = channel();
        let local = sender.clone();
        threads.make(Box::new(move |_| {
            Box::pin(async move {
                began.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(local);
            })
        }));
        begun.recv_timeout(LIMIT).unwrap();
        threads.stop(LIMIT);
        threads.spawn(Box::pin(async move { discard(sender) }));
        let ended = dropped.recv_timeout(LIMIT).unwrap_err();
        assert_eq!(ended, std::sync::mpsc::RecvTimeoutError::Disconnected);
    }
}
