// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that are carried out elsewhere than on the connection's poller.
//!
//! The session sends the connection away with a task that a runner polls; the [`OffloadedTask`] is what
//! the two have in common. The poller goes on reading and sending for the connection; the task's
//! reader and writer meet it in the link, as those of any owned connection do. After each poll of
//! the task what it has put is sent, on the thread that polled. When it is done it leaves its
//! outcome in the errand and rings, and the session takes the connection back.
//!
//! Whatever becomes of a task, its outcome is told once: also if it panicked, and if the runner
//! dropped it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use super::Connection;
use super::dispatcher::{CallFailure, Dispatcher};
use super::request_batch::{CallOutcome, HandlerStage};
use super::shared::{CloseRequest, Shared};
use crate::active_timeouts;
use crate::fairness;
use crate::foreign::{WakerSlot, register};
use crate::guard::{CaughtPanic, guard};
use crate::poll::notifier::{self, Notice};
use crate::sync::{Arc, Mutex, lock};

/// Has calls carried out by what `launch` hands them to.
pub(crate) struct OffloadDispatcher<L> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) launch: L,
}

/// A call under way elsewhere.
#[derive(Debug)]
pub(crate) struct OffloadedTask {
    shared: Arc<Shared>,
    state: Mutex<TaskState>,
}

#[derive(Debug, Default)]
struct TaskState {
    phase: TaskPhase,
    outcome: Option<TaskOutcome>,
    /// Nobody waits for the outcome: the task is to be dropped.
    cancelled: bool,
    /// Of the task. A poll leaves it before it runs any user code.
    waker: WakerSlot,
    /// What the call has of its own, between polls.
    active_timeouts: u32,
}

/// Whether a thread is at work on a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TaskPhase {
    #[default]
    Waiting,
    Polling,
}

/// What became of a call.
enum TaskOutcome {
    Finished(CallOutcome),
    Lost(CallFailure),
}

impl std::fmt::Debug for TaskOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finished(_) => "Finished",
            Self::Lost(CallFailure::Panicked) => "Panicked",
            Self::Lost(CallFailure::Dropped) => "Dropped",
        })
    }
}

impl OffloadedTask {
    fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            state: Mutex::default(),
        })
    }

    /// Leaves the outcome and tells the session, unless there is one.
    fn complete(&self, outcome: TaskOutcome) {
        let mut state = lock(&self.state);
        state.phase = TaskPhase::Waiting;
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
            let waker = state.waker.take();
            drop(state);
            self.shared.notifier.notify(Notice::Poll);
            drop(waker);
        }
    }

    /// One poll of the task, with a waker of the errand's own: how many of those are kept tells
    /// what the call waits for. Sends what it has put.
    fn poll<F>(self: &Arc<Self>, future: Pin<&mut F>, context: &Context<'_>) -> Poll<()>
    where
        F: Future<Output = CallOutcome>,
    {
        let Some(mut limits) = self.begin_poll(context.waker()) else {
            return Poll::Ready(());
        };
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = active_timeouts::with_count(&mut limits, || {
            notifier::run_on_behalf_of(&self.shared.notifier, || {
                let span = &self.shared.span;
                let poll = || guard(|| future.poll(&mut context));
                span.within(|| fairness::nested_poll(poll))
            })
        });
        self.shared.send_now();
        match polled {
            Ok(Poll::Pending) => self.suspend(limits),
            Ok(Poll::Ready(outcome)) => {
                self.complete(TaskOutcome::Finished(outcome));
                Poll::Ready(())
            }
            Err(CaughtPanic) => {
                self.complete(TaskOutcome::Lost(CallFailure::Panicked));
                Poll::Ready(())
            }
        }
    }

    /// Keeps the waker of the task, unless that was called off. What the call has of its own.
    fn begin_poll(&self, waker: &Waker) -> Option<u32> {
        register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            if state.cancelled {
                return Ok(None);
            }
            state.waker.set(caller_waker)?;
            state.phase = TaskPhase::Polling;
            Ok(Some(state.active_timeouts))
        })
    }

    /// The call waits.
    fn suspend(&self, limits: u32) -> Poll<()> {
        let mut state = lock(&self.state);
        state.phase = TaskPhase::Waiting;
        state.active_timeouts = limits;
        let called_off = state.cancelled;
        drop(state);
        if called_off {
            return Poll::Ready(());
        }
        // The session did not listen while the call was at work.
        if self.shared.close_request() != CloseRequest::None {
            self.shared.notifier.notify(Notice::Close);
        }
        Poll::Pending
    }
}

/// Wakes the task.
impl Wake for OffloadedTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waker = lock(&self.state).waker.take();
        waker.wake();
    }
}

/// The task of an errand, whoever carries it. Tells that the call is lost if it is dropped before
/// it is done.
pub(crate) struct TaskGuard(Arc<OffloadedTask>);

impl TaskGuard {
    /// Carries the call out.
    pub(crate) async fn run<F>(self, call: F)
    where
        F: Future<Output = CallOutcome>,
    {
        let mut call = pin!(call);
        poll_fn(|context| self.0.poll(call.as_mut(), context)).await;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.complete(TaskOutcome::Lost(CallFailure::Dropped));
    }
}

impl<L> Dispatcher for OffloadDispatcher<L>
where
    L: Fn(TaskGuard, Connection, HandlerStage) + 'static,
{
    type Call = Arc<OffloadedTask>;

    const OFFLOADED: bool = true;

    fn begin(
        &self,
        connection: Connection,
        stage: HandlerStage,
    ) -> Result<Arc<OffloadedTask>, CaughtPanic> {
        let offloaded = OffloadedTask::new(&self.shared);
        let task = TaskGuard(Arc::clone(&offloaded));
        // A runner of the user's own that panics has dropped the task, which says so.
        let _launched = guard(|| (self.launch)(task, connection, stage)).is_ok();
        Ok(offloaded)
    }

    fn poll(
        &self,
        offloaded: &mut Arc<OffloadedTask>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<CallOutcome, CallFailure>> {
        match lock(&offloaded.state).outcome.take() {
            Some(TaskOutcome::Finished(outcome)) => Poll::Ready(Ok(outcome)),
            Some(TaskOutcome::Lost(lost)) => Poll::Ready(Err(lost)),
            None => Poll::Pending,
        }
    }

    fn is_polling(&self, offloaded: &Arc<OffloadedTask>) -> bool {
        lock(&offloaded.state).phase == TaskPhase::Polling
    }

    fn external_wakers(
        &self,
        offloaded: &Arc<OffloadedTask>,
        _link: &Arc<Shared>,
        _limits: u32,
    ) -> usize {
        let limits = lock(&offloaded.state).active_timeouts as usize;
        // The others are the session's and the task's.
        Arc::strong_count(offloaded).saturating_sub(2 + limits)
    }

    fn cancel(&self, offloaded: &Arc<OffloadedTask>) -> bool {
        let mut state = lock(&offloaded.state);
        let first = !std::mem::replace(&mut state.cancelled, true);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
        first
    }

    fn release(&self, offloaded: Arc<OffloadedTask>) {
        self.cancel(&offloaded);
        // With an outcome in it that nobody has taken, it holds what is the user's.
        let _panicked = guard(|| drop(offloaded)).is_err();
    }
}
