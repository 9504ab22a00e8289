// SPDX-License-Identifier: MIT OR Apache-2.0
//! Input that has come in part: since when a reader awaits the rest, and how fast it comes.
//!
//! It belongs to the connection and not to a future. As long as the reader stays at the same
//! position in the stream it is the same partial input, for any number of calls: a server that
//! waits anew every few milliseconds gives a slow peer no more time than one that waits once. Only
//! consumption ends it.
//!
//! Time counts while a reader awaits the rest and the poller would read it: not while the handler
//! does something else, nor while reads are paused.

use std::time::{Duration, Instant};

use crate::timeouts::{MinRate, Timeouts, has_elapsed};

/// The least rate in bytes per second at which an incomplete request keeps a connection from being
/// idle. It equals the default minimum rate; a lower configured rate replaces it.
const MIN_ALIVE_RATE: u32 = 240;

/// The total bytes received and sent on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteCounts {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// The byte counts at the start of a time window.
#[derive(Clone, Copy, Debug)]
struct RateWindow {
    since: Instant,
    counts: ByteCounts,
}

/// Awaited input that has come in part.
#[derive(Debug)]
pub(super) struct PartialInput {
    /// The position in the stream at which it begins.
    offset: usize,
    /// Since when it has been awaited and begun.
    since: Instant,
    /// For the minimum rate.
    rate: RateWindow,
    /// For the idle timeout.
    idle: RateWindow,
    /// Since when no reader awaits the rest.
    paused: Option<Instant>,
}

impl PartialInput {
    /// Makes a partial input that begins at `at` in the stream and has been awaited since `since`.
    pub(super) fn new(at: usize, since: Instant, moved: ByteCounts) -> Self {
        let window = RateWindow {
            since,
            counts: moved,
        };
        Self {
            offset: at,
            since,
            rate: window,
            idle: window,
            paused: None,
        }
    }

    /// Returns whether it begins at `at`.
    pub(super) fn begins_at(&self, at: usize) -> bool {
        self.offset == at
    }

    /// Stops the time: no reader awaits the rest.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Lets the time go on: a reader awaits the rest.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            let pause = now.saturating_duration_since(paused);
            self.since += pause;
            self.rate.since += pause;
            self.idle.since += pause;
        }
    }

    /// Returns whether time counts.
    pub(super) fn is_counting(&self) -> bool {
        self.paused.is_none()
    }

    /// Returns the windows of the read timeout and of the minimum rate, each as its start and its
    /// length.
    pub(super) fn times(&self, timeouts: &Timeouts) -> [(Instant, Option<Duration>); 2] {
        let rate = timeouts.min_rate.map(|rate| rate.over);
        [(self.since, timeouts.read), (self.rate.since, rate)]
    }

    /// Returns since when the connection may be idle.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle.since
    }

    /// Returns whether the read timeout has passed.
    pub(super) fn is_read_expired(&self, read: Option<Duration>, now: Instant) -> bool {
        self.is_counting() && has_elapsed(self.since, read, now)
    }

    /// Returns whether fewer bytes have come in the window of the rate than required. Starts a new
    /// window if the window is over.
    pub(super) fn is_too_slow(
        &mut self,
        rate: Option<MinRate>,
        moved: ByteCounts,
        now: Instant,
    ) -> bool {
        let Some(rate) = rate else {
            return false;
        };
        if !self.is_counting() || !has_elapsed(self.rate.since, Some(rate.over), now) {
            return false;
        }
        let slow = moved.received - self.rate.counts.received < rate.bytes_per_window();
        self.rate = RateWindow {
            since: now,
            counts: moved,
        };
        slow
    }

    /// Returns whether so few bytes have moved for the idle timeout that the connection counts as
    /// idle. Starts a new window if the timeout has passed.
    pub(super) fn is_idle(&mut self, timeouts: &Timeouts, moved: ByteCounts, now: Instant) -> bool {
        if !self.is_counting() || !has_elapsed(self.idle.since, timeouts.idle, now) {
            return false;
        }
        let took = now.saturating_duration_since(self.idle.since);
        let least = timeouts.min_rate.map_or(MIN_ALIVE_RATE, |rate| {
            rate.bytes_per_second.min(MIN_ALIVE_RATE)
        });
        let alive = MinRate::new(least, took).bytes_per_window().max(1);
        let idle = moved.received - self.idle.counts.received < alive
            && moved.sent == self.idle.counts.sent;
        self.idle = RateWindow {
            since: now,
            counts: moved,
        };
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn received(received: u64) -> ByteCounts {
        ByteCounts { received, sent: 0 }
    }

    #[test]
    fn paused_time_does_not_count_toward_the_read_timeout() {
        let begun = Instant::now();
        let mut partial = PartialInput::new(7, begun, received(1));
        assert!(!partial.is_read_expired(Some(SECOND * 2), begun + SECOND));
        partial.pause(begun + SECOND);
        partial.pause(begun + SECOND * 3);
        assert!(!partial.is_read_expired(Some(SECOND), begun + SECOND * 9));
        partial.resume(begun + SECOND * 10);
        partial.resume(begun + SECOND * 11);
        assert!(!partial.is_read_expired(Some(SECOND * 2), begun + SECOND * 10));
        assert!(partial.is_read_expired(Some(SECOND * 2), begun + SECOND * 11));
    }

    #[test]
    fn trickle_counts_as_idle_and_a_steady_stream_does_not() {
        let begun = Instant::now();
        let mut timeouts = Timeouts {
            idle: Some(SECOND),
            ..Timeouts::default()
        };
        let mut partial = PartialInput::new(0, begun, received(1));
        assert!(!partial.is_idle(&timeouts, received(2), begun + SECOND / 2));
        assert!(!partial.is_idle(&timeouts, received(241), begun + SECOND));
        assert!(partial.is_idle(&timeouts, received(480), begun + SECOND * 2));
        timeouts.min_rate = Some(MinRate::new(10, SECOND));
        assert!(!partial.is_idle(&timeouts, received(490), begun + SECOND * 3));
        timeouts.min_rate = None;
        assert!(partial.is_idle(&timeouts, received(500), begun + SECOND * 4));
        let answered = ByteCounts {
            received: 500,
            sent: 1,
        };
        assert!(!partial.is_idle(&timeouts, answered, begun + SECOND * 5));
    }
}
