// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits, each with a limit.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use netpoll::time::sleep;

use super::LIMIT;

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// As [`eventually`], but lets other tasks of the thread run.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the outputs of all futures, in order. All are polled whenever one is woken.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    let mut waits = Vec::new();
    for future in futures {
        outputs.push(None);
        waits.push(Box::pin(future));
    }
    poll_fn(|context| {
        for (output, wait) in outputs.iter_mut().zip(&mut waits) {
            if output.is_none()
                && let Poll::Ready(done) = wait.as_mut().poll(context)
            {
                *output = Some(done);
            }
        }
        match outputs.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Runs a future on this thread, without an executor.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + LIMIT;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                assert!(Instant::now() < deadline, "a future did not end in time");
                std::thread::park_timeout(LIMIT);
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A gate at which handlers wait until a test, on another thread, opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: bool,
    arrivals: usize,
    waiting: Vec<Waker>,
}

impl Gate {
    /// Opens the gate for all waiting and later handlers.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock().expect("no panic under it");
        state.open = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until it is open.
    pub(crate) async fn pass(&self) {
        self.state.lock().expect("no panic under it").arrivals += 1;
        poll_fn(|context| {
            let mut state = self.state.lock().expect("no panic under it");
            if state.open {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Returns whether a handler waits.
    pub(crate) fn is_waited_at(&self) -> bool {
        let state = self.state.lock().expect("no panic under it");
        !state.waiting.is_empty()
    }

    /// Returns how many handlers have arrived. A handler counts once, however often it is polled.
    pub(crate) fn arrivals(&self) -> usize {
        self.state.lock().expect("no panic under it").arrivals
    }
}
