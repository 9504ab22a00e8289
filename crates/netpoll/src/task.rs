// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`spawn`]: a future that a poller runs, without another runtime.
//!
//! A task is a source without a descriptor. Its waker rings the source's bell; on the poller's own
//! thread that is a place in the run queue, without a lock or a system call. So tasks that call each
//! other over connections of their poller never leave it.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use crate::error::{CloseReason, Closed, OnPoller};
use crate::event::Callback;
use crate::foreign::{Deferred, OwnWaker, WakerSlot, register};
use crate::guard::guard;
use crate::parking::block_on;
use crate::poll::bell::{Bell, Signal, is_poller_here};
use crate::poll::home::hand_over;
use crate::poll::source::{Ask, Birth, Next, Place, Source, Turn};
use crate::sync::{Arc, Mutex, lock};

/// Runs `future` on a poller: of the handler that calls this, on that handler's; else on one that
/// all of the process share. It must not block, for every connection of that poller would wait.
///
/// The future runs whether or not anybody awaits what this returns. One that panics, or whose poller
/// ends first, gives an error. A few allocations, and a hop to the poller if this is another thread.
///
/// # Errors
///
/// Those of starting the shared poller: `EMFILE` and the like.
///
/// ```
/// # async fn example() -> std::io::Result<()> {
/// let sum = netpoll::spawn(async { (1..=10).sum::<u32>() })?;
/// assert_eq!(sum.await?, 55);
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
pub fn spawn<F>(future: F) -> io::Result<Task<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let outcome = Arc::<Outcome<F::Output>>::default();
    let running = Running {
        future: Some(Box::pin(future)),
        outcome: Arc::clone(&outcome),
    };
    let birth: Birth = Box::new(move |place: Place| {
        let bell = Arc::new(TaskBell(place.bell));
        Box::new(Runs {
            waker: OwnWaker::new(Arc::clone(&bell)),
            bell,
            running,
        })
    });
    hand_over(birth)?;
    Ok(Task { outcome })
}

/// What a spawned future will give. Dropping it lets the future run on.
pub struct Task<T> {
    outcome: Arc<Outcome<T>>,
}

impl<T> Task<T> {
    /// Waits for what the future gives, by parking the thread. For programs that have no executor.
    ///
    /// # Errors
    ///
    /// [`OnPoller`] (`WouldBlock`) on a poller's thread; else as awaiting it.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(netpoll::spawn(async { 6 * 7 })?.wait()?, 42);
    /// # Ok(()) }
    /// ```
    pub fn wait(self) -> io::Result<T> {
        if is_poller_here() {
            return Err(OnPoller::new().into());
        }
        block_on(self)
    }
}

/// What a task and its source share.
struct Outcome<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Of the user's own, whoever drops it.
    result: Deferred<io::Result<T>>,
    waker: WakerSlot,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                result: Deferred::none(),
                waker: WakerSlot::empty(),
            }),
        }
    }
}

impl<T> Outcome<T> {
    fn tell(&self, result: io::Result<T>) {
        let mut state = lock(&self.state);
        state.result = Deferred::new(result);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }
}

impl<T> Future for Task<T> {
    /// An error of kind `ConnectionAborted`, with the reason, if the future did not come to its end.
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        register(context.waker(), |offer| {
            let mut state = lock(&self.outcome.state);
            match state.result.take().into_value() {
                Some(result) => Ok(Poll::Ready(result)),
                None => state.waker.set(offer).map(|()| Poll::Pending),
            }
        })
    }
}

impl<T> Drop for Task<T> {
    /// Nobody waits any more: who polled it is not kept, and what nobody takes is dropped here.
    fn drop(&mut self) {
        let mut state = lock(&self.outcome.state);
        let waker = state.waker.take();
        let unclaimed = state.result.take();
        drop(state);
        drop((waker, unclaimed));
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = lock(&self.outcome.state).result.is_some();
        f.debug_struct("Task").field("done", &done).finish()
    }
}

/// A future under way, and who waits for it. Told that it is lost if it is dropped.
struct Running<F: Future> {
    future: Option<Pin<Box<F>>>,
    outcome: Arc<Outcome<F::Output>>,
}

impl<F: Future> Running<F> {
    /// One poll. Whether the future is over.
    fn poll(&mut self, waker: &Waker) -> bool {
        let Some(future) = &mut self.future else {
            return true;
        };
        let polled = guard(|| future.as_mut().poll(&mut Context::from_waker(waker)));
        let result = match polled {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(_panicked) => Err(lost(CloseReason::HandlerPanic)),
        };
        self.end();
        self.outcome.tell(result);
        true
    }

    fn end(&mut self) {
        let future = self.future.take();
        let _panicked = guard(|| drop(future)).is_err();
    }
}

impl<F: Future> Drop for Running<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end();
            self.outcome.tell(Err(lost(CloseReason::Shutdown)));
        }
    }
}

fn lost(reason: CloseReason) -> io::Error {
    Closed { reason }.into()
}

struct TaskBell(Bell);

impl Wake for TaskBell {
    fn wake(self: Arc<Self>) {
        self.0.ring(Signal::Poll);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.ring(Signal::Poll);
    }
}

/// The source of a task.
struct Runs<F: Future> {
    running: Running<F>,
    bell: Arc<TaskBell>,
    waker: OwnWaker,
}

impl<F: Future> Source for Runs<F> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
        self.woken(turn)
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        self.bell.0.take();
        let counters = self.bell.0.counters();
        let is_over = counters.during(Callback::Task, || self.running.poll(&self.waker));
        // It may have taken long.
        turn.forget();
        if is_over { Next::Gone } else { Next::Unwatched }
    }

    fn asked(&mut self, ask: Ask, _turn: &mut Turn) -> Next {
        match ask {
            Ask::StopAccepting | Ask::Drain | Ask::Fail => Next::Unwatched,
            Ask::Force => Next::Gone,
        }
    }
}
