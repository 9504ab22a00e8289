// SPDX-License-Identifier: MIT OR Apache-2.0
//! A time of its own, for what is no connection: a sleep, the deadlines of calls.
//!
//! An [`PollerTimer`] is a source without a descriptor. Whoever has it says when, as often as he likes and
//! on any thread; the poller looks at the latest word and wakes him. It costs its poller nothing in
//! between. If the poller ends first, the alarm is *lost*, and wakes for that: the time is not up,
//! and there are other pollers.

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

/// Wakes somebody at a time. Dropping it takes it out of its poller.
#[derive(Debug)]
pub(crate) struct PollerTimer {
    shared: Arc<TimerShared>,
}

/// What an alarm and its source share.
#[derive(Debug, Default)]
struct TimerShared {
    state: Mutex<TimerState>,
}

#[derive(Debug, Default)]
struct TimerState {
    at: Option<Instant>,
    waker: WakerSlot,
    phase: TimerPhase,
    /// Its source's, once there is one.
    notifier: Option<Arc<Notifier>>,
}

/// Where an alarm is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TimerPhase {
    #[default]
    Active,
    /// Its poller has ended.
    PollerEnded,
    /// Nobody wants it any more.
    Dropped,
}

/// What became of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerStatus {
    Pending,
    /// The time that was set last has come.
    Fired,
    /// Its poller has ended: nothing will wake anybody.
    PollerEnded,
}

impl PollerTimer {
    /// An alarm on the poller that belongs to the caller. A few allocations, and a hop to the poller.
    pub(crate) fn new() -> io::Result<Self> {
        let shared = Arc::<TimerShared>::default();
        let unborn = TimerLossGuard(Arc::clone(&shared));
        let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
            Box::new(TimerSource::new(unborn, registration.notifier))
        });
        register_source(factory)?;
        Ok(Self { shared })
    }

    /// Wakes `waker` at `at` instead of what was set before.
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
        // The poller looks when an earlier time comes, and finds this one then.
        let looks_anyway = state.at.is_some_and(|before| before <= at);
        state.at = Some(at);
        let notifier = state.notifier.clone();
        drop(state);
        if !looks_anyway {
            notifier
                .into_iter()
                .for_each(|notifier| notifier.notify(Notice::Deadline));
        }
        Ok(())
    }

    /// Whether it rang for what was set last.
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

/// An alarm without its source: lost, if it never gets one, and when the source is dropped.
struct TimerLossGuard(Arc<TimerShared>);

impl Drop for TimerLossGuard {
    fn drop(&mut self) {
        self.0.poller_ended();
    }
}

/// The source of an alarm.
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

    /// Has the poller look when the time comes; wakes if it has.
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
        match request {
            ShutdownRequest::StopAccepting
            | ShutdownRequest::Graceful
            | ShutdownRequest::PollerFailed => self.check(context),
            ShutdownRequest::Force => NextAction::Remove,
        }
    }
}
