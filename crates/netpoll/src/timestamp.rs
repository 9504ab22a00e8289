// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Timestamp`]: a point in time that fits into one word, so that an atomic can hold it. Adding to
//! it and comparing it takes an instruction or two, where an [`Instant`] takes many.

use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use netpoll_sys::clock::monotonic;

/// Nanoseconds of the clock that `Instant` uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(u64);

/// An instant, and the timestamp right after it.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    instant: Instant,
    nanos: u64,
}

/// The largest distance between the two, unless the thread is interrupted at each attempt.
const MAX_SKEW: Duration = Duration::from_micros(5);

impl Anchor {
    fn sample() -> Self {
        let (mut nearest, mut apart) = Self::sample_once();
        for _ in 0..100 {
            if apart < MAX_SKEW {
                break;
            }
            let (another, this_far) = Self::sample_once();
            if this_far < apart {
                (nearest, apart) = (another, this_far);
            }
        }
        nearest
    }

    /// Returns an instant, the timestamp after it, and the largest possible distance between them.
    fn sample_once() -> (Self, Duration) {
        let (instant, timestamp) = (Instant::now(), monotonic());
        (
            Self {
                instant,
                nanos: timestamp,
            },
            instant.elapsed(),
        )
    }
}

/// Returns the anchor that instants and timestamps are converted with.
fn anchor() -> Anchor {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    *ANCHOR.get_or_init(Anchor::sample)
}

impl Timestamp {
    /// Returns the current time. Reads the clock once.
    #[inline]
    pub(crate) fn now() -> Self {
        Self(monotonic())
    }

    /// Converts an instant.
    pub(crate) fn from_instant(instant: Instant) -> Self {
        let Anchor {
            instant: beginning,
            nanos: timestamp,
        } = anchor();
        match instant.checked_duration_since(beginning) {
            Some(later) => Self(timestamp) + later,
            None => Self(timestamp.saturating_sub(nanos(beginning - instant))),
        }
    }

    /// Converts to an instant, which may be early by the distance between two reads of the clock
    /// and is never late: a deadline after the instant has not passed.
    pub(crate) fn to_instant(self) -> Instant {
        let Anchor {
            instant,
            nanos: timestamp,
        } = anchor();
        match self.0.checked_sub(timestamp) {
            Some(later) => instant + Duration::from_nanos(later),
            None => {
                let earlier = Duration::from_nanos(timestamp - self.0);
                instant.checked_sub(earlier).unwrap_or(instant)
            }
        }
    }

    /// Returns the time since `earlier`; zero if that is later.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// As [`since`](Self::since), in nanoseconds.
    #[inline]
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the last timestamp.
    #[inline]
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

/// Converts to nanoseconds; saturates.
#[inline]
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_round_trips_through_bits_and_an_instant() {
        let timestamp = Timestamp::now();
        assert_eq!(Timestamp::from_bits(timestamp.bits()), timestamp);
        assert_eq!(Timestamp::from_instant(timestamp.to_instant()), timestamp);
        for later in [Instant::now() + Duration::from_secs(7), Instant::now()] {
            assert_eq!(Timestamp::from_instant(later).to_instant(), later);
        }
    }

    #[test]
    fn a_time_before_the_anchor_converts() {
        let anchor = anchor();
        let before = Timestamp(anchor.nanos - 1_000_000);
        assert_eq!(
            anchor.instant - before.to_instant(),
            Duration::from_millis(1)
        );
        assert_eq!(Timestamp::from_instant(before.to_instant()), before);
    }

    #[test]
    fn a_timestamp_is_never_later_than_a_following_instant() {
        for _ in 0..10_000 {
            let timestamp = Timestamp::now();
            let instant = Instant::now();
            assert!(timestamp.to_instant() <= instant);
            assert!(instant - timestamp.to_instant() < Duration::from_secs(1));
        }
    }

    #[test]
    fn time_since_a_later_timestamp_is_zero() {
        let timestamp = Timestamp::now();
        let later = Timestamp(timestamp.bits() + 5);
        assert_eq!(later.since(timestamp), Duration::from_nanos(5));
        assert_eq!(timestamp.since(later), Duration::ZERO);
    }
}
