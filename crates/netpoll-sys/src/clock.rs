// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock that never goes back.
//!
//! It is the C library's reading of it, as the standard library's is: rustix finds the kernel's
//! function by itself, and where there is none to be found, as under valgrind, it crashes.

/// Nanoseconds of `CLOCK_MONOTONIC`, which is what [`Instant`](std::time::Instant) counts by on
/// Linux, as one number. No system call where the kernel has it in the process's memory, as it has
/// on every usual machine. Five centuries fit.
#[inline]
#[must_use]
pub fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local that lives over the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(result, 0, "every kernel has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_is_the_clock_of_instants() {
        let (began, first) = (Instant::now(), monotonic());
        std::thread::sleep(Duration::from_millis(20));
        let (counted, passed) = (monotonic() - first, began.elapsed());
        let apart = passed.abs_diff(Duration::from_nanos(counted));
        assert!(apart < passed / 2, "{counted} ns beside {passed:?}");
    }
}
