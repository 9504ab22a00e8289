// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Moment`]: a point in time that fits into a word, so that it can lie in an atomic, and that is added
//! to and compared in an instruction or two, where an [`Instant`] takes many.

use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use netpoll_sys::clock::monotonic;

/// Nanoseconds of the clock that instants are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// An instant, and the moment right after it.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    instant: Instant,
    moment: u64,
}

/// How far apart the two may be, unless the thread is interrupted each time.
const NEAR: Duration = Duration::from_micros(5);

impl Anchor {
    fn cast() -> Self {
        let (mut nearest, mut apart) = Self::cast_once();
        for _ in 0..100 {
            if apart < NEAR {
                break;
            }
            let (another, this_far) = Self::cast_once();
            if this_far < apart {
                (nearest, apart) = (another, this_far);
            }
        }
        nearest
    }

    /// An instant, the moment after it, and how far apart they are at most.
    fn cast_once() -> (Self, Duration) {
        let (instant, moment) = (Instant::now(), monotonic());
        (Self { instant, moment }, instant.elapsed())
    }
}

/// What instants and moments are counted from.
fn anchor() -> Anchor {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    *ANCHOR.get_or_init(Anchor::cast)
}

impl Moment {
    /// The time. One read of the clock.
    #[inline]
    pub(crate) fn now() -> Self {
        Self(monotonic())
    }

    /// As moments are counted.
    pub(crate) fn of(instant: Instant) -> Self {
        let Anchor {
            instant: beginning,
            moment,
        } = anchor();
        match instant.checked_duration_since(beginning) {
            Some(later) => Self(moment) + later,
            None => Self(moment.saturating_sub(nanos(beginning - instant))),
        }
    }

    /// As an instant, early by what lies between two reads of the clock and never late: what has not
    /// passed by it has not passed.
    pub(crate) fn instant(self) -> Instant {
        let Anchor { instant, moment } = anchor();
        match self.0.checked_sub(moment) {
            Some(later) => instant + Duration::from_nanos(later),
            None => {
                let earlier = Duration::from_nanos(moment - self.0);
                instant.checked_sub(earlier).unwrap_or(instant)
            }
        }
    }

    /// How long after `earlier` it is; nothing if it is before it.
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

impl Add<Duration> for Moment {
    type Output = Self;

    /// What cannot be counted any more is the last moment there is.
    #[inline]
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

/// Saturates.
#[inline]
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_its_way_through_a_word_and_an_instant() {
        let moment = Moment::now();
        assert_eq!(Moment::from_bits(moment.bits()), moment);
        assert_eq!(Moment::of(moment.instant()), moment);
        for later in [Instant::now() + Duration::from_secs(7), Instant::now()] {
            assert_eq!(Moment::of(later).instant(), later);
        }
    }

    #[test]
    fn what_was_before_the_anchor_can_be_told() {
        let anchor = anchor();
        let before = Moment(anchor.moment - 1_000_000);
        assert_eq!(anchor.instant - before.instant(), Duration::from_millis(1));
        assert_eq!(Moment::of(before.instant()), before);
    }

    #[test]
    fn a_moment_is_never_later_than_the_instant_after_it() {
        for _ in 0..10_000 {
            let moment = Moment::now();
            let instant = Instant::now();
            assert!(moment.instant() <= instant);
            assert!(instant - moment.instant() < Duration::from_secs(1));
        }
    }

    #[test]
    fn time_since_what_is_still_to_come_is_none() {
        let moment = Moment::now();
        let later = Moment(moment.bits() + 5);
        assert_eq!(later.since(moment), Duration::from_nanos(5));
        assert_eq!(moment.since(later), Duration::ZERO);
    }
}
