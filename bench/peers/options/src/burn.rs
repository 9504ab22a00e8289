// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work of a heavy request: processor time without a result.

use rustix::time::{ClockId, clock_gettime};

/// Processor time of every tenth request of kind `heavy`.
const BURN_NANOSECONDS: i64 = 100_000;

/// Burns 100 us of the calling thread's processor time, by the thread's own clock: a thread that
/// waits for a processor does the same amount of work.
pub fn burn() {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    let end = now() + BURN_NANOSECONDS;
    while now() < end {
        std::hint::spin_loop();
    }
}
