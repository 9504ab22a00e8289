// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that are carried out elsewhere than on the connection's poller.
//!
//! The session sends the connection away with a task that a runner polls; the [`Errand`] is what
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
use super::burst::{Finished, Stage};
use super::calling::{Caller, Lost};
use super::link::{Ending, Link};
use crate::fairness;
use crate::foreign::{WakerSlot, register};
use crate::guard::{Panicked, guard};
use crate::limits;
use crate::poll::bell::{self, Signal};
use crate::sync::{Arc, Mutex, lock};

/// Has calls carried out by what `launch` hands them to.
pub(crate) struct Away<L> {
    pub(crate) link: Arc<Link>,
    pub(crate) launch: L,
}

/// A call under way elsewhere.
#[derive(Debug)]
pub(crate) struct Errand {
    link: Arc<Link>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    activity: Activity,
    outcome: Option<Outcome>,
    /// Nobody waits for the outcome: the task is to be dropped.
    called_off: bool,
    /// Of the task. A poll leaves it before it runs any user code.
    waker: WakerSlot,
    /// What the call has of its own, between polls.
    limits: u32,
}

/// Whether a thread is at work on a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Activity {
    #[default]
    Waits,
    Polled,
}

/// What became of a call.
enum Outcome {
    Finished(Finished),
    Lost(Lost),
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finished(_) => "Finished",
            Self::Lost(Lost::Panicked) => "Panicked",
            Self::Lost(Lost::Dropped) => "Dropped",
        })
    }
}

impl Errand {
    fn new(link: &Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            link: Arc::clone(link),
            state: Mutex::default(),
        })
    }

    /// Leaves the outcome and tells the session, unless there is one.
    fn tell(&self, outcome: Outcome) {
        let mut state = lock(&self.state);
        state.activity = Activity::Waits;
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
            let waker = state.waker.take();
            drop(state);
            self.link.bell.ring(Signal::Poll);
            drop(waker);
        }
    }

    /// One poll of the task, with a waker of the errand's own: how many of those are kept tells
    /// what the call waits for. Sends what it has put.
    fn poll<F>(self: &Arc<Self>, future: Pin<&mut F>, context: &Context<'_>) -> Poll<()>
    where
        F: Future<Output = Finished>,
    {
        let Some(mut limits) = self.begin_poll(context.waker()) else {
            return Poll::Ready(());
        };
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = limits::within(&mut limits, || {
            bell::work_for(&self.link.bell, || {
                let span = &self.link.span;
                let poll = || guard(|| future.poll(&mut context));
                span.within(|| fairness::within(poll))
            })
        });
        self.link.send_now();
        match polled {
            Ok(Poll::Pending) => self.wait(limits),
            Ok(Poll::Ready(finished)) => {
                self.tell(Outcome::Finished(finished));
                Poll::Ready(())
            }
            Err(Panicked) => {
                self.tell(Outcome::Lost(Lost::Panicked));
                Poll::Ready(())
            }
        }
    }

    /// Keeps the waker of the task, unless that was called off. What the call has of its own.
    fn begin_poll(&self, waker: &Waker) -> Option<u32> {
        register(waker, |offer| {
            let mut state = lock(&self.state);
            if state.called_off {
                return Ok(None);
            }
            state.waker.set(offer)?;
            state.activity = Activity::Polled;
            Ok(Some(state.limits))
        })
    }

    /// The call waits.
    fn wait(&self, limits: u32) -> Poll<()> {
        let mut state = lock(&self.state);
        state.activity = Activity::Waits;
        state.limits = limits;
        let called_off = state.called_off;
        drop(state);
        if called_off {
            return Poll::Ready(());
        }
        // The session did not listen while the call was at work.
        if self.link.ending() != Ending::None {
            self.link.bell.ring(Signal::Close);
        }
        Poll::Pending
    }
}

/// Wakes the task.
impl Wake for Errand {
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
pub(crate) struct Task(Arc<Errand>);

impl Task {
    /// Carries the call out.
    pub(crate) async fn carry<F>(self, call: F)
    where
        F: Future<Output = Finished>,
    {
        let mut call = pin!(call);
        poll_fn(|context| self.0.poll(call.as_mut(), context)).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tell(Outcome::Lost(Lost::Dropped));
    }
}

impl<L> Caller for Away<L>
where
    L: Fn(Task, Connection, Stage) + 'static,
{
    type Call = Arc<Errand>;

    const ELSEWHERE: bool = true;

    fn begin(&self, connection: Connection, stage: Stage) -> Result<Arc<Errand>, Panicked> {
        let errand = Errand::new(&self.link);
        let task = Task(Arc::clone(&errand));
        // A runner of the user's own that panics has dropped the task, which says so.
        let _launched = guard(|| (self.launch)(task, connection, stage)).is_ok();
        Ok(errand)
    }

    fn poll(
        &self,
        errand: &mut Arc<Errand>,
        _context: &mut Context<'_>,
    ) -> Poll<Result<Finished, Lost>> {
        match lock(&errand.state).outcome.take() {
            Some(Outcome::Finished(finished)) => Poll::Ready(Ok(finished)),
            Some(Outcome::Lost(lost)) => Poll::Ready(Err(lost)),
            None => Poll::Pending,
        }
    }

    fn is_at_work(&self, errand: &Arc<Errand>) -> bool {
        lock(&errand.state).activity == Activity::Polled
    }

    fn wakers_kept(&self, errand: &Arc<Errand>, _link: &Arc<Link>, _limits: u32) -> usize {
        let limits = lock(&errand.state).limits as usize;
        // The others are the session's and the task's.
        Arc::strong_count(errand).saturating_sub(2 + limits)
    }

    fn call_off(&self, errand: &Arc<Errand>) -> bool {
        let mut state = lock(&errand.state);
        let first = !std::mem::replace(&mut state.called_off, true);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
        first
    }

    fn end(&self, errand: Arc<Errand>) {
        self.call_off(&errand);
        // With an outcome in it that nobody has taken, it holds what is the user's.
        let _panicked = guard(|| drop(errand)).is_err();
    }
}
