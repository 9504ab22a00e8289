// SPDX-License-Identifier: MIT OR Apache-2.0
//! A timer on a poller, for anything other than a connection: a sleep, the deadlines of calls.
//!
//! A [`PollerTimer`] is a source without a descriptor. Its owner sets the time as often as it likes
//! and on any thread; the poller uses the latest value and wakes the owner. In between it costs the
//! poller nothing. If the poller ends first, the timer wakes its owner with
//! [`TimerStatus::PollerEnded`]: the time has not come, and another poller can take over.
//!
//! A timer that is created and dropped on the thread of its poller is [kept](spare_timers) for the
//! next one.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Instant;

use super::notifier::{self, Notice, Notifier, PollerId};
use super::placement::register_source;
use super::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use super::spare_timers;
use crate::foreign::{CallerWaker, CloneRequired, WakerSlot, Wakeup, register};
use crate::sync::{Arc, Mutex, lock};

/// Wakes a waker at a set time. Dropping it removes it from its poller, or keeps it as a spare.
#[derive(Debug)]
pub(crate) struct PollerTimer {
    shared: Arc<TimerShared>,
    /// Its poller, if that created it.
    created_on: Option<PollerId>,
}

/// The state that a timer and its source share.
#[derive(Debug, Default)]
pub(super) struct TimerShared {
    state: Mutex<TimerState>,
}

#[derive(Debug, Default)]
struct TimerState {
    /// The time that the owner has set, until it has come.
    at: Option<Instant>,
    /// The time at which the poller checks `at`.
    next_check: Option<Instant>,
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
    /// Creates a timer on the caller's poller. Costs a few allocations and a command to the poller,
    /// unless the caller is a poller with a spare timer.
    pub(crate) fn new() -> io::Result<Self> {
        let created_on = notifier::current_poller();
        if let Some(shared) = created_on.and_then(spare_timers::take) {
            return Ok(Self { shared, created_on });
        }
        let shared = Arc::<TimerShared>::default();
        let loss_guard = TimerLossGuard(Arc::clone(&shared));
        let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
            Box::new(TimerSource::new(loss_guard, registration.notifier))
        });
        register_source(factory)?;
        Ok(Self { shared, created_on })
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
        state.at = Some(at);
        // At an earlier check the poller finds the new time.
        if state.next_check.is_some_and(|check| check <= at) {
            return Ok(());
        }
        let notifier = state.notifier.clone();
        drop(state);
        notifier
            .into_iter()
            .for_each(|notifier| notifier.notify(Notice::Deadline));
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
        let on_its_poller = self
            .created_on
            .filter(|&poller| notifier::current_poller() == Some(poller));
        self.shared.disarm();
        let is_kept = on_its_poller.is_some_and(|poller| spare_timers::keep(poller, &self.shared));
        if !is_kept {
            self.shared.remove();
        }
    }
}

impl TimerShared {
    /// Returns whether its poller runs, and it has not been removed.
    pub(super) fn is_active(&self) -> bool {
        lock(&self.state).phase == TimerPhase::Active
    }

    /// Makes it wake nothing.
    fn disarm(&self) {
        let mut state = lock(&self.state);
        state.at = None;
        let waker = state.waker.take();
        drop(state);
        drop(waker);
    }

    /// Removes it from its poller.
    pub(super) fn remove(&self) {
        let mut state = lock(&self.state);
        state.phase = TimerPhase::Dropped;
        let notifier = state.notifier.take();
        drop(state);
        notifier
            .into_iter()
            .for_each(|notifier| notifier.notify(Notice::Close));
    }

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
        state.next_check = state.at;
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

#[cfg(test)]
mod tests;
