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

use super::{PoolJob, ThreadPoolShared};
use crate::fairness;
use crate::guard::guard;
use crate::sync::{Arc, AtomicU8, Mutex, Ordering, lock};

/// A future that any thread may poll.
type SendFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One task.
pub(super) struct PoolTask {
    /// Weak: a waker that somebody keeps must not keep what has stopped.
    pool: Weak<ThreadPoolShared>,
    state: AtomicU8,
    location: FutureLocation,
}

/// Where the future is.
enum FutureLocation {
    /// Here, until it is done.
    InTask(Mutex<Option<SendFuture>>),
    /// With the thread that made it.
    OnThread(LocalSlot),
}

/// Where a future that stays on its thread is.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalSlot {
    /// The thread.
    pub(super) thread: usize,
    /// Its place among the thread's futures.
    pub(super) key: usize,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
const DONE: u8 = 4;

impl PoolTask {
    /// A new task, to be put into the queue.
    pub(super) fn new_send(future: SendFuture, pool: &Arc<ThreadPoolShared>) -> Arc<Self> {
        Self::new(FutureLocation::InTask(Mutex::new(Some(future))), pool)
    }

    /// A new task, to be polled by its thread.
    pub(super) fn new_local(slot: LocalSlot, pool: &Arc<ThreadPoolShared>) -> Arc<Self> {
        Self::new(FutureLocation::OnThread(slot), pool)
    }

    fn new(location: FutureLocation, pool: &Arc<ThreadPoolShared>) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::downgrade(pool),
            state: AtomicU8::new(QUEUED),
            location,
        })
    }

    /// The place of its future among its thread's; `None` if it is not at home.
    pub(super) fn key(&self) -> Option<usize> {
        match self.location {
            FutureLocation::OnThread(home) => Some(home.key),
            FutureLocation::InTask(_) => None,
        }
    }

    /// Polls the future that is here, and drops it if it is done.
    pub(super) fn poll(self: Arc<Self>) {
        let FutureLocation::InTask(future) = &self.location else {
            return;
        };
        // Nobody else has it: a task is polled by one thread at a time.
        let Some(mut owned_future) = lock(future).take() else {
            return;
        };
        // Put back within the poll: from its end on another thread may look for it.
        let polled = self.poll_with(|context| {
            // Guarded by itself: the drop of what has panicked may panic again.
            let polled = guard(|| owned_future.as_mut().poll(context)).unwrap_or(Poll::Ready(()));
            if polled.is_pending() {
                *lock(future) = Some(owned_future);
            } else {
                super::discard(owned_future);
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
        fairness::begin_poll();
        let polled = guard(|| poll(&mut Context::from_waker(&waker))).unwrap_or(Poll::Ready(()));
        if polled.is_ready() {
            self.state.store(DONE, Ordering::Release);
        } else if self
            .state
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            self.state.store(QUEUED, Ordering::Release);
            self.enqueue();
        }
        polled
    }

    /// Stands in a queue from now on.
    fn enqueue(self: &Arc<Self>) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        match self.location {
            FutureLocation::InTask(_) => pool.push(PoolJob::Poll(Arc::clone(self))),
            FutureLocation::OnThread(home) => pool.push_local(Arc::clone(self), home.thread),
        }
    }
}

impl Wake for PoolTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(NOTIFIED),
            _ => None,
        };
        // AcqRel: pairs with the swap before a poll.
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before == Ok(IDLE) {
            self.enqueue();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use netpoll_buffer::Pool;

    use super::super::{ThreadPool, discard};
    use super::*;
    use crate::runner::Spawn;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A future that counts its polls, shows its waker, and is done at the `last`.
    fn counting(last: u32, wakers: std::sync::mpsc::Sender<(u32, Waker)>) -> SendFuture {
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
        let threads = ThreadPool::new(2);
        threads.start(&Pool::default(), None).unwrap();
        let (moved, movable) = channel();
        threads.spawn(counting(3, moved));
        let (kept, local) = channel();
        threads.spawn_pinned(Box::new(|_| counting(3, kept)));
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
        let threads = ThreadPool::new(1);
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
        let threads = ThreadPool::new(2);
        threads.start(&Pool::default(), None).unwrap();
        let (release, held) = channel::<()>();
        threads.spawn_pinned(Box::new(move |_| {
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
        let threads = ThreadPool::new(1);
        threads.start(&Pool::default(), None).unwrap();
        threads.spawn(Box::pin(async { panic!("in a poll") }));
        threads.spawn_pinned(Box::new(|_| panic!("in the making")));
        let (sender, ran) = channel();
        threads.spawn(Box::pin(async move { sender.send(()).unwrap() }));
        ran.recv_timeout(LIMIT).unwrap();
        threads.stop(LIMIT);
    }

    #[test]
    fn what_is_left_at_the_stop_is_dropped_and_so_is_what_comes_after() {
        let threads = ThreadPool::new(1);
        threads.start(&Pool::default(), None).unwrap();
        let (sender, dropped) = channel::<()>();
        let (began, begun) = channel();
        let local = sender.clone();
        threads.spawn_pinned(Box::new(move |_| {
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
