// SPDX-License-Identifier: MIT OR Apache-2.0
//! How late the machine runs threads, for tests that need so much done in a time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::support::LIMIT;

/// The most that a thread is late that wants to look at the clock each millisecond, until `over`.
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

/// Runs a test that needs so much done in a time. If it fails while the machine runs threads later than
/// by `slack`, it runs again, until [`LIMIT`].
pub(crate) fn retry_if_late(slack: Duration, mut test: impl FnMut()) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let over = AtomicBool::new(false);
        let (outcome, late) = scope(|threads| {
            let watch = threads.spawn(|| latest(&over));
            let outcome = catch_unwind(AssertUnwindSafe(&mut test));
            over.store(true, Ordering::SeqCst);
            (outcome, watch.join().unwrap())
        });
        match outcome {
            Ok(()) => return,
            Err(_) if late > slack && Instant::now() < deadline => {}
            Err(panic) => resume_unwind(panic),
        }
    }
}
