// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for a future by parking the thread, for programs without an executor.
//!
//! A thread has one token for [`unpark`](Thread::unpark), and anything that parks within a poll
//! takes it: a channel of the standard library, scoped threads, a call of [`block_on`] in user
//! code. So the token alone proves nothing. Each call has a [`Parker`] of its own: a wake sets its
//! flag, and the call polls the future again when the flag is set.
//!
//! Our own, because it is fifty lines whose locks and atomics come from [`sync`](crate::sync), and
//! its waker passes the guard as every other waker does.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use crate::foreign::OwnWaker;
use crate::sync::{Arc, AtomicBool, Ordering};

/// Parks a thread until this parker is woken.
#[derive(Debug)]
struct Parker {
    thread: Thread,
    notified: AtomicBool,
}

impl Parker {
    fn park(&self) {
        // Acquire: pairs with Release in `wake_by_ref`. The next poll sees all that the waking
        // thread did before.
        while !self.notified.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: pairs with Acquire in `park`.
        self.notified.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

thread_local! {
    /// An unused parker of this thread, with its waker. The next call takes it.
    static SPARE_PARKER: Cell<Option<(Arc<Parker>, OwnWaker)>> = const { Cell::new(None) };
}

fn new_parker() -> (Arc<Parker>, OwnWaker) {
    let parker = Arc::new(Parker {
        thread: std::thread::current(),
        notified: AtomicBool::new(false),
    });
    let waker = OwnWaker::new(Arc::clone(&parker));
    (parker, waker)
}

/// Runs `future` on the calling thread, which sleeps while the future is pending. Do not call it on
/// a poller's thread: that poller may have to do the work that would wake it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // A nested call finds no spare parker and creates its own.
    let free = SPARE_PARKER.try_with(Cell::take).ok().flatten();
    let (parker, waker) = free.unwrap_or_else(new_parker);
    let mut context = Context::from_waker(&waker);
    let output = loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => break output,
            // If a wake came before, its flag is set and this returns at once.
            Poll::Pending => parker.park(),
        }
    };
    let _kept = SPARE_PARKER
        .try_with(|free| free.set(Some((parker, waker))))
        .is_ok();
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::task::Waker;
    use std::time::Duration;

    /// Fails if `call`, on a thread of its own, does not return.
    fn returns(call: impl FnOnce() + Send + 'static) {
        let (done, over) = channel();
        std::thread::spawn(move || {
            call();
            done.send(()).unwrap();
        });
        over.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    /// Is pending once. Before the poll returns, another thread wakes the waker, and `then` runs.
    async fn woken_within_the_poll(then: impl Fn()) {
        let mut is_first = true;
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            let waker: Waker = context.waker().clone();
            std::thread::spawn(|| waker.wake()).join().unwrap();
            then();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn a_wake_is_kept_when_the_poll_itself_parks_the_thread() {
        returns(|| block_on(woken_within_the_poll(std::thread::park)));
    }

    #[test]
    fn a_wake_is_kept_when_the_poll_blocks_on_another_future() {
        returns(|| {
            block_on(woken_within_the_poll(|| {
                block_on(woken_within_the_poll(std::thread::park));
            }));
        });
    }

    #[test]
    fn consecutive_calls_share_a_parker() {
        let waker = || block_on(poll_fn(|context| Poll::Ready(context.waker().clone())));
        assert!(waker().will_wake(&waker()));
    }
}
