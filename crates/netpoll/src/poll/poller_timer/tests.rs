// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers that are created, dropped and reused on one poller.

use super::*;
use crate::poll::Poller;
use crate::poll::notifier::set_current_mailbox;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Counts its wakes.
#[derive(Default)]
struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl WakeCounter {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Returns a poller that this thread runs.
fn poller_of_this_thread() -> Poller {
    let poller = Poller::for_test();
    set_current_mailbox(Arc::clone(&poller.mailbox));
    poller
}

/// Returns the number of sources, after all commands and notifications were handled.
fn sources_of(poller: &mut Poller) -> usize {
    while poller.timeout() == Some(Duration::ZERO) {
        poller.process_events(0);
    }
    poller.registry.tokens().len()
}

fn timer() -> PollerTimer {
    PollerTimer::new().expect("a timer")
}

fn is_same(timer: &PollerTimer, other: &Arc<TimerShared>) -> bool {
    Arc::ptr_eq(&timer.shared, other)
}

#[test]
fn a_timer_that_is_dropped_on_its_poller_is_the_next_one() {
    let mut poller = poller_of_this_thread();
    let first = timer();
    let shared = Arc::clone(&first.shared);
    // Before its source is registered, and after.
    drop(first);
    let second = timer();
    assert!(is_same(&second, &shared));
    assert_eq!(sources_of(&mut poller), 1);
    drop(second);
    let third = timer();
    assert!(is_same(&third, &shared));
    assert!(!is_same(&timer(), &shared), "it has an owner");
    assert_eq!(sources_of(&mut poller), 2);
}

#[test]
fn a_reused_timer_fires_at_the_time_of_its_owner() {
    let mut poller = poller_of_this_thread();
    let (earlier, later) = (Arc::<WakeCounter>::default(), Arc::<WakeCounter>::default());
    let soon = || Instant::now() + Duration::from_millis(1);

    // The time of the last owner is far away.
    let first = timer();
    first.set(soon() + HOUR, &Waker::from(Arc::clone(&earlier)));
    assert_eq!(sources_of(&mut poller), 1);
    drop(first);
    let second = timer();
    second.set(soon(), &Waker::from(Arc::clone(&later)));
    assert_eq!(sources_of(&mut poller), 1);
    while later.count() == 0 {
        poller.run_once().expect("to run");
    }
    assert_eq!(second.status(), TimerStatus::Fired);

    // The time of the last owner comes first.
    second.set(soon(), &Waker::from(Arc::clone(&earlier)));
    assert_eq!(sources_of(&mut poller), 1);
    let checked_at = lock(&second.shared.state).next_check;
    drop(second);
    let third = timer();
    third.set(soon() + HOUR, &Waker::from(Arc::clone(&later)));
    assert!(checked_at.is_some());
    while lock(&third.shared.state).next_check == checked_at {
        poller.run_once().expect("to run");
    }
    assert_eq!(third.status(), TimerStatus::Pending);
    assert_eq!((earlier.count(), later.count()), (0, 1));
}

#[test]
fn a_spare_timer_wakes_nothing() {
    let mut poller = poller_of_this_thread();
    let counter = Arc::<WakeCounter>::default();
    let timer = timer();
    timer.set(
        Instant::now() + Duration::from_millis(1),
        &Waker::from(Arc::clone(&counter)),
    );
    assert_eq!(sources_of(&mut poller), 1);
    let shared = Arc::clone(&timer.shared);
    drop(timer);
    assert_eq!(Arc::strong_count(&counter), 1, "it keeps no waker");
    while lock(&shared.state).next_check.is_some() {
        poller.run_once().expect("to run");
    }
    assert_eq!(counter.count(), 0);
}

#[test]
fn a_timer_that_is_dropped_on_another_thread_is_removed() {
    let mut poller = poller_of_this_thread();
    let timer = timer();
    assert_eq!(sources_of(&mut poller), 1);
    std::thread::spawn(|| drop(timer)).join().expect("a drop");
    assert_eq!(sources_of(&mut poller), 0);
}

#[test]
fn at_most_64_spare_timers_are_kept() {
    let mut poller = poller_of_this_thread();
    let timers: Vec<_> = (0..70).map(|_| timer()).collect();
    assert_eq!(sources_of(&mut poller), 70);
    drop(timers);
    assert_eq!(sources_of(&mut poller), 64);
}

#[test]
fn spare_timers_of_another_poller_are_removed() {
    let mut before = poller_of_this_thread();
    drop(timer());
    assert_eq!(sources_of(&mut before), 1);
    let mut poller = poller_of_this_thread();
    let _timer = timer();
    assert_eq!(sources_of(&mut poller), 1);
    set_current_mailbox(Arc::clone(&before.mailbox));
    assert_eq!(sources_of(&mut before), 0);
}
