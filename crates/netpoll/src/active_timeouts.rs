// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the timeouts in which the future polled on this thread waits.
//!
//! A handler that waits for two things at once counts as active, but a timeout is no second thing:
//! a [`timeout`](crate::time::timeout) keeps a waker like any other wait, and only limits how long
//! something else may take. So each timeout counts itself while it waits, and the code that polls a
//! handler keeps the handler's count between polls.

use std::cell::Cell;

use crate::sync::thread_local;

thread_local! {
    static ACTIVE_TIMEOUTS: Cell<u32> = const { Cell::new(0) };
}

/// Runs `poll` for a future that has `limits` active timeouts, and updates `limits`.
#[inline]
pub(crate) fn with_count<R>(limits: &mut u32, poll: impl FnOnce() -> R) -> R {
    let replace = |count| ACTIVE_TIMEOUTS.try_with(|limits| limits.replace(count));
    let outer = replace(*limits).unwrap_or(0);
    let result = poll();
    *limits = replace(outer).unwrap_or(0);
    result
}

/// A timeout, which counts from its first wait until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct ActiveTimeout(bool);

impl ActiveTimeout {
    /// Counts the timeout, once.
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
    // While the thread exits, the count is not read any more.
    let _added = ACTIVE_TIMEOUTS.try_with(add).is_ok();
}

#[cfg(all(test, not(any(netpoll_loom, netpoll_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_counts_for_the_future_that_was_polled_only() {
        let (mut one, mut other) = (0, 0);
        let mut timeout = ActiveTimeout::default();
        with_count(&mut one, || {
            timeout.activate();
            timeout.activate();
            with_count(&mut other, || ActiveTimeout::default().activate());
        });
        assert_eq!((one, other), (1, 0));
        with_count(&mut one, || drop(timeout));
        assert_eq!(one, 0);
    }
}
