// SPDX-License-Identifier: MIT OR Apache-2.0
//! Some of what is awaited has come, and not all: since when that is so, and how much comes.
//!
//! It belongs to the connection and not to a future. As long as the reader stands at the same place in
//! the stream it is one and the same, whatever calls come and go: a server that waits anew every few
//! milliseconds has the same patience with a slow peer as one that waits once. Only consumption ends it.
//!
//! Time counts while somebody awaits the rest and it would be read: not while the handler does
//! something else, nor while reading is paused.

use std::time::{Duration, Instant};

use crate::timeouts::{MinRate, Timeouts, has_elapsed};

/// So many bytes a second, of what is not complete yet, keep a connection from being idle: fewer
/// are a sign of nothing. As the minimum rate by default, which may be lower.
const MIN_ALIVE_RATE: u32 = 240;

/// Bytes that have moved on a connection, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteCounts {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// What has moved since a moment.
#[derive(Clone, Copy, Debug)]
struct RateWindow {
    since: Instant,
    counts: ByteCounts,
}

/// A part of what is awaited.
#[derive(Debug)]
pub(super) struct PartialInput {
    /// Where in the stream it begins.
    offset: usize,
    /// Since it has been awaited and begun.
    since: Instant,
    /// For the minimum rate.
    rate: RateWindow,
    /// For idleness.
    idle: RateWindow,
    /// Since when nobody awaits the rest.
    paused: Option<Instant>,
}

impl PartialInput {
    /// One that begins at `at` in the stream and has been awaited since.
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

    /// Whether it is the one that begins there.
    pub(super) fn begins_at(&self, at: usize) -> bool {
        self.offset == at
    }

    /// Nobody awaits the rest from now on.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// The rest is awaited.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            let pause = now.saturating_duration_since(paused);
            self.since += pause;
            self.rate.since += pause;
            self.idle.since += pause;
        }
    }

    /// Whether time counts.
    pub(super) fn is_counting(&self) -> bool {
        self.paused.is_none()
    }

    /// The earliest of what may be over, each as since when and how long it takes.
    pub(super) fn times(&self, timeouts: &Timeouts) -> [(Instant, Option<Duration>); 2] {
        let rate = timeouts.min_rate.map(|rate| rate.over);
        [(self.since, timeouts.read), (self.rate.since, rate)]
    }

    /// Since when the connection may be idle.
    pub(super) fn idle_since(&self) -> Instant {
        self.idle.since
    }

    /// Whether all of it should have come.
    pub(super) fn is_read_expired(&self, read: Option<Duration>, now: Instant) -> bool {
        self.is_counting() && has_elapsed(self.since, read, now)
    }

    /// Whether less has come in the time of the rate than must; if enough has, it begins anew.
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

    /// Whether so little has moved for `idle` that it is a sign of nothing; if it was more, the time
    /// begins anew.
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
    fn time_in_which_nobody_awaits_the_rest_does_not_count() {
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
    fn drops_do_not_keep_a_connection_from_being_idle_and_a_stream_does() {
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
