// SPDX-License-Identifier: MIT OR Apache-2.0
//! The waiters of one connection's write queue: senders that wait for space, in the order in which
//! they came, and flushes that wait for queued output to be sent.

use std::collections::BTreeMap;
use std::io;
use std::task::Waker;

use crate::connection::handle::not_connected;
use crate::error::CloseReason;
use crate::foreign::{WakerSlot, Wakeup, Wakeups, register};
use crate::poll::mass_wake::wake_in_turns;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// The waiters of one connection's write queue.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// The number of waiters, readable without the lock.
    waiting: AtomicU64,
    /// Twice the number of held queues, plus [`WATCHED`].
    handles: AtomicUsize,
    state: Mutex<WaitQueueState>,
}

/// The connection drains, and its poller is notified when the last queue is dropped.
const WATCHED: usize = 1;

/// One held queue.
const HANDLE: usize = 2;

#[derive(Debug, Default)]
struct WaitQueueState {
    next: u64,
    /// Senders that wait for space, in the order in which they came.
    senders: BTreeMap<u64, WakerSlot>,
    /// Flushes, by the total number of sent bytes that completes them.
    flushes: BTreeMap<(u64, u64), WakerSlot>,
    /// Why the connection ended, once it has: the shared state may be gone by the next call.
    close_reason: Option<CloseReason>,
}

/// The state of the output, as the waiters need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputStatus {
    pub(super) capacity: Capacity,
    /// The total number of bytes sent.
    pub(super) sent: u64,
}

/// Whether a waiter was woken that may queue more output right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum WakeResult {
    NoneWoken,
    Woken,
}

/// Whether the output accepts more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capacity {
    Available,
    Full,
    /// The output is closed: no wait can succeed.
    Closed,
}

impl WaitQueue {
    /// Returns whether there are waiters. Takes no lock.
    pub(super) fn has_waiters(&self) -> bool {
        // Relaxed: a sender that comes at the same time as a waiter came no later.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Counts one more held queue.
    pub(super) fn add_handle(&self) {
        // Relaxed: the caller has the connection, or another queue.
        self.handles.fetch_add(HANDLE, Ordering::Relaxed);
    }

    /// Counts one held queue less. Returns whether it was the last one and the poller waits for
    /// that.
    pub(super) fn remove_handle(&self) -> bool {
        // AcqRel: all changes are of this one word, so either `watch_handles` finds no queue or
        // this finds the watch; and the poller sees all earlier sends.
        self.handles.fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE | WATCHED
    }

    /// Returns whether a queue is held. From now on the drop of the last one notifies the poller.
    pub(in crate::connection) fn watch_handles(&self) -> bool {
        // AcqRel: pairs with `remove_handle`.
        self.handles.fetch_or(WATCHED, Ordering::AcqRel) >= HANDLE
    }

    fn update_len(&self, state: &WaitQueueState) {
        let waiting = state.senders.len() + state.flushes.len();
        // Relaxed: the lock of the output buffer is taken between this store and the loads that
        // have to see it.
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// Records why the connection ended.
    pub(in crate::connection) fn close(&self, reason: CloseReason) {
        lock(&self.state).close_reason.get_or_insert(reason);
    }

    /// Returns why nothing can be sent on a connection that is gone.
    pub(super) fn closed_error(&self) -> io::Error {
        let state = lock(&self.state);
        state
            .close_reason
            .as_ref()
            .map_or_else(not_connected, CloseReason::to_error)
    }

    /// Wakes the waiters that can proceed. `look` returns the state of the output; it is called if
    /// there are waiters.
    pub(super) fn notify(&self, look: impl FnOnce() -> OutputStatus) -> WakeResult {
        // Relaxed: as above.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return WakeResult::NoneWoken;
        }
        let status = look();
        let mut state = lock(&self.state);
        let WaitQueueState {
            senders, flushes, ..
        } = &mut *state;
        let mut woken = Wakeups::default();
        let (sender_limit, sent) = match status.capacity {
            Capacity::Closed => (usize::MAX, u64::MAX),
            Capacity::Available => (1, status.sent),
            Capacity::Full => (0, status.sent),
        };
        // A woken sender keeps its place until it leaves the queue, and registers a waker again if
        // it waits on.
        let first = senders.values_mut().take(sender_limit);
        let completed = flushes.range_mut(..=(sent, u64::MAX));
        first
            .chain(completed.map(|(_, waker)| waker))
            .for_each(|waker| woken.add(waker.take()));
        drop(state);
        if woken.is_empty() {
            return WakeResult::NoneWoken;
        }
        wake_in_turns(woken);
        WakeResult::Woken
    }
}

/// A sender's place in the wait queue.
pub(super) struct SenderSlot<'a> {
    queue: &'a WaitQueue,
    number: Option<u64>,
}

impl<'a> SenderSlot<'a> {
    pub(super) fn new(queue: &'a WaitQueue) -> Self {
        Self {
            queue,
            number: None,
        }
    }

    /// Takes a place if there is none yet, and returns whether it is the first.
    pub(super) fn is_first(&mut self, waker: &Waker) -> bool {
        let Self { queue, number } = self;
        register(waker, |caller_waker| {
            let mut state = lock(&queue.state);
            let number = *number.get_or_insert_with(|| {
                state.next += 1;
                state.next
            });
            // A place is taken once there is a waker for it.
            match state.senders.get_mut(&number) {
                Some(known) => known.set(caller_waker)?,
                None => drop(state.senders.insert(number, caller_waker.slot()?)),
            }
            let first = state.senders.first_key_value();
            let is_first = first.is_some_and(|(first, _)| *first == number);
            queue.update_len(&state);
            Ok(is_first)
        })
    }
}

impl Drop for SenderSlot<'_> {
    /// Wakes the sender that is first now: there may be space for it.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = lock(&self.queue.state);
        let waker = state.senders.remove(&number);
        let next = state.senders.values_mut().next();
        let next = next.map_or(Wakeup::none(), WakerSlot::take);
        self.queue.update_len(&state);
        drop(state);
        drop(waker);
        next.wake();
    }
}

/// A wait for queued output to be sent.
pub(super) struct QueueFlush<'a> {
    queue: &'a WaitQueue,
    pub(super) target: u64,
    key: Option<(u64, u64)>,
}

impl<'a> QueueFlush<'a> {
    pub(super) fn new(queue: &'a WaitQueue, target: u64) -> Self {
        Self {
            queue,
            target,
            key: None,
        }
    }

    pub(super) fn register(&mut self, waker: &Waker) {
        let Self { queue, target, key } = self;
        register(waker, |caller_waker| {
            let mut state = lock(&queue.state);
            let key = *key.get_or_insert_with(|| {
                state.next += 1;
                (*target, state.next)
            });
            match state.flushes.get_mut(&key) {
                Some(known) => known.set(caller_waker)?,
                None => drop(state.flushes.insert(key, caller_waker.slot()?)),
            }
            queue.update_len(&state);
            Ok(())
        });
    }
}

impl Drop for QueueFlush<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = lock(&self.queue.state);
        let waker = state.flushes.remove(&key);
        self.queue.update_len(&state);
        drop(state);
        drop(waker);
    }
}
