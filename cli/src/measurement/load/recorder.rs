// SPDX-License-Identifier: MIT OR Apache-2.0
//! The latencies of the measured interval.
//!
//! They are kept in a histogram of constant size with a resolution of 0.1 %, so that a run of an
//! hour takes as much memory as a run of a second. Responses outside of the interval are not
//! recorded; the arrival time of a response decides.

use hdrhistogram::Histogram;

use super::schedule::Schedule;

/// The measurements of one thread.
#[derive(Debug)]
pub(crate) struct Recorder {
    schedule: Schedule,
    latency: Histogram<u64>,
    answered: u64,
    /// When the last response arrived.
    last_answer: u64,
}

impl Recorder {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            latency: empty_histogram(),
            answered: 0,
            last_answer: 0,
        }
    }

    /// Records `count` responses that arrived at `now`, to requests that count from `since`.
    #[inline]
    pub(crate) fn answered(&mut self, now: u64, since: u64, count: usize) {
        if self.schedule.is_measured(now) {
            self.answered += count as u64;
            self.last_answer = now;
            self.latency
                .saturating_record_n(now.saturating_sub(since), count as u64);
        }
    }

    /// Records `count` requests from `since` that are unanswered at the end of the interval. They
    /// have waited at least until then, and omitting them would hide the slowest requests.
    pub(crate) fn unanswered(&mut self, since: u64, count: usize) {
        self.latency
            .saturating_record_n(self.schedule.to.saturating_sub(since), count as u64);
    }

    /// Returns the latencies in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Returns the time of the last response within the interval.
    pub(crate) fn last_answer(&self) -> u64 {
        self.last_answer
    }

    /// Returns the number of responses within the interval.
    pub(crate) fn answers(&self) -> u64 {
        self.answered
    }
}

/// Returns a histogram for latencies of up to an hour in nanoseconds, with three significant
/// digits.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .expect("the bounds are constants that the histogram accepts")
}
