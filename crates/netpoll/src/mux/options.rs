// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of a client.

use std::time::Duration;

use crate::error::InvalidConfig;
use crate::poll::balance::random;

/// Expands to the setters of the limits of a client, inside an `impl` of a type with a method
/// `client_options` that returns `&mut ClientOptions`.
macro_rules! client_option_setters {
    () => {
        /// Sets the time limit of a call, including the waits for a permit and for a connection;
        /// `None` is no limit. Default: 10 s.
        #[must_use = "a setter returns the changed options"]
        pub fn timeout(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.client_options().timeout = time.into();
            self
        }

        /// Sets the most calls in progress at once; further calls wait, first come, first served.
        /// Default: 1,024.
        #[must_use = "a setter returns the changed options"]
        pub fn max_in_flight(mut self, calls: usize) -> Self {
            self.client_options().max_in_flight = calls;
            self
        }

        /// Sets how long no call dials after a failed dial. Only for a client that dials with a
        /// [`Dialer`](crate::Dialer).
        #[must_use = "a setter returns the changed options"]
        pub fn backoff(mut self, backoff: $crate::mux::Backoff) -> Self {
            self.client_options().backoff = backoff;
            self
        }
    };
}

pub(super) use client_option_setters;

/// The limits of a [`Client`](super::Client). Each has a default.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) max_in_flight: usize,
    pub(super) backoff: Backoff,
}

/// The delays after consecutive failures: about `first` after the first, doubled after each further
/// one, and at most `longest`. Each delay is drawn between half of that and all of it, so that
/// clients that lost their server together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
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
    client_option_setters!();

    /// Returns the options that the setters change.
    fn client_options(&mut self) -> &mut Self {
        self
    }

    /// Rejects invalid options with the name of the field.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if self.timeout == Some(Duration::ZERO) {
            let expected = "must be above zero; None switches it off";
            return Err(InvalidConfig::new("timeout", expected));
        }
        if self.max_in_flight == 0 {
            return Err(InvalidConfig::new("max_in_flight", "must be at least 1"));
        }
        if self.backoff.longest < self.backoff.first {
            let expected = "must not have a longest delay below the first";
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
    /// Sets the delay after the first failure. Default: 50 ms.
    #[must_use]
    pub fn first(mut self, delay: Duration) -> Self {
        self.first = delay;
        self
    }

    /// Sets the longest delay. Default: 5 s.
    #[must_use]
    pub fn longest(mut self, delay: Duration) -> Self {
        self.longest = delay;
        self
    }

    /// Returns the delay after this many failures in a row, at least one.
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
    fn backoff_doubles_to_the_maximum_with_half_jitter() {
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
    fn invalid_options_are_rejected_by_field() {
        let rejected_field = |change: fn(&mut ClientOptions)| {
            let mut options = ClientOptions::default();
            change(&mut options);
            options.check().unwrap_err().option
        };
        assert_eq!(ClientOptions::default().check(), Ok(()));
        assert_eq!(
            rejected_field(|options| options.timeout = Some(Duration::ZERO)),
            "timeout"
        );
        assert_eq!(
            rejected_field(|options| options.max_in_flight = 0),
            "max_in_flight"
        );
        assert_eq!(
            rejected_field(|options| options.backoff.longest = Duration::ZERO),
            "backoff"
        );
    }
}
