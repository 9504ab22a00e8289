// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long one poll of user code may go on while all that it awaits is ready.
//!
//! A future returns to its executor only when something is pending. One whose input never ends, or
//! that sleeps for no time in a loop, would hold its thread for ever, and with it every connection
//! of a poller. So each operation that may be ready at once asks [`poll_proceed`] first. Within one
//! poll it lets operations through for [`MAX_POLL_TIME`], and at most [`MAX_OPERATIONS`] of them; then it wakes the
//! task and is pending, until the thread polls something anew. The clock is read after operations
//! 8, 16, 32, 64, and then after each 64.
//!
//! The budget belongs to a poll, not to a future: futures that are polled together, by a `select` or a
//! `join`, share it, and none of them gets through once it is spent. A thread that polls user code says
//! when a poll [begins](begin_poll). On other threads nobody says so: there, every [`MAX_UNTRACKED_OPERATIONS`]th operation
//! is pending once.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::foreign;
use crate::sync::thread_local;
use crate::timestamp::Timestamp;

/// How long operations are let through, in one poll.
const MAX_POLL_TIME: Duration = Duration::from_micros(200);

/// The most operations in one poll.
const MAX_OPERATIONS: u32 = 4096;

/// On a thread where nobody says when a poll begins, so many operations are let through.
const MAX_UNTRACKED_OPERATIONS: u32 = 1024;

/// The clock is looked at after no fewer operations. A power of two.
const FIRST_CLOCK_READ: u32 = 8;

/// And then after so many. A power of two.
const CLOCK_READ_INTERVAL: u32 = 64;

/// The most operations that are granted at once. No more than [`CLOCK_READ_INTERVAL`], a power of two.
const MAX_GRANT: u32 = 64;

/// What the operations of a thread share.
struct PollBudget {
    /// Operations that were let through in this poll.
    used: Cell<u32>,
    /// When the clock was first read in this poll.
    since: Cell<Option<Timestamp>>,
    tracking: Cell<PollTracking>,
    /// How often an operation was not let through; may wrap.
    refusals: Cell<u32>,
}

/// Whether it is known when a poll begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PollTracking {
    /// This thread runs another's executor, or none.
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

/// A poll of user code begins on this thread, which says so each time.
#[inline]
pub(crate) fn begin_poll() {
    let begin = |budget: &PollBudget| {
        budget.used.set(0);
        budget.tracking.set(PollTracking::Known);
    };
    let _told = BUDGET.try_with(begin).is_ok();
}

/// Runs `poll`, which is a poll of its own: within another one, or on a thread that may be another
/// executor's. What the outer one has spent is as before.
pub(crate) fn nested_poll<R>(poll: impl FnOnce() -> R) -> R {
    let enter = |budget: &PollBudget| {
        let used = budget.used.replace(0);
        let polls = budget.tracking.replace(PollTracking::Known);
        (used, polls, budget.since.get())
    };
    let outer = BUDGET.try_with(enter);
    let result = poll();
    if let Ok((used, polls, since)) = outer {
        let leave = |budget: &PollBudget| {
            budget.used.set(used);
            budget.tracking.set(polls);
            budget.since.set(since);
        };
        let _left = BUDGET.try_with(leave).is_ok();
    }
    result
}

/// Ready if an operation may be, now. Else the task is woken: others get their turn before it.
#[inline(always)]
pub(crate) fn poll_proceed(context: &Context<'_>) -> Poll<()> {
    if may_proceed() {
        Poll::Ready(())
    } else {
        yield_now(context)
    }
}

/// As [`poll_proceed`], to be awaited.
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

/// Whether an operation is let through. Spends a part of the budget.
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
    // A thread that ends polls nothing for long.
    BUDGET.try_with(spend).unwrap_or(true)
}

/// Some operations at once, as far as the next look at the budget, for one who counts them himself; none
/// if none is let through now. Those that are left over may be used in a later poll.
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

/// How often an operation was not let through on this thread. Two readings that differ say that one
/// was pending for that alone.
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
            "as before"
        );
    }
}
