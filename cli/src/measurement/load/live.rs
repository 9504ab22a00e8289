// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the progress display shows of a run that is under way: its rate and its latency.
//!
//! Each thread records into a histogram of its own and publishes a copy of it twice a second, half a
//! megabyte. The display adds the copies up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::recorder::empty_histogram;
use super::report::percentile;
use super::run::LoadProgress;

/// The time between two copies of a thread, in nanoseconds.
pub(crate) const PUBLISH_INTERVAL: u64 = 500_000_000;

/// The latencies of all threads up to now.
#[derive(Debug)]
pub(crate) struct LiveLatency {
    threads: Vec<Mutex<Option<Histogram<u64>>>>,
}

impl LiveLatency {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Replaces the latencies of a thread.
    pub(crate) fn publish(&self, thread: usize, latency: &Histogram<u64>) {
        let mut slot = lock(&self.threads[thread]);
        match &mut *slot {
            Some(copy) => copy.clone_from(latency),
            None => *slot = Some(latency.clone()),
        }
    }

    /// Returns the latency that 99 % did not exceed, in microseconds.
    pub(crate) fn p99_us(&self) -> Option<f64> {
        let mut all = empty_histogram();
        for thread in &self.threads {
            if let Some(latency) = &*lock(thread) {
                all += latency;
            }
        }
        percentile(&all, 0.99)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests per second over the last half second.
#[derive(Debug)]
pub(crate) struct LiveRate {
    /// The beginning of the present half second, and the responses until then.
    since: (Duration, u64),
    /// The rate of the half second before.
    rate: Option<f64>,
}

impl LiveRate {
    /// Begins after the warm-up, whose responses are not counted.
    pub(crate) fn after(warm_up: Duration) -> Self {
        Self {
            since: (warm_up, 0),
            rate: None,
        }
    }

    /// Returns the rate at `progress`.
    pub(crate) fn at(&mut self, progress: LoadProgress) -> f64 {
        let (began, answered) = self.since;
        let seconds = progress.elapsed.saturating_sub(began).as_secs_f64();
        let rate = if seconds > 0.0 {
            (progress.answered - answered) as f64 / seconds
        } else {
            0.0
        };
        if seconds < 0.5 {
            return self.rate.unwrap_or(rate);
        }
        self.since = (progress.elapsed, progress.answered);
        self.rate = Some(rate);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(millis: u64, answered: u64) -> LoadProgress {
        LoadProgress {
            elapsed: Duration::from_millis(millis),
            answered,
            p99_us: None,
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_second() {
        let mut rate = LiveRate::after(Duration::from_millis(100));
        assert_eq!(rate.at(progress(50, 0)), 0.0);
        assert_eq!(rate.at(progress(200, 10)), 100.0);
        assert_eq!(rate.at(progress(1100, 100)), 100.0);
        assert_eq!(
            rate.at(progress(1500, 1000)),
            100.0,
            "the half second is not over"
        );
        assert_eq!(rate.at(progress(2100, 1100)), 1000.0);
    }

    #[test]
    fn the_percentile_is_over_all_threads_and_their_last_copy() {
        let live = LiveLatency::new(2);
        assert_eq!(live.p99_us(), None);
        let mut latency = empty_histogram();
        latency.record_n(1_000, 10).unwrap();
        live.publish(0, &latency);
        live.publish(0, &latency);
        assert!((live.p99_us().unwrap() - 1.0).abs() < 0.01);
        let mut slow = empty_histogram();
        slow.record_n(1_000_000, 1).unwrap();
        live.publish(1, &slow);
        assert!((live.p99_us().unwrap() - 1000.0).abs() < 1.0);
    }
}
