// SPDX-License-Identifier: MIT OR Apache-2.0
//! The due times of an open loop's requests.
//!
//! At R requests per second, the k-th request of a run is due at k / R seconds, independent of the
//! requests before it. A pacer never slows down and never skips. When the thread is late, the pacer
//! hands out all requests due in the meantime, each with its own due time, and latencies count from
//! there. This avoids coordinated omission.
//!
//! Several threads share one rate. Each takes the part that its share of the connections stands for
//! and starts a little after the thread before it, so that all requests together are evenly spaced.

/// The due times of one thread's requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    /// The due time of the first request in nanoseconds.
    start: u64,
    /// The interval between two requests is `numerator / denominator` nanoseconds.
    numerator: u128,
    denominator: u128,
    /// Requests handed out so far.
    issued: u64,
    /// The due time of the next request.
    next: u64,
}

/// The share of a rate that one thread has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateShare {
    /// Connections of the threads before it.
    pub(crate) before: usize,
    /// Connections of this thread, at least one.
    pub(crate) own: usize,
    /// Connections of all threads.
    pub(crate) all: usize,
}

impl Pacer {
    /// Creates a pacer for the share `share` of `rate` requests per second.
    pub(crate) fn new(rate: u64, share: RateShare) -> Self {
        let numerator = SECOND * share.all as u128;
        let denominator = u128::from(rate) * share.own as u128;
        let start = (numerator / denominator) * share.before as u128 / share.all as u128;
        let start = u64::try_from(start).unwrap_or(u64::MAX);
        Self {
            start,
            numerator,
            denominator,
            issued: 0,
            next: start,
        }
    }

    /// Takes the due time of the next request, if it is not after `now`. Call it until it returns
    /// `None`.
    #[inline]
    pub(crate) fn take_due(&mut self, now: u64) -> Option<u64> {
        if now < self.next {
            return None;
        }
        let due = self.next;
        self.issued += 1;
        let passed = u128::from(self.issued) * self.numerator / self.denominator;
        self.next = self
            .start
            .saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
        Some(due)
    }

    /// Returns the due time of the next request.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        self.next
    }
}

const SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::Recorder;
    use super::super::schedule::Schedule;
    use super::super::unanswered::UnansweredRequests;
    use super::*;

    const ALONE: RateShare = RateShare {
        before: 0,
        own: 1,
        all: 1,
    };
    const MS: u64 = 1_000_000;

    fn due(pacer: &mut Pacer, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| pacer.take_due(now)).collect()
    }

    #[test]
    fn a_rate_is_exact_over_seconds() {
        let mut pacer = Pacer::new(333_333, ALONE);
        let seconds = 7;
        let mut count = 0;
        while pacer.take_due(seconds * 1_000_000_000 - 1).is_some() {
            count += 1;
        }
        assert_eq!(count, 333_333 * seconds);
    }

    #[test]
    fn a_late_caller_receives_all_due_requests() {
        let mut pacer = Pacer::new(1_000, ALONE);
        assert_eq!(due(&mut pacer, 0), [0]);
        assert!(due(&mut pacer, MS - 1).is_empty());
        assert_eq!(due(&mut pacer, 3 * MS), [MS, 2 * MS, 3 * MS]);
        assert_eq!(pacer.next_due(), 4 * MS);
    }

    #[test]
    fn two_threads_share_a_rate_with_even_spacing() {
        let share = |before| RateShare {
            before,
            own: 5,
            all: 10,
        };
        let mut first = due(&mut Pacer::new(100, share(0)), 999 * MS);
        let second = due(&mut Pacer::new(100, share(5)), 999 * MS);
        assert_eq!(first.len() + second.len(), 100);
        first.extend(second);
        first.sort_unstable();
        assert!(first.windows(2).all(|pair| pair[1] - pair[0] == 10 * MS));
    }

    #[test]
    fn open_loop_latency_counts_from_the_due_time() {
        // A request each millisecond. The thread is blocked from 0 to 10 ms, sends all due
        // requests, and receives every response 1 ms after the send.
        let schedule = Schedule::new(Duration::ZERO, Duration::from_secs(1));
        let mut recorder = Recorder::new(schedule);
        let mut pacer = Pacer::new(1_000, ALONE);
        let mut in_flight = UnansweredRequests::default();
        while let Some(intended) = pacer.take_due(10 * MS) {
            in_flight.add(intended, 1);
        }
        assert_eq!(in_flight.len(), 11);
        let answered = 11 * MS;
        in_flight
            .complete(11, |since, count| recorder.answered(answered, since, count))
            .unwrap();
        // From the send, all latencies would be 1 ms; from the due times, they are 1 to 11 ms.
        let latency = recorder.latency();
        assert!(latency.min().abs_diff(MS) < MS / 100);
        assert!(latency.max().abs_diff(11 * MS) < MS / 10);
        assert!(latency.value_at_quantile(0.5).abs_diff(6 * MS) < MS / 10);
    }
}
