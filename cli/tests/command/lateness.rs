// SPDX-License-Identifier: MIT OR Apache-2.0
//! Retries tests with real-time limits while the machine schedules threads late.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::support::LIMIT;

/// Returns the largest delay of a thread that wakes each millisecond, until `over` is set.
fn latest(over: &AtomicBool) -> Duration {
    let tick = Duration::from_millis(1);
    let mut latest = Duration::ZERO;
    while !over.load(Ordering::SeqCst) {
        let due = Instant::now() + tick;
        sleep(tick);
        latest = latest.max(due.elapsed());
    }
    latest
}

/// Runs a test with real-time limits. If it fails while threads were delayed by more than `slack`,
/// it runs again, until [`LIMIT`].
pub(crate) fn retry_if_late(slack: Duration, mut test: impl FnMut()) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let over = AtomicBool::new(false);
        let (result, late) = scope(|threads| {
            let watch = threads.spawn(|| latest(&over));
            let result = catch_unwind(AssertUnwindSafe(&mut test));
            over.store(true, Ordering::SeqCst);
            (result, watch.join().unwrap())
        });
        match result {
            Ok(()) => return,
            Err(_) if late > slack && Instant::now() < deadline => {}
            Err(panic) => resume_unwind(panic),
        }
    }
}
