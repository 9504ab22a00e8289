// SPDX-License-Identifier: MIT OR Apache-2.0
//! Futures on pollers: [`spawn`], [`spawn_local`], and the [`JoinHandle`] that they return.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let task = netpoll::spawn(async { 6 * 7 })?;
//! assert_eq!(task.wait()?, 42);
//! # Ok(()) }
//! ```

// # Implementation
//
// A task is a source without a descriptor. Its waker notifies the source; on the poller's own
// thread that takes a place in the run queue, without a lock or a system call. So tasks that wake
// each other over connections of their poller never leave it.

mod local;
pub(crate) mod task_set;

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use crate::block_on::block_on;
use crate::error::{CloseReason, ErrorKind};
use crate::event::Callback;
use crate::foreign::{DeferredDrop, OwnWaker, WakerSlot, register};
use crate::guard::guard;
use crate::poll::notifier::{Notice, Notifier, is_poller_thread};
use crate::poll::placement::register_source;
use crate::poll::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, lock};
pub use local::spawn_local;

/// Runs `future` on a poller: inside a handler on the handler's poller, else on one that the whole
/// process shares. The future must not block, because every connection of that poller would wait.
///
/// The future runs whether or not the returned handle is awaited, and continues if the handle is
/// dropped: see [`JoinHandle::abort`]. If it panics, or its poller ends first, the handle returns an
/// error. Costs a few allocations, and a command to the poller if this is another thread.
///
/// # Errors
///
/// Inside a handler or a spawned future that runs on a poller: none. Elsewhere the errors of
/// starting the shared poller, `EMFILE` and the like, until it has started.
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
    let factory: SourceFactory = Box::new(move |registration| running.into_source(registration));
    register_source(factory)?;
    Ok(JoinHandle { shared: outcome })
}

/// The result of a spawned future: a future itself, of the same output in an [`io::Result`].
///
/// Dropping the handle detaches the spawned future, which continues to run; its output is dropped.
/// To cancel it, call [`abort`](Self::abort) first.
pub struct JoinHandle<T> {
    shared: Arc<JoinShared<T>>,
}

impl<T> JoinHandle<T> {
    /// Requests that the future is dropped, on its poller, at its next poll. The handle then returns
    /// an error with [`Local`](crate::CloseReason::Local) in [`ErrorKind::Closed`], after the
    /// drop. Returns at once. Without effect if the future has completed, or completes in a poll
    /// that runs already: then the handle returns its output. Idempotent, callable from any thread.
    ///
    /// ```
    /// use netpoll::time::sleep;
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let task = netpoll::spawn(sleep(std::time::Duration::from_secs(3600)))?;
    /// task.abort();
    /// let error = task.await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok(()) }
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn abort(&self) {
        // Release: pairs with the load of a poll. `set_task` orders itself by the lock.
        self.shared.is_aborted.store(true, Ordering::Release);
        let task = lock(&self.shared.state).task.clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Parks the thread until the future completes, and returns its output. For programs without an
    /// executor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlockingOnPoller`] (`WouldBlock`) on
    /// a poller's thread; else those of awaiting the handle.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// assert_eq!(netpoll::spawn(async { 6 * 7 })?.wait()?, 42);
    /// # Ok(()) }
    /// ```
    pub fn wait(self) -> io::Result<T> {
        if is_poller_thread() {
            return Err(ErrorKind::BlockingOnPoller.into());
        }
        block_on(self)
    }
}

/// The state that a handle and its task share.
struct JoinShared<T> {
    state: Mutex<JoinState<T>>,
    /// Whether the future is dropped at its next poll.
    is_aborted: AtomicBool,
}

struct JoinState<T> {
    /// A user's value, dropped guarded.
    result: DeferredDrop<io::Result<T>>,
    waker: WakerSlot,
    /// The task, from its registration to its end.
    task: Option<Arc<TaskNotifier>>,
}

impl<T> Default for JoinShared<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(JoinState {
                result: DeferredDrop::none(),
                waker: WakerSlot::empty(),
                task: None,
            }),
            is_aborted: AtomicBool::new(false),
        }
    }
}

impl<T> JoinShared<T> {
    /// Sets the task that an abort notifies. An earlier abort is seen by the first poll.
    fn set_task(&self, task: &Arc<TaskNotifier>) {
        lock(&self.state).task = Some(Arc::clone(task));
    }

    fn complete(&self, result: io::Result<T>) {
        let mut state = lock(&self.state);
        state.result = DeferredDrop::new(result);
        let waker = state.waker.take();
        let task = state.task.take();
        drop(state);
        drop(task);
        waker.wake();
    }
}

impl<T> Future for JoinHandle<T> {
    /// An error of kind `ConnectionAborted`, with the reason, if the future did not complete.
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
    /// Drops the waker and an unclaimed result, guarded and after the lock.
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
        f.debug_struct("JoinHandle").field("done", &done).finish()
    }
}

/// A running future and the state of its handle. Completes with an error if it is dropped.
struct SpawnedFuture<F: Future> {
    future: Option<Pin<Box<F>>>,
    shared: Arc<JoinShared<F::Output>>,
}

impl<F: Future> SpawnedFuture<F> {
    /// Makes the source that drives it, on its poller.
    fn into_source(self, registration: RegisterContext) -> Box<dyn Source>
    where
        F: 'static,
    {
        let notifier = Arc::new(TaskNotifier(registration.notifier));
        self.shared.set_task(&notifier);
        Box::new(TaskSource {
            waker: OwnWaker::new(Arc::clone(&notifier)),
            notifier,
            spawned: self,
        })
    }

    /// Polls the future once. Returns whether it is over.
    fn poll(&mut self, waker: &Waker) -> bool {
        let Some(future) = &mut self.future else {
            return true;
        };
        // Acquire: pairs with `abort`.
        if self.shared.is_aborted.load(Ordering::Acquire) {
            self.end_with(Err(closed_error(CloseReason::Local)));
            return true;
        }
        let polled = guard(|| future.as_mut().poll(&mut Context::from_waker(waker)));
        let result = match polled {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(_panicked) => Err(closed_error(CloseReason::HandlerPanic)),
        };
        self.end_with(result);
        true
    }

    fn end_with(&mut self, result: io::Result<F::Output>) {
        self.drop_future();
        self.shared.complete(result);
    }

    fn drop_future(&mut self) {
        let future = self.future.take();
        let _panicked = guard(|| drop(future)).is_err();
    }
}

impl<F: Future> Drop for SpawnedFuture<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end_with(Err(closed_error(CloseReason::Shutdown)));
        }
    }
}

fn closed_error(reason: CloseReason) -> io::Error {
    ErrorKind::Closed { reason }.into()
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
        // The poll may have taken long.
        context.invalidate_clock();
        if is_over {
            NextAction::Remove
        } else {
            NextAction::NoInterest
        }
    }

    fn on_shutdown(
        &mut self,
        request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        request.remove_on_force(|| NextAction::NoInterest)
    }
}
