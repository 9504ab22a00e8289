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

use crate::block_on::block_on;
use crate::error::{BlockingOnPoller, CloseReason, Closed};
use crate::event::Callback;
use crate::foreign::{DeferredDrop, OwnWaker, WakerSlot, register};
use crate::guard::guard;
use crate::poll::notifier::{Notice, Notifier, is_poller_thread};
use crate::poll::placement::register_source;
use crate::poll::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
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
pub fn spawn<F>(future: F) -> io::Result<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let outcome = Arc::<JoinShared<F::Output>>::default();
    let running = SpawnedFuture {
        future: Some(Box::pin(future)),
        shared: Arc::clone(&outcome),
    };
    let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
        let notifier = Arc::new(TaskNotifier(registration.notifier));
        Box::new(TaskSource {
            waker: OwnWaker::new(Arc::clone(&notifier)),
            notifier,
            spawned: running,
        })
    });
    register_source(factory)?;
    Ok(JoinHandle { shared: outcome })
}

/// What a spawned future will give. Dropping it lets the future run on.
pub struct JoinHandle<T> {
    shared: Arc<JoinShared<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits for what the future gives, by parking the thread. For programs that have no executor.
    ///
    /// # Errors
    ///
    /// [`BlockingOnPoller`] (`WouldBlock`) on a poller's thread; else as awaiting it.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(netpoll::spawn(async { 6 * 7 })?.wait()?, 42);
    /// # Ok(()) }
    /// ```
    pub fn wait(self) -> io::Result<T> {
        if is_poller_thread() {
            return Err(BlockingOnPoller::new().into());
        }
        block_on(self)
    }
}

/// What a task and its source share.
struct JoinShared<T> {
    state: Mutex<JoinState<T>>,
}

struct JoinState<T> {
    /// Of the user's own, whoever drops it.
    result: DeferredDrop<io::Result<T>>,
    waker: WakerSlot,
}

impl<T> Default for JoinShared<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(JoinState {
                result: DeferredDrop::none(),
                waker: WakerSlot::empty(),
            }),
        }
    }
}

impl<T> JoinShared<T> {
    fn complete(&self, result: io::Result<T>) {
        let mut state = lock(&self.state);
        state.result = DeferredDrop::new(result);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }
}

impl<T> Future for JoinHandle<T> {
    /// An error of kind `ConnectionAborted`, with the reason, if the future did not come to its end.
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        register(context.waker(), |caller_waker| {
            let mut state = lock(&self.shared.state);
            match state.result.take().into_value() {
                Some(result) => Ok(Poll::Ready(result)),
                None => state.waker.set(caller_waker).map(|()| Poll::Pending),
            }
        })
    }
}

impl<T> Drop for JoinHandle<T> {
    /// Nobody waits any more: who polled it is not kept, and what nobody takes is dropped here.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let waker = state.waker.take();
        let unclaimed = state.result.take();
        drop(state);
        drop((waker, unclaimed));
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = lock(&self.shared.state).result.is_some();
        f.debug_struct("Task").field("done", &done).finish()
    }
}

/// A future under way, and who waits for it. Told that it is lost if it is dropped.
struct SpawnedFuture<F: Future> {
    future: Option<Pin<Box<F>>>,
    shared: Arc<JoinShared<F::Output>>,
}

impl<F: Future> SpawnedFuture<F> {
    /// One poll. Whether the future is over.
    fn poll(&mut self, waker: &Waker) -> bool {
        let Some(future) = &mut self.future else {
            return true;
        };
        let polled = guard(|| future.as_mut().poll(&mut Context::from_waker(waker)));
        let result = match polled {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(_panicked) => Err(closed_error(CloseReason::HandlerPanic)),
        };
        self.drop_future();
        self.shared.complete(result);
        true
    }

    fn drop_future(&mut self) {
        let future = self.future.take();
        let _panicked = guard(|| drop(future)).is_err();
    }
}

impl<F: Future> Drop for SpawnedFuture<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.drop_future();
            self.shared
                .complete(Err(closed_error(CloseReason::Shutdown)));
        }
    }
}

fn closed_error(reason: CloseReason) -> io::Error {
    Closed { reason }.into()
}

struct TaskNotifier(Notifier);

impl Wake for TaskNotifier {
    fn wake(self: Arc<Self>) {
        self.0.notify(Notice::Poll);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify(Notice::Poll);
    }
}

/// The source of a task.
struct TaskSource<F: Future> {
    spawned: SpawnedFuture<F>,
    notifier: Arc<TaskNotifier>,
    waker: OwnWaker,
}

impl<F: Future> Source for TaskSource<F> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        self.notifier.0.take();
        let counters = self.notifier.0.counters();
        let is_over = counters.track_callback(Callback::Task, || self.spawned.poll(&self.waker));
        // It may have taken long.
        context.invalidate_clock();
        if is_over {
            NextAction::Remove
        } else {
            NextAction::NoInterest
        }
    }

    fn on_shutdown(&mut self, request: ShutdownRequest, _turn: &mut SourceContext) -> NextAction {
        match request {
            ShutdownRequest::StopAccepting
            | ShutdownRequest::Graceful
            | ShutdownRequest::PollerFailed => NextAction::NoInterest,
            ShutdownRequest::Force => NextAction::Remove,
        }
    }
}
