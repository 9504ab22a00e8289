// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of a pool, each with its default.

use std::time::Duration;

use crate::error::InvalidConfig;
use crate::poll::balance::random;

/// The limits of a [`ConnPool`](super::ConnPool). The numbers apply to each address.
#[derive(Clone, Debug)]
pub struct ConnPoolOptions {
    pub(super) max_connections: usize,
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_age: Option<Duration>,
    pub(super) max_waiting: usize,
    pub(super) wait_timeout: Option<Duration>,
}

impl Default for ConnPoolOptions {
    fn default() -> Self {
        Self {
            max_connections: 64,
            max_idle: 16,
            idle_timeout: Some(Duration::from_secs(60)),
            max_age: None,
            max_waiting: 256,
            wait_timeout: Some(Duration::from_secs(5)),
        }
    }
}

impl ConnPoolOptions {
    /// Sets the most connections at once: in use, idle and being dialed. Default: 64.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// Sets the most idle connections. Beyond it the one that has been idle for longest is closed.
    /// Zero keeps none. Default: 16.
    #[must_use]
    pub fn max_idle(mut self, count: usize) -> Self {
        self.max_idle = count;
        self
    }

    /// Sets how long a connection stays idle before it is closed; `None` is no limit. Default:
    /// 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = time.into();
        self
    }

    /// Sets the age from which on a connection is not reused; `None` is no limit. Each connection
    /// gets a random age limit up to a tenth shorter, so that connections that were created
    /// together do not expire together. Default: `None`.
    #[must_use]
    pub fn max_age(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_age = time.into();
        self
    }

    /// Sets the most callers that wait; a further one is rejected at once. Default: 256.
    #[must_use]
    pub fn max_waiting(mut self, callers: usize) -> Self {
        self.max_waiting = callers;
        self
    }

    /// Sets how long a caller waits; `None` is no limit. A dial that may follow has its own
    /// [timeout](crate::Dialer::connect_timeout). Default: 5 s, the same as a dial.
    #[must_use]
    pub fn wait_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.wait_timeout = time.into();
        self
    }

    /// Rejects invalid options with the name of the field.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if self.max_connections == 0 {
            return Err(InvalidConfig::new("max_connections", "must be at least 1"));
        }
        let each = [
            ("idle_timeout", self.idle_timeout),
            ("max_age", self.max_age),
            ("wait_timeout", self.wait_timeout),
        ];
        let expected = "must be above zero; None switches it off";
        match each.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            Some((field, _)) => Err(InvalidConfig::new(field, expected)),
            None => Ok(()),
        }
    }

    /// Draws the age limit of a new connection.
    pub(super) fn random_max_age(&self) -> Option<Duration> {
        let part = (random() % 256) as u32;
        self.max_age.map(|max| max - max / 2550 * part)
    }

    /// Returns how much later than its deadline an idle connection may be closed, so that one sweep
    /// closes many.
    pub(super) fn sweep_interval(&self) -> Duration {
        let shortest = self.idle_timeout.into_iter().chain(self.max_age).min();
        shortest.unwrap_or_default() / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_options_are_rejected_by_field_with_the_expected_value() {
        let error_of = |change: fn(&mut ConnPoolOptions)| {
            let mut options = ConnPoolOptions::default();
            change(&mut options);
            options.check().unwrap_err()
        };
        let zero = error_of(|options| options.max_connections = 0);
        assert_eq!(zero.option, "max_connections");
        let zero: [fn(&mut ConnPoolOptions); 3] = [
            |options| options.idle_timeout = Some(Duration::ZERO),
            |options| options.max_age = Some(Duration::ZERO),
            |options| options.wait_timeout = Some(Duration::ZERO),
        ];
        let errors = zero.map(error_of);
        assert!(errors.iter().all(|error| error.expected.contains("None")));
        let fields = errors.map(|error| error.option);
        assert_eq!(fields, ["idle_timeout", "max_age", "wait_timeout"]);
        assert_eq!(ConnPoolOptions::default().check(), Ok(()));
    }

    #[test]
    fn max_age_is_shortened_by_up_to_a_tenth() {
        let options = ConnPoolOptions {
            max_age: Some(Duration::from_secs(100)),
            ..ConnPoolOptions::default()
        };
        let ages: Vec<_> = (0..200).filter_map(|_| options.random_max_age()).collect();
        let (least, most) = (Duration::from_secs(90), Duration::from_secs(100));
        assert!(ages.iter().all(|age| (least..=most).contains(age)));
        assert!(ages.iter().any(|age| *age != ages[0]));
    }
}
