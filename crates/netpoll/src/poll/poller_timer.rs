// SPDX-License-Identifier: MIT OR Apache-2.0
//! A timer on a poller, for anything other than a connection: a sleep, the deadlines of calls.
//!
//! A [`PollerTimer`] is a source without a descriptor. Its owner sets the time as often as it likes
//! and on any thread; the poller uses the latest value and wakes the owner. In between it costs the
//! poller nothing. If the poller ends first, the timer wakes its owner with
//! [`TimerStatus::PollerEnded`]: the time has not come, and another poller can take over.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Instant;

use super::notifier::{Notice, Notifier};
use super::placement::register_source;
use super::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::foreign::{CallerWaker, CloneRequired, WakerSlot, Wakeup, register};
use crate::sync::{Arc, Mutex, lock};

/// Wakes a waker at a set time. Dropping it removes it from its poller.
#[derive(Debug)]
pub(crate) struct PollerTimer {
    shared: Arc<TimerShared>,
}

/// The state that a timer and its source share.
#[derive(Debug, Default)]
struct TimerShared {
    state: Mutex<TimerState>,
}

#[derive(Debug, Default)]
struct TimerState {
    at: Option<Instant>,
    waker: WakerSlot,
    phase: TimerPhase,
    /// The notifier of its source, once there is one.
    notifier: Option<Arc<Notifier>>,
}

/// The phase of a timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TimerPhase {
    #[default]
    Active,
    /// Its poller has ended.
    PollerEnded,
    /// The timer was dropped.
    Dropped,
}

/// The status of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerStatus {
    Pending,
    /// The time that was set last has come.
    Fired,
    /// Its poller has ended: it will not fire.
    PollerEnded,
}

impl PollerTimer {
    /// Creates a timer on the caller's poller. Costs a few allocations and a command to the poller.
    pub(crate) fn new() -> io::Result<Self> {
        let shared = Arc::<TimerShared>::default();
        let loss_guard = TimerLossGuard(Arc::clone(&shared));
        let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
            Box::new(TimerSource::new(loss_guard, registration.notifier))
        });
        register_source(factory)?;
        Ok(Self { shared })
    }

    /// Wakes `waker` at `at`, in place of the time set before.
    pub(crate) fn set(&self, at: Instant, waker: &Waker) {
        register(waker, |caller_waker| self.try_set(at, caller_waker));
    }

    /// As [`set`](Self::set), for an attempt that may hold a lock of its own.
    ///
    /// # Errors
    ///
    /// As [`WakerSlot::set`].
    pub(crate) fn try_set(
        &self,
        at: Instant,
        caller_waker: &mut CallerWaker<'_>,
    ) -> Result<(), CloneRequired> {
        let mut state = lock(&self.shared.state);
        state.waker.set(caller_waker)?;
        if state.at == Some(at) {
            return Ok(());
        }
        // The poller checks at the earlier time and finds this one then.
        let is_checked_earlier = state.at.is_some_and(|before| before <= at);
        state.at = Some(at);
        let notifier = state.notifier.clone();
        drop(state);
        if !is_checked_earlier {
            notifier
                .into_iter()
                .for_each(|notifier| notifier.notify(Notice::Deadline));
        }
        Ok(())
    }

    /// Returns whether the timer fired for the time that was set last.
    pub(crate) fn status(&self) -> TimerStatus {
        let state = lock(&self.shared.state);
        match (state.phase, state.at) {
            (TimerPhase::PollerEnded, _) => TimerStatus::PollerEnded,
            (_, None) => TimerStatus::Fired,
            _ => TimerStatus::Pending,
        }
    }
}

impl Drop for PollerTimer {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.phase = TimerPhase::Dropped;
        let (waker, notifier) = (state.waker.take(), state.notifier.take());
        drop(state);
        drop(waker);
        notifier
            .into_iter()
            .for_each(|notifier| notifier.notify(Notice::Close));
    }
}

impl TimerShared {
    fn poller_ended(&self) {
        let mut state = lock(&self.state);
        if state.phase == TimerPhase::Active {
            state.phase = TimerPhase::PollerEnded;
        }
        state.notifier = None;
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }
}

/// The source's side of a timer. Reports the end of the poller when it is dropped, even if the
/// source was never created.
struct TimerLossGuard(Arc<TimerShared>);

impl Drop for TimerLossGuard {
    fn drop(&mut self) {
        self.0.poller_ended();
    }
}

/// The source of a timer.
struct TimerSource {
    shared: TimerLossGuard,
    notifier: Arc<Notifier>,
}

impl TimerSource {
    fn new(shared: TimerLossGuard, notifier: Notifier) -> Self {
        let notifier = Arc::new(notifier);
        lock(&shared.0.state).notifier = Some(Arc::clone(&notifier));
        Self { shared, notifier }
    }

    /// Wakes the owner if the time has come, else sets the deadline.
    fn check(&self, context: &mut SourceContext) -> NextAction {
        let mut state = lock(&self.shared.0.state);
        if state.phase == TimerPhase::Dropped {
            return NextAction::Remove;
        }
        let due = state.at.is_some_and(|at| at <= context.now());
        if due {
            state.at = None;
        }
        context.set_deadline(state.at);
        let waker = due.then(|| state.waker.take());
        drop(state);
        waker.into_iter().for_each(Wakeup::wake);
        NextAction::NoInterest
    }
}

impl Source for TimerSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
        self.check(context)
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        self.notifier.take();
        self.check(context)
    }

    fn on_timeout(&mut self, context: &mut SourceContext) -> NextAction {
        self.check(context)
    }

    fn on_shutdown(&mut self, request: ShutdownRequest, context: &mut SourceContext) -> NextAction {
        request.remove_on_force(|| self.check(context))
    }
}
