// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request that takes a while: processor time that goes nowhere.

use rustix::time::{ClockId, clock_gettime};

/// How long every tenth request of kind `heavy` computes.
const BURN_NANOSECONDS: i64 = 100_000;

/// Burns 100 us of the calling thread's processor time. It is the thread's own clock that is read, so
/// that a thread which has to wait for a processor meanwhile does as much as one which has not.
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
