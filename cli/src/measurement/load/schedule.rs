// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock and the phases of a run, in nanoseconds since all connections were open.
//!
//! All threads use the same clock, so that they measure the same interval without synchronization.
//! Nanoseconds in a `u64` last for 584 years and cost less to store per request than an `Instant`.

use std::time::{Duration, Instant};

/// The clock of a run. Copies show the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunClock {
    origin: Instant,
}

impl RunClock {
    /// Starts a clock at zero.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Returns the nanoseconds since the start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The first nanosecond of the measured interval.
    pub(crate) from: u64,
    /// The first nanosecond after the measured interval.
    pub(crate) to: u64,
    /// The end of the wait for responses to requests still in flight.
    pub(crate) drain_until: u64,
}

impl Schedule {
    pub(crate) fn new(warm_up: Duration, duration: Duration) -> Self {
        let from = nanos(warm_up);
        let to = from + nanos(duration);
        Self {
            from,
            to,
            drain_until: to + nanos(DRAIN_TIME),
        }
    }

    /// Returns whether `now` is in the measured interval.
    #[inline]
    pub(crate) fn is_measured(&self, now: u64) -> bool {
        self.from <= now && now < self.to
    }
}

/// Returns a duration in nanoseconds; durations of this command are at most a week.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Long enough for the responses of any server that works, short enough not to delay the report.
const DRAIN_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_interval_includes_its_start_and_excludes_its_end() {
        let schedule = Schedule::new(Duration::from_nanos(10), Duration::from_nanos(5));
        let measured: Vec<u64> = (0..20).filter(|&now| schedule.is_measured(now)).collect();
        assert_eq!(measured, [10, 11, 12, 13, 14]);
    }
}
