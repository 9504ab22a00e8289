// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bounds of a pool of connections, each with its default.

use std::time::Duration;

use crate::error::InvalidConfig;
use crate::poll::balance::random;

/// What bounds a [`ConnPool`](super::ConnPool). The numbers are for each address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnPoolOptions {
    /// The most connections there are at once, handed out, waiting or being dialed. 64.
    pub max_connections: usize,
    /// The most that wait to be used again; beyond it the one that waits longest goes. Zero is
    /// none. 16.
    pub max_idle: usize,
    /// How long one waits to be used again; `None` is as long as it lives. 60 s.
    pub idle_timeout: Option<Duration>,
    /// How old one may be that is used again. Each goes up to a tenth earlier, so that those that
    /// came together do not go together. Off.
    pub max_age: Option<Duration>,
    /// The most callers that wait in line; whoever comes then is refused at once. 256.
    pub max_waiting: usize,
    /// How long a caller waits in line; `None` is as long as it takes. The dial that may follow has
    /// its own [time](crate::Dialer::connect_timeout). 5 s, as long as a dial.
    pub wait_timeout: Option<Duration>,
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
    /// Refuses, by name, what cannot work.
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

    /// How old a connection that is made now may be.
    pub(super) fn random_max_age(&self) -> Option<Duration> {
        let part = (random() % 256) as u32;
        self.max_age.map(|max| max - max / 2550 * part)
    }

    /// How much later than it might a connection that waits in vain is closed, so that one look at
    /// all of them is for many.
    pub(super) fn sweep_interval(&self) -> Duration {
        let least = self.idle_timeout.into_iter().chain(self.max_age).min();
        least.unwrap_or_default() / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name_with_what_would_be_right() {
        let refused = |change: fn(&mut ConnPoolOptions)| {
            let mut options = ConnPoolOptions::default();
            change(&mut options);
            options.check().unwrap_err()
        };
        let zero = refused(|options| options.max_connections = 0);
        assert_eq!(zero.field, "max_connections");
        let zero: [fn(&mut ConnPoolOptions); 3] = [
            |options| options.idle_timeout = Some(Duration::ZERO),
            |options| options.max_age = Some(Duration::ZERO),
            |options| options.wait_timeout = Some(Duration::ZERO),
        ];
        let refused = zero.map(refused);
        assert!(refused.iter().all(|error| error.expected.contains("None")));
        let fields = refused.map(|error| error.field);
        assert_eq!(fields, ["idle_timeout", "max_age", "wait_timeout"]);
        assert_eq!(ConnPoolOptions::default().check(), Ok(()));
    }

    #[test]
    fn a_life_is_up_to_a_tenth_shorter_than_it_may_be() {
        let options = ConnPoolOptions {
            max_age: Some(Duration::from_secs(100)),
            ..ConnPoolOptions::default()
        };
        let lives: Vec<_> = (0..200).filter_map(|_| options.random_max_age()).collect();
        let (least, most) = (Duration::from_secs(90), Duration::from_secs(100));
        assert!(lives.iter().all(|life| (least..=most).contains(life)));
        assert!(lives.iter().any(|life| *life != lives[0]));
    }
}
