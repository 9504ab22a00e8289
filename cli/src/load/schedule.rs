// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of a run: nanoseconds since all connections stood, and what happens when.
//!
//! All threads count from the same moment, so that they measure the same interval without a word
//! between them. Nanoseconds in a `u64` last for 584 years and are cheaper to keep for each request
//! than an `Instant`.

use std::time::{Duration, Instant};

/// The clock of a run. A copy of it is the same clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunClock {
    origin: Instant,
}

impl RunClock {
    /// A clock that shows zero now.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }
}

/// When measuring begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The first nanosecond that is measured.
    pub(crate) from: u64,
    /// The first one that no longer is.
    pub(crate) to: u64,
    /// From here on nobody waits for the answers to requests that are still in flight.
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

    /// Whether what happens at `now` is measured.
    #[inline]
    pub(crate) fn is_measured(&self, now: u64) -> bool {
        self.from <= now && now < self.to
    }
}

/// A duration in nanoseconds; durations of this command are a week at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Long enough for any server that is alive, short enough that nobody wonders.
const DRAIN_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_interval_includes_its_start_and_not_its_end() {
        let schedule = Schedule::new(Duration::from_nanos(10), Duration::from_nanos(5));
        let measured: Vec<u64> = (0..20).filter(|&now| schedule.is_measured(now)).collect();
        assert_eq!(measured, [10, 11, 12, 13, 14]);
    }
}
