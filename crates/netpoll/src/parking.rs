// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for a future by parking the thread, for programs that have no executor.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;

use crate::foreign::OwnWaker;
use crate::sync::Arc;

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// The waker of this thread. It is of use again as long as the thread lives.
    static WAKER: OwnWaker = OwnWaker::new(Arc::new(Unpark(std::thread::current())));
}

/// Runs `future` on the calling thread, which sleeps while there is nothing to do. Not on a poller's
/// thread: what would wake it may be that poller's to do.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    // Cloned, because what is polled is user code too and may come here again.
    let waker = WAKER.with(OwnWaker::clone);
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake that came before stays with the thread, and this returns at once.
            Poll::Pending => std::thread::park(),
        }
    }
}
