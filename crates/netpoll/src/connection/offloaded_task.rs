// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that run elsewhere than on the connection's poller.
//!
//! The engine sends the connection to a runner inside a task. The [`OffloadedTask`] is the state
//! that the engine and the task share. The poller goes on reading and sending for the connection.
//! The task's reader and writer use the shared state of the connection, as those of any owned
//! connection do.
//!
//! After each poll of the task, the polling thread sends the output of that poll. When the task
//! completes, it stores its outcome in the `OffloadedTask` and notifies the poller, and the engine
//! takes the connection back.
//!
//! Every task stores exactly one outcome, even if it panics or its runner drops it.

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

/// Runs calls as tasks that `launch` hands to a runner.
pub(crate) struct OffloadDispatcher<L> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) launch: L,
}

/// A call in progress elsewhere.
#[derive(Debug)]
pub(crate) struct OffloadedTask {
    shared: Arc<Shared>,
    state: Mutex<TaskState>,
}

#[derive(Debug, Default)]
struct TaskState {
    phase: TaskPhase,
    outcome: Option<TaskOutcome>,
    /// Set when the engine does not wait for the outcome any more: the task is to be dropped.
    cancelled: bool,
    /// The waker of the task. A poll stores it before any user code runs.
    waker: WakerSlot,
    /// How many timeouts the call waits on, between polls.
    active_timeouts: u32,
}

/// Whether a thread polls the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TaskPhase {
    #[default]
    Waiting,
    Polling,
}

/// The result of a call.
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

    /// Stores the outcome and notifies the poller, unless an outcome was stored before.
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

    /// Polls the task once with a waker of the `OffloadedTask`, and sends the output of the poll.
    /// The number of these wakers that are kept shows what the call waits for.
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

    /// Stores the waker of the task. Returns the number of timeouts of the call, or `None` if the
    /// task was cancelled.
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

    /// Ends a poll whose call waits.
    fn suspend(&self, limits: u32) -> Poll<()> {
        let mut state = lock(&self.state);
        state.phase = TaskPhase::Waiting;
        state.active_timeouts = limits;
        let cancelled = state.cancelled;
        drop(state);
        if cancelled {
            return Poll::Ready(());
        }
        // The engine ignored close requests while the call was polled.
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

/// The task's share of an [`OffloadedTask`]. A drop before completion reports the call as lost.
pub(crate) struct TaskGuard(Arc<OffloadedTask>);

impl TaskGuard {
    /// Runs the call to completion.
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
        // A custom runner that panics has dropped the task, and the drop reports that.
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
        _shared: &Arc<Shared>,
        _limits: u32,
    ) -> usize {
        let limits = lock(&offloaded.state).active_timeouts as usize;
        // The other counts are those of the engine and the task.
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
        // An outcome that was not taken contains user values.
        let _panicked = guard(|| drop(offloaded)).is_err();
    }
}
