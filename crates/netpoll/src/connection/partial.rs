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

use crate::timeouts::{MinRate, Timeouts, is_over};

/// So many bytes a second, of what is not complete yet, keep a connection from being idle: fewer
/// are a sign of nothing. As the minimum rate by default, which may be lower.
const ALIVE: u32 = 240;

/// Bytes that have moved on a connection, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// What has moved since a moment.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    moved: Moved,
}

/// A part of what is awaited.
#[derive(Debug)]
pub(super) struct Partial {
    /// Where in the stream it begins.
    at: usize,
    /// Since it has been awaited and begun.
    since: Instant,
    /// For the minimum rate.
    rate: Window,
    /// For idleness.
    still: Window,
    /// Since when nobody awaits the rest.
    paused: Option<Instant>,
}

impl Partial {
    /// One that begins at `at` in the stream and has been awaited since.
    pub(super) fn new(at: usize, since: Instant, moved: Moved) -> Self {
        let window = Window { since, moved };
        Self {
            at,
            since,
            rate: window,
            still: window,
            paused: None,
        }
    }

    /// Whether it is the one that begins there.
    pub(super) fn begins_at(&self, at: usize) -> bool {
        self.at == at
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
            self.still.since += pause;
        }
    }

    /// Whether time counts.
    pub(super) fn counts(&self) -> bool {
        self.paused.is_none()
    }

    /// The earliest of what may be over, each as since when and how long it takes.
    pub(super) fn times(&self, timeouts: &Timeouts) -> [(Instant, Option<Duration>); 2] {
        let rate = timeouts.min_rate.map(|rate| rate.over);
        [(self.since, timeouts.read), (self.rate.since, rate)]
    }

    /// Since when the connection may be idle.
    pub(super) fn still_since(&self) -> Instant {
        self.still.since
    }

    /// Whether all of it should have come.
    pub(super) fn is_late(&self, read: Option<Duration>, now: Instant) -> bool {
        self.counts() && is_over(self.since, read, now)
    }

    /// Whether less has come in the time of the rate than must; if enough has, it begins anew.
    pub(super) fn is_too_slow(
        &mut self,
        rate: Option<MinRate>,
        moved: Moved,
        now: Instant,
    ) -> bool {
        let Some(rate) = rate else {
            return false;
        };
        if !self.counts() || !is_over(self.rate.since, Some(rate.over), now) {
            return false;
        }
        let slow = moved.received - self.rate.moved.received < rate.bytes();
        self.rate = Window { since: now, moved };
        slow
    }

    /// Whether so little has moved for `idle` that it is a sign of nothing; if it was more, the time
    /// begins anew.
    pub(super) fn is_idle(&mut self, timeouts: &Timeouts, moved: Moved, now: Instant) -> bool {
        if !self.counts() || !is_over(self.still.since, timeouts.idle, now) {
            return false;
        }
        let took = now.saturating_duration_since(self.still.since);
        let least = timeouts
            .min_rate
            .map_or(ALIVE, |rate| rate.bytes_per_second.min(ALIVE));
        let alive = MinRate::new(least, took).bytes().max(1);
        let idle = moved.received - self.still.moved.received < alive
            && moved.sent == self.still.moved.sent;
        self.still = Window { since: now, moved };
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn received(received: u64) -> Moved {
        Moved { received, sent: 0 }
    }

    #[test]
    fn time_in_which_nobody_awaits_the_rest_does_not_count() {
        let begun = Instant::now();
        let mut partial = Partial::new(7, begun, received(1));
        assert!(!partial.is_late(Some(SECOND * 2), begun + SECOND));
        partial.pause(begun + SECOND);
        partial.pause(begun + SECOND * 3);
        assert!(!partial.is_late(Some(SECOND), begun + SECOND * 9));
        partial.resume(begun + SECOND * 10);
        partial.resume(begun + SECOND * 11);
        assert!(!partial.is_late(Some(SECOND * 2), begun + SECOND * 10));
        assert!(partial.is_late(Some(SECOND * 2), begun + SECOND * 11));
    }

    #[test]
    fn drops_do_not_keep_a_connection_from_being_idle_and_a_stream_does() {
        let begun = Instant::now();
        let mut timeouts = Timeouts {
            idle: Some(SECOND),
            ..Timeouts::default()
        };
        let mut partial = Partial::new(0, begun, received(1));
        assert!(!partial.is_idle(&timeouts, received(2), begun + SECOND / 2));
        assert!(!partial.is_idle(&timeouts, received(241), begun + SECOND));
        assert!(partial.is_idle(&timeouts, received(480), begun + SECOND * 2));
        timeouts.min_rate = Some(MinRate::new(10, SECOND));
        assert!(!partial.is_idle(&timeouts, received(490), begun + SECOND * 3));
        timeouts.min_rate = None;
        assert!(partial.is_idle(&timeouts, received(500), begun + SECOND * 4));
        let answered = Moved {
            received: 500,
            sent: 1,
        };
        assert!(!partial.is_idle(&timeouts, answered, begun + SECOND * 5));
    }
}
