// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task of the thread pool: its future, and whether it is queued.
//!
//! ```text
//!            wake                 taken from the queue
//!   Idle ───────────▶ Queued ───────────────────────────▶ Running ──▶ Idle, or Done
//!                        ▲                                   │ wake
//!                        └────────── after the poll ──── Notified
//! ```
//!
//! So a task is in at most one queue, at most once, and one thread at a time polls it. A wake
//! during a poll is not lost.

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
    /// Weak, so that a long-lived waker does not keep a stopped pool alive.
    pool: Weak<ThreadPoolShared>,
    state: AtomicU8,
    location: FutureLocation,
}

/// Where the future is stored.
enum FutureLocation {
    /// In the task, until it is complete.
    InTask(Mutex<Option<SendFuture>>),
    /// On the thread that created it.
    OnThread(LocalSlot),
}

/// The location of a local future.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalSlot {
    /// The index of the thread.
    pub(super) thread: usize,
    /// The key among the local futures of the thread.
    pub(super) key: usize,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
const DONE: u8 = 4;

impl PoolTask {
    /// Creates a task with a future that any thread may poll. The caller queues it.
    pub(super) fn new_send(future: SendFuture, pool: &Arc<ThreadPoolShared>) -> Arc<Self> {
        Self::new(FutureLocation::InTask(Mutex::new(Some(future))), pool)
    }

    /// Creates a task for a local future. Its thread polls it.
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

    /// Returns the key of a local future; `None` for a future in the task.
    pub(super) fn key(&self) -> Option<usize> {
        match self.location {
            FutureLocation::OnThread(home) => Some(home.key),
            FutureLocation::InTask(_) => None,
        }
    }

    /// Polls the future in the task, and drops it if it is complete.
    pub(super) fn poll(self: Arc<Self>) {
        let FutureLocation::InTask(future) = &self.location else {
            return;
        };
        // No other thread has it: one thread at a time polls a task.
        let Some(mut owned_future) = lock(future).take() else {
            return;
        };
        // The future returns to the task within the poll: another thread may take it right after.
        let polled = self.poll_with(|context| {
            // With a guard of its own: dropping a future that panicked may panic again.
            let polled = guard(|| owned_future.as_mut().poll(context)).unwrap_or(Poll::Ready(()));
            if polled.is_pending() {
                *lock(future) = Some(owned_future);
            } else {
                super::discard(owned_future);
            }
            polled
        });
        let _done = polled.is_ready();
        // A pending task without wakers is dropped here.
        super::discard(self);
    }

    /// Polls the future with `poll`. A panic completes it.
    pub(super) fn poll_with(
        self: &Arc<Self>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        // AcqRel: the poll sees the writes that preceded the wake.
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

    /// Adds the task to its queue.
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

    const LIMIT: Duration = Duration::from_secs(60);

    /// A future that counts its polls, sends its waker, and completes at poll `last`.
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
    fn waking_an_idle_task_polls_it_once() {
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
                "it is complete and dropped"
            );
        }
        threads.stop(LIMIT);
    }

    #[test]
    fn wake_during_a_poll_polls_again() {
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
    fn blocked_thread_does_not_delay_other_tasks() {
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
    fn panic_ends_only_its_task() {
        let threads = ThreadPool::new(1);
        threads.start(&Pool::default(), None).unwrap();
        threads.spawn(Box::pin(async { panic!("in a poll") }));
        threads.spawn_pinned(Box::new(|_| panic!("in the factory")));
        let (sender, ran) = channel();
        threads.spawn(Box::pin(async move { sender.send(()).unwrap() }));
        ran.recv_timeout(LIMIT).unwrap();
        threads.stop(LIMIT);
    }

    #[test]
    fn stop_drops_queued_and_later_tasks() {
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
