// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much is measured, and in which order: the contenders take turns, round by round, so that what
//! the machine does besides meets all of them.

use std::fmt;
use std::time::Duration;

use crate::duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComparePlan {
    /// Turns of each contender in each scenario.
    pub(crate) rounds: usize,
    /// Time before measuring in each turn.
    pub(crate) warm_up: Duration,
    /// Time of measuring in each turn.
    pub(crate) interval: Duration,
}

impl ComparePlan {
    /// What a comparison does unless told otherwise.
    pub(crate) fn new(rounds: Option<usize>, interval: Option<Duration>, quick: bool) -> Self {
        let (usual_rounds, usual_interval) = if quick {
            (QUICK_ROUNDS, QUICK_INTERVAL)
        } else {
            (ROUNDS, INTERVAL)
        };
        Self {
            rounds: rounds.unwrap_or(usual_rounds),
            warm_up: WARM_UP,
            interval: interval.unwrap_or(usual_interval),
        }
    }

    /// How long one turn takes, more or less.
    pub(crate) fn turn(&self) -> Duration {
        START + self.warm_up + self.interval
    }

    /// A remark on what the figures cannot bear, if so.
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

/// Whose turn it is: everybody once, in each round. Yields places among the contenders.
pub(crate) fn turns(rounds: usize, contenders: usize) -> impl Iterator<Item = usize> {
    (0..rounds).flat_map(move |_| 0..contenders)
}

/// Below five a median and its spread mean little.
const ROUNDS: usize = 5;
const INTERVAL: Duration = Duration::from_secs(2);

/// Enough to see that something is far off.
const QUICK_ROUNDS: usize = 3;
const QUICK_INTERVAL: Duration = Duration::from_secs(1);

const WARM_UP: Duration = Duration::from_millis(300);

/// What a server takes to start, more or less.
const START: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        let order: Vec<_> = turns(2, 3).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(3, 0).count(), 0);
    }

    #[test]
    fn what_is_given_counts_more_than_what_is_usual() {
        let usual = ComparePlan::new(None, None, false);
        assert_eq!((usual.rounds, usual.interval.as_secs()), (5, 2));
        assert!(usual.warning().is_none());
        let given = ComparePlan::new(Some(1), Some(Duration::from_millis(200)), true);
        assert_eq!((given.rounds, given.interval.as_millis()), (1, 200));
        assert!(given.warning().is_some());
        assert_eq!(
            given.to_string(),
            "1 round of 200 ms, each after a warm-up of 300 ms"
        );
    }
}
