// SPDX-License-Identifier: MIT OR Apache-2.0
//! The latencies of the measured interval.
//!
//! Kept in a histogram of constant size that is exact to a tenth of a percent, so a run of an hour
//! costs what one of a second does. What happens before and after the interval is not recorded; an
//! answer belongs to the moment it came.

use hdrhistogram::Histogram;

use super::schedule::Schedule;

/// What one thread has measured.
#[derive(Debug)]
pub(crate) struct Recorder {
    schedule: Schedule,
    latency: Histogram<u64>,
    answered: u64,
}

impl Recorder {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            latency: empty_histogram(),
            answered: 0,
        }
    }

    /// `count` answers came at `now` to requests that count from `since`.
    #[inline]
    pub(crate) fn answered(&mut self, now: u64, since: u64, count: usize) {
        if self.schedule.is_measured(now) {
            self.answered += count as u64;
            self.latency
                .saturating_record_n(now.saturating_sub(since), count as u64);
        }
    }

    /// `count` requests that count from `since` are unanswered at the end of the interval. They
    /// have waited at least until then, and leaving them out would hide the slowest of all.
    pub(crate) fn unanswered(&mut self, since: u64, count: usize) {
        self.latency
            .saturating_record_n(self.schedule.to.saturating_sub(since), count as u64);
    }

    /// Latencies in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Answers that came within the interval.
    pub(crate) fn answers(&self) -> u64 {
        self.answered
    }
}

/// A histogram for latencies in nanoseconds, up to an hour, to three digits.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .expect("the bounds are constants that the histogram accepts")
}
