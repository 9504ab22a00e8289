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
pub(super) struct TaskSet<F> {
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
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            wake_list: Arc::default(),
            ready: Vec::new(),
            round: RoundState::NotStarted,
        }
    }

    /// Returns the number of pending futures.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Polls a new future, and keeps it if it is pending. Allocates if no slot is free.
    pub(super) fn start(&mut self, future: F) -> Poll<F::Output> {
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
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<F::Output> {
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
    pub(super) fn end_round(&mut self) {
        self.round = RoundState::NotStarted;
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Waker;

    type Future_ = Pin<Box<dyn Future<Output = usize>>>;

    /// Returns a future that completes with `number` once `gate` is open, and records its polls and
    /// its waker.
    fn gated(number: usize, gate: &Rc<TestGate>) -> Future_ {
        let gate = Rc::clone(gate);
        Box::pin(poll_fn(move |context| {
            gate.polls.set(gate.polls.get() + 1);
            gate.waker.set(Some(context.waker().clone()));
            if gate.open.get() {
                Poll::Ready(number)
            } else {
                Poll::Pending
            }
        }))
    }

    /// A waker that counts its wakes.
    struct WakeCount(AtomicUsize);

    impl WakeCount {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Default)]
    struct TestGate {
        open: Cell<bool>,
        polls: Cell<usize>,
        waker: Cell<Option<Waker>>,
    }

    fn poll(tasks: &mut TaskSet<Future_>) -> Poll<usize> {
        poll_with(tasks, Waker::noop())
    }

    /// Polls once, and ends the round if nothing completed.
    fn poll_with(tasks: &mut TaskSet<Future_>, waker: &Waker) -> Poll<usize> {
        let polled = tasks.poll_next(&Context::from_waker(waker));
        if polled.is_pending() {
            tasks.end_round();
        }
        polled
    }

    #[test]
    fn only_woken_futures_are_polled_and_slots_are_reused() {
        let gates: Vec<Rc<TestGate>> = (0..3).map(|_| Rc::default()).collect();
        let mut tasks = TaskSet::new();
        for (number, gate) in gates.iter().enumerate() {
            assert!(tasks.start(gated(number, gate)).is_pending());
        }
        assert!(poll(&mut tasks).is_pending());
        gates.iter().for_each(|gate| gate.open.set(true));
        gates[1].waker.take().unwrap().wake();
        assert_eq!(poll(&mut tasks), Poll::Ready(1));
        assert!(poll(&mut tasks).is_pending());
        let polls: Vec<_> = gates.iter().map(|gate| gate.polls.get()).collect();
        assert_eq!((polls, tasks.len()), (vec![1, 2, 1], 2));
        assert_eq!(tasks.start(Box::pin(async { 7 })), Poll::Ready(7));
        assert_eq!((tasks.slots.len(), tasks.len()), (3, 2));
    }

    #[test]
    fn stale_waker_is_harmless_to_the_next_future() {
        let (first, second) = (Rc::<TestGate>::default(), Rc::<TestGate>::default());
        let mut tasks = TaskSet::new();
        assert!(tasks.start(gated(1, &first)).is_pending());
        let stale = first.waker.take().unwrap();
        first.open.set(true);
        stale.wake_by_ref();
        assert_eq!(poll(&mut tasks), Poll::Ready(1));
        tasks.end_round();
        assert!(tasks.start(gated(2, &second)).is_pending());
        stale.wake();
        assert!(poll(&mut tasks).is_pending());
        assert_eq!(second.polls.get(), 2, "one spurious poll");
        second.open.set(true);
        second.waker.take().unwrap().wake();
        assert_eq!(poll(&mut tasks), Poll::Ready(2));
    }

    #[test]
    fn wake_between_polls_wakes_the_task_once() {
        let flag = Arc::new(WakeCount(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&flag));
        let gate = Rc::<TestGate>::default();
        let mut tasks = TaskSet::new();
        assert!(tasks.start(gated(1, &gate)).is_pending());
        assert!(poll_with(&mut tasks, &waker).is_pending());
        for _ in 0..3 {
            let slot = gate.waker.take().unwrap();
            slot.wake_by_ref();
            gate.waker.set(Some(slot));
        }
        assert_eq!(flag.count(), 1);
    }

    /// Returns a future that wakes itself at each poll, and completes at poll number `most`.
    fn self_waking(most: usize, polls: &Rc<Cell<usize>>) -> Future_ {
        let polls = Rc::clone(polls);
        Box::pin(poll_fn(move |context| {
            polls.set(polls.get() + 1);
            if polls.get() == most {
                return Poll::Ready(most);
            }
            wake_by_ref(context.waker());
            Poll::Pending
        }))
    }

    #[test]
    fn self_waking_future_is_polled_once_a_round() {
        let wakes = Arc::new(WakeCount(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let polls = Rc::<Cell<usize>>::default();
        let mut tasks = TaskSet::new();
        assert!(tasks.start(self_waking(5, &polls)).is_pending());
        for round in 2..5 {
            assert!(poll_with(&mut tasks, &waker).is_pending());
            assert_eq!((polls.get(), wakes.count()), (round, round - 1));
        }
        assert_eq!(poll_with(&mut tasks, &waker), Poll::Ready(5));
    }

    #[test]
    fn round_continues_after_a_completed_future() {
        let (polls, gate) = (Rc::<Cell<usize>>::default(), Rc::<TestGate>::default());
        let mut tasks = TaskSet::new();
        assert!(tasks.start(self_waking(100, &polls)).is_pending());
        assert!(tasks.start(gated(7, &gate)).is_pending());
        gate.open.set(true);
        gate.waker.take().unwrap().wake();
        assert_eq!(poll(&mut tasks), Poll::Ready(7));
        assert!(poll(&mut tasks).is_pending(), "the same round");
        assert_eq!(polls.get(), 2);
    }

    #[test]
    fn round_ends_with_its_poll_budget_and_loses_no_future() {
        let gates: Vec<Rc<TestGate>> = (0..100).map(|_| Rc::default()).collect();
        let mut tasks = TaskSet::new();
        for (number, gate) in gates.iter().enumerate() {
            assert!(tasks.start(gated(number, gate)).is_pending());
            gate.open.set(true);
            gate.waker.take().unwrap().wake();
        }
        let (mut done, mut rounds) = (Vec::new(), 0);
        while tasks.len() > 0 {
            fairness::begin_poll();
            rounds += 1;
            std::iter::from_fn(|| match poll(&mut tasks) {
                Poll::Ready(number) => Some(number),
                Poll::Pending => None,
            })
            .for_each(|number| {
                std::thread::sleep(std::time::Duration::from_micros(50));
                done.push(number);
            });
        }
        assert_eq!(done, (0..100).collect::<Vec<_>>());
        assert!(rounds > 3, "{rounds} rounds");
    }
}
