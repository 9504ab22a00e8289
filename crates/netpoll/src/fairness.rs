// SPDX-License-Identifier: MIT OR Apache-2.0
//! A limit on how long one poll of user code may run while everything that it awaits is ready.
//!
//! A future returns to its executor only when something is pending. One whose input never ends, or
//! that sleeps for no time in a loop, would hold its thread forever, and with it every connection
//! of a poller. So each operation that may be ready at once calls [`poll_proceed`] first. Within
//! one poll it admits operations for [`MAX_POLL_TIME`], and at most [`MAX_OPERATIONS`] of them;
//! then it wakes the task and returns pending until the thread begins another poll. The clock is
//! read after operations 8, 16, 32, 64, and then after each 64.
//!
//! The budget belongs to a poll, not to a future: futures that are polled together, by a `select`
//! or a `join`, share it, and none of them proceeds once it is used up. A thread that polls user
//! code marks the [beginning](begin_poll) of each poll. Other threads do not: there, every
//! [`MAX_UNTRACKED_OPERATIONS`]th operation is pending once.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::foreign;
use crate::sync::thread_local;
use crate::timestamp::Timestamp;

/// How long one poll admits operations.
const MAX_POLL_TIME: Duration = Duration::from_micros(200);

/// The most operations of one poll.
const MAX_OPERATIONS: u32 = 4096;

/// Operations admitted between two pending ones, on a thread that does not mark its polls.
const MAX_UNTRACKED_OPERATIONS: u32 = 1024;

/// The first clock read comes after this many operations. A power of two.
const FIRST_CLOCK_READ: u32 = 8;

/// Operations between two later clock reads. A power of two.
const CLOCK_READ_INTERVAL: u32 = 64;

/// The most operations of one grant. At most [`CLOCK_READ_INTERVAL`], a power of two.
const MAX_GRANT: u32 = 64;

/// The budget that the operations of a thread share.
struct PollBudget {
    /// Operations admitted in this poll.
    used: Cell<u32>,
    /// When the clock was first read in this poll.
    since: Cell<Option<Timestamp>>,
    tracking: Cell<PollTracking>,
    /// Operations refused so far; may wrap.
    refusals: Cell<u32>,
}

/// Whether the thread marks the beginning of its polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PollTracking {
    /// The thread runs another executor, or none.
    Unknown,
    Known,
}

thread_local! {
    static BUDGET: PollBudget = const {
        PollBudget {
            used: Cell::new(0),
            since: Cell::new(None),
            tracking: Cell::new(PollTracking::Unknown),
            refusals: Cell::new(0),
        }
    };
}

/// Marks the beginning of a poll of user code on this thread, and renews the budget.
#[inline]
pub(crate) fn begin_poll() {
    let begin = |budget: &PollBudget| {
        budget.used.set(0);
        budget.tracking.set(PollTracking::Known);
    };
    let _begun = BUDGET.try_with(begin).is_ok();
}

/// Runs `poll` with a budget of its own: inside another poll, or on a thread of another executor.
/// The budget of the outer poll is restored afterwards.
pub(crate) fn nested_poll<R>(poll: impl FnOnce() -> R) -> R {
    let enter = |budget: &PollBudget| {
        let used = budget.used.replace(0);
        let tracking = budget.tracking.replace(PollTracking::Known);
        (used, tracking, budget.since.get())
    };
    let outer = BUDGET.try_with(enter);
    let result = poll();
    if let Ok((used, tracking, since)) = outer {
        let leave = |budget: &PollBudget| {
            budget.used.set(used);
            budget.tracking.set(tracking);
            budget.since.set(since);
        };
        let _left = BUDGET.try_with(leave).is_ok();
    }
    result
}

/// Returns ready if an operation may proceed. Else it wakes the task, and other tasks run first.
#[inline(always)]
pub(crate) fn poll_proceed(context: &Context<'_>) -> Poll<()> {
    if may_proceed() {
        Poll::Ready(())
    } else {
        yield_now(context)
    }
}

/// The async form of [`poll_proceed`].
#[inline]
pub(crate) async fn proceed() {
    poll_fn(|context| poll_proceed(context)).await;
}

/// Wakes the task, so that it is polled again behind the others.
#[cold]
fn yield_now(context: &Context<'_>) -> Poll<()> {
    foreign::wake_by_ref(context.waker());
    Poll::Pending
}

/// Returns whether an operation may proceed, and takes it from the budget.
#[inline(always)]
pub(crate) fn may_proceed() -> bool {
    let spend = |budget: &PollBudget| {
        let used = budget.used.get() + 1;
        if used.is_multiple_of(FIRST_CLOCK_READ) {
            return budget.check(used);
        }
        budget.used.set(used);
        true
    };
    // A thread that exits polls no future for long.
    BUDGET.try_with(spend).unwrap_or(true)
}

/// Takes several operations from the budget, up to its next check, for a caller that counts them.
/// Returns 0 if none may proceed now. Operations left over may be used in a later poll.
pub(crate) fn grant() -> u32 {
    let grant = |budget: &PollBudget| {
        let before = budget.used.get();
        // 8, 16, 32, 64, and so on in steps of the grant.
        let step = before
            .next_power_of_two()
            .clamp(FIRST_CLOCK_READ, MAX_GRANT);
        let used = (before + step) & !(step - 1);
        if budget.check(used) { used - before } else { 0 }
    };
    BUDGET.try_with(grant).unwrap_or(MAX_GRANT)
}

/// Returns how many operations were refused on this thread. If two readings differ, an operation in
/// between was pending for lack of budget alone.
pub(crate) fn refusals() -> u32 {
    BUDGET.try_with(|budget| budget.refusals.get()).unwrap_or(0)
}

impl PollBudget {
    #[inline(never)]
    fn check(&self, used: u32) -> bool {
        if self.is_exhausted(used) {
            self.refusals.set(self.refusals.get().wrapping_add(1));
            if self.tracking.get() == PollTracking::Unknown {
                self.used.set(0);
            }
            return false;
        }
        self.used.set(used);
        true
    }

    fn is_exhausted(&self, used: u32) -> bool {
        if self.tracking.get() == PollTracking::Unknown {
            return used >= MAX_UNTRACKED_OPERATIONS;
        }
        if used >= MAX_OPERATIONS {
            return true;
        }
        if !(used.is_power_of_two() || used.is_multiple_of(CLOCK_READ_INTERVAL)) {
            return false;
        }
        let now = Timestamp::now();
        if used == FIRST_CLOCK_READ {
            self.since.set(Some(now));
        }
        self.since
            .get()
            .is_some_and(|since| now.since(since) >= MAX_POLL_TIME)
    }
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    fn allowed_operations(most: u32) -> u32 {
        (0..most).take_while(|_| may_proceed()).count() as u32
    }

    #[test]
    fn a_slow_poll_is_out_of_budget_until_the_next_poll_begins() {
        begin_poll();
        assert_eq!(allowed_operations(FIRST_CLOCK_READ), FIRST_CLOCK_READ);
        std::thread::sleep(MAX_POLL_TIME);
        assert_eq!(allowed_operations(MAX_OPERATIONS), FIRST_CLOCK_READ - 1);
        assert_eq!(
            allowed_operations(3),
            0,
            "one pending operation does not renew it"
        );
        let before = refusals();
        assert!(!may_proceed());
        assert_ne!(refusals(), before);
        begin_poll();
        assert_eq!(allowed_operations(FIRST_CLOCK_READ), FIRST_CLOCK_READ);
    }

    #[test]
    fn fast_operations_are_bounded_by_count() {
        begin_poll();
        assert!(allowed_operations(2 * MAX_OPERATIONS) < MAX_OPERATIONS);
    }

    #[test]
    fn untracked_threads_yield_once_every_1024_operations() {
        std::thread::sleep(MAX_POLL_TIME);
        assert_eq!(
            allowed_operations(2 * MAX_UNTRACKED_OPERATIONS),
            MAX_UNTRACKED_OPERATIONS - 1
        );
        assert_eq!(
            allowed_operations(MAX_UNTRACKED_OPERATIONS / 2),
            MAX_UNTRACKED_OPERATIONS / 2
        );
        let inside = nested_poll(|| {
            std::thread::sleep(MAX_POLL_TIME);
            allowed_operations(2 * MAX_OPERATIONS)
        });
        assert!(inside < MAX_OPERATIONS);
        assert_eq!(
            allowed_operations(MAX_UNTRACKED_OPERATIONS),
            MAX_UNTRACKED_OPERATIONS / 2 - 1,
            "the outer budget is restored"
        );
    }
}
