// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wakes many tasks without blocking the connections of a poller.
//!
//! Waking a task of another executor costs a lock or a system call, and runs foreign code. A poller
//! that wakes ten thousand tasks at once, because their connection closed or their deadline passed,
//! serves no connection meanwhile. So it wakes as many as a [`Quota`] allows. The rest goes to a
//! source without a descriptor, which wakes as many again in each iteration, in their order.

use std::os::fd::BorrowedFd;

use super::notifier::{Notice, Notifier, is_poller_thread};
use super::placement::register_source;
use super::quota::Quota;
use super::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::foreign::{Wakeup, Wakeups};

/// Wakes all. On a poller's thread, it wakes as many as one iteration allows, and the others in the
/// next iterations; on other threads all at once. Costs an allocation or two if one iteration does
/// not suffice.
pub(crate) fn wake_in_turns(woken: Wakeups) {
    if !is_poller_thread() {
        return woken.wake();
    }
    let mut waiting = Waiting(woken.into_iter());
    if !waiting.wake_some() {
        let factory: SourceFactory = Box::new(move |registration: RegisterContext| {
            Box::new(WakeSource {
                waiting,
                notifier: registration.notifier,
            })
        });
        // If registration fails, dropping the factory wakes them.
        let _handed_over = register_source(factory).is_ok();
    }
}

/// Wakeups that are still to be woken. All are woken when this is dropped.
struct Waiting(std::vec::IntoIter<Wakeup>);

impl Waiting {
    /// Wakes as many as one iteration allows. Returns whether none is left.
    fn wake_some(&mut self) -> bool {
        let mut quota = Quota::default();
        while quota.take() {
            let Some(wakeup) = self.0.next() else {
                return true;
            };
            wakeup.wake();
        }
        false
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.by_ref().for_each(Wakeup::wake);
    }
}

/// The source of the remaining wakeups.
struct WakeSource {
    waiting: Waiting,
    notifier: Notifier,
}

impl Source for WakeSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, context: &mut SourceContext) -> NextAction {
        self.on_notify(context)
    }

    fn on_notify(&mut self, context: &mut SourceContext) -> NextAction {
        self.notifier.take();
        let is_over = self.waiting.wake_some();
        // Waking may have taken long.
        context.invalidate_clock();
        if is_over {
            return NextAction::Remove;
        }
        self.notifier.notify(Notice::Poll);
        NextAction::NoInterest
    }

    fn on_shutdown(
        &mut self,
        request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        request.remove_on_force(|| NextAction::NoInterest)
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::super::Poller;
    use super::super::notifier::set_current_mailbox;
    use super::super::quota::MAX_ITEMS;
    use super::*;
    use crate::foreign::{WakerSlot, register};
    use crate::sync::{Arc, Mutex, lock};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    const TASKS: usize = 2_000;

    /// Records its number when it is woken.
    struct Numbered(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Numbered {
        fn wake(self: Arc<Self>) {
            lock(&self.1).push(self.0);
        }
    }

    /// Returns many wakeups, and the numbers of those that were woken.
    fn numbered_wakeups() -> (Wakeups, Arc<Mutex<Vec<usize>>>) {
        let numbers = Arc::<Mutex<Vec<usize>>>::default();
        let slot = |number| {
            let waker = Waker::from(Arc::new(Numbered(number, Arc::clone(&numbers))));
            let mut slot = WakerSlot::empty();
            register(&waker, |caller_waker| slot.set(caller_waker));
            slot
        };
        ((0..TASKS).map(slot).collect(), numbers)
    }

    #[test]
    fn a_poller_wakes_many_tasks_over_several_turns_in_order() {
        let mut poller = Poller::for_test();
        set_current_mailbox(Arc::clone(&poller.mailbox));
        let (woken, numbers) = numbered_wakeups();
        wake_in_turns(woken);
        let mut before = 0;
        loop {
            let now = lock(&numbers).len();
            assert!(
                now - before <= MAX_ITEMS as usize,
                "{} in one iteration",
                now - before
            );
            assert!(now > before);
            before = now;
            if now == TASKS {
                break;
            }
            // The first of these iterations registers the source, which wakes some at once.
            assert_eq!(
                poller.timeout(),
                Some(Duration::ZERO),
                "the poller would wait"
            );
            if lock(&numbers).len() == before {
                poller.process_events(0);
            }
        }
        assert!(lock(&numbers).iter().copied().eq(0..TASKS));
        poller.process_events(0);
        assert!(!poller.has_work());
    }

    #[test]
    fn a_forced_shutdown_wakes_the_remaining_tasks() {
        let mut poller = Poller::for_test();
        set_current_mailbox(Arc::clone(&poller.mailbox));
        let (woken, numbers) = numbered_wakeups();
        wake_in_turns(woken);
        poller.timeout();
        poller.process_events(0);
        assert!(lock(&numbers).len() < TASKS);
        poller.force_shutdown();
        assert_eq!(lock(&numbers).len(), TASKS);
    }

    #[test]
    fn another_thread_wakes_all_tasks_at_once() {
        // A thread that no test has made a poller.
        let other = std::thread::spawn(|| {
            let (woken, numbers) = numbered_wakeups();
            wake_in_turns(woken);
            lock(&numbers).len()
        });
        assert_eq!(other.join().unwrap(), TASKS);
    }
}
