// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounds of a client.

use std::time::Duration;

use crate::error::InvalidConfig;
use crate::poll::balance::random;

/// What bounds a [`Client`](super::Client). Each has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How long a call may take, the wait for its turn and for a connection included; `None` is as
    /// long as it takes. 10 s.
    pub timeout: Option<Duration>,
    /// The most calls that are under way; more wait for their turn, first come first served. 1,024.
    pub max_in_flight: usize,
    /// How long nobody dials after a dial that has failed; only for a client that was made with a
    /// [`Dialer`](crate::Dialer).
    pub backoff: Backoff,
}

/// How long to wait after a failure: at first about `first`, twice as long after each further one,
/// and never longer than `longest`. Each is drawn between its half and its whole, so that clients
/// which lost their server together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// After the first failure. 50 ms.
    pub first: Duration,
    /// After many. 5 s.
    pub longest: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(10)),
            max_in_flight: 1024,
            backoff: Backoff::default(),
        }
    }
}

impl ClientOptions {
    /// Refuses, by name, what cannot work.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if self.timeout == Some(Duration::ZERO) {
            let expected = "must be above zero; None switches it off";
            return Err(InvalidConfig::new("timeout", expected));
        }
        if self.max_in_flight == 0 {
            return Err(InvalidConfig::new("max_in_flight", "must be at least 1"));
        }
        if self.backoff.longest < self.backoff.first {
            let expected = "must not have a longest wait below the first";
            return Err(InvalidConfig::new("backoff", expected));
        }
        Ok(())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// How long to wait after so many failures in a row, of which there is one at least.
    pub(super) fn delay_after(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let whole = doubled
            .and_then(|factor| self.first.checked_mul(factor))
            .map_or(self.longest, |whole| whole.min(self.longest));
        let part = (random() % 1024) as u32;
        whole / 2 + whole / 2 / 1024 * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_its_longest_and_is_never_below_half() {
        let backoff = Backoff::default();
        for (failures, whole) in [(1, 50), (2, 100), (3, 200), (8, 5000), (40, 5000)] {
            let whole = Duration::from_millis(whole);
            for _ in 0..100 {
                let wait = backoff.delay_after(failures);
                assert!(wait >= whole / 2 && wait <= whole, "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let named = |change: fn(&mut ClientOptions)| {
            let mut options = ClientOptions::default();
            change(&mut options);
            options.check().unwrap_err().field
        };
        assert_eq!(ClientOptions::default().check(), Ok(()));
        assert_eq!(
            named(|options| options.timeout = Some(Duration::ZERO)),
            "timeout"
        );
        assert_eq!(named(|options| options.max_in_flight = 0), "max_in_flight");
        assert_eq!(
            named(|options| options.backoff.longest = Duration::ZERO),
            "backoff"
        );
    }
}
