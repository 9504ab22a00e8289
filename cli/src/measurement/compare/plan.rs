// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rounds and intervals of a comparison, and the order of turns. Contenders take turns, round
//! by round, so that other work of the machine affects all of them.

use std::fmt;
use std::time::Duration;

use crate::arguments::duration;

/// The rounds and intervals of a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComparePlan {
    /// Rounds: each contender has one turn in each.
    pub(crate) rounds: usize,
    /// Warm-up of a turn.
    pub(crate) warm_up: Duration,
    /// Measured interval of a turn.
    pub(crate) interval: Duration,
}

impl ComparePlan {
    /// Creates a plan from the given values and the defaults.
    pub(crate) fn new(rounds: Option<usize>, interval: Option<Duration>, quick: bool) -> Self {
        let (default_rounds, default_interval) = if quick {
            (QUICK_ROUNDS, QUICK_INTERVAL)
        } else {
            (ROUNDS, INTERVAL)
        };
        Self {
            rounds: rounds.unwrap_or(default_rounds),
            warm_up: WARM_UP,
            interval: interval.unwrap_or(default_interval),
        }
    }

    /// Returns the approximate duration of one turn.
    pub(crate) fn turn(&self) -> Duration {
        START + self.warm_up + self.interval
    }

    /// Returns a warning if the rounds are too few for a conclusion.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.rounds < ROUNDS).then(|| {
            format!(
                "With fewer than {ROUNDS} rounds the spread says little; do not conclude from this."
            )
        })
    }
}

impl fmt::Display for ComparePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = if self.rounds == 1 { "round" } else { "rounds" };
        let interval = duration::display(self.interval);
        let warm_up = duration::display(self.warm_up);
        write!(
            f,
            "{} {rounds} of {interval}, each after a warm-up of {warm_up}",
            self.rounds
        )
    }
}

/// Returns the order of turns, as indices of contenders: each contender once in each round.
pub(crate) fn turns(rounds: usize, contenders: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |_| 0..contenders)
}

/// Below five rounds, a median and its spread mean little.
const ROUNDS: usize = 5;
const INTERVAL: Duration = Duration::from_secs(2);

/// Enough to see large differences.
const QUICK_ROUNDS: usize = 3;
const QUICK_INTERVAL: Duration = Duration::from_secs(1);

const WARM_UP: Duration = Duration::from_millis(300);

/// Approximate start time of a server.
const START: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_rotate_through_all_peers_in_each_round() {
        let order: Vec<_> = turns(2, 3).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(3, 0).count(), 0);
    }

    #[test]
    fn given_values_override_the_defaults() {
        let default = ComparePlan::new(None, None, false);
        assert_eq!((default.rounds, default.interval.as_secs()), (5, 2));
        assert!(default.warning().is_none());
        let given = ComparePlan::new(Some(1), Some(Duration::from_millis(200)), true);
        assert_eq!((given.rounds, given.interval.as_millis()), (1, 200));
        assert!(given.warning().is_some());
        assert_eq!(
            given.to_string(),
            "1 round of 200 ms, each after a warm-up of 300 ms"
        );
    }
}
