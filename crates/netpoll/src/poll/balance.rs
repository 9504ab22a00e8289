// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which poller gets the next connection.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use crate::guard::guard;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// How accepted connections are placed on pollers. A connection stays where it was placed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// The poller that has the fewest. Right unless one knows better: it evens out what ends early.
    #[default]
    LeastConnections,
    /// One poller after the other, whatever they have.
    RoundRobin,
    /// Any poller, each as likely as the others.
    Random,
    /// The one whose index the function answers, given the loads of all. It is called on a poller
    /// for each connection, and must not block. An index that does not exist, or a panic, is
    /// answered by the least connections.
    Custom(Arc<PollerSelector>),
}

/// Answers the index of a poller, given the loads of all.
type PollerSelector = dyn Fn(&[PollerLoad]) -> usize + Send + Sync;

/// What a poller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollerLoad {
    /// The connections that were placed on it and whose descriptors are open.
    pub connections: usize,
}

impl Balance {
    /// Whether user code chooses.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    /// The index of the poller that gets the next connection, of those whose connections `loads`
    /// counts. There is at least one. `turn` counts for those who go round; `panicked` is called if
    /// the user's choice has.
    pub(super) fn select(
        &self,
        loads: impl Iterator<Item = usize>,
        counter: &AtomicUsize,
        panicked: impl FnOnce(),
    ) -> usize {
        match self {
            Self::LeastConnections => least_loaded(loads),
            // Relaxed: nothing else hangs on the count.
            Self::RoundRobin => counter.fetch_add(1, Ordering::Relaxed) % loads.count().max(1),
            Self::Random => random() % loads.count().max(1),
            Self::Custom(choose) => {
                let loads: Vec<_> = loads
                    .map(|connections| PollerLoad { connections })
                    .collect();
                let chosen = guard(|| choose(&loads));
                if chosen.is_err() {
                    panicked();
                }
                match chosen {
                    Ok(index) if index < loads.len() => index,
                    _ => least_loaded(loads.iter().map(|load| load.connections)),
                }
            }
        }
    }
}

fn least_loaded(loads: impl Iterator<Item = usize>) -> usize {
    let fewest = loads
        .enumerate()
        .min_by_key(|&(_, connections)| connections);
    fewest.map_or(0, |(index, _)| index)
}

/// Good enough to spread things over pollers or time: the standard library's keys are random once
/// a thread, and differ from call to call.
pub(crate) fn random() -> usize {
    RandomState::new().build_hasher().finish() as usize
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastConnections => "LeastConnections",
            Self::RoundRobin => "RoundRobin",
            Self::Random => "Random",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(balance: &Balance, loads: &[usize], counter: &AtomicUsize) -> usize {
        balance.select(loads.iter().copied(), counter, || {})
    }

    #[test]
    fn least_connections_picks_the_fewest_and_round_robin_ignores_load() {
        let counter = AtomicUsize::new(0);
        assert_eq!(
            selected(&Balance::LeastConnections, &[3, 1, 2], &counter),
            1
        );
        let round: Vec<_> = (0..5)
            .map(|_| selected(&Balance::RoundRobin, &[9, 0, 0], &counter))
            .collect();
        assert_eq!(round, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn random_selection_is_uniform() {
        let counter = AtomicUsize::new(0);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[selected(&Balance::Random, &[0; 4], &counter)] += 1;
        }
        assert!(
            counts.iter().all(|&n| (800..1200).contains(&n)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_invalid_custom_choice_falls_back_to_least_connections() {
        let counter = AtomicUsize::new(0);
        let own = |choose: fn(&[PollerLoad]) -> usize| Balance::Custom(Arc::new(choose));
        let most = own(|loads| {
            let most = loads
                .iter()
                .enumerate()
                .max_by_key(|(_, load)| load.connections);
            most.map_or(0, |(index, _)| index)
        });
        assert_eq!(selected(&most, &[3, 1, 2], &counter), 0);
        assert_eq!(selected(&own(|loads| loads.len()), &[3, 1, 2], &counter), 1);
        assert_eq!(selected(&own(|_| usize::MAX), &[3, 1, 2], &counter), 1);
        assert_eq!(
            selected(
                &own(|_| panic!("a balance of a test")),
                &[3, 2, 1],
                &counter
            ),
            2
        );
    }
}
