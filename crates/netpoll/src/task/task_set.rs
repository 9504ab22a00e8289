// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many futures of one type in one task, each polled only after it was woken.
//!
//! Each future lives in a slot with a waker of its own, which records the slot and wakes the task.
//! A slot and its waker are reused, so that a request that completes at its first poll allocates
//! nothing. A waker may outlive the future that it was given to. It then causes a spurious wake of
//! the next future in the slot, which is allowed.
//!
//! A *round* is one poll of the task. In a round a new future is polled once when it starts, and a
//! pending future once if it was woken before the round. A future that wakes itself is polled again
//! in the next round, after the other tasks of the thread. A round ends early when the
//! [budget](crate::fairness) of the task's poll is exhausted; each future has a budget of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake};

use crate::fairness;
use crate::foreign::{OwnWaker, WakerSlot, Wakeup, empty_while_panicking, register, wake_by_ref};
use crate::sync::{Arc, Mutex, lock};

/// The pending futures of a task.
#[derive(Debug)]
pub(crate) struct TaskSet<F> {
    slots: Vec<TaskSlot<F>>,
    /// Slots without a future.
    free: Vec<usize>,
    wake_list: Arc<WakeList>,
    /// Woken slots of this round that are not polled yet, last one first.
    ready: Vec<usize>,
    /// Whether this round has taken the woken slots.
    round: RoundState,
}

/// Whether a round has taken the woken slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundState {
    NotStarted,
    /// Slots woken from now on are polled in the next round.
    Started,
}

#[derive(Debug)]
struct TaskSlot<F> {
    future: Pin<Box<Option<F>>>,
    waker: OwnWaker,
}

/// If several futures panic in their drop, or one does after a panic of its poll, one panic
/// propagates.
impl<F> Drop for TaskSlot<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            empty_while_panicking(self.future.as_mut());
        }
    }
}

/// The woken slots, and the waker of the task.
#[derive(Debug, Default)]
struct WakeList {
    state: Mutex<WakeState>,
}

#[derive(Debug, Default)]
struct WakeState {
    slots: Vec<usize>,
    waker: WakerSlot,
}

/// The waker of one slot.
struct SlotWaker {
    slot: usize,
    wake_list: Arc<WakeList>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.wake_list.state);
        if state.slots.contains(&self.slot) {
            return;
        }
        state.slots.push(self.slot);
        let waker = state.waker.take();
        drop(state);
        waker.wake();
    }
}

impl<F: Future> TaskSet<F> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            wake_list: Arc::default(),
            ready: Vec::new(),
            round: RoundState::NotStarted,
        }
    }

    /// Returns the number of pending futures.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Polls a new future, and keeps it if it is pending. Allocates if no slot is free.
    pub(crate) fn start(&mut self, future: F) -> Poll<F::Output> {
        let slot = self.free.pop().unwrap_or_else(|| self.add_slot());
        self.slots[slot].future.set(Some(future));
        self.poll_slot(slot)
    }

    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        let wake_list = Arc::clone(&self.wake_list);
        self.slots.push(TaskSlot {
            future: Box::pin(None),
            waker: OwnWaker::new(Arc::new(SlotWaker { slot, wake_list })),
        });
        slot
    }

    fn poll_slot(&mut self, slot: usize) -> Poll<F::Output> {
        let TaskSlot { future, waker } = &mut self.slots[slot];
        let Some(running) = future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        // Each future has a budget of its own and uses none of the others'.
        let polled = fairness::nested_poll(|| running.poll(&mut Context::from_waker(waker)));
        let output = std::task::ready!(polled);
        future.set(None);
        self.free.push(slot);
        Poll::Ready(output)
    }

    /// Polls the woken futures and returns the output of the first that completes. Pending once no
    /// other completes in this round; the task is woken when there is work for the next.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<F::Output> {
        if self.ready.is_empty() && self.round == RoundState::NotStarted {
            self.round = RoundState::Started;
            std::mem::swap(&mut lock(&self.wake_list.state).slots, &mut self.ready);
            // The slot that was woken first is polled first.
            self.ready.reverse();
        }
        while !self.ready.is_empty() {
            std::task::ready!(fairness::poll_proceed(context));
            if let Some(slot) = self.ready.pop()
                && let Poll::Ready(output) = self.poll_slot(slot)
            {
                return Poll::Ready(output);
            }
        }
        self.register_waker(context);
        Poll::Pending
    }

    /// Registers the task's waker, or wakes the task at once if a future was woken.
    fn register_waker(&self, context: &Context<'_>) {
        let pending = self.len();
        let (is_woken, stale) = register(context.waker(), |caller_waker| {
            let mut state = lock(&self.wake_list.state);
            // Without a pending future there is nothing to wait for.
            if state.slots.is_empty() && pending == 0 {
                return Ok((false, state.waker.take()));
            }
            if state.slots.is_empty() {
                state.waker.set(caller_waker)?;
                return Ok((false, Wakeup::none()));
            }
            Ok((true, Wakeup::none()))
        });
        drop(stale);
        if is_woken {
            wake_by_ref(context.waker());
        }
    }

    /// Ends the round: slots that were woken meanwhile are polled in the next one.
    pub(crate) fn end_round(&mut self) {
        self.round = RoundState::NotStarted;
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests;
