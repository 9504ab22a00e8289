// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many bounds of time are kept by what is polled on this thread.
//!
//! A handler that waits for two things at once works on something, and a bound is no second thing: a
//! [`timeout`](crate::time::timeout) keeps a waker as whatever is waited for does, and only says how long
//! something else may take. So each future that is a bound counts itself while it waits, and whoever
//! polls a handler keeps the handler's count between polls.

use std::cell::Cell;

use crate::sync::thread_local;

thread_local! {
    static ACTIVE_TIMEOUTS: Cell<u32> = const { Cell::new(0) };
}

/// Polls what has `limits` so far by `poll`, and gives how many it has now.
#[inline]
pub(crate) fn with_count<R>(limits: &mut u32, poll: impl FnOnce() -> R) -> R {
    let replace = |count| ACTIVE_TIMEOUTS.try_with(|limits| limits.replace(count));
    let outer = replace(*limits).unwrap_or(0);
    let result = poll();
    *limits = replace(outer).unwrap_or(0);
    result
}

/// A bound, which counts from its first wait until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct ActiveTimeout(bool);

impl ActiveTimeout {
    /// It waits.
    pub(crate) fn activate(&mut self) {
        if !std::mem::replace(&mut self.0, true) {
            add(1);
        }
    }
}

impl Drop for ActiveTimeout {
    fn drop(&mut self) {
        if self.0 {
            add(-1);
        }
    }
}

fn add(count: i32) {
    let add = |limits: &Cell<u32>| limits.set(limits.get().saturating_add_signed(count));
    // Of a thread that ends nobody asks.
    let _added = ACTIVE_TIMEOUTS.try_with(add).is_ok();
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_counts_for_the_future_that_was_polled_only() {
        let (mut one, mut other) = (0, 0);
        let mut bounded = ActiveTimeout::default();
        with_count(&mut one, || {
            bounded.activate();
            bounded.activate();
            with_count(&mut other, || ActiveTimeout::default().activate());
        });
        assert_eq!((one, other), (1, 0));
        with_count(&mut one, || drop(bounded));
        assert_eq!(one, 0);
    }
}
