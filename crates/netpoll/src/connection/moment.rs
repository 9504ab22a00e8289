// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Moment`]: a point in time that fits into a word, so that it can lie in an atomic and takes
//! half of what an [`Instant`] does.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds since the first moment that this process asked for. Five centuries fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

/// The moment that all others are counted from.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

impl Moment {
    /// What is before the first is the first.
    #[inline]
    pub(super) fn of(instant: Instant) -> Self {
        Self(instant.saturating_duration_since(beginning()).as_nanos() as u64)
    }

    pub(super) fn instant(self) -> Instant {
        beginning() + Duration::from_nanos(self.0)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_its_way_through_a_word() {
        let now = Instant::now();
        let moment = Moment::of(now);
        // The first moment that is asked about is the beginning, even if it is a little older.
        assert!(moment.instant() >= now && moment.instant() <= Instant::now());
        let later = Instant::now() + Duration::from_secs(7);
        assert_eq!(Moment::from_bits(Moment::of(later).bits()).instant(), later);
    }
}
