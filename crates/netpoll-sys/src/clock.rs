// SPDX-License-Identifier: MIT OR Apache-2.0
//! The monotonic clock.
//!
//! This calls the C library's `clock_gettime(2)`, as the standard library does: rustix looks up the
//! kernel's vDSO function, and crashes where there is none, as under valgrind.

/// Returns `CLOCK_MONOTONIC`, the clock of [`Instant`](std::time::Instant) on Linux, in
/// nanoseconds. Makes no system call on machines where the kernel maps the clock into the process,
/// which is the usual case. The number overflows after five centuries.
#[inline]
#[must_use]
pub fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local that outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(result, 0, "every kernel has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn monotonic_is_the_clock_of_instant() {
        let (began, first) = (Instant::now(), monotonic());
        std::thread::sleep(Duration::from_millis(20));
        let (counted, passed) = (monotonic() - first, began.elapsed());
        let apart = passed.abs_diff(Duration::from_nanos(counted));
        assert!(apart < passed / 2, "{counted} ns beside {passed:?}");
    }
}
