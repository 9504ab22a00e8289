// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the requests of an open loop are due.
//!
//! The k-th request of a run at R a second is due at k / R seconds, whatever happened to those
//! before it. A pace never slows down and never skips: when the thread comes late, all that fell
//! due in the meantime is handed out at once, each with the moment it *was* due, and its latency
//! counts from there. That is the whole secret of measuring without coordinated omission.
//!
//! Several threads share one rate: each takes the part that its share of the connections stands
//! for, and begins a little after the one before it, so that together they are even too.

/// When the requests of one thread are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    /// The first request.
    start: u64,
    /// Nanoseconds between two requests are `numerator / denominator`.
    numerator: u128,
    denominator: u128,
    /// Requests handed out so far.
    issued: u64,
    /// When the next one is due.
    next: u64,
}

/// Which part of a rate a thread has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateShare {
    /// Connections of the threads before it.
    pub(crate) before: usize,
    /// Its own, at least one.
    pub(crate) own: usize,
    /// Those of all threads.
    pub(crate) all: usize,
}

impl Pacer {
    /// The part `share` of `rate` requests a second.
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

    /// The moment the next request was due, if that is not after `now`. Call it until there is
    /// none.
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

    /// When the next request is due.
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

    fn due(pace: &mut Pacer, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| pace.take_due(now)).collect()
    }

    #[test]
    fn a_rate_is_met_to_the_request_over_a_long_time() {
        let mut pace = Pacer::new(333_333, ALONE);
        let seconds = 7;
        let mut count = 0;
        while pace.take_due(seconds * 1_000_000_000 - 1).is_some() {
            count += 1;
        }
        assert_eq!(count, 333_333 * seconds);
    }

    #[test]
    fn who_comes_late_gets_all_that_fell_due() {
        let mut pace = Pacer::new(1_000, ALONE);
        assert_eq!(due(&mut pace, 0), [0]);
        assert!(due(&mut pace, MS - 1).is_empty());
        assert_eq!(due(&mut pace, 3 * MS), [MS, 2 * MS, 3 * MS]);
        assert_eq!(pace.next_due(), 4 * MS);
    }

    #[test]
    fn two_threads_together_keep_the_rate_and_do_not_coincide() {
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
    fn an_open_loop_counts_latency_from_the_intended_time() {
        // A request each millisecond. The thread is kept away from 0 to 10 ms, sends all it owes,
        // and gets every answer 1 ms after the sending.
        let schedule = Schedule::new(Duration::ZERO, Duration::from_secs(1));
        let mut recorder = Recorder::new(schedule);
        let mut pace = Pacer::new(1_000, ALONE);
        let mut in_flight = UnansweredRequests::default();
        while let Some(intended) = pace.take_due(10 * MS) {
            in_flight.add(intended, 1);
        }
        assert_eq!(in_flight.len(), 11);
        let answered = 11 * MS;
        in_flight
            .complete(11, |since, count| recorder.answered(answered, since, count))
            .unwrap();
        // Counted from the sending all would be 1 ms; they are 1 to 11 ms.
        let latency = recorder.latency();
        assert!(latency.min().abs_diff(MS) < MS / 100);
        assert!(latency.max().abs_diff(11 * MS) < MS / 10);
        assert!(latency.value_at_quantile(0.5).abs_diff(6 * MS) < MS / 10);
    }
}
