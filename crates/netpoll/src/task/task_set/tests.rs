// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks of one connection: polls, wakeups and drops.

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
