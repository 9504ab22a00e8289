// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the open connections of an event loop, so that a shutdown can wait until none is left.

use std::task::Waker;
use std::time::Instant;

use crate::foreign::{WakerSlots, register};
use crate::poll::notifier::SourceId;
use crate::sync::{Arc, Condvar, Mutex, lock, wait, wait_timeout};

/// The connection count of one event loop.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTracker {
    state: Mutex<TrackerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TrackerState {
    open: usize,
    /// Listeners that may still accept connections.
    listeners: usize,
    /// Connections that were aborted.
    aborted: usize,
    /// Handlers that await the shutdown. The loop counts as drained while only they are left.
    waiting_handlers: Vec<SourceId>,
    phase: TrackerPhase,
    /// The wakers of tasks that wait for a phase. A woken task keeps its slot until it removes it.
    wakers: WakerSlots,
}

/// The phases of a shutdown, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum TrackerPhase {
    #[default]
    Running,
    /// Only handlers that await the shutdown are left.
    OnlyHandlersWait,
    /// The loop has ended.
    Stopped,
}

/// The caller that waits for the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownWaiter {
    Handler,
    External,
}

/// Counts one connection while it exists.
#[derive(Debug)]
pub(crate) struct TrackedConnection {
    tracker: Arc<ConnectionTracker>,
}

impl TrackedConnection {
    /// Adds a connection to the count.
    pub(crate) fn new(tracker: &Arc<ConnectionTracker>) -> Self {
        lock(&tracker.state).open += 1;
        Self {
            tracker: Arc::clone(tracker),
        }
    }

    /// Counts this connection as aborted.
    pub(crate) fn mark_aborted(&self) {
        self.tracker.add_aborted(1);
    }
}

impl Drop for TrackedConnection {
    fn drop(&mut self) {
        self.tracker.decrease(|state| state.open -= 1);
    }
}

/// Counts one listener that may still accept connections while it exists.
#[derive(Debug)]
pub(crate) struct ListenerGuard {
    tracker: Arc<ConnectionTracker>,
}

impl ListenerGuard {
    /// Adds a listener to the count.
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
    /// Returns whether only handlers that await the shutdown are left, and no listener.
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
    /// Decreases a count, and wakes the waiting threads if the loop is drained.
    fn decrease(&self, count: impl FnOnce(&mut TrackerState)) {
        let mut state = lock(&self.state);
        count(&mut state);
        if state.is_drained() {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Returns whether no connection and no listener is left.
    #[cfg(all(test, netpoll_shuttle))]
    pub(crate) fn is_none(&self) -> bool {
        lock(&self.state).is_drained()
    }

    /// Registers a handler that awaits the shutdown: it does not keep the loop from being drained
    /// until it is [removed](Self::remove_waiting_handler).
    pub(crate) fn add_waiting_handler(&self, handler: SourceId) {
        self.decrease(|state| state.waiting_handlers.push(handler));
    }

    /// Removes a handler that does not await the shutdown any more.
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

    /// Returns whether the handler is registered.
    pub(crate) fn is_waiting_handler(&self, handler: &SourceId) -> bool {
        lock(&self.state).waiting_handlers.contains(handler)
    }

    /// Returns the number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        lock(&self.state).open
    }

    /// Adds `count` aborted connections, unless the loop has ended: a poller that was abandoned
    /// aborts connections that were counted before.
    pub(crate) fn add_aborted(&self, count: usize) {
        let mut state = lock(&self.state);
        if state.phase != TrackerPhase::Stopped {
            state.aborted += count;
        }
    }

    /// Returns the number of aborted connections.
    pub(crate) fn aborted(&self) -> usize {
        lock(&self.state).aborted
    }

    /// Waits until only waiting handlers and no listener are left, or until `deadline`. Returns
    /// whether that state was reached. A deadline that changes takes effect with
    /// [`recheck_deadline`](Self::recheck_deadline).
    pub(crate) fn wait_until_drained(&self, deadline: impl Fn() -> Instant) -> bool {
        self.wait_until(deadline, TrackerState::is_drained)
    }

    /// Waits until no connection and no listener is left, or until `deadline`. Returns whether that
    /// state was reached. A deadline that changes takes effect with
    /// [`recheck_deadline`](Self::recheck_deadline).
    pub(crate) fn wait_until_empty(&self, deadline: impl Fn() -> Instant) -> bool {
        self.wait_until(deadline, |state| state.open == 0 && state.listeners == 0)
    }

    /// Makes waiting threads read their deadline again.
    pub(crate) fn recheck_deadline(&self) {
        // A waiter reads its deadline under this lock: it has not read it yet, or it waits.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    fn wait_until(
        &self,
        deadline: impl Fn() -> Instant,
        condition: impl Fn(&TrackerState) -> bool,
    ) -> bool {
        let mut state = lock(&self.state);
        loop {
            let left = deadline().saturating_duration_since(Instant::now());
            let reached = condition(&state);
            if reached || left.is_zero() {
                return reached;
            }
            state = wait_timeout(&self.changed, state, left).0;
        }
    }

    /// Enters the phase in which only waiting handlers are left, if there are any, and wakes them.
    pub(crate) fn release_waiting_handlers(&self) {
        if !lock(&self.state).waiting_handlers.is_empty() {
            self.enter_phase(TrackerPhase::OnlyHandlersWait);
        }
    }

    /// Enters the last phase and wakes all waiters.
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

    /// Returns the number of aborted connections once the shutdown is complete for `waiter`. Until
    /// then it stores `waker` in the slot `key`, or in a new slot if there is none.
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

    /// Removes the waker in the slot `key`.
    pub(crate) fn remove_waker(&self, key: usize) {
        let waker = lock(&self.state).wakers.remove(key);
        drop(waker);
    }

    /// Blocks until the shutdown is complete for `waiter`, and returns the number of aborted
    /// connections.
    pub(crate) fn wait_until_stopped(&self, waiter: ShutdownWaiter) -> usize {
        let mut state = lock(&self.state);
        while !state.is_released(waiter) {
            state = wait(&self.changed, state);
        }
        state.aborted
    }
}
