// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who waits on the write queue of one connection: senders for room, in the order in which they
//! came, and flushes for what was taken to have left.

use std::collections::BTreeMap;
use std::io;
use std::task::Waker;

use crate::connection::handle::not_connected;
use crate::error::CloseReason;
use crate::foreign::{WakerSlot, Wakeup, Wakeups, register};
use crate::poll::mass_wake::wake_in_turns;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// Who waits on the queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// How many do, to be asked without the lock.
    waiting: AtomicU64,
    /// How many queues are held, twice, and [`WATCHED`].
    handles: AtomicUsize,
    state: Mutex<WaitQueueState>,
}

/// The connection drains: its poller wants to hear when the last queue is let go.
const WATCHED: usize = 1;

/// One queue that is held.
const HANDLE: usize = 2;

#[derive(Debug, Default)]
struct WaitQueueState {
    next: u64,
    /// For room, in the order in which they came.
    senders: BTreeMap<u64, WakerSlot>,
    /// For so many bytes in all to have left.
    flushes: BTreeMap<(u64, u64), WakerSlot>,
    /// Why the connection has ended, once it has: the link may be gone before anybody asks.
    close_reason: Option<CloseReason>,
}

/// How the output is, for those who wait on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputStatus {
    pub(super) capacity: Capacity,
    /// All bytes that have left.
    pub(super) sent: u64,
}

/// Whether whoever is told may do something about it right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum WakeResult {
    NoneWoken,
    Woken,
}

/// Whether the output takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capacity {
    Available,
    Full,
    /// Nothing is taken any more, or leaves.
    Closed,
}

impl WaitQueue {
    /// Whether anybody waits. No lock.
    pub(super) fn has_waiters(&self) -> bool {
        // Relaxed: who comes at the same time as others came no later.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One more queue is held.
    pub(super) fn add_handle(&self) {
        // Relaxed: who makes one has the connection, or another.
        self.handles.fetch_add(HANDLE, Ordering::Relaxed);
    }

    /// One queue is let go. Whether the poller waits for the last, and this was that one.
    pub(super) fn remove_handle(&self) -> bool {
        // AcqRel: all changes are of this one word, so either `watch` finds no queue or this finds the
        // watch; and what was sent before is seen by the poller.
        self.handles.fetch_sub(HANDLE, Ordering::AcqRel) == HANDLE | WATCHED
    }

    /// Whether a queue is held; from now on the last that is let go says so.
    pub(in crate::connection) fn watch_handles(&self) -> bool {
        // AcqRel: pairs with `let_go`.
        self.handles.fetch_or(WATCHED, Ordering::AcqRel) >= HANDLE
    }

    fn update_len(&self, state: &WaitQueueState) {
        let waiting = state.senders.len() + state.flushes.len();
        // Relaxed: the outbox's lock is taken between this and what it is to be seen by.
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// The connection is over.
    pub(in crate::connection) fn close(&self, reason: CloseReason) {
        lock(&self.state).close_reason.get_or_insert(reason);
    }

    /// Why nothing can be sent, where nothing is left of the connection.
    pub(super) fn closed_error(&self) -> io::Error {
        let state = lock(&self.state);
        state
            .close_reason
            .as_ref()
            .map_or_else(not_connected, CloseReason::to_error)
    }

    /// Wakes who may go on, as the output is now.
    pub(super) fn notify(&self, look: impl FnOnce() -> OutputStatus) -> WakeResult {
        // Relaxed: as above.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return WakeResult::NoneWoken;
        }
        let outlook = look();
        let mut state = lock(&self.state);
        let WaitQueueState {
            senders, flushes, ..
        } = &mut *state;
        let mut woken = Wakeups::default();
        let (may_try, have_left) = match outlook.capacity {
            Capacity::Closed => (usize::MAX, u64::MAX),
            Capacity::Available => (1, outlook.sent),
            Capacity::Full => (0, outlook.sent),
        };
        // Whoever is woken stays in his place until he leaves it, and leaves a waker if he waits on.
        let first = senders.values_mut().take(may_try);
        let left = flushes.range_mut(..=(have_left, u64::MAX));
        first
            .chain(left.map(|(_, waker)| waker))
            .for_each(|waker| woken.add(waker.take()));
        drop(state);
        if woken.is_empty() {
            return WakeResult::NoneWoken;
        }
        wake_in_turns(woken);
        WakeResult::Woken
    }
}

/// A sender's place in the line.
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

    /// Takes a place if there is none, and says whether it is the first.
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
    /// Whoever is first now may have room.
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

/// A wait for bytes to have left.
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
