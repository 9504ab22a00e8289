// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections of an event loop are alive, for whoever waits until none is.

use std::task::Waker;
use std::time::Instant;

use crate::foreign::{WakerSlots, register};
use crate::poll::notifier::SourceId;
use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_timeout};

/// The count of one event loop.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTracker {
    state: Mutex<TrackerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TrackerState {
    open: usize,
    /// Listeners that may still bring connections.
    listeners: usize,
    /// Connections that had to be cut.
    aborted: usize,
    /// Handlers that wait for the end themselves: nobody waits for them.
    waiting_handlers: Vec<SourceId>,
    phase: TrackerPhase,
    /// Who waits for a stage. Whoever was woken keeps his place until he leaves it.
    wakers: WakerSlots,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum TrackerPhase {
    #[default]
    Running,
    /// Nobody is here but those who are excused.
    OnlyHandlersWait,
    /// Nobody will come any more.
    Stopped,
}

/// For whom the end is asked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownWaiter {
    Handler,
    External,
}

/// One connection that is counted; no more when dropped.
#[derive(Debug)]
pub(crate) struct TrackedConnection {
    tracker: Arc<ConnectionTracker>,
}

impl TrackedConnection {
    /// Counts one more.
    pub(crate) fn new(tracker: &Arc<ConnectionTracker>) -> Self {
        lock(&tracker.state).open += 1;
        Self {
            tracker: Arc::clone(tracker),
        }
    }

    /// Counts this one among those that were cut.
    pub(crate) fn mark_aborted(&self) {
        self.tracker.add_aborted(1);
    }
}

impl Drop for TrackedConnection {
    fn drop(&mut self) {
        self.tracker.decrease(|state| state.open -= 1);
    }
}

/// A listener that may still bring connections; no more when dropped.
#[derive(Debug)]
pub(crate) struct ListenerGuard {
    tracker: Arc<ConnectionTracker>,
}

impl ListenerGuard {
    /// Opens one more.
    pub(crate) fn new(tracker: &Arc<ConnectionTracker>) -> Self {
        lock(&tracker.state).listeners += 1;
        Self {
            tracker: Arc::clone(tracker),
        }
    }
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        self.tracker.decrease(|state| state.listeners -= 1);
    }
}

impl TrackerState {
    /// Nobody is here but those who wait for that, and nobody can come.
    fn is_drained(&self) -> bool {
        self.open <= self.waiting_handlers.len() && self.listeners == 0
    }

    fn is_released(&self, waiter: ShutdownWaiter) -> bool {
        self.phase
            >= match waiter {
                ShutdownWaiter::Handler => TrackerPhase::OnlyHandlersWait,
                ShutdownWaiter::External => TrackerPhase::Stopped,
            }
    }
}

impl ConnectionTracker {
    /// Counts down, and tells who waits for none.
    fn decrease(&self, count: impl FnOnce(&mut TrackerState)) {
        let mut state = lock(&self.state);
        count(&mut state);
        if state.is_drained() {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Whether nobody is here, and nobody can come.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn is_none(&self) -> bool {
        lock(&self.state).is_none()
    }

    /// A handler waits for the end: nobody waits for it until it is
    /// [excused no more](Self::remove_waiting_handler).
    pub(crate) fn add_waiting_handler(&self, handler: SourceId) {
        self.decrease(|state| state.waiting_handlers.push(handler));
    }

    /// A handler waits for the end no more.
    pub(crate) fn remove_waiting_handler(&self, handler: &SourceId) {
        let mut state = lock(&self.state);
        if let Some(index) = state
            .waiting_handlers
            .iter()
            .position(|known| known == handler)
        {
            state.waiting_handlers.swap_remove(index);
        }
    }

    /// Whether a handler waits for the end.
    pub(crate) fn is_waiting_handler(&self, handler: &SourceId) -> bool {
        lock(&self.state).waiting_handlers.contains(handler)
    }

    /// How many are alive.
    pub(crate) fn open_connections(&self) -> usize {
        lock(&self.state).open
    }

    /// Counts `count` more that were cut, unless it is over: a poller that was left behind cuts what was
    /// counted.
    pub(crate) fn add_aborted(&self, count: usize) {
        let mut state = lock(&self.state);
        if state.phase != TrackerPhase::Stopped {
            state.aborted += count;
        }
    }

    /// How many had to be cut.
    pub(crate) fn aborted(&self) -> usize {
        lock(&self.state).aborted
    }

    /// Waits until none is alive but those that are excused and none can come, or `deadline` is
    /// here; says whether none is.
    pub(crate) fn wait_until_drained(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, TrackerState::is_drained)
    }

    /// Waits until none is alive at all and none can come, or `deadline` is here; says whether none
    /// is.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) -> bool {
        self.wait_until(deadline, |state| state.open == 0 && state.listeners == 0)
    }

    fn wait_until(&self, deadline: Instant, condition: impl Fn(&TrackerState) -> bool) -> bool {
        let mut state = lock(&self.state);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reached = condition(&state);
            if reached || left.is_zero() {
                return reached;
            }
            state = wait_timeout(&self.changed, state, left).0;
        }
    }

    /// Says that nobody is here but those who are excused, if anybody is, and wakes them.
    pub(crate) fn release_waiting_handlers(&self) {
        if !lock(&self.state).waiting_handlers.is_empty() {
            self.enter_phase(TrackerPhase::OnlyHandlersWait);
        }
    }

    /// Says that nobody will come any more, and wakes who waits for that.
    pub(crate) fn mark_stopped(&self) {
        self.enter_phase(TrackerPhase::Stopped);
    }

    fn enter_phase(&self, phase: TrackerPhase) {
        let mut state = lock(&self.state);
        state.phase = phase;
        let waiting = state.wakers.take_all();
        drop(state);
        self.changed.notify_all();
        waiting.wake();
    }

    /// How many were cut, once it is over for the asker; else `waker` is woken then, from the place
    /// `key`, or a new one if there is none.
    pub(crate) fn poll_aborted(
        &self,
        waiter: ShutdownWaiter,
        key: &mut Option<usize>,
        waker: &Waker,
    ) -> Option<usize> {
        register(waker, |caller_waker| {
            let mut state = lock(&self.state);
            if state.is_released(waiter) {
                return Ok(Some(state.aborted));
            }
            state.wakers.set(key, caller_waker)?;
            Ok(None)
        })
    }

    /// Whoever waited in the place `key` waits no more.
    pub(crate) fn remove_waker(&self, key: usize) {
        let waker = lock(&self.state).wakers.remove(key);
        drop(waker);
    }

    /// Waits until it is over for the asker, and says how many were cut.
    pub(crate) fn wait_until_stopped(&self, waiter: ShutdownWaiter) -> usize {
        let mut state = lock(&self.state);
        while !state.is_released(waiter) {
            state = wait(&self.changed, state);
        }
        state.aborted
    }
}
